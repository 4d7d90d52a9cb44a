package escd

import (
	"encoding/binary"
	"fmt"

	dbm "github.com/cometbft/cometbft-db"

	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

// journal keeps what every block did, and finds transactions by id. Writes need no flush of their own:
// what a crash takes is written again, the same, when CometBFT replays the blocks after the snapshot; so it is
// flushed before a snapshot replaces the one before. Safe for concurrent use, one writer.
type journal struct{ db dbm.DB }

// openJournal opens or creates the journal in a directory. It is not one of CometBFT's databases: once closed it answers
// with errors.
func openJournal(dir string) (journal, error) {
	db, err := dbm.NewGoLevelDB("events", dir)
	if err != nil {
		return journal{}, fmt.Errorf("open %s/events.db: %w", dir, err)
	}
	return journal{db}, nil
}

// Keys: 'b' height(4) = record; 't' transaction id(32) = height(4) place(10); 'n' node(2) msid(4) = height(4) of the block that took
// the node's message; 'a' anchored hash(32) = id(32) of a transaction in the first block that anchored it.
const (
	keyBlock   = 'b'
	keyTx      = 't'
	keyMessage = 'n'
	keyAnchor  = 'a'
)

func messageKey(node uint16, msid uint32) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16([]byte{keyMessage}, node), msid)
}

func blockKey(h types.Height) []byte {
	return binary.BigEndian.AppendUint32([]byte{keyBlock}, uint32(h))
}

func prefixed(prefix byte, h types.Hash) []byte { return append([]byte{prefix}, h[:]...) }

// put stores a block's record and indexes, all or nothing.
func (j journal) put(r *blockRecord) error {
	raw, err := encodeRecord(r)
	if err != nil {
		return err
	}
	b := j.db.NewBatch()
	defer b.Close()
	if err := b.Set(blockKey(r.Height), raw); err != nil {
		return err
	}
	executed := map[types.Hash]bool{}
	for _, e := range r.events {
		switch e := e.(type) {
		case ledger.TxDone:
			err = j.putTx(b, r.Height, e, executed)
		case ledger.MessageDone:
			if e.Code == ledger.CodeOK {
				err = b.Set(messageKey(e.Node, e.Msid), heightBytes(r.Height))
			}
		case ledger.Anchored:
			err = j.putAnchors(b, e)
		}
		if err != nil {
			return err
		}
	}
	return b.Write()
}

// putTx indexes a transaction. A refusal must not hide where the same bytes were executed, in this block or before.
func (j journal) putTx(b dbm.Batch, h types.Height, done ledger.TxDone, executed map[types.Hash]bool) error {
	if done.Code == ledger.CodeOK {
		executed[done.ID] = true
	} else if known, err := j.db.Has(prefixed(keyTx, done.ID)); err != nil || known || executed[done.ID] {
		return err
	}
	w := writer{}
	w.u32(uint32(h))
	w.place(done.Place)
	return b.Set(prefixed(keyTx, done.ID), w.b)
}

func (j journal) putAnchors(b dbm.Batch, e ledger.Anchored) error {
	for _, h := range e.Hashes {
		if known, err := j.db.Has(prefixed(keyAnchor, h)); err != nil {
			return err
		} else if known {
			continue
		}
		if err := b.Set(prefixed(keyAnchor, h), e.TxID[:]); err != nil {
			return err
		}
	}
	return nil
}

// flush makes everything put so far durable: the databases' log is one file, so one synced write covers all before it.
func (j journal) flush() error { return j.db.SetSync([]byte{'f'}, []byte{}) }

// block returns ledger.ErrNotFound (wrapped) for a height that was not applied here, a *ledger.Pruned for one whose events
// are not kept.
func (j journal) block(h types.Height) (*blockRecord, error) {
	if first, err := j.first(); err != nil {
		return nil, err
	} else if h < first {
		return nil, &ledger.Pruned{Asked: h, First: first}
	}
	return j.stored(h)
}

// stored reads a record, also the one of the block that a snapshot is the state of, whose events are not known.
func (j journal) stored(h types.Height) (*blockRecord, error) {
	raw, err := j.db.Get(blockKey(h))
	if err != nil {
		return nil, err
	}
	if raw == nil {
		return nil, fmt.Errorf("block %d: %w", h, ledger.ErrNotFound)
	}
	r, err := decodeRecord(raw)
	if err != nil {
		return nil, fmt.Errorf("block %d: %w", h, err)
	}
	return r, nil
}

// tx finds the block in which a transaction was executed, or else last refused, and its place.
func (j journal) tx(id types.Hash) (types.Height, ledger.Place, error) {
	raw, err := j.db.Get(prefixed(keyTx, id))
	if err != nil {
		return 0, ledger.Place{}, err
	}
	if len(raw) != txEntry {
		return 0, ledger.Place{}, fmt.Errorf("transaction %s: %w", id, ledger.ErrNotFound)
	}
	d := reader{b: raw}
	return types.Height(d.u32()), d.place(), nil
}

// txEntry is the size of what the index says of a transaction.
const txEntry = 4 + 10

// anchor finds a transaction in the first block that anchored a hash.
func (j journal) anchor(hash types.Hash) (types.Hash, error) {
	raw, err := j.db.Get(prefixed(keyAnchor, hash))
	if err != nil {
		return types.Hash{}, err
	}
	if len(raw) != 32 {
		return types.Hash{}, fmt.Errorf("anchor of %s: %w", hash, ledger.ErrNotFound)
	}
	return types.Hash(raw), nil
}

// message finds the block that took a node's message.
func (j journal) message(node uint16, msid uint32) (types.Height, error) {
	raw, err := j.db.Get(messageKey(node, msid))
	if err != nil {
		return 0, err
	}
	if len(raw) != 4 {
		return 0, fmt.Errorf("message %d of node %d: %w", msid, node, ledger.ErrNotFound)
	}
	return types.Height(binary.BigEndian.Uint32(raw)), nil
}

// done finds what a block did with a transaction.
func (j journal) done(id types.Hash) (ledger.TxDone, error) {
	h, _, err := j.tx(id)
	if err != nil {
		return ledger.TxDone{}, err
	}
	r, err := j.block(h)
	if err != nil {
		return ledger.TxDone{}, err
	}
	for _, e := range r.events {
		if d, ok := e.(ledger.TxDone); ok && d.ID == id {
			return d, nil
		}
	}
	return ledger.TxDone{}, fmt.Errorf("transaction %s: %w", id, ledger.ErrNotFound)
}
