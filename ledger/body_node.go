package ledger

import (
	"encoding/binary"

	"github.com/eschaton-network/chand/types"
)

const (
	// feeNode is the fee of a new node and of a node's new key (E17).
	feeNode types.Amount = 1 << 28
	// NewNodeDeposit is moved from the creator to account 0 of a new node (E17 BANK_MIN_TMASS).
	NewNodeDeposit types.Amount = 1 << 36
)

// CreateNode makes a node, at the end of the block, whose key and whose account 0 have the sender's key. 79 bytes.
type CreateNode struct{}

func (CreateNode) kind() byte                        { return TypeCreateNode }
func (CreateNode) check() *Refusal                   { return nil }
func (CreateNode) signed(b []byte) []byte            { return b }
func (CreateNode) tail(b []byte) []byte              { return b }
func (CreateNode) fee(types.AccountID) types.Amount  { return feeNode }
func (CreateNode) cost(types.AccountID) types.Amount { return NewNodeDeposit }

func readCreateNode(_ *reader, sig func()) Body {
	sig()
	return CreateNode{}
}

func (CreateNode) verify(x *exec) *Refusal {
	key := x.s.peek(x.from).PublicKey
	if other := x.s.nodeOf(key); other != 0 {
		return refuse(CodeNodeKey, "node %d has the key of account %s already, and no two nodes may; change the account's key first", other, x.from)
	}
	return x.s.admits(key, RoleNode)
}

func (CreateNode) apply(x *exec) {
	x.s.end.nodes = append(x.s.end.nodes, newNode{by: x.from, key: x.s.peek(x.from).PublicKey})
}

// nodeOf returns the node with a public key, 0 when there is none. A key that a node had before counts, because CometBFT may not have
// forgotten it.
func (s *State) nodeOf(key types.Hash) uint16 {
	for i, n := range s.nodes {
		if n.PublicKey == key || n.OldKey == key {
			return uint16(i + 1)
		}
	}
	return 0
}

// newNode is a node to be made at the end of the block; the deposit is with the state.
type newNode struct {
	by  types.AccountID
	key types.Hash
}

// createNodes makes the nodes that this block's transactions asked for. Where no number is left, the deposit returns.
func (s *State) createNodes(log *eventLog) {
	for _, c := range s.end.nodes {
		e := NodeCreated{By: c.by, PublicKey: c.key}
		switch dead := s.deadNode(); {
		case s.nodeOf(c.key) != 0: // two in one block
		case dead != 0:
			e.Node = dead
			s.replaceNode(dead, c.key)
		case len(s.nodes) < MaxNodes:
			e.Node = s.addNode(c.key)
			s.addAccount(types.AccountID{Node: e.Node}, c.key, 0)
		}
		to := types.AccountID{Node: e.Node}
		if e.Node == 0 {
			to = c.by
		}
		s.credit(to, NewNodeDeposit, true)
		log.emit(e)
		if e.Node != 0 {
			log.emit(AccountCreated{ID: to, PublicKey: c.key})
		}
		log.emit(Deposited{From: c.by, To: to, Amount: NewNodeDeposit})
	}
}

// deadNode returns the first node whose number may be given away, 0 when there is none: silent for reusePeriods, with no account left but a
// spent account 0, without stake, not named by the genesis or by others, and with nothing open that is older than its silence.
func (s *State) deadNode() uint16 {
	for i, n := range s.nodes {
		id := types.AccountID{Node: uint16(i + 1)}
		silent := uint64(n.Active) + reusePeriods*uint64(s.genesis.DividendBlocks)
		if uint64(s.height) < silent || n.accounts.at(0).Balance > maintenanceFee || n.Leased != 0 || i < len(s.genesis.Nodes) ||
			n.Status&NodeVIP != 0 || s.pinned(id) || !s.deserted(n) {
			continue
		}
		if s.forgotten(silent, silent) && len(s.stake.ofNode[id.Node]) == 0 { // nor stake that is still being released
			return id.Node
		}
	}
	return 0
}

// deserted tells whether all accounts of a node but account 0 are deleted and may be given away. It looks at the last one deleted alone,
// because their number is known: walking over all would make many new nodes in one block dear.
func (s *State) deserted(n *ledgerNode) bool {
	if n.deleted != n.accounts.len()-1 {
		return false
	}
	for len(n.freed) > 0 && n.void(n.freed[len(n.freed)-1]) {
		n.freed = n.freed[:len(n.freed)-1]
	}
	if len(n.freed) == 0 {
		return true
	}
	at := uint64(n.freed[len(n.freed)-1].at)
	return s.forgotten(at, at+reusePeriods*uint64(s.genesis.DividendBlocks))
}

