package memstore_test

import (
	"context"
	"errors"
	"testing"

	"github.com/eschaton-network/chand/store"
	"github.com/eschaton-network/chand/store/memstore"
	"github.com/eschaton-network/chand/store/storetest"
	"github.com/eschaton-network/chand/types"
)

func TestConformance(t *testing.T) {
	storetest.Run(t, func(*testing.T) (storetest.Store, func() storetest.Store) {
		s := memstore.New()
		return s, func() storetest.Store { s = s.Reopen(); return s }
	}, store.ErrBadWrite)
}

// TestFaults fails each commit of three in both ways and wants to find exactly what was durable after a restart.
func TestFaults(t *testing.T) {
	ctx := context.Background()
	for at := 1; at <= 3; at++ {
		for fault, survives := range map[memstore.Fault]int{memstore.NotDone: at - 1, memstore.DoneButFailed: at} {
			s := memstore.New()
			s.FailAt(at, fault)
			for i := 1; i <= 3; i++ {
				err := s.Commit(ctx, types.Write{Bucket: "n", Key: string(rune('0' + i)), Value: []byte{1}})
				if failed := errors.Is(err, memstore.ErrInjected); failed != (i >= at) {
					t.Errorf("fault %d at %d: commit %d gave %v", fault, at, i, err)
				}
			}
			r, n := s.Reopen(), 0
			if err := r.Scan("n", "", func(string, []byte) error { n++; return nil }); err != nil || n != survives {
				t.Errorf("fault %d at %d: %d records after the restart, %v; want %d", fault, at, n, err, survives)
			}
			if err := r.Commit(ctx, types.Write{Bucket: "n", Key: "x", Value: []byte{1}}); err != nil {
				t.Errorf("the new handle has the fault of the old: %v", err)
			}
		}
	}
}

func TestCrashKillsTheHandle(t *testing.T) {
	s := memstore.New()
	w := types.Write{Bucket: "b", Key: "k", Value: []byte("v")}
	if err := s.Commit(context.Background(), w); err != nil {
		t.Fatal(err)
	}
	s.Crash()
	w.Value = []byte("late")
	if err := s.Commit(context.Background(), w); !errors.Is(err, memstore.ErrCrashed) {
		t.Errorf("commit after a crash: %v", err)
	}
	if _, err := s.Get("b", "k"); !errors.Is(err, memstore.ErrCrashed) {
		t.Errorf("get after a crash: %v", err)
	}
	r := s.Reopen()
	if err := s.Commit(context.Background(), w); !errors.Is(err, memstore.ErrCrashed) {
		t.Errorf("commit on the old handle after reopening: %v", err)
	}
	if v, err := r.Get("b", "k"); err != nil || string(v) != "v" {
		t.Errorf("after reopening: %q, %v", v, err)
	}
	if n := s.Commits(); n != 1 {
		t.Errorf("%d commits counted, want 1", n)
	}
}
