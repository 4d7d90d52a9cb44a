package store

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/eschaton-network/chand/store/internal/limit"
)

const (
	// DefaultLockTimeout is how long Open waits for another process to let go of the folder: enough for one that is just
	// exiting, short enough that a second daemon is told at once.
	DefaultLockTimeout = 300 * time.Millisecond
	lockPoll           = 10 * time.Millisecond

	// memTableBytes is how much is collected in memory before it becomes a file. What is overwritten or deleted within it is
	// written once, to the log. There are at most two.
	memTableBytes = 4 << 20
	// cacheBytes of blocks that were read. The state that counts is in the daemon's memory; reads are a start, a listing or
	// an idempotency key.
	cacheBytes = 4 << 20
	// maxOpenFiles leaves the process's descriptors to the network; a file has 2 MB and more.
	maxOpenFiles = 128
	// bloomBits a key: asking for what is not there (an idempotency key, a hash) reads a block in one of a hundred cases.
	bloomBits = 10
)

var (
	// ErrClosed is returned by everything after Close.
	ErrClosed = errors.New("the store is closed")
	// ErrLocked means that another process has the folder open.
	ErrLocked = errors.New("the store is in use")
	// ErrNewer means that a newer program wrote the store.
	ErrNewer = errors.New("the store was made by a newer chand")
	// ErrNotStore means that the path holds something else, or a store that is damaged beyond reading.
	ErrNotStore = errors.New("not a chand store")
	// ErrPoisoned is wrapped by what Commit returns after an I/O error.
	ErrPoisoned = errors.New("the store failed to write")
	// ErrReadOnly is returned by Commit of a store that was opened for reading.
	ErrReadOnly = errors.New("the store is open for reading only")
	// ErrBadWrite is wrapped when a write itself is impossible (empty key, reserved bucket, too large). Nothing was
	// written and the store goes on.
	ErrBadWrite = limit.ErrBadWrite
)

// Options of Open. The zero value is what the daemon uses.
type Options struct {
	// LockTimeout is how long to wait for the lock; 0 means DefaultLockTimeout.
	LockTimeout time.Duration
	// ReadOnly opens what is there and changes nothing.
	ReadOnly bool
}

// Store is an open folder. Safe for concurrent use.
type Store struct {
	path     string
	readOnly bool
	disk     *disk
	lock     *pebble.Lock
	mark     *mark         // used by Open, then by the writer, then by Close
	wake     chan struct{} // holds one token when the queue may have grown; the writer takes it
	done     chan struct{} // closed by the writer when it has ended
	broken   chan struct{} // closed when the store is poisoned

	gate sync.RWMutex // held for reading while db is used for reading; for writing while it is closed
	db   *pebble.DB   // nil after Close; guarded by gate (the writer needs no lock: Close waits for it)

	mu     sync.Mutex
	queue  []*request // guarded by mu; taken by the writer in order
	closed bool       // guarded by mu
	failed error      // guarded by mu; set once: the store is poisoned
	stats  Stats      // guarded by mu
	tails  []*tail    // guarded by mu; replaced, never changed in place
}

// Open opens the folder or creates it (mode 0700), takes its lock and checks its version.
// Errors: ErrLocked, ErrNewer, ErrNotStore, or what the file system said.
func Open(path string, opts Options) (*Store, error) {
	s, err := open(path, opts, vfs.Default)
	if err != nil {
		return nil, err
	}
	go s.write()
	return s, nil
}

// open does all of Open but start the writer. fsys is the disk, or a test's.
func open(path string, opts Options, fsys vfs.FS) (s *Store, err error) {
	if err := prepare(fsys, path, opts.ReadOnly); err != nil {
		return nil, fmt.Errorf("open store %s: %w", path, err)
	}
	s = &Store{path: path, readOnly: opts.ReadOnly, wake: make(chan struct{}, 1), done: make(chan struct{}), broken: make(chan struct{})}
	s.disk = &disk{FS: fsys, poison: s.poison}
	if s.lock, err = takeLock(fsys, path, opts.LockTimeout); err != nil {
		return nil, err
	}
	defer func() {
		if p := recover(); p != nil { // Pebble panics on files that make no sense
			err = fmt.Errorf("%w: %s: damaged: %v: move it away, or restore a backup of it", ErrNotStore, path, p)
		}
		if err != nil {
			err = errors.Join(fmt.Errorf("open store %s: %w", path, err), s.release(s.db))
			s = nil
		}
	}()
	if s.mark, err = openMark(s.disk, path, opts.ReadOnly); err != nil {
		return s, err
	}
	if s.db, err = pebble.Open(path, s.engine()); err != nil {
		return s, openError(err)
	}
	if err = s.compareMark(); err == nil {
		s.disk.live.Store(true)
	}
	return s, err
}

