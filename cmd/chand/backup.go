package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/eschaton-network/chand/chand/backup"
	"github.com/eschaton-network/chand/store"
	"github.com/eschaton-network/chand/types"
)

const (
	// backupFlush is how long a commit may wait to be flushed to the backup: a flush for every commit would slow the store's disk.
	backupFlush = 200 * time.Millisecond
	// backupRetry is the pause before a file that could not be written is begun anew.
	backupRetry = 10 * time.Second
	// backupQueue bounds the bytes that wait for the file. Beyond it the file is begun anew with a snapshot.
	backupQueue = 64 << 20
	// backupSlack is how much longer than its snapshot a file may grow before it is begun anew.
	backupSlack = 64 << 20
)

// fileBackup is the goroutine that follows the store into a file.
type fileBackup struct {
	path   string
	store  *store.Store
	secret [32]byte
	log    *slog.Logger
	wake   chan struct{} // holds one

	mu    sync.Mutex
	queue []types.Write // guarded by mu; committed and not in the file yet
	size  int           // guarded by mu; bytes of queue
	lost  bool          // guarded by mu; the queue was full: only a new snapshot helps
	state backupState   // guarded by mu
}

// backupState is what is shown of a file.
type backupState struct {
	Bytes   int64
	Time    types.Time
	Problem string
}

var errBehind = errors.New("the backup's disk is slower than the store's: it is begun anew")

func newFileBackup(path string, s *store.Store, secret [32]byte, log *slog.Logger) *fileBackup {
	return &fileBackup{path: path, store: s, secret: secret, log: log, wake: make(chan struct{}, 1)}
}

// run follows until ctx ends; what was committed by then is in the file when it returns.
func (f *fileBackup) run(ctx context.Context) {
	defer f.store.Tail(f.take)()
	for {
		err := f.follow(ctx)
		if err == nil {
			return
		}
		f.mu.Lock()
		f.state.Problem = err.Error()
		f.mu.Unlock()
		f.log.Error("the backup is not up to date; it is tried again", "file", f.path, "err", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(backupRetry):
		}
	}
}

// take is called by the store for every group of commits, in order.
func (f *fileBackup) take(t store.Transaction) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.lost {
		return
	}
	for _, w := range t.Writes {
		f.size += len(w.Bucket) + len(w.Key) + len(w.Value)
		if w.Value != nil {
			w.Value = append([]byte{}, w.Value...)
		}
		f.queue = append(f.queue, w)
	}
	if f.size > backupQueue {
		f.queue, f.size, f.lost = nil, 0, true
	}
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

func (f *fileBackup) drain() ([]types.Write, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.lost {
		return nil, errBehind
	}
	w := f.queue
	f.queue, f.size = nil, 0
	return w, nil
}

// follow writes one file after the other. It returns nil when ctx has ended.
func (f *fileBackup) follow(ctx context.Context) error {
	for {
		if again, err := f.file(ctx); err != nil || !again {
			return err
		}
	}
}

// file writes one archive: a snapshot, which takes the place of the file before once it is whole, and what is committed from then on. again tells that it has
// grown enough to be begun anew.
func (f *fileBackup) file(ctx context.Context) (again bool, err error) {
	f.mu.Lock()
	f.queue, f.size, f.lost = nil, 0, false // the snapshot has it
	f.mu.Unlock()
	out, err := os.OpenFile(f.path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	buf := bufio.NewWriterSize(out, 1<<20)
	flush := func() error { return errors.Join(buf.Flush(), out.Sync()) }
	w, err := backup.NewWriter(buf, f.secret, rand.Reader)
	if err != nil {
		return false, err
	}
	if err := f.store.Snapshot(w.Snapshot); err != nil {
		return false, err
	}
	now := types.Time(time.Now().Unix())
	if err := errors.Join(w.Complete(now), flush()); err != nil {
		return false, err
	}
	if err := errors.Join(os.Rename(f.path+".new", f.path), syncFolder(filepath.Dir(f.path))); err != nil {
		return false, err
	}
	f.done(w.Bytes, now)
	limit := 2*w.Bytes + backupSlack
	for w.Bytes < limit {
		last := false
		select {
		case <-f.wake:
		case <-ctx.Done():
			last = true
		}
		if !last {
			select { // let more come
			case <-time.After(backupFlush):
			case <-ctx.Done():
			}
		}
		writes, err := f.drain()
		if err != nil {
			return false, err
		}
		now := types.Time(time.Now().Unix())
		if len(writes) > 0 { // all in one record, whose size the queue bounds: half a commit must never be restored
			if err := w.Commit(now, writes); err != nil {
				return false, err
			}
		}
		if err := flush(); err != nil {
			return false, err
		}
		f.done(w.Bytes, now)
		if last {
			return false, nil
		}
	}
	return true, nil
}

func (f *fileBackup) done(bytes int64, now types.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.state = backupState{Bytes: bytes, Time: now}
}

// status is what is shown: the state, and how many writes are not in the file yet.
func (f *fileBackup) status() (backupState, int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.state, len(f.queue)
}

func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("flush %s: %w", dir, err)
	}
	return nil
}
