package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/eschaton-network/chand/store/storetest"
	"github.com/eschaton-network/chand/types"
)

var ctx = context.Background()

func rec(bucket, key, value string) types.Write {
	return types.Write{Bucket: bucket, Key: key, Value: []byte(value)}
}

// must opens a store that is checked and closed when the test ends.
func must(t testing.TB, path string) *Store {
	t.Helper()
	s, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.mu.Lock()
		closed := s.closed
		s.mu.Unlock()
		if closed {
			return
		}
		if err := s.Check(); err != nil {
			t.Errorf("check: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

func TestConformance(t *testing.T) {
	storetest.Run(t, func(t *testing.T) (storetest.Store, func() storetest.Store) {
		path := filepath.Join(t.TempDir(), "db")
		s := must(t, path)
		return s, func() storetest.Store {
			if err := errors.Join(s.Check(), s.Close()); err != nil {
				t.Fatal(err)
			}
			s = must(t, path)
			return s
		}
	}, ErrBadWrite)
}

func TestSecondOpenerIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	must(t, path)
	_, err := Open(path, Options{LockTimeout: 1})
	if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), path) {
		t.Fatalf("second opener: %v; want %v with the path", err, ErrLocked)
	}
}

func TestWhatIsNotAStoreIsRefused(t *testing.T) {
	dir := t.TempDir()
	for name, make := range map[string]func(path string) error{
		"text": func(p string) error { return os.WriteFile(p, []byte(strings.Repeat("hello ", 9000)), 0o600) },
		"stub": func(p string) error { return os.WriteFile(p, []byte("x"), 0o600) },
		"other program": func(p string) error {
			return other(p, func(tx *bbolt.Tx) error { _, err := tx.CreateBucket([]byte("x")); return err })
		},
		"bad version": func(p string) error {
			return other(p, func(tx *bbolt.Tx) error {
				b, err := tx.CreateBucket([]byte(metaBucket))
				return errors.Join(err, b.Put([]byte(versionKey), []byte("-1")))
			})
		},
	} {
		path := filepath.Join(dir, strings.ReplaceAll(name, " ", "_"))
		if err := make(path); err != nil {
			t.Fatal(err)
		}
		before, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if s, err := Open(path, Options{}); !errors.Is(err, ErrNotStore) {
			t.Errorf("%s: %v, %v; want %v", name, s, err, ErrNotStore)
		}
		if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
			t.Errorf("%s: the file was changed (%v)", name, err)
		}
	}
}

// other writes a bbolt file without our hands.
func other(path string, fn func(*bbolt.Tx) error) error {
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		return err
	}
	return errors.Join(db.Update(fn), db.Close())
}

func TestVersions(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	s := must(t, path)
	if err := s.Commit(ctx, rec("a", "k", "1")); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	times := func(tx *bbolt.Tx) error { // a step that shows how often it ran
		b := tx.Bucket([]byte("a"))
		return b.Put([]byte("k"), append(b.Get([]byte("k")), 'x'))
	}
	fails := func(tx *bbolt.Tx) error { return errors.Join(times(tx), errors.New("step failed")) }
	want := func(v int, k string) {
		t.Helper()
		got, err := version(db)
		if err != nil || got != v {
			t.Fatalf("version %d, %v; want %d", got, err, v)
		}
		_ = db.View(func(tx *bbolt.Tx) error {
			if got := string(tx.Bucket([]byte("a")).Get([]byte("k"))); got != k {
				t.Fatalf("value %q, want %q", got, k)
			}
			return nil
		})
	}
	type steps = []func(*bbolt.Tx) error
	if err := migrate(db, steps{times, times, fails}); err == nil {
		t.Fatal("a failing step was not reported")
	}
	want(3, "1xx") // the steps before it hold, the failed one left nothing
	for range 2 {
		if err := migrate(db, steps{times, times, times}); err != nil {
			t.Fatal(err)
		}
		want(4, "1xxx")
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, Options{}); !errors.Is(err, ErrNewer) || !strings.Contains(err.Error(), "made by a newer chand") {
		t.Fatalf("a newer file: %v; want %v", err, ErrNewer)
	}
}

