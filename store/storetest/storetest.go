// Package storetest is the test suite that every store passes: the folder on disk and its memory twin.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/eschaton-network/chand/types"
)

// Store is what the daemon needs of a store.
type Store interface {
	Commit(ctx context.Context, writes ...types.Write) error
	Get(bucket, key string) ([]byte, error)
	Scan(bucket, prefix string, fn func(key string, value []byte) error) error
}

// Open makes a fresh store for one test, and a function that ends the handle used last and opens the same data again.
// badWrite is the error that a refused write wraps.
type Open func(t *testing.T) (s Store, reopen func() Store)

// Run runs the suite.
func Run(t *testing.T, open Open, badWrite error) {
	tests := []struct {
		name string
		run  func(*testing.T, Open)
	}{
		{"missing", testMissing},
		{"round trip and reopen", testRoundTrip},
		{"order in one commit", testOrder},
		{"slices may be reused", testCopies},
		{"scan", testScan},
		{"scan is one snapshot", testScanSnapshot},
		{"cancelled", testCancelled},
		{"concurrent", testConcurrent},
		{"model", testModel},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { tt.run(t, open) })
	}
	t.Run("refused", func(t *testing.T) { testRefused(t, open, badWrite) })
}

func put(bucket, key, value string) types.Write {
	return types.Write{Bucket: bucket, Key: key, Value: []byte(value)}
}

func commit(t *testing.T, s Store, w ...types.Write) {
	t.Helper()
	if err := s.Commit(context.Background(), w...); err != nil {
		t.Fatalf("commit: %v", err)
	}
}

func wantValue(t *testing.T, s Store, bucket, key string, want []byte) {
	t.Helper()
	got, err := s.Get(bucket, key)
	if err != nil || string(got) != string(want) || (got == nil) != (want == nil) {
		t.Fatalf("get %s/%s: %q (nil %v), %v; want %q (nil %v)", bucket, key, got, got == nil, err, want, want == nil)
	}
}

// dump reads a bucket by Scan.
func dump(s Store, bucket, prefix string) (keys []string, m map[string]string, err error) {
	m = make(map[string]string)
	err = s.Scan(bucket, prefix, func(k string, v []byte) error {
		keys = append(keys, k)
		m[k] = string(v)
		return nil
	})
	return keys, m, err
}

func testMissing(t *testing.T, open Open) {
	s, _ := open(t)
	wantValue(t, s, "none", "k", nil)
	commit(t, s, types.Write{Bucket: "none", Key: "k"}) // deleting what is not there
	commit(t, s)                                        // nothing at all
	if keys, _, err := dump(s, "none", ""); err != nil || len(keys) != 0 {
		t.Fatalf("scan of a missing bucket: %q, %v", keys, err)
	}
}

func testRoundTrip(t *testing.T, open Open) {
	s, reopen := open(t)
	big := strings.Repeat("x", 1<<20)
	commit(t, s, put("a", "k", "v"), put("a", "big", big), put("b", "k", "other"), put("a", "\x00\xff", "bin"),
		types.Write{Bucket: "a", Key: "empty", Value: []byte{}})
	for range 2 {
		wantValue(t, s, "a", "k", []byte("v"))
		wantValue(t, s, "a", "big", []byte(big))
		wantValue(t, s, "b", "k", []byte("other"))
		wantValue(t, s, "a", "\x00\xff", []byte("bin"))
		wantValue(t, s, "a", "empty", []byte{})
		wantValue(t, s, "b", "big", nil)
		s = reopen()
	}
	commit(t, s, types.Write{Bucket: "a", Key: "k"})
	s = reopen()
	wantValue(t, s, "a", "k", nil)
}

func testOrder(t *testing.T, open Open) {
	s, _ := open(t)
	gone := types.Write{Bucket: "a", Key: "gone"}
	commit(t, s, put("a", "k", "1"), put("a", "gone", "1"), put("a", "k", "2"), gone, put("a", "k", "3"))
	wantValue(t, s, "a", "k", []byte("3"))
	wantValue(t, s, "a", "gone", nil)
	commit(t, s, gone, put("a", "gone", "back"))
	wantValue(t, s, "a", "gone", []byte("back"))
}

func testCopies(t *testing.T, open Open) {
	s, _ := open(t)
	v := []byte("mine")
	commit(t, s, types.Write{Bucket: "a", Key: "k", Value: v})
	copy(v, "XXXX")
	wantValue(t, s, "a", "k", []byte("mine"))
	got, err := s.Get("a", "k")
	if err != nil {
		t.Fatal(err)
	}
	copy(got, "YYYY")
	wantValue(t, s, "a", "k", []byte("mine"))
}

func testScan(t *testing.T, open Open) {
	s, _ := open(t)
	commit(t, s, put("a", "p/2", "two"), put("a", "q", "q"), put("a", "p/10", "ten"), put("a", "p", "p"), put("a", "p/1", "one"),
		put("b", "p/3", "three"), put("a", "\xff\xff", "last"))
	for prefix, want := range map[string][]string{
		"": {"p", "p/1", "p/10", "p/2", "q", "\xff\xff"}, "p/": {"p/1", "p/10", "p/2"}, "p/1": {"p/1", "p/10"}, "z": nil, "\xff": {"\xff\xff"},
	} {
		keys, _, err := dump(s, "a", prefix)
		if err != nil || !slices.Equal(keys, want) {
			t.Errorf("scan %q: %q, %v; want %q", prefix, keys, err, want)
		}
	}
	stop, n := errors.New("stop"), 0
	err := s.Scan("a", "p/", func(string, []byte) error { n++; return stop })
	if !errors.Is(err, stop) || n != 1 {
		t.Errorf("scan that stops: %v after %d calls; want %v after 1", err, n, stop)
	}
}

