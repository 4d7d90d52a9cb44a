package chand

import (
	"context"
	"testing"
	"time"

	"github.com/eschaton-network/chand/types"
)

// diamond is alice, who reaches dave over bob and over carol, with 60 coins on each side of every channel but dave's.
type diamond struct {
	*world
	alice, bob, carol, dave *node
	ab, ac, bd, cd          types.ChannelID
}

func inDiamond(t *testing.T, fn func(w *diamond)) {
	t.Helper()
	inWorld(t, []string{"alice", "bob", "carol", "dave"}, func(w *world) { fn(w.diamond()) })
}

func (w *world) diamond() *diamond {
	w.t.Helper()
	d := &diamond{world: w, alice: w.nodes["alice"], bob: w.nodes["bob"], carol: w.nodes["carol"], dave: w.nodes["dave"]}
	d.ab, d.ac = w.open("alice", "bob", 60*types.Coin, 60*types.Coin), w.open("alice", "carol", 60*types.Coin, 60*types.Coin)
	d.bd, d.cd = w.open("bob", "dave", 60*types.Coin, 10*types.Coin), w.open("carol", "dave", 60*types.Coin, 10*types.Coin)
	for _, n := range w.nodes {
		n.known(4)
	}
	return d
}

// idle waits until no lock is open and both ends of every channel agree; it returns what alice spent and what dave got.
func (d *diamond) idle() (spent, got types.Amount) {
	d.t.Helper()
	ends := map[types.ChannelID][2]*node{d.ab: {d.alice, d.bob}, d.ac: {d.alice, d.carol}, d.bd: {d.bob, d.dave}, d.cd: {d.carol, d.dave}}
	d.until("everything settled", func() bool {
		for id, e := range ends {
			if !e[0].ready(id) || !e[1].ready(id) {
				return false
			}
			x, _ := e[0].Channel(id)
			y, _ := e[1].Channel(id)
			if x.Locks != 0 || y.Locks != 0 || x.Version != y.Version {
				return false
			}
		}
		return true
	})
	for id, e := range ends {
		x, _ := e[0].Channel(id)
		if a, b := e[0].mine(id), e[1].mine(id); a+b != x.Capacity {
			d.t.Errorf("channel %s: %s and %s do not add up to %s", id.String()[:8], a, b, x.Capacity)
		}
	}
	return 120*types.Coin - d.alice.mine(d.ab) - d.alice.mine(d.ac), d.dave.mine(d.bd) + d.dave.mine(d.cd) - 20*types.Coin
}

// A payment that no channel carries alone is split; the record says how; the second of the same invoice pays nothing.
func TestPayInParts(t *testing.T) {
	inDiamond(t, func(w *diamond) {
		inv := w.dave.invoice(90 * types.Coin)
		p := w.alice.pay(inv, PaymentSucceeded)
		if len(p.Parts) < 2 || len(p.Route) != 0 || p.Fee <= 0 || p.Preimage.Hash() != p.Hash {
			t.Errorf("payment %+v", p)
		}
		sum, fee := types.Amount(0), types.Amount(0)
		for _, a := range p.Parts {
			sum, fee = sum+a.Amount, fee+a.Fee
			if len(a.Nodes) != 2 || a.Expiry == 0 {
				t.Errorf("part %+v", a)
			}
		}
		if sum != 90*types.Coin || fee != p.Fee {
			t.Errorf("parts of %s with fees of %s, the payment says %s and %s", sum, fee, p.Amount, p.Fee)
		}
		spent, got := w.idle()
		if got != 90*types.Coin || spent != got+p.Fee+p.Reserve {
			t.Errorf("alice spent %s, dave got %s, the fee is %s and %s", spent, got, p.Fee, p.Reserve)
		}
		if r, err := w.dave.Payment(p.Hash, ""); err != nil || r.Direction != PaymentReceived || r.Amount != 90*types.Coin {
			t.Errorf("dave's record: %+v, %v", r, err)
		}
		if again := w.alice.pay(inv, PaymentSucceeded); again.Tries != p.Tries {
			t.Errorf("paid again: %+v", again)
		}
		saved := must(w.alice.Payment(p.Hash, ""))
		if len(saved.Parts) != len(p.Parts) || saved.Fee != p.Fee {
			t.Errorf("on disk: %+v", saved)
		}
	})
}

