package itest

import (
	"context"
	"testing"
	"time"

	"github.com/eschaton-network/chand/internal/devnet"
	chandv1 "github.com/eschaton-network/chand/rpc/gen/chand/v1"
	"github.com/eschaton-network/chand/types"
)

// TestLedgerHalts stops the only validator. Until it is back nothing is passed on, as nobody knows how late it is, what is signed stays
// signed, and a dispute window does not run. Then all goes on.
func TestLedgerHalts(t *testing.T) {
	n := newNetwork(t, "--channel-inclusion", "4", "--channel-downtime", "20", "--channel-window", "40", "--route-reserve", "0")
	d := n.joined("alice", "bob", "carol")
	alice, bob, carol := d[0], d[1], d[2]
	ab, bc := n.open(alice, bob, "50", "10"), n.open(bob, carol, "50", "10")
	other := n.open(alice, bob, "20", "10")
	n.pay(alice, carol, "1")
	before := n.books(ab, bc, alice, bob, carol)
	must(alice.Channels.Close(n.ctx(), &chandv1.CloseChannelRequest{Id: other, Force: true}))
	n.state(bob, other, "disputed")
	if err := n.ledger.Stop(); err != nil {
		t.Fatal(err)
	}
	for _, node := range []*devnet.Node{alice, bob, carol} {
		n.until(node.Name+" sees that no block comes", func() bool {
			return !must(node.Status.Get(n.ctx(), &chandv1.GetStatusRequest{})).Ledger.Synced
		})
	}
	height := must(bob.Status.Get(n.ctx(), &chandv1.GetStatusRequest{})).Ledger.Height
	inv := must(carol.Payments.CreateInvoice(n.ctx(), &chandv1.CreateInvoiceRequest{Amount: "2"}))
	ctx, cancel := context.WithTimeout(n.ctx(), 3*time.Second)
	p, err := alice.Payments.Pay(ctx, &chandv1.PayRequest{Invoice: inv.Invoice, TimeoutSeconds: 1, IdempotencyKey: "while it stands"})
	cancel()
	t.Logf("a payment over bob while the ledger stands: %v, %v", p.GetFailure().GetText(), err)
	if p.GetState() == "succeeded" {
		t.Error("bob has passed a payment on without a ledger")
	}
	if now := n.books(ab, bc, alice, bob, carol); now["bob"] != before["bob"] || now["carol"] != before["carol"] {
		t.Errorf("the books were %v, now %v", before, now)
	}
	if c := n.channel(bob, other); c.State != "disputed" {
		t.Errorf("without a block the disputed channel is %s", c.State)
	}
	if now := must(bob.Status.Get(n.ctx(), &chandv1.GetStatusRequest{})).Ledger.Height; now != height {
		t.Errorf("the ledger is at %d, it stopped at %d", now, height)
	}
	if err := n.ledger.Restart(n.ctx()); err != nil {
		t.Fatal(err)
	}
	n.state(alice, other, "closed")
	n.state(bob, other, "closed")
	n.pay(alice, carol, "3")
	n.until("what was tried while it stood has an outcome", func() bool {
		p, err = alice.Payments.Get(n.ctx(), &chandv1.GetPaymentRequest{IdempotencyKey: "while it stands"})
		return err != nil || p.State != "pending" // an error: nothing was begun
	})
	n.until("no lock is open", func() bool { return n.channel(alice, ab).Locks+n.channel(carol, bc).Locks == 0 })
	after := n.books(ab, bc, alice, bob, carol)
	t.Logf("books before %v, after %v", before, after)
	want := 3 * types.Coin
	if p.GetState() == "succeeded" {
		want += 2 * types.Coin
	}
	if got := after["carol"] - before["carol"]; got != want {
		t.Errorf("carol got %s, want %s", got, want)
	}
	sum := func(b map[string]types.Amount) types.Amount { return b["alice"] + b["bob"] + b["carol"] }
	if sum(after) != sum(before) || after["bob"] <= before["bob"] {
		t.Errorf("the channels hold %s, it was %s; bob has %s, it was %s", sum(after), sum(before), after["bob"], before["bob"])
	}
}
