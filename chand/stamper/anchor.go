package stamper

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/eschaton-network/chand/timestamp"
	"github.com/eschaton-network/chand/types"
)

// outcome is what became of an attempt to anchor.
type outcome struct {
	record anchorRecord
	err    error
}

// seal closes the round: one commit for all its requests, then the answers.
func (s *Stamper) seal(ctx context.Context) error {
	list := s.take()
	if len(list) == 0 {
		return nil
	}
	batch, err := s.save(ctx, list)
	for i, r := range list {
		if err != nil {
			r.answer <- answer{err: fmt.Errorf("%w (%w)", ErrStopped, err)}
		} else {
			r.answer <- answer{batch: batch, index: i}
		}
	}
	return err
}

func (s *Stamper) save(ctx context.Context, list []request) (*timestamp.Batch, error) {
	var entropy [32]byte
	if _, err := io.ReadFull(s.cfg.Entropy, entropy[:]); err != nil {
		return nil, fmt.Errorf("no randomness for a round of timestamps: %w", err)
	}
	digests := make([][]byte, len(list))
	for i, r := range list {
		digests[i] = r.digest
	}
	batch, err := timestamp.Seal(s.last, digests, types.Time(s.cfg.Clock().Unix()), entropy)
	if err != nil {
		return nil, fmt.Errorf("round %d: %w", s.last.Round+1, err)
	}
	cp, next := batch.Checkpoint, s.state
	next.Last = cp.Round
	if !s.pausing {
		next.form()
	}
	err = s.cfg.Store.Commit(ctx, put(roundKey(cp.Round), roundRecord{Commitment: cp.Commitment(), Batch: batch.Encode()}), put(stateKey, next)) // the commit point
	if err != nil {
		return nil, fmt.Errorf("saving round %d: %w", cp.Round, err)
	}
	s.last, s.state = cp, next
	return batch, nil
}

// form begins the next anchor, unless one is under way or everything is anchored. It is the caller's to save the record.
func (r *stateRecord) form() {
	if r.To == 0 && r.Anchored < r.Last {
		r.Seq, r.To = r.Seq+1, min(r.Last, r.Anchored+maxGroup)
	}
}

// resume begins an anchor for what waits: after a failed attempt, and at the start.
func (s *Stamper) resume(ctx context.Context) error {
	s.pausing = false
	next := s.state
	if next.form(); next == s.state {
		return nil
	}
	return s.commit(ctx, next)
}

func (s *Stamper) commit(ctx context.Context, next stateRecord, writes ...types.Write) error {
	if err := s.cfg.Store.Commit(ctx, append(writes, put(stateKey, next))...); err != nil {
		return fmt.Errorf("saving the state of anchors: %w", err)
	}
	s.state = next
	return nil
}

// group lists the values of the anchor under way.
func (s *Stamper) group() (seq uint64, values []types.Hash, err error) {
	for n := s.state.Anchored + 1; n <= s.state.To; n++ {
		_, cp, err := loadRound(s.cfg.Store, n)
		if err != nil {
			return 0, nil, err
		}
		values = append(values, cp.Value())
	}
	return s.state.Seq, values, nil
}

// anchor waits until the values are in a block and its path is known. It runs on a goroutine of its own.
func (s *Stamper) anchor(ctx context.Context, seq uint64, values []types.Hash) outcome {
	tx, err := s.cfg.Anchor(ctx, fmt.Sprintf("stamps/%d", seq), values)
	if err != nil {
		return outcome{err: err}
	}
	for try := 1; ; try++ {
		r, err := s.prove(ctx, tx, values)
		if err == nil || try == proofTries {
			return outcome{record: r, err: err}
		}
		s.cfg.Log.Info("the path of an anchor is not known yet; it is asked for again", "anchor", seq, "err", err)
		select {
		case <-ctx.Done():
			return outcome{err: ctx.Err()}
		case <-time.After(proofWait):
		}
	}
}

// prove reads the path from the ledger and makes sure that it proves every value.
func (s *Stamper) prove(ctx context.Context, tx []byte, values []types.Hash) (anchorRecord, error) {
	h, proof, bundle, err := s.cfg.Proofs.TxProof(ctx, types.SHA256(tx))
	if err != nil {
		return anchorRecord{}, err
	}
	r := anchorRecord{Tx: tx, Height: h, Bundle: bundle}
	if r.Proof, err = proof.AppendBinary(nil); err != nil {
		return r, err
	}
	for _, v := range values {
		if timestamp.FindValue(tx, v) < 0 {
			return r, fmt.Errorf("%w: the transaction in block %d does not hold the value %s", timestamp.ErrAnchor, h, v)
		}
	}
	if !r.path(types.Hash{}, s.cfg.Genesis).Ledger.Fits() { // too many validators: verifiers must get the headers elsewhere
		s.cfg.Log.Warn("the signed headers do not fit into proofs: they need a node to be verified", "block", h, "bytes", len(r.Bundle))
		r.Bundle = nil
	}
	return r, nil
}

// settle saves what became of the anchor under way, and with the same write begins the next one. After a failure the next
// attempt waits; its group may be larger, so it gets a number, hence a key, of its own.
func (s *Stamper) settle(ctx context.Context, o outcome) error {
	if ctx.Err() != nil {
		return nil // after the restart the same key is asked for
	}
	next := s.state
	next.To = 0
	if o.err != nil {
		s.pause, s.pausing = min(max(2*s.pause, retryMin), retryMax), true
		s.cfg.Log.Warn("timestamps are not anchored; it is tried again", "rounds", s.state.To-s.state.Anchored, "after", s.pause, "err", o.err)
		return s.commit(ctx, next)
	}
	writes := []types.Write{put(anchorKey(s.state.Seq), o.record)}
	for n := s.state.Anchored + 1; n <= s.state.To; n++ {
		_, cp, err := loadRound(s.cfg.Store, n)
		if err != nil {
			return err
		}
		writes = append(writes, put(roundKey(n), roundRecord{Commitment: cp.Commitment(), Anchor: s.state.Seq}))
	}
	rounds := s.state.To - s.state.Anchored
	next.Anchored, s.pause = s.state.To, 0
	next.form()
	if err := s.commit(ctx, next, writes...); err != nil {
		return err
	}
	if s.cfg.Anchored != nil {
		s.cfg.Anchored(rounds, o.record.Height)
	}
	s.cfg.Log.Debug("timestamps are anchored", "rounds", rounds, "block", o.record.Height)
	return nil
}