// TestPoison makes the file unwritable under the store, as a failing disk does.
func TestPoison(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	var f *os.File
	s, err := open(path, Options{}, func(name string, flag int, mode os.FileMode) (*os.File, error) {
		var err error
		f, err = os.OpenFile(name, flag, mode)
		return f, err
	})
	if err != nil {
		t.Fatal(err)
	}
	go s.write()
	if err := s.Commit(ctx, rec("a", "before", "1")); err != nil {
		t.Fatal(err)
	}
	readOnly, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer readOnly.Close()
	if err := syscall.Dup3(int(readOnly.Fd()), int(f.Fd()), syscall.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			if err := s.Commit(ctx, rec("a", fmt.Sprint("lost", i), "1")); !errors.Is(err, ErrPoisoned) || !errors.Is(err, syscall.EBADF) {
				t.Errorf("commit on a failing disk: %v", err)
			}
		})
	}
	wg.Wait()
	first := s.Commit(ctx, rec("a", "after", "1"))
	if !errors.Is(first, ErrPoisoned) || !strings.Contains(first.Error(), path) {
		t.Errorf("commit after the failure: %v", first)
	}
	if v, err := s.Get("a", "before"); err != nil || string(v) != "1" {
		t.Errorf("reading after the failure: %q, %v", v, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = must(t, path)
	for key, want := range map[string]string{"before": "1", "after": "", "lost0": ""} {
		if v, err := s.Get("a", key); err != nil || string(v) != want {
			t.Errorf("%s after reopening: %q, %v; want %q", key, v, err, want)
		}
	}
}

func TestClosed(t *testing.T) {
	s := must(t, filepath.Join(t.TempDir(), "db"))
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	_, err := s.Get("a", "k")
	for what, err := range map[string]error{"get": err, "commit": s.Commit(ctx, rec("a", "k", "v")),
		"scan": s.Scan("a", "", nil)} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%s after close: %v", what, err)
		}
	}
}

