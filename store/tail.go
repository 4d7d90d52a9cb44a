package store

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/eschaton-network/chand/store/internal/limit"
	"github.com/eschaton-network/chand/types"
)

// Transaction is one group commit: all or nothing of it is on disk.
type Transaction struct {
	// Seq counts transactions without gaps, over restarts too.
	Seq uint64
	// Writes in order; a later write to a key wins. nil values delete.
	Writes []types.Write
}

// tail is one who follows.
type tail struct{ fn func(Transaction) }

// Tail calls fn for every transaction from now on, in order, when it is on disk and before its commits return. fn runs on the writer's
// goroutine, so what it does delays all commits; it must not call the Store, and must not keep or change the writes. stop ends
// it; a call may still be under way when stop returns.
//
// A copy that follows: Tail first, then Snapshot, then what came since. A transaction may be in both, which changes nothing.
func (s *Store) Tail(fn func(Transaction)) (stop func()) {
	t := &tail{fn}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tails = append(s.tails[:len(s.tails):len(s.tails)], t)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		var rest []*tail
		for _, x := range s.tails {
			if x != t {
				rest = append(rest, x)
			}
		}
		s.tails = rest
	}
}

// tell calls those who follow.
func (s *Store) tell(seq uint64, batch []*request) {
	s.mu.Lock()
	tails := s.tails
	s.mu.Unlock()
	if len(tails) == 0 {
		return
	}
	t := Transaction{Seq: seq}
	for _, r := range batch {
		t.Writes = append(t.Writes, r.writes...)
	}
	for _, x := range tails {
		x.fn(t)
	}
}

// Snapshot calls fn for every value of the store as of now, in the order of buckets and keys; commits go on meanwhile. fn must not keep or change
// the value. An error from fn ends it and is returned.
func (s *Store) Snapshot(fn func(types.Write) error) error {
	err := s.view(func(db *pebble.DB) error {
		snap := db.NewSnapshot()
		defer snap.Close()
		return iterate(snap, nil, nil, func(k, v []byte) error {
			bucket, key, ok := splitKey(k)
			if !ok {
				return fmt.Errorf("key %.40x belongs to no bucket", k)
			}
			if bucket[0] == limit.Reserved {
				return nil
			}
			if v == nil {
				v = []byte{}
			}
			return fn(types.Write{Bucket: string(bucket), Key: string(key), Value: v})
		})
	})
	if err != nil && !errors.Is(err, ErrClosed) {
		err = fmt.Errorf("copy %s: %w", s.path, err)
	}
	return err
}
