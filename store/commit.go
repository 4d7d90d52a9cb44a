package store

import (
	"context"
	"fmt"
	"runtime"

	"github.com/cockroachdb/pebble/v2"

	"github.com/eschaton-network/chand/store/internal/limit"
	"github.com/eschaton-network/chand/types"
)

const (
	// maxBatchWrites and maxBatchBytes bound one transaction, and with it the time that the first
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
	case <-s.broken:
		return s.failure()
	case <-ctx.Done():
	}
	if s.withdraw(r) {
		return ctx.Err()
	}
	select { // being written: the answer is near, and giving up now would leave it unknown
	case err := <-r.done:
		return err
	case <-s.broken:
		return s.failure()
	}
}

func (s *Store) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed
}

// refusal says why no commit is taken. Call with mu held.
func (s *Store) refusal() error {
	if s.failed != nil {
		return s.failed
	}
	if s.closed {
		return ErrClosed
	}
	if s.readOnly {
		return ErrReadOnly
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

// write is the writer goroutine: the only one that writes.
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
	if err := s.failure(); err != nil {
		return err
	}
	b := s.db.NewBatch()
	defer b.Close()
	for _, r := range batch {
		for i := range r.writes {
			put(b, &r.writes[i])
		}
	}
	seq := s.mark.seq + 1
	putSeq(b, seq)
	if err := s.db.Apply(b, pebble.Sync); err != nil {
		return s.poison(err)
	}
	s.mark.seq = seq
	if seq >= s.mark.kept+markEvery {
		if err := s.mark.write(seq); err != nil {
			return s.poison(err)
		}
	}
	s.record(batch)
	s.tell(seq, batch)
	return nil
}

// put does one write, straight into the batch's memory: it can't fail.
func put(b *pebble.Batch, w *types.Write) {
	n := 1 + len(w.Bucket) + len(w.Key)
	if w.Value == nil {
		op := b.DeleteDeferred(n)
		fillKey(op.Key, w)
		_ = op.Finish() // nil: the batch has no index
		return
	}
	op := b.SetDeferred(n, len(w.Value))
	fillKey(op.Key, w)
	copy(op.Value, w.Value)
	_ = op.Finish()
}

func fillKey(k []byte, w *types.Write) {
	k[0] = byte(len(w.Bucket))
	copy(k[1+copy(k[1:], w.Bucket):], w.Key)
}

// poison makes every later Commit fail: what the disk holds is no longer known.
func (s *Store) poison(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed == nil {
		s.failed = fmt.Errorf("%w: %s: %w: nothing more is saved; see that the disk is well and has room, then start again", ErrPoisoned, s.path, err)
		close(s.broken)
	}
	return s.failed
}
