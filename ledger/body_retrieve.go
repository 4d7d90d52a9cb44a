package ledger

import (
	"github.com/eschaton-network/chand/types"
)

const (
	// feeRetrieve is the fee of each call (E17).
	feeRetrieve types.Amount = 1 << 20
	// The call that moves money costs a 4096th of it, and an 8192nd for the node that it goes to (E17).
	feeRetrieveShift       = 12
	feeRetrieveRemoteShift = 13
)

// RetrieveFunds moves all that an account on another node has to the sender, which must have the same key: the way out of a node that is
// closed or serves no more. The first call locks an account that is idle; the second, a lock time later, moves the money. Until then the
// account's owner ends it with any transaction, afterwards with a SendOne of 0 to itself. 85 bytes.
type RetrieveFunds struct{ Account types.AccountID }

func (RetrieveFunds) kind() byte                        { return TypeRetrieveFunds }
func (RetrieveFunds) check() *Refusal                   { return nil }
func (RetrieveFunds) tail(b []byte) []byte              { return b }
func (RetrieveFunds) fee(types.AccountID) types.Amount  { return feeRetrieve }
func (RetrieveFunds) cost(types.AccountID) types.Amount { return 0 }

func (f RetrieveFunds) signed(b []byte) []byte {
	n := accountBytes(f.Account)
	return append(b, n[:]...)
}

func readRetrieveFunds(r *reader, sig func()) Body {
	f := RetrieveFunds{Account: r.account()}
	sig()
	return f
}

func (f RetrieveFunds) verify(x *exec) *Refusal {
	if r := verifyTarget(x, f.Account); r != nil {
		return r
	}
	_, r := x.s.retrievalPhase(retrieval{by: x.from, from: f.Account}, x.time)
	return r
}

func (f RetrieveFunds) apply(x *exec) {
	x.s.end.retrievals = append(x.s.end.retrievals, retrieval{by: x.from, from: f.Account})
}

// retrieval is a call that waits for the end of its block.
type retrieval struct{ by, from types.AccountID }

// lockTime is how long an account must be idle to be locked, and then stay locked until its money moves: a dividend period (A19).
func (s *State) lockTime() types.Time { return s.periodTime() }

// pairedWith is the account that a record is paired with.
func pairedWith(r *Record) types.AccountID {
	return types.AccountID{Node: r.PairedNode, User: r.PairedID}
}

// locked tells whether a lock binds the account's owner: another node's account has begun a retrieval and its lock time is over.
func (s *State) locked(id types.AccountID, r *Record) bool {
	return r.PairedNode != 0 && r.PairedNode != id.Node && types.Time(r.Time)+s.lockTime() <= s.time
}

// cancelsRetrieval tells whether a transaction is what its sender may do although it is locked.
func cancelsRetrieval(tx *Tx) bool {
	one, ok := tx.Body.(SendOne)
	return ok && one.To == tx.From && one.value() == 0
}

// retrievalPhase tells what a call at this time does, or why it does nothing.
func (s *State) retrievalPhase(c retrieval, now types.Time) (RetrievalPhase, *Refusal) {
	target, lock := s.peek(c.from), s.lockTime()
	switch {
	case c.by.Node == c.from.Node:
		return 0, refuse(CodeTargetNode, "account %s is on this node; its owner can simply send", c.from)
	case target.Status&StatusDeleted != 0:
		return 0, refuse(CodeTargetAccount, "account %s was deleted", c.from)
	case target.PublicKey != s.peek(c.by).PublicKey:
		return 0, refuse(CodeKeyDiffers, "account %s has another key than %s", c.from, c.by)
	}
	if pairedWith(target) == c.by {
		if until := types.Time(target.Time) + lock; now < until {
			return 0, refuse(CodeLocked, "account %s is locked for %s until %d and this is %d; call again then; only the fee was charged", c.from, c.by, until, now)
		}
		return RetrievalPaid, nil
	}
	if until := max(types.Time(target.Time), types.Time(target.LocalChange)) + lock; now < until {
		return 0, refuse(CodeLocked, "account %s is in use: it can be locked from %d on and this is %d; only the fee was charged", c.from, until, now)
	}
	return RetrievalLocked, nil
}

// retrieveFunds executes this block's calls, unless an owner has used its account meanwhile.
func (s *State) retrieveFunds(log *eventLog) {
	for _, c := range s.end.retrievals {
		phase, r := s.retrievalPhase(c, s.time)
		e := Retrieval{By: c.by, Account: c.from, Phase: phase}
		switch {
		case r != nil:
			e.Phase = RetrievalEnded
		case phase == RetrievalLocked:
			t := s.record(c.from)
			t.PairedNode, t.PairedID, t.Time = c.by.Node, c.by.User, uint32(s.time)
			s.touch(c.from)
		default:
			e.Amount, e.Fee = s.retrieve(c)
			log.emit(Deposited{From: c.from, To: c.by, Amount: e.Amount})
		}
		log.emit(e)
	}
}

// retrieve moves the money. The account's node keeps its part of the fee unless it is closed, the requester's node its own.
func (s *State) retrieve(c retrieval) (moved, fee types.Amount) {
	s.payDividend(c.from)
	t := s.record(c.from)
	t.PairedNode, t.PairedID = 0, 0
	all := spendable(c.from, t.Balance)
	local, remote := all>>feeRetrieveShift, all>>feeRetrieveRemoteShift
	fee, moved = local+remote, all-local-remote
	s.addBalance(c.from, -all)
	s.pool += fee
	s.credit(c.by, moved, true)
	if n := s.node(c.from.Node); n.Status&NodeDoubleSpend == 0 {
		n.profit += local >> shareShift
	}
	if c.by.User != 0 {
		s.node(c.by.Node).profit += remote >> shareShift
	}
	return moved, fee
}
