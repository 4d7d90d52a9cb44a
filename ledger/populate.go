package ledger

import (
	"fmt"

	"github.com/eschaton-network/chand/merkle"
	"github.com/eschaton-network/chand/types"
)

// Populate adds n accounts to node 1, each with what it holds from the node's admin, as creating them one by one would have done. It
// is no part of the transition: it makes ledgers of millions of accounts for measurements and tests, in seconds. key gives the
// public key of the i-th; nobody checks that it is one. run may be nil.
func (s *State) Populate(n int, each types.Amount, key func(i int) [32]byte, run merkle.Run) error {
	admin, first := types.AccountID{Node: 1}, s.Accounts(1)
	if first+n > MaxAccounts {
		return fmt.Errorf("%d accounts besides %d: at most %d fit", n, first, MaxAccounts)
	}
	if have := spendable(admin, s.peek(admin).Balance); each < 0 || n > 0 && each > have/types.Amount(n) {
		return fmt.Errorf("%d accounts with %s each: the admin can spend %s", n, each, have)
	}
	node := s.touchNode(1)
	for i := range n {
		id, k := types.AccountID{Node: 1, User: uint32(first + i)}, key(i)
		node.accounts.append(Record{Msid: 1, Time: uint32(s.time), PublicKey: k, Hash: initialHash(s.params.Genesis, id, k),
			LocalChange: uint32(s.time), RemoteChange: uint32(s.time), Balance: each})
	}
	node.Weight += each * types.Amount(n)
	s.debit(admin, each*types.Amount(n))
	node.tree.Build(node.accounts.len(), node.leaf(1), run)
	s.indexKeys()
	return nil
}
