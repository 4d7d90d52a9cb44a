package light

import (
	"errors"
	"testing"

	"github.com/cometbft/cometbft/crypto/merkle"
	"pgregory.net/rapid"

	"github.com/eschaton-network/chand/types"
)

// TestPath compares with CometBFT's own proofs.
func TestPath(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 70).Draw(t, "leaves")
		i := rapid.IntRange(0, n-1).Draw(t, "index")
		var leaves [][]byte
		for k := range n {
			id := types.SHA256([]byte{byte(k)})
			leaves = append(leaves, id[:])
		}
		root, proofs := merkle.ProofsFromByteSlices(leaves)
		var aunts []types.Hash
		for _, a := range proofs[i].Aunts {
			aunts = append(aunts, types.Hash(a))
		}
		steps, ok := PathOf(uint64(i), uint64(n), aunts)
		p := TxPath{TxID: types.Hash(leaves[i]), Steps: steps}
		if !ok || p.Root() != types.Hash(root) {
			t.Fatalf("leaf %d of %d: path leads to %s, want %x", i, n, p.Root(), root)
		}
		if _, ok := PathOf(uint64(i), uint64(n), append(aunts, types.Hash{})); ok {
			t.Fatal("a path with one step too many was accepted")
		}
		if _, ok := PathOf(uint64(n), uint64(n), aunts); ok {
			t.Fatal("a path for a leaf beyond the end was accepted")
		}
	})
}

func FuzzBundle(f *testing.F) {
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := VerifyBundle(Trust{ChainID: "x"}, b); !errors.Is(err, ErrBundle) {
			t.Errorf("without trusted validators: %v", err)
		}
		if lb, err := decode(b); err == nil {
			if again, err := Encode(lb.SignedHeader, lb.ValidatorSet); err == nil && len(again) > MaxBundle+1024 {
				t.Errorf("%d bytes of %d", len(again), len(b))
			}
		}
	})
}
