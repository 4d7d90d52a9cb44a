package store

import (
	"errors"
	"path/filepath"

	"github.com/cockroachdb/pebble/v2"

	"github.com/eschaton-network/chand/store/internal/limit"
)

// engineKey puts a bucket's key in the engine's one order: bucket by bucket.
func engineKey(bucket, key string) []byte {
	b := make([]byte, 0, 1+len(bucket)+len(key))
	return append(append(append(b, byte(len(bucket))), bucket...), key...)
}

// splitKey is the inverse of engineKey.
func splitKey(k []byte) (bucket, key []byte, ok bool) {
	if len(k) == 0 || len(k) < 1+int(k[0]) {
		return nil, nil, false
	}
	return k[1 : 1+k[0]], k[1+k[0]:], true
}

// after is the first key behind all that begin with prefix; nil: there is none.
func after(prefix []byte) []byte {
	end := append([]byte{}, prefix...)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i]++; end[i] != 0 {
			return end[:i+1]
		}
	}
	return nil
}

// Get returns a copy of the value, or nil, nil when the key or the bucket is not there.
func (s *Store) Get(bucket, key string) (value []byte, err error) {
	if err := limit.Name(bucket); err != nil {
		return nil, err
	}
	err = s.view(func(db *pebble.DB) error {
		v, closer, err := db.Get(engineKey(bucket, key))
		if errors.Is(err, pebble.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		value = append([]byte{}, v...) // not nil, even when empty
		return closer.Close()
	})
	return value, err
}

// Scan calls fn for every key with the prefix, in byte order, from one snapshot. fn must not keep or change value, and
// must not call the Store. An error from fn ends the scan and is returned.
func (s *Store) Scan(bucket, prefix string, fn func(key string, value []byte) error) error {
	if err := limit.Name(bucket); err != nil {
		return err
	}
	lower := engineKey(bucket, prefix)
	return s.view(func(db *pebble.DB) error {
		return iterate(db, lower, after(lower), func(k, v []byte) error { return fn(string(k[1+len(bucket):]), v) })
	})
}

// iterate calls fn for every key of one snapshot from lower to before upper.
func iterate(r pebble.Reader, lower, upper []byte, fn func(k, v []byte) error) error {
	it, err := r.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return err
	}
	for ok := it.First(); ok && err == nil; ok = it.Next() {
		var v []byte
		if v, err = it.ValueAndErr(); err == nil {
			err = fn(it.Key(), v)
		}
	}
	return errors.Join(err, it.Close()) // Close repeats what ended the iteration
}

// view runs fn while the engine is open.
func (s *Store) view(fn func(*pebble.DB) error) error {
	s.gate.RLock()
	defer s.gate.RUnlock()
	if s.db == nil {
		return ErrClosed
	}
	return fn(s.db)
}

// Stats counts since Open.
type Stats struct {
	// Commits that succeeded, their Writes, and the Bytes of their buckets, keys and values.
	Commits, Writes, Bytes uint64
	// Transactions is the number of group commits; Commits/Transactions is the mean size of a group.
	Transactions uint64
	// Written is the number of bytes that were written to files: log, tables, their merging, the list of them.
	Written uint64
	// Syncs is the number of disk flushes that were waited for, by commits and by the engine's own work.
	Syncs uint64
	// LargestGroup is the most commits that shared one transaction.
	LargestGroup int
	// Waiting is the number of commits in the queue now.
	Waiting int
	// FileBytes is the size of the folder now, room in the log included.
	FileBytes int64
}

// record counts a batch that succeeded.
func (s *Store) record(batch []*request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.Commits += uint64(len(batch))
	s.stats.Transactions++
	s.stats.LargestGroup = max(s.stats.LargestGroup, len(batch))
	for _, r := range batch {
		s.stats.Writes += uint64(len(r.writes))
		s.stats.Bytes += uint64(r.size)
	}
}

// Stats returns the counters.
func (s *Store) Stats() Stats {
	var size int64
	names, _ := s.disk.List(s.path)
	for _, name := range names {
		if info, err := s.disk.Stat(filepath.Join(s.path, name)); err == nil { // files come and go meanwhile
			size += info.Size()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stats
	st.Waiting, st.FileBytes = len(s.queue), size
	st.Written, st.Syncs = s.disk.written.Load(), s.disk.syncs.Load()
	return st
}
