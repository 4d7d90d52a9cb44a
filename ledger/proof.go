package ledger

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/eschaton-network/chand/merkle"
	"github.com/eschaton-network/chand/types"
)

// Root is the state root (AppHash): a tagged hash of the genesis and the roots of three trees: nodes (each with the tree
// of its accounts), contracts, script outputs. Leaves changed since the last call are rehashed.
func (s *State) Root() types.Hash {
	nodes, contracts, outputs := s.roots()
	return stateRoot(s.params.Genesis, nodes, contracts, outputs)
}

func stateRoot(genesis, nodes, contracts, outputs types.Hash) types.Hash {
	return types.TaggedHash("chand/state", genesis[:], nodes[:], contracts[:], outputs[:])
}

func (s *State) roots() (nodes, contracts, outputs types.Hash) {
	for i, n := range s.nodes {
		if len(n.dirty) == 0 {
			continue
		}
		slices.Sort(n.dirty)
		for _, user := range slices.Compact(n.dirty) {
			id := types.AccountID{Node: uint16(i + 1), User: user}
			n.tree.Set(int(user), accountLeaf(id, &n.accounts[user]))
		}
		n.dirty = n.dirty[:0]
		s.nodeTree.Set(i, nodeLeaf(uint16(i+1), n.key, uint32(len(n.accounts)), n.tree.Root()))
	}
	for _, id := range s.dirtyContracts {
		s.contractTree.Set(id, contractHash(s.contracts[id]))
	}
	s.dirtyContracts = s.dirtyContracts[:0]
	return s.nodeTree.Root(), s.contractTree.Root(), s.outputTree.Root()
}

// accountLeaf hashes what the record's checksum covers, in the domain of leaves.
func accountLeaf(id types.AccountID, r *Record) types.Hash {
	b, n := r.hashed(), accountBytes(id)
	return merkle.LeafHash(b[:], n[:])
}

func nodeLeaf(id uint16, key [32]byte, accounts uint32, root types.Hash) types.Hash {
	b := binary.LittleEndian.AppendUint16(nil, id)
	b = append(b, key[:]...)
	b = binary.LittleEndian.AppendUint32(b, accounts)
	return merkle.LeafHash(b, root[:])
}

// AccountProof leads from an account's record to the state root.
type AccountProof struct {
	ID types.AccountID `json:"id"`
	// Path leads from the record to the root of its node's accounts, of which there are Accounts.
	Path     []types.Hash `json:"path"`
	Accounts uint32       `json:"accounts"`
	// NodeKey is the node's public key; NodePath leads from the node to the root of all Nodes.
	NodeKey  types.Hash   `json:"node_key"`
	NodePath []types.Hash `json:"node_path"`
	Nodes    uint32       `json:"nodes"`
	// Genesis, Contracts and Outputs are the other parts of the state root.
	Genesis   types.Hash `json:"genesis"`
	Contracts types.Hash `json:"contracts"`
	Outputs   types.Hash `json:"outputs"`
}

// AccountProof proves an account's record against Root; ErrNotFound when there is none.
func (s *State) AccountProof(id types.AccountID) (AccountProof, error) {
	if s.record(id) == nil {
		return AccountProof{}, ErrNotFound
	}
	_, contracts, outputs := s.roots()
	n := s.node(id.Node)
	return AccountProof{
		ID: id, Path: n.tree.Prove(int(id.User)), Accounts: uint32(len(n.accounts)),
		NodeKey: n.key, NodePath: s.nodeTree.Prove(int(id.Node) - 1), Nodes: uint32(len(s.nodes)),
		Genesis: s.params.Genesis, Contracts: contracts, Outputs: outputs,
	}, nil
}

// VerifyAccountProof checks that record is the state of account p.ID in the ledger state with this root. The error
// wraps merkle.ErrProof.
func VerifyAccountProof(root types.Hash, record Record, p AccountProof) error {
	if p.ID.Node == 0 {
		return fmt.Errorf("%w: node 0 has no accounts", merkle.ErrProof)
	}
	accounts, err := merkle.RootFromPath(accountLeaf(p.ID, &record), uint64(p.ID.User), uint64(p.Accounts), p.Path)
	if err != nil {
		return err
	}
	leaf := nodeLeaf(p.ID.Node, p.NodeKey, p.Accounts, accounts)
	nodes, err := merkle.RootFromPath(leaf, uint64(p.ID.Node)-1, uint64(p.Nodes), p.NodePath)
	if err != nil {
		return err
	}
	return wantRoot(root, stateRoot(p.Genesis, nodes, p.Contracts, p.Outputs))
}

func wantRoot(want, got types.Hash) error {
	if want != got {
		return fmt.Errorf("%w: leads to state root %s, want %s", merkle.ErrProof, got, want)
	}
	return nil
}

// ContractProof leads from a contract, or from its absence, to the state root.
type ContractProof struct {
	Map     merkle.MapProof `json:"map"`
	Genesis types.Hash      `json:"genesis"`
	Nodes   types.Hash      `json:"nodes"`
	Outputs types.Hash      `json:"outputs"`
}

// ContractProof proves against Root what the ledger holds under a contract's id, or that it never held anything.
func (s *State) ContractProof(id types.ChannelID) ContractProof {
	nodes, _, outputs := s.roots()
	return ContractProof{Map: s.contractTree.Prove(id), Genesis: s.params.Genesis, Nodes: nodes, Outputs: outputs}
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
	return wantRoot(root, stateRoot(p.Genesis, p.Nodes, contracts, p.Outputs))
}

func contractHash(c *Contract) types.Hash {
	return types.SHA256(appendContract(nil, c))
}
