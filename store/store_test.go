package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

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
	inFolder := func(name, content string) func(string) error {
		return func(p string) error {
			return errors.Join(os.Mkdir(p, 0o700), os.WriteFile(filepath.Join(p, name), []byte(content), 0o600))
		}
	}
	for name, make := range map[string]func(path string) error{
		"text":        func(p string) error { return os.WriteFile(p, []byte(strings.Repeat("hello ", 9000)), 0o600) },
		"stub":        func(p string) error { return os.WriteFile(p, []byte("x"), 0o600) },
		"other files": inFolder("letter.txt", "hello"),
		"other program": func(p string) error {
			db, err := pebble.Open(p, &pebble.Options{Logger: engineLog{}})
			return errors.Join(err, db.Set([]byte("x"), nil, pebble.Sync), db.Close())
		},
		"empty mark":   inFolder(markName, ""),
		"foreign mark": inFolder(markName, strings.Repeat("hello ", 9000)),
	} {
		path := filepath.Join(dir, strings.ReplaceAll(name, " ", "_"))
		if err := make(path); err != nil {
			t.Fatal(err)
		}
		before := contents(t, path)
		if s, err := Open(path, Options{}); !errors.Is(err, ErrNotStore) {
			t.Errorf("%s: %v, %v; want %v", name, s, err, ErrNotStore)
		}
		after := contents(t, path)
		delete(after, lockName)
		delete(before, lockName)
		if !maps.Equal(before, after) {
			t.Errorf("%s: it was changed", name)
		}
	}
	if _, err := Open(filepath.Join(dir, "none"), Options{ReadOnly: true}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("nothing there, for reading: %v", err)
	}
}

// contents reads a file, or the files of a folder by their names.
func contents(t *testing.T, path string) map[string]string {
	t.Helper()
	m := make(map[string]string)
	err := filepath.WalkDir(path, func(p string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(p)
		name, _ := filepath.Rel(path, p)
		m[name] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestVersions(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	s := must(t, path)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(path, markName)
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	encodeMark(b, 99, s.mark.seq, storeVersion+1)
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, Options{}); !errors.Is(err, ErrNewer) || !strings.Contains(err.Error(), "made by a newer chand") {
		t.Fatalf("a newer store: %v; want %v", err, ErrNewer)
	}
}

func TestReadOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	s := must(t, path)
	if err := s.Commit(ctx, rec("a", "k", "1")); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	before := contents(t, path)
	s, err := Open(path, Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	if v, err := s.Get("a", "k"); err != nil || string(v) != "1" {
		t.Errorf("read %q, %v", v, err)
	}
	if err := s.Commit(ctx, rec("a", "k", "2")); !errors.Is(err, ErrReadOnly) {
		t.Errorf("commit: %v", err)
	}
	if _, err := Open(path, Options{LockTimeout: 1}); !errors.Is(err, ErrLocked) {
		t.Errorf("a writer beside a reader: %v", err)
	}
	if err := errors.Join(s.Check(), s.Close()); err != nil {
		t.Fatal(err)
	}
	if !maps.Equal(before, contents(t, path)) {
		t.Error("reading changed the files")
	}
}

// badDisk fails all writes from a moment on, as a full or dying disk does.
type badDisk struct {
	vfs.FS
	bad atomic.Bool
}

type badFile struct {
	vfs.File
	d *badDisk
}

func (d *badDisk) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if d.bad.Load() {
		return nil, syscall.ENOSPC
	}
	f, err := d.FS.Create(name, c)
	return badFile{f, d}, err
}

func (d *badDisk) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	f, err := d.FS.OpenReadWrite(name, c, o...)
	return badFile{f, d}, err
}

func (f badFile) WriteAt(b []byte, off int64) (int, error) {
	if f.d.bad.Load() {
		return 0, syscall.ENOSPC
	}
	return f.File.WriteAt(b, off)
}

func (f badFile) Write(b []byte) (int, error) {
	if f.d.bad.Load() {
		return 0, syscall.ENOSPC
	}
	return f.File.Write(b)
}

