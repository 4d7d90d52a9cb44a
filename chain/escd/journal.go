package escd

import (
	"encoding/binary"
	"errors"
	"fmt"

	dbm "github.com/cometbft/cometbft-db"

	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

// journal keeps what every block did, finds transactions by id, and keeps each account's log. Writes need no flush of their own:
// what a crash takes is written again, the same, when CometBFT replays the blocks after the snapshot; so it is
// flushed before a snapshot replaces the one before. Safe for concurrent use, one writer.
type journal struct {
	db    dbm.DB
	files *journalFiles
}

// openJournal opens or creates the journal in a directory. Its database is not one of CometBFT's: once closed it answers with
// errors.
func openJournal(dir string) (journal, error) {
	db, err := openDB("events", dir)
	if err != nil {
		return journal{}, err
	}
	j := journal{db: db}
	if j.files, err = openFiles(dir, j.note); err != nil {
		db.Close()
		return journal{}, fmt.Errorf("the ledger's journal: %w", err)
	}
	return j, nil
}

func (j journal) close() error { return errors.Join(j.files.close(), j.db.Close()) }

// Keys: 'b' height(4) = where the record is in the files: position(8) size(4), or a record itself; 'n' node(2) msid(4) = height(4) of the
// block that took the node's message; 'a' anchored hash(32) = id(32) of a transaction in the first block that anchored it.
const (
	keyBlock   = 'b'
	keyMessage = 'n'
	keyAnchor  = 'a'
)

func messageKey(node uint16, msid uint32) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16([]byte{keyMessage}, node), msid)
}

func prefixed(prefix byte, h types.Hash) []byte { return append([]byte{prefix}, h[:]...) }

func blockKey(h types.Height) []byte {
	return binary.BigEndian.AppendUint32([]byte{keyBlock}, uint32(h))
}

// pointerSize is the size of what recordPointer makes; records are longer.
const pointerSize = 12

func recordPointer(at int64, size int) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(nil, uint64(at)), uint32(size))
}

// put stores a block's record.
func (j journal) put(r *blockRecord) error { return j.files.put(r, j.note) }

// note makes a record findable that was put at a position.
func (j journal) note(r *blockRecord, at int64, size int) error {
	return j.write(false, func(b dbm.Batch) error {
		if err := b.Set(blockKey(r.Height), recordPointer(at, size)); err != nil {
			return err
		}
		var errs []error
		for _, e := range r.events {
			switch e := e.(type) {
			case ledger.MessageDone:
				if e.Code == ledger.CodeOK {
					errs = append(errs, b.Set(messageKey(e.Node, e.Msid), heightBytes(r.Height)))
				}
			case ledger.Anchored:
				errs = append(errs, j.noteAnchors(b, e))
			}
		}
		return errors.Join(errs...)
	})
}

func (j journal) noteAnchors(b dbm.Batch, e ledger.Anchored) error {
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

// flush makes everything put so far durable.
func (j journal) flush() error {
	return j.files.flush(func() error { return j.db.SetSync([]byte{'f'}, []byte{}) }) // the database's log is one file
}

// block returns ledger.ErrNotFound (wrapped) for a height that was not applied here, a *ledger.Pruned for one whose events
// are not kept.
func (j journal) block(h types.Height) (*blockRecord, error) { return j.blockFor(h, nil) }

// blockFor is block without the transactions and deposits that are not wanted.
func (j journal) blockFor(h types.Height, wanted interest) (*blockRecord, error) {
	raw, err := j.kept(h)
	if err != nil {
		return nil, err
	}
	r, err := decodeRecord(raw, wanted, nil)
	if err != nil {
		return nil, fmt.Errorf("block %d: %w", h, err)
	}
	return r, nil
}

func (j journal) kept(h types.Height) ([]byte, error) {
	if first, err := j.first(); err != nil {
		return nil, err
	} else if h < first {
		return nil, &ledger.Pruned{Asked: h, First: first}
	}
	return j.raw(h)
}

func (j journal) raw(h types.Height) ([]byte, error) {
	raw, err := j.db.Get(blockKey(h))
	switch {
	case err != nil:
		return nil, err
	case raw == nil:
		return nil, fmt.Errorf("block %d: %w", h, ledger.ErrNotFound)
	case len(raw) != pointerSize:
		return raw, nil
	}
	raw, err = j.files.record(int64(binary.BigEndian.Uint64(raw)), int(binary.BigEndian.Uint32(raw[8:])))
	if err != nil {
		return nil, fmt.Errorf("block %d: %w", h, err)
	}
	return raw, nil
}

// stored reads a record without its events, also the one of the block that a snapshot is the state of.
func (j journal) stored(h types.Height) (*blockRecord, error) {
	raw, err := j.raw(h)
	if err != nil {
		return nil, err
	}
	return (&reader{b: raw}).recordHead()
}

// head reads the fixed part of a record that is kept; it costs little, however large the block.
func (j journal) head(h types.Height) (*blockRecord, error) {
	if first, err := j.first(); err != nil {
		return nil, err
	} else if h < first {
		return nil, &ledger.Pruned{Asked: h, First: first}
	}
	at, err := j.position(h)
	if err != nil || at == 0 {
		return nil, errors.Join(err, fmt.Errorf("block %d: %w", h, ledger.ErrNotFound))
	}
	b := make([]byte, recordFrame+recordHead)
	n, err := j.files.read(at, b)
	if err != nil {
		return nil, fmt.Errorf("block %d: %w", h, err)
	}
	return (&reader{b: b[recordFrame:max(n, recordFrame)]}).recordHead()
}

// position is where a block's record is in the files, 0 when it is not there.
func (j journal) position(h types.Height) (int64, error) {
	raw, err := j.db.Get(blockKey(h))
	if err != nil || len(raw) != pointerSize {
		return 0, err
	}
	return int64(binary.BigEndian.Uint64(raw)), nil
}

// tx finds the block in which a transaction was executed, or else last refused, and its place.
func (j journal) tx(id types.Hash) (types.Height, ledger.Place, error) {
	found, err := j.find(id)
	if err != nil {
		return 0, ledger.Place{}, err
	}
	return found.height, found.done.Place, nil
}

// done finds what a block did with a transaction.
func (j journal) done(id types.Hash) (ledger.TxDone, error) {
	found, err := j.find(id)
	if err != nil {
		return ledger.TxDone{}, err
	}
	return found.done, nil
}

func (j journal) find(id types.Hash) (found *logItem, err error) {
	places, err := j.files.candidates(id)
	if err != nil {
		return nil, err
	}
	first, err := j.first()
	if err != nil {
		return nil, err
	}
	for _, at := range places {
		item, err := j.files.item(at)
		if err != nil || item.done.ID != id || item.height < first {
			continue // pruned, or another one that starts alike
		}
		if found == nil || found.done.Code != ledger.CodeOK { // a refusal must not hide where the same bytes were executed
			found = item
		}
	}
	if found == nil {
		return nil, fmt.Errorf("transaction %s: %w", id, ledger.ErrNotFound)
	}
	return found, nil
}

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
