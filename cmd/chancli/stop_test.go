package main

import (
	"context"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestStopWaitsForTheHome(t *testing.T) {
	a := &app{home: t.TempDir()}
	if err := a.waitStopped(t.Context()); err != nil {
		t.Errorf("a home without a lock: %v", err)
	}
	f, err := os.Create(filepath.Join(a.home, lockFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := a.waitStopped(gone); err == nil {
		t.Error("the home is in use, and the wait ended without an error")
	}
	done := make(chan error, 1)
	go func() { done <- a.waitStopped(t.Context()) }()
	f.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
