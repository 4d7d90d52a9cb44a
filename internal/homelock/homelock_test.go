package homelock

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"testing"
)

// The lock excludes other processes only, so the other one is this test's binary again.
const childDir = "HOMELOCK_TEST_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		if _, err := Take(dir); err != nil {
			os.Exit(1)
		}
		os.Stdout.WriteString("taken\n")
		bufio.NewReader(os.Stdin).ReadByte() // until it is killed
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestHolder(t *testing.T) {
	dir := t.TempDir()
	if p, err := Process(dir); p != nil || err != nil {
		t.Fatalf("nobody has it: %v, %v", p, err)
	}
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), childDir+"="+dir)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	in, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	if l, err := bufio.NewReader(out).ReadString('\n'); l != "taken\n" {
		t.Fatalf("%q, %v", l, err)
	}
	var held *HeldError
	if _, err := Take(dir); !errors.As(err, &held) || held.PID != child.Process.Pid {
		t.Errorf("taken twice: %v", err)
	}
	p, err := Process(dir)
	if err != nil || p == nil || p.Pid != child.Process.Pid {
		t.Fatalf("%v, %v: want process %d", p, err, child.Process.Pid)
	}
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	child.Wait()
	if pid, err := Holder(dir); pid != 0 || err != nil {
		t.Errorf("a dead process has it: %d, %v", pid, err)
	}
	f, err := Take(dir)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
}
