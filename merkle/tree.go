package merkle

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"math/bits"
	"slices"

	"github.com/eschaton-network/chand/types"
)

// Hash prefixes of RFC 6962 section 2.1.
const (
	leafPrefix  = 0x00
	innerPrefix = 0x01
)

// MaxPath is the longest path of a proof in a Tree: one sibling for each bit of a 64-bit index.
const MaxPath = 64

// ErrProof is wrapped by every error of a proof that does not hold.
var ErrProof = errors.New("proof does not hold")

// LeafHash is SHA-256(0x00 || data).
func LeafHash(data ...[]byte) types.Hash {
	d := sha256.New()
	d.Write([]byte{leafPrefix})
	for _, p := range data {
		d.Write(p)
	}
	var h types.Hash
	d.Sum(h[:0])
	return h
}

// NodeHash is SHA-256(0x01 || left || right).
func NodeHash(left, right types.Hash) types.Hash {
	var b [65]byte
	b[0] = innerPrefix
	copy(b[1:], left[:])
	copy(b[33:], right[:])
	return sha256.Sum256(b[:])
}

// EmptyRoot is the root of a Tree without leaves: SHA-256 of nothing (RFC 6962 section 2.1).
var EmptyRoot = types.Hash(sha256.Sum256(nil))

// Tree is a list of leaf hashes with the root of RFC 6962. Leaves can be appended and replaced; the inner nodes above
// changed leaves are rehashed when the root is asked for. It belongs to one goroutine. The zero value is an empty tree.
type Tree struct {
	// levels[0] are the leaves; levels[k][i] covers leaves i<<k up to (i+1)<<k; a last node without sibling is
	// carried up unchanged, which gives exactly the shape of RFC 6962.
	levels [][]types.Hash
	// dirty are the indexes of leaves changed since the last Root.
	dirty []int
}

// Len is the number of leaves.
func (t *Tree) Len() int {
	if len(t.levels) == 0 {
		return 0
	}
	return len(t.levels[0])
}

// Set replaces leaf i, or appends it when i is Len(). Larger indexes are a programming error.
func (t *Tree) Set(i int, leaf types.Hash) {
	if len(t.levels) == 0 {
		t.levels = make([][]types.Hash, 1)
	}
	switch {
	case i == len(t.levels[0]):
		t.levels[0] = append(t.levels[0], leaf)
	case t.levels[0][i] == leaf:
		return
	default:
		t.levels[0][i] = leaf
	}
	t.dirty = append(t.dirty, i)
}

// Root rehashes what changed and returns the root.
func (t *Tree) Root() types.Hash {
	if t.Len() == 0 {
		return EmptyRoot
	}
	slices.Sort(t.dirty)
	for k := 0; len(t.levels[k]) > 1; k++ {
		if k+1 == len(t.levels) {
			t.levels = append(t.levels, nil)
		}
		below, above, last := t.levels[k], t.levels[k+1], -1
		kept := t.dirty[:0]
		for _, i := range t.dirty {
			p := i / 2
			if p == last {
				continue
			}
			last = p
			kept = append(kept, p)
			h := below[2*p]
			if 2*p+1 < len(below) {
				h = NodeHash(h, below[2*p+1])
			}
			if p == len(above) {
				above = append(above, h)
			} else {
				above[p] = h
			}
		}
		t.levels[k+1], t.dirty = above, kept
	}
	t.dirty = t.dirty[:0]
	return t.levels[len(t.levels)-1][0]
}

// Prove returns the audit path of leaf i (RFC 6962 section 2.1.1), from the leaf upwards.
func (t *Tree) Prove(i int) []types.Hash {
	t.Root()
	var path []types.Hash
	for k := 0; len(t.levels[k]) > 1; k++ {
		if s := i ^ 1; s < len(t.levels[k]) {
			path = append(path, t.levels[k][s])
		}
		i /= 2
	}
	return path
}

// RootOf is the root of a Tree with these leaf hashes.
func RootOf(leaves []types.Hash) types.Hash {
	var t Tree
	for i, l := range leaves {
		t.Set(i, l)
	}
	return t.Root()
}

// RootFromPath computes the root that a tree of size leaves has when leaf is its i-th and path the audit path
// (RFC 9162 section 2.1.3.2). The error wraps ErrProof.
func RootFromPath(leaf types.Hash, i, size uint64, path []types.Hash) (types.Hash, error) {
	if i >= size || len(path) > MaxPath {
		return types.Hash{}, fmt.Errorf("%w: leaf %d of %d with a path of %d", ErrProof, i, size, len(path))
	}
	h, fn, sn := leaf, i, size-1
	for _, p := range path {
		if sn == 0 {
			return types.Hash{}, fmt.Errorf("%w: path is too long for leaf %d of %d", ErrProof, i, size)
		}
		if fn&1 == 1 || fn == sn {
			h = NodeHash(p, h)
			if fn&1 == 0 { // the last node was carried up these levels
				s := bits.TrailingZeros64(fn) // fn == sn > 0
				fn, sn = fn>>s, sn>>s
			}
		} else {
			h = NodeHash(h, p)
		}
		fn, sn = fn>>1, sn>>1
	}
	if sn != 0 {
		return types.Hash{}, fmt.Errorf("%w: path is too short for leaf %d of %d", ErrProof, i, size)
	}
	return h, nil
}

// VerifyPath checks that leaf is the i-th of the tree of size leaves with this root. The error wraps ErrProof.
func VerifyPath(root, leaf types.Hash, i, size uint64, path []types.Hash) error {
	got, err := RootFromPath(leaf, i, size, path)
	if err != nil {
		return err
	}
	if got != root {
		return fmt.Errorf("%w: leaf %d of %d leads to root %s, want %s", ErrProof, i, size, got, root)
	}
	return nil
}
