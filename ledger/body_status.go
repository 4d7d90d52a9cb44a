package ledger

import (
	"encoding/binary"

	"github.com/eschaton-network/chand/types"
)

// feeStatus is the fee of a change of status bits (E17).
const feeStatus types.Amount = 65536

// Permissions for the status bits of an account on the sender's node (A19).
const (
	// accountBitsOwn are for the account's owner and the node's admin, accountBitsLocal for every account of the node.
	accountBitsOwn   uint16 = 0xFFFE
	accountBitsLocal uint16 = 0x000E
)

// SetAccountStatus sets status bits of an account on the sender's node. 87 bytes.
type SetAccountStatus struct {
	Account types.AccountID
	Bits    uint16
}

// UnsetAccountStatus clears status bits of an account, with the same permissions. 87 bytes.
type UnsetAccountStatus SetAccountStatus

func (SetAccountStatus) kind() byte                        { return TypeSetAccountStatus }
func (SetAccountStatus) tail(b []byte) []byte              { return b }
func (SetAccountStatus) fee(types.AccountID) types.Amount  { return feeStatus }
func (SetAccountStatus) cost(types.AccountID) types.Amount { return 0 }
func (s SetAccountStatus) apply(x *exec)                   { s.change(x, true) }

func (s SetAccountStatus) check() *Refusal {
	if s.Bits == 0 || s.Bits&StatusDeleted != 0 {
		return refuse(CodeAccountStatus, "status bits %#x of an account: want some of the bits 1 to 15; the ledger keeps bit 0", s.Bits)
	}
	return nil
}

func (s SetAccountStatus) signed(b []byte) []byte {
	n := accountBytes(s.Account)
	return binary.LittleEndian.AppendUint16(append(b, n[:]...), s.Bits)
}

func readSetAccountStatus(r *reader, sig func()) Body {
	s := SetAccountStatus{Account: r.account(), Bits: r.u16()}
	sig()
	return s
}

func (s SetAccountStatus) verify(x *exec) *Refusal {
	if r := verifyTarget(x, s.Account); r != nil {
		return r
	}
	may := accountBitsLocal
	if x.from.User == 0 || s.Account == x.from {
		may = accountBitsOwn
	}
	switch {
	case s.Account.Node != x.from.Node:
		return refuse(CodeRemoteStatus, "account %s is of node %d; only accounts of its own node may change its status", s.Account, s.Account.Node)
	case x.s.peek(s.Account).Status&StatusDeleted != 0:
		return refuse(CodeTargetAccount, "account %s was deleted", s.Account)
	case s.Bits&^may != 0:
		return refuse(CodeAccountStatus, "account %s may not change bits %#x of the status of %s, only some of %#x", x.from, s.Bits&^may, s.Account, may)
	}
	return nil
}

func (s SetAccountStatus) change(x *exec, set bool) {
	was := x.s.peek(s.Account).Status
	status := was &^ s.Bits
	if set {
		status = was | s.Bits
	}
	if status != was {
		x.s.record(s.Account).Status = status
		x.s.touch(s.Account)
		x.emit(AccountStatusChanged{ID: s.Account, Status: status})
	}
}

func (UnsetAccountStatus) kind() byte                        { return TypeUnsetAccountStatus }
func (UnsetAccountStatus) tail(b []byte) []byte              { return b }
func (UnsetAccountStatus) fee(types.AccountID) types.Amount  { return feeStatus }
func (UnsetAccountStatus) cost(types.AccountID) types.Amount { return 0 }
func (u UnsetAccountStatus) check() *Refusal                 { return SetAccountStatus(u).check() }
func (u UnsetAccountStatus) signed(b []byte) []byte          { return SetAccountStatus(u).signed(b) }
func (u UnsetAccountStatus) verify(x *exec) *Refusal         { return SetAccountStatus(u).verify(x) }
func (u UnsetAccountStatus) apply(x *exec)                   { SetAccountStatus(u).change(x, false) }

func readUnsetAccountStatus(r *reader, sig func()) Body {
	return UnsetAccountStatus(readSetAccountStatus(r, sig).(SetAccountStatus))
}

// Permissions for the status bits of a node (E17): its own admin, any validator's admin, a majority of the validators' admins.
const (
	nodeBitsOwn   uint32 = 0x0000FFF8
	nodeBitsVIP   uint32 = 0x00FF0000
	nodeBitsVoted uint32 = 0xFF000000
)

// SetNodeStatus sets status bits of a node. 85 bytes.
type SetNodeStatus struct {
	Node uint16
	Bits uint32
}

