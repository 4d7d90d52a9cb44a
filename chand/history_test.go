package chand

import (
	"fmt"
	"testing"
	"time"

	"github.com/eschaton-network/chand/types"
)

// count is how many records a bucket holds.
func (n *node) count(bucket string) (c int) {
	n.w.t.Helper()
	if err := n.store.Scan(bucket, "", func(string, []byte) error { c++; return nil }); err != nil {
		n.w.t.Fatal(err)
	}
	return c
}

// TestHistoryOfPayments pays more than is remembered. What is forgotten leaves nothing behind; what is under way stays, however old.
func TestHistoryOfPayments(t *testing.T) {
	const keep, paid = 5, 30
	inWorld(t, []string{"alice", "bob"}, func(w *world) {
		alice, bob := w.nodes["alice"], w.nodes["bob"]
		for _, n := range []*node{alice, bob} { // from the first payment on
			n.stop()
			n.cfg.History.Payments = keep
			n.start()
		}
		w.open("alice", "bob", 100*types.Coin, 100*types.Coin)
		escrow, err := alice.OpenEscrow(w.ctx, EscrowRequest{To: bob.ID(), Amount: types.Coin, Lifetime: 100_000})
		if err != nil {
			t.Fatal(err)
		}
		pay := func(i int) (Payment, error) {
			ctx, cancel := w.timeout()
			defer cancel()
			inv, err := bob.CreateInvoice(ctx, InvoiceRequest{Amount: types.Coin, Key: fmt.Sprint("bill ", i)})
			if err != nil {
				t.Fatal(err)
			}
			return alice.Pay(ctx, PayRequest{Invoice: inv.Text, Key: fmt.Sprint("order ", i)})
		}
		var first, last Payment
		for i := range paid {
			p, err := pay(i)
			if err != nil || p.State != PaymentSucceeded {
				t.Fatalf("payment %d: %s, %v", i, p.State, err)
			}
			if last = p; i == 0 {
				first = p
			}
		}
		unpaid := bob.invoice(types.Coin)
		w.until("the old ones are forgotten", func() bool { return alice.count(bucketPayment) <= keep && bob.count(bucketPayment) <= keep })
		for _, n := range []*node{alice, bob} {
			if list, next, err := n.Payments("", 100); err != nil || len(list) != n.count(bucketPayment) || next != "" {
				t.Errorf("%s lists %d payments, %q, %v", n.name, len(list), next, err)
			}
		}
		// An index or two a payment, and none without.
		if a, b := alice.count(bucketPayIndex), bob.count(bucketPayIndex); a > 1+1+2*keep || b > 2*keep+1 {
			t.Errorf("%d and %d indexes are left", a, b)
		}
		if got := bob.count(bucketInvoice); got > keep+1 {
			t.Errorf("%d invoices are left", got)
		}
		_, err = alice.Payment(first.Hash, "")
		wantCode(t, "a forgotten payment", err, CodeNotFound)
		if p, err := alice.Payment(types.Hash{}, "order 29"); err != nil || p.Hash != last.Hash {
			t.Errorf("the last payment by its key: %v, %v", p.Hash, err)
		}
		if p, err := pay(0); err != nil || p.State != PaymentSucceeded || p.Hash == first.Hash {
			t.Errorf("a forgotten key: %s of %s, %v; want a new payment", p.State, p.Hash, err)
		}
		if p, err := pay(29); err != nil || p.Hash != last.Hash {
			t.Errorf("a key that is remembered: %v, %v; want the same payment", p.Hash, err)
		}
		if _, err := bob.DecodeInvoice(unpaid); err != nil {
			t.Error(err)
		}
		// The escrow is open all the time, over a restart too.
		alice.crash()
		alice.start()
		w.until("released", func() bool { _, err := alice.ReleaseEscrow(w.ctx, escrow.ID); return err == nil })
		w.until("bob has it", func() bool {
			e, err := bob.Escrow(escrow.ID, rolePayee)
			return err == nil && e.State == EscrowReleased
		})
	})
}

// TestHistoryByAge lets everything else grow old: escrows, invoices, channels, transactions with their keys.
func TestHistoryByAge(t *testing.T) {
	inWorld(t, []string{"alice", "bob"}, func(w *world) {
		alice, bob := w.nodes["alice"], w.nodes["bob"]
		for _, n := range []*node{alice, bob} {
			n.stop()
			n.cfg.History.Age = time.Hour
			n.start()
		}
		old := w.open("alice", "bob", 100*types.Coin, 100*types.Coin)
		if _, err := bob.CreateInvoice(w.ctx, InvoiceRequest{Amount: types.Coin, Key: "bill", Seconds: 60}); err != nil {
			t.Fatal(err)
		}
		lasting, err := bob.CreateInvoice(w.ctx, InvoiceRequest{Amount: types.Coin, Seconds: 3 * 3600})
		if err != nil {
			t.Fatal(err)
		}
		alice.pay(bob.invoice(types.Coin), PaymentSucceeded)
		e, err := alice.OpenEscrow(w.ctx, EscrowRequest{To: bob.ID(), Amount: types.Coin, Lifetime: 100, Key: "bike"})
		if err != nil {
			t.Fatal(err)
		}
		w.until("released", func() bool { _, err := alice.ReleaseEscrow(w.ctx, e.ID); return err == nil })
		w.until("escrow over", func() bool { e, err := bob.Escrow(e.ID, rolePayee); return err == nil && e.State == EscrowReleased })
		ctx, cancel := w.timeout()
		defer cancel()
		if _, err := alice.Close(ctx, old, false); err != nil {
			t.Fatal(err)
		}
		w.until("closed", func() bool { return alice.over(old) && bob.over(old) })
		open := w.open("alice", "bob", 50*types.Coin, 50*types.Coin)
		w.blocks(3600 + 2*historyParts*int(historyPause/time.Second))
		for _, n := range []*node{alice, bob} {
			if c := n.count(bucketChannel); c != 1 || n.state(open) != ChannelOpen || n.count(bucketChanInfo) != 1 {
				t.Errorf("%s: %d channels are left, one is open", n.name, c)
			}
			if c := n.count(bucketEscrow); c != 0 {
				t.Errorf("%s: %d escrows are left", n.name, c)
			}
		}
		if c := bob.count(bucketInvoice); c != 1 {
			t.Errorf("%d invoices are left, one holds", c)
		}
		if c := bob.count(bucketPayIndex); c != 1 { // the payment that it received
			t.Errorf("%d indexes are left", c)
		}
		alice.pay(lasting.Text, PaymentSucceeded)
	})
}
