package chand

import (
	"context"
	"testing"
	"time"

	"github.com/eschaton-network/chand/types"
)

// A payment by one signature whose channel is closed before the receipt comes is unknown until the ledger settles the channel, and is not
// paid again meanwhile. What was settled decides: with the payment in it, or without.
func TestUnknownIsDecidedByTheLedger(t *testing.T) {
	for name, delivered := range map[string]bool{"the payee had it": true, "it never arrived": false} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, []string{"alice", "bob"}, func(w *world) {
				alice, bob := w.nodes["alice"], w.nodes["bob"]
				id := w.open("alice", "bob", 100*types.Coin, 10*types.Coin)
				inv := must(bob.CreateInvoice(w.ctx, InvoiceRequest{Amount: 5 * types.Coin}))
				before := bob.balance()
				w.pipes.SetDelay(time.Second)
				wait := 500 * time.Millisecond
				if delivered {
					wait = 1500 * time.Millisecond // bob has it, his receipt is on its way
				}
				ctx, cancel := context.WithTimeout(w.ctx, wait)
				p, err := alice.Pay(ctx, PayRequest{Invoice: inv.Text, Key: "one"})
				cancel()
				if err != nil || p.State != PaymentPending {
					t.Fatalf("%+v, %v", p, err)
				}
				w.pipes.Cut(alice.ID(), bob.ID())
				w.pipes.SetDelay(0)
				closer := alice
				if delivered {
					closer = bob
				}
				if _, err := closer.Close(w.ctx, id, true); err != nil {
					t.Fatal(err)
				}
				w.until("unknown", func() bool { return must(alice.Payment(inv.Hash, "")).State == PaymentUnknown })
				for _, again := range []func(){func() {}, func() { alice.crash(); alice.start() }} {
					again()
					p = must(alice.Payment(inv.Hash, ""))
					if p.State != PaymentUnknown || p.Text == "" {
						t.Errorf("%s %q", p.State, p.Text)
					}
					for _, key := range []string{"one", "two"} { // nobody makes it pay again
						ctx, cancel := context.WithTimeout(w.ctx, 100*time.Millisecond)
						if x, err := alice.Pay(ctx, PayRequest{Invoice: inv.Text, Key: key}); err != nil || x.State != PaymentUnknown || x.Tries != 1 {
							t.Errorf("key %s: %+v, %v", key, x, err)
						}
						cancel()
					}
				}
				w.until("closed", func() bool { return alice.over(id) && bob.over(id) })
				want, got := PaymentFailed, bob.balance()-before
				if delivered {
					want = PaymentSucceeded
				}
				p = must(alice.Payment(inv.Hash, ""))
				if p.State != want || delivered != (p.Text == textNoReceipt) || delivered == (p.Failure != nil) {
					t.Errorf("the ledger has settled, the payment is %s (%q, %+v)", p.State, p.Text, p.Failure)
				}
				if paid := got > 14*types.Coin; paid != delivered {
					t.Errorf("bob got %s", got)
				}
				if x, err := alice.Pay(w.ctx, PayRequest{Invoice: inv.Text, Key: "one"}); err != nil || x.State != want {
					t.Errorf("the same key: %s, %v", x.State, err)
				}
			})
		})
	}
}

// A receipt that was lost with the link comes with the next one.
func TestReceiptComesWithTheNextLink(t *testing.T) {
	inWorld(t, []string{"alice", "bob"}, func(w *world) {
		alice, bob := w.nodes["alice"], w.nodes["bob"]
		w.open("alice", "bob", 100*types.Coin, 10*types.Coin)
		inv := must(bob.CreateInvoice(w.ctx, InvoiceRequest{Amount: 5 * types.Coin}))
		w.pipes.SetDelay(time.Second)
		ctx, cancel := context.WithTimeout(w.ctx, 1500*time.Millisecond)
		alice.Pay(ctx, PayRequest{Invoice: inv.Text})
		cancel()
		w.pipes.Break(alice.ID(), bob.ID())
		w.pipes.SetDelay(0)
		w.until("paid", func() bool { return must(alice.Payment(inv.Hash, "")).State == PaymentSucceeded })
		if p := must(alice.Payment(inv.Hash, "")); p.Preimage.Hash() != p.Hash {
			t.Error("without a proof")
		}
	})
}

// The lock of a part is gone after a loss of data: the payment is unknown, nothing more is tried, and its owner can give it up when its
// deadline has passed, not before.
func TestLostPart(t *testing.T) {
	inWorld(t, []string{"alice", "bob", "carol"}, func(w *world) {
		alice, bob, carol := w.nodes["alice"], w.nodes["bob"], w.nodes["carol"]
		ab := w.open("alice", "bob", 100*types.Coin, 10*types.Coin)
		w.open("bob", "carol", 100*types.Coin, 10*types.Coin)
		alice.known(2)
		inv := must(carol.CreateInvoice(w.ctx, InvoiceRequest{Amount: 5 * types.Coin}))
		w.pipes.SetDelay(time.Second)
		ctx, cancel := context.WithTimeout(w.ctx, 500*time.Millisecond)
		p, err := alice.Pay(ctx, PayRequest{Invoice: inv.Text, Key: "one"})
		cancel()
		if err != nil || len(p.Parts) != 1 {
			t.Fatalf("%+v, %v", p, err)
		}
		w.pipes.Cut(alice.ID(), bob.ID()) // bob never saw it
		w.pipes.SetDelay(0)
		r := alice.runner(ab)
		r.box.force(func(b *batch) { // what a repair says of a lock that is not in the state agreed on
			r.resynced(b, b.state.Current.Locks)
		})
		w.until("unknown", func() bool { return must(alice.Payment(inv.Hash, "")).State == PaymentUnknown })
		for range 2 {
			p = must(alice.Payment(inv.Hash, ""))
			if p.State != PaymentUnknown || p.Text != textLost || len(p.Parts) != 1 || !p.Parts[0].Lost {
				t.Errorf("%+v", p)
			}
			if x, err := alice.CancelPayment(w.ctx, inv.Hash, ""); err != nil || x.State != PaymentUnknown {
				t.Errorf("given up before its deadline: %+v, %v", x, err)
			}
			alice.stop()
			alice.start()
		}
		w.blocks(int(p.Expiry-alice.Height()) + 2)
		for range 2 {
			x, err := alice.CancelPayment(w.ctx, inv.Hash, "")
			if err != nil || x.State != PaymentFailed || x.Failure.Rule != "given_up" {
				t.Errorf("given up after its deadline: %+v, %v, %+v", x, err, x.Failure)
			}
		}
		delete(w.nodes, "alice") // her channel's state and records were made to differ
		alice.stop()
	})
}
