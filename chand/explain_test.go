package chand

import (
	"errors"
	"strings"
	"testing"

	"github.com/eschaton-network/chand/htlc"
	"github.com/eschaton-network/chand/route"
	"github.com/eschaton-network/chand/types"
)

// Every code that a hop can answer with is named, comes with the numbers that the payer needs, and with what helps.
func TestFailuresAreExplained(t *testing.T) {
	policy := &route.Policy{Channel: types.Hash{3}, Base: 700, Millionths: 2000, Delta: 77, Reserve: 55, Min: 2 * types.Coin, Max: 3 * types.Coin}
	way := &way{route: &route.Route{Hops: []route.Hop{
		{Node: types.NodeID{2, 1}, Amount: 5*types.Coin + 300, Expiry: 500, Fee: 300, Ask: 11},
		{Node: types.NodeID{2, 2}, Amount: 5 * types.Coin, Expiry: 450},
		{Node: types.NodeID{2, 3}, Amount: 5 * types.Coin, Expiry: 400}}}}
	a := &Attempt{Secrets: [][32]byte{{1}, {2}, {3}}, Nodes: way.route.Nodes(), Channels: []types.ChannelID{{1}, {2}, {3}}}
	for code, want := range map[htlc.Code]struct{ text, next string }{
		htlc.TemporaryNodeFailure:             {"seen", "try again later"},
		htlc.PermanentNodeFailure:             {"seen", "other ways"},
		htlc.InvalidOnionVersion:              {"seen", "onion packet"},
		htlc.InvalidOnionHMAC:                 {"seen", "onion packet"},
		htlc.InvalidOnionKey:                  {"seen", "onion packet"},
		htlc.InvalidOnionPayload:              {"seen", "onion packet"},
		htlc.InvalidOnionBlinding:             {"seen", "onion packet"},
		htlc.TemporaryChannelFailure:          {"offered 5, its terms now: at most 3", "pay less"},
		htlc.PermanentChannelFailure:          {"seen", "other ways"},
		htlc.UnknownNextPeer:                  {"seen", "other ways"},
		htlc.AmountBelowMinimum:               {"offered 5, its terms now: at least 2", "pay more"},
		htlc.FeeInsufficient:                  {"offered 0.0000003, its terms now: 0.0100007 for 5", "--max-fee"},
		htlc.ReserveInsufficient:              {"offered 0.000000011, its terms now: 55 in 10^12 of 5 a block", "--max-fee"},
		htlc.IncorrectExpiry:                  {"offered 50 blocks, its terms now: 77", "try again"},
		htlc.ExpiryTooSoon:                    {"seen", "try again"},
		htlc.ExpiryTooFar:                     {"seen", "nearer"},
		htlc.IncorrectOrUnknownPaymentDetails: {"seen", "new invoice"},
		htlc.FinalIncorrectExpiry:             {"seen", "try again"},
		htlc.FinalIncorrectAmount:             {"seen", "new invoice"},
		htlc.ChannelDisabled:                  {"seen", "try again later"},
		htlc.MPPTimeout:                       {"seen", "--max-parts 1"},
	} {
		f := htlc.NewFailure(code, types.ChannelID{3}, "what was seen")
		if code.Update() {
			f.Policy = policy.Encode()
		}
		reason := htlc.WrapFailure(a.Secrets[0], a.Channels[1], htlc.EncryptFailure(a.Secrets[1], f))
		// The hop in the middle refuses; the first one's terms are in the first hop of the way.
		got, payee := (*Daemon)(nil).explain(a, way, reason)
		if payee || got.Hop != a.Nodes[1] || got.Rule != code.String() || strings.HasPrefix(got.Rule, "failure_") {
			t.Errorf("%s: %+v, payee %v", code, got, payee)
		}
		if !strings.Contains(got.Text, "what was seen") || !strings.Contains(got.Next, want.next) {
			t.Errorf("%s: %q, next %q: want %q", code, got.Text, got.Next, want.next)
		}
		first := htlc.EncryptFailure(a.Secrets[0], f)
		if got, _ := (*Daemon)(nil).explain(a, way, first); got.Hop != a.Nodes[0] || !strings.Contains(got.Text, want.text) {
			t.Errorf("%s at the first hop: %q, want %q", code, got.Text, want.text)
		}
		if got, payee := (*Daemon)(nil).explain(a, nil, htlc.WrapFailure(a.Secrets[0], a.Channels[1], htlc.WrapFailure(a.Secrets[1], a.Channels[2], htlc.EncryptFailure(a.Secrets[2], f)))); !payee || got.Hop != a.Nodes[2] {
			t.Errorf("%s at the payee: %+v, payee %v", code, got, payee)
		}
	}
	if got, payee := (*Daemon)(nil).explain(a, way, make([]byte, htlc.FailureSize)); got.Rule != "unattributed" || payee || got.Next == "" {
		t.Errorf("garbled: %+v", got)
	}
	if got, _ := (*Daemon)(nil).explain(a, way, nil); got.Hop != a.Nodes[0] || got.Text == "" {
		t.Errorf("no reason: %+v", got)
	}
}

// Every reason for finding no way has a code, the numbers of the search, and what helps.
func TestNoWayIsExplained(t *testing.T) {
	for why, want := range map[route.Why]struct{ code, next string }{
		route.BadRequest:     {CodeInvalid, "correct"},
		route.NoChannel:      {CodeNoRoute, "channel open"},
		route.NoBalance:      {CodeFunds, "pay less"},
		route.UnknownPayee:   {CodeNoRoute, "gossip"},
		route.NoPath:         {CodeNoRoute, "open a channel"},
		route.AmountTooBig:   {CodeNoRoute, "--max-parts"},
		route.AmountTooSmall: {CodeNoRoute, "pay more"},
		route.FeeAboveLimit:  {CodeFeeTooHigh, "--max-fee"},
		route.TooManyHops:    {CodeNoRoute, "nearer"},
		route.ExpiryTooFar:   {CodeNoRoute, "nearer"},
		route.AllExcluded:    {CodeNoRoute, "try again later"},
	} {
		var got *Error
		if err := noWay(&route.NoRouteError{Why: why, Text: "numbers"}); !errors.As(err, &got) || got.Code != want.code || got.Money != noMoneyMoved ||
			!strings.Contains(got.Text, "numbers") || !strings.Contains(got.Next, want.next) {
			t.Errorf("%s: %+v, want %+v", why, got, want)
		}
	}
	other := errors.New("other")
	if err := noWay(other); !errors.Is(err, other) {
		t.Errorf("%v", err)
	}
}
