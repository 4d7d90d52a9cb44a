package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/eschaton-network/chand/chand"
	"github.com/eschaton-network/chand/market"
	chandv1 "github.com/eschaton-network/chand/rpc/gen/chand/v1"
	"github.com/eschaton-network/chand/types"
)

// payTimeout is how long Pay waits for an outcome when the caller does not say. Most are known within a second; a hop
// that holds a payment back is answered with "pending".
const payTimeout = time.Minute

type paymentsAPI struct{ d *chand.Daemon }

func (a paymentsAPI) CreateInvoice(ctx context.Context, q *chandv1.CreateInvoiceRequest) (*chandv1.Invoice, error) {
	r := chand.InvoiceRequest{Memo: q.Memo, Seconds: q.ExpirySeconds, Private: q.Private, Blinded: q.Blinded, Key: q.IdempotencyKey}
	var err error
	if q.Amount != "" { // else the payer chooses
		if r.Amount, err = parseAmount("amount", q.Amount); err != nil {
			return nil, err
		}
		if r.Amount == 0 {
			return nil, badField("amount", errors.New("nothing can't be asked for: leave it out to let the payer choose"))
		}
	}
	if q.DescriptionHash != "" {
		if r.DescriptionHash, err = parseHash("description_hash", q.DescriptionHash); err != nil {
			return nil, err
		}
	}
	return pbInvoice(a.d.CreateInvoice(ctx, r))
}

func (a paymentsAPI) DecodeInvoice(_ context.Context, q *chandv1.DecodeInvoiceRequest) (*chandv1.Invoice, error) {
	return pbInvoice(a.d.DecodeInvoice(q.Invoice))
}

func (a paymentsAPI) GetInvoice(_ context.Context, q *chandv1.InvoiceRequest) (*chandv1.Invoice, error) {
	hash, err := parseHash("hash", q.Hash)
	if err != nil {
		return nil, err
	}
	return pbInvoice(a.d.Invoice(hash))
}

func (a paymentsAPI) CancelInvoice(ctx context.Context, q *chandv1.InvoiceRequest) (*chandv1.Invoice, error) {
	hash, err := parseHash("hash", q.Hash)
	if err != nil {
		return nil, err
	}
	return pbInvoice(a.d.CancelInvoice(ctx, hash))
}

func pbInvoice(v chand.Invoice, err error) (*chandv1.Invoice, error) {
	if err != nil {
		return nil, apiError(err)
	}
	return &chandv1.Invoice{Invoice: v.Text, Hash: v.Hash.String(), Amount: someAmount(v.Amount), Memo: v.Memo, Payee: v.Payee.String(),
		Created: pbTime(v.Created), Expires: pbTime(v.Expires), State: v.State, Settled: pbTime(v.Settled), Paid: someAmount(v.Paid),
		Held: someAmount(v.Held), DescriptionHash: hashText(v.DescriptionHash)}, nil
}

// someAmount shows an amount, or nothing for none.
func someAmount(a types.Amount) string {
	if a == 0 {
		return ""
	}
	return a.String()
}

func (a paymentsAPI) Pay(ctx context.Context, q *chandv1.PayRequest) (*chandv1.Payment, error) {
	r, err := payRequest(q)
	if err != nil {
		return nil, err
	}
	return a.pay(ctx, r)
}

