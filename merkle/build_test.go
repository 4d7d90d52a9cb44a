package merkle

import (
	"encoding/binary"
	"sync"
	"testing"

	"github.com/eschaton-network/chand/types"
)

func numbered(i int) types.Hash { return LeafHash(binary.LittleEndian.AppendUint64(nil, uint64(i))) }

// together runs everything at the same time.
func together(n int, do func(int)) {
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { do(i) })
	}
	all.Wait()
}

// TestBuild compares trees built at once with trees built leaf by leaf, around the sizes at which pages and levels begin, and
// goes on with both.
func TestBuild(t *testing.T) {
	for _, n := range []int{0, 1, 2, 3, 1023, 1024, 1025, 2048, 2049, 3000, 5*1024 + 1, 8192} {
		var slow Tree
		for i := range n {
			slow.Set(i, numbered(i))
		}
		for name, run := range map[string]Run{"in order": nil, "together": together} {
			var fast Tree
			fast.Set(0, types.Hash{9}) // what was there goes
			fast.Build(n, numbered, run)
			if fast.Len() != n || fast.Root() != slow.Root() {
				t.Fatalf("%d leaves, %s: len %d, root %s, want %s", n, name, fast.Len(), fast.Root(), slow.Root())
			}
			var again Tree
			for i := range n {
				again.Set(i, numbered(i))
			}
			again.Root()
			for _, i := range []int{0, n / 2, n, n + 1} {
				if i <= again.Len() {
					again.Set(i, numbered(-1-i))
					fast.Set(i, numbered(-1-i))
				}
			}
			if fast.Root() != again.Root() {
				t.Fatalf("%d leaves, %s: roots differ after changes", n, name)
			}
			for _, i := range []int{0, n / 3, n} {
				if i < fast.Len() {
					if err := VerifyPath(again.Root(), *fast.levels[0].at(i), uint64(i), uint64(fast.Len()), fast.Prove(i)); err != nil {
						t.Fatalf("%d leaves, %s: %v", n, name, err)
					}
				}
			}
		}
	}
}

// TestLeafHashLengths: the short and the long way agree where they meet.
func TestLeafHashLengths(t *testing.T) {
	for n := range 2 * shortLeaf {
		b := make([]byte, n+1)
		for i := range b {
			b[i] = byte(i * 7)
		}
		b[0] = leafPrefix
		if got, want := LeafHash(b[1:n/2+1], b[n/2+1:]), types.SHA256(b); got != want {
			t.Fatalf("%d bytes: %s, want %s", n, got, want)
		}
	}
}

func BenchmarkTreeBuild(b *testing.B) {
	const n = 1 << 18
	for b.Loop() {
		var t Tree
		t.Build(n, func(i int) types.Hash { return types.Hash{byte(i), byte(i >> 8), byte(i >> 16)} }, nil)
		t.Root()
	}
	b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "leaves/s")
}
