package ledger

import (
	"encoding/binary"

	"github.com/eschaton-network/chand/types"
)

// Fees of the original, E17, in units.
const (
	feeBase          types.Amount = 4096
	feeWire          types.Amount = 256
	feeBroadcastByte types.Amount = 65536
	feeShift                      = 13 // amount >> 13, once more when it goes to another node
	// NewAccountDeposit is moved from the creator to a new account (E17 USER_MIN_MASS).
	NewAccountDeposit types.Amount = 1 << 28
	// AdminMinimum must stay on account 0 of a node (E17 BANK_MIN_UMASS).
	AdminMinimum types.Amount = 1 << 28
)

// addUp is sum + a, or false when a is negative or the result exceeds the supply.
func addUp(sum, a types.Amount) (types.Amount, bool) {
	if a < 0 || a > Supply-sum {
		return 0, false
	}
	return sum + a, true
}

// transferFee is the proportional part of a payment's fee.
func transferFee(from, to types.AccountID, a types.Amount) types.Amount {
	fee := a >> feeShift
	if from.Node != to.Node {
		fee += a >> feeShift
	}
	return fee
}

// SendOne pays one account. 125 bytes.
type SendOne struct {
	To types.AccountID
	// Amount may be zero (a message only). A negative amount on the wire counts as zero, as in the original.
	Amount  types.Amount
	Message types.Hash
}

func (SendOne) kind() byte            { return TypeSendOne }
func (SendOne) tail(b []byte) []byte  { return b }
func (s SendOne) value() types.Amount { return max(s.Amount, 0) }
func (s SendOne) fee(from types.AccountID) types.Amount {
	return feeBase + transferFee(from, s.To, s.value())
}
func (s SendOne) cost(types.AccountID) types.Amount { return s.value() }

func (s SendOne) check() *Refusal {
	if s.Amount > Supply {
		return refuse(CodeBalance, "amount of %d units exceeds the supply of %s coins", int64(s.Amount), Supply)
	}
	return nil
}

func (s SendOne) signed(b []byte) []byte {
	n := accountBytes(s.To)
	b = append(b, n[:]...)
	b = binary.LittleEndian.AppendUint64(b, uint64(s.Amount))
	return append(b, s.Message[:]...)
}

func readSendOne(r *reader, sig func()) Body {
	s := SendOne{To: r.account(), Amount: r.amount(), Message: r.hash()}
	sig()
	return s
}

// Wire is one payment of a SendMany.
type Wire struct {
	To     types.AccountID
	Amount types.Amount
}

// SendMany pays up to MaxWires different accounts, all or none. 81 bytes and 14 for each.
type SendMany struct{ Wires []Wire }

func (SendMany) kind() byte           { return TypeSendMany }
func (SendMany) tail(b []byte) []byte { return b }

func (s SendMany) fee(from types.AccountID) types.Amount {
	fee := feeBase
	for _, w := range s.Wires {
		fee += feeWire + transferFee(from, w.To, w.Amount)
	}
	return fee
}

func (s SendMany) cost(types.AccountID) types.Amount {
	var sum types.Amount
	for _, w := range s.Wires {
		sum += w.Amount // check bounds the sum
	}
	return sum
}

func (s SendMany) check() *Refusal {
	if len(s.Wires) == 0 || len(s.Wires) > MaxWires {
		return refuse(CodeLength, "%d targets: want 1..%d", len(s.Wires), MaxWires)
	}
	if to, twice := twice(s.Wires); twice {
		return refuse(CodeDuplicate, "target %s appears twice", to)
	}
	var sum types.Amount
	for _, w := range s.Wires {
		if w.Amount <= 0 {
			return refuse(CodeNotPositive, "amount of %s to %s must be positive", w.Amount, w.To)
		}
		var ok bool
		if sum, ok = addUp(sum, w.Amount); !ok {
			return refuse(CodeBalance, "the amounts exceed the supply of %s coins", Supply)
		}
	}
	return nil
}

// twice finds a target that appears twice.
func twice(wires []Wire) (to types.AccountID, found bool) {
	if len(wires) > sortAtOnce {
		return twiceIn(wires, make([]uint64, len(wires)), make([]uint64, len(wires)))
	}
	var ids, spare [sortAtOnce]uint64
	return twiceIn(wires, ids[:len(wires)], spare[:len(wires)])
}

func twiceIn(wires []Wire, ids, spare []uint64) (to types.AccountID, found bool) {
	ascending := true
	for i, w := range wires {
		ids[i] = uint64(w.To.Node)<<32 | uint64(w.To.User)
		ascending = ascending && (i == 0 || ids[i-1] < ids[i])
	}
	if ascending {
		return to, false
	}
	ids = sortAccounts(ids, spare)
	for i := 1; i < len(ids); i++ {
		if ids[i] == ids[i-1] {
			return types.AccountID{Node: uint16(ids[i] >> 32), User: uint32(ids[i])}, true
		}
	}
	return to, false
}

const (
	// sortAtOnce is how many targets are sorted without asking for memory.
	sortAtOnce = 1024
	// sortDigit is how many bits are sorted by at a time.
	sortDigit = 11
)

