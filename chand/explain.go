package chand

import (
	"errors"
	"fmt"

	"github.com/eschaton-network/chand/htlc"
	"github.com/eschaton-network/chand/route"
	"github.com/eschaton-network/chand/types"
)

// What "unknown" means, and what ends it.
const (
	textUnsure = "the channel is being closed and the payee's receipt has not come: the version that the ledger settles decides whether it was paid; do not pay again"
	textAgreed = "both sides have agreed anew where the channel stands, and the payment is part of that: the payee has the money; a payee that lost data " +
		"can't prove it, another one does as soon as it is heard; do not pay again"
	textLost = "a lock of it is not in the state that was agreed after a loss of data: it was paid or came back, and only the lost data knew; " +
		"a proof of payment still decides it"
	textGone      = "the channel of the payment is over and its record does not say how the payment ended"
	textNoReceipt = "the money is with the payee by the channel's last version; the payee never sent its receipt"
	nextUnknown   = "ask the payee whether the invoice is paid; if it is not: `chancli payment cancel` after the deadline, then pay again"
)

// refusedByPayee is a Pay operation that came back.
func refusedByPayee(payee types.NodeID) PaymentFailure {
	return PaymentFailure{Hop: payee, Rule: "refused_by_payee", Text: "the payee knows no such open invoice and gave the money back", Next: nextInvoice}
}

// ruleCancelled is a payment that its payer cancelled.
const ruleCancelled = "cancelled"

const (
	nextInvoice = "ask the payee for a new invoice"
	nextOther   = "nothing is to be done: other ways are tried; open a channel nearer to the payee if none is left"
)

// failureOf is why this daemon itself could not go on.
func failureOf(err error) PaymentFailure {
	var e *Error
	if errors.As(err, &e) {
		return PaymentFailure{Rule: e.Code, Text: e.Text, Next: e.Next}
	}
	return PaymentFailure{Rule: CodePaymentFailed, Text: err.Error(), Next: "try again later"}
}

// noWay makes an error of what the path search found.
func noWay(err error) error {
	var why *route.NoRouteError
	if !errors.As(err, &why) {
		return err
	}
	code, next := CodeNoRoute, "open a channel with the payee, or with a node that has one"
	switch why.Why {
	case route.BadRequest:
		code, next = CodeInvalid, "correct the amount or the limits"
	case route.NoChannel:
		next = "open a channel: chancli channel open; see `chancli channel list` for those that are not connected"
	case route.NoBalance:
		code, next = CodeFunds, "pay less, or open another channel"
	case route.UnknownPayee:
		next = "wait a moment for gossip, or open a channel with the payee"
	case route.AmountTooBig:
		next = "pay less at once, allow more parts with --max-parts, or open a channel nearer to the payee"
	case route.AmountTooSmall:
		next = "pay more at once, or open a channel with the payee"
	case route.FeeAboveLimit:
		code, next = CodeFeeTooHigh, "allow a higher fee with --max-fee; `--dry-run` shows what it would be"
	case route.TooManyHops, route.ExpiryTooFar:
		next = "open a channel nearer to the payee"
	case route.AllExcluded:
		next = "try again later, or open a channel nearer to the payee"
	}
	return &Error{Code: code, Text: err.Error(), Next: next, Money: noMoneyMoved, Err: err}
}

// explain says who refused a lock and why, from the reason that came back with it; payee tells whether it was the payee itself. w is the
// way that was tried, nil when an earlier life of the daemon chose it.
func (d *Daemon) explain(a *Attempt, w *way, reason []byte) (f PaymentFailure, payee bool) {
	if len(a.Nodes) == 0 {
		return PaymentFailure{Rule: "given_back", Text: clipText(string(reason)), Next: "ask the payee"}, true
	}
	hop, why, err := htlc.DecryptFailure(a.Secrets, a.Channels[0], reason)
	if hop < 0 || hop >= len(a.Nodes) {
		return PaymentFailure{Rule: "unattributed", Text: fmt.Sprintf("the reason can't be read: %v", err), Next: "try again: other nodes are used"}, false
	}
	f = PaymentFailure{Hop: a.Nodes[hop], Rule: why.Code.String(), Text: why.Text, Next: nextStep(why.Code)}
	if f.Text == "" {
		f.Text = "the node " + f.Hop.String() + " refused: " + f.Rule
	}
	if w != nil && w.route != nil {
		f.Text = addTerms(f.Text, &why, w.route, hop)
	}
	return f, hop == len(a.Nodes)-1
}

// addTerms compares what the way offered with the policy that came with the refusal.
func addTerms(text string, why *htlc.Failure, r *route.Route, hop int) string {
	if len(why.Policy) == 0 || hop+1 >= len(r.Hops) {
		return text
	}
	p, err := route.DecodePolicy(why.Policy)
	if err != nil {
		return text
	}
	amount := r.Hops[hop+1].Amount
	want, err := p.Fee(amount)
	if err != nil {
		return text
	}
	blocks := int64(r.Hops[hop].Expiry) - int64(r.Hops[hop+1].Expiry)
	switch why.Code {
	case htlc.FeeInsufficient:
		return fmt.Sprintf("%s (offered %s, its terms now: %s for %s)", text, r.Hops[hop].Fee, want, amount)
	case htlc.ReserveInsufficient:
		return fmt.Sprintf("%s (offered %s, its terms now: %d in 10^12 of %s a block)", text, r.Hops[hop].Ask, p.Reserve, amount)
	case htlc.IncorrectExpiry:
		return fmt.Sprintf("%s (offered %d blocks, its terms now: %d)", text, blocks, p.Delta)
	case htlc.AmountBelowMinimum:
		return fmt.Sprintf("%s (offered %s, its terms now: at least %s)", text, amount, p.Min)
	case htlc.TemporaryChannelFailure:
		if amount > p.Max {
			return fmt.Sprintf("%s (offered %s, its terms now: at most %s)", text, amount, p.Max)
		}
	}
	return text
}

// nextStep is what the payer can do about a failure.
func nextStep(c htlc.Code) string {
	switch c {
	case htlc.IncorrectOrUnknownPaymentDetails, htlc.FinalIncorrectAmount:
		return nextInvoice
	case htlc.FinalIncorrectExpiry, htlc.ExpiryTooSoon, htlc.IncorrectExpiry:
		return "try again: blocks have passed on the way, or a hop has new terms"
	case htlc.ExpiryTooFar:
		return "open a channel nearer to the payee: money would be locked for too long on this way"
	case htlc.FeeInsufficient, htlc.ReserveInsufficient:
		return "allow a higher fee with --max-fee, or try again: the new terms are known now"
	case htlc.AmountBelowMinimum:
		return "pay more at once, or in fewer parts with --max-parts"
	case htlc.TemporaryChannelFailure:
		return "pay less, try again later, or open a channel nearer to the payee"
	case htlc.ChannelDisabled, htlc.TemporaryNodeFailure:
		return "try again later, or open a channel nearer to the payee"
	case htlc.MPPTimeout:
		return "try again; with --max-parts 1 if the payee's channels allow it"
	case htlc.PermanentChannelFailure, htlc.PermanentNodeFailure, htlc.UnknownNextPeer:
		return nextOther
	case htlc.InvalidOnionVersion, htlc.InvalidOnionHMAC, htlc.InvalidOnionKey, htlc.InvalidOnionPayload, htlc.InvalidOnionBlinding:
		return "use a shorter memo or another way: the node can't read this onion packet; its software may be older or newer"
	}
	return "try again later, or open a channel nearer to the payee"
}
