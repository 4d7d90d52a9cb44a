package escd

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	cmtproto "github.com/cometbft/cometbft/proto/tendermint/types"
	cmt "github.com/cometbft/cometbft/types"

	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

// Client asks a node's office. Nothing it returns is verified except where a method says so.
type Client struct {
	addr string
	http *http.Client
}

// NewClient makes a client for HOST:PORT.
func NewClient(addr string) *Client {
	return &Client{addr, &http.Client{
		Timeout:       clientTimeout,
		Transport:     &http.Transport{MaxIdleConnsPerHost: 4, IdleConnTimeout: 30 * time.Second},
		CheckRedirect: func(*http.Request, []*http.Request) error { return errors.New("an office does not redirect") },
	}}
}

// clientTimeout covers an account creation that waits for a slow block.
const clientTimeout = 2 * time.Minute

// Close drops idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Problem is the body of every answer that is not 200.
type Problem struct {
	// Code is a stable word for programs; LedgerCode the ledger's number where its rules refused.
	Code       string `json:"code"`
	LedgerCode uint32 `json:"ledger_code,omitempty"`
	Message    string `json:"message"`
	// Next says what to do.
	Next string `json:"next"`
}

func (p *Problem) Error() string { return p.Message + "; " + p.Next }

// do sends a request and returns at most max bytes of the answer; longer ones are refused.
func (c *Client) do(ctx context.Context, method, path, contentType string, body []byte, max int64) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+c.addr+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	res, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, max+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > max {
		return nil, fmt.Errorf("the office at %s answered with more than %d bytes", c.addr, max)
	}
	if res.StatusCode == http.StatusOK {
		return b, nil
	}
	p := &Problem{}
	if strict(b, p) != nil || p.Code == "" {
		return nil, fmt.Errorf("the office at %s answered %s", c.addr, res.Status)
	}
	return nil, p
}

// strict decodes one JSON value: unknown fields and anything after it are refused.
func strict(b []byte, to any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(to); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("something follows the JSON value")
	}
	return nil
}

func (c *Client) json(ctx context.Context, method, path string, in, out any) error {
	var body []byte
	contentType := ""
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return err
		}
		contentType = typeJSON
	}
	b, err := c.do(ctx, method, path, contentType, body, maxAnswer)
	if err != nil {
		return err
	}
	if err := strict(b, out); err != nil {
		return fmt.Errorf("the office at %s answered with something else than expected: %w", c.addr, err)
	}
	return nil
}

const (
	typeJSON = "application/json"
	typeRaw  = "application/octet-stream"
	// typeBatch is a sequence of transactions, each behind its length in four bytes, big-endian.
	typeBatch = "application/vnd.chand.transactions"
	// maxAnswer bounds JSON answers: a bundle of a large validator set with a proof.
	maxAnswer = 8 << 20
)

// Info is what an office says of its node.
type Info struct {
	ChainID     string       `json:"chain_id"`
	Genesis     types.Hash   `json:"genesis"`
	BlockMillis uint32       `json:"block_millis"`
	Moniker     string       `json:"moniker"`
	P2P         string       `json:"p2p"` // ID@HOST:PORT
	Height      types.Height `json:"height"`
	Hash        types.Hash   `json:"hash"`
	Time        types.Time   `json:"time"`
	Fresh       bool         `json:"fresh"` // false while catching up or halted
	Accounts    bool         `json:"accounts"`
}

// Info asks GET /v1/info.
func (c *Client) Info(ctx context.Context) (Info, error) {
	var i Info
	return i, c.json(ctx, http.MethodGet, "/v1/info", nil, &i)
}

// Genesis asks GET /v1/genesis and checks the document's form; the caller compares its hash.
func (c *Client) Genesis(ctx context.Context) (ledger.Genesis, error) {
	b, err := c.do(ctx, http.MethodGet, "/v1/genesis", "", nil, ledger.MaxGenesis)
	if err != nil {
		return ledger.Genesis{}, err
	}
	return ledger.ParseGenesis(b)
}

// AccountRequest asks for an account: Confirm is the key's signature of the empty message.
type AccountRequest struct {
	PublicKey types.Hash `json:"public_key"`
	Confirm   string     `json:"confirm"` // 128 hex digits
}

// AccountAnswer names the account.
type AccountAnswer struct {
	Address types.AccountID `json:"address"`
}

// CreateAccount asks POST /v1/accounts. The same key again gets the same account.
func (c *Client) CreateAccount(ctx context.Context, key [32]byte, proof [64]byte) (types.AccountID, error) {
	var a AccountAnswer
	err := c.json(ctx, http.MethodPost, "/v1/accounts", AccountRequest{key, fmt.Sprintf("%x", proof)}, &a)
	return a.Address, err
}

// Refused is a transaction of a batch that was not taken.
type Refused struct {
	Index      int    `json:"index"`
	LedgerCode uint32 `json:"ledger_code"`
	Message    string `json:"message"`
}

