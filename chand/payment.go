package chand

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/eschaton-network/chand/htlc"
	"github.com/eschaton-network/chand/types"
)

// States of a payment.
const (
	PaymentPending   = "pending"
	PaymentSucceeded = "succeeded"
	PaymentFailed    = "failed"
	// PaymentUnknown: what the daemon has can't tell whether the money is with the payee or comes back. It is not paid again; the
	// ledger, a receipt or a deadline decides it, and Text says which.
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
	Failure  *PaymentFailure `cbor:"7,keyasint,omitempty"` // while pending: of the newest part that came back
	Created  types.Time      `cbor:"8,keyasint"`
	Settled  types.Time      `cbor:"9,keyasint,omitempty"`
	// Peer is the payee of a sent payment; for others the neighbour that it came from.
	Peer types.NodeID `cbor:"10,keyasint"`
	Memo string       `cbor:"11,keyasint,omitempty"`
	// Route is the way of a payment in one part.
	Route []types.NodeID `cbor:"12,keyasint,omitempty"`
	// Expiry is when the last lock of it comes back by itself, while pending; 0: no lock.
	Expiry types.Height `cbor:"13,keyasint,omitempty"`
	// Key is the caller's idempotency key.
	Key string `cbor:"14,keyasint,omitempty"`
	// Spontaneous: without an invoice.
	Spontaneous bool   `cbor:"15,keyasint,omitempty"`
	Invoice     string `cbor:"16,keyasint,omitempty"`
	// Attempt is the Pay operation, when the payment was made by one signature in a channel with the payee.
	Attempt *Attempt `cbor:"17,keyasint,omitempty"`
	// Tries counts the parts that were signed.
	Tries  int          `cbor:"18,keyasint,omitempty"`
	Text   string       `cbor:"19,keyasint,omitempty"`
	MaxFee types.Amount `cbor:"20,keyasint,omitempty"`
	// Reserve is paid to others (sent) or earned (forwarded) for keeping locks open, whether or not they were settled.
	Reserve types.Amount `cbor:"21,keyasint,omitempty"`
	// Parts are the locks of a sent payment: all that are out as long as it is under way, those that were paid afterwards. While it is
	// under way the record on disk holds the lost ones only, the others are in the records of their locks.
	Parts []Attempt `cbor:"22,keyasint,omitempty"`
	// MaxParts is how many parts may be out at once, Until when the last new one may be tried.
	MaxParts int        `cbor:"23,keyasint,omitempty"`
	Until    types.Time `cbor:"24,keyasint,omitempty"`
	// Cancelled is when the payer asked to try no more.
	Cancelled types.Time `cbor:"25,keyasint,omitempty"`
	// Over is what moved in which channel, as far as Parts and Attempt don't say it: of a received payment its parts, of a forwarded one the
	// channel that it came from and the one that it went to, of a sent one the reservation fees of parts that came back.
	Over []Move `cbor:"27,keyasint,omitempty"`
	// Circle is set for a payment to this daemon itself.
	Circle *Circle `cbor:"26,keyasint,omitempty"`
}

// Move is money that came in (or, negative, went out) over a channel.
type Move struct {
	Channel types.ChannelID `cbor:"1,keyasint"`
	Amount  types.Amount    `cbor:"2,keyasint"`
}

// addMove adds to what is listed of a channel.
func addMove(list []Move, c types.ChannelID, a types.Amount) []Move {
	for i := range list {
		if list[i].Channel == c {
			list[i].Amount += a
			return list
		}
	}
	return append(list, Move{c, a})
}

// Circle names the own channels over which a payment to oneself leaves and comes home, so that money moves between them.
type Circle struct {
	Out types.ChannelID `cbor:"1,keyasint"`
	In  types.ChannelID `cbor:"2,keyasint"`
}