// testScanSnapshot commits from another goroutine while a scan is under way.
func testScanSnapshot(t *testing.T, open Open) {
	s, _ := open(t)
	commit(t, s, put("a", "1", "old"), put("a", "2", "old"))
	var seen []string
	err := s.Scan("a", "", func(k string, v []byte) error {
		if k == "1" {
			done := make(chan error)
			go func() {
				done <- s.Commit(context.Background(), put("a", "1", "new"), put("a", "2", "new"), put("a", "3", "new"))
			}()
			if err := <-done; err != nil {
				return err
			}
		}
		seen = append(seen, k+string(v))
		return nil
	})
	if want := []string{"1old", "2old"}; err != nil || !slices.Equal(seen, want) {
		t.Fatalf("scan saw %q, %v; want %q", seen, err, want)
	}
	wantValue(t, s, "a", "2", []byte("new"))
}

func testCancelled(t *testing.T, open Open) {
	s, _ := open(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Commit(ctx, put("a", "k", "v")); !errors.Is(err, context.Canceled) {
		t.Fatalf("commit with an ended context: %v", err)
	}
	wantValue(t, s, "a", "k", nil)
}

func testRefused(t *testing.T, open Open, badWrite error) {
	s, _ := open(t)
	for name, w := range map[string]types.Write{
		"no bucket": put("", "k", "v"), "no key": put("a", "", "v"), "delete without key": {Bucket: "a"},
		"reserved": put("_store", "version", "9"), "long key": put("a", strings.Repeat("k", 32769), "v"),
		"long bucket": put(strings.Repeat("b", 256), "k", "v"),
		"too large":   {Bucket: "a", Key: "huge", Value: make([]byte, 64<<20)},
	} {
		if err := s.Commit(context.Background(), put("a", "with "+name, "v"), w); !errors.Is(err, badWrite) {
			t.Errorf("%s: %v; want %v", name, err, badWrite)
		}
		wantValue(t, s, "a", "with "+name, nil)
	}
	if _, err := s.Get("_store", "version"); !errors.Is(err, badWrite) {
		t.Errorf("get in a reserved bucket: %v", err)
	}
	commit(t, s, put("a", strings.Repeat("k", 32768), "the longest key")) // and the store goes on
}

// testConcurrent has many writers, each with an order of its own, and readers that must never see half a commit.
func testConcurrent(t *testing.T, open Open) {
	s, reopen := open(t)
	const writers, each = 16, 25
	var wg, readers sync.WaitGroup
	stop := make(chan struct{})
	for range 2 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				_, m, err := dump(s, "pairs", "")
				for w := range writers {
					if err != nil || m[fmt.Sprint("l", w)] != m[fmt.Sprint("r", w)] {
						t.Errorf("half a commit is visible: %v, %v", m, err)
						return
					}
				}
			}
		})
	}
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				n := fmt.Sprint(i)
				err := s.Commit(context.Background(), put("pairs", fmt.Sprint("l", w), n), put("pairs", fmt.Sprint("r", w), n))
				if err != nil {
					t.Errorf("commit: %v", err)
					return
				}
				if got, err := s.Get("pairs", fmt.Sprint("l", w)); err != nil || string(got) != n {
					t.Errorf("own write not read back: %q, %v; want %s", got, err, n)
				}
			}
		})
	}
	wg.Wait()
	close(stop)
	readers.Wait()
	s = reopen()
	for w := range writers {
		wantValue(t, s, "pairs", fmt.Sprint("r", w), []byte(fmt.Sprint(each-1)))
	}
}

// testModel compares the store with a map over random commits, scans and reopenings; a failure tells the seed.
func testModel(t *testing.T, open Open) {
	s, reopen := open(t)
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 0))
	model := map[string]map[string]string{"a": {}, "b": {}}
	for round := range 200 {
		var ws []types.Write
		for range 1 + rnd.IntN(12) {
			bucket, key := string("ab"[rnd.IntN(2)]), ""
			for range 1 + rnd.IntN(4) {
				key += string("xyz"[rnd.IntN(3)])
			}
			w := types.Write{Bucket: bucket, Key: key}
			if rnd.IntN(3) > 0 {
				w.Value = make([]byte, rnd.IntN(10))
				for i := range w.Value {
					w.Value[i] = byte(rnd.Uint32())
				}
				model[bucket][key] = string(w.Value)
			} else {
				delete(model[bucket], key)
			}
			ws = append(ws, w)
		}
		commit(t, s, ws...)
		if rnd.IntN(20) == 0 {
			s = reopen()
		}
		for name, want := range model {
			if _, got, err := dump(s, name, ""); err != nil || !maps.Equal(got, want) {
				t.Fatalf("seed %d, round %d, bucket %s: %q, %v; want %q", seed, round, name, got, err, want)
			}
		}
	}
}
