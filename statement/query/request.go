package query

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/eschaton-network/chand/statement"
	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/wire"
)

const (
	// MaxResults bounds the statements of one answer.
	MaxResults = 256
	// maxAnswer bounds the bytes of the statements in an answer; the frame around them fits in the rest of wire.MaxQuery.
	maxAnswer = wire.MaxQuery - 16<<10
	// maxScan bounds the statements that one request looks at.
	maxScan = 5_000
	// maxTotalCost bounds the evaluation of one request: about a third of a second.
	maxTotalCost = 300_000
	// maxErrorText bounds what a peer says of an error.
	maxErrorText = 2 << 10
)

// ErrAnswer is wrapped when a peer's answer breaks the rules; the peer is at fault.
var ErrAnswer = errors.New("peer's answer is not valid")

// Request asks for the statements in force that satisfy an expression.
type Request struct {
	Expression string `cbor:"expr"`
	// Limit is the most statements wanted, 1..MaxResults; 0 means MaxResults.
	Limit uint32 `cbor:"limit,omitzero"`
	// After continues behind this statement: Answer.Next of the page before.
	After statement.ID `cbor:"after,omitzero"`
}

// Encode writes the request.
func (r Request) Encode() ([]byte, error) { return statement.EncodeCBOR(r) }

// DecodeRequest reads a request and checks its bounds; the expression is not compiled yet.
func DecodeRequest(b []byte) (Request, error) {
	var r Request
	if len(b) > MaxExpression+1024 {
		return r, fmt.Errorf("%w: request of %d bytes", ErrQuery, len(b))
	}
	if err := statement.DecodeCBOR(b, &r); err != nil {
		return Request{}, fmt.Errorf("%w: %w", ErrQuery, err)
	}
	if len(r.Expression) > MaxExpression || r.Limit > MaxResults {
		return Request{}, fmt.Errorf("%w: expression of at most %d bytes and a limit of at most %d wanted", ErrQuery, MaxExpression, MaxResults)
	}
	return r, nil
}

// Answer is what a daemon has found. It carries whole statements, so that the one who asked verifies them itself.
type Answer struct {
	// Statements are encoded statements in the order of their ids.
	Statements [][]byte `cbor:"statements,omitempty"`
	// More tells that the search is not at its end; ask again with After = Next.
	More bool         `cbor:"more,omitzero"`
	Next statement.ID `cbor:"next,omitzero"`
	// Height is the block at which the answer holds, Scanned how many statements were looked at.
	Height  types.Height `cbor:"height"`
	Scanned uint32       `cbor:"scanned"`
	// Error is a sentence for the one who asked, when the request could not be answered.
	Error string `cbor:"error,omitempty"`
}

// Encode writes the answer.
func (a Answer) Encode() ([]byte, error) { return statement.EncodeCBOR(a) }

// DecodeAnswer reads an answer; Open verifies what is in it.
func DecodeAnswer(b []byte) (Answer, error) {
	var a Answer
	if len(b) > wire.MaxQuery {
		return a, fmt.Errorf("%w: %d bytes, want at most %d", ErrAnswer, len(b), wire.MaxQuery)
	}
	if err := statement.DecodeCBOR(b, &a); err != nil {
		return Answer{}, fmt.Errorf("%w: %w", ErrAnswer, err)
	}
	if len(a.Statements) > MaxResults || len(a.Error) > maxErrorText || a.More == a.Next.IsZero() {
		return Answer{}, fmt.Errorf("%w: more than %d statements, or more without a place to go on", ErrAnswer, MaxResults)
	}
	return a, nil
}

// Failure is the answer that carries an error.
func Failure(err error, now types.Height) Answer {
	text := err.Error()
	return Answer{Height: now, Error: text[:min(len(text), maxErrorText)]}
}

// Run answers a request from a set. Work is bounded: whoever wants more asks again from Next. Statements of the same
// page come in the order of their ids.
func Run(set *statement.Set, r Request, now types.Height) (Answer, error) {
	a := Answer{Height: now}
	f, err := Compile(r.Expression)
	if err != nil {
		return a, err
	}
	limit := int(r.Limit)
	if limit == 0 || limit > MaxResults {
		limit = MaxResults
	}
	var cost uint64
	var last statement.ID
	size := 0
	for s := range set.Candidates(f.Keys(), now, r.After) {
		if a.Scanned >= maxScan || cost >= maxTotalCost || len(a.Statements) >= limit {
			a.More, a.Next = true, last
			break
		}
		match, c, err := f.Match(s, now)
		if err != nil {
			return Answer{Height: now}, err
		}
		if match && size+len(s.Bytes()) > maxAnswer {
			a.More, a.Next = true, last
			break
		}
		a.Scanned++
		cost += c
		last = s.ID
		if match {
			size += len(s.Bytes())
			a.Statements = append(a.Statements, s.Bytes())
		}
	}
	return a, nil
}

// Open verifies a peer's answer: every statement's signatures, that each satisfies the expression at the height named by the
// peer, and their order. An error of the peer's is returned as ErrQuery. One wrong statement condemns the answer.
func (a Answer) Open(r Request) ([]*statement.Statement, error) {
	if a.Error != "" {
		return nil, fmt.Errorf("%w: the peer says: %q", ErrQuery, a.Error)
	}
	f, err := Compile(r.Expression)
	if err != nil {
		return nil, err
	}
	var out []*statement.Statement
	last := r.After
	for i, raw := range a.Statements {
		s, err := statement.Open(raw)
		if err != nil {
			return nil, fmt.Errorf("%w: statement %d: %w", ErrAnswer, i, err)
		}
		match, _, err := f.Match(s, a.Height)
		if err != nil || !match || !s.ValidAt(a.Height) {
			return nil, fmt.Errorf("%w: statement %s is not what was asked for", ErrAnswer, s.ID)
		}
		if bytes.Compare(s.ID[:], last[:]) <= 0 {
			return nil, fmt.Errorf("%w: statement %s is out of order or given twice", ErrAnswer, s.ID)
		}
		last = s.ID
		out = append(out, s)
	}
	return out, nil
}