// Attempt is one try of a sent payment: a Pay operation (Lock 0) or a lock in one of our channels.
type Attempt struct {
	Channel types.ChannelID `cbor:"1,keyasint"`
	Version uint32          `cbor:"2,keyasint"`
	Lock    uint64          `cbor:"3,keyasint,omitempty"`
	// Secrets are shared with the onion's hops; they decrypt the failure. Nodes are these hops and Channels the channels before each.
	Secrets  [][32]byte        `cbor:"4,keyasint,omitempty"`
	Nodes    []types.NodeID    `cbor:"5,keyasint,omitempty"`
	Channels []types.ChannelID `cbor:"6,keyasint,omitempty"`
	// Amount is what the payee gets of it; Fee and Reserve are for the hops between.
	Amount  types.Amount `cbor:"7,keyasint,omitempty"`
	Fee     types.Amount `cbor:"8,keyasint,omitempty"`
	Reserve types.Amount `cbor:"9,keyasint,omitempty"`
	// Expiry is when the lock comes back by itself.
	Expiry types.Height `cbor:"10,keyasint,omitempty"`
	// Lost: the lock is not in the state that was agreed after a loss of data.
	Lost bool `cbor:"11,keyasint,omitempty"`
}

func sentKey(h types.Hash) string     { return "sent/" + h.String() }
func receivedKey(h types.Hash) string { return "received/" + h.String() }
func payKey(key string) string        { return "key/" + key }

// payment is a sent payment that is not decided yet. Its record is written by the goroutine that drives it, and once, at the end, by
// the runner that learns the outcome; each of its locks has a record of its own, written by the runner of the lock's channel.
type payment struct {
	d    *Daemon
	seq  uint64
	view atomic.Pointer[Payment] // what is saved, for readers
	news *mailbox[partNews]      // for the goroutine that drives it
	done chan struct{}           // closed once the outcome is saved
	inv  *htlc.PaymentRequest    // as it was read when the payment began, set before it is driven; nil after a restart

	mu     sync.Mutex
	rec    Payment              // guarded by mu
	out    map[lockRef]*Attempt // guarded by mu; locks that are signed and have not come back
	stored bool                 // guarded by mu; the record is on disk
	over   bool                 // guarded by mu; the outcome is decided
}

func newPaying(d *Daemon, seq uint64, rec Payment) *payment {
	return &payment{d: d, seq: seq, rec: rec, news: newMailbox[partNews](0), done: make(chan struct{}), out: make(map[lockRef]*Attempt)}
}

// partNews tells the driver of a payment what became of a part, or what its owner wants.
type partNews struct {
	at       lockRef
	returned bool // the lock came back with reason
	lost     bool // the lock is not there any more after a loss of data
	reason   []byte
	refunded types.Amount // of the reservation fee

	req     *request // of the part or Pay operation, where the following are set
	placed  bool     // it is signed
	refused error    // it never will be

	cancel chan<- error // the owner wants no more tries; answered when none is waiting to be signed
}

// version of the Pay operation.
func (p *payment) version() uint32 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.rec.Attempt == nil {
		return 0
	}
	return p.rec.Attempt.Version
}

// writes save the payment's record; the indexes come with the first one.
func (p *payment) writes() []types.Write {
	w := []types.Write{put(bucketPayment, seqKey(p.seq), p.rec)}
	if p.rec.State == PaymentPending || p.rec.State == PaymentUnknown {
		w = append(w, put(bucketPaying, seqKey(p.seq), true))
	} else {
		w = append(w, del(bucketPaying, seqKey(p.seq)))
	}
	if !p.stored {
		w = append(w, put(bucketPayIndex, sentKey(p.rec.Hash), seqKey(p.seq)))
		if p.rec.Key != "" {
			w = append(w, put(bucketPayIndex, payKey(p.rec.Key), seqKey(p.seq)))
		}
	}
	return w
}

// show makes the saved record visible. Called after the commit.
func (p *payment) show() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stored = true
	p.publish()
}

// loaded is called at the start, when the channels have told which locks of it are out.
func (p *payment) loaded() {
	if a := p.rec.Attempt; a != nil && p.d.runner(a.Channel) == nil && p.rec.State == PaymentPending {
		p.rec.State, p.rec.Text = PaymentUnknown, textGone
	}
	p.show()
}

// publish is show with mu held.
func (p *payment) publish() {
	rec := p.rec
	if !p.over {
		rec.sum(p.outList())
	}
	p.view.Store(&rec)
}

