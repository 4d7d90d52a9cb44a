package ledger

import "github.com/eschaton-network/chand/types"

// Nodes is the root of the tree of nodes.
func (p *Parts) Nodes() types.Hash { return p[partNodes] }

// Transactions is the root over the block's messages and direct transactions.
func (p *Parts) Transactions() types.Hash { return p[partTransactions] }

// AccountsRoot is the root of a node's tree of accounts; zero when there is no such node.
func (s *State) AccountsRoot(node uint16) types.Hash {
	n := s.node(node)
	if n == nil {
		return types.Hash{}
	}
	s.rehash()
	return n.tree.Root()
}

// MessageTxs splits a node's message, as it stands in a block, into its transactions, which share its memory. The error is a *Refusal.
func MessageTxs(message []byte) (*NodeMessage, error) {
	m, _, r := decodeMessage(message)
	if r != nil {
		return nil, r
	}
	return m, nil
}

// Pending is an account with its direct transactions that Check has accepted since the last block executed.
func (s *State) Pending(id types.AccountID) (Account, error) {
	a, err := s.Account(id)
	if w := s.waiting.senders[id]; err == nil && w != nil {
		a.Balance -= w.spent
		a.Msid, a.Hash, a.PublicKey = w.first+uint32(len(w.txs)), w.hash, w.key
	}
	return a, err
}
