package store

import (
	"fmt"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// disk is the file system that the engine writes through. It counts what is written and flushed, and it stops the engine at the
// first error: Pebble would try again or end the process, and neither may happen on a disk of which nobody knows what it holds.
type disk struct {
	vfs.FS
	poison  func(error) error
	live    atomic.Bool // false while the store is opened and closed: errors are returned then
	written atomic.Uint64
	syncs   atomic.Uint64
}

// halt poisons the store and keeps the goroutine that saw the error for good: what it would do next builds on a write that failed.
func (d *disk) halt(err error) {
	if !d.live.Load() {
		return
	}
	_ = d.poison(err)
	select {}
}

// check passes an error on while the store opens or closes, and halts afterwards.
func (d *disk) check(err error) error {
	if err != nil {
		d.halt(err)
	}
	return err
}

func (d *disk) wrap(f vfs.File, err error) (vfs.File, error) {
	if d.check(err) != nil {
		return nil, err
	}
	return &diskFile{f, d}, nil
}

func (d *disk) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return d.wrap(d.FS.Create(name, c))
}

func (d *disk) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	return d.wrap(d.FS.OpenReadWrite(name, c, o...))
}

func (d *disk) OpenDir(name string) (vfs.File, error) { return d.wrap(d.FS.OpenDir(name)) }

func (d *disk) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return d.wrap(d.FS.ReuseForWrite(from, to, c))
}

func (d *disk) Rename(from, to string) error { return d.check(d.FS.Rename(from, to)) }

// Unwrap keeps Pebble from looking for the wrapped file system behind our back.
func (d *disk) Unwrap() vfs.FS { return d.FS }

// diskFile is a file that is written.
type diskFile struct {
	vfs.File
	disk *disk
}

func (f *diskFile) Write(b []byte) (int, error) {
	n, err := f.File.Write(b)
	f.disk.written.Add(uint64(n))
	return n, f.disk.check(err)
}

func (f *diskFile) WriteAt(b []byte, off int64) (int, error) {
	n, err := f.File.WriteAt(b, off)
	f.disk.written.Add(uint64(n))
	return n, f.disk.check(err)
}

func (f *diskFile) Sync() error {
	f.disk.syncs.Add(1)
	return f.disk.check(f.File.Sync())
}

func (f *diskFile) SyncData() error {
	f.disk.syncs.Add(1)
	return f.disk.check(f.File.SyncData())
}

// SyncTo starts writing back and waits for nothing, except where the system can only flush.
func (f *diskFile) SyncTo(n int64) (full bool, err error) {
	full, err = f.File.SyncTo(n)
	if full {
		f.disk.syncs.Add(1)
	}
	return full, f.disk.check(err)
}

// engineLog is silent: what counts comes as an error or an event.
type engineLog struct{ s *Store }

func (engineLog) Infof(string, ...any)  {}
func (engineLog) Errorf(string, ...any) {}

// Fatalf must not return. While the store is opened the panic ends that; later the engine is stopped where it is.
func (l engineLog) Fatalf(format string, args ...any) {
	err := fmt.Errorf(format, args...)
	l.s.disk.halt(err)
	panic(err)
}
