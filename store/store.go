package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/eschaton-network/chand/store/internal/limit"
)

const (
	// DefaultLockTimeout is how long Open waits for another process to let go of the file: enough for one that is just
	// exiting, short enough that a second daemon is told at once.
	DefaultLockTimeout = 300 * time.Millisecond
	// initialMmap is address space, not disk: while the file is smaller, growing it needs no new mapping, and so a
	// long Scan or Backup does not hold up the writer.
	initialMmap = 1 << 30
)

var (
	// ErrClosed is returned by everything after Close.
	ErrClosed = errors.New("the store is closed")
	// ErrLocked means that another process has the file open.
	ErrLocked = errors.New("the store is in use")
	// ErrNewer means that a newer program wrote the file.
	ErrNewer = errors.New("the store was made by a newer chand")
	// ErrNotStore means that the file is something else, or is damaged beyond reading.
	ErrNotStore = errors.New("not a chand store")
	// ErrPoisoned is wrapped by what Commit returns after an I/O error.
	ErrPoisoned = errors.New("the store failed to write")
	// ErrBadWrite is wrapped when a write itself is impossible (empty key, reserved bucket, too large). Nothing was
	// written and the store goes on.
	ErrBadWrite = limit.ErrBadWrite
)

// Options of Open. The zero value is what the daemon uses.
type Options struct {
	// LockTimeout is how long to wait for the file's lock; 0 means DefaultLockTimeout.
	LockTimeout time.Duration
}

// Store is an open file. Safe for concurrent use.
type Store struct {
	path string
	db   *bbolt.DB
	wake chan struct{} // holds one token when the queue may have grown; the writer takes it
	done chan struct{} // closed by the writer when it has ended

	mu     sync.Mutex
	queue  []*request // guarded by mu; taken by the writer in order
	closed bool       // guarded by mu
	failed error      // guarded by mu; set once by the writer: the store is poisoned
	stats  Stats      // guarded by mu
}

// Open opens the file or creates it (mode 0600), takes its lock, checks its version and brings it up to the present one.
// Errors: ErrLocked, ErrNewer, ErrNotStore, or what the file system said.
func Open(path string, opts Options) (*Store, error) {
	s, err := open(path, opts, os.OpenFile)
	if err != nil {
		return nil, err
	}
	go s.write()
	return s, nil
}

// openFile is os.OpenFile, or a test's.
type openFile func(string, int, os.FileMode) (*os.File, error)

// open does all of Open but start the writer.
func open(path string, opts Options, file openFile) (s *Store, err error) {
	// bbolt panics on pages that make no sense, and reading beyond the end of a cut file is a memory fault.
	var db *bbolt.DB
	var handle *os.File
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			s, err = nil, fmt.Errorf("%w: %s: damaged: %v: move the file away, or restore a backup of it", ErrNotStore, path, p)
			if db != nil {
				err = errors.Join(err, db.Close())
			} else if handle != nil { // bbolt.Open itself gave up: its mapping, and with it the lock, stays until we exit
				err = errors.Join(err, handle.Close())
			}
		}
	}()
	if opts.LockTimeout <= 0 {
		opts.LockTimeout = DefaultLockTimeout
	}
	_, statErr := os.Stat(path)
	db, err = bbolt.Open(path, 0o600, &bbolt.Options{
		Timeout: opts.LockTimeout,
		// The array freelist is rewritten in order at every commit and slows down as the file fragments.
		FreelistType:    bbolt.FreelistMapType,
		InitialMmapSize: initialMmap,
		OpenFile: func(name string, flag int, mode os.FileMode) (*os.File, error) {
			handle, err = file(name, flag, mode)
			return handle, err
		},
		// NoFreelistSync, NoGrowSync and NoSync stay off. The first would make every start read the whole file to find
		// free pages, the other two are not safe against power loss on ext4.
	})
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return nil, fmt.Errorf("%w: %s is locked by another process: stop the daemon that has this home, or use another home", ErrLocked, path)
	case errors.Is(err, bolterrors.ErrInvalid), errors.Is(err, bolterrors.ErrChecksum), errors.Is(err, bolterrors.ErrVersionMismatch):
		return nil, fmt.Errorf("%w: %s: %w: move the file away, or restore a backup of it", ErrNotStore, path, err)
	case err != nil:
		return nil, fmt.Errorf("open store %s: %w", path, err)
	}
	if os.IsNotExist(statErr) {
		err = syncDir(filepath.Dir(path))
	}
	if err == nil {
		err = migrate(db, migrations)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open store %s: %w", path, err), db.Close())
	}
	return &Store{path: path, db: db, wake: make(chan struct{}, 1), done: make(chan struct{})}, nil
}

// syncDir makes a new file's name durable; bbolt flushes only the file.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Close ends the store: commits that wait are still written, later ones get ErrClosed. It waits for scans that run.
// Calling it again does nothing.
func (s *Store) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.signal()
	<-s.done
	return s.db.Close()
}

// signal tells the writer to look at the queue.
func (s *Store) signal() {
	select {
	case s.wake <- struct{}{}:
	default: // a token is there already
	}
}
