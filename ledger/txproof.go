package ledger

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/eschaton-network/chand/merkle"
	"github.com/eschaton-network/chand/types"
)

const (
	// maxMessagePath is the longest path in a message's tree: MaxMessageTxs leaves and the head are fewer than 2^16.
	maxMessagePath = 16
	// maxRootsPath is the longest path in a block's tree: no block of CometBFT (100 MB) holds 2^32 transactions.
	maxRootsPath = 32
	// MaxTxProof is the size of the longest encoded TxProof.
	MaxTxProof = placeSize + 1 + maxMessagePath*32 + 8 + 1 + maxRootsPath*32 + partCount*32
	placeSize  = 2 + 4 + 4
)

// TxProof leads from a user transaction to the state root after the block that it is in: leaf, message, part "transactions", parts.
// It proves that the block holds the transaction, not that the rules accepted it there.
type TxProof struct {
	// Place is where the transaction stands. The position of a direct one is not proven, and 0 here.
	Place Place `json:"place"`
	// Path leads from the transaction's leaf (TxLeaf) to the root of its message, by PairHash; empty for a direct transaction.
	Path []types.Hash `json:"path"`
	// Index is the place of the message's root, or of the direct transaction's id, among the Roots of the block; RootPath leads from
	// there to the part "transactions".
	Index    uint32       `json:"index"`
	Roots    uint32       `json:"roots"`
	RootPath []types.Hash `json:"root_path"`
	// Parts are those of the state root after the block; that of the transactions is computed, and zero here.
	Parts Parts `json:"parts"`
}

// Root computes the state root that the proof leads to from a transaction with this id (SHA-256 of its bytes). It takes at most
// some 50 hashes. The error wraps merkle.ErrProof.
func (p *TxProof) Root(id types.Hash) (types.Hash, error) {
	h := id
	if p.Parts[partTransactions] != (types.Hash{}) {
		return types.Hash{}, fmt.Errorf("%w: part %d is computed and must be zero in the proof", merkle.ErrProof, partTransactions)
	}
	if p.Place.Node != 0 {
		if len(p.Path) == 0 || len(p.Path) > maxMessagePath || p.Place.Position == 0 || p.Place.Position > MaxMessageTxs {
			return types.Hash{}, fmt.Errorf("%w: a path of %d to place %s in a message", merkle.ErrProof, len(p.Path), p.Place)
		}
		h = txLeaf(id, p.Place.Node, p.Place.Msid, p.Place.Position)
		for _, sibling := range p.Path {
			h = PairHash(h, sibling)
		}
	} else if len(p.Path) != 0 || p.Place.Position != 0 {
		return types.Hash{}, fmt.Errorf("%w: a direct transaction has no message, here it has place %s there and a path of %d hashes", merkle.ErrProof, p.Place, len(p.Path))
	}
	h, err := merkle.RootFromPath(h, uint64(p.Index), uint64(p.Roots), p.RootPath)
	if err != nil {
		return types.Hash{}, err
	}
	parts := p.Parts
	parts[partTransactions] = h
	return parts.Root(), nil
}

// VerifyTxProof checks that these bytes are a well-formed transaction, or a node's own record, in the block of this height whose state root
// this is, and returns it. The error wraps merkle.ErrProof.
func VerifyTxProof(root types.Hash, height types.Height, raw []byte, p TxProof) (*Tx, error) {
	decode := DecodeMessageTx
	if p.Place.Node == 0 {
		decode = DecodeTx
	}
	tx, err := decode(raw) // also keeps an inner node of a tree from passing for a transaction
	if err != nil {
		return nil, fmt.Errorf("%w: these bytes are no transaction: %v", merkle.ErrProof, err)
	}
	got, err := p.Root(tx.ID)
	switch {
	case err != nil:
		return nil, err
	case p.Place.Node == 0 && types.Height(p.Place.Msid) != height:
		return nil, fmt.Errorf("%w: a direct transaction of block %d, want %d", merkle.ErrProof, p.Place.Msid, height)
	case got != root:
		return nil, fmt.Errorf("%w: leads to state root %s, want %s", merkle.ErrProof, got, root)
	}
	return tx, nil
}

// BlockTxs is what a proof of a transaction needs of the block that it is in.
type BlockTxs struct {
	// Roots are the roots of the messages that were taken and the ids of the direct transactions, in order (Outcome.Roots).
	Roots []types.Hash
	// Parts are those of the state root after the block.
	Parts Parts
}

// ProveMessageTx proves a transaction of a message, given the message as it stands in the block, and returns its bytes, which share
// the message's memory. ErrNotFound when the message has no such transaction or was not taken.
func (b BlockTxs) ProveMessageTx(message []byte, position uint32) (raw []byte, p TxProof, err error) {
	m, _, r := decodeMessage(message)
	if r != nil {
		return nil, p, r
	}
	if position == 0 || int64(position) > int64(len(m.Txs)) {
		return nil, p, fmt.Errorf("message %d of node %d has %d transactions, none with number %d: %w", m.Msid, m.Node, len(m.Txs), position, ErrNotFound)
	}
	p.Place = Place{Node: m.Node, Msid: m.Msid, Position: position}
	var root types.Hash
	root, p.Path = treePath(m.leaves(), int(position))
	return m.Txs[position-1], p, b.prove(&p, root)
}

