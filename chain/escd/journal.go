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

// Keys: 'b' height(4) = record; 't' transaction id(32) = height(4) index(4).
const (
	keyBlock = 'b'
	keyTx    = 't'
)

func blockKey(h types.Height) []byte {
	return binary.BigEndian.AppendUint32([]byte{keyBlock}, uint32(h))
}

func prefixed(prefix byte, h types.Hash) []byte { return append([]byte{prefix}, h[:]...) }

// put stores a block's record and indexes, all or nothing. txs are the ids in the order of the block.
func (j journal) put(r *blockRecord, txs []types.Hash) error {
	raw, err := encodeRecord(r)
	if err != nil {
		return err
	}
	b := j.db.NewBatch()
	defer b.Close()
	if err := b.Set(blockKey(r.Height), raw); err != nil {
		return err
	}
	refused := map[types.Hash]bool{}
	for _, e := range r.events {
		if done, ok := e.(ledger.TxDone); ok && done.Code != ledger.CodeOK {
			refused[done.ID] = true
		}
	}
	for i, id := range txs {
		if refused[id] { // must not hide the block in which the same bytes were executed
			if known, err := j.db.Has(prefixed(keyTx, id)); err != nil {
				return err
			} else if known {
				continue
			}
		}
		w := writer{}
		w.u32(uint32(r.Height))
		w.u32(uint32(i))
		if err := b.Set(prefixed(keyTx, id), w.b); err != nil {
			return err
		}
	}
	return b.Write()
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

// tx finds the block that a transaction is in, and its place there.
func (j journal) tx(id types.Hash) (types.Height, uint32, error) {
	raw, err := j.db.Get(prefixed(keyTx, id))
	if err != nil {
		return 0, 0, err
	}
	if len(raw) != 8 {
		return 0, 0, fmt.Errorf("transaction %s: %w", id, ledger.ErrNotFound)
	}
	d := reader{b: raw}
	return types.Height(d.u32()), d.u32(), nil
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
