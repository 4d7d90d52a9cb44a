package ledger

import (
	"encoding/binary"

	"github.com/eschaton-network/chand/types"
)

// A node's own records stand in its messages only and speak for the node. They have no signature besides that of the message, and cost what
// their bytes cost in it.
const (
	connectionSize = 7
	acceptSize     = headSize + 6 + 32
)

// Connection says where the node's office listens. 7 bytes.
type Connection struct {
	Port uint16
	IPv4 uint32
}

func (Connection) kind() byte                        { return TypeConnection }
func (Connection) check() *Refusal                   { return nil }
func (Connection) tail(b []byte) []byte              { return b }
func (Connection) fee(types.AccountID) types.Amount  { return 0 }
func (Connection) cost(types.AccountID) types.Amount { return 0 }
func (Connection) verify(*exec) *Refusal             { return nil }

func (c Connection) signed(b []byte) []byte {
	b = binary.LittleEndian.AppendUint16(b, c.Port)
	return binary.LittleEndian.AppendUint32(b, c.IPv4)
}

// Bytes is what stands in a message.
func (c Connection) Bytes() []byte { return c.signed([]byte{TypeConnection}) }

func (c Connection) apply(x *exec) {
	n := x.s.touchNode(x.from.Node)
	if n.Port == c.Port && n.IPv4 == c.IPv4 {
		return
	}
	n.Port, n.IPv4 = c.Port, c.IPv4
	x.emit(NodeConnected{Node: x.from.Node, Port: c.Port, IPv4: c.IPv4})
}

// AcceptAccount is a node's consent to an account that another node's account asked for with CreateAccount (the original's
// account_created). The ledger gives it the next number, whatever number the node expected in the head. 53 bytes.
type AcceptAccount struct {
	Requester types.AccountID
	PublicKey types.Hash
}

func (AcceptAccount) kind() byte                        { return TypeAcceptAccount }
func (AcceptAccount) check() *Refusal                   { return nil }
func (AcceptAccount) tail(b []byte) []byte              { return b }
func (AcceptAccount) fee(types.AccountID) types.Amount  { return 0 }
func (AcceptAccount) cost(types.AccountID) types.Amount { return 0 }

func (a AcceptAccount) signed(b []byte) []byte {
	n := accountBytes(a.Requester)
	return append(append(b, n[:]...), a.PublicKey[:]...)
}

// Bytes is what stands in a message of the node. time is the node's clock.
func (a AcceptAccount) Bytes(node uint16, time types.Time) []byte {
	return a.signed(Head{From: types.AccountID{Node: node}, Time: time}.marshal(TypeAcceptAccount))
}

func (a AcceptAccount) verify(x *exec) *Refusal {
	if a.Requester.Node == x.from.Node {
		return refuse(CodeCreateAccount, "account %s is of this node: its accounts are made without acceptance", a.Requester)
	}
	return nil
}

// apply notes the acceptance; at the end of the block it is matched with the request.
func (a AcceptAccount) apply(x *exec) {
	x.s.end.accepted = append(x.s.end.accepted, requestKey{node: x.from.Node, requester: a.Requester, key: a.PublicKey})
}

// isOfNode tells whether a type is one of a node's own records.
func isOfNode(kind byte) bool { return kind == TypeConnection || kind == TypeAcceptAccount }

// nextOfNode reads a node's own record that raw starts with, see next.
func (d *txDecoder) nextOfNode(tx *Tx, raw []byte) (rest []byte, ok bool, _ *Refusal) {
	size := connectionSize
	if raw[0] == TypeAcceptAccount {
		size = acceptSize
	}
	switch {
	case !d.message:
		return nil, false, refuse(CodeType, "type %d stands in the messages of nodes only", raw[0])
	case len(raw) < size:
		return nil, false, refuse(CodeLength, "%d bytes of type %d: want %d", len(raw), raw[0], size)
	}
	r := reader{b: raw, at: 1}
	if raw[0] == TypeConnection {
		tx.Body = Connection{Port: r.u16(), IPv4: r.u32()}
	} else {
		tx.Head = Head{From: r.account(), Msid: r.u32(), Time: types.Time(r.u32())}
		tx.Body = AcceptAccount{Requester: r.account(), PublicKey: r.hash()}
	}
	tx.raw = raw[:size]
	return raw[size:], true, nil
}

// executeOfNode executes a node's own record.
func (s *State) executeOfNode(log *eventLog, tx *Tx, place Place) *Refusal {
	if tx.Body.kind() == TypeConnection {
		tx.From.Node = place.Node // it has no head
	}
	if tx.From.Node != place.Node {
		return refuse(CodeBadNode, "an acceptance in the name of node %d stands in a message of node %d", tx.From.Node, place.Node)
	}
	x := &exec{s: s, log: log, from: types.AccountID{Node: place.Node}, txID: tx.ID, place: place, height: s.height, time: s.time}
	if r := tx.Body.verify(x); r != nil {
		return r
	}
	tx.Body.apply(x)
	return nil
}

// ofNode tells whether a transaction is a node's own record.
func (tx *Tx) ofNode() bool { return isOfNode(tx.Body.kind()) }
