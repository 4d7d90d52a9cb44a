package timestamp

import (
	"fmt"

	"github.com/eschaton-network/chand/types"
)

// Bound is one end of the interval in which a document was made.
type Bound struct {
	Height types.Height
	Time   types.Time
}

// Interval says that a document was made after one block and before another. Either end may be unknown (nil).
type Interval struct {
	NotBefore, Before *Bound
}

// BlockLookup returns hash and time of the ledger's block at a height, verified by the caller; ErrNoHeader when it can't tell.
type BlockLookup func(types.Height) (hash types.Hash, at types.Time, err error)

// NotBefore returns the latest of the blocks that a document names and that stand on the ledger: the document is not older,
// because nobody knew that hash before. A named block that is not on the ledger is an error, unless it can't be looked up.
// nil when no block could be confirmed.
func NotBefore(refs []types.BlockRef, blocks BlockLookup) (*Bound, error) {
	var best *Bound
	for _, ref := range refs {
		hash, at, err := blocks(ref.Height)
		if err != nil {
			continue // too old for this node, or ahead of it: it bounds nothing here
		}
		if hash != ref.Hash {
			return nil, fmt.Errorf("the document names block %d as %s, the ledger has %s: it was made for another ledger or is forged", ref.Height, ref.Hash, hash)
		}
		if best == nil || ref.Height > best.Height {
			best = &Bound{ref.Height, at}
		}
	}
	return best, nil
}

// Between joins both bounds. It fails when they contradict each other.
func Between(notBefore *Bound, r Result) (Interval, error) {
	iv := Interval{NotBefore: notBefore}
	if r.Proven {
		b := &Bound{Time: r.By.Header.Time}
		if l, ok := r.By.Attestation.(Ledger); ok {
			b.Height = l.Height
		}
		iv.Before = b
	}
	if iv.NotBefore != nil && iv.Before != nil && iv.Before.Time < iv.NotBefore.Time {
		return iv, fmt.Errorf("the proof says before %s, but the document names a block of %s", showTime(iv.Before.Time), showTime(iv.NotBefore.Time))
	}
	return iv, nil
}

// String says the interval for people.
func (iv Interval) String() string {
	switch {
	case iv.NotBefore != nil && iv.Before != nil:
		return fmt.Sprintf("made between %s and %s", showTime(iv.NotBefore.Time), showTime(iv.Before.Time))
	case iv.NotBefore != nil:
		return "made after " + showTime(iv.NotBefore.Time)
	case iv.Before != nil:
		return "made before " + showTime(iv.Before.Time)
	}
	return "made at an unknown time"
}
