package store

import (
	"context"
	"fmt"
	"runtime"

	"go.etcd.io/bbolt"

	"github.com/eschaton-network/chand/store/internal/limit"
	"github.com/eschaton-network/chand/types"
)

const (
	// maxBatchWrites and maxBatchBytes bound one bbolt transaction, and with it the time that the first
	// caller in it waits for the others (some 10 ms of work). A single larger Commit goes alone.
	maxBatchWrites = 8192
	maxBatchBytes  = 8 << 20
)

// request is one Commit in the queue.
type request struct {
	writes []types.Write
	size   int        // bytes
	done   chan error // capacity 1; the writer sends once
}

// Commit writes all or nothing, in order (a later write to the same key wins), and returns nil when it is on disk.
//
// Errors: ErrBadWrite and ctx's error, if it ended while the commit still waited for its turn, mean that nothing was
// written. ErrPoisoned and ErrClosed end all commits; after ErrPoisoned this one may or may not be on disk.
func (s *Store) Commit(ctx context.Context, writes ...types.Write) error {
	size, err := limit.Check(writes)
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	r := &request{writes: writes, size: size, done: make(chan error, 1)}
	s.mu.Lock()
	if err := s.refusal(); err != nil {
		s.mu.Unlock()
		return err
	}
	s.queue = append(s.queue, r)
	s.mu.Unlock()
	s.signal()
	select {
	case err := <-r.done:
		return err
	case <-ctx.Done():
	}
	if s.withdraw(r) {
		return ctx.Err()
	}
	return <-r.done // being written: the answer is near, and giving up now would leave it unknown
}

// refusal says why no commit is taken. Call with mu held.
func (s *Store) refusal() error {
	if s.failed != nil {
		return s.failed
	}
	if s.closed {
		return ErrClosed
	}
	return nil
}

// withdraw takes a request back out of the queue; false when the writer has it.
func (s *Store) withdraw(r *request) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.queue {
		if s.queue[i] == r {
			s.queue = append(s.queue[:i:i], s.queue[i+1:]...)
			return true
		}
	}
	return false
}

// write is the writer goroutine: the only one that changes the file.
func (s *Store) write() {
	defer close(s.done)
	for {
		s.gather()
		batch, more := s.take()
		if len(batch) == 0 {
			if !more {
				return
			}
			<-s.wake
			continue
		}
		err := s.apply(batch)
		s.record(batch, err)
		for _, r := range batch {
			r.done <- err
		}
	}
}

// gather lets those who were just answered queue their next commit before the next flush begins: it yields the
// processor for as long as that makes the queue grow. This makes the groups large, and it costs an idle machine nothing.
func (s *Store) gather() {
	for before := -1; ; {
		s.mu.Lock()
		n := len(s.queue)
		s.mu.Unlock()
		if n <= before {
			return
		}
		before = n
		runtime.Gosched()
	}
}

// take removes the next batch from the queue. more is false once the store is closed.
func (s *Store) take() (batch []*request, more bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, writes, bytes := 0, 0, 0
	for _, r := range s.queue {
		writes += len(r.writes)
		bytes += r.size
		if n > 0 && (writes > maxBatchWrites || bytes > maxBatchBytes) {
			break
		}
		n++
	}
	batch, s.queue = s.queue[:n:n], s.queue[n:]
	return batch, !s.closed
}

// apply puts a batch into one transaction. When it returns nil the batch is on disk: this is the commit point.
func (s *Store) apply(batch []*request) error {
	s.mu.Lock()
	err := s.failed
	s.mu.Unlock()
	if err != nil {
		return err
	}
	tx, err := s.db.Begin(true)
	if err != nil {
		return s.poison(err)
	}
	buckets := make(map[string]*bbolt.Bucket)
	for _, r := range batch {
		for i := range r.writes {
			if err := put(tx, buckets, &r.writes[i]); err != nil {
				_ = tx.Rollback() // always nil for an open transaction
				return s.poison(fmt.Errorf("bucket %q key %q: %w", r.writes[i].Bucket, r.writes[i].Key, err))
			}
		}
	}
	if err := tx.Commit(); err != nil {
		return s.poison(err)
	}
	return nil
}

// put does one write; buckets are made when first written to.
func put(tx *bbolt.Tx, buckets map[string]*bbolt.Bucket, w *types.Write) (err error) {
	b := buckets[w.Bucket]
	if b == nil {
		if b = tx.Bucket([]byte(w.Bucket)); b == nil {
			if w.Value == nil {
				return nil
			}
			if b, err = tx.CreateBucket([]byte(w.Bucket)); err != nil {
				return err
			}
		}
		buckets[w.Bucket] = b
	}
	if w.Value == nil {
		return b.Delete([]byte(w.Key))
	}
	return b.Put([]byte(w.Key), w.Value)
}

// poison makes every later Commit fail: what the disk holds is no longer known.
func (s *Store) poison(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failed = fmt.Errorf("%w: %s: %w: nothing more is saved; see that the disk is well and has room, then start again", ErrPoisoned, s.path, err)
	return s.failed
}
