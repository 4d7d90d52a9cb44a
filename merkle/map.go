package merkle

import (
	"fmt"

	"github.com/eschaton-network/chand/types"
)

// MaxDepth is the deepest leaf of a Map: one level for each bit of a key.
const MaxDepth = 256

// Map is a compact sparse Merkle tree from 32-byte keys to 32-byte values (Diem's Jellyfish shape, binary): the path to a
// key follows its bits, most significant first; a subtree with one leaf is that leaf; an empty one hashes to zero. The
// root depends on the content alone, not on its history. Keys should be hashes, else paths grow long. It belongs
// to one goroutine. The zero value is an empty map.
type Map struct {
	root *node
	n    int
}

// node is a leaf (no children) or an inner node with at least two leaves below it.
type node struct {
	left, right *node
	key, value  types.Hash // of a leaf
	hash        types.Hash
	clean       bool // hash is up to date
}

func (n *node) leaf() bool { return n.left == nil && n.right == nil }

// MapLeaf is what a leaf of a Map commits to.
type MapLeaf struct {
	Key   types.Hash `json:"key"`
	Value types.Hash `json:"value"`
}

// MapProof shows what a Map holds at a key: the siblings from the root down, and the leaf where the path ends (nil when
// it ends in nothing). A leaf with another key shows that the key asked for is absent.
type MapProof struct {
	Siblings []types.Hash `json:"siblings"`
	Leaf     *MapLeaf     `json:"leaf,omitempty"`
}

func bit(key types.Hash, depth int) byte { return key[depth/8] >> (7 - depth%8) & 1 }

func mapLeafHash(l MapLeaf) types.Hash { return LeafHash(l.Key[:], l.Value[:]) }

// Len is the number of keys.
func (m *Map) Len() int { return m.n }

// Root rehashes what changed and returns the root; zero for an empty map.
func (m *Map) Root() types.Hash { return m.root.rehash() }

func (n *node) rehash() types.Hash {
	switch {
	case n == nil:
		return types.Hash{}
	case n.clean:
	case n.leaf():
		n.hash, n.clean = mapLeafHash(MapLeaf{n.key, n.value}), true
	default:
		n.hash, n.clean = NodeHash(n.left.rehash(), n.right.rehash()), true
	}
	return n.hash
}

// Get returns the value of a key.
func (m *Map) Get(key types.Hash) (types.Hash, bool) {
	n := m.root
	for d := 0; n != nil && !n.leaf(); d++ {
		n = n.child(key, d)
	}
	if n == nil || n.key != key {
		return types.Hash{}, false
	}
	return n.value, true
}

func (n *node) child(key types.Hash, depth int) *node {
	if bit(key, depth) == 1 {
		return n.right
	}
	return n.left
}

// Set puts value under key.
func (m *Map) Set(key, value types.Hash) { m.root = m.set(m.root, key, value, 0) }

func (m *Map) set(n *node, key, value types.Hash, depth int) *node {
	switch {
	case n == nil:
		m.n++
		return &node{key: key, value: value}
	case n.leaf() && n.key == key:
		if n.value != value {
			n.value, n.clean = value, false
		}
		return n
	case n.leaf(): // split: push the old leaf down one level, then go on
		inner := &node{}
		if bit(n.key, depth) == 1 {
			inner.right = n
		} else {
			inner.left = n
		}
		n = inner
	}
	n.clean = false
	if bit(key, depth) == 1 {
		n.right = m.set(n.right, key, value, depth+1)
	} else {
		n.left = m.set(n.left, key, value, depth+1)
	}
	return n
}

// Delete removes a key and tells whether it was there.
func (m *Map) Delete(key types.Hash) bool {
	if _, ok := m.Get(key); !ok {
		return false
	}
	m.root = m.root.remove(key, 0)
	m.n--
	return true
}

func (n *node) remove(key types.Hash, depth int) *node {
	if n.leaf() {
		return nil
	}
	n.clean = false
	if bit(key, depth) == 1 {
		n.right = n.right.remove(key, depth+1)
	} else {
		n.left = n.left.remove(key, depth+1)
	}
	// A subtree with one leaf is that leaf.
	switch {
	case n.left == nil && n.right.leaf():
		return n.right
	case n.right == nil && n.left.leaf():
		return n.left
	}
	return n
}

// Prove returns the proof of what is, or is not, at key.
func (m *Map) Prove(key types.Hash) MapProof {
	m.Root()
	p := MapProof{Siblings: []types.Hash{}}
	n := m.root
	for d := 0; n != nil && !n.leaf(); d++ {
		if bit(key, d) == 1 {
			p.Siblings = append(p.Siblings, n.left.rehash())
		} else {
			p.Siblings = append(p.Siblings, n.right.rehash())
		}
		n = n.child(key, d)
	}
	if n != nil {
		p.Leaf = &MapLeaf{n.key, n.value}
	}
	return p
}

// Root computes the root that a map has in which p is the proof for key, and tells whether the key is in it.
// The error wraps ErrProof.
func (p MapProof) Root(key types.Hash) (root, value types.Hash, found bool, err error) {
	if len(p.Siblings) > MaxDepth {
		return root, value, false, fmt.Errorf("%w: %d siblings, at most %d", ErrProof, len(p.Siblings), MaxDepth)
	}
	var h types.Hash
	if p.Leaf != nil {
		for d := range p.Siblings {
			if bit(p.Leaf.Key, d) != bit(key, d) {
				return root, value, false, fmt.Errorf("%w: the leaf %s is not on the path to %s", ErrProof, p.Leaf.Key, key)
			}
		}
		h, value, found = mapLeafHash(*p.Leaf), p.Leaf.Value, p.Leaf.Key == key
	}
	if !found {
		value = types.Hash{}
	}
	for d := len(p.Siblings) - 1; d >= 0; d-- {
		if bit(key, d) == 1 {
			h = NodeHash(p.Siblings[d], h)
		} else {
			h = NodeHash(h, p.Siblings[d])
		}
	}
	return h, value, found, nil
}

// Verify checks the proof against a root; found tells whether key has the value returned. The error wraps ErrProof.
func (p MapProof) Verify(root, key types.Hash) (value types.Hash, found bool, err error) {
	got, value, found, err := p.Root(key)
	if err == nil && got != root {
		err = fmt.Errorf("%w: leads to root %s, want %s", ErrProof, got, root)
	}
	return value, found && err == nil, err
}
