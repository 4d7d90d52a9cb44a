package ledger

import (
	"encoding/binary"

	"github.com/eschaton-network/chand/merkle"
	"github.com/eschaton-network/chand/types"
)

// Node is what the state keeps of one ledger node besides its accounts (the original's node record).
type Node struct {
	// PublicKey signs the node's messages, receipts and blocks.
	PublicKey types.Hash `json:"public_key"`
	// OldKey is the key before the last change, zero when there was none: what it signed still counts as evidence.
	OldKey types.Hash `json:"old_key"`
	// KeySince is the height of that change, 0 when there was none. The next one is UnbondingBlocks later at the earliest, so that nobody
	// leaves what it signed behind with two changes.
	KeySince types.Height `json:"key_since"`
	// MessageHash is the root of the node's last message; at the start bound to genesis, number and key.
	MessageHash types.Hash `json:"message_hash"`
	// Msid is the number of the last message, Mtim its time; 0 before the first.
	Msid uint32 `json:"msid"`
	Mtim uint32 `json:"mtim"`
	// Status has the bits of the original (NodeDoubleSpend ...).
	Status uint32 `json:"status"`
	// Port and IPv4 are where the node's office listens, as the node announced itself; 0 before.
	Port uint16 `json:"port"`
	IPv4 uint32 `json:"ipv4"`
	// Active is the height of the block with the node's last message, or of its creation.
	Active types.Height `json:"active"`
	// Weight is the sum of the balances of the node's accounts.
	Weight types.Amount `json:"weight"`
	// Leased is the stake that accounts anywhere have leased to the node.
	Leased types.Amount `json:"leased"`
	// Accounts is their number, deleted ones included.
	Accounts uint32 `json:"accounts"`
}

// Bits of a node's status (esc-ledger: node record).
const (
	// NodeDoubleSpend closes the node: its messages are ignored and it cannot validate.
	NodeDoubleSpend uint32 = 1 << 0
	// NodeVIP marks a validator, NodeMaster the one with the most stake.
	NodeVIP    uint32 = 1 << 1
	NodeMaster uint32 = 1 << 2
)

// nodeFixed is the size of a node's encoding.
const nodeFixed = 32 + 32 + 4 + 32 + 4 + 4 + 4 + 2 + 4 + 4 + 8 + 8 + 4

// appendNode writes a node as it is hashed and stored in snapshots.
func appendNode(b []byte, n *Node) []byte {
	le := binary.LittleEndian
	b = append(b, n.PublicKey[:]...)
	b = append(b, n.OldKey[:]...)
	b = le.AppendUint32(b, uint32(n.KeySince))
	b = append(b, n.MessageHash[:]...)
	b = le.AppendUint32(b, n.Msid)
	b = le.AppendUint32(b, n.Mtim)
	b = le.AppendUint32(b, n.Status)
	b = le.AppendUint16(b, n.Port)
	b = le.AppendUint32(b, n.IPv4)
	b = le.AppendUint32(b, uint32(n.Active))
	b = le.AppendUint64(b, uint64(n.Weight))
	b = le.AppendUint64(b, uint64(n.Leased))
	return le.AppendUint32(b, n.Accounts)
}

// parseNode reads nodeFixed bytes that appendNode wrote.
func parseNode(b []byte) (n Node) {
	r := reader{b: b}
	n.PublicKey, n.OldKey, n.KeySince = r.hash(), r.hash(), types.Height(r.u32())
	n.MessageHash = r.hash()
	n.Msid, n.Mtim, n.Status = r.u32(), r.u32(), r.u32()
	n.Port, n.IPv4, n.Active = r.u16(), r.u32(), types.Height(r.u32())
	n.Weight, n.Leased, n.Accounts = r.amount(), r.amount(), r.u32()
	return n
}

// nodeLeaf is a node's leaf in the tree of nodes; root is that of its accounts.
func nodeLeaf(id uint16, n *Node, root types.Hash) types.Hash {
	b := appendNode(binary.LittleEndian.AppendUint16(make([]byte, 0, 2+nodeFixed), id), n)
	return merkle.LeafHash(b, root[:])
}

// initialMessageHash starts a node's chain of messages: bound to the ledger, so that no message fits another one.
func initialMessageHash(genesis types.Hash, node uint16, key [32]byte) types.Hash {
	return types.TaggedHash("chand/node", genesis[:], binary.LittleEndian.AppendUint16(nil, node), key[:])
}

// ledgerNode is one node with its accounts, by number.
type ledgerNode struct {
	Node
	accounts records
	tree     merkle.Tree
	dirty    dirtySet // account numbers changed since the last Root
	changed  bool     // Node changed since the last Root
	freed    []freed  // deleted accounts, in the order of deletion
	deleted  int      // how many are deleted now
	// profit is what the node has earned in the block being applied.
	profit types.Amount
}

// Nodes is the number of nodes; they are numbered from 1.
func (s *State) Nodes() int { return len(s.nodes) }

// Node returns a node; ErrNotFound when there is none.
func (s *State) Node(id uint16) (Node, error) {
	n := s.node(id)
	if n == nil {
		return Node{}, ErrNotFound
	}
	out := n.Node
	out.Accounts = uint32(n.accounts.len())
	return out, nil
}

// addNode appends a node without accounts and returns its number.
func (s *State) addNode(key types.Hash) uint16 {
	id := uint16(len(s.nodes) + 1)
	s.nodes = append(s.nodes, &ledgerNode{changed: true, Node: Node{
		PublicKey: key, MessageHash: initialMessageHash(s.params.Genesis, id, key), Active: s.height,
	}})
	return id
}

// setNodeKey changes a node's key. Votes are signed with it from the block after next on.
func (s *State) setNodeKey(id uint16, key types.Hash) {
	n := s.touchNode(id)
	n.OldKey, n.PublicKey, n.KeySince = n.PublicKey, key, s.height
}

// keyFixed tells until which height a node keeps its key, because what it signed with the one before still counts; false when it may change
// in the block at this height.
func (s *State) keyFixed(n *ledgerNode, at types.Height) (until types.Height, fixed bool) {
	until = n.KeySince + types.Height(s.genesis.UnbondingBlocks)
	return until, !n.OldKey.IsZero() && at < until
}

// touchNode returns a node to be changed.
func (s *State) touchNode(id uint16) *ledgerNode {
	n := s.node(id)
	n.changed = true
	return n
}
