package chand

import (
	"sync/atomic"

	"github.com/eschaton-network/chand/types"
)

// States of a payment.
const (
	PaymentPending   = "pending"
	PaymentSucceeded = "succeeded"
	PaymentFailed    = "failed"
	// PaymentUnknown: the daemon can't tell yet; the money is either paid or comes back by the deadline. Not to be paid again.
	PaymentUnknown = "unknown"
)

// Directions of a payment.
const (
	PaymentSent      = "sent"
	PaymentReceived  = "received"
	PaymentForwarded = "forwarded"
)

// PaymentFailure says who refused a payment, by which rule, and what to do.
type PaymentFailure struct {
	Hop  types.NodeID `cbor:"1,keyasint"` // zero: this daemon
	Rule string       `cbor:"2,keyasint"`
	Text string       `cbor:"3,keyasint"`
	Next string       `cbor:"4,keyasint,omitempty"`
}

// Payment is a payment over channels, as it is saved and shown.
type Payment struct {
	Hash      types.Hash   `cbor:"1,keyasint"`
	Direction string       `cbor:"2,keyasint"`
	State     string       `cbor:"3,keyasint"`
	Amount    types.Amount `cbor:"4,keyasint"`
	// Fee is paid to others (sent) or earned (forwarded).
	Fee      types.Amount    `cbor:"5,keyasint,omitempty"`
	Preimage types.Preimage  `cbor:"6,keyasint"`
	Failure  *PaymentFailure `cbor:"7,keyasint,omitempty"`
	Created  types.Time      `cbor:"8,keyasint"`
	Settled  types.Time      `cbor:"9,keyasint,omitempty"`
	// Peer is the payee of a sent payment; for others the neighbour that it came from.
	Peer  types.NodeID   `cbor:"10,keyasint"`
	Memo  string         `cbor:"11,keyasint,omitempty"`
	Route []types.NodeID `cbor:"12,keyasint,omitempty"`
	// Expiry is when a lock of it comes back by itself, while pending; 0: no lock.
	Expiry types.Height `cbor:"13,keyasint,omitempty"`
	// Key is the caller's idempotency key.
	Key string `cbor:"14,keyasint,omitempty"`
	// Spontaneous: without an invoice.
	Spontaneous bool   `cbor:"15,keyasint,omitempty"`
	Invoice     string `cbor:"16,keyasint,omitempty"`
	// Attempt is the newest one: where the money is, or was.
	Attempt *Attempt     `cbor:"17,keyasint,omitempty"`
	Tries   int          `cbor:"18,keyasint,omitempty"`
	Text    string       `cbor:"19,keyasint,omitempty"`
	MaxFee  types.Amount `cbor:"20,keyasint,omitempty"`
}

// Attempt is one try of a sent payment: a Pay operation (Lock 0) or a lock in one of our channels.
type Attempt struct {
	Channel types.ChannelID `cbor:"1,keyasint"`
	Version uint32          `cbor:"2,keyasint"`
	Lock    uint64          `cbor:"3,keyasint,omitempty"`
	// SessionKey made the onion; it decrypts the failure. Nodes are the onion's hops and Channels the channels before each.
	SessionKey types.Hash        `cbor:"4,keyasint"`
	Nodes      []types.NodeID    `cbor:"5,keyasint,omitempty"`
	Channels   []types.ChannelID `cbor:"6,keyasint,omitempty"`
}

func sentKey(h types.Hash) string     { return "sent/" + h.String() }
func receivedKey(h types.Hash) string { return "received/" + h.String() }
func payKey(key string) string        { return "key/" + key }

// payment is a sent payment that is not decided yet. rec is owned by the goroutine that drives the payment while no attempt is
// under way, and by the runner of the attempt's channel from the moment it takes the request until it reports.
type payment struct {
	d    *Daemon
	seq  uint64
	rec  Payment
	view atomic.Pointer[Payment] // what is saved, for readers
	back chan returnedLock       // from the runner: the attempt failed; holds one
	done chan struct{}           // closed once the outcome is saved
	over bool                    // the outcome is decided; owned like rec
}

// returnedLock is how an attempt failed.
type returnedLock struct {
	failure PaymentFailure
	lock    bool // a lock came back with reason, which the driver reads
	reason  []byte
	refused error // never signed
}

func (p *payment) version() uint32 {
	if p.rec.Attempt == nil {
		return 0
	}
	return p.rec.Attempt.Version
}

// writes save the payment's record; the indexes come with the first one.
func (p *payment) writes() []types.Write {
	w := []types.Write{put(bucketPayment, seqKey(p.seq), p.rec)}
	if p.rec.State == PaymentPending {
		w = append(w, put(bucketPaying, seqKey(p.seq), true))
	} else {
		w = append(w, del(bucketPaying, seqKey(p.seq)))
	}
	w = append(w, put(bucketPayIndex, sentKey(p.rec.Hash), seqKey(p.seq)))
	if p.rec.Key != "" {
		w = append(w, put(bucketPayIndex, payKey(p.rec.Key), seqKey(p.seq)))
	}
	return w
}

// show makes the saved record visible. Called after the commit.
func (p *payment) show() {
	rec := p.rec
	p.view.Store(&rec)
}

// succeed is called by the runner: the money is with the payee, or will be by force of the preimage.
func (p *payment) succeed(b *batch, preimage types.Preimage) {
	if p.over {
		return
	}
	p.over = true
	p.rec.State, p.rec.Settled, p.rec.Failure = PaymentSucceeded, p.d.now(), nil
	if !preimage.IsZero() {
		p.rec.Preimage = preimage
	}
	b.write(put(bucketPayment, seqKey(p.seq), p.rec), del(bucketPaying, seqKey(p.seq)))
	b.then(p.finish)
}

// fail is called by the runner: the money did not leave.
func (p *payment) fail(b *batch, f PaymentFailure) {
	if p.over {
		return
	}
	p.over = true
	p.rec.State, p.rec.Settled, p.rec.Failure = PaymentFailed, p.d.now(), &f
	b.write(put(bucketPayment, seqKey(p.seq), p.rec), del(bucketPaying, seqKey(p.seq)))
	b.then(p.finish)
}

// unknown is called by the runner: nobody here will ever know.
func (p *payment) unknown(b *batch, text string) {
	if p.over {
		return
	}
	p.over = true
	p.rec.State, p.rec.Settled, p.rec.Text = PaymentUnknown, p.d.now(), text
	b.write(put(bucketPayment, seqKey(p.seq), p.rec), del(bucketPaying, seqKey(p.seq)))
	b.then(p.finish)
}

// returned is called by the runner: a lock came back. The record says "failed" from here on, so that a crash leaves the truth;
// the driver may try another way and then it says "pending" again.
func (p *payment) returned(b *batch, reason []byte) {
	if p.over {
		return
	}
	f, _ := p.d.readFailure(&p.rec, reason)
	p.rec.State, p.rec.Settled, p.rec.Failure = PaymentFailed, p.d.now(), &f
	b.write(put(bucketPayment, seqKey(p.seq), p.rec), del(bucketPaying, seqKey(p.seq)))
	b.then(func() {
		select {
		case p.back <- returnedLock{failure: f, lock: true, reason: reason}:
		default: // nobody drives it any more: after a restart a failure is final
			p.finish()
		}
	})
}

// finish makes the outcome visible. Called after the commit, once.
func (p *payment) finish() {
	p.show()
	p.d.payments.remove(p)
	close(p.done)
	p.d.emit("payment."+p.rec.State, "payment of "+p.rec.Amount.String()+" "+p.rec.State, *p.view.Load())
}
