package stamper

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/eschaton-network/chand/timestamp"
	"github.com/eschaton-network/chand/types"
)

// maxLookups bounds the pending attestations that one file is upgraded for: as many full bundles as fit into a file.
const maxLookups = 24

// Upgraded is a proof file after Upgrade.
type Upgraded struct {
	// OTS is the file, with everything that was in it.
	OTS []byte
	// Changed tells that something was added; Complete that a block of our ledger attests it now.
	Changed, Complete bool
	// Text says it in a sentence.
	Text string
	// Bundle is the signed header inside the newest ledger attestation, and Height its block; empty while not complete.
	Bundle []byte
	Height types.Height
	// Expected is when to upgrade again: the anchor is on the way. 0 otherwise.
	Expected types.Time
}

// Lookup returns the path from a commitment to its block: AnchorPath.Timestamp of it is what a calendar answers. Errors:
// ErrPending, ErrUnknown.
func (s *Stamper) Lookup(commitment []byte) (timestamp.AnchorPath, error) {
	var none timestamp.AnchorPath
	cp, err := timestamp.ParseCommitment(commitment)
	if err != nil {
		return none, ErrUnknown // of another calendar
	}
	round, ok, err := load[roundRecord](s.cfg.Store, roundKey(cp.Round))
	switch {
	case err != nil:
		return none, err
	case !ok || !bytes.Equal(round.Commitment, commitment):
		return none, ErrUnknown
	case round.Anchor == 0:
		return none, fmt.Errorf("round %d is sealed and its anchor is on the way to the ledger: %w", cp.Round, ErrPending)
	}
	a, ok, err := load[anchorRecord](s.cfg.Store, anchorKey(round.Anchor))
	if err == nil && !ok {
		err = fmt.Errorf("%w: anchor %d of round %d is missing", errRecord, round.Anchor, cp.Round)
	}
	return a.path(cp.Value(), s.cfg.Genesis), err
}

// Upgrade joins to a proof file all that is known here of its pending attestations. Whatever the file holds stays in it.
// A file that can't be read, or would grow beyond the format's limit, is refused with ErrProof.
func (s *Stamper) Upgrade(ots []byte) (Upgraded, error) {
	u := Upgraded{OTS: ots}
	file, err := timestamp.DecodeDetached(ots)
	if err != nil {
		return u, fmt.Errorf("%w: %w", ErrProof, err)
	}
	commitments, _ := file.Stamp.PendingAt()
	waits := 0
	for i, c := range commitments {
		if i >= maxLookups {
			return u, fmt.Errorf("%w: %d pending attestations, at most %d are looked up", ErrProof, len(commitments), maxLookups)
		}
		path, err := s.Lookup(c)
		if errors.Is(err, ErrPending) {
			waits++
		}
		if errors.Is(err, ErrPending) || errors.Is(err, ErrUnknown) {
			continue
		}
		if err != nil {
			return u, err
		}
		continuation, err := path.Timestamp(c)
		if err != nil {
			return u, err
		}
		if _, err := file.Stamp.Upgrade(continuation); err != nil {
			return u, fmt.Errorf("%w: %w", ErrProof, err)
		}
	}
	out, err := file.Encode()
	if err != nil {
		return u, fmt.Errorf("%w: %w", ErrProof, err)
	}
	if len(out) > timestamp.MaxFile {
		return u, fmt.Errorf("%w: it would have %d bytes, at most %d fit", ErrProof, len(out), timestamp.MaxFile)
	}
	u.OTS, u.Changed = out, !bytes.Equal(out, ots)
	file.Stamp.Walk(func(_ []byte, a timestamp.Attestation) {
		if l, ok := a.(timestamp.Ledger); ok && l.Genesis == s.cfg.Genesis {
			u.Complete, u.Height, u.Bundle = true, l.Height, []byte(l.Bundle)
		}
	})
	switch {
	case u.Complete:
		u.Text = fmt.Sprintf("Block %d of the ledger attests it; the file holds all that is needed to verify it offline.", u.Height)
		if len(u.Bundle) == 0 {
			u.Text = fmt.Sprintf("Block %d of the ledger attests it; its header must be had from a node to verify it.", u.Height)
		}
	case waits > 0:
		u.Expected = s.expected(types.Time(s.cfg.Clock().Unix()))
		u.Text = "It is sealed and saved, and its anchor is on the way to the ledger: upgrade again after the next blocks."
	case len(commitments) > 0:
		u.Text = "Its pending attestations are of other calendars: ask those that the file names."
	default:
		u.Text = "It holds no pending attestation that could be completed."
	}
	return u, nil
}
