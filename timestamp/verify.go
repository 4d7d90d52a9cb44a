package timestamp

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

// Header is what a block's header says to a timestamp, after the source has convinced itself of it.
type Header struct {
	// Root is the state root after the block (ledger) or the Merkle root in internal byte order (Bitcoin).
	Root types.Hash
	// Time is when the block was agreed on (ledger) or the header's (Bitcoin).
	Time types.Time
}

// ErrNoHeader is wrapped by a HeaderSource that can't tell: another chain, no node at hand, an empty bundle. The
// attestation is then unchecked. Any other error says that the evidence is bad, and makes the attestation wrong.
var ErrNoHeader = errors.New("no header to check against")

// HeaderSource gives headers that it has verified itself: from a node, or from a bundle by checking the validators'
// signatures.
type HeaderSource interface {
	// LedgerHeader returns the state root after the block at height of the ledger with this genesis hash, as the header of the next
	// block says it. bundle may be empty.
	LedgerHeader(genesis types.Hash, height types.Height, bundle []byte) (Header, error)
	// BitcoinHeader returns the header at height of the Bitcoin chain.
	BitcoinHeader(height uint32) (Header, error)
}

// Status is the verdict on one attestation.
type Status string

const (
	// Proven: the header was checked and commits to the digest.
	Proven Status = "proven"
	// IsPending: a calendar has promised to anchor it.
	IsPending Status = "pending"
	// Unchecked: no header at hand to check against.
	Unchecked Status = "unchecked"
	// IsUnknown: a kind of attestation that this program can't judge.
	IsUnknown Status = "unknown"
	// Wrong: the header does not commit to the digest, or the evidence does not hold.
	Wrong Status = "wrong"
)

// Finding is the verdict on one attestation.
type Finding struct {
	Status      Status
	Attestation Attestation
	// Msg is the message that the attestation stands on.
	Msg []byte
	// Header is set when proven.
	Header Header
	// Text says it in a sentence.
	Text string
}

// Result is what a proof file proves.
type Result struct {
	// Proven tells that at least one attestation holds; By is then the one with the earliest time.
	Proven   bool
	By       Finding
	Findings []Finding
	// Sentence says the result for people.
	Sentence string
}

// ErrOtherFile says that the proof is about another file.
var ErrOtherFile = errors.New("the proof belongs to another file")

// Verify judges every attestation of a proof. digest is the file's digest by the file's hash operation (file.HashOp).
// It fails with ErrOtherFile when digest is not the one that the proof is about. A wrong attestation does not
// spoil a good one on another branch: each stands for itself.
func Verify(file Detached, digest []byte, headers HeaderSource) (Result, error) {
	var r Result
	if file.Stamp == nil || !bytes.Equal(file.Digest(), digest) {
		var want []byte
		if file.Stamp != nil {
			want = file.Digest()
		}
		return r, fmt.Errorf("%w: it is about the digest %x, this file has %x", ErrOtherFile, want, digest)
	}
	counts := map[Status]int{}
	file.Stamp.Walk(func(msg []byte, a Attestation) {
		f := judge(msg, a, headers)
		counts[f.Status]++
		r.Findings = append(r.Findings, f)
		if f.Status == Proven && (!r.Proven || f.Header.Time < r.By.Header.Time) {
			r.Proven, r.By = true, f
		}
	})
	switch {
	case r.Proven:
		r.Sentence = "The file existed by " + showTime(r.By.Header.Time) + ": " + r.By.Text
	case counts[Wrong] > 0:
		r.Sentence = "Nothing is proven: " + firstWith(r.Findings, Wrong)
	case counts[Unchecked] > 0:
		r.Sentence = "Nothing is proven yet: " + firstWith(r.Findings, Unchecked)
	case counts[IsPending] > 0:
		r.Sentence = "Nothing is proven yet: " + firstWith(r.Findings, IsPending)
	default:
		r.Sentence = "Nothing is proven: the proof holds no attestation that this program knows."
	}
	return r, nil
}

func firstWith(fs []Finding, s Status) string {
	for _, f := range fs {
		if f.Status == s {
			return f.Text
		}
	}
	return ""
}

func judge(msg []byte, a Attestation, headers HeaderSource) Finding {
	f := Finding{Attestation: a, Msg: msg}
	var h Header
	err := ErrNoHeader
	switch a := a.(type) {
	case Pending:
		f.Status = IsPending
		f.Text = fmt.Sprintf("the calendar at %s has promised to anchor it; upgrade the proof to get the rest.", a.URI)
		return f
	case Unknown:
		f.Status = IsUnknown
		f.Text = fmt.Sprintf("an attestation of a kind that this program does not know (%x).", a.Kind[:])
		return f
	case Bitcoin:
		if headers != nil {
			h, err = headers.BitcoinHeader(a.Height)
		}
	case Ledger:
		if headers != nil {
			h, err = headers.LedgerHeader(a.Genesis, a.Height, []byte(a.Bundle))
		}
		var bad error
		if msg, bad = a.root(msg); bad != nil {
			err = bad
		}
	}
	switch {
	case errors.Is(err, ErrNoHeader):
		f.Status = Unchecked
		f.Text = fmt.Sprintf("%s could not be checked (%v); its header must hold the root %x.", a, err, msg)
	case err != nil:
		f.Status = Wrong
		f.Text = fmt.Sprintf("the evidence for %s does not hold: %v.", a, err)
	case !bytes.Equal(h.Root[:], msg):
		f.Status = Wrong
		f.Text = fmt.Sprintf("%s has the root %x, the proof leads to %x.", a, h.Root, msg)
	default:
		f.Status, f.Header = Proven, h
		f.Text = fmt.Sprintf("%s of %s commits to it.", a, showTime(h.Time))
	}
	return f
}

// root is the state root that the message leads to.
func (l Ledger) root(msg []byte) ([]byte, error) {
	if len(msg) != len(types.Hash{}) {
		return nil, fmt.Errorf("%w: it stands on %d bytes, which are no transaction's id", ErrAnchor, len(msg))
	}
	p, err := ledger.ParseTxProof([]byte(l.Proof))
	if err != nil {
		return nil, err
	}
	root, err := p.Root(types.Hash(msg))
	return root[:], err
}

func showTime(t types.Time) string { return t.Std().Format("2006-01-02T15:04:05Z07:00") } // RFC 3339
