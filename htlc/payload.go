package htlc

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/wire"
)

const (
	// MaxHops is the longest route. BOLT 4 routes have up to 20 hops; forwardSize makes that many fit the packet.
	MaxHops = 20
	// MaxMemo bounds the text for the payee; see MemoRoom for what a long route leaves of it.
	MaxMemo = wire.MaxText

	forwardSize = 1 + len(ShortID{}) + 8 + 4
	finalSize   = 1 + 8 + 4 + 32 + 8
)

// ShortID names a channel inside onion packets: the first 16 bytes of its id. The hop looks it up among its own channels
// only. Whole ids would leave room for 16 hops in a packet; half of one still costs 2^128 hashes to imitate
// somebody's channel, and 2^64 to make two of one's own collide, which confuses nobody else.
type ShortID [16]byte

// Short returns the name of a channel inside onion packets.
func Short(id types.ChannelID) ShortID { return ShortID(id[:16]) }

func (s ShortID) String() string { return hex.EncodeToString(s[:]) }

// PayloadKind tells what a hop is asked to do.
type PayloadKind uint8

const (
	// Forward: pass a lock on over the channel Next.
	Forward PayloadKind = 1
	// Invoice: the final hop; Secret is the invoice's payment secret, which proves that the payer has seen the invoice.
	Invoice PayloadKind = 2
	// Keysend: the final hop; Secret is the preimage itself, drawn by the payer.
	Keysend PayloadKind = 3
	// Escrow: the final hop; the payer keeps the preimage until the goods are there. Secret is free for the terms' hash.
	Escrow PayloadKind = 4
)

func (k PayloadKind) String() string {
	switch k {
	case Forward:
		return "forward"
	case Invoice:
		return "invoice"
	case Keysend:
		return "keysend"
	case Escrow:
		return "escrow"
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// Payload is what one hop of a route is told, and nobody else sees.
type Payload struct {
	Kind PayloadKind
	// Amount and Expiry are those of the lock that the hop is to add (Forward), or that the final hop must find.
	Amount types.Amount
	Expiry types.Height
	// Next is the channel to add the lock to; Forward only.
	Next ShortID
	// Secret: see the kinds; zero in Forward.
	Secret [32]byte
	// Total is the whole payment of which Amount is one part; equal to Amount for a payment in one part. 0 in Forward.
	Total types.Amount
	// Memo is shown to the payee; at most MaxMemo bytes of UTF-8. Empty in Forward.
	Memo string
}

// ErrPayload is wrapped by every error of payload checking and decoding.
var ErrPayload = errors.New("bad onion payload")

// Final tells whether the hop with this payload is the payee.
func (p Payload) Final() bool { return p.Kind != Forward }

// Check wants the fields of the kind in range, and the others zero.
func (p Payload) Check() error {
	switch {
	case p.Kind < Forward || p.Kind > Escrow:
		return fmt.Errorf("%w: unknown %s", ErrPayload, p.Kind)
	case p.Amount <= 0 || p.Amount > types.MaxAmount:
		return fmt.Errorf("%w: amount of %d units is not in 1..%d", ErrPayload, p.Amount, types.MaxAmount)
	case p.Kind == Forward && (p.Secret != [32]byte{} || p.Total != 0 || p.Memo != ""):
		return fmt.Errorf("%w: secret, total and memo are for the payee, not for a hop that forwards", ErrPayload)
	case p.Kind != Forward && p.Next != ShortID{}:
		return fmt.Errorf("%w: the final hop has no next channel", ErrPayload)
	case p.Kind != Forward && (p.Total < p.Amount || p.Total > types.MaxAmount):
		return fmt.Errorf("%w: total %d is less than the part %d, or out of range", ErrPayload, p.Total, p.Amount)
	case len(p.Memo) > MaxMemo || !utf8.ValidString(p.Memo):
		return fmt.Errorf("%w: memo of %d bytes: want at most %d bytes of UTF-8", ErrPayload, len(p.Memo), MaxMemo)
	}
	return nil
}

// Encode gives the canonical bytes, all integers big-endian:
//
//	forward: kind(1) next(16) amount(8) expiry(4)
//	final:   kind(1) amount(8) expiry(4) secret(32) total(8) memo(rest)
//
// All forwarding hops get equal sizes, so that no size tells a hop anything.
func (p Payload) Encode() ([]byte, error) {
	if err := p.Check(); err != nil {
		return nil, err
	}
	b := make([]byte, 0, finalSize+len(p.Memo))
	b = append(b, byte(p.Kind))
	if p.Kind == Forward {
		b = append(b, p.Next[:]...)
	}
	b = binary.BigEndian.AppendUint64(b, uint64(p.Amount))
	b = binary.BigEndian.AppendUint32(b, uint32(p.Expiry))
	if p.Kind != Forward {
		b = append(b, p.Secret[:]...)
		b = binary.BigEndian.AppendUint64(b, uint64(p.Total))
		b = append(b, p.Memo...)
	}
	return b, nil
}

// DecodePayload reads exactly what Encode writes.
func DecodePayload(b []byte) (Payload, error) {
	if len(b) == 0 {
		return Payload{}, fmt.Errorf("%w: empty", ErrPayload)
	}
	p := Payload{Kind: PayloadKind(b[0])}
	if p.Kind == Forward && len(b) != forwardSize || p.Kind != Forward && (len(b) < finalSize || len(b) > finalSize+MaxMemo) {
		return Payload{}, fmt.Errorf("%w: %d bytes do not fit %s", ErrPayload, len(b), p.Kind)
	}
	b = b[1:]
	if p.Kind == Forward {
		b = b[copy(p.Next[:], b):]
	}
	p.Amount = types.Amount(binary.BigEndian.Uint64(b)) // a value above int64 turns negative and Check refuses it
	p.Expiry = types.Height(binary.BigEndian.Uint32(b[8:]))
	if b = b[12:]; p.Kind != Forward {
		b = b[copy(p.Secret[:], b):]
		p.Total = types.Amount(binary.BigEndian.Uint64(b))
		p.Memo = string(b[8:])
	}
	if err := p.Check(); err != nil {
		return Payload{}, err
	}
	return p, nil
}