func (a paymentsAPI) pay(ctx context.Context, r chand.PayRequest) (*chandv1.Payment, error) {
	wait := payTimeout
	if r.Timeout != 0 {
		wait = r.Timeout
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	p, err := a.d.Pay(ctx, r)
	if err != nil {
		return nil, apiError(err)
	}
	return pbPayment(a.d, p), nil
}

func payRequest(q *chandv1.PayRequest) (r chand.PayRequest, err error) {
	r = chand.PayRequest{Invoice: q.Invoice, Key: q.IdempotencyKey, Memo: q.Memo, Timeout: seconds(q.TimeoutSeconds), MaxParts: int(min(q.MaxParts, 1<<16))}
	if (q.Invoice == "") == (q.To == "") || q.To != "" && q.Amount == "" || q.Invoice != "" && q.Memo != "" {
		return r, badField("invoice", errors.New("want either an invoice (with an amount if it names none), or to and amount (and a memo)"))
	}
	if q.To != "" {
		if r.To, err = parseNode("to", q.To); err != nil {
			return r, err
		}
	}
	if q.Amount != "" {
		if r.Amount, err = parseAmount("amount", q.Amount); err != nil {
			return r, err
		}
	}
	r.MaxFee, err = parseMaxFee(q.MaxFee)
	return r, err
}

func (a paymentsAPI) Plan(_ context.Context, q *chandv1.PayRequest) (*chandv1.PaymentPlan, error) {
	r, err := payRequest(q)
	if err != nil {
		return nil, err
	}
	return a.plan(r)
}

func (a paymentsAPI) plan(r chand.PayRequest) (*chandv1.PaymentPlan, error) {
	p, err := a.d.PlanPayment(r)
	if err != nil {
		return nil, apiError(err)
	}
	out := &chandv1.PaymentPlan{To: p.To.String(), Amount: p.Amount.String(), Fee: p.Fee.String(), Reserve: p.Reserve.String(), MaxFee: p.MaxFee.String(), Odds: p.Odds}
	for _, x := range p.Parts {
		part := &chandv1.PlanPart{Amount: x.Amount.String(), Fee: x.Fee.String(), Reserve: x.Reserve.String(), Odds: x.Odds, Deadline: pbDeadline(a.d.Deadline(x.Expiry))}
		for _, h := range x.Hops {
			part.Hops = append(part.Hops, &chandv1.PlanHop{Node: h.Node.String(), Channel: h.Channel.String(), Amount: h.Amount.String(),
				Fee: h.Fee.String(), Reserve: h.Reserve.String(), Deadline: pbDeadline(a.d.Deadline(h.Expiry)), Odds: h.Odds})
		}
		out.Parts = append(out.Parts, part)
	}
	return out, nil
}

func (a paymentsAPI) Rebalance(ctx context.Context, q *chandv1.RebalanceRequest) (*chandv1.Payment, error) {
	r, err := rebalanceRequest(q)
	if err != nil {
		return nil, err
	}
	return a.pay(ctx, r)
}

func (a paymentsAPI) PlanRebalance(_ context.Context, q *chandv1.RebalanceRequest) (*chandv1.PaymentPlan, error) {
	r, err := rebalanceRequest(q)
	if err != nil {
		return nil, err
	}
	return a.plan(r)
}

func rebalanceRequest(q *chandv1.RebalanceRequest) (chand.PayRequest, error) {
	var none chand.PayRequest
	out, err := parseHash("out", q.Out)
	if err != nil {
		return none, err
	}
	in, err := parseHash("in", q.In)
	if err != nil {
		return none, err
	}
	amount, err := parseAmount("amount", q.Amount)
	if err != nil {
		return none, err
	}
	limit, err := parseMaxFee(q.MaxFee)
	r := chand.RebalanceRequest(out, in, amount, limit, q.IdempotencyKey)
	r.Timeout = seconds(q.TimeoutSeconds)
	return r, err
}

func (a paymentsAPI) Cancel(ctx context.Context, q *chandv1.GetPaymentRequest) (*chandv1.Payment, error) {
	hash, err := paymentName(q)
	if err != nil {
		return nil, err
	}
	p, err := a.d.CancelPayment(ctx, hash, q.IdempotencyKey)
	if err != nil {
		return nil, apiError(err)
	}
	return pbPayment(a.d, p), nil
}

// paymentName is how a payment is found: by its hash, or by the caller's key.
func paymentName(q *chandv1.GetPaymentRequest) (hash types.Hash, err error) {
	if (q.Hash == "") == (q.IdempotencyKey == "") {
		return hash, badField("hash", errors.New("want either a hash or an idempotency key"))
	}
	if q.Hash != "" {
		hash, err = parseHash("hash", q.Hash)
	}
	return hash, err
}

func (a paymentsAPI) Get(_ context.Context, q *chandv1.GetPaymentRequest) (*chandv1.Payment, error) {
	hash, err := paymentName(q)
	if err != nil {
		return nil, err
	}
	p, err := a.d.Payment(hash, q.IdempotencyKey)
	if err != nil {
		return nil, apiError(err)
	}
	return pbPayment(a.d, p), nil
}

func (a paymentsAPI) List(_ context.Context, q *chandv1.ListPaymentsRequest) (*chandv1.ListPaymentsResponse, error) {
	list, next, err := a.d.Payments(q.PageToken, page(q.Limit))
	if err != nil {
		return nil, apiError(err)
	}
	out := &chandv1.ListPaymentsResponse{NextPageToken: next}
	for _, p := range list {
		out.Payments = append(out.Payments, pbPayment(a.d, p))
	}
	return out, nil
}

// paymentWords say what a state means for the money.
var paymentWords = map[string]string{
	chand.PaymentPending:   "under way; if it does not get through, the money comes back by the deadline",
	chand.PaymentSucceeded: "paid",
	chand.PaymentFailed:    "not paid; the money is back",
	chand.PaymentUnknown:   "the outcome is not known yet; the money is either paid or comes back by the deadline: do not pay again",
}

func pbPayment(d *chand.Daemon, p chand.Payment) *chandv1.Payment {
	out := &chandv1.Payment{Hash: hashText(p.Hash), Direction: p.Direction, State: p.State, StateText: paymentWords[p.State], Amount: p.Amount.String(),
		Fee: p.Fee.String(), Failure: pbFailure(p.Failure), Created: pbTime(p.Created), Settled: pbTime(p.Settled), Peer: p.Peer.String(), Memo: p.Memo,
		IdempotencyKey: p.Key, Reserve: p.Reserve.String(), Tries: uint32(p.Tries), Cancelled: pbTime(p.Cancelled), Invoice: p.Invoice}
	if p.Direction == chand.PaymentSent {
		out.MaxFee = p.MaxFee.String()
	}
	open := p.State == chand.PaymentPending || p.State == chand.PaymentUnknown
	if open && p.Cancelled != 0 {
		out.StateText = "cancelled: nothing more is tried; what is locked is paid or comes back by the deadline, and can't be taken back before"
	}
	if p.Text != "" {
		out.StateText = p.Text
	}
	if !p.Preimage.IsZero() {
		out.Preimage = p.Preimage.String()
	}
	for _, n := range p.Route {
		out.Route = append(out.Route, n.String())
	}
	if open {
		out.Deadline = pbDeadline(d.Deadline(p.Expiry))
	}
	for i := range p.Parts {
		out.Parts = append(out.Parts, pbPart(d, &p.Parts[i], open))
	}
	return out
}

func pbPart(d *chand.Daemon, a *chand.Attempt, open bool) *chandv1.PaymentPart {
	part := &chandv1.PaymentPart{Amount: a.Amount.String(), Fee: a.Fee.String(), Reserve: a.Reserve.String(), Channel: a.Channel.String(), Lost: a.Lost}
	for _, n := range a.Nodes {
		part.Route = append(part.Route, n.String())
	}
	if open {
		part.Deadline = pbDeadline(d.Deadline(a.Expiry))
	}
	return part
}

// payer lets the gateway's buyer pay.
type payer struct{ d *chand.Daemon }

func (p payer) Pay(ctx context.Context, invoice string, max types.Amount, key string) (types.Preimage, types.Amount, error) {
	inv, err := p.d.DecodeInvoice(invoice)
	if err != nil {
		return types.Preimage{}, 0, err
	}
	maxFee, err := max.Sub(inv.Amount)
	if err != nil {
		return types.Preimage{}, 0, fmt.Errorf("the invoice asks for %s, the limit is %s", inv.Amount, max)
	}
	ctx, cancel := context.WithTimeout(ctx, payTimeout)
	defer cancel()
	done, err := p.d.Pay(ctx, chand.PayRequest{Invoice: invoice, MaxFee: &maxFee, Key: key})
	if err != nil {
		return types.Preimage{}, 0, err
	}
	switch done.State {
	case chand.PaymentSucceeded:
		if done.Preimage.IsZero() { // the channel settled before the receipt came
			return types.Preimage{}, 0, fmt.Errorf("%w: payment %s: %s", market.ErrOutcomeUnknown, done.Hash, done.Text)
		}
		return done.Preimage, done.Amount + done.Fee + done.Reserve, nil
	case chand.PaymentFailed:
		if done.Failure != nil {
			return types.Preimage{}, 0, errors.New(done.Failure.Text)
		}
		return types.Preimage{}, 0, errors.New("the payment failed")
	}
	return types.Preimage{}, 0, fmt.Errorf("%w: payment %s is %s", market.ErrOutcomeUnknown, done.Hash, done.State)
}

// invoicer lets the gateway's seller ask for money.
type invoicer struct{ d *chand.Daemon }

func (i invoicer) CreateInvoice(ctx context.Context, amount types.Amount, memo, _ string) (string, types.Hash, error) {
	v, err := i.d.CreateInvoice(ctx, chand.InvoiceRequest{Amount: amount, Memo: memo})
	return v.Text, v.Hash, err
}

// decodeInvoice tells the buyer what an invoice asks.
func (s *server) decodeInvoice(invoice string) (types.Amount, types.Hash, error) {
	v, err := s.daemon.DecodeInvoice(invoice)
	return v.Amount, v.Hash, err
}
