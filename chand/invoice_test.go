package chand

import (
	"testing"

	"github.com/eschaton-network/chand/htlc"
	"github.com/eschaton-network/chand/types"
)

// Invoices that name no amount, the hash of a description, or a time: what the payer may do with them.
func TestInvoicesOfAllKinds(t *testing.T) {
	inWorld(t, []string{"alice", "bob", "carol"}, func(w *world) {
		alice, carol := w.nodes["alice"], w.nodes["carol"]
		w.open("alice", "bob", 100*types.Coin, 10*types.Coin)
		w.open("bob", "carol", 100*types.Coin, 10*types.Coin)
		alice.known(2)
		open := must(carol.CreateInvoice(w.ctx, InvoiceRequest{Memo: "what you like"}))
		if p, err := alice.Pay(w.ctx, PayRequest{Invoice: open.Text}); err == nil {
			t.Errorf("nothing was paid: %+v", p)
		}
		p, err := alice.Pay(w.ctx, PayRequest{Invoice: open.Text, Amount: 3 * types.Coin})
		if err != nil || p.State != PaymentSucceeded || p.Amount != 3*types.Coin {
			t.Errorf("%+v, %v", p, err)
		}
		if v := must(carol.Invoice(open.Hash)); v.State != InvoicePaid || v.Paid != 3*types.Coin || v.Amount != 0 {
			t.Errorf("%+v", v)
		}
		long := must(carol.CreateInvoice(w.ctx, InvoiceRequest{Amount: types.Coin, DescriptionHash: types.SHA256([]byte("a long contract")), Seconds: 30}))
		if v := must(alice.DecodeInvoice(long.Text)); v.DescriptionHash != types.SHA256([]byte("a long contract")) || v.Memo != "" || v.Expires != v.Created+30 {
			t.Errorf("%+v", v)
		}
		if _, err := alice.Pay(w.ctx, PayRequest{Invoice: long.Text, Amount: 2 * types.Coin}); err == nil {
			t.Error("another amount than the invoice's was taken")
		}
		alice.pay(long.Text, PaymentSucceeded)
		late := must(carol.CreateInvoice(w.ctx, InvoiceRequest{Amount: types.Coin, Seconds: 5}))
		inv := must(htlc.DecodeInvoice(late.Text))
		w.blocks(6)
		if _, err := alice.Pay(w.ctx, PayRequest{Invoice: late.Text}); err == nil {
			t.Error("an expired invoice was paid")
		}
		alice.sendPart(carol, types.Coin, types.Coin, inv.Hash, inv.Secret, 90) // a payer whose clock is late
		w.blocks(3)
		if v := must(carol.Invoice(inv.Hash)); v.State != InvoiceExpired || v.Held != 0 {
			t.Errorf("%+v", v)
		}
		for name, bad := range map[string]InvoiceRequest{"both": {Amount: 1, Memo: "m", DescriptionHash: types.Hash{1}}, "negative": {Amount: -1},
			"too much": {Amount: types.MaxAmount + 1}} {
			if v, err := carol.CreateInvoice(w.ctx, bad); err == nil {
				t.Errorf("%s: %+v", name, v)
			}
		}
	})
}
