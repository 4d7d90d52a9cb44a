package store

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/eschaton-network/chand/store/internal/limit"
)

// Get returns a copy of the value, or nil, nil when the key or the bucket is not there.
func (s *Store) Get(bucket, key string) (value []byte, err error) {
	if err := limit.Name(bucket); err != nil {
		return nil, err
	}
	err = s.view(func(tx *bbolt.Tx) error {
		if b := tx.Bucket([]byte(bucket)); b != nil {
			if v := b.Get([]byte(key)); v != nil {
				value = append([]byte{}, v...) // not nil, even when empty
			}
		}
		return nil
	})
	return value, err
}

// Scan calls fn for every key with the prefix, in byte order, from one snapshot. fn must not keep or change value, and
// must not call the Store. An error from fn ends the scan and is returned.
func (s *Store) Scan(bucket, prefix string, fn func(key string, value []byte) error) error {
	if err := limit.Name(bucket); err != nil {
		return err
	}
	return s.view(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte(bucket))
		if b == nil {
			return nil
		}
		c, p := b.Cursor(), []byte(prefix)
		for k, v := c.Seek(p); k != nil && bytes.HasPrefix(k, p); k, v = c.Next() {
			if err := fn(string(k), v); err != nil {
				return err
			}
		}
		return nil
	})
}

// view runs fn on a snapshot of what was committed.
func (s *Store) view(fn func(*bbolt.Tx) error) error {
	err := s.db.View(fn)
	if errors.Is(err, bolterrors.ErrDatabaseNotOpen) {
		return ErrClosed
	}
	return err
}

// Stats counts since Open.
type Stats struct {
	// Commits that succeeded, their Writes, and the Bytes of their buckets, keys and values.
	Commits, Writes, Bytes uint64
	// Transactions is the number of group commits; Commits/Transactions is the mean size of a group.
	Transactions uint64
	// Syncs is the number of disk flushes that bbolt made for them: two each (data pages, then the meta page).
	Syncs uint64
	// LargestGroup is the most commits that shared one transaction.
	LargestGroup int
	// Waiting is the number of commits in the queue now.
	Waiting int
	// FileBytes is the size of the file's data now, free pages included.
	FileBytes int64
}

// syncsPerTransaction: bbolt flushes the data pages and then the meta page.
const syncsPerTransaction = 2

// record counts a batch that was tried.
func (s *Store) record(batch []*request, err error) {
	if err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.Commits += uint64(len(batch))
	s.stats.Transactions++
	s.stats.Syncs += syncsPerTransaction
	s.stats.LargestGroup = max(s.stats.LargestGroup, len(batch))
	for _, r := range batch {
		s.stats.Writes += uint64(len(r.writes))
		s.stats.Bytes += uint64(r.size)
	}
}

// Stats returns the counters.
func (s *Store) Stats() Stats {
	var size int64
	_ = s.view(func(tx *bbolt.Tx) error { size = tx.Size(); return nil }) // closed: 0
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stats
	st.Waiting, st.FileBytes = len(s.queue), size
	return st
}

// Backup writes a consistent copy of the file, as of now, to w; commits go on meanwhile. The copy can be opened as a
// store. It returns the number of bytes written.
//
// A copy of channel state is history, not a way back: a daemon that runs from an old copy may sign what it
// has signed otherwise before.
func (s *Store) Backup(w io.Writer) (n int64, err error) {
	err = s.view(func(tx *bbolt.Tx) error {
		n, err = tx.WriteTo(w)
		return err
	})
	if err != nil && !errors.Is(err, ErrClosed) {
		err = fmt.Errorf("back up %s: %w", s.path, err)
	}
	return n, err
}
