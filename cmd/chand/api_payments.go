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
	amount, err := parseAmount("amount", q.Amount)
	if err != nil {
		return nil, err
	}
	v, err := a.d.CreateInvoice(ctx, chand.InvoiceRequest{Amount: amount, Memo: q.Memo, Seconds: q.ExpirySeconds, Key: q.IdempotencyKey})
	return pbInvoice(v, err)
}

func (a paymentsAPI) DecodeInvoice(_ context.Context, q *chandv1.DecodeInvoiceRequest) (*chandv1.Invoice, error) {
	v, err := a.d.DecodeInvoice(q.Invoice)
	return pbInvoice(v, err)
}

func pbInvoice(v chand.Invoice, err error) (*chandv1.Invoice, error) {
	if err != nil {
		return nil, apiError(err)
	}
	return &chandv1.Invoice{Invoice: v.Text, Hash: v.Hash.String(), Amount: v.Amount.String(), Memo: v.Memo, Payee: v.Payee.String(),
		Created: pbTime(v.Created), Expires: pbTime(v.Expires), State: v.State}, nil
}

func (a paymentsAPI) Pay(ctx context.Context, q *chandv1.PayRequest) (*chandv1.Payment, error) {
	r := chand.PayRequest{Invoice: q.Invoice, Key: q.IdempotencyKey}
	var err error
	if (q.Invoice == "") == (q.To == "" && q.Amount == "") {
		return nil, badField("invoice", errors.New("want either an invoice, or to and amount"))
	}
	if q.To != "" || q.Amount != "" {
		if r.To, err = parseNode("to", q.To); err != nil {
			return nil, err
		}
		if r.Amount, err = parseAmount("amount", q.Amount); err != nil {
			return nil, err
		}
	}
	if r.MaxFee, err = parseMaxFee(q.MaxFee); err != nil {
		return nil, err
	}
	wait := payTimeout
	if q.TimeoutSeconds != 0 {
		wait = seconds(q.TimeoutSeconds)
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	p, err := a.d.Pay(ctx, r)
	if err != nil {
		return nil, apiError(err)
	}
	return pbPayment(a.d, p), nil
}

func (a paymentsAPI) Get(_ context.Context, q *chandv1.GetPaymentRequest) (*chandv1.Payment, error) {
	var hash types.Hash
	if (q.Hash == "") == (q.IdempotencyKey == "") {
		return nil, badField("hash", errors.New("want either a hash or an idempotency key"))
	}
	if q.Hash != "" {
		var err error
		if hash, err = parseHash("hash", q.Hash); err != nil {
			return nil, err
		}
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
		IdempotencyKey: p.Key}
	if p.Text != "" {
		out.StateText = p.Text
	}
	if !p.Preimage.IsZero() {
		out.Preimage = p.Preimage.String()
	}
	for _, n := range p.Route {
		out.Route = append(out.Route, n.String())
	}
	if p.State == chand.PaymentPending || p.State == chand.PaymentUnknown {
		out.Deadline = pbDeadline(d.Deadline(p.Expiry))
	}
	return out
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
		return done.Preimage, done.Amount + done.Fee, nil
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
