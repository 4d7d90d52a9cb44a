// Package memstore is the memory twin of package store: the same promises without a disk, plus faults on demand.
package memstore

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/eschaton-network/chand/store/internal/limit"
	"github.com/eschaton-network/chand/types"
)

// Fault is what happens to a Commit.
type Fault int

const (
	// None: the commit succeeds.
	None Fault = iota
	// NotDone: the commit fails and nothing was written.
	NotDone
	// DoneButFailed: the commit is durable, but the caller is told that it failed.
	DoneButFailed
)

var (
	// ErrInjected is wrapped by the error of a commit that a fault was injected into, and of all commits after it.
	ErrInjected = errors.New("the store failed to write (injected)")
	// ErrCrashed is returned by everything after Crash or Close.
	ErrCrashed = errors.New("the store is gone")
)

// disk outlives the handles on it, as a file does.
type disk struct {
	mu      sync.Mutex
	buckets map[string]map[string][]byte // guarded by mu; values are never changed in place
	open    *Store                       // guarded by mu; the handle that may write
}

// Store is a handle on a memory disk. Safe for concurrent use. It starts no goroutine and works in a synctest bubble.
type Store struct {
	disk    *disk
	failed  error                                   // guarded by disk.mu; set once
	commits int                                     // guarded by disk.mu; commits tried on this handle
	inject  func(n int, writes []types.Write) Fault // guarded by disk.mu; nil: no faults
}

// New makes an empty store.
func New() *Store {
	d := &disk{buckets: make(map[string]map[string][]byte)}
	d.open = &Store{disk: d}
	return d.open
}

// Inject asks fault before every following Commit; n counts the handle's commits from 1. fault must not call the Store.
func (s *Store) Inject(fault func(n int, writes []types.Write) Fault) {
	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	s.inject = fault
}

// FailAt injects one fault into the n-th commit of this handle.
func (s *Store) FailAt(n int, f Fault) {
	s.Inject(func(i int, _ []types.Write) Fault {
		if i == n {
			return f
		}
		return None
	})
}

// Commits is the number of commits tried on this handle (refused writes do not count).
func (s *Store) Commits() int {
	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	return s.commits
}

// Crash is kill -9: from now on every call on this handle fails and writes nothing.
func (s *Store) Crash() {
	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	if s.disk.open == s {
		s.disk.open = nil
	}
}

// Close is the same as Crash: there is nothing that a clean end would save and a crash would not.
func (s *Store) Close() error { s.Crash(); return nil }

// Reopen crashes the handle and returns a new one on what was durable, without faults.
func (s *Store) Reopen() *Store {
	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	s.disk.open = &Store{disk: s.disk}
	return s.disk.open
}

// Copy returns a handle on a new disk with what is durable here now: a backup.
func (s *Store) Copy() *Store {
	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	c := New()
	for bucket, values := range s.disk.buckets {
		c.disk.buckets[bucket] = maps.Clone(values) // the values themselves are never changed
	}
	return c
}

// Commit writes all or nothing, in order.
func (s *Store) Commit(ctx context.Context, writes ...types.Write) error {
	if _, err := limit.Check(writes); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	if s.disk.open != s {
		return ErrCrashed
	}
	if s.failed != nil {
		return s.failed
	}
	s.commits++
	fault := None
	if s.inject != nil {
		fault = s.inject(s.commits, writes)
	}
	if fault != NotDone {
		s.disk.apply(writes)
	}
	if fault != None {
		s.failed = fmt.Errorf("%w at commit %d", ErrInjected, s.commits)
	}
	return s.failed
}

func (d *disk) apply(writes []types.Write) {
	for _, w := range writes {
		b := d.buckets[w.Bucket]
		if w.Value == nil {
			delete(b, w.Key)
			continue
		}
		if b == nil {
			b = make(map[string][]byte)
			d.buckets[w.Bucket] = b
		}
		b[strings.Clone(w.Key)] = append([]byte{}, w.Value...)
	}
}

// Get returns a copy of the value, or nil, nil.
func (s *Store) Get(bucket, key string) ([]byte, error) {
	if err := limit.Name(bucket); err != nil {
		return nil, err
	}
	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	if s.disk.open != s {
		return nil, ErrCrashed
	}
	v, ok := s.disk.buckets[bucket][key]
	if !ok {
		return nil, nil
	}
	return append([]byte{}, v...), nil
}

// Scan calls fn for every key with the prefix, in byte order, from one snapshot.
func (s *Store) Scan(bucket, prefix string, fn func(key string, value []byte) error) error {
	keys, values, err := s.snapshot(bucket, prefix)
	if err != nil {
		return err
	}
	for i, k := range keys {
		if err := fn(k, values[i]); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) snapshot(bucket, prefix string) (keys []string, values [][]byte, err error) {
	if err := limit.Name(bucket); err != nil {
		return nil, nil, err
	}
	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	if s.disk.open != s {
		return nil, nil, ErrCrashed
	}
	b := s.disk.buckets[bucket]
	for k := range b {
		if strings.HasPrefix(k, prefix) {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	for _, k := range keys {
		values = append(values, b[k])
	}
	return keys, values, nil
}
