package main

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"testing"

	"github.com/eschaton-network/chand/internal/homelock"
)

// holdHome names the home that this test's binary, run again as another process, locks until its input ends.
const holdHome = "CHANCLI_TEST_HOLD"

func TestStopWaitsForTheHome(t *testing.T) {
	if home := os.Getenv(holdHome); home != "" {
		if _, err := homelock.Take(home); err != nil {
			t.Fatal(err)
		}
		os.Stdout.WriteString("taken\n")
		bufio.NewReader(os.Stdin).ReadByte()
		return
	}
	a := &app{home: t.TempDir()}
	if err := a.waitStopped(t.Context()); err != nil {
		t.Errorf("a home without a lock: %v", err)
	}
	daemon := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	daemon.Env = append(os.Environ(), holdHome+"="+a.home)
	in, err := daemon.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := daemon.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	if l, err := bufio.NewReader(out).ReadString('\n'); l != "taken\n" {
		t.Fatalf("%q, %v", l, err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := a.waitStopped(gone); err == nil {
		t.Error("the home is in use, and the wait ended without an error")
	}
	done := make(chan error, 1)
	go func() { done <- a.waitStopped(t.Context()) }()
	in.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
	daemon.Wait()
}
