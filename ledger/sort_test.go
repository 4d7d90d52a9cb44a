package ledger

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/eschaton-network/chand/types"
)

func TestSortAccounts(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, mask := range []uint64{0xff, 0xff00, 0x1ffff, 0xffff_0000_ffff, 0xffff_ffff_ffff, 0xff00_0000_00ff} {
		for _, n := range []int{1, 2, 100, MaxWires} {
			ids := make([]uint64, n)
			for i := range ids {
				ids[i] = r.Uint64()&mask | 0x0100_0000_0000
			}
			want := slices.Sorted(slices.Values(ids))
			if got := sortAccounts(ids, make([]uint64, n)); !slices.Equal(got, want) {
				t.Fatalf("%d numbers that differ in %x are not in order", n, mask)
			}
		}
	}
}

func TestTwiceFindsEachPair(t *testing.T) {
	wires := make([]Wire, 300)
	for i := range wires {
		wires[i].To = types.AccountID{Node: uint16(1 + i%3), User: uint32(i * 70_001 % 1000)}
	}
	if to, found := twice(wires); found {
		t.Fatalf("%s is there once", to)
	}
	for i := 1; i < len(wires); i++ {
		one := slices.Clone(wires)
		one[i].To = one[i/2].To
		if to, found := twice(one); !found || to != one[i].To {
			t.Fatalf("%s appears twice, found %s", one[i].To, to)
		}
	}
}
