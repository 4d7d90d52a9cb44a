package backup

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"github.com/eschaton-network/chand/store/memstore"
	"github.com/eschaton-network/chand/types"
)

var secret = types.SHA256([]byte("secret"))

func write(n int) types.Write {
	return types.Write{Bucket: "b", Key: fmt.Sprint(n), Value: []byte{byte(n)}}
}

// archive is one with some values, then some commits; ends are the lengths at which it is whole.
func archive(t testing.TB, values, commits int) (raw []byte, ends []int) {
	t.Helper()
	var out bytes.Buffer
	w, err := NewWriter(&out, secret, rand.NewChaCha8([32]byte{1}))
	if err != nil {
		t.Fatal(err)
	}
	for n := range values {
		if err := w.Snapshot(write(n)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Complete(100); err != nil {
		t.Fatal(err)
	}
	ends = append(ends, out.Len())
	for n := range commits {
		if err := w.Commit(types.Time(101+n), []types.Write{write(n), {Bucket: "b", Key: "gone"}}); err != nil {
			t.Fatal(err)
		}
		ends = append(ends, out.Len())
	}
	if w.Bytes != int64(out.Len()) {
		t.Errorf("the writer counts %d bytes of %d", w.Bytes, out.Len())
	}
	return out.Bytes(), ends
}

func read(raw []byte, key [32]byte) (all []types.Write, s Summary, err error) {
	s, err = Read(bytes.NewReader(raw), key, func(w []types.Write) error { all = append(all, w...); return nil })
	return all, s, err
}

func TestArchive(t *testing.T) {
	raw, ends := archive(t, 3, 2)
	all, s, err := read(raw, secret)
	want := []types.Write{write(0), write(1), write(2), write(0), {Bucket: "b", Key: "gone"}, write(1), {Bucket: "b", Key: "gone"}}
	if err != nil || !reflect.DeepEqual(all, want) || s != (Summary{Time: 102, Commits: 2, Writes: 7}) {
		t.Fatalf("%+v, %+v, %v", all, s, err)
	}
	if _, _, err := read(raw, types.SHA256([]byte("other"))); !errors.Is(err, ErrKey) {
		t.Errorf("another seed: %v", err)
	}
	for cut := range raw { // whatever a crash has left
		_, s, err := read(raw[:cut], secret)
		switch {
		case cut < headSize:
			if !errors.Is(err, ErrFormat) {
				t.Fatalf("cut at %d: %v", cut, err)
			}
		case cut < ends[0]:
			if !errors.Is(err, ErrIncomplete) {
				t.Fatalf("cut at %d: %v", cut, err)
			}
		default:
			whole := 0
			for whole+1 < len(ends) && ends[whole+1] <= cut {
				whole++
			}
			if err != nil || s.Commits != whole || s.Torn != (cut != ends[whole]) {
				t.Fatalf("cut at %d: %+v, %v, want %d commits", cut, s, err, whole)
			}
		}
	}
	for at := headSize; at < len(raw); at++ { // no change goes unseen
		bad := bytes.Clone(raw)
		bad[at] ^= 0x40
		if _, s, err := read(bad, secret); err == nil && !s.Torn {
			t.Fatalf("byte %d changed: %+v", at, s)
		}
	}
}

func TestRecordsCantBeMoved(t *testing.T) {
	raw, ends := archive(t, 1, 3)
	for name, bad := range map[string][]byte{
		"dropped": append(bytes.Clone(raw[:ends[1]]), raw[ends[2]:]...),
		"doubled": append(bytes.Clone(raw[:ends[2]]), raw[ends[1]:]...),
	} {
		if _, _, err := read(bad, secret); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWriteCodec(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var want []types.Write
		var b []byte
		for range rapid.IntRange(0, 5).Draw(t, "writes") {
			x := types.Write{Bucket: rapid.StringN(1, 20, 200).Draw(t, "bucket"), Key: rapid.StringN(1, 50, 500).Draw(t, "key")}
			if rapid.Bool().Draw(t, "value") {
				x.Value = append([]byte{}, rapid.SliceOf(rapid.Byte()).Draw(t, "bytes")...)
			}
			want, b = append(want, x), appendWrite(b, x)
		}
		for _, w := range want {
			x, rest, ok := cutWrite(b)
			if !ok || !reflect.DeepEqual(x, w) {
				t.Fatalf("%+v, %v, want %+v", x, ok, w)
			}
			b = rest
		}
	})
}

func FuzzRead(f *testing.F) {
	raw, _ := archive(f, 2, 1)
	f.Add(raw)
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _, _ = read(b, secret)
		var s Summary
		complete := false
		_ = s.take(b, &complete, func([]types.Write) error { return nil }) // what a seed's own owner could have sealed
	})
}

func TestCheck(t *testing.T) {
	node := types.Seed{1}.NodeID().String()
	for name, c := range map[string]struct {
		key   string
		value string
		good  bool
	}{
		"whole":      {node, "12345678blob", true},
		"no time":    {node, "1234567", false},
		"no blob":    {node, "12345678", false},
		"not a node": {"somebody", "12345678blob", false},
	} {
		s := memstore.New()
		if err := s.Commit(t.Context(), types.Write{Bucket: BucketKept, Key: c.key, Value: []byte(c.value)}); err != nil {
			t.Fatal(err)
		}
		if err := Check(s); (err == nil) != c.good {
			t.Errorf("%s: %v", name, err)
		}
	}
}
