package chand

import (
	"testing"

	"github.com/eschaton-network/chand/htlc"
	"github.com/eschaton-network/chand/types"
)

// sendPart funds one lock of a payment as a payer would, over the cheapest way and with any payload; it returns the way that it took.
func (n *node) sendPart(to *node, amount, total types.Amount, hash types.Hash, secret [32]byte, ahead uint32) *way {
	n.w.t.Helper()
	w, err := n.findWay(wayRequest{to: to.ID(), amount: min(amount, total), hash: hash, maxFee: types.Coin, ahead: ahead,
		final: htlc.Payload{Kind: htlc.Invoice, Secret: secret, Total: total}})
	if err != nil {
		n.w.t.Fatal(err)
	}
	w.op.Amount += max(0, amount-total) // an onion says no more than the total, a lock may
	done := make(chan error, 1)
	q := &request{op: w.op, out: &outgoing{outgoingRecord: outgoingRecord{Kind: kindOrphan, Hash: hash}},
		saved: func(place) { done <- nil }, refused: func(err error) { done <- err }}
	if err := w.runner.ask(q); err != nil {
		n.w.t.Fatal(err)
	}
	if err := <-done; err != nil {
		n.w.t.Fatal(err)
	}
	return w
}

func (n *node) locks(id types.ChannelID) int {
	c, err := n.Channel(id)
	if err != nil {
		n.w.t.Fatal(err)
	}
	return c.Locks
}

// The payee holds parts until they add up and takes all of them or none.
func TestPartsAreAllOrNothing(t *testing.T) {
	const amount = 10 * types.Coin
	type part struct {
		amount, total types.Amount
		wrong         bool // the secret
		ahead         uint32
	}
	for name, c := range map[string]struct {
		parts []part
		want  types.Amount // what the payee gets
		held  types.Amount // before time is up
	}{
		"two parts":         {[]part{{6 * types.Coin, amount, false, 90}, {4 * types.Coin, amount, false, 90}}, amount, 0},
		"one part":          {[]part{{amount, amount, false, 90}}, amount, 0},
		"a part is missing": {[]part{{6 * types.Coin, amount, false, 90}, {3 * types.Coin, amount, false, 90}}, 0, 9 * types.Coin},
		"too little at all": {[]part{{9 * types.Coin, 9 * types.Coin, false, 90}}, 0, 0},
		"wrong secret":      {[]part{{6 * types.Coin, amount, false, 90}, {4 * types.Coin, amount, true, 90}}, 0, 6 * types.Coin},
		"other total":       {[]part{{6 * types.Coin, amount, false, 90}, {4 * types.Coin, 11 * types.Coin, false, 90}}, 0, 6 * types.Coin},
		"a bit too much":    {[]part{{6 * types.Coin, amount, false, 90}, {7 * types.Coin, amount, false, 90}}, 13 * types.Coin, 0},
		"twice and more":    {[]part{{6 * types.Coin, amount, false, 90}, {15 * types.Coin, amount, false, 90}}, 0, 6 * types.Coin},
		"total above twice": {[]part{{21 * types.Coin, 21 * types.Coin, false, 90}}, 0, 0},
		"expires too soon":  {[]part{{6 * types.Coin, amount, false, 20}}, 0, 6 * types.Coin},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, []string{"alice", "bob"}, func(w *world) {
				alice, bob := w.nodes["alice"], w.nodes["bob"]
				ids := []types.ChannelID{w.open("alice", "bob", 100*types.Coin, 0), w.open("alice", "bob", 100*types.Coin, 0)}
				alice.known(2)
				sum := func() (s types.Amount) {
					for _, id := range ids {
						s += bob.mine(id)
					}
					return s
				}
				locks := func() int { return bob.locks(ids[0]) + bob.locks(ids[1]) }
				inv := must(htlc.DecodeInvoice(bob.invoice(amount)))
				for _, p := range c.parts {
					secret := [32]byte(inv.Secret)
					if p.wrong {
						secret[0]++
					}
					alice.sendPart(bob, p.amount, p.total, inv.Hash, secret, p.ahead)
					w.blocks(1) // they come over different channels
				}
				w.blocks(3)
				if v := must(bob.Invoice(inv.Hash)); v.Held != c.held || (v.State == InvoicePaid) != (c.want > 0) || v.Paid != c.want {
					t.Errorf("the invoice is %s, %s held, %s paid", v.State, v.Held, v.Paid)
				}
				for _, n := range []*node{bob, alice} { // what is held is held over a restart, what is decided stays decided
					n.crash()
					n.start()
				}
				w.until("ready", func() bool {
					return alice.ready(ids[0]) && bob.ready(ids[0]) && alice.ready(ids[1]) && bob.ready(ids[1])
				})
				if v := must(bob.Invoice(inv.Hash)); v.Held != c.held {
					t.Errorf("after a restart %s are held, want %s", v.Held, c.held)
				}
				w.blocks(holdBlocks)
				w.until("nothing is held", func() bool { return locks() == 0 })
				if got := sum(); got != c.want {
					t.Errorf("bob got %s, want %s", got, c.want)
				}
				if v := must(bob.Invoice(inv.Hash)); v.Held != 0 {
					t.Errorf("%s are still shown as held", v.Held)
				}
				for i, id := range ids {
					if alice.state(id) != ChannelOpen {
						t.Errorf("channel %d is %s", i, alice.state(id))
					}
				}
				if c.want == 0 { // the invoice can still be paid
					alice.pay(must(bob.Invoice(inv.Hash)).Text, PaymentSucceeded)
				}
			})
		})
	}
}

// A part that goes while others are held (its channel closes) can be replaced; a payment by one signature sends the held parts back.
func TestHeldPartsAndOtherWays(t *testing.T) {
	inWorld(t, []string{"alice", "bob"}, func(w *world) {
		alice, bob := w.nodes["alice"], w.nodes["bob"]
		id := w.open("alice", "bob", 100*types.Coin, 0)
		alice.known(1)
		text := bob.invoice(10 * types.Coin)
		inv := must(htlc.DecodeInvoice(text))
		alice.sendPart(bob, 6*types.Coin, 10*types.Coin, inv.Hash, inv.Secret, 90)
		w.until("held", func() bool { return must(bob.Invoice(inv.Hash)).Held == 6*types.Coin })
		alice.pay(text, PaymentSucceeded)
		w.until("the part is back", func() bool { return bob.locks(id) == 0 })
		if got := bob.mine(id); got != 10*types.Coin {
			t.Errorf("bob got %s", got)
		}
		// Cancelled: held parts go back at once, and nothing is taken any more.
		text = bob.invoice(10 * types.Coin)
		inv = must(htlc.DecodeInvoice(text))
		alice.sendPart(bob, 6*types.Coin, 10*types.Coin, inv.Hash, inv.Secret, 90)
		w.until("held", func() bool { return must(bob.Invoice(inv.Hash)).Held == 6*types.Coin })
		for range 2 {
			if v, err := bob.CancelInvoice(w.ctx, inv.Hash); err != nil || v.State != InvoiceCancelled {
				t.Errorf("cancelled: %+v, %v", v, err)
			}
		}
		w.until("the part is back", func() bool { return bob.locks(id) == 0 && bob.mine(id) == 10*types.Coin })
		p := alice.pay(text, PaymentFailed)
		if p.Failure.Rule != "refused_by_payee" {
			t.Errorf("%+v", p.Failure)
		}
		if _, err := bob.CancelInvoice(w.ctx, types.Hash{1}); err == nil {
			t.Error("an invoice that is not there was cancelled")
		}
	})
}
