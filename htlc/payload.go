package htlc

import (
	"encoding/hex"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/wire"
)

const (
	// MaxHops is the longest route, as in BOLT 4; so many fit a packet whatever the amounts.
	MaxHops = 20
	// MaxMemo bounds the text for the payee; see MemoRoom for what a long route leaves of it.
	MaxMemo = wire.MaxText

	// What records cost beside their values is two bytes each. The largest payloads without memo:
	maxForward = 10 + 6 + 18 + 10
	maxFinal   = 10 + 6 + 2 + 32 + 8 + 3
)

// ShortID names a channel inside onion packets: the first 16 bytes of its id. The hop looks it up among its own channels
// only. Half an id still costs 2^128 hashes to imitate somebody's channel, and 2^64 to make two of one's own collide,
// which confuses nobody else.
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
	// Blinded: a hop of a blinded path before the payee; what to do stands in Blinded, which the payer can't read.
	Blinded PayloadKind = 5
)

var kindNames = map[PayloadKind]string{Forward: "forward", Invoice: "invoice", Keysend: "keysend", Escrow: "escrow", Blinded: "blinded"}

func (k PayloadKind) String() string {
	if name := kindNames[k]; name != "" {
		return name
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// Payload is what one hop of a route is told, and nobody else sees.
type Payload struct {
	Kind PayloadKind
	// Amount and Expiry are those of the lock that the hop is to add (Forward), or that the final hop must find. 0 in Blinded.
	Amount types.Amount
	Expiry types.Height
	// Next is the channel to add the lock to; Forward only.
	Next ShortID
	// Reserve is the reservation fee that the hop must pay with the lock that it adds; Forward only.
	Reserve types.Amount
	// Secret: see the kinds; zero in Forward and Blinded.
	Secret [32]byte
	// Total is the whole payment of which Amount is one part; equal to Amount for a payment in one part. Final hops only.
	Total types.Amount
	// Memo is shown to the payee; at most MaxMemo bytes of UTF-8. Final hops only.
	Memo string
	// Blinded is what the payee has written for this hop of a blinded path; zero elsewhere. With the kind Invoice the hop is the payee.
	Blinded BlindedData
	// proof is put in by BuildOnion: see blindedProof.
	proof [proofSize]byte
}

// ErrPayload is wrapped by every error of payload checking and decoding.
var ErrPayload = errors.New("bad onion payload")

// Final tells whether the hop with this payload is the payee.
func (p *Payload) Final() bool { return p.Kind != Forward && p.Kind != Blinded }

// Check wants the fields of the kind in range, and the others zero.
func (p *Payload) Check() error {
	blinded := p.Blinded != BlindedData{}
	switch {
	case kindNames[p.Kind] == "":
		return fmt.Errorf("%w: unknown %s", ErrPayload, p.Kind)
	case p.Kind == Blinded && (p.Amount != 0 || p.Expiry != 0 || !blinded):
		return fmt.Errorf("%w: a blinded hop is told nothing but what the payee wrote", ErrPayload)
	case p.Kind != Blinded && (p.Amount <= 0 || p.Amount > types.MaxAmount):
		return fmt.Errorf("%w: amount of %d units is not in 1..%d", ErrPayload, p.Amount, types.MaxAmount)
	case blinded && p.Kind != Blinded && p.Kind != Invoice:
		return fmt.Errorf("%w: %s over a blinded path", ErrPayload, p.Kind)
	case p.Kind != Forward && (p.Next != ShortID{} || p.Reserve != 0):
		return fmt.Errorf("%w: next channel or reserve for a hop that is not told to forward", ErrPayload)
	case p.Reserve < 0 || p.Reserve > types.MaxAmount:
		return fmt.Errorf("%w: reserve of %d units is not in 0..%d", ErrPayload, p.Reserve, types.MaxAmount)
	case !p.Final() && (p.Secret != [32]byte{} || p.Total != 0 || p.Memo != ""):
		return fmt.Errorf("%w: secret, total and memo are for the payee, not for a hop that forwards", ErrPayload)
	case p.Final() && (p.Total < p.Amount || p.Total > types.MaxAmount):
		return fmt.Errorf("%w: total %d is less than the part %d, or out of range", ErrPayload, p.Total, p.Amount)
	case len(p.Memo) > MaxMemo || !utf8.ValidString(p.Memo):
		return fmt.Errorf("%w: memo of %d bytes: want at most %d bytes of UTF-8", ErrPayload, len(p.Memo), MaxMemo)
	}
	return nil
}

// Record types of payloads. Those below 20 have the numbers and meanings of BOLT 4 where it has such a field.
const (
	recordAmount  = 2  // amt_to_forward
	recordExpiry  = 4  // outgoing_cltv_value
	recordNext    = 6  // short_channel_id
	recordSecret  = 8  // payment_data: secret(32) total(tu64)
	recordBlinded = 10 // encrypted_recipient_data
	recordProof   = 12
	recordReserve = 20
	recordKind    = 22 // of final hops that are no invoice
	recordMemo    = 24
)

// Encode gives the canonical bytes: a stream of records. Numbers are cut to the bytes that they need; what is zero is left out, but for
// amount and expiry, which stand in every payload that has them.
func (p *Payload) Encode() ([]byte, error) {
	if err := p.Check(); err != nil {
		return nil, err
	}
	b := make([]byte, 0, 128)
	if p.Kind != Blinded {
		b = appendRecord(b, recordAmount, truncated(uint64(p.Amount)))
		b = appendRecord(b, recordExpiry, truncated(uint64(p.Expiry)))
	}
	if p.Kind == Forward {
		b = appendRecord(b, recordNext, p.Next[:])
	}
	if p.Final() {
		b = appendRecord(b, recordSecret, append(p.Secret[:], truncated(uint64(p.Total))...))
	}
	if p.Blinded != (BlindedData{}) {
		b = appendRecord(b, recordBlinded, p.Blinded[:])
		b = appendRecord(b, recordProof, p.proof[:])
	}
	if p.Reserve != 0 {
		b = appendRecord(b, recordReserve, truncated(uint64(p.Reserve)))
	}
	if p.Final() && p.Kind != Invoice {
		b = appendRecord(b, recordKind, []byte{byte(p.Kind)})
	}
	if p.Memo != "" {
		b = appendRecord(b, recordMemo, []byte(p.Memo))
	}
	return b, nil
}

// DecodePayload reads exactly what Encode writes. Unknown records are refused: whoever needs new ones raises the packet's version.
func DecodePayload(b []byte) (p Payload, err error) {
	list, err := readRecords(b)
	if err != nil {
		return Payload{}, err
	}
	var have uint64 // bits by type
	for _, r := range list {
		if err := p.read(r); err != nil {
			return Payload{}, err
		}
		have |= 1 << r.kind
	}
	const amounts = 1<<recordAmount | 1<<recordExpiry
	var want uint64
	switch blinded := uint64(1<<recordBlinded | 1<<recordProof); {
	case have&(1<<recordNext) != 0:
		p.Kind, want = Forward, amounts|1<<recordNext|have&(1<<recordReserve)
	case have&amounts == 0:
		p.Kind, want = Blinded, blinded
	default:
		want = amounts | 1<<recordSecret | have&(1<<recordKind|1<<recordMemo)
		if p.Kind == 0 {
			p.Kind, want = Invoice, want|have&blinded
		}
	}
	if have != want {
		return Payload{}, fmt.Errorf("%w: records %#x, a payload for %s has %#x", ErrPayload, have, p.Kind, want)
	}
	return p, p.Check()
}

func (p *Payload) read(r record) (err error) {
	fixed := func(to []byte) error {
		if len(r.value) != len(to) {
			return fmt.Errorf("%w: record %d of %d bytes, want %d", ErrPayload, r.kind, len(r.value), len(to))
		}
		copy(to, r.value)
		return nil
	}
	amount := func(b []byte) (types.Amount, error) {
		n, err := readTruncated(b, 8)
		return types.Amount(n), err // a value above int64 turns negative and Check refuses it
	}
	switch r.kind {
	case recordAmount:
		p.Amount, err = amount(r.value)
	case recordExpiry:
		var n uint64
		n, err = readTruncated(r.value, 4)
		p.Expiry = types.Height(n)
	case recordNext:
		err = fixed(p.Next[:])
	case recordSecret:
		if len(r.value) < len(p.Secret) {
			return fmt.Errorf("%w: secret of %d bytes", ErrPayload, len(r.value))
		}
		copy(p.Secret[:], r.value)
		p.Total, err = amount(r.value[len(p.Secret):])
	case recordBlinded:
		err = fixed(p.Blinded[:])
	case recordProof:
		err = fixed(p.proof[:])
	case recordReserve:
		if p.Reserve, err = amount(r.value); p.Reserve == 0 && err == nil {
			err = fmt.Errorf("%w: a reserve of zero is left out", ErrPayload)
		}
	case recordKind:
		var k [1]byte
		if err = fixed(k[:]); err == nil && PayloadKind(k[0]) != Keysend && PayloadKind(k[0]) != Escrow {
			err = fmt.Errorf("%w: kind %d", ErrPayload, k[0])
		}
		p.Kind = PayloadKind(k[0])
	case recordMemo:
		if p.Memo = string(r.value); p.Memo == "" {
			err = fmt.Errorf("%w: an empty memo is left out", ErrPayload)
		}
	default:
		err = fmt.Errorf("%w: unknown record %d", ErrPayload, r.kind)
	}
	return err
}

// MemoRoom returns how long a memo in bytes fits a route of so many hops whatever its amounts. Smaller amounts leave a little more.
func MemoRoom(hops int) int {
	const perHop = 1 + macSize // length, MAC
	room := hopsSize - (hops-1)*(maxForward+perHop) - (maxFinal + perHop)
	room -= 2 + 4 // lengths of memo and payload take up to three bytes each, and the memo has a type
	return max(0, min(room, MaxMemo))
}
