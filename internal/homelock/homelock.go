// Package homelock makes a process the only one that works on a folder, and tells others which one it is. The lock is the
// kernel's: it ends with the process, however that ends, and the kernel names the holder, so that no stale file can.
package homelock

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// File is the locked file's name within the folder.
const File = "chand.lock"

// HeldError says that another process has the lock.
type HeldError struct {
	Dir string
	PID int
}

func (e *HeldError) Error() string {
	return fmt.Sprintf("process %d has the lock of %s", e.PID, e.Dir)
}

// Take makes the folder and locks it until the file is closed or the process ends. The error is a *HeldError when another
// process has it. Within one process the lock does not exclude anything, and opening the file elsewhere in it loses the lock at
// that one's close: only Take and Holder may touch it.
func Take(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, File), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	err = syscall.FcntlFlock(f.Fd(), syscall.F_SETLK, &syscall.Flock_t{Type: syscall.F_WRLCK})
	if err == nil {
		return f, nil
	}
	if errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EACCES) {
		pid, _ := holder(f)
		err = &HeldError{dir, pid}
	}
	return nil, errors.Join(err, f.Close())
}

// Holder returns the process that has the lock of a folder, 0 when there is none. It does not take the lock, so that it never
// stands in the way of one that starts.
func Holder(dir string) (pid int, err error) {
	f, err := os.Open(filepath.Join(dir, File))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return holder(f)
}

func holder(f *os.File) (int, error) {
	l := syscall.Flock_t{Type: syscall.F_WRLCK}
	if err := syscall.FcntlFlock(f.Fd(), syscall.F_GETLK, &l); err != nil {
		return 0, err
	}
	if l.Type == syscall.F_UNLCK {
		return 0, nil
	}
	return int(l.Pid), nil
}

// Process returns a handle on the process that has the lock, nil when there is none. The handle cannot come to mean
// another process later.
func Process(dir string) (*os.Process, error) {
	for {
		pid, err := Holder(dir)
		if err != nil || pid == 0 {
			return nil, err
		}
		p, err := os.FindProcess(pid)
		if err != nil {
			return nil, err
		}
		switch again, err := Holder(dir); { // it lived while the handle was made
		case err != nil:
			return nil, err
		case again == pid:
			return p, nil
		}
		p.Release()
	}
}
