package store

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/eschaton-network/chand/types"
)

const (
	childEnv     = "CHAND_STORE_CHILD" // path of the store that the child writes to
	childFirst   = "CHAND_STORE_FIRST" // first number it may use
	childWriters = 24
)

func TestMain(m *testing.M) {
	if path := os.Getenv(childEnv); path != "" {
		if err := child(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// child commits numbered records until it is killed, and prints each number once its commit returned.
func child(path string) error {
	s, err := Open(path, Options{})
	if err != nil {
		return err
	}
	first, err := strconv.ParseInt(os.Getenv(childFirst), 10, 64)
	if err != nil {
		return err
	}
	var next atomic.Int64
	next.Store(first)
	var wg sync.WaitGroup
	for range childWriters {
		wg.Go(func() {
			for {
				n := next.Add(1)
				if err := s.Commit(context.Background(), numbered(n)...); err != nil {
					fmt.Fprintln(os.Stderr, err)
					os.Exit(1)
				}
				fmt.Fprintln(os.Stdout, n) // one write(2), not buffered
			}
		})
	}
	wg.Wait()
	return nil
}

// numbered is one batch: three records of different sizes in three buckets that belong together, and the removal of an older batch's first.
func numbered(n int64) []types.Write {
	key := fmt.Sprintf("%012d", n)
	return []types.Write{
		{Bucket: "a", Key: key, Value: []byte(key)},
		{Bucket: "b", Key: key, Value: []byte(strings.Repeat(key, int(n%300)))},
		{Bucket: "c", Key: strconv.FormatInt(n%50, 10), Value: []byte(key)},
		{Bucket: "d", Key: key, Value: []byte(key)},
		{Bucket: "d", Key: key},
	}
}

// TestKill kills a writing process at random moments, again and again on one file.
func TestKill(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "db")
	acked := make(map[int64]bool)
	var first int64
	for round := range 12 {
		more := kill(t, exe, path, first, 1+rand.IntN(900))
		for _, n := range more {
			acked[n] = true
		}
		first = verify(t, path, acked)
		if t.Failed() {
			t.Fatalf("after round %d", round)
		}
	}
	t.Logf("%d acknowledged commits, all there after 12 kills", len(acked))
}

// kill lets a child acknowledge some commits, kills it while it goes on, and returns all that it acknowledged.
func kill(t *testing.T, exe, path string, first int64, after int) (acked []int64) {
	t.Helper()
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), childEnv+"="+path, childFirst+"="+strconv.FormatInt(first, 10))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() { // to the end: what was printed before the kill was acknowledged
		n, err := strconv.ParseInt(lines.Text(), 10, 64)
		if err != nil {
			t.Fatalf("child printed %q", lines.Text())
		}
		if acked = append(acked, n); len(acked) == after {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(acked) < after {
		t.Fatalf("child ended by itself after %d commits: %v", len(acked), cmd.Wait())
	}
	if err := cmd.Wait(); err == nil {
		t.Fatal("child was not killed")
	}
	return acked
}

// verify wants every acknowledged batch whole, and no other batch torn. It returns the largest number seen.
func verify(t *testing.T, path string, acked map[int64]bool) (last int64) {
	t.Helper()
	s := must(t, path)
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	if err := s.Check(); err != nil {
		t.Error(err)
	}
	seen := make(map[int64]bool)
	err := s.Scan("a", "", func(key string, _ []byte) error {
		n, err := strconv.ParseInt(key, 10, 64)
		seen[n], last = true, max(last, n)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for n := range acked {
		if !seen[n] {
			t.Errorf("commit %d was acknowledged and is lost", n)
		}
	}
	count := 0
	err = s.Scan("b", "", func(key string, v []byte) error {
		n, err := strconv.ParseInt(key, 10, 64)
		if want := string(numbered(n)[1].Value); !seen[n] || string(v) != want {
			t.Errorf("commit %d is torn: first record there %v, second has %d bytes of %d", n, seen[n], len(v), len(want))
		}
		count++
		return err
	})
	if err != nil || count != len(seen) {
		t.Errorf("%d first records, %d second ones, %v", len(seen), count, err)
	}
	for bucket, max := range map[string]int{"c": 50, "d": 0} {
		n := 0
		if err := s.Scan(bucket, "", func(string, []byte) error { n++; return nil }); err != nil || n > max {
			t.Errorf("bucket %s has %d records, %v; want at most %d", bucket, n, err, max)
		}
	}
	return last
}
