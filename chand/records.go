package chand

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/wire"
)

// Buckets of the store. Every key is text whose byte order is the order that a scan wants.
const (
	bucketChannel  = "channel"  // channel id -> channel.State (its own codec)
	bucketOutbox   = "outbox"   // channel id/version -> frame of the wire.Update to be kept until acknowledged
	bucketChanInfo = "chaninfo" // channel id -> chanRecord: what the daemon keeps beside the state
	bucketOutgoing = "outgoing" // channel id/lock id -> outgoingRecord; written by the channel's runner
	bucketIncoming = "incoming" // channel id/lock id -> incomingRecord; written by the channel's runner
	bucketPayment  = "payment"  // sequence -> Payment
	bucketPaying   = "paying"   // sequence -> empty record, while the sent payment is not decided
	bucketPayIndex = "payindex" // hash/… or key/… -> sequence of the payment
	bucketInvoice  = "invoice"  // payment hash -> invoiceRecord
	bucketEscrow   = "escrow"   // lock hash/role -> Escrow
	bucketTx       = "tx"       // sequence -> txRecord; written by the accountant
	bucketTxIndex  = "txindex"  // key of the caller's choice -> sequence
	bucketMeta     = "meta"     // single values: the keys below
	bucketGraph    = "graph"    // announcements and policies as gossiped
	bucketPeer     = "peer"     // node id -> address to dial
)

const (
	metaWatched = "watched" // height up to which every owner has processed the chain
	metaAccount = "account" // the ledger account
	metaNextPay = "nextpay" // no payment has this number or a higher one
)

func lockKey(c types.ChannelID, id uint64) string { return fmt.Sprintf("%s/%016x", c, id) }
func outboxKey(c types.ChannelID, version uint32) string {
	return fmt.Sprintf("%s/%08x", c, version)
}
func seqKey(n uint64) string { return fmt.Sprintf("%016x", n) }

// parseLockKey is the inverse of lockKey.
func parseLockKey(key string) (c types.ChannelID, id uint64, err error) {
	a, b, ok := strings.Cut(key, "/")
	if c, err = types.ParseHash(a); err == nil && ok {
		id, err = strconv.ParseUint(b, 16, 64)
	}
	if err != nil || lockKey(c, id) != key {
		return c, id, fmt.Errorf("key %q: want CHANNEL/LOCK in hex", key)
	}
	return c, id, nil
}

var errMissing = errors.New("its record is missing")

// put makes a write of a record.
func put(bucket, key string, v any) types.Write {
	return types.Write{Bucket: bucket, Key: key, Value: encodeRecord(v)}
}

func del(bucket, key string) types.Write { return types.Write{Bucket: bucket, Key: key} }

// load reads one record; ok is false when there is none.
func load[T any](s Store, bucket, key string) (v T, ok bool, err error) {
	b, err := s.Get(bucket, key)
	if err != nil || b == nil {
		return v, false, err
	}
	v, err = decodeRecord[T](b)
	if err != nil {
		return v, false, fmt.Errorf("%s/%s: %w", bucket, key, err)
	}
	return v, true, nil
}

// loadAll reads every record of a bucket with the prefix, in the order of the keys.
func loadAll[T any](s Store, bucket, prefix string, fn func(key string, v T) error) error {
	return s.Scan(bucket, prefix, func(key string, b []byte) error {
		v, err := decodeRecord[T](b)
		if err != nil {
			return fmt.Errorf("%s/%s: %w", bucket, key, err)
		}
		return fn(key, v)
	})
}

// chanRecord is what the daemon keeps of a channel beside its state. Written by the channel's runner.
type chanRecord struct {
	Opened   types.Time `cbor:"1,keyasint,omitempty"`
	Closed   types.Time `cbor:"2,keyasint,omitempty"`
	KeyIndex uint64     `cbor:"3,keyasint"`
	// OpenKey is the idempotency key of the command that opened it.
	OpenKey string `cbor:"4,keyasint,omitempty"`
	Fault   string `cbor:"5,keyasint,omitempty"`
	// Announce is the peer's announcement signatures (encoded wire.AnnounceSigs).
	Announce []byte `cbor:"7,keyasint,omitempty"`
	// Refunds are unwanted payments that wait for the turn to be given back.
	Refunds []wire.Pay `cbor:"8,keyasint,omitempty"`
	// Private: its opener wants it not to be announced.
	Private bool `cbor:"9,keyasint,omitempty"`
}

