package ledger

import (
	"cmp"
	"encoding/binary"
	"math"
	"slices"

	"github.com/eschaton-network/chand/types"
)

// StatusDeleted is bit 0 of an account's status: it is used up, its number may be given to another owner. Money that it is paid
// revives it.
const StatusDeleted uint16 = 1

// reusePeriods is for how many dividend periods the number of a deleted account is not given to another owner, nor that of a node that
// is silent: whoever knew it has time to learn (A19: 80,000 blocks with 2,048 a period).
const reusePeriods = 40

// freed is an account that was deleted. The entry is void when the account was revived since.
type freed struct {
	user uint32
	at   types.Height
}

// deletedAt is the height at which an account was deleted: while it is, its pairing holds it.
func (r *Record) deletedAt() types.Height { return types.Height(r.PairedID) }

// mayAct refuses every transaction of an account that is deleted, or that another node's account has locked for retrieval.
func (s *State) mayAct(tx *Tx, r *Record) *Refusal {
	if r.Status&StatusDeleted != 0 {
		return refuse(CodeBadUser, "account %s is used up and was deleted; money sent to it revives it, while its number is not given away", tx.From)
	}
	if s.locked(tx.From, r) && !cancelsRetrieval(tx) {
		return refuse(CodeLocked, "account %s is locked by %s, which retrieves its money; send 0 to itself to end that; nothing was charged", tx.From, pairedWith(r))
	}
	return nil
}

// deleteUsedUp deletes an account that can't pay for another period and that its owner has not used for one. Account 0 of a node and
// whoever others rely on (certificates, leases, admins) stay.
func (s *State) deleteUsedUp(log *eventLog, id types.AccountID) {
	r := s.peek(id)
	if r.Balance > maintenanceFee || id.User == 0 || r.Status&StatusDeleted != 0 || s.time-types.Time(r.LocalChange) < s.periodTime() || s.pinned(id) {
		return
	}
	r = s.record(id)
	r.Status |= StatusDeleted
	r.PairedNode, r.PairedID = 0, uint32(s.height)
	n := s.node(id.Node)
	n.dropVoid()
	n.freed = append(n.freed, freed{id.User, s.height})
	n.deleted++
	s.touch(id)
	log.emit(AccountDeleted{ID: id, Left: r.Balance})
}

// revive makes a deleted account one that is used again.
func (s *State) revive(id types.AccountID) {
	r := s.record(id)
	r.Status &^= StatusDeleted
	s.node(id.Node).deleted--
	r.PairedID = 0
	r.RemoteChange = uint32(s.stamp())
	s.touch(id)
}

// pinned tells whether others rely on who owns an account.
func (s *State) pinned(id types.AccountID) bool {
	return s.pins[id] > 0 || slices.Contains(s.registry.policy.Admins, id)
}

// pin counts what relies on an account; n is 1 or -1.
func (s *State) pin(id types.AccountID, n int) {
	if s.pins[id] += n; s.pins[id] == 0 {
		delete(s.pins, id)
	}
}

// void tells whether an entry is of an account that was revived since.
func (n *ledgerNode) void(f freed) bool {
	r := n.accounts.at(f.user)
	return r.Status&StatusDeleted == 0 || r.deletedAt() != f.at
}

// dropVoid forgets the first entries that are void, so that the list does not grow for ever.
func (n *ledgerNode) dropVoid() {
	for len(n.freed) > 0 && n.void(n.freed[0]) {
		n.freed = n.freed[1:]
	}
}

// reusable returns the first deleted account of a node whose number may be given away: after reusePeriods, and only when no contract and
// no output is open that goes back to a time when the old owner had it, because their spends may pay there.
func (s *State) reusable(n *ledgerNode) (user uint32, ok bool) {
	n.dropVoid()
	if len(n.freed) == 0 {
		return 0, false
	}
	f := n.freed[0]
	return f.user, s.forgotten(uint64(f.at), uint64(f.at)+reusePeriods*uint64(s.genesis.DividendBlocks))
}

// forgotten tells whether this is block `from` or a later one and nothing is open that is as old as height at.
func (s *State) forgotten(at, from uint64) bool {
	return uint64(s.height) >= from && uint64(s.origins.oldest()) > at
}

// room tells whether a node can have one more account.
func (s *State) room(n *ledgerNode) bool {
	if n.accounts.len() < MaxAccounts {
		return true
	}
	_, ok := s.reusable(n)
	return ok
}

// newAccount makes an account on a node that has room, with a deleted one's number or the next one.
func (s *State) newAccount(node uint16, key [32]byte, balance types.Amount) types.AccountID {
	n := s.node(node)
	user, ok := s.reusable(n)
	if !ok {
		id := types.AccountID{Node: node, User: uint32(n.accounts.len())}
		s.addAccount(id, key, balance)
		return id
	}
	n.freed = n.freed[1:]
	n.deleted--
	id := types.AccountID{Node: node, User: user}
	s.replaceAccount(id, key)
	s.addBalance(id, balance)
	return id
}

// replaceAccount gives an account to another owner. What is left on it goes to the pool; its chain starts anew, bound to the height, so
// that nothing that was signed for the old one fits.
func (s *State) replaceAccount(id types.AccountID, key [32]byte) {
	r := s.record(id)
	s.node(id.Node).Weight -= r.Balance
	s.pool += r.Balance
	*r = Record{
		Msid: 1, Time: uint32(s.time), PublicKey: key, Hash: reusedHash(s.params.Genesis, id, s.height, key),
		LocalChange: uint32(s.time), RemoteChange: uint32(s.stamp()),
	}
	s.touch(id)
	s.indexKey(id)
}

// reusedHash starts the hash chain of an account whose number had another owner: like initialHash, and bound to the height too.
func reusedHash(genesis types.Hash, id types.AccountID, height types.Height, key [32]byte) types.Hash {
	n := accountBytes(id)
	return types.SHA256(genesis[:], n[:], binary.LittleEndian.AppendUint32(nil, uint32(height)), key[:])
}

// origins counts the open contracts and outputs by the height that they go back to: that of the contract's opening, or the oldest among
// those of the outputs that were spent.
type origins struct {
	count map[types.Height]int
	low   types.Height // no entry lies below
}

func (o *origins) add(h types.Height) {
	o.low = min(o.low, h)
	o.count[h]++
}

func (o *origins) remove(h types.Height) {
	if o.count[h]--; o.count[h] == 0 {
		delete(o.count, h)
	}
}

// oldest is the lowest origin, or the highest number when nothing is open. Heights only go up, so the steps of all calls together are
// as many as there are blocks.
func (o *origins) oldest() types.Height {
	if len(o.count) == 0 {
		return math.MaxUint32
	}
	for o.count[o.low] == 0 {
		o.low++
	}
	return o.low
}

// findFreed lists the deleted accounts of a node that was read from a snapshot, in the order of their deletion.
func (n *ledgerNode) findFreed() {
	for user := range uint32(n.accounts.len()) {
		if r := n.accounts.at(user); r.Status&StatusDeleted != 0 {
			n.freed = append(n.freed, freed{user, r.deletedAt()})
			n.deleted++
		}
	}
	slices.SortFunc(n.freed, func(a, b freed) int { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.user, b.user)) })
}
