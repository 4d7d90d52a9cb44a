package chand

import (
	"context"
	"testing"
	"time"

	"github.com/eschaton-network/chand/types"
)

// Cancelling before anything is signed takes the payment back at once; what is locked already stays so until it ends by itself, and the
// answer says until when. Nothing is tried after it, also after a restart.
func TestCancelPayment(t *testing.T) {
	inWorld(t, []string{"alice", "bob", "carol"}, func(w *world) {
		alice, bob, carol := w.nodes["alice"], w.nodes["bob"], w.nodes["carol"]
		ab := w.open("bob", "alice", 100*types.Coin, 100*types.Coin) // the turn is bob's
		w.open("carol", "bob", 100*types.Coin, 100*types.Coin)       // carol's
		alice.known(2)
		// Waits for bob's turn: taken back.
		w.pipes.SetDelay(2 * time.Second)
		for _, q := range []PayRequest{{Invoice: carol.invoice(types.Coin), Key: "a"}, {Invoice: bob.invoice(types.Coin), Key: "b"}} {
			ctx, cancel := context.WithTimeout(w.ctx, time.Second)
			p, err := alice.Pay(ctx, q)
			cancel()
			if err != nil || p.State != PaymentPending {
				t.Fatalf("%+v, %v", p, err)
			}
			for range 2 {
				p, err = alice.CancelPayment(w.ctx, types.Hash{}, q.Key)
				if err != nil || p.State != PaymentFailed || p.Failure.Rule != ruleCancelled {
					t.Errorf("cancelled: %+v, %v", p, err)
				}
			}
		}
		w.pipes.SetDelay(0)
		w.blocks(5)
		if a := alice.mine(ab); a != 100*types.Coin || alice.locks(ab) != 0 {
			t.Errorf("alice has %s", a)
		}
		// What succeeded can't be cancelled.
		done := alice.pay(bob.invoice(types.Coin), PaymentSucceeded)
		if _, err := alice.CancelPayment(w.ctx, done.Hash, ""); err == nil {
			t.Error("a payment that succeeded was cancelled")
		}
		if _, err := alice.CancelPayment(w.ctx, types.Hash{9}, ""); err == nil {
			t.Error("no payment was cancelled")
		}
	})
}

// What is locked stays locked: cancelling says until when, and the payment can still succeed.
func TestCancelWhileLocked(t *testing.T) {
	inWorld(t, []string{"alice", "bob", "carol"}, func(w *world) {
		alice, bob, carol := w.nodes["alice"], w.nodes["bob"], w.nodes["carol"]
		ab := w.open("alice", "bob", 100*types.Coin, 0)
		w.open("bob", "carol", 100*types.Coin, 0)
		alice.known(2)
		inv := must(carol.CreateInvoice(w.ctx, InvoiceRequest{Amount: types.Coin}))
		w.pipes.SetDelay(time.Second)
		ctx, cancel := context.WithTimeout(w.ctx, 2500*time.Millisecond) // carol has it and has shown the preimage, bob has not seen that
		alice.Pay(ctx, PayRequest{Invoice: inv.Text})
		cancel()
		w.pipes.Cut(bob.ID(), carol.ID())
		w.pipes.SetDelay(0)
		w.blocks(2)
		p, err := alice.CancelPayment(w.ctx, inv.Hash, "")
		if err != nil || p.State != PaymentPending || p.Cancelled == 0 || len(p.Parts) != 1 || p.Parts[0].Amount != types.Coin || p.Expiry <= alice.Height() {
			t.Errorf("cancelled while locked: %+v, %v", p, err)
		}
		alice.crash()
		alice.start()
		w.until("ready", func() bool { return alice.ready(ab) })
		if p := must(alice.Payment(inv.Hash, "")); p.State != PaymentPending || p.Cancelled == 0 || len(p.Parts) != 1 {
			t.Errorf("after a restart: %+v", p)
		}
		w.pipes.Heal(bob.ID(), carol.ID())
		w.until("decided", func() bool { return must(alice.Payment(inv.Hash, "")).State != PaymentPending })
		if p := must(alice.Payment(inv.Hash, "")); p.State != PaymentSucceeded || p.Tries != 1 {
			t.Errorf("in the end: %+v", p)
		}
	})
}

// A part that comes back after the payer has cancelled is not tried otherwise, though there is another way.
func TestCancelEndsRetries(t *testing.T) {
	for _, cancelled := range []bool{false, true} {
		inDiamond(t, func(w *diamond) {
			w.bob.pay(w.dave.invoice(55*types.Coin), PaymentSucceeded) // bob has 5 left, alice can't know
			w.idle()
			inv := must(w.dave.CreateInvoice(w.ctx, InvoiceRequest{Amount: 30 * types.Coin}))
			w.pipes.SetDelay(time.Second)
			ctx, cancel := context.WithTimeout(w.ctx, 500*time.Millisecond)
			first, err := w.alice.Pay(ctx, PayRequest{Invoice: inv.Text, MaxParts: 1})
			cancel()
			if err != nil || len(first.Parts) != 1 || first.Route[0] != w.bob.ID() {
				t.Fatalf("%+v, %v: the test wants the first try to go over bob", first, err)
			}
			if cancelled {
				if _, err := w.alice.CancelPayment(w.ctx, inv.Hash, ""); err != nil {
					t.Fatal(err)
				}
			}
			w.pipes.SetDelay(0)
			w.until("decided", func() bool { return must(w.alice.Payment(inv.Hash, "")).State != PaymentPending })
			p := must(w.alice.Payment(inv.Hash, ""))
			if cancelled && (p.State != PaymentFailed || p.Failure.Rule != ruleCancelled || p.Tries != 1) {
				t.Errorf("%+v, %+v", p, p.Failure)
			}
			if !cancelled && (p.State != PaymentSucceeded || p.Tries != 2) {
				t.Errorf("%+v, %+v", p, p.Failure)
			}
			w.idle()
		})
	}
}

// The time limit ends the tries, not what is under way.
func TestPaymentTimeLimit(t *testing.T) {
	inWorld(t, []string{"alice", "bob"}, func(w *world) {
		alice, bob := w.nodes["alice"], w.nodes["bob"]
		id := w.open("bob", "alice", 100*types.Coin, 100*types.Coin) // the turn is bob's
		w.pipes.SetDelay(5 * time.Second)
		inv := bob.invoice(types.Coin)
		p, err := alice.Pay(w.ctx, PayRequest{Invoice: inv, Timeout: 2 * time.Second})
		if err != nil || p.State != PaymentSucceeded {
			t.Errorf("asked for in time: %+v, %v", p, err)
		}
		w.pipes.SetDelay(0)
		w.blocks(2)
		if got := bob.mine(id); got != 101*types.Coin {
			t.Errorf("bob has %s", got)
		}
	})
}
