package store

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/eschaton-network/chand/types"
)

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// all reads a bucket.
func all(t *testing.T, s *Store, bucket string) map[string]string {
	t.Helper()
	m := make(map[string]string)
	if err := s.Scan(bucket, "", func(k string, v []byte) error { m[k] = string(v); return nil }); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestBackup(t *testing.T) {
	dir := t.TempDir()
	s := must(t, filepath.Join(dir, "db"))
	for i := range 300 {
		if err := s.Commit(ctx, rec("a", fmt.Sprint(i), strings.Repeat("v", 3000)), rec("b", fmt.Sprint(i), "")); err != nil {
			t.Fatal(err)
		}
	}
	want := all(t, s, "a")
	// The copy is taken while commits go on: the writer inside Backup's Write makes them.
	var b bytes.Buffer
	seq, n, err := s.Backup(writerFunc(func(p []byte) (int, error) {
		if err := s.Commit(ctx, rec("a", "late", "v"), types.Write{Bucket: "a", Key: "299"}); err != nil {
			t.Error(err)
		}
		return b.Write(p)
	}))
	if err != nil || n != int64(b.Len()) || seq != 301 {
		t.Fatalf("backup: %d of %d bytes, transaction %d, %v", n, b.Len(), seq, err)
	}
	path := filepath.Join(dir, "copy")
	if got, err := Restore(path, &b); err != nil || got != seq {
		t.Fatalf("restored to transaction %d, %v; want %d", got, err, seq)
	}
	c := must(t, path)
	if !maps.Equal(all(t, c, "a"), want) || len(all(t, c, "b")) != 300 {
		t.Error("the copy is not what was backed up")
	}
	if _, _, err := s.Backup(writerFunc(func([]byte) (int, error) { return 0, errors.New("no room") })); err == nil {
		t.Error("a failing writer was not reported")
	}
	if _, err := Restore(path, &b); err == nil {
		t.Error("a store was restored over another")
	}
}

// TestTail follows a store with an archive: what follows the snapshot brings the copy to the last transaction.
func TestTail(t *testing.T) {
	dir := t.TempDir()
	s := must(t, filepath.Join(dir, "db"))
	commit := func(i int) {
		t.Helper()
		if err := s.Commit(ctx, rec("a", fmt.Sprint(i), "v"), types.Write{Bucket: "a", Key: fmt.Sprint(i - 3)}, rec("b", "last", fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	commit(1)
	var log []byte
	var ends []int
	stop := s.Tail(func(x Transaction) { log = AppendTransaction(log, x); ends = append(ends, len(log)) })
	commit(2)
	var snapshot bytes.Buffer
	seq, _, err := s.Backup(&snapshot)
	if err != nil {
		t.Fatal(err)
	}
	for i := 3; i < 9; i++ {
		commit(i)
	}
	stop()
	commit(9)
	whole := append(bytes.Clone(snapshot.Bytes()), log...)
	restore := func(archive []byte) (map[string]string, error) {
		path := filepath.Join(t.TempDir(), "copy")
		if _, err := Restore(path, bytes.NewReader(archive)); err != nil {
			if _, err := os.Stat(path); err == nil {
				t.Error("a failed restore left a store")
			}
			return nil, err
		}
		c := must(t, path)
		m := all(t, c, "a")
		m["last"] = all(t, c, "b")["last"]
		return m, nil
	}
	got, err := restore(whole)
	if want := map[string]string{"6": "v", "7": "v", "8": "v", "last": "8"}; err != nil || !maps.Equal(got, want) {
		t.Errorf("restored with what followed: %v, %v; want %v", got, err, want)
	}
	if seq != 3 || len(ends) != 7 {
		t.Fatalf("the snapshot is of transaction %d, %d followed", seq, len(ends))
	}
	// A gap is refused; a last transaction that is cut off is not there.
	if _, err := restore(append(bytes.Clone(snapshot.Bytes()), log[ends[1]:]...)); !errors.Is(err, ErrArchive) {
		t.Errorf("a gap: %v", err)
	}
	got, err = restore(whole[:len(whole)-1])
	if err != nil || got["last"] != "7" {
		t.Errorf("cut in the last transaction: %v, %v", got, err)
	}
	if _, err := restore(whole[:snapshot.Len()-1]); !errors.Is(err, ErrArchive) {
		t.Errorf("half a snapshot: %v", err)
	}
	none := func(Transaction) error { return nil }
	for n := range snapshot.Len() {
		if _, err := readArchive(bytes.NewReader(whole[:n]), none); !errors.Is(err, ErrArchive) {
			t.Fatalf("the snapshot cut to %d bytes: %v", n, err)
		}
	}
	for i := range snapshot.Len() { // after it, a longer length looks like a transaction that is cut off
		bad := bytes.Clone(whole)
		bad[i] ^= 0x10
		if _, err := readArchive(bytes.NewReader(bad), none); !errors.Is(err, ErrArchive) {
			t.Fatalf("byte %d is changed: %v", i, err)
		}
	}
}

func FuzzFrame(f *testing.F) {
	f.Add(AppendTransaction(nil, Transaction{Seq: 7, Writes: []types.Write{rec("a", "k", "v"), {Bucket: "a", Key: "gone"}, rec("b", "k", "")}})[frameHead:])
	f.Add([]byte{framePart, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		kind, x, err := decodeFrame(b)
		if err != nil {
			if !errors.Is(err, ErrArchive) {
				t.Fatal(err)
			}
			return
		}
		again := AppendTransaction(nil, x)[frameHead:]
		if _, y, err := decodeFrame(again); err != nil || fmt.Sprint(x) != fmt.Sprint(y) {
			t.Fatalf("frame of kind %d: %v, %v; want %v", kind, y, err, x)
		}
	})
}