// sortAccounts sorts digit by digit from the lowest, leaving out those that are the same in all; spare has the same length, and the result
// is in one of the two. It takes at most as many passes as there are digits, whatever they are, which a hash table does not, and a fraction
// of what comparing takes.
func sortAccounts(ids, spare []uint64) []uint64 {
	const mask = 1<<sortDigit - 1
	differ := uint64(0)
	for _, id := range ids {
		differ |= id ^ ids[0]
	}
	for shift := 0; differ>>shift != 0; shift += sortDigit {
		if differ>>shift&mask == 0 {
			continue
		}
		var places [1 << sortDigit]uint16
		for _, id := range ids {
			places[id>>shift&mask]++
		}
		at := uint16(0)
		for i, n := range &places {
			places[i] = at
			at += n
		}
		for _, id := range ids {
			place := &places[id>>shift&mask]
			spare[*place] = id
			*place++
		}
		ids, spare = spare, ids
	}
	return ids
}

func (s SendMany) signed(b []byte) []byte {
	b = binary.LittleEndian.AppendUint16(b, uint16(len(s.Wires)))
	for _, w := range s.Wires {
		n := accountBytes(w.To)
		b = append(b, n[:]...)
		b = binary.LittleEndian.AppendUint64(b, uint64(w.Amount))
	}
	return b
}

func readSendMany(r *reader, sig func()) Body {
	var s SendMany
	if n := int(r.u16()); r.fits(n, 14) {
		s.Wires = make([]Wire, n)
		for i := range s.Wires {
			s.Wires[i] = Wire{To: r.account(), Amount: r.amount()}
		}
	}
	sig()
	return s
}

// Broadcast puts data on the ledger. 81 bytes and the data.
type Broadcast struct{ Data []byte }

func (Broadcast) kind() byte                        { return TypeBroadcast }
func (Broadcast) tail(b []byte) []byte              { return b }
func (Broadcast) cost(types.AccountID) types.Amount { return 0 }
func (c Broadcast) fee(types.AccountID) types.Amount {
	return feeBase + feeBroadcastByte*types.Amount(len(c.Data))
}

func (c Broadcast) check() *Refusal {
	if len(c.Data) == 0 || len(c.Data) > MaxBroadcast {
		return refuse(CodeLength, "broadcast of %d bytes: want 1..%d", len(c.Data), MaxBroadcast)
	}
	return nil
}

func (c Broadcast) signed(b []byte) []byte {
	return append(binary.LittleEndian.AppendUint16(b, uint16(len(c.Data))), c.Data...)
}

func readBroadcast(r *reader, sig func()) Body {
	var c Broadcast
	if n := int(r.u16()); r.fits(n, 1) {
		c.Data = append([]byte(nil), r.take(n)...)
	}
	sig()
	return c
}

// ChangeAccountKey gives the sender's account another key, from its next transaction on. 175 bytes.
type ChangeAccountKey struct {
	PublicKey [32]byte
	// Proof is KeyProof of the new key's secret.
	Proof [64]byte
}

func (ChangeAccountKey) kind() byte                        { return TypeChangeAccountKey }
func (ChangeAccountKey) fee(types.AccountID) types.Amount  { return feeBase }
func (ChangeAccountKey) cost(types.AccountID) types.Amount { return 0 }
func (ChangeAccountKey) check() *Refusal                   { return nil }
func (c ChangeAccountKey) signed(b []byte) []byte          { return append(b, c.PublicKey[:]...) }
func (c ChangeAccountKey) tail(b []byte) []byte            { return append(b, c.Proof[:]...) }

func readChangeAccountKey(r *reader, sig func()) Body {
	c := ChangeAccountKey{PublicKey: r.hash()}
	sig()
	c.Proof = r.signature()
	return c
}

// Anchor puts hashes into a block. 80 bytes and 32 for each.
type Anchor struct{ Hashes []types.Hash }

// feeAnchor is the fee of one anchored hash, what the original asks for one byte of broadcast.
const feeAnchor types.Amount = 65536

func (Anchor) kind() byte                        { return TypeAnchor }
func (Anchor) tail(b []byte) []byte              { return b }
func (Anchor) cost(types.AccountID) types.Amount { return 0 }
func (a Anchor) fee(types.AccountID) types.Amount {
	return feeBase + feeAnchor*types.Amount(len(a.Hashes))
}

func (a Anchor) check() *Refusal {
	if len(a.Hashes) == 0 || len(a.Hashes) > MaxAnchors {
		return refuse(CodeLength, "%d hashes: want 1..%d", len(a.Hashes), MaxAnchors)
	}
	return nil
}

func (a Anchor) signed(b []byte) []byte {
	b = binary.LittleEndian.AppendUint16(b, uint16(len(a.Hashes)))
	for _, h := range a.Hashes {
		b = append(b, h[:]...)
	}
	return b
}

func readAnchor(r *reader, sig func()) Body {
	var a Anchor
	if n := int(r.u16()); r.fits(n, 32) {
		a.Hashes = make([]types.Hash, n)
		for i := range a.Hashes {
			a.Hashes[i] = r.hash()
		}
	}
	sig()
	return a
}
