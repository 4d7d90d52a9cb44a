package chand

import (
	"context"
	"time"

	"github.com/eschaton-network/chand/htlc"
	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/wire"
)

// PayRequest asks for a payment: an invoice, or a node and an amount.
type PayRequest struct {
	Invoice string
	To      types.NodeID
	Amount  types.Amount
	Memo    string
	// MaxFee is the most to pay to others, for forwarding and for keeping locks open; nil: the default.
	MaxFee *types.Amount
	// Timeout is how long new ways are tried; 0: until maxTries. What is under way then goes on.
	Timeout time.Duration
	// MaxParts is the most parts that may be under way at once; 0: the default.
	MaxParts int
	// Circle makes it a payment to this daemon itself, out over one channel and in over another: To and Invoice stay empty.
	Circle *Circle
	// Key is the caller's idempotency key: the same key never pays twice. Nor does the same invoice.
	Key string
}

// Pay pays and waits for the outcome. A payment that failed is a result (state "failed"), not an error; when ctx ends first the
// state is "pending" and the payment goes on. An error means that nothing was begun.
func (d *Daemon) Pay(ctx context.Context, q PayRequest) (Payment, error) {
	p, old, err := d.beginPayment(q)
	if err != nil {
		return Payment{}, err
	}
	if old != nil {
		return *old, nil
	}
	select {
	case <-p.done:
	case <-ctx.Done():
	case <-d.life.ctx.Done():
	}
	if v := p.view.Load(); v != nil {
		return *v, nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.rec, nil
}

// beginPayment finds the payment that this command asked for before, or starts one.
func (d *Daemon) beginPayment(q PayRequest) (p *payment, old *Payment, err error) {
	if !d.running.Load() {
		return nil, nil, refuse(CodeBusy, "try again in a moment", "the daemon is starting")
	}
	rec, inv, err := d.newPayment(q)
	if err != nil {
		return nil, nil, err
	}
	s := d.payments
	s.mu.Lock()
	defer s.mu.Unlock()
	if live := s.byKey[q.Key]; q.Key != "" && live != nil {
		if !sameWish(&live.rec, &rec) {
			return nil, nil, conflict(q.Key)
		}
		return live, nil, nil
	}
	if live := s.byHash[rec.Hash]; live != nil {
		return live, nil, nil // the same invoice is being paid
	}
	if old, err := d.paidBefore(&rec); err != nil || old != nil {
		return nil, old, err
	}
	if inv != nil && expired(inv, d.now()) {
		return nil, nil, errExpired(inv)
	}
	if len(s.byHash) >= maxPaying {
		return nil, nil, refuse(CodeBusy, "wait until some end", "%d payments are under way", maxPaying)
	}
	p = newPaying(d, s.take(), rec)
	p.inv = inv
	s.add(p)
	<-d.ready
	d.life.work("payment", p.drive)
	return p, nil, nil
}

func errExpired(inv *htlc.PaymentRequest) error {
	return refuse(CodeExpired, nextInvoice, "the invoice expired at %s", inv.Expires().Std().Format("2006-01-02 15:04:05 MST"))
}

// newPayment makes the record of a command, without side effects.
func (d *Daemon) newPayment(q PayRequest) (Payment, *htlc.PaymentRequest, error) {
	rec := Payment{Direction: PaymentSent, State: PaymentPending, Created: d.now(), Key: q.Key, Memo: q.Memo, MaxParts: q.MaxParts}
	if q.Timeout > 0 {
		rec.Until = types.Time(d.Clock().Add(q.Timeout).Unix())
	}
	if rec.MaxParts <= 0 || rec.MaxParts > maxParts {
		rec.MaxParts = maxParts
	}
	if len(q.Key) > maxKey || len(q.Memo) > wire.MaxText {
		return rec, nil, refuse(CodeInvalid, "use shorter texts", "a key has at most %d bytes, a memo %d", maxKey, wire.MaxText)
	}
	var inv *htlc.PaymentRequest
	if q.Invoice != "" {
		var err error
		if inv, err = d.parseInvoice(q.Invoice); err != nil {
			return rec, nil, &Error{Code: CodeInvalid, Text: err.Error(), Next: "check the invoice's text", Money: noMoneyMoved, Err: err}
		}
		if !q.To.IsZero() || q.Amount != 0 && inv.Amount != 0 && q.Amount != inv.Amount {
			return rec, nil, refuse(CodeInvalid, "pay the invoice as it stands", "the invoice says to whom and how much")
		}
		if inv.Amount == 0 {
			inv.Amount = q.Amount // the payer chooses
		}
		rec.Hash, rec.Peer, rec.Amount, rec.Memo, rec.Invoice = inv.Hash, inv.Payee, inv.Amount, inv.Description, q.Invoice
	} else {
		var pre types.Preimage
		if err := d.random(pre[:]); err != nil {
			return rec, nil, err
		}
		rec.Spontaneous, rec.Preimage, rec.Hash, rec.Peer, rec.Amount = true, pre, pre.Hash(), q.To, q.Amount
		if rec.Circle = q.Circle; q.Circle != nil {
			if err := d.checkCircle(q.Circle); err != nil {
				return rec, nil, err
			}
			rec.Peer, rec.MaxParts = d.ID(), 1
		}
	}
	rec.MaxFee = d.feeLimit(rec.Amount, q.MaxFee)
	switch {
	case rec.Amount <= 0 || rec.Amount > types.MaxAmount || rec.MaxFee < 0:
		return rec, nil, refuse(CodeInvalid, "give a positive amount", "amount %s with a fee limit of %s", rec.Amount, rec.MaxFee)
	case rec.Peer.IsZero() || rec.Peer == d.ID() && rec.Circle == nil:
		return rec, nil, refuse(CodeInvalid, "name another node", "the payee is this daemon itself, or nobody")
	}
	return rec, inv, nil
}

func sameWish(a, b *Payment) bool {
	sameCircle := a.Circle == nil && b.Circle == nil || a.Circle != nil && b.Circle != nil && *a.Circle == *b.Circle
	return a.Peer == b.Peer && a.Amount == b.Amount && a.Spontaneous == b.Spontaneous && (a.Spontaneous || a.Hash == b.Hash) && sameCircle
}

// paidBefore finds a finished payment with the same key, or of the same invoice unless that failed.
func (d *Daemon) paidBefore(rec *Payment) (*Payment, error) {
	if rec.Key != "" {
		old, ok, err := d.paymentBy(payKey(rec.Key))
		if err != nil {
			return nil, err
		}
		if ok {
			if !sameWish(&old, rec) {
				return nil, conflict(rec.Key)
			}
			return &old, nil
		}
	}
	old, ok, err := d.paymentBy(sentKey(rec.Hash))
	if err != nil || !ok || old.State == PaymentFailed {
		return nil, err
	}
	return &old, nil
}

func (d *Daemon) paymentBy(index string) (Payment, bool, error) {
	seq, ok, err := load[string](d.Store, bucketPayIndex, index)
	if err != nil || !ok {
		return Payment{}, false, err
	}
	return load[Payment](d.Store, bucketPayment, seq)
}
