package ledger

import (
	"cmp"
	"slices"

	"github.com/eschaton-network/chand/types"
)

const (
	// UserMinimum is what the office of a node keeps on a user's account (E17 USER_MIN_MASS). The ledger lets users go to zero.
	UserMinimum types.Amount = 1 << 28
	// maintenanceFee is what an account pays in each dividend period (E17).
	maintenanceFee types.Amount = 1 << 20
	// shareShift is the part of fees that nodes keep: 1/16 (E17).
	shareShift = 4
	// feeMessage is what a node pays for each of its messages, besides one unit a byte (E17).
	feeMessage types.Amount = 4096
	// feeBlock is what a node pays for each block, besides the charge for its accounts (E17).
	feeBlock types.Amount = 4096
	// topNodes share two fifths of their profit in equal parts, with the validators (A19: 40 % of the 100 best).
	topNodes = 100
)

// shareFee books a node's part of a fee: a sixteenth of what is local to its sender's node, when that node carried the transaction in a
// message. The rest stays in the pool, and so does the part of a direct transaction: no node did anything for it.
func (s *State) shareFee(tx *Tx, place Place, fee types.Amount) {
	if place.Node == 0 {
		return
	}
	eachRemoteFee(tx, func(_ types.AccountID, part types.Amount) { fee -= part })
	s.node(tx.From.Node).profit += fee >> shareShift
}

// shareRemoteFee books the receiving nodes' part of the fee of a payment that was executed: a sixteenth of what is asked because
// the target is elsewhere. Deposits to a node's own account 0 give it none (E17). For an account, the node gets it when it accepts.
func (s *State) shareRemoteFee(tx *Tx) {
	if tx.Body.kind() == TypeCreateAccount {
		return
	}
	eachRemoteFee(tx, func(to types.AccountID, part types.Amount) {
		if to.User != 0 {
			s.node(to.Node).profit += part >> shareShift
		}
	})
}

// eachRemoteFee calls do for each part of a fee that is asked because its target is on another node.
func eachRemoteFee(tx *Tx, do func(to types.AccountID, part types.Amount)) {
	switch b := tx.Body.(type) {
	case SendOne:
		if b.To.Node != tx.From.Node {
			do(b.To, b.value()>>feeShift)
		}
	case SendMany:
		for _, w := range b.Wires {
			if w.To.Node != tx.From.Node {
				do(w.To, w.Amount>>feeShift)
			}
		}
	case CreateAccount:
		if b.Node != tx.From.Node {
			do(types.AccountID{Node: b.Node}, feeRemoteAccount-feeBase)
		}
	}
}

// periodCharge is what a node pays at the end of each dividend period: for each block a fixed amount and a quarter of its part of its accounts'
// maintenance fees (E17). The original books it block by block; booked once, it lets blocks without work change nothing.
func (s *State) periodCharge(accounts int) types.Amount {
	blocks := types.Amount(s.genesis.DividendBlocks)
	return blocks * (feeBlock + (types.Amount(accounts)*(maintenanceFee/blocks)>>shareShift)/4)
}

// bookProfits moves each node's profit of this block to its account 0: its parts of fees, less what it pays for messages and, at the end of
// a period, for accounts. A loss takes what is there and no more.
func (s *State) bookProfits(log *eventLog) {
	last := uint32(s.height+1)%s.genesis.DividendBlocks == 0
	for i, n := range s.nodes { // dividends first: the maintenance fees in them are profit too
		if n.profit != 0 || last {
			s.payDividend(types.AccountID{Node: uint16(i + 1)})
		}
	}
	shared := s.shareProfits()
	for i, n := range s.nodes {
		id := types.AccountID{Node: uint16(i + 1)}
		if n.profit == 0 && shared[id.Node] == 0 && !last {
			continue
		}
		e := NodeProfit{Node: id.Node, Income: n.profit, Shared: shared[id.Node]}
		if last {
			e.Charge = s.periodCharge(n.accounts.len())
		}
		s.payDividend(id) // of a validator that only shares; its sixteenth of that fee stays in the pool
		n.profit = 0
		e.Booked = max(e.Income+e.Shared-e.Charge, -s.peek(id).Balance)
		s.pool -= e.Booked
		s.addBalance(id, e.Booked)
		log.emit(e)
	}
}

// shareProfits pools two fifths of the profit of the nodes that made most and divides them equally among those of them that are not
// closed and the validators; a node in both groups has two parts. It returns what each gains or loses. What doesn't divide stays in the pool.
func (s *State) shareProfits() map[uint16]types.Amount {
	var top, members []uint16
	for i, n := range s.nodes {
		if n.profit > 0 {
			top = append(top, uint16(i+1))
		}
	}
	if len(top) == 0 {
		return nil
	}
	slices.SortFunc(top, func(a, b uint16) int {
		return cmp.Or(cmp.Compare(s.node(b).profit, s.node(a).profit), cmp.Compare(a, b))
	})
	top = top[:min(len(top), topNodes)]
	shared := make(map[uint16]types.Amount)
	var pooled types.Amount
	for _, id := range top {
		part := s.node(id).profit / 5 * 2
		shared[id] -= part
		pooled += part
		members = append(members, id)
	}
	for _, v := range s.stake.validators {
		members = append(members, v.Node)
	}
	members = slices.DeleteFunc(members, func(id uint16) bool { return s.node(id).Status&NodeDoubleSpend != 0 })
	if len(members) == 0 {
		return nil
	}
	for _, id := range members {
		shared[id] += pooled / types.Amount(len(members))
	}
	return shared
}
