package store

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"testing"

	"github.com/eschaton-network/chand/types"
)

// all reads a bucket.
func all(t *testing.T, s *Store, bucket string) map[string]string {
	t.Helper()
	m := make(map[string]string)
	if err := s.Scan(bucket, "", func(k string, v []byte) error { m[k] = string(v); return nil }); err != nil {
		t.Fatal(err)
	}
	return m
}

// TestTail copies a store that is written to all the time: a snapshot, taken after the tail began, and what the tail told make the same store.
func TestTail(t *testing.T) {
	dir := t.TempDir()
	s, c := must(t, filepath.Join(dir, "db")), must(t, filepath.Join(dir, "copy"))
	commit := func(i int) {
		t.Helper()
		if err := s.Commit(ctx, rec("a", fmt.Sprint(i), "v"), types.Write{Bucket: "a", Key: fmt.Sprint(i - 3)}, rec("b", "last", fmt.Sprint(i)), rec("b", "empty", "")); err != nil {
			t.Fatal(err)
		}
	}
	commit(1)
	var told []types.Write
	var last uint64
	stop := s.Tail(func(x Transaction) {
		if last != 0 && x.Seq != last+1 {
			t.Errorf("transaction %d after %d", x.Seq, last)
		}
		last, told = x.Seq, append(told, x.Writes...)
	})
	commit(2)
	n := 2
	err := s.Snapshot(func(w types.Write) error {
		n++
		commit(n)
		w.Value = append([]byte{}, w.Value...)
		return c.Commit(ctx, w)
	})
	if err != nil {
		t.Fatal(err)
	}
	commit(100)
	stop()
	want := [2]map[string]string{all(t, s, "a"), all(t, s, "b")}
	commit(101) // nobody is told
	if err := c.Commit(ctx, told...); err != nil {
		t.Fatal(err)
	}
	if got := [2]map[string]string{all(t, c, "a"), all(t, c, "b")}; !maps.Equal(got[0], want[0]) || !maps.Equal(got[1], want[1]) {
		t.Errorf("the copy has %v, want %v", got, want)
	}
	mine := errors.New("enough")
	if err := s.Snapshot(func(types.Write) error { return mine }); !errors.Is(err, mine) {
		t.Errorf("the caller's error became %v", err)
	}
}