// UnsetNodeStatus clears status bits of a node, with the same permissions. 85 bytes.
type UnsetNodeStatus SetNodeStatus

func (SetNodeStatus) kind() byte                        { return TypeSetNodeStatus }
func (SetNodeStatus) tail(b []byte) []byte              { return b }
func (SetNodeStatus) fee(types.AccountID) types.Amount  { return feeStatus }
func (SetNodeStatus) cost(types.AccountID) types.Amount { return 0 }
func (s SetNodeStatus) apply(x *exec)                   { s.change(x, true) }

func (s SetNodeStatus) check() *Refusal {
	if s.Bits == 0 || s.Bits&(NodeDoubleSpend|NodeVIP|NodeMaster) != 0 {
		return refuse(CodeNodeStatus, "status bits %#x of a node: want some of the bits 3 to 31; the ledger keeps the others", s.Bits)
	}
	return nil
}

func (s SetNodeStatus) signed(b []byte) []byte {
	b = binary.LittleEndian.AppendUint16(b, s.Node)
	return binary.LittleEndian.AppendUint32(b, s.Bits)
}

func readSetNodeStatus(r *reader, sig func()) Body {
	s := SetNodeStatus{Node: r.u16(), Bits: r.u32()}
	sig()
	return s
}

func (s SetNodeStatus) verify(x *exec) *Refusal {
	var may uint32
	if x.from.User == 0 {
		if s.Node == x.from.Node {
			may |= nodeBitsOwn
		}
		if x.s.node(x.from.Node).Status&NodeVIP != 0 {
			may |= nodeBitsVIP | nodeBitsVoted
		}
	}
	switch {
	case x.s.node(s.Node) == nil:
		return refuse(CodeTargetNode, "node %d does not exist", s.Node)
	case s.Bits&^may != 0:
		return refuse(CodeNodeStatus, "account %s may not change bits %#x of node %d's status, only some of %#x", x.from, s.Bits&^may, s.Node, may)
	}
	return nil
}

func (s SetNodeStatus) change(x *exec, set bool) {
	if now := s.Bits &^ nodeBitsVoted; now != 0 {
		x.s.setNodeStatus(x.log, s.Node, now, set)
	}
	for bit := uint32(1 << 24); bit != 0; bit <<= 1 {
		if s.Bits&bit != 0 {
			x.s.end.vote(vote{node: s.Node, bit: bit}, x.from.Node, set)
		}
	}
}

func (s *State) setNodeStatus(log *eventLog, id uint16, bits uint32, set bool) {
	n := s.node(id)
	status := n.Status &^ bits
	if set {
		status = n.Status | bits
	}
	if status != n.Status {
		s.touchNode(id).Status = status
		log.emit(NodeStatusChanged{Node: id, Status: status})
	}
}

func (UnsetNodeStatus) kind() byte                        { return TypeUnsetNodeStatus }
func (UnsetNodeStatus) tail(b []byte) []byte              { return b }
func (UnsetNodeStatus) fee(types.AccountID) types.Amount  { return feeStatus }
func (UnsetNodeStatus) cost(types.AccountID) types.Amount { return 0 }
func (u UnsetNodeStatus) check() *Refusal                 { return SetNodeStatus(u).check() }
func (u UnsetNodeStatus) signed(b []byte) []byte          { return SetNodeStatus(u).signed(b) }
func (u UnsetNodeStatus) verify(x *exec) *Refusal         { return SetNodeStatus(u).verify(x) }
func (u UnsetNodeStatus) apply(x *exec)                   { SetNodeStatus(u).change(x, false) }

func readUnsetNodeStatus(r *reader, sig func()) Body {
	return UnsetNodeStatus(readSetNodeStatus(r, sig).(SetNodeStatus))
}

// vote is a bit of a node's status that the validators' admins decide on.
type vote struct {
	node uint16
	bit  uint32
}

// countVotes applies what more than half of the validators have voted for in this block; of two votes of one validator the last counts.
func (s *State) countVotes(log *eventLog) {
	for _, v := range s.end.voted {
		set, unset := 0, 0
		for voter, yes := range s.end.votes[v] {
			switch {
			case s.node(voter).Status&NodeVIP == 0: // not any more
			case yes:
				set++
			default:
				unset++
			}
		}
		if half := len(s.stake.validators); 2*set > half {
			s.setNodeStatus(log, v.node, v.bit, true)
		} else if 2*unset > half {
			s.setNodeStatus(log, v.node, v.bit, false)
		}
	}
}
