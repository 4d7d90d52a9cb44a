package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

const (
	// storeVersion is of what the buckets' keys look like in the engine, not of what is in the records.
	storeVersion = 1

	markName  = "CHAND"
	newSuffix = ".new"
	markMagic = "chandst\n"
	// A mark is written to two places in turn, in pages of their own: a write that power loss tears leaves the other.
	markBytes  = len(markMagic) + 4 + 8 + 8 + 4
	markStride = 4096
	// markEvery transactions the mark is brought up to date: a flush more in a thousand.
	markEvery = 1024
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// mark is the file CHAND: that this folder is a store, of which version, and a transaction that it surely contains.
type mark struct {
	file vfs.File
	turn uint64 // of the next write
	seq  uint64 // of the newest transaction that is durable; what is in the file may be older
	kept uint64 // what is in the file
}

// openMark reads the file, or makes it in a new folder.
func openMark(d *disk, dir string, readOnly bool) (*mark, error) {
	name := filepath.Join(dir, markName)
	if _, err := d.Stat(name); errors.Is(err, os.ErrNotExist) && !readOnly {
		if err := makeMark(d, name); err != nil {
			return nil, err
		}
	}
	b := make([]byte, markStride+markBytes)
	f, err := d.Open(name)
	if err != nil {
		return nil, err
	}
	n, err := f.ReadAt(b, 0)
	if n < len(b) {
		return nil, errors.Join(fmt.Errorf("%w: its file %s is cut (%w): restore a backup of it", ErrNotStore, markName, err), f.Close())
	}
	m, newer := &mark{}, uint32(0)
	for i := range 2 {
		slot := b[i*markStride:][:markBytes]
		body, sum := slot[:markBytes-4], binary.BigEndian.Uint32(slot[markBytes-4:])
		if string(body[:len(markMagic)]) != markMagic || crc32.Checksum(body, castagnoli) != sum {
			continue
		}
		version, turn := binary.BigEndian.Uint32(body[8:]), binary.BigEndian.Uint64(body[12:])
		if newer = max(newer, version); turn >= m.turn {
			m.turn, m.seq = turn+1, binary.BigEndian.Uint64(body[20:])
		}
	}
	m.kept = m.seq
	switch {
	case m.turn == 0:
		err = fmt.Errorf("%w: its file %s is damaged: move it away, or restore a backup of it", ErrNotStore, markName)
	case newer > storeVersion:
		err = fmt.Errorf("%w: its version is %d, this program knows %d: run the newer chand", ErrNewer, newer, storeVersion)
	case readOnly:
		m.file = f
		return m, nil
	default:
		m.file, err = d.OpenReadWrite(name, vfs.WriteCategoryUnspecified)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	return m, nil
}

// makeMark creates the file whole: it is there, with both places, or it is not.
func makeMark(d *disk, name string) error {
	f, err := d.Create(name+newSuffix, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	b := make([]byte, markStride+markBytes)
	for i := range 2 {
		encodeMark(b[i*markStride:], uint64(i), 0, storeVersion)
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Sync(), f.Close(), d.Rename(name+newSuffix, name), syncDir(d, filepath.Dir(name)))
}

func encodeMark(b []byte, turn, seq uint64, version uint32) {
	body := append(b[:0], markMagic...)
	body = binary.BigEndian.AppendUint32(body, version)
	body = binary.BigEndian.AppendUint64(body, turn)
	body = binary.BigEndian.AppendUint64(body, seq)
	_ = binary.BigEndian.AppendUint32(body, crc32.Checksum(body, castagnoli))
}

// write says that the store contains a transaction, which must be durable.
func (m *mark) write(seq uint64) error {
	if seq == m.kept {
		return nil
	}
	b := make([]byte, markBytes)
	encodeMark(b, m.turn, seq, storeVersion)
	if _, err := m.file.WriteAt(b, int64(m.turn%2)*markStride); err != nil {
		return err
	}
	if err := m.file.SyncData(); err != nil {
		return err
	}
	m.turn, m.kept = m.turn+1, seq
	return nil
}

// Two keys of the engine are written by every transaction: seqKey is set to its number, and countKey is merged with one. The
// engine adds up what it finds of the second in its tables and its log, so when a table is missing in the middle they differ.
var (
	seqKey   = engineKey("_store", "seq")
	countKey = engineKey("_store", "count")
)

var counting = &pebble.Merger{Name: "chand.sum", Merge: func(_, v []byte) (pebble.ValueMerger, error) {
	s := &sum{}
	return s, s.MergeNewer(v)
}}

// sum adds big endian numbers.
type sum struct{ n uint64 }

func (s *sum) MergeNewer(v []byte) error {
	n, err := number(v)
	s.n += n
	return err
}

func (s *sum) MergeOlder(v []byte) error { return s.MergeNewer(v) }

func (s *sum) Finish(bool) ([]byte, io.Closer, error) {
	return binary.BigEndian.AppendUint64(nil, s.n), nil, nil
}

func number(v []byte) (uint64, error) {
	if len(v) != 8 {
		return 0, fmt.Errorf("a number of %d bytes", len(v))
	}
	return binary.BigEndian.Uint64(v), nil
}

// putSeq numbers a transaction.
func putSeq(b *pebble.Batch, seq uint64) {
	op := b.SetDeferred(len(seqKey), 8)
	copy(op.Key, seqKey)
	binary.BigEndian.PutUint64(op.Value, seq)
	_ = op.Finish() // nil: the batch has no index
	op = b.MergeDeferred(len(countKey), 8)
	copy(op.Key, countKey)
	binary.BigEndian.PutUint64(op.Value, 1)
	_ = op.Finish()
}

// compareMark wants the engine to hold what the mark says. A new store gets its first transaction, so that from then
// on an engine without any is one that lost it.
func (s *Store) compareMark() error {
	have, err := readNumber(s.db, seqKey)
	if err != nil {
		return openError(err)
	}
	count, err := readNumber(s.db, countKey)
	if err != nil {
		return openError(err)
	}
	if have < s.mark.seq || count != have {
		return fmt.Errorf("%w: transactions are gone (the last one it has is %d, it has %d of them, and %d were on disk): restore a backup of it",
			ErrNotStore, have, count, s.mark.seq)
	}
	s.mark.seq = have
	if have > 0 || s.readOnly {
		return nil
	}
	b := s.db.NewBatch()
	defer b.Close()
	putSeq(b, 1)
	if err := s.db.Apply(b, pebble.Sync); err != nil {
		return err
	}
	s.mark.seq = 1
	return s.mark.write(1)
}

// readNumber reads one of the two keys; 0: there was no transaction.
func readNumber(r pebble.Reader, key []byte) (uint64, error) {
	v, closer, err := r.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer closer.Close()
	return number(v)
}
