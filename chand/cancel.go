package chand

import (
	"context"

	"github.com/eschaton-network/chand/types"
)

// CancelPayment stops the tries of a sent payment, found by its hash or by the caller's key. Nothing more is signed for it when this
// returns. Locks that are out can't be taken back: the payment shown says which, and until when; they end by the payee's word, or by
// themselves. Cancelling again changes nothing. A payment that succeeded is refused.
func (d *Daemon) CancelPayment(ctx context.Context, hash types.Hash, key string) (Payment, error) {
	s := d.payments
	s.mu.Lock()
	p := s.byHash[hash]
	if key != "" {
		p = s.byKey[key]
	}
	s.mu.Unlock()
	if p != nil {
		if err := p.cancel(ctx); err != nil {
			return Payment{}, err
		}
		hash = p.rec.Hash
	}
	old, err := d.Payment(hash, key)
	switch {
	case err != nil:
		return Payment{}, err
	case old.Direction != PaymentSent:
		return old, refuse(CodePhase, "see `payment list`", "the payment was %s, not sent by this daemon", old.Direction)
	case old.State == PaymentSucceeded:
		return old, &Error{Code: CodeAlreadyPaid, Text: "the payment succeeded", Next: "ask the payee to pay it back", Money: "it is with the payee"}
	}
	return old, nil
}

// cancel saves the wish, and waits until the driver has taken back what was not signed yet.
func (p *payment) cancel(ctx context.Context) error {
	p.mu.Lock()
	if !p.over && p.rec.Cancelled == 0 {
		p.rec.Cancelled = p.d.now()
		if p.stored { // else it goes with the first write
			if err := p.d.Store.Commit(ctx, p.writes()...); err != nil {
				p.mu.Unlock()
				return err
			}
			p.publish()
		}
	}
	p.mu.Unlock()
	done := make(chan error, 1)
	p.news.force(partNews{cancel: done})
	select {
	case err := <-done:
		return err
	case <-p.done:
		return nil
	case <-ctx.Done():
		return &Error{Code: CodePending, Text: "the payment is being cancelled", Next: "look with `chancli payment show`", Err: ctx.Err(),
			Money: "what is locked comes back by the payment's deadline"}
	case <-p.d.life.ctx.Done():
		return errStopping()
	}
}

// hopeless tells whether nothing of what is out can be heard of any more: what is left was lost with data, and its time is over.
// Only the owner can say then that it was not paid.
func (p *payment) hopeless(h types.Height) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.rec.State != PaymentUnknown || len(p.out) > 0 {
		return false
	}
	if a := p.rec.Attempt; a != nil && p.d.runner(a.Channel) != nil {
		return false
	}
	for i := range p.rec.Parts {
		if p.rec.Parts[i].Expiry >= h {
			return false
		}
	}
	return true
}
