package stamper

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/eschaton-network/chand/timestamp"
	"github.com/eschaton-network/chand/types"
)

// Check verifies everything that is stored, without a ledger: that rounds follow one another without a gap and seal to their
// commitments, and that every anchored round's value stands in its anchor. All problems are joined.
func Check(s Reader) error {
	state, ok, err := load[stateRecord](s, stateKey)
	if err == nil {
		err = state.check()
	}
	if err != nil {
		return err
	}
	var problems []error
	next := uint64(1)
	prev := timestamp.Checkpoint{}
	note := func(err error) { problems = append(problems, err) }
	anchor := struct {
		number uint64
		record anchorRecord
	}{}
	var wanted []types.Hash // values whose anchors are read after the scan, which must not call the store
	var numbers []uint64
	err = s.Scan(Bucket, "round/", func(key string, raw []byte) error {
		r, _, err := decode[roundRecord](key, raw)
		if err != nil {
			note(err)
			next++
			return nil
		}
		cp, err := r.check(next)
		if err == nil && key != roundKey(next) {
			err = fmt.Errorf("%w: %s where round %d was expected", errRecord, key, next)
		}
		if err == nil && (r.Anchor != 0) != (next <= state.Anchored) {
			err = fmt.Errorf("%w: round %d is anchored in %d, but the newest anchored is %d", errRecord, next, r.Anchor, state.Anchored)
		}
		if err == nil && r.Batch != nil && next > 1 && !linked(r.Batch, prev) {
			err = fmt.Errorf("%w: round %d does not follow the one before", errRecord, next)
		}
		if err != nil {
			note(err)
		} else if r.Anchor != 0 {
			wanted, numbers = append(wanted, cp.Value()), append(numbers, r.Anchor)
		}
		prev = cp
		next++
		return nil
	})
	if err != nil {
		return err
	}
	if next-1 != state.Last || !ok && next > 1 {
		note(fmt.Errorf("%w: %d rounds are stored, the state says %d", errRecord, next-1, state.Last))
	}
	for i, value := range wanted {
		if anchor.number != numbers[i] {
			a, ok, err := load[anchorRecord](s, anchorKey(numbers[i]))
			if err == nil && !ok {
				err = fmt.Errorf("%w: anchor %d is missing", errRecord, numbers[i])
			}
			if err != nil {
				note(err)
				continue
			}
			anchor.number, anchor.record = numbers[i], a
		}
		if timestamp.FindValue(anchor.record.Tx, value) < 0 {
			note(fmt.Errorf("%w: round %d is not in anchor %d", errRecord, i+1, numbers[i]))
		}
	}
	return errors.Join(problems...)
}

// linked tells whether a batch continues the round before.
func linked(batch []byte, prev timestamp.Checkpoint) bool {
	b, err := timestamp.DecodeBatch(batch)
	return err == nil && bytes.Equal(b.Prev.Commitment(), prev.Commitment())
}