// replaceNode gives a dead node's number to another owner. Its message numbers go on, so that no place has two transactions; its chain of
// messages starts anew.
func (s *State) replaceNode(id uint16, key types.Hash) {
	n := s.touchNode(id)
	s.replaceAccount(types.AccountID{Node: id}, key)
	n.MessageHash = types.TaggedHash("chand/node", n.MessageHash[:], key[:])
	n.PublicKey, n.OldKey, n.KeySince = key, types.Hash{}, 0
	n.Mtim, n.Status, n.Port, n.IPv4, n.Active = 0, 0, 0, 0, s.height
}

// ChangeNodeKey gives a node another key from the next block on, once in UnbondingBlocks. Only account 0 of the node may, or, when the node is closed, account 0 of
// the first validator's node, which opens it again. 177 bytes.
type ChangeNodeKey struct {
	// Node is 0 for the sender's own.
	Node      uint16
	PublicKey types.Hash
	// Proof is KeyProof of the new key's secret.
	Proof [64]byte
}

func (ChangeNodeKey) kind() byte                        { return TypeChangeNodeKey }
func (ChangeNodeKey) check() *Refusal                   { return nil }
func (ChangeNodeKey) fee(types.AccountID) types.Amount  { return feeNode }
func (ChangeNodeKey) cost(types.AccountID) types.Amount { return 0 }
func (c ChangeNodeKey) tail(b []byte) []byte            { return append(b, c.Proof[:]...) }
func (c ChangeNodeKey) signed(b []byte) []byte {
	return append(binary.LittleEndian.AppendUint16(b, c.Node), c.PublicKey[:]...)
}

func readChangeNodeKey(r *reader, sig func()) Body {
	c := ChangeNodeKey{Node: r.u16(), PublicKey: r.hash()}
	sig()
	c.Proof = r.signature()
	return c
}

// target is the node whose key is to be changed.
func (c ChangeNodeKey) target(x *exec) uint16 {
	if c.Node == 0 {
		return x.from.Node
	}
	return c.Node
}

func (c ChangeNodeKey) verify(x *exec) *Refusal {
	id := c.target(x)
	n := x.s.node(id)
	switch {
	case n == nil:
		return refuse(CodeTargetNode, "node %d does not exist", id)
	case x.from.User != 0:
		return refuse(CodeNodeKey, "account %s may not change a node's key: only account 0 of a node may", x.from)
	case n.Status&NodeDoubleSpend != 0 && x.s.node(x.from.Node).Status&(NodeMaster|NodeDoubleSpend) != NodeMaster:
		return refuse(CodeNodeKey, "node %d is closed; only account 0 of the first validator's node may open it with a new key", id)
	case n.Status&NodeDoubleSpend == 0 && id != x.from.Node:
		return refuse(CodeNodeKey, "node %d is not closed; only its own account 0 may change its key", id)
	}
	if until, fixed := x.s.keyFixed(n, x.height); fixed && n.Status&NodeDoubleSpend == 0 {
		return refuse(CodeNodeKey, "node %d has changed its key in block %d; what the key before signed counts until block %d, and so long it may not change again", id, n.KeySince, until)
	}
	if other := x.s.nodeOf(c.PublicKey); other != 0 {
		return refuse(CodeNodeKey, "node %d has or had this key, and no two nodes may", other)
	}
	if r := verifyKeyProof(x, c.PublicKey, c.Proof); r != nil {
		return r
	}
	return x.s.admits(c.PublicKey, RoleNode)
}

func (c ChangeNodeKey) apply(x *exec) {
	id := c.target(x)
	x.s.end.keys = append(x.s.end.keys, nodeKey{node: id, key: c.PublicKey, opens: x.s.node(id).Status&NodeDoubleSpend != 0})
}

// nodeKey is a node's new key, effective at the end of the block.
type nodeKey struct {
	node uint16
	key  types.Hash
	// opens says that the sender may open the node, which was closed.
	opens bool
}

// changeNodeKeys executes this block's changes, but not those of a node that was closed meanwhile: it must not open itself. A closed node is open again; what its old key signed was punished and counts no more.
func (s *State) changeNodeKeys(log *eventLog) {
	for _, c := range s.end.keys {
		n := s.node(c.node)
		opened := n.Status&NodeDoubleSpend != 0
		_, fixed := s.keyFixed(n, s.height)
		if opened && !c.opens || !opened && fixed || s.nodeOf(c.key) != 0 { // two changes, or two nodes with one key, in one block
			continue
		}
		s.setNodeKey(c.node, c.key)
		if opened {
			n.Status &^= NodeDoubleSpend
			n.OldKey, n.KeySince = types.Hash{}, 0
		}
		log.emit(NodeKeyChanged{Node: c.node, PublicKey: c.key, Opened: opened})
	}
}