// Kinds of outgoing and incoming locks.
const (
	kindPayment = 1 // outgoing: Ref is the payment's sequence
	kindEscrow  = 2 // outgoing: the payer's; incoming: held for the payee
	kindForward = 3 // outgoing: InChannel, InLock; incoming: passed on
	kindFinal   = 4 // incoming: for an invoice of ours, or spontaneous
	kindReject  = 5 // incoming: given back as soon as the turn allows
	kindHeld    = 7 // incoming: a part of a payment to us, until its other parts are here
	kindOrphan  = 6 // found after a loss of data: nobody here knows what it was for, so it is only paid or runs out
)

// outgoingRecord says for whom this side funded a lock. It is saved with the update that adds the lock, and deleted
// when nobody needs to hear of the lock any more.
type outgoingRecord struct {
	Kind      int             `cbor:"1,keyasint"`
	Ref       uint64          `cbor:"2,keyasint,omitempty"`
	Hash      types.Hash      `cbor:"3,keyasint"`
	InChannel types.ChannelID `cbor:"4,keyasint"`
	InLock    uint64          `cbor:"5,keyasint,omitempty"`
	// Preimage is set when the lock was opened, Returned when it came back: what the incoming side must hear.
	Preimage types.Preimage `cbor:"6,keyasint"`
	Returned bool           `cbor:"7,keyasint,omitempty"`
	Reason   []byte         `cbor:"8,keyasint,omitempty"`
	// Gone: the lock has left the channel.
	Gone bool `cbor:"9,keyasint,omitempty"`
	// Attempt is the part of a payment of our own.
	Attempt *Attempt `cbor:"10,keyasint,omitempty"`
	// Reserve is the reservation fee that was paid with the lock, Refunded what of it came back.
	Reserve  types.Amount `cbor:"11,keyasint,omitempty"`
	Refunded types.Amount `cbor:"12,keyasint,omitempty"`
	// Lost: the lock is not in the state that was agreed after a loss of data.
	Lost bool `cbor:"13,keyasint,omitempty"`
	// Amount and Expiry are those of a forwarded lock. Released: the funder of its incoming half has settled that, so this one is settled, too.
	Amount   types.Amount `cbor:"14,keyasint,omitempty"`
	Expiry   types.Height `cbor:"15,keyasint,omitempty"`
	Released bool         `cbor:"16,keyasint,omitempty"`
}

// incomingRecord says what becomes of a lock that the peer funded. It is saved with the version that brought the lock.
type incomingRecord struct {
	Kind   int          `cbor:"1,keyasint"`
	Hash   types.Hash   `cbor:"2,keyasint"`
	Amount types.Amount `cbor:"3,keyasint"`
	Expiry types.Height `cbor:"4,keyasint"`
	// Preimage, once known, is revealed to the peer until the lock is settled.
	Preimage types.Preimage `cbor:"5,keyasint"`
	// GiveBack asks for the lock to be given back, with Reason, as soon as this side has the turn.
	GiveBack bool   `cbor:"6,keyasint,omitempty"`
	Reason   []byte `cbor:"7,keyasint,omitempty"`
	// Secret is the onion's shared secret: failures on the way back are wrapped with it.
	Secret types.Hash `cbor:"8,keyasint"`
	// Next is the node that a forwarded lock goes to, with what goes there.
	Next       types.NodeID `cbor:"9,keyasint"`
	OutAmount  types.Amount `cbor:"10,keyasint,omitempty"`
	OutExpiry  types.Height `cbor:"11,keyasint,omitempty"`
	OutChannel types.Hash   `cbor:"12,keyasint"`
	// Released: the peer settled a forwarded lock of itself (escrow), and the outgoing one must follow.
	Released bool `cbor:"13,keyasint,omitempty"`
	// Reserve is the reservation fee that came with the lock, OutReserve what was paid with the forwarded one, Refunded what was given back.
	Reserve    types.Amount `cbor:"14,keyasint,omitempty"`
	OutReserve types.Amount `cbor:"15,keyasint,omitempty"`
	Refunded   types.Amount `cbor:"16,keyasint,omitempty"`
	// Since is the height at which a part of a payment began to be held, Total what its parts are to add up to.
	Since types.Height `cbor:"17,keyasint,omitempty"`
	Total types.Amount `cbor:"18,keyasint,omitempty"`
	// Blinded: it came over a blinded path, so no failure tells more than that.
	Blinded bool `cbor:"19,keyasint,omitempty"`
	// Followed: the outgoing half of a released lock is saved as one to be settled. Owed is what is to be repaid because it came back, when
	// too many payments waited to be given back. Number is that of the payment that says what passing it on has earned.
	Followed bool         `cbor:"20,keyasint,omitempty"`
	Owed     types.Amount `cbor:"21,keyasint,omitempty"`
	Number   uint64       `cbor:"22,keyasint,omitempty"`
}