// SubmitAnswer says what became of submitted transactions.
type SubmitAnswer struct {
	Accepted int       `json:"accepted"`
	Refused  []Refused `json:"refused"`
	// Tried counts the transactions of the batch: all of them.
	Tried int `json:"tried"`
	// Promises say where the accepted ones stand; those sent on to other offices are not among them.
	Promises []Promise `json:"promises"`
}

// Promise is about Count accepted transactions from Index of the batch on, refused ones between them left out.
type Promise struct {
	Index int `json:"index"`
	Count int `json:"count"`
	// Place is that of the first; the others follow in the same message.
	Place ledger.Place `json:"place"`
	// Receipt is the node's signed ledger.Receipt in hex; empty when a block has the transaction already.
	Receipt string `json:"receipt,omitempty"`
}

// Submit posts one transaction.
func (c *Client) Submit(ctx context.Context, tx []byte) error {
	_, err := c.submit(ctx, tx, false)
	return err
}

// submit posts one transaction; onward tells the office not to send it on.
func (c *Client) submit(ctx context.Context, tx []byte, onward bool) (a SubmitAnswer, err error) {
	path := "/v1/transactions"
	if onward {
		path += "?hop=1"
	}
	b, err := c.do(ctx, http.MethodPost, path, typeRaw, tx, maxAnswer)
	if err != nil {
		return a, err
	}
	return a, strict(b, &a)
}

// SubmitMany posts a batch; the sum of the transactions' sizes plus four bytes each is at most MaxBatch, their number at most
// MaxBatchTxs.
func (c *Client) SubmitMany(ctx context.Context, txs [][]byte) (SubmitAnswer, error) {
	var body []byte
	for _, tx := range txs {
		body = append(binary.BigEndian.AppendUint32(body, uint32(len(tx))), tx...)
	}
	var a SubmitAnswer
	b, err := c.do(ctx, http.MethodPost, "/v1/transactions", typeBatch, body, maxAnswer)
	if err != nil {
		return a, err
	}
	return a, strict(b, &a)
}

// Counts asks GET /v1/counts.
func (c *Client) Counts(ctx context.Context, from, to types.Height) ([]BlockCount, error) {
	var out []BlockCount
	return out, c.json(ctx, http.MethodGet, fmt.Sprintf("/v1/counts?from=%d&to=%d", from, to), nil, &out)
}

// signedBlock is a block and the commit for it, not verified.
type signedBlock struct {
	block  *cmt.Block
	commit *cmt.Commit
}

// blocks asks GET /v1/blocks: some blocks from a height on, none when there are none yet.
func (c *Client) blocks(ctx context.Context, from int64) ([]signedBlock, error) {
	b, err := c.do(ctx, http.MethodGet, "/v1/blocks?from="+strconv.FormatInt(from, 10), "", nil, 2*maxBlocksAnswer)
	if err != nil {
		return nil, err
	}
	return decodeBlocks(b)
}

// decodeBlocks reads what encodeBlock wrote, any number of times.
func decodeBlocks(b []byte) ([]signedBlock, error) {
	var out []signedBlock
	for d := (reader{b: b}); len(d.b) > 0; {
		rawBlock, rawCommit := d.take(d.count(1)), d.take(d.count(1))
		if d.bad {
			return nil, errors.New("blocks: something is missing at the end")
		}
		var pb cmtproto.Block
		if err := pb.Unmarshal(rawBlock); err != nil {
			return nil, fmt.Errorf("blocks: %w", err)
		}
		block, err := cmt.BlockFromProto(&pb)
		if err != nil {
			return nil, fmt.Errorf("blocks: %w", err)
		}
		var pc cmtproto.Commit
		if err := pc.Unmarshal(rawCommit); err != nil {
			return nil, fmt.Errorf("blocks: %w", err)
		}
		commit, err := cmt.CommitFromProto(&pc)
		if err != nil {
			return nil, fmt.Errorf("blocks: %w", err)
		}
		out = append(out, signedBlock{block, commit})
	}
	return out, nil
}

func encodeBlock(w *writer, block *cmt.Block, commit *cmt.Commit) error {
	pb, err := block.ToProto()
	if err != nil {
		return err
	}
	for _, m := range []interface{ Marshal() ([]byte, error) }{pb, commit.ToProto()} {
		raw, err := m.Marshal()
		if err != nil {
			return err
		}
		w.blob(raw)
	}
	return nil
}

// splitJoin reads HOST:PORT or HOST:PORT/GENESISHASH.
func splitJoin(s string) (addr string, genesis types.Hash, err error) {
	addr, hash, found := strings.Cut(s, "/")
	if _, _, err = net.SplitHostPort(addr); err != nil {
		return "", genesis, fmt.Errorf("ledger to join %.100q: want HOST:PORT or HOST:PORT/GENESISHASH of a daemon's office", s)
	}
	if found {
		if genesis, err = types.ParseHash(hash); err != nil {
			return "", genesis, fmt.Errorf("ledger to join: genesis hash: %w", err)
		}
	}
	return addr, genesis, nil
}