func TestPoison(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	d := &badDisk{FS: vfs.Default}
	s, err := open(path, Options{}, d)
	if err != nil {
		t.Fatal(err)
	}
	go s.write()
	if err := s.Commit(ctx, rec("a", "before", "1")); err != nil {
		t.Fatal(err)
	}
	d.bad.Store(true)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			if err := s.Commit(ctx, rec("a", fmt.Sprint("lost", i), "1")); !errors.Is(err, ErrPoisoned) || !errors.Is(err, syscall.ENOSPC) {
				t.Errorf("commit on a failing disk: %v", err)
			}
		})
	}
	wg.Wait()
	d.bad.Store(false) // it works again: too late
	first := s.Commit(ctx, rec("a", "after", "1"))
	if !errors.Is(first, ErrPoisoned) || !strings.Contains(first.Error(), path) {
		t.Errorf("commit after the failure: %v", first)
	}
	if v, err := s.Get("a", "before"); err != nil || string(v) != "1" {
		t.Errorf("reading after the failure: %q, %v", v, err)
	}
	s.Stats()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = must(t, copyStore(t, path)) // as another process finds it
	for key, want := range map[string]string{"before": "1", "after": "", "lost0": ""} {
		if v, err := s.Get("a", key); err != nil || string(v) != want {
			t.Errorf("%s after reopening: %q, %v; want %q", key, v, err, want)
		}
	}
}

// slowDisk lets a test hold up whoever flushes.
type slowDisk struct {
	vfs.FS
	hold atomic.Pointer[chan struct{}] // closed by who is held up, which then stays
}

type slowFile struct {
	vfs.File
	d *slowDisk
}

func (d *slowDisk) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := d.FS.Create(name, c)
	return slowFile{f, d}, err
}

func (f slowFile) wait() {
	if held := f.d.hold.Swap(nil); held != nil {
		close(*held)
		select {}
	}
}

func (f slowFile) Sync() error     { f.wait(); return f.File.Sync() }
func (f slowFile) SyncData() error { f.wait(); return f.File.SyncData() }

// A failure in the middle of Close, after which the engine stands still, holds Close up no more than one before it.
func TestPoisonWhileClosing(t *testing.T) {
	d := &slowDisk{FS: vfs.Default}
	s, err := open(filepath.Join(t.TempDir(), "db"), Options{}, d)
	if err != nil {
		t.Fatal(err)
	}
	go s.write()
	if err := s.Commit(ctx, rec("a", "before", "1")); err != nil {
		t.Fatal(err)
	}
	held, closed := make(chan struct{}), make(chan error, 1)
	d.hold.Store(&held)
	go func() { closed <- s.Close() }()
	<-held
	_ = s.poison(syscall.ENOSPC)
	if err := <-closed; err != nil {
		t.Error(err)
	}
	if _, err := s.Get("a", "before"); !errors.Is(err, ErrClosed) {
		t.Errorf("reading after Close: %v", err)
	}
}

// A disk that fails when the store is being closed is an error of Close.
func TestFullDiskWhileClosing(t *testing.T) {
	d := &badDisk{FS: vfs.Default}
	s, err := open(filepath.Join(t.TempDir(), "db"), Options{}, d)
	if err != nil {
		t.Fatal(err)
	}
	go s.write()
	if err := s.Commit(ctx, rec("a", "before", "1")); err != nil {
		t.Fatal(err)
	}
	d.bad.Store(true)
	if err := s.Close(); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("Close on a full disk: %v", err)
	}
}

// copyStore copies the files, without the lock, to another folder.
func copyStore(t *testing.T, path string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "db")
	writeFolder(t, to, contents(t, path))
	return to
}

