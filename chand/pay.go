package chand

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/eschaton-network/chand/htlc"
	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/wire"
)

const (
	// maxTries bounds the ways that one payment tries.
	maxTries = 10
)

// PayRequest asks for a payment: an invoice, or a node and an amount.
type PayRequest struct {
	Invoice string
	To      types.NodeID
	Amount  types.Amount
	Memo    string
	// MaxFee is the most to pay for forwarding; nil: the default.
	MaxFee *types.Amount
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
	return Payment{Hash: p.rec.Hash, Direction: PaymentSent, State: PaymentPending, Key: q.Key}, nil
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
		return nil, nil, refuse(CodeExpired, "ask the payee for a new invoice", "the invoice expired at %s", inv.Expires().Std().Format("2006-01-02 15:04:05 MST"))
	}
	if len(s.byHash) >= maxPaying {
		return nil, nil, refuse(CodeBusy, "wait until some end", "%d payments are under way", maxPaying)
	}
	p = &payment{d: d, seq: s.take(), rec: rec, back: make(chan returnedLock, 1), done: make(chan struct{})}
	s.add(p)
	<-d.ready
	d.life.run("payment", func(ctx context.Context) error { return d.drive(ctx, p, inv) })
	return p, nil, nil
}

// newPayment makes the record of a command, without side effects.
func (d *Daemon) newPayment(q PayRequest) (Payment, *htlc.PaymentRequest, error) {
	rec := Payment{Direction: PaymentSent, State: PaymentPending, Created: d.now(), Key: q.Key, Memo: q.Memo}
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
	}
	rec.MaxFee = d.feeLimit(rec.Amount, q.MaxFee)
	switch {
	case rec.Amount <= 0 || rec.Amount > types.MaxAmount || rec.MaxFee < 0:
		return rec, nil, refuse(CodeInvalid, "give a positive amount", "amount %s with a fee limit of %s", rec.Amount, rec.MaxFee)
	case rec.Peer.IsZero() || rec.Peer == d.ID():
		return rec, nil, refuse(CodeInvalid, "name another node", "the payee is this daemon itself, or nobody")
	}
	return rec, inv, nil
}