// prepare sees that the path is free for a store or holds one, and touches nothing else.
func prepare(fsys vfs.FS, path string, readOnly bool) error {
	info, err := fsys.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !readOnly:
		return errors.Join(fsys.MkdirAll(path, 0o700), syncDir(fsys, filepath.Dir(path)))
	case err != nil:
		return err
	case !info.IsDir():
		return fmt.Errorf("%w: a file, and a store is a folder: move it away, or restore a backup", ErrNotStore)
	}
	names, err := fsys.List(path)
	if err != nil || slices.Contains(names, markName) {
		return err
	}
	slices.Sort(names)
	for _, name := range names {
		if name != lockName && name != markName+newSuffix { // they are left by a kill while a store was made
			return fmt.Errorf("%w: the folder has %.40q and no file %s: move it away, or restore a backup", ErrNotStore, name, markName)
		}
	}
	return nil
}

// lockName is Pebble's.
const lockName = "LOCK"

func takeLock(fsys vfs.FS, path string, wait time.Duration) (*pebble.Lock, error) {
	if wait <= 0 {
		wait = DefaultLockTimeout
	}
	for until := time.Now().Add(wait); ; time.Sleep(lockPoll) {
		l, err := pebble.LockDirectory(path, fsys)
		if err == nil {
			return l, nil
		}
		if errors.As(err, new(*fs.PathError)) {
			return nil, fmt.Errorf("open store %s: %w", path, err) // the lock's file, not the lock
		}
		if time.Now().After(until) {
			return nil, fmt.Errorf("%w: %s is locked by another process: stop the daemon that has this home, or use another home", ErrLocked, path)
		}
	}
}

// engine sets Pebble up: small in memory, one flush a commit, nothing on standard error.
func (s *Store) engine() *pebble.Options {
	o := &pebble.Options{
		FS: s.disk, Lock: s.lock, ReadOnly: s.readOnly, FormatMajorVersion: engineFormat,
		ErrorIfNotExists: s.readOnly || s.mark.seq > 0,
		CacheSize:        cacheBytes, MemTableSize: memTableBytes, MemTableStopWritesThreshold: 2, MaxOpenFiles: maxOpenFiles,
		CompactionConcurrencyRange: func() (lower, upper int) { return 1, 1 },
		Logger:                     engineLog{s}, Merger: counting,
		EventListener: &pebble.EventListener{
			BackgroundError: func(err error) { s.disk.halt(err) },
			DataCorruption:  s.damaged,
		},
	}
	for i := range o.Levels {
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(bloomBits)
	}
	return o
}

// damaged hears of a file that a read found damaged, on the goroutine that reads: it goes on, with an error. What the engine
// merges from it would be wrong, so nothing more is written.
func (s *Store) damaged(i pebble.DataCorruptionInfo) {
	if s.disk.live.Load() {
		_ = s.poison(fmt.Errorf("damaged: %s: %w", i.Path, i.Details))
	}
}

// engineFormat is the newest format of Pebble's release: among others, a log of this format tells damage in its middle from its end.
const engineFormat = pebble.FormatValueSeparation

// openError tells a disk that does not serve from files that are damaged.
func openError(err error) error {
	for _, e := range []error{fs.ErrPermission, syscall.ENOSPC, syscall.EIO, syscall.EMFILE, syscall.EROFS} {
		if errors.Is(err, e) {
			return err
		}
	}
	return fmt.Errorf("%w: damaged: %w: move it away, or restore a backup of it", ErrNotStore, err)
}

// syncDir makes a new name durable.
func syncDir(fsys vfs.FS, dir string) error {
	d, err := fsys.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Close ends the store: commits that wait are still written, later ones get ErrClosed. It waits for scans that run.
// Calling it again does nothing. A poisoned store stays locked until the process ends: its engine was stopped in the middle.
func (s *Store) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.signal()
	select {
	case <-s.done:
	case <-s.broken:
		return nil
	}
	s.gate.Lock()
	defer s.gate.Unlock()
	if s.db == nil {
		return nil
	}
	s.disk.live.Store(false) // what fails from here on is an error of Close's
	db := s.db
	s.db = nil
	closed := make(chan error, 1)
	go func() {
		var err error
		if !s.readOnly {
			err = s.mark.write(s.mark.seq)
		}
		closed <- errors.Join(err, s.release(db))
	}()
	select {
	case err := <-closed:
		return err
	case <-s.broken: // a moment ago something failed, and stands still within the engine: its end would be waited for without end
		return nil
	}
}

// release closes what is open; db may be nil.
func (s *Store) release(db *pebble.DB) (err error) {
	s.disk.live.Store(false)
	if db != nil {
		err = db.Close()
	}
	if s.mark != nil {
		err = errors.Join(err, s.mark.file.Close())
	}
	return errors.Join(err, s.lock.Close())
}

// signal tells the writer to look at the queue.
func (s *Store) signal() {
	select {
	case s.wake <- struct{}{}:
	default: // a token is there already
	}
}