// ProveDirect proves a direct transaction of the block at this height. ErrNotFound when the block has not taken it.
func (b BlockTxs) ProveDirect(id types.Hash, height types.Height) (p TxProof, err error) {
	p.Place.Msid = uint32(height)
	return p, b.prove(&p, id)
}

func (b BlockTxs) prove(p *TxProof, root types.Hash) error {
	var t merkle.Tree
	found := -1
	for i, r := range b.Roots {
		t.Set(i, r)
		if r == root {
			found = i
		}
	}
	if found < 0 {
		return fmt.Errorf("the block has not taken %s: %w", p.Place, ErrNotFound)
	}
	p.Index, p.Roots, p.RootPath, p.Parts = uint32(found), uint32(len(b.Roots)), t.Prove(found), b.Parts
	p.Parts[partTransactions] = types.Hash{}
	return nil
}

// IsMessage tells whether a transaction of a block is made as message msid of a node.
func IsMessage(blockTx []byte, node uint16, msid uint32) bool {
	return len(blockTx) >= messageHead && blockTx[0] == blockMessage &&
		binary.LittleEndian.Uint16(blockTx[68:]) == node && binary.LittleEndian.Uint32(blockTx[70:]) == msid
}

// AppendBinary writes the proof: node(2) msid(4) position(4), number of hashes(1) and hashes to the message's root, index(4) and
// number(4) of the block's roots, number of hashes(1) and hashes to the part, then all parts.
func (p *TxProof) AppendBinary(b []byte) ([]byte, error) {
	if len(p.Path) > maxMessagePath || len(p.RootPath) > maxRootsPath {
		return nil, fmt.Errorf("%w: paths of %d and %d hashes, at most %d and %d", merkle.ErrProof, len(p.Path), len(p.RootPath), maxMessagePath, maxRootsPath)
	}
	le := binary.LittleEndian
	b = le.AppendUint16(b, p.Place.Node)
	b = le.AppendUint32(b, p.Place.Msid)
	b = le.AppendUint32(b, p.Place.Position)
	b = appendHashes(append(b, byte(len(p.Path))), p.Path)
	b = le.AppendUint32(b, p.Index)
	b = le.AppendUint32(b, p.Roots)
	b = appendHashes(append(b, byte(len(p.RootPath))), p.RootPath)
	return appendHashes(b, p.Parts[:]), nil
}

func appendHashes(b []byte, hashes []types.Hash) []byte {
	for _, h := range hashes {
		b = append(b, h[:]...)
	}
	return b
}

var errTxProof = errors.New("encoded proof of a transaction is cut off, too long or has bytes after its end")

// ParseTxProof reads what AppendBinary wrote, and nothing else.
func ParseTxProof(b []byte) (p TxProof, err error) {
	le := binary.LittleEndian
	bad := len(b) > MaxTxProof
	take := func(n int) []byte {
		if bad || n > len(b) {
			bad = true
			return make([]byte, n)
		}
		out := b[:n]
		b = b[n:]
		return out
	}
	hashes := func(most int) []types.Hash {
		n := int(take(1)[0])
		if n > most {
			bad = true
			return nil
		}
		out := make([]types.Hash, n)
		for i := range out {
			out[i] = types.Hash(take(32))
		}
		return out
	}
	p.Place = Place{Node: le.Uint16(take(2)), Msid: le.Uint32(take(4)), Position: le.Uint32(take(4))}
	p.Path = hashes(maxMessagePath)
	p.Index, p.Roots = le.Uint32(take(4)), le.Uint32(take(4))
	p.RootPath = hashes(maxRootsPath)
	for i := range p.Parts {
		p.Parts[i] = types.Hash(take(32))
	}
	if bad || len(b) != 0 {
		return TxProof{}, errTxProof
	}
	return p, nil
}

// treePath is TreeHash, with the siblings of leaf i on the way to the root.
func treePath(leaves []types.Hash, i int) (root types.Hash, path []types.Hash) {
	type sub struct {
		level int
		hash  types.Hash
		on    bool // leaf i is below
	}
	join := func(left, right sub) sub {
		switch {
		case left.on:
			path = append(path, right.hash)
		case right.on:
			path = append(path, left.hash)
		}
		return sub{left.level + 1, PairHash(left.hash, right.hash), left.on || right.on}
	}
	var stack []sub
	for k, h := range leaves {
		s := sub{0, h, k == i}
		for len(stack) > 0 && stack[len(stack)-1].level == s.level {
			s, stack = join(stack[len(stack)-1], s), stack[:len(stack)-1]
		}
		stack = append(stack, s)
	}
	for len(stack) > 1 {
		last := len(stack) - 1
		stack[last-1] = join(stack[last-1], stack[last])
		stack = stack[:last]
	}
	if len(stack) == 1 {
		root = stack[0].hash
	}
	return root, path
}