// outList lists the locks that are out, by channel and number.
func (p *payment) outList() []Attempt {
	list := make([]Attempt, 0, len(p.out))
	for _, a := range p.out {
		list = append(list, *a)
	}
	slices.SortFunc(list, func(a, b Attempt) int {
		return cmp.Or(slices.Compare(a.Channel[:], b.Channel[:]), cmp.Compare(a.Lock, b.Lock))
	})
	return list
}

// sum adds locks to those in the record, with what they cost.
func (r *Payment) sum(out []Attempt) {
	r.Parts = append(slices.Clone(r.Parts), out...)
	for i, a := range r.Parts {
		r.Fee += a.Fee
		r.Reserve += a.Reserve
		r.Expiry = max(r.Expiry, a.Expiry)
		if i == 0 {
			r.Route = a.Nodes
		}
	}
	if len(r.Parts) > 1 {
		r.Route = nil
	}
}

// end writes the outcome in the runner's commit. It reports false when the payment was decided before.
func (p *payment) end(b *batch, change func(rec *Payment)) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over {
		return false
	}
	p.over = true
	p.rec.Settled, p.rec.Text, p.rec.Failure = p.d.now(), "", nil
	change(&p.rec)
	b.write(p.writes()...)
	b.then(p.finish)
	return true
}

// succeed is called by a runner: the money is with the payee, or will be by force of the preimage, which opens every part. Each runner
// that learns it saves it with what it does to its own part, as the commit of the one that learnt it first may not have been made yet.
func (p *payment) succeed(b *batch, preimage types.Preimage) {
	p.mu.Lock()
	again := p.over && p.rec.State == PaymentSucceeded
	if again {
		b.write(p.writes()...)
	}
	p.mu.Unlock()
	if again {
		return
	}
	p.end(b, func(rec *Payment) {
		rec.State = PaymentSucceeded
		rec.sum(p.outList())
		if !preimage.IsZero() {
			rec.Preimage = preimage
		}
	})
}

// settledWithoutReceipt is called by a runner: the channel settled with the version of the Pay operation, or a later one, which the payee
// had saved. The money is with the payee and nothing else can come.
func (p *payment) settledWithoutReceipt(b *batch) {
	p.end(b, func(rec *Payment) { rec.State, rec.Text = PaymentSucceeded, textNoReceipt })
}

// fail is called by a runner: the money of the Pay operation did not leave, or came back.
func (p *payment) fail(b *batch, f PaymentFailure) {
	p.end(b, func(rec *Payment) { rec.State, rec.Failure = PaymentFailed, &f })
}

// unsure is called by a runner: the channel of the Pay operation stopped before the payee's receipt came. How the channel settles decides.
func (p *payment) unsure(b *batch, text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over || p.rec.State == PaymentUnknown {
		return
	}
	p.rec.State, p.rec.Text = PaymentUnknown, text
	b.write(p.writes()...)
	b.then(func() {
		p.show()
		p.emit()
	})
}

// renumbered is called by a runner: versions count from 1 again, and the Pay operation is part of that one.
func (p *payment) renumbered(b *batch) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over || p.rec.Attempt == nil {
		return
	}
	a := *p.rec.Attempt
	a.Version = 1
	p.rec.Attempt = &a
	b.write(p.writes()...)
	b.then(p.show)
}

// placed is called by a runner that signs a lock for the payment: it returns what to save beside the lock's own record.
func (p *payment) placed(at place, a *Attempt) []types.Write {
	p.mu.Lock()
	defer p.mu.Unlock()
	a.Channel, a.Version, a.Lock = at.channel, at.version, at.lock
	p.out[lockRef{at.channel, at.lock}] = a
	p.rec.Tries++
	if p.stored {
		return nil
	}
	return p.writes()
}

// returned is called by a runner: a lock came back, or is lost. It reports whether the driver must hear of it, and then drops its record.
func (p *payment) returned(b *batch, n partNews) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over {
		return false
	}
	b.then(func() { p.news.force(n) })
	return true
}

// finish makes the outcome visible. Called after the commit, once.
func (p *payment) finish() {
	p.show()
	p.d.payments.remove(p)
	close(p.done)
	p.emit()
}

func (p *payment) emit() {
	v := p.view.Load()
	p.d.emit("payment."+v.State, "payment of "+v.Amount.String()+" "+v.State, *v)
}
