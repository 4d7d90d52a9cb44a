package chand

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/eschaton-network/chand/htlc"
	"github.com/eschaton-network/chand/types"
)

// A payer of a blinded invoice pays to the entry of its paths and never learns who was paid, neither from the invoice nor from the
// payment nor from a failure.
func TestBlindedInvoice(t *testing.T) {
	for name, private := range map[string]bool{"public": false, "private": true} {
		t.Run(name, func(t *testing.T) { testBlindedInvoice(t, private) })
	}
}

func testBlindedInvoice(t *testing.T, private bool) {
	inWorld(t, []string{"alice", "bob", "carol", "dave"}, func(w *world) {
		alice, carol, dave := w.nodes["alice"], w.nodes["carol"], w.nodes["dave"]
		w.open("alice", "bob", 100*types.Coin, 0)
		bc := w.open("bob", "carol", 100*types.Coin, 0)
		var cd types.ChannelID
		if private {
			cd = w.openPrivate(carol, dave, 100*types.Coin, 0)
		} else {
			cd = w.open("carol", "dave", 100*types.Coin, 0)
			dave.known(3)
		}
		alice.known(2)
		w.until("dave knows carol's terms", func() bool { _, ok := dave.announcer.termsOf(cd, carol.ID()); return ok })
		const amount = 10 * types.Coin
		own := must(dave.CreateInvoice(w.ctx, InvoiceRequest{Amount: amount, Memo: "for nobody", Blinded: true}))
		inv := must(htlc.DecodeInvoice(own.Text))
		id := dave.ID()
		if inv.Payee == id || len(inv.Paths) != 1 || inv.Paths[0].Entry != carol.ID() || !inv.OnionKey.IsZero() {
			t.Fatalf("the invoice names %s, paths %+v", inv.Payee, inv.Paths)
		}
		for i, h := range inv.Paths[0].Hops {
			if h.Key == dave.onion.Key() || i > 0 && h.Key == carol.onion.Key() {
				t.Errorf("hop %d shows a node's onion key", i)
			}
		}
		again := must(htlc.DecodeInvoice(must(dave.CreateInvoice(w.ctx, InvoiceRequest{Amount: amount, Blinded: true})).Text))
		if again.Payee == inv.Payee {
			t.Error("two blinded invoices have the same payee")
		}
		if plan, err := alice.PlanPayment(PayRequest{Invoice: own.Text}); err != nil || len(plan.Parts) != 1 || plan.Fee <= 0 {
			t.Errorf("plan %+v, %v", plan, err)
		}
		p := alice.pay(own.Text, PaymentSucceeded)
		got := must(dave.Invoice(inv.Hash))
		if got.State != InvoicePaid || got.Paid < amount || got.Paid > amount+htlc.MaxBlindedHops {
			t.Errorf("dave's invoice is %s, %s of %s paid", got.State, got.Paid, amount)
		}
		w.until("all locks are settled", func() bool { return dave.mine(cd) >= got.Paid && dave.locks(cd) == 0 && carol.mine(bc) > 10*types.Coin })
		if p.Peer == id || slices.Contains(p.Route, id) || p.Fee <= 0 {
			t.Errorf("alice's payment: %+v", p)
		}
		for _, bucket := range []string{bucketPayment, bucketOutgoing} {
			if err := alice.store.Scan(bucket, "", func(_ string, v []byte) error {
				if bytes.Contains(v, id[:]) || bytes.Contains(v, cd[:8]) {
					t.Errorf("alice's %s holds dave's id or channel", bucket)
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
		}
		if carol.mine(bc)+carol.mine(cd) <= 100*types.Coin {
			t.Error("carol earned nothing")
		}
		// A failure at the payee, or behind the entry, comes from the entry and says only that the path failed.
		if _, err := dave.CancelInvoice(w.ctx, again.Hash); err != nil {
			t.Fatal(err)
		}
		failed := alice.pay(must(dave.Invoice(again.Hash)).Text, PaymentFailed)
		if f := failed.Failure; f.Hop != carol.ID() || f.Rule != "invalid_onion_blinding" || strings.Contains(f.Text, "cancel") {
			t.Errorf("alice reads %+v", f)
		}
	})
}

// Who guesses the payee of a blinded invoice can't find out: it answers as it does for a payment that it knows nothing of.
func TestBlindedGuess(t *testing.T) {
	inWorld(t, []string{"alice", "bob"}, func(w *world) {
		bob := w.nodes["bob"]
		w.open("alice", "bob", 100*types.Coin, 50*types.Coin)
		bob.known(1)
		inv := must(htlc.DecodeInvoice(must(bob.CreateInvoice(w.ctx, InvoiceRequest{Amount: types.Coin, Blinded: true})).Text))
		bob.invoices.mu.Lock()
		defer bob.invoices.mu.Unlock()
		for _, hash := range []types.Hash{inv.Hash, {1}} {
			for _, kind := range []htlc.PayloadKind{htlc.Invoice, htlc.Keysend} {
				_, f := bob.invoices.wanted(hash, htlc.Payload{Kind: kind, Amount: types.Coin, Total: types.Coin, Secret: inv.Secret}, types.Coin)
				want := "the payee knows no such invoice"
				if kind == htlc.Keysend {
					want = "the preimage does not open the lock's hash"
				}
				if f == nil || f.Code != htlc.IncorrectOrUnknownPaymentDetails || !strings.Contains(f.Text, want) {
					t.Errorf("%s of %s: %+v", kind, hash, f)
				}
			}
			if _, err := bob.invoices.open(hash, false, new([32]byte)); err != errNoInvoice {
				t.Errorf("paid directly: %v", err)
			}
		}
	})
}