// With one part allowed the same payment fails and says what would help.
func TestOnePartOnly(t *testing.T) {
	inDiamond(t, func(w *diamond) {
		p, err := w.alice.Pay(w.ctx, PayRequest{Invoice: w.dave.invoice(90 * types.Coin), MaxParts: 1})
		if err != nil || p.State != PaymentFailed || p.Failure.Rule != CodeNoRoute || p.Failure.Next == "" {
			t.Errorf("%+v, %v, %+v", p, err, p.Failure)
		}
		if spent, got := w.idle(); spent != 0 || got != 0 {
			t.Errorf("alice spent %s, dave got %s", spent, got)
		}
	})
}

// Parts to a neighbour over two channels, and without an invoice.
func TestPartsToANeighbour(t *testing.T) {
	inWorld(t, []string{"alice", "bob"}, func(w *world) {
		alice, bob := w.nodes["alice"], w.nodes["bob"]
		ids := []types.ChannelID{w.open("alice", "bob", 60*types.Coin, 0), w.open("alice", "bob", 60*types.Coin, 0)}
		alice.known(2)
		alice.pay(bob.invoice(40*types.Coin), PaymentSucceeded)
		p, err := alice.Pay(w.ctx, PayRequest{To: bob.ID(), Amount: 70 * types.Coin, Memo: "for nothing", Key: "k"})
		if err != nil || p.State != PaymentSucceeded || len(p.Parts) < 2 || p.Fee != 0 {
			t.Fatalf("%+v, %v, %+v", p, err, p.Failure)
		}
		r, err := bob.Payment(p.Hash, "")
		if err != nil || r.Amount != 70*types.Coin || r.Memo != "for nothing" || !r.Spontaneous {
			t.Errorf("bob's record: %+v, %v", r, err)
		}
		w.until("settled", func() bool { return bob.mine(ids[0])+bob.mine(ids[1]) == 110*types.Coin })
	})
}

// TestFaultsOfPartedPayments fails every commit and every send of a payment in parts, at the payer, a hop and the payee, both ways, and restarts
// that daemon: all parts arrive or none, what the payer and the payee say agrees, and nothing is paid twice.
func TestFaultsOfPartedPayments(t *testing.T) {
	const amount = 90 * types.Coin
	for _, victim := range []string{"alice", "bob", "dave"} {
		forEachFault(t, victim, func(t *testing.T, f *fault) { faultOfParts(t, victim, amount, f) })
	}
}

// faultOfParts pays in parts while an effect of the victim fails, restarts it, and wants the books to agree.
func faultOfParts(t *testing.T, victim string, amount types.Amount, f *fault) {
	inWorld(t, []string{"alice", "bob", "carol", "dave"}, func(world *world) {
		bad := world.nodes[victim]
		bad.stop()
		bad.wrap = f.wrap
		bad.start()
		w := world.diamond()
		inv := must(w.dave.CreateInvoice(w.ctx, InvoiceRequest{Amount: amount}))
		f.arm(true)
		ctx, cancel := context.WithTimeout(w.ctx, 3*time.Second)
		first, _ := w.alice.Pay(ctx, PayRequest{Invoice: inv.Text, Key: "one"})
		cancel()
		w.blocks(1)
		bad.revive(f)
		w.until("an outcome", func() bool {
			p, err := w.alice.Payment(inv.Hash, "")
			return err != nil || p.State != PaymentPending
		})
		spent, got := w.idle()
		now, err := w.alice.Payment(inv.Hash, "")
		paid := must(w.dave.Invoice(inv.Hash))
		switch {
		case first.State == PaymentSucceeded && now.State != PaymentSucceeded:
			t.Errorf("an acknowledged payment is lost: now %q, %v", now.State, err)
		case (now.State == PaymentSucceeded) != (paid.State == InvoicePaid):
			t.Errorf("the payer says %q, the payee %q", now.State, paid.State)
		case now.State == PaymentSucceeded && (got != amount || spent != amount+now.Fee+now.Reserve):
			t.Errorf("paid: alice spent %s (fee %s, %s), dave got %s", spent, now.Fee, now.Reserve, got)
		case now.State != PaymentSucceeded && (got != 0 || spent != now.Reserve):
			t.Errorf("not paid (%q): alice spent %s, dave got %s", now.State, spent, got)
		}
		if now.State != "" {
			again, err := w.alice.Pay(w.ctx, PayRequest{Invoice: inv.Text, Key: "one"})
			if err != nil || again.State != now.State {
				t.Errorf("the same key: %q, %v; it was %q", again.State, err, now.State)
			}
		}
		second, err := w.alice.Pay(w.ctx, PayRequest{Invoice: inv.Text, Key: "two"})
		if err != nil || second.State != PaymentSucceeded {
			t.Errorf("another key: %q, %v, %+v", second.State, err, second.Failure)
		}
		if _, got := w.idle(); got != amount {
			t.Errorf("dave got %s in all", got)
		}
	})
}

