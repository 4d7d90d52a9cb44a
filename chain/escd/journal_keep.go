package escd

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	dbm "github.com/cometbft/cometbft-db"

	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

// Keys of what bounds the journal: 'm' name = height(4); 'v' height(4) = the bundle of that block, kept for ever.
const (
	keyMark   = 'm'
	keyBundle = 'v'
)

const (
	// markFirst is the first block whose record is kept; markSwept the first that may still be on disk.
	markFirst = "first"
	markSwept = "swept"
)

func markKey(name string) []byte { return append([]byte{keyMark}, name...) }

func bundleKey(h types.Height) []byte {
	return binary.BigEndian.AppendUint32([]byte{keyBundle}, uint32(h))
}

func heightBytes(h types.Height) []byte { return binary.BigEndian.AppendUint32(nil, uint32(h)) }

// mark reads a height, 1 when it was never set.
func (j journal) mark(name string) (types.Height, error) {
	raw, err := j.db.Get(markKey(name))
	switch {
	case err != nil:
		return 0, err
	case raw == nil:
		return 1, nil
	case len(raw) != 4:
		return 0, fmt.Errorf("mark %q: %w", name, errRecord)
	}
	return types.Height(binary.BigEndian.Uint32(raw)), nil
}

// first is the first block whose record is kept.
func (j journal) first() (types.Height, error) { return j.mark(markFirst) }

// startAt makes r, without events, the record of a block that a snapshot is the state of, and forgets all before it.
func (j journal) startAt(r *blockRecord) error {
	raw, _, err := encodeRecord(nil, r)
	if err != nil {
		return err
	}
	return j.write(true, func(b dbm.Batch) error {
		if err := b.Set(blockKey(r.Height), raw); err != nil {
			return err
		}
		return b.Set(markKey(markFirst), heightBytes(r.Height+1))
	})
}

// pruneStep bounds how many blocks one call of prune removes: a second's worth of small ones at most.
const pruneStep = 256

// prune forgets the records below keep, and removes some that were forgotten. The one before the first that is kept stays on disk:
// the oldest snapshot may be of that block, and is of no use without it.
func (j journal) prune(keep types.Height) error {
	was, err := j.first()
	if err != nil {
		return err
	}
	from, err := j.mark(markSwept)
	if err != nil {
		return err
	}
	first := max(was, keep)
	last := first - 1
	if first == was && from >= last {
		return nil
	}
	to := max(from, min(last, from+pruneStep))
	err = j.write(false, func(b dbm.Batch) error {
		if err := b.Set(markKey(markFirst), heightBytes(first)); err != nil {
			return err
		}
		for h := from; h < to; h++ {
			if err := j.remove(b, h); err != nil {
				return err
			}
		}
		return b.Set(markKey(markSwept), heightBytes(to))
	})
	if err != nil {
		return err
	}
	at, err := j.position(last)
	if err == nil && at == 0 { // a state sync's block has its record in the database
		at, err = j.position(first)
	}
	if err != nil || at == 0 {
		return err
	}
	return j.files.forget(at, first)
}

// remove deletes what points to a block's record.
func (j journal) remove(b dbm.Batch, h types.Height) error {
	raw, err := j.raw(h)
	if errors.Is(err, ledger.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	r, err := decodeRecord(raw, func(types.AccountID) bool { return false }, nil)
	if err != nil {
		return fmt.Errorf("block %d: %w", h, err)
	}
	for _, e := range r.events {
		switch e := e.(type) {
		case ledger.MessageDone:
			if e.Code == ledger.CodeOK {
				err = b.Delete(messageKey(e.Node, e.Msid))
			}
		case ledger.Anchored:
			for _, hash := range e.Hashes {
				err = errors.Join(err, j.removeIf(b, prefixed(keyAnchor, hash), e.TxID[:]))
			}
		}
		if err != nil {
			return err
		}
	}
	return b.Delete(blockKey(h))
}

// removeIf deletes an index entry that says what is given.
func (j journal) removeIf(b dbm.Batch, key, value []byte) error {
	raw, err := j.db.Get(key)
	if err != nil || !bytes.Equal(raw, value) {
		return err
	}
	return b.Delete(key)
}

// keepBundle stores the bundle of a block for ever.
func (j journal) keepBundle(h types.Height, bundle []byte) error {
	return j.db.Set(bundleKey(h), bundle)
}

// bundle returns a bundle that was kept; nil when there is none.
func (j journal) bundle(h types.Height) ([]byte, error) { return j.db.Get(bundleKey(h)) }

// bundlesAfter returns the bundles kept of blocks after a height, in order, until they are maxBytes together.
func (j journal) bundlesAfter(h types.Height, maxBytes int) (out [][]byte, err error) {
	it, err := j.db.Iterator(bundleKey(h+1), []byte{keyBundle + 1})
	if err != nil {
		return nil, err
	}
	defer it.Close()
	for size := 0; it.Valid() && size < maxBytes; it.Next() {
		b := append([]byte(nil), it.Value()...)
		out, size = append(out, b), size+len(b)
	}
	return out, it.Error()
}

func (j journal) write(durable bool, fill func(dbm.Batch) error) error {
	b := j.db.NewBatch()
	defer b.Close()
	if err := fill(b); err != nil {
		return err
	}
	if durable {
		return b.WriteSync()
	}
	return b.Write()
}
