package merkle

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/eschaton-network/chand/types"
)

// Update gives the tree that Set gives, for every shape and any choice of leaves, one after the other or at the same time.
func TestUpdate(t *testing.T) {
	together := func(n int, do func(int)) {
		var wg sync.WaitGroup
		for i := range n {
			wg.Go(func() { do(i) })
		}
		wg.Wait()
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, size := range []int{1, 2, 3, pageSize - 1, pageSize, pageSize + 1, 5000, 1<<20 + 77} {
		leaf := func(round int) func(i int) types.Hash {
			return func(i int) types.Hash {
				return LeafHash(binary.LittleEndian.AppendUint64(nil, uint64(round)<<40|uint64(i)))
			}
		}
		var want, got Tree
		want.Build(size, leaf(0), nil)
		got.Build(size, leaf(0), nil)
		for round, part := range []int{1, min(size, 300), min(size, 6000)} {
			indexes := []uint32{0, uint32(size - 1)}
			for range part {
				indexes = append(indexes, uint32(rnd.IntN(size)))
			}
			slices.Sort(indexes)
			indexes = slices.Compact(indexes)
			for _, i := range indexes {
				want.Set(int(i), leaf(round+1)(int(i)))
			}
			run := Run(nil)
			if round%2 == 1 {
				run = together
			}
			got.Update(indexes, leaf(round+1), run)
			if got.Root() != want.Root() {
				t.Fatalf("%d leaves, round %d: another root", size, round)
			}
			for k := range got.levels {
				if size > 5000 && k < pageBits {
					continue // many nodes: the root says it
				}
				for i := range got.levels[k].n {
					if *got.levels[k].at(i) != *want.levels[k].at(i) {
						t.Fatalf("%d leaves, round %d: node %d of level %d differs", size, round, i, k)
					}
				}
			}
			// leaves that were set or appended before
			got.Set(size/2, leaf(9)(size/2))
			want.Set(size/2, leaf(9)(size/2))
		}
		got.Update(nil, nil, nil)
		if got.Root() != want.Root() {
			t.Fatalf("%d leaves: another root", size)
		}
	}
}

// BenchmarkUpdate replaces 2,000 leaves at random, as a block of 1,000 transfers does; ns/node is for each hash made, the leaves' not counted.
func BenchmarkUpdate(b *testing.B) {
	for _, size := range []int{10_000, 100_000, 1_000_000, 10_000_000} {
		b.Run(strconv.Itoa(size), func(b *testing.B) {
			var tree Tree
			tree.Build(size, numbered, nil)
			rnd := rand.New(rand.NewPCG(1, 2))
			nodes := 0
			for round := uint64(0); b.Loop(); round++ {
				b.StopTimer()
				indexes := make([]uint32, 2000)
				for i := range indexes {
					indexes[i] = uint32(rnd.IntN(size))
				}
				slices.Sort(indexes)
				indexes = slices.Compact(indexes)
				for width, above := size, indexes; width > 1; width = (width + 1) / 2 {
					above = slices.Clone(above)
					for i := range above {
						above[i] /= 2
					}
					above = slices.Compact(above)
					nodes += len(above)
				}
				b.StartTimer()
				tree.Update(indexes, func(i int) (h types.Hash) {
					binary.LittleEndian.PutUint64(h[:], round<<32|uint64(i))
					return h
				}, nil)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(nodes), "ns/node")
		})
	}
}