// Money goes in a circle from one own channel to another, for the hops' fees and nothing else.
func TestRebalance(t *testing.T) {
	inDiamond(t, func(w *diamond) {
		limit := types.Coin
		q := RebalanceRequest(w.ab, w.ac, 4*types.Coin, &limit, "r")
		plan, err := w.alice.PlanPayment(q)
		if err != nil || len(plan.Parts) != 1 || len(plan.Parts[0].Hops) != 4 || plan.Fee <= 0 || plan.Odds <= 0 || plan.Odds > 1 {
			t.Fatalf("plan %+v, %v", plan, err)
		}
		p, err := w.alice.Pay(w.ctx, q)
		if err != nil || p.State != PaymentSucceeded || p.Fee != plan.Fee || p.Peer != w.alice.ID() {
			t.Fatalf("%+v, %v, %+v", p, err, p.Failure)
		}
		if again, err := w.alice.Pay(w.ctx, q); err != nil || again.Hash != p.Hash {
			t.Errorf("the same key: %+v, %v", again, err)
		}
		spent, _ := w.idle()
		if spent != p.Fee+p.Reserve || w.alice.mine(w.ac) != 64*types.Coin {
			t.Errorf("alice spent %s (fee %s, %s) and has %s in the second channel", spent, p.Fee, p.Reserve, w.alice.mine(w.ac))
		}
		list, _, err := w.alice.Payments("", 10)
		if err != nil || len(list) != 1 {
			t.Errorf("alice's records: %+v, %v", list, err)
		}
		for name, bad := range map[string]PayRequest{"same channel": RebalanceRequest(w.ab, w.ab, types.Coin, nil, ""),
			"not there": RebalanceRequest(w.ab, w.bd, types.Coin, nil, ""), "nothing": RebalanceRequest(w.ab, w.ac, 0, nil, "")} {
			if _, err := w.alice.Pay(w.ctx, bad); err == nil {
				t.Errorf("%s: taken", name)
			}
		}
	})
}

// A payer that went down between two parts goes on with the second as soon as it can, while the payee still holds the first.
func TestPartsGoOnAfterARestart(t *testing.T) {
	met := 0
	for at := 1; at < 12; at++ {
		inWorld(t, []string{"alice", "bob", "carol", "dave"}, func(world *world) {
			f := &fault{at: at, happened: true}
			bad := world.nodes["alice"]
			bad.stop()
			bad.wrap = f.wrap
			bad.start()
			w := world.diamond()
			inv := must(w.dave.CreateInvoice(w.ctx, InvoiceRequest{Amount: 90 * types.Coin}))
			f.arm(true)
			ctx, cancel := context.WithTimeout(w.ctx, 3*time.Second)
			w.alice.Pay(ctx, PayRequest{Invoice: inv.Text})
			cancel()
			bad.revive(f)
			p, err := w.alice.Payment(inv.Hash, "")
			if err != nil || p.State != PaymentPending || len(p.Parts) != 1 {
				return
			}
			met++
			w.blocks(holdBlocks / 2)
			if p := must(w.alice.Payment(inv.Hash, "")); p.State != PaymentSucceeded {
				t.Errorf("effect %d (%s): %s after %d tries, %+v", at, f.hit, p.State, p.Tries, p.Failure)
			}
		})
	}
	if met == 0 {
		t.Error("no restart between two parts: the test does not reach what it is for")
	}
}