func sameWish(a, b *Payment) bool {
	return a.Peer == b.Peer && a.Amount == b.Amount && a.Spontaneous == b.Spontaneous && (a.Spontaneous || a.Hash == b.Hash)
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

// drive tries ways until the payment is decided. It returns only errors that must stop the daemon.
func (d *Daemon) drive(ctx context.Context, p *payment, inv *htlc.PaymentRequest) error {
	q := wayRequest{to: p.rec.Peer, amount: p.rec.Amount, hash: p.rec.Hash, maxFee: p.rec.MaxFee, final: p.final(inv)}
	var tried []types.ChannelID // direct channels that refused
	var last *PaymentFailure    // why the newest attempt failed
	for range maxTries {
		var w *way
		req, r := d.directRequest(p, tried)
		if r == nil {
			var err error
			if w, err = d.findWay(q); err != nil {
				return d.giveUp(ctx, p, last, err)
			}
			req, r = p.routed(w), w.runner
		}
		if err := r.ask(req); err != nil {
			return d.giveUp(ctx, p, last, err)
		}
		var got returnedLock
		select {
		case <-ctx.Done():
			return nil // a restart decides it from what is saved
		case <-p.done:
			if w != nil && p.rec.State == PaymentSucceeded {
				d.announcer.succeeded(w.route, d.now())
			}
			return nil
		case got = <-p.back:
		}
		switch {
		case got.refused != nil && w == nil:
			tried = append(tried, r.view.Load().State.ID)
		case got.refused != nil:
			q.excludeChannels = append(q.excludeChannels, w.route.Directed(0))
			if last == nil {
				f := failureOf(got.refused)
				last = &f
			}
		default:
			last = &got.failure
			if !d.learn(&q, w, &p.rec, got.reason) {
				return d.giveUp(ctx, p, last, nil)
			}
		}
	}
	return d.giveUp(ctx, p, last, nil)
}

// final is what the payee finds in the onion.
func (p *payment) final(inv *htlc.PaymentRequest) htlc.Payload {
	if p.rec.Spontaneous {
		return htlc.Payload{Kind: htlc.Keysend, Secret: p.rec.Preimage, Memo: p.rec.Memo}
	}
	return htlc.Payload{Kind: htlc.Invoice, Secret: inv.Secret}
}

// directRequest pays by one signature in a channel with the payee, when one can carry it.
func (d *Daemon) directRequest(p *payment, tried []types.ChannelID) (*request, *runner) {
	r := d.directChannel(p.rec.Peer, p.rec.Amount, tried)
	if r == nil {
		return nil, nil
	}
	op := wire.Pay{Amount: p.rec.Amount, Hash: p.rec.Hash}
	if p.rec.Spontaneous {
		op.Hash = types.Hash{}
	}
	q := p.request(op, nil)
	q.pay = p
	return q, r
}

func (p *payment) routed(w *way) *request {
	q := p.request(w.op, w)
	q.out = &outgoing{outgoingRecord: outgoingRecord{Kind: kindPayment, Ref: p.seq, Hash: p.rec.Hash}, payment: p}
	return q
}

// request is an attempt: the payment's record is saved with the update that holds its operation.
func (p *payment) request(op wire.Op, w *way) *request {
	return &request{
		op: op,
		staged: func(at place) []types.Write {
			p.rec.State, p.rec.Failure, p.rec.Settled = PaymentPending, nil, 0
			p.rec.Attempt = &Attempt{Channel: at.channel, Version: at.version, Lock: at.lock}
			p.rec.Fee, p.rec.Expiry, p.rec.Route = 0, 0, []types.NodeID{p.rec.Peer}
			p.rec.Tries++
			if w != nil {
				p.rec.Fee, p.rec.Expiry, p.rec.Route = w.fee, w.expiry, w.nodes
				p.rec.Attempt.SessionKey, p.rec.Attempt.Nodes, p.rec.Attempt.Channels = w.session, w.nodes, w.channels
			}
			return p.writes()
		},
		saved:   func(place) { p.show() },
		refused: func(err error) { p.back <- returnedLock{refused: err} },
	}
}

// learn takes in why a way failed, and says whether another can help.
func (d *Daemon) learn(q *wayRequest, w *way, rec *Payment, reason []byte) (retry bool) {
	if w == nil {
		return false // the payee itself gave it back
	}
	a := rec.Attempt
	hop, f, err := htlc.DecryptFailure(a.SessionKey, a.Nodes, a.Channels[0], reason)
	if err != nil && !errors.Is(err, htlc.ErrFailure) {
		hop = -1
	}
	updated := f.Policy != nil && d.announcer.learnPolicy(f.Policy)
	retry = d.announcer.failed(w.route, hop, &f, updated, d.now())
	if hop >= 0 && hop+1 < len(w.route.Hops) && !updated {
		q.excludeChannels = append(q.excludeChannels, w.route.Directed(hop+1))
	} else if hop < 0 {
		q.excludeNodes = append(q.excludeNodes, w.nodes[:len(w.nodes)-1]...)
	}
	return retry
}

// giveUp decides a payment that has no attempt under way as failed.
func (d *Daemon) giveUp(ctx context.Context, p *payment, last *PaymentFailure, err error) error {
	f := PaymentFailure{Rule: CodePaymentFailed, Text: fmt.Sprintf("%d ways were tried", p.rec.Tries), Next: "try again later"}
	if err != nil {
		f = failureOf(err)
	}
	if last != nil {
		f = *last
	}
	p.rec.State, p.rec.Settled, p.rec.Failure = PaymentFailed, d.now(), &f
	if err := d.Store.Commit(ctx, p.writes()...); err != nil {
		return fmt.Errorf("saving a failed payment: %w", err)
	}
	p.finish()
	return nil
}

func failureOf(err error) PaymentFailure {
	var e *Error
	if errors.As(err, &e) {
		return PaymentFailure{Rule: e.Code, Text: e.Text, Next: e.Next}
	}
	return PaymentFailure{Rule: CodePaymentFailed, Text: err.Error(), Next: "try again later"}
}

// readFailure says who refused a lock and why, from the reason that came back with it.
func (d *Daemon) readFailure(rec *Payment, reason []byte) (PaymentFailure, bool) {
	if rec.Attempt == nil {
		return PaymentFailure{Rule: CodePaymentFailed, Text: "the lock came back"}, false
	}
	return d.readReason(rec.Attempt, reason)
}

// readReason decrypts a reason; last tells whether the payee itself gave the lock back.
func (d *Daemon) readReason(a *Attempt, reason []byte) (f PaymentFailure, last bool) {
	if len(a.Nodes) == 0 {
		return PaymentFailure{Rule: "given_back", Text: clipText(string(slices.Clone(reason))), Next: "ask the payee"}, true
	}
	hop, why, err := htlc.DecryptFailure(a.SessionKey, a.Nodes, a.Channels[0], reason)
	if hop < 0 || hop >= len(a.Nodes) {
		return PaymentFailure{Rule: "unattributed", Text: fmt.Sprint(err), Next: "try again: other nodes are used"}, false
	}
	f = PaymentFailure{Hop: a.Nodes[hop], Rule: why.Code.String(), Text: why.Text, Next: nextStep(why.Code)}
	if f.Text == "" {
		f.Text = "the node " + f.Hop.String() + " refused: " + f.Rule
	}
	return f, hop == len(a.Nodes)-1
}

// nextStep is what the payer can do about a failure.
func nextStep(c htlc.Code) string {
	switch c {
	case htlc.IncorrectOrUnknownPaymentDetails, htlc.FinalIncorrectAmount, htlc.FinalIncorrectExpiry:
		return "ask the payee for a new invoice"
	case htlc.FeeInsufficient:
		return "allow a higher fee with --max-fee, or try again"
	case htlc.TemporaryChannelFailure, htlc.ChannelDisabled, htlc.TemporaryNodeFailure:
		return "pay less, try again later, or open a channel nearer to the payee"
	}
	return "try again later, or open a channel nearer to the payee"
}