func writeFolder(t *testing.T, path string, files map[string]string) {
	t.Helper()
	if err := os.MkdirAll(path, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, b := range files {
		if err := os.WriteFile(filepath.Join(path, name), []byte(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestPowerLoss cuts the power at random moments: of what was not flushed the disk keeps some, or nothing. Every
// acknowledged commit is there afterwards, and every commit whole.
func TestPowerLoss(t *testing.T) {
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 1))
	mem := vfs.NewCrashableMem()
	if err := errors.Join(mem.MkdirAll("/home", 0o700), syncDir(mem, "/")); err != nil {
		t.Fatal(err)
	}
	acked, last := int64(0), int64(0)
	for round := range 40 {
		s, err := open("/home/db", Options{}, mem)
		if err != nil {
			t.Fatalf("seed %d, round %d: %v", seed, round, err)
		}
		go s.write()
		last = 0
		err = s.Scan("a", "", func(key string, _ []byte) error {
			n, err := strconv.ParseInt(key, 10, 64)
			if n != last+1 {
				t.Fatalf("seed %d, round %d: commit %d after %d", seed, round, n, last)
			}
			last = n
			return err
		})
		if err != nil || last < acked || last > acked+1 {
			t.Fatalf("seed %d, round %d: the last commit is %d, acknowledged was %d: %v", seed, round, last, acked, err)
		}
		if last > 0 {
			if v, err := s.Get("b", fmt.Sprintf("%012d", last)); err != nil || string(v) != string(numbered(last)[1].Value) {
				t.Fatalf("seed %d, round %d: commit %d is torn: %v", seed, round, last, err)
			}
		}
		crash := make(chan *vfs.MemFS)
		for range rnd.IntN(400) {
			last++
			if err := s.Commit(ctx, numbered(last)...); err != nil {
				t.Fatal(err)
			}
		}
		acked = last
		go func() { // during one more commit
			crash <- mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rnd.IntN(101), RNG: rnd})
		}()
		if err := s.Commit(ctx, numbered(last+1)...); err != nil {
			t.Fatal(err)
		}
		mem = <-crash
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d commits acknowledged over 40 power losses", acked)
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
	s, err := open(filepath.Join(t.TempDir(), "db"), Options{}, vfs.Default)
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
	if st.Commits != small+large || st.Transactions != 1+large || st.LargestGroup != small {
		t.Errorf("stats %+v: want %d commits together and %d alone", st, small, large)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestOneFlushPerCommit counts what the disk was asked for.
func TestOneFlushPerCommit(t *testing.T) {
	s := must(t, filepath.Join(t.TempDir(), "db"))
	before := s.Stats()
	const n = 200
	for i := range n {
		if err := s.Commit(ctx, rec("a", fmt.Sprint(i%3), strings.Repeat("v", 500))); err != nil {
			t.Fatal(err)
		}
	}
	after := s.Stats()
	if syncs, bytes := after.Syncs-before.Syncs, after.Written-before.Written; syncs != n || bytes < 500*n || bytes > 650*n {
		t.Errorf("%d commits of 500 bytes: %d flushes, %d bytes", n, syncs, bytes)
	}
}

// TestDamage changes and cuts every file everywhere. Either Open or Check says so, or the part was of no use and all records
// are as before; the store never loses anything silently.
func TestDamage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	s := must(t, path)
	want := make(map[string]string)
	for round := range 2 { // so that there are a table and a log
		for i := range 40 {
			key, value := fmt.Sprintf("%d/%04d", round, i), strings.Repeat(string(rune('a'+i%20)), 90+i)
			want[key] = value
			if err := s.Commit(ctx, rec("a", key, value)); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if round == 0 {
			s = must(t, path)
		}
	}
	good := contents(t, path)
	noticed := make(map[string]int)
	try := func(name, what, bad string) {
		files := maps.Clone(good)
		files[name] = bad
		dir := filepath.Join(t.TempDir(), "db")
		writeFolder(t, dir, files)
		s, err := Open(dir, Options{})
		if err != nil {
			if !errors.Is(err, ErrNotStore) {
				t.Errorf("%s %s: %v", name, what, err)
			}
			noticed[name]++
			return
		}
		got := make(map[string]string)
		if err := errors.Join(s.Scan("a", "", func(k string, v []byte) error { got[k] = string(v); return nil }), s.Check()); err != nil {
			noticed[name]++
		} else if !maps.Equal(got, want) {
			t.Errorf("%s %s: %d records of %d are left and nobody noticed", name, what, len(got), len(want))
		}
		_ = s.Close()
	}
	for name, b := range good {
		used := len(strings.TrimRight(b, "\x00"))
		for _, size := range []int{0, used / 3, used / 2, used - 1} {
			if size >= 0 {
				try(name, fmt.Sprint("cut to ", size), b[:size])
			}
		}
		step := max(1, used/25)
		for off := 0; off < used; off += step {
			bad := []byte(b)
			bad[off] ^= 0xa5
			try(name, fmt.Sprint("changed at ", off), string(bad))
		}
	}
	tables, logs := 0, 0
	for name, n := range noticed {
		if strings.HasSuffix(name, ".sst") {
			tables += n
		}
		if strings.HasSuffix(name, ".log") {
			logs += n
		}
	}
	if tables < 10 || logs < 10 || noticed[markName] == 0 {
		t.Errorf("the test is too small: %v", noticed)
	}
}
