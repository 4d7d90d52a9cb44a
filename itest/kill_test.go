package itest

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/eschaton-network/chand/internal/devnet"
	chandv1 "github.com/eschaton-network/chand/rpc/gen/chand/v1"
	"github.com/eschaton-network/chand/types"
)

// TestKillNineInTheMiddleOfPayments kills each daemon, the ledger too, without warning while 500 payments run at once, and
// wants every coin accounted for afterwards: whatever was reported as paid is with the payee, and nothing was paid twice.
func TestKillNineInTheMiddleOfPayments(t *testing.T) {
	n := newNetwork(t)
	d := n.joined("alice", "bob", "carol")
	alice, bob, carol := d[0], d[1], d[2]
	ab := n.open(alice, bob, "600", "100")
	bc := n.open(bob, carol, "600", "100")
	n.pay(alice, carol, "1") // the route is known from here on
	before := n.books(ab, bc, alice, bob, carol)

	const payments = 500
	invoices := make([]*chandv1.Invoice, payments)
	for i := range invoices {
		invoices[i] = must(carol.Payments.CreateInvoice(n.ctx(), &chandv1.CreateInvoiceRequest{Amount: "0.5", Memo: fmt.Sprint(i), ExpirySeconds: 3600}))
	}
	results := make([]*chandv1.Payment, payments)
	var wg sync.WaitGroup
	var decided atomic.Int32
	var victims sync.RWMutex // held for writing while a daemon is down, so that payers take the new client after it
	for i := range payments {
		wg.Go(func() {
			results[i] = n.payThroughCrashes(&victims, alice, invoices[i], i)
			decided.Add(1)
		})
	}
	for _, victim := range []*devnet.Node{bob, carol, alice, n.ledger, bob} {
		start := decided.Load() // the kill is to hit the middle of the work
		n.until("more payments went through", func() bool { return decided.Load() >= min(start+40, payments) })
		victims.Lock()
		if err := victim.Kill(); err != nil {
			t.Error(err)
		}
		if err := victim.Restart(n.ctx()); err != nil {
			t.Error(err)
		}
		victims.Unlock()
	}
	wg.Wait()

	var spent types.Amount
	for i, p := range results {
		if p == nil || p.State != "succeeded" {
			t.Fatalf("payment %d ended as %v", i, p)
		}
		spent += coins(p.Amount) + coins(p.Fee) + coins(p.Reserve)
	}
	n.until("no lock is open", func() bool {
		return n.channel(alice, ab).Locks+n.channel(bob, ab).Locks+n.channel(bob, bc).Locks+n.channel(carol, bc).Locks == 0
	})
	after := n.books(ab, bc, alice, bob, carol)
	t.Logf("books before %v, after %v", before, after)
	// A try that reached bob before a kill may have paid him for keeping its lock open, about 200 units, without alice's record of it.
	const reserves = payments * 1000
	fell := before["alice"] - after["alice"]
	if fell < spent || fell > spent+reserves {
		t.Errorf("alice's balance fell by %s, her payments cost %s", fell, spent)
	}
	if got, want := after["carol"]-before["carol"], payments*types.Coin/2; got != want {
		t.Errorf("carol got %s, reported as paid were %s", got, want)
	}
	if got, want := after["bob"]-before["bob"], fell-payments*types.Coin/2; got != want {
		t.Errorf("bob earned %s, alice paid %s in fees", got, want)
	}
	n.pay(alice, carol, "1")
}

// books are the sums of each person's two sides; both ends of a channel must agree.
func (n *network) books(ab, bc string, alice, bob, carol *devnet.Node) map[string]types.Amount {
	n.t.Helper()
	var a, b1, b2, c *chandv1.Channel
	n.until("both ends agree", func() bool {
		a, b1, b2, c = n.channel(alice, ab), n.channel(bob, ab), n.channel(bob, bc), n.channel(carol, bc)
		return a.Mine == b1.Theirs && a.Theirs == b1.Mine && b2.Mine == c.Theirs && b2.Theirs == c.Mine
	})
	return map[string]types.Amount{"alice": coins(a.Mine), "bob": coins(b1.Mine) + coins(b2.Mine), "carol": coins(c.Mine)}
}

// payThroughCrashes pays as a careful client does: it asks with one idempotency key until the outcome is known, and tries
// again, with a new key, what is known to have failed.
func (n *network) payThroughCrashes(victims *sync.RWMutex, payer *devnet.Node, inv *chandv1.Invoice, number int) (last *chandv1.Payment) {
	try := 1
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		victims.RLock()
		client := payer.Payments
		victims.RUnlock()
		ctx, cancel := context.WithTimeout(n.t.Context(), 20*time.Second)
		p, err := client.Pay(ctx, &chandv1.PayRequest{Invoice: inv.Invoice, IdempotencyKey: fmt.Sprintf("payment %d, try %d", number, try), TimeoutSeconds: 15})
		cancel()
		if err == nil {
			last = p
		}
		switch {
		case err == nil && p.State == "succeeded":
			return p
		case err == nil && p.State == "failed":
			try++
		}
		select {
		case <-n.t.Context().Done():
			return last
		case <-time.After(50 * time.Millisecond): // a pause between tries, not a synchronisation
		}
	}
	return last
}
