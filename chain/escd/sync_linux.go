package escd

import (
	"os"
	"syscall"
)

// syncData makes a file's contents durable; its times may be lost, which saves a second write to a growing file.
func syncData(f *os.File) error {
	for {
		if err := syscall.Fdatasync(int(f.Fd())); err != syscall.EINTR {
			return err
		}
	}
}
