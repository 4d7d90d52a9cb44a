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

// shortLeaf is the longest leaf that is hashed from one buffer on the stack: two blocks of SHA-256, prefix and padding included.
const shortLeaf = 118

// LeafHash is SHA-256(0x00 || data).
func LeafHash(data ...[]byte) types.Hash {
	n := 0
	for _, p := range data {
		n += len(p)
	}
	if n <= shortLeaf {
		var b [1 + shortLeaf]byte
		b[0], n = leafPrefix, 1
		for _, p := range data {
			n += copy(b[n:], p)
		}
		return sha256.Sum256(b[:n])
	}
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

// pageBits fixes the size of the pages of a Tree: 1,024 hashes, 32 KiB. A large tree grows by a page at a time, without copying
// and without slack.
const (
	pageBits = 10
	pageSize = 1 << pageBits
)

// level is one level of a Tree. All pages but the last are full.
type level struct {
	pages [][]types.Hash
	n     int
}

// newLevel has room for n hashes, and no more.
func newLevel(n int) level {
	l := level{n: n, pages: make([][]types.Hash, 0, (n+pageSize-1)/pageSize)}
	for i := 0; i < n; i += pageSize {
		size := min(n-i, pageSize)
		if i == 0 {
			l.pages = append(l.pages, make([]types.Hash, size))
		} else {
			l.pages = append(l.pages, make([]types.Hash, size, pageSize))
		}
	}
	return l
}

func (l *level) at(i int) *types.Hash { return &l.pages[i>>pageBits][i&(pageSize-1)] }

func (l *level) append(h types.Hash) {
	if l.n&(pageSize-1) == 0 {
		var page []types.Hash // the first page grows: there are many small trees
		if l.n > 0 {
			page = make([]types.Hash, 0, pageSize)
		}
		l.pages = append(l.pages, page)
	}
	last := len(l.pages) - 1
	l.pages[last] = append(l.pages[last], h)
	l.n++
}

// parent is the hash of the node above nodes 2p and 2p+1; a node without sibling is carried up unchanged.
func (l *level) parent(p int) types.Hash {
	h := *l.at(2 * p)
	if 2*p+1 < l.n {
		h = NodeHash(h, *l.at(2*p + 1))
	}
	return h
}

// Tree is a list of leaf hashes with the root of RFC 6962. Leaves can be appended and replaced; the inner nodes above
// changed leaves are rehashed when the root is asked for. It takes 64 bytes a leaf. It belongs to one goroutine. The zero
// value is an empty tree.
type Tree struct {
	// levels[0] are the leaves; levels[k] node i covers leaves i<<k up to (i+1)<<k; a last node without sibling is
	// carried up unchanged, which gives exactly the shape of RFC 6962.
	levels []level
	// dirty are the indexes of leaves changed since the last Root.
	dirty []int
}

// Run calls do(0) up to do(n-1), in any order and possibly at the same time, and returns when all have returned. Rules take it
// from their caller, because they start nothing themselves. nil means one after the other.
type Run func(n int, do func(i int))

func (run Run) each(n int, do func(i int)) {
	if run != nil {
		run(n, do)
		return
	}
	for i := range n {
		do(i)
	}
}

// Build replaces the tree by one with n leaves, hashing everything, by the page where run allows it. leaf gives the hash of
// a leaf; it must be safe for calls at the same time as run makes them.
func (t *Tree) Build(n int, leaf func(i int) types.Hash, run Run) {
	t.levels, t.dirty = nil, nil
	for size := n; size > 0; size = (size + 1) / 2 {
		t.levels = append(t.levels, newLevel(size))
		if size == 1 {
			break
		}
	}
	if n == 0 {
		return
	}
	pages := len(t.levels[0].pages)
	run.each(pages, func(p int) {
		for i := p << pageBits; i < min((p+1)<<pageBits, n); i++ {
			*t.levels[0].at(i) = leaf(i)
		}
		for k := 1; k <= pageBits && k < len(t.levels); k++ {
			t.fill(k, p<<(pageBits-k), (p+1)<<(pageBits-k))
		}
	})
	for k := pageBits + 1; k < len(t.levels); k++ {
		t.fill(k, 0, t.levels[k].n)
	}
}

// fill hashes nodes from..to (as far as there are any) of a level from the level below.
func (t *Tree) fill(k, from, to int) {
	below, l := &t.levels[k-1], &t.levels[k]
	for i := from; i < min(to, l.n); i++ {
		*l.at(i) = below.parent(i)
	}
}

// Len is the number of leaves.
func (t *Tree) Len() int {
	if len(t.levels) == 0 {
		return 0
	}
	return t.levels[0].n
}

// Set replaces leaf i, or appends it when i is Len(). Larger indexes are a programming error.
func (t *Tree) Set(i int, leaf types.Hash) {
	if len(t.levels) == 0 {
		t.levels = make([]level, 1)
	}
	l := &t.levels[0]
	switch {
	case i == l.n:
		l.append(leaf)
	case *l.at(i) == leaf:
		return
	default:
		*l.at(i) = leaf
	}
	t.dirty = append(t.dirty, i)
}

// Root rehashes what changed and returns the root.
func (t *Tree) Root() types.Hash {
	if t.Len() == 0 {
		return EmptyRoot
	}
	slices.Sort(t.dirty)
	for k := 0; t.levels[k].n > 1; k++ {
		if k+1 == len(t.levels) {
			t.levels = append(t.levels, level{})
		}
		below, above, last := &t.levels[k], &t.levels[k+1], -1
		kept := t.dirty[:0]
		for _, i := range t.dirty {
			p := i / 2
			if p == last {
				continue
			}
			last = p
			kept = append(kept, p)
			if h := below.parent(p); p == above.n {
				above.append(h)
			} else {
				*above.at(p) = h
			}
		}
		t.dirty = kept
	}
	t.dirty = t.dirty[:0]
	return *t.levels[len(t.levels)-1].at(0)
}

// Prove returns the audit path of leaf i (RFC 6962 section 2.1.1), from the leaf upwards.
func (t *Tree) Prove(i int) []types.Hash {
	t.Root()
	var path []types.Hash
	for k := 0; t.levels[k].n > 1; k++ {
		if s := i ^ 1; s < t.levels[k].n {
			path = append(path, *t.levels[k].at(s))
		}
		i /= 2
	}
	return path
}

// RootOf is the root of a Tree with these leaf hashes.
func RootOf(leaves []types.Hash) types.Hash {
	var t Tree
	t.Build(len(leaves), func(i int) types.Hash { return leaves[i] }, nil)
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
