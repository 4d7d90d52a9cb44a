package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"

	"github.com/eschaton-network/chand/types"
)

// ErrMalformed is wrapped by every error of Decode.
var ErrMalformed = errors.New("malformed message")

// Message types on the wire. Numbers are never reused.
const (
	TypeOpen         uint16 = 1
	TypeAccept       uint16 = 2
	TypeRefuse       uint16 = 3
	TypeOpenRefund   uint16 = 4
	TypeOpenFund     uint16 = 5
	TypeUpdate       uint16 = 16
	TypeAck          uint16 = 17
	TypeTurnRequest  uint16 = 18
	TypeYield        uint16 = 19
	TypeReveal       uint16 = 20
	TypeReceipt      uint16 = 21
	TypeReestablish  uint16 = 32
	TypeResync       uint16 = 33
	TypeAgree        uint16 = 34
	TypeCloseRequest uint16 = 48
	TypeCloseSign    uint16 = 49
	TypeFault        uint16 = 50
	TypeAnnounceSigs uint16 = 64
	TypePeerPolicy   uint16 = 65
	TypeTwinAsk      uint16 = 80
	TypeTwinProof    uint16 = 81
)

// codec is what every message of this package implements.
type codec interface {
	Message
	size() int // exact number of bytes of the body
	append(b []byte) []byte
	read(r *reader)
}

// newMessage returns an empty message of a type, or nil.
func newMessage(t uint16) codec {
	switch t {
	case TypeOpen:
		return new(Open)
	case TypeAccept:
		return new(Accept)
	case TypeRefuse:
		return new(Refuse)
	case TypeOpenRefund:
		return new(OpenRefund)
	case TypeOpenFund:
		return new(OpenFund)
	case TypeUpdate:
		return new(Update)
	case TypeAck:
		return new(Ack)
	case TypeTurnRequest:
		return new(TurnRequest)
	case TypeYield:
		return new(Yield)
	case TypeReveal:
		return new(Reveal)
	case TypeReceipt:
		return new(Receipt)
	case TypeReestablish:
		return new(Reestablish)
	case TypeResync:
		return new(Resync)
	case TypeAgree:
		return new(Agree)
	case TypeCloseRequest:
		return new(CloseRequest)
	case TypeCloseSign:
		return new(CloseSign)
	case TypeFault:
		return new(Fault)
	case TypeAnnounceSigs:
		return new(AnnounceSigs)
	case TypePeerPolicy:
		return new(PeerPolicy)
	case TypeTwinAsk:
		return new(TwinAsk)
	case TypeTwinProof:
		return new(TwinProof)
	}
	return nil
}

// Encode returns the frame of a message of this package (a pointer to one of its types).
func Encode(m Message) []byte { return Append(make([]byte, 0, Size(m)), m) }

// Append appends the frame of a message of this package to b.
func Append(b []byte, m Message) []byte {
	c := m.(codec)
	b = binary.BigEndian.AppendUint16(b, c.MessageType())
	return c.append(b)
}

// Size is the length of the message's frame, without building it.
func Size(m Message) int { return 2 + m.(codec).size() }

// Decode parses a frame strictly. The message shares no memory with the frame. Errors wrap ErrMalformed.
func Decode(frame []byte) (Message, error) {
	if len(frame) > MaxFrame {
		return nil, fmt.Errorf("%w: frame of %d bytes, at most %d", ErrMalformed, len(frame), MaxFrame)
	}
	r := reader{b: frame}
	t := r.u16()
	m := newMessage(t)
	if m == nil {
		return nil, fmt.Errorf("%w: type %d is unknown", ErrMalformed, t)
	}
	m.read(&r)
	if r.err == "" && len(r.b) != 0 {
		r.fail("bytes after the end")
	}
	if r.err != "" {
		return nil, fmt.Errorf("%w: type %d: %s", ErrMalformed, t, r.err)
	}
	return m, nil
}

// reader takes values from the front of b. After the first failure it yields zeros.
type reader struct {
	b   []byte
	err string
}

func (r *reader) fail(why string) {
	if r.err == "" {
		r.err = why
	}
	r.b = nil
}

var zeros [64]byte

// take returns the next n bytes, which belong to the frame. Where they may be missing n is at most len(zeros); longer
// runs have been checked by count.
func (r *reader) take(n int) []byte {
	if len(r.b) < n {
		r.fail("cut off")
		return zeros[:n]
	}
	v := r.b[:n]
	r.b = r.b[n:]
	return v
}

func (r *reader) u8() uint8   { return r.take(1)[0] }
func (r *reader) u16() uint16 { return binary.BigEndian.Uint16(r.take(2)) }
func (r *reader) u32() uint32 { return binary.BigEndian.Uint32(r.take(4)) }
func (r *reader) u64() uint64 { return binary.BigEndian.Uint64(r.take(8)) }

func (r *reader) bool() bool {
	v := r.u8()
	if v > 1 {
		r.fail("a boolean is neither 0 nor 1")
	}
	return v == 1
}

func (r *reader) hash() types.Hash     { return types.Hash(r.take(32)) }
func (r *reader) pubKey() types.PubKey { return types.PubKey(r.take(33)) }
func (r *reader) sig() Sig             { return Sig(r.take(64)) }

func (r *reader) amount() types.Amount {
	v := r.u64()
	if v > uint64(types.MaxAmount) {
		r.fail("amount beyond the supply")
		return 0
	}
	return types.Amount(v)
}

// smallAmount reads what appendSmallAmount wrote, in the one shortest form.
func (r *reader) smallAmount() types.Amount {
	v, n := binary.Uvarint(r.b)
	if n <= 0 || v > uint64(types.MaxAmount) || n > 1 && r.b[n-1] == 0 {
		r.fail("an amount is cut off, beyond the supply or not in its shortest form")
		return 0
	}
	r.b = r.b[n:]
	return types.Amount(v)
}

func (r *reader) account() types.AccountID { return types.AccountID{Node: r.u16(), User: r.u32()} }

// count reads the number of items that follow, each at least size bytes.
func (r *reader) count(limit, size int) int {
	n := int(r.u16())
	if n > limit || n*size > len(r.b) {
		r.fail("a count exceeds its limit or the frame")
		return 0
	}
	return n
}

// bytes reads a counted byte string; nil when empty.
func (r *reader) bytes(limit int) []byte {
	n := r.count(limit, 1)
	if n == 0 {
		return nil
	}
	return append([]byte(nil), r.take(n)...)
}

func (r *reader) text() string {
	n := r.count(MaxText, 1)
	if n == 0 {
		return ""
	}
	return string(r.take(n))
}

func appendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

func appendAmount(b []byte, a types.Amount) []byte {
	return binary.BigEndian.AppendUint64(b, uint64(a))
}

// appendSmallAmount writes an amount in 1 to 9 bytes, seven bits each, the low ones first.
func appendSmallAmount(b []byte, a types.Amount) []byte {
	return binary.AppendUvarint(b, uint64(a))
}

func smallAmountSize(a types.Amount) int { return (bits.Len64(uint64(a)|1) + 6) / 7 }

func appendAccount(b []byte, a types.AccountID) []byte {
	b = binary.BigEndian.AppendUint16(b, a.Node)
	return binary.BigEndian.AppendUint32(b, a.User)
}

func appendBytes[T ~string | ~[]byte](b []byte, v T) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(v)))
	return append(b, v...)
}