// TestCloseWritesWhatWaits closes while commits are under way: each is either durable or refused.
func TestCloseWritesWhatWaits(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	s := must(t, path)
	var wg sync.WaitGroup
	var mu sync.Mutex
	acked := make(map[string]bool)
	started := make(chan struct{}, 32)
	for w := range 32 {
		wg.Go(func() {
			for i := 0; ; i++ {
				key := fmt.Sprint(w, "/", i)
				err := s.Commit(ctx, rec("a", key, "v"))
				if err != nil {
					if !errors.Is(err, ErrClosed) {
						t.Errorf("commit: %v", err)
					}
					return
				}
				mu.Lock()
				acked[key] = true
				mu.Unlock()
				select {
				case started <- struct{}{}:
				default:
				}
			}
		})
	}
	for range cap(started) {
		<-started
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	s = must(t, path)
	n := 0
	if err := s.Scan("a", "", func(k string, _ []byte) error { n++; delete(acked, k); return nil }); err != nil {
		t.Fatal(err)
	}
	if len(acked) != 0 {
		t.Errorf("%d acknowledged commits of %d are lost: %v", len(acked), n, acked)
	}
}

// TestGroupCommit queues commits before the writer runs and wants them to share transactions, within the limits.
func TestGroupCommit(t *testing.T) {
	s, err := open(filepath.Join(t.TempDir(), "db"), Options{}, os.OpenFile)
	if err != nil {
		t.Fatal(err)
	}
	const small, large = 100, 3
	var wg sync.WaitGroup
	queued := func(n int) {
		for s.Stats().Waiting < n {
			runtime.Gosched()
		}
	}
	commit := func(ctx context.Context, size int, want error) {
		wg.Go(func() {
			w := types.Write{Bucket: "a", Key: fmt.Sprintf("%p", new(int)), Value: make([]byte, size)}
			if err := s.Commit(ctx, w); !errors.Is(err, want) {
				t.Errorf("commit: %v, want %v", err, want)
			}
		})
	}
	cancelled, cancel := context.WithCancel(ctx)
	commit(cancelled, 1, context.Canceled)
	queued(1)
	for range small {
		commit(ctx, 1, nil)
	}
	queued(small + 1)
	for range large {
		commit(ctx, maxBatchBytes+1, nil)
	}
	queued(small + large + 1)
	cancel()
	for s.Stats().Waiting > small+large {
		runtime.Gosched()
	}
	go s.write()
	wg.Wait()
	st := s.Stats()
	if st.Commits != small+large || st.Transactions != 1+large || st.Syncs != 2*st.Transactions || st.LargestGroup != small {
		t.Errorf("stats %+v: want %d commits together and %d alone", st, small, large)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestBackup(t *testing.T) {
	dir := t.TempDir()
	s := must(t, filepath.Join(dir, "db"))
	for i := range 50 {
		if err := s.Commit(ctx, rec("a", fmt.Sprint(i), strings.Repeat("v", 3000))); err != nil {
			t.Fatal(err)
		}
	}
	// The copy is taken while a commit goes on: the writer inside Backup's Write makes one.
	var b bytes.Buffer
	n, err := s.Backup(writerFunc(func(p []byte) (int, error) {
		if err := s.Commit(ctx, rec("a", "late", "v")); err != nil {
			t.Error(err)
		}
		return b.Write(p)
	}))
	if err != nil || n != int64(b.Len()) {
		t.Fatalf("backup: %d of %d bytes, %v", n, b.Len(), err)
	}
	path := filepath.Join(dir, "copy")
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	c := must(t, path)
	count := 0
	if err := c.Scan("a", "", func(string, []byte) error { count++; return nil }); err != nil || count != 50 {
		t.Errorf("the copy has %d records, %v; want 50", count, err)
	}
	if _, err := s.Backup(writerFunc(func([]byte) (int, error) { return 0, errors.New("no room") })); err == nil {
		t.Error("a failing writer was not reported")
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// TestCheckFindsDamage overwrites a page in the middle of a store and wants Check, not a crash, to say so.
func TestCheckFindsDamage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	s := must(t, path)
	for i := range 120 {
		if err := s.Commit(ctx, rec("a", fmt.Sprintf("%04d", i), strings.Repeat("v", 900))); err != nil {
			t.Fatal(err)
		}
	}
	size := s.Stats().FileBytes
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	good = good[:size] // the rest is room to grow
	page := int64(os.Getpagesize())
	damaged := func(bad []byte) error {
		path := filepath.Join(t.TempDir(), "db")
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Open(path, Options{})
		if err != nil {
			return err
		}
		return errors.Join(s.Check(), s.Close())
	}
	live := 0
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	free := make(map[int64]bool)
	_ = db.View(func(tx *bbolt.Tx) error {
		for off := 2 * page; off+page <= size; off += page {
			info, err := tx.Page(int(off / page))
			free[off] = err == nil && info != nil && info.Type == "free"
		}
		return nil
	})
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	for off := 2 * page; off+page <= size; off += page {
		if free[off] {
			continue
		}
		live++
		bad := bytes.Clone(good)
		for i := off; i < off+page; i++ {
			bad[i] ^= 0xa5
		}
		if damaged(bad) == nil {
			t.Errorf("page %d is damaged and nobody noticed", off/page)
		}
	}
	if live < 10 {
		t.Errorf("only %d pages in use: the test is too small", live)
	}
	if err := damaged(good[:size/2]); err == nil {
		t.Error("half of the file is gone and nobody noticed")
	}
	if err := damaged(good); err != nil {
		t.Errorf("the file as it was: %v", err)
	}
}
