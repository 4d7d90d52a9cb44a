package ledger

import (
	"fmt"

	"github.com/eschaton-network/chand/types"
)

// Populate adds n accounts to node 1, each with what it holds from the node's admin, as creating them one by one would have done. It
// is no part of the transition: it makes ledgers of millions of accounts for measurements and tests, in seconds. key gives the
// public key of the i-th; nobody checks that it is one.
func (s *State) Populate(n int, each types.Amount, key func(i int) [32]byte) error {
	admin, first := types.AccountID{Node: 1}, s.Accounts(1)
	if first+n > MaxAccounts {
		return fmt.Errorf("%d accounts besides %d: at most %d fit", n, first, MaxAccounts)
	}
	if have := spendable(admin, s.peek(admin).Balance); each < 0 || n > 0 && each > have/types.Amount(n) {
		return fmt.Errorf("%d accounts with %s each: the admin can spend %s", n, each, have)
	}
	for i := range n {
		s.addAccount(types.AccountID{Node: 1, User: uint32(first + i)}, key(i), each)
	}
	s.debit(admin, each*types.Amount(n))
	return nil
}
