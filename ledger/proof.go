package ledger

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/eschaton-network/chand/merkle"
	"github.com/eschaton-network/chand/types"
)

// The parts of the state root, in the order in which they are hashed.
const (
	partGenesis      = iota // hash of the genesis document
	partHead                // height, time, pool
	partNodes               // tree of nodes, each with the tree of its accounts
	partContracts           // map of contracts
	partOutputs             // map of script outputs
	partTransactions        // tree over this block's messages and direct transactions
	partPending             // what waits for a later block
	partLeases              // leases and bonds that are being released
	partCertificates        // certificates, enrolments and policies
	partCount
)

// Parts are the hashes that the state root is made of.
type Parts [partCount]types.Hash

// Root is the tagged hash chand/state of all parts.
func (p *Parts) Root() types.Hash {
	all := make([][]byte, partCount)
	for i := range p {
		all[i] = p[i][:]
	}
	return types.TaggedHash("chand/state", all...)
}

// Root is the state root (AppHash): a tagged hash of the parts above. Leaves changed since the last call are rehashed.
func (s *State) Root() types.Hash {
	p := s.Parts()
	return p.Root()
}

// Parts are the hashes that Root is made of. Leaves changed since the last call are rehashed.
func (s *State) Parts() Parts {
	s.rehash()
	return s.parts
}

func (s *State) rehash() {
	for i, n := range s.nodes {
		if !n.changed && len(n.dirty.list) == 0 {
			continue
		}
		n.rehash(uint16(i+1), s.workers)
		n.changed = false
		n.Accounts = uint32(n.accounts.len())
		s.nodeTree.Set(i, nodeLeaf(uint16(i+1), &n.Node, n.tree.Root()))
	}
	for _, id := range s.dirtyContracts {
		s.contractTree.Set(id, contractHash(s.contracts[id]))
	}
	s.dirtyContracts = s.dirtyContracts[:0]
	s.parts = Parts{
		partGenesis: s.params.Genesis, partHead: s.headHash(), partNodes: s.nodeTree.Root(), partContracts: s.contractTree.Root(),
		partOutputs: s.outputTree.Root(), partTransactions: s.blockTxs, partPending: s.pendingHash(),
		partLeases: s.stake.hash(), partCertificates: s.registry.parts().hash(),
	}
}

// rehash brings the tree of a node's accounts up to date.
func (n *ledgerNode) rehash(id uint16, w Workers) {
	changed, leaf := n.dirty.take(), n.leaf(id)
	old, _ := slices.BinarySearch(changed, uint32(n.tree.Len()))
	for _, user := range changed[old:] {
		n.tree.Set(int(user), leaf(int(user)))
	}
	n.tree.Update(changed[:old], leaf, w)
}

func (s *State) headHash() types.Hash {
	b := binary.LittleEndian.AppendUint32(nil, uint32(s.height))
	b = binary.LittleEndian.AppendUint64(b, uint64(s.time))
	return types.TaggedHash("chand/head", binary.LittleEndian.AppendUint64(b, uint64(s.pool)))
}

// accountLeaf hashes what the record's checksum covers, in the domain of leaves.
func accountLeaf(id types.AccountID, r *Record) types.Hash {
	b, n := r.hashed(), accountBytes(id)
	return merkle.LeafHash(b[:], n[:])
}

// leaf gives the leaves of the tree of a node's accounts.
func (n *ledgerNode) leaf(id uint16) func(i int) types.Hash {
	return func(i int) types.Hash {
		return accountLeaf(types.AccountID{Node: id, User: uint32(i)}, n.accounts.at(uint32(i)))
	}
}

// AccountProof leads from an account's record to the state root.
type AccountProof struct {
	ID types.AccountID `json:"id"`
	// Path leads from the record to the root of its node's accounts.
	Path []types.Hash `json:"path"`
	// Node is the account's node; NodePath leads from it to the root of all Nodes.
	Node     Node         `json:"node"`
	NodePath []types.Hash `json:"node_path"`
	Nodes    uint32       `json:"nodes"`
	// Parts are those of the state root; that of the nodes is computed.
	Parts Parts `json:"parts"`
}

// AccountProof proves an account's record against Root; ErrNotFound when there is none.
func (s *State) AccountProof(id types.AccountID) (AccountProof, error) {
	if s.peek(id) == nil {
		return AccountProof{}, ErrNotFound
	}
	s.rehash()
	n := s.node(id.Node)
	return AccountProof{
		ID: id, Path: n.tree.Prove(int(id.User)), Node: n.Node,
		NodePath: s.nodeTree.Prove(int(id.Node) - 1), Nodes: uint32(len(s.nodes)), Parts: s.parts,
	}, nil
}

// VerifyAccountProof checks that record is the state of account p.ID in the ledger state with this root. The error
// wraps merkle.ErrProof.
func VerifyAccountProof(root types.Hash, record Record, p AccountProof) error {
	if p.ID.Node == 0 {
		return fmt.Errorf("%w: node 0 has no accounts", merkle.ErrProof)
	}
	accounts, err := merkle.RootFromPath(accountLeaf(p.ID, &record), uint64(p.ID.User), uint64(p.Node.Accounts), p.Path)
	if err != nil {
		return err
	}
	leaf := nodeLeaf(p.ID.Node, &p.Node, accounts)
	nodes, err := merkle.RootFromPath(leaf, uint64(p.ID.Node)-1, uint64(p.Nodes), p.NodePath)
	if err != nil {
		return err
	}
	return p.Parts.want(root, partNodes, nodes)
}

// want checks that the parts, with this one replaced by what was computed, lead to the root.
func (p Parts) want(want types.Hash, part int, computed types.Hash) error {
	p[part] = computed
	if got := p.Root(); got != want {
		return fmt.Errorf("%w: leads to state root %s, want %s", merkle.ErrProof, got, want)
	}
	return nil
}

// ContractProof leads from a contract, or from its absence, to the state root.
type ContractProof struct {
	Map merkle.MapProof `json:"map"`
	// Parts are those of the state root; that of the contracts is computed.
	Parts Parts `json:"parts"`
}

// ContractProof proves against Root what the ledger holds under a contract's id, or that it never held anything.
func (s *State) ContractProof(id types.ChannelID) ContractProof {
	s.rehash()
	return ContractProof{Map: s.contractTree.Prove(id), Parts: s.parts}
}

// VerifyContractProof checks that c is the state of the contract with this id, or, when c is nil, that there never was
// one, in the ledger state with this root. The error wraps merkle.ErrProof.
func VerifyContractProof(root types.Hash, id types.ChannelID, c *Contract, p ContractProof) error {
	contracts, value, found, err := p.Map.Root(id)
	if err != nil {
		return err
	}
	switch {
	case found != (c != nil):
		return fmt.Errorf("%w: it says found = %v of contract %s", merkle.ErrProof, found, id)
	case found && (c.ID != id || contractHash(c) != value):
		return fmt.Errorf("%w: contract %s is in another state", merkle.ErrProof, id)
	}
	return p.Parts.want(root, partContracts, contracts)
}

func contractHash(c *Contract) types.Hash {
	return types.SHA256(appendContract(nil, c))
}
