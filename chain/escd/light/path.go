package light

import (
	"github.com/eschaton-network/chand/merkle"
	"github.com/eschaton-network/chand/types"
)

// Step is one level of an RFC 6962 inclusion path: the sibling's hash and the side it stands on.
type Step struct {
	// Left is true when Hash is the left input of the parent.
	Left bool       `json:"left"`
	Hash types.Hash `json:"hash"`
}

// TxPath leads from a transaction's id (SHA-256 of its bytes) to the DataHash of the header of its block.
type TxPath struct {
	Height types.Height `json:"height"`
	Index  uint32       `json:"index"`
	TxID   types.Hash   `json:"tx_id"`
	Steps  []Step       `json:"steps"`
}

// Root folds the path: leaf = SHA-256(0x00 || TxID), inner = SHA-256(0x01 || left || right). The result must equal the
// header's DataHash.
func (p TxPath) Root() types.Hash {
	h := merkle.LeafHash(p.TxID[:])
	for _, s := range p.Steps {
		if s.Left {
			h = merkle.NodeHash(s.Hash, h)
		} else {
			h = merkle.NodeHash(h, s.Hash)
		}
	}
	return h
}

// PathOf turns the aunts of an RFC 6962 proof (leaf's sibling first) for leaf index of total into steps. It fails
// when their number does not fit index and total.
func PathOf(index, total uint64, aunts []types.Hash) ([]Step, bool) {
	if total == 0 || index >= total {
		return nil, false
	}
	sides := make([]bool, 0, len(aunts)) // root first
	for lo, n := uint64(0), total; n > 1; {
		k := split(n)
		if index-lo < k {
			sides, n = append(sides, false), k
		} else {
			sides, lo, n = append(sides, true), lo+k, n-k
		}
	}
	if len(sides) != len(aunts) {
		return nil, false
	}
	steps := make([]Step, len(aunts))
	for i, a := range aunts {
		steps[i] = Step{Left: sides[len(sides)-1-i], Hash: a}
	}
	return steps, true
}

// split is the largest power of two below n (RFC 6962 section 2.1).
func split(n uint64) uint64 {
	k := uint64(1)
	for k<<1 < n {
		k <<= 1
	}
	return k
}
