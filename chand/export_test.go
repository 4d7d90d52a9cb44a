package chand

import (
	"slices"
	"strings"
	"testing"

	"github.com/eschaton-network/chand/types"
)

// books exports everything and wants each entry to add up to zero, and the assets to be what the daemon has.
func (n *node) books(start types.Amount) []Entry {
	n.w.t.Helper()
	var list []Entry
	if err := n.Export(0, func(e Entry) error { list = append(list, e); return nil }); err != nil {
		n.w.t.Fatal(err)
	}
	for _, e := range list {
		var sum types.Amount
		for _, p := range e.Postings {
			sum += p.Amount
			if p.Amount == 0 || p.Account == "" {
				n.w.t.Errorf("%s: %+v posts nothing", n.name, e)
			}
		}
		if sum != 0 || e.Time == 0 || e.Kind == "" {
			n.w.t.Errorf("%s: %+v adds up to %s", n.name, e, sum)
		}
	}
	have := Balances(list)
	for _, c := range must(n.Channels(true)) {
		want := c.Mine
		if c.State == ChannelClosed {
			want = 0
		}
		if got := have[accountChannel(c.ID)]; got != want {
			n.w.t.Errorf("%s: the books have %s in channel %s, which is %s with %s", n.name, got, c.ID, c.State, want)
		}
	}
	if got := start + have[accountLedger]; got != n.balance() {
		n.w.t.Errorf("%s: the books have %s on the ledger, there are %s", n.name, got, n.balance())
	}
	for a, sum := range have {
		if strings.HasPrefix(a, accountClosed) && sum != 0 {
			n.w.t.Errorf("%s: %s was lost in closing", n.name, sum)
		}
	}
	return list
}

// After every kind of event the books balance, and say what each daemon really has.
func TestBooks(t *testing.T) {
	names := []string{"alice", "bob", "carol"}
	inWorld(t, append(slices.Clone(names), "dave"), func(w *world) {
		alice, bob, carol := w.nodes["alice"], w.nodes["bob"], w.nodes["carol"]
		for _, n := range names {
			w.nodes[n].stop()
			w.nodes[n].cfg.Reserve = 1_000_000
			w.nodes[n].start()
		}
		start := alice.balance()
		ab := w.open("alice", "bob", 100*types.Coin, 50*types.Coin)
		bc := w.open("bob", "carol", 100*types.Coin, 50*types.Coin)
		ca := w.open("carol", "alice", 100*types.Coin, 50*types.Coin)
		for _, n := range names {
			w.nodes[n].known(3)
		}
		alice.pay(bob.invoice(3*types.Coin), PaymentSucceeded)                                        // by one signature
		alice.pay(carol.invoice(95*types.Coin), PaymentSucceeded)                                     // in parts, some over bob
		bob.pay(alice.invoice(7*types.Coin), PaymentSucceeded)                                        // the other way
		if _, err := alice.Pay(w.ctx, PayRequest{To: bob.ID(), Amount: 2 * types.Coin}); err != nil { // without invoice
			t.Fatal(err)
		}
		stream := alice.stream(bob, "rent")
		if err := stream.Send(w.ctx, 0, []types.Amount{1, 20, 300}); err != nil {
			t.Fatal(err)
		}
		if st := paidUpTo(w.ctx, stream); st.Err != nil {
			t.Fatal(st.Err)
		}
		over := types.Amount(5 * types.Coin)
		circle, err := carol.Pay(w.ctx, RebalanceRequest(bc, ca, over, nil, "circle"))
		if err != nil {
			t.Fatal(err)
		}
		w.until("the circle", func() bool { p, err := carol.Payment(circle.Hash, ""); return err == nil && p.State != PaymentPending })
		for _, release := range []bool{true, false} {
			for _, to := range []*node{bob, carol} {
				e, err := alice.OpenEscrow(w.ctx, EscrowRequest{To: to.ID(), Amount: 4 * types.Coin})
				if err != nil {
					t.Fatal(err)
				}
				w.until("held", func() bool { h, err := to.Escrow(e.ID, rolePayee); return err == nil && h.State == EscrowHeld })
				if release {
					_, err = alice.ReleaseEscrow(w.ctx, e.ID)
				} else {
					_, err = to.RefundEscrow(w.ctx, e.ID)
				}
				if err != nil {
					t.Fatal(err)
				}
				w.until("over", func() bool { h, err := alice.Escrow(e.ID, rolePayer); return err == nil && h.final() })
			}
		}
		if tx, err := alice.Send(w.ctx, w.nodes["dave"].account, 3*types.Coin, types.Hash{}, "to dave"); err != nil || tx.State != TxConfirmed {
			t.Fatal(tx, err)
		}
		quiet := func() {
			w.until("quiet", func() bool {
				for _, n := range names {
					for _, c := range must(w.nodes[n].Channels(false)) {
						if c.Locks != 0 || !w.nodes[n].ready(c.ID) {
							return false
						}
					}
				}
				return true
			})
			w.blocks(3)
		}
		quiet()
		for _, n := range names {
			w.nodes[n].books(start)
		}
		rep := must(bob.Fees(0, 0))
		if rep.Earned.Count == 0 || rep.Earned.Fees <= 0 || len(rep.EarnedIn) == 0 || rep.From == 0 {
			t.Errorf("bob earned %+v", rep)
		}
		list, _, _, err := bob.Forwards("", 100)
		if err != nil || len(list) < int(rep.Earned.Count) {
			t.Errorf("%d forwards, %d in the report: %v", len(list), rep.Earned.Count, err)
		}
		paged, page := 0, ""
		for {
			l, next, from, err := bob.Forwards(page, 1)
			if err != nil || from == 0 {
				t.Fatal(from, err)
			}
			paged += len(l)
			if page = next; page == "" {
				break
			}
		}
		if paged != len(list) {
			t.Errorf("%d forwards by pages, %d at once", paged, len(list))
		}
		// One channel ends in agreement, one by force with a lock in it.
		if _, err := alice.OpenEscrow(w.ctx, EscrowRequest{To: bob.ID(), Amount: 4 * types.Coin, Lifetime: 20}); err != nil {
			t.Fatal(err)
		}
		alice.Close(w.ctx, ab, true)
		bob.Close(w.ctx, bc, false)
		w.until("closed", func() bool { return alice.over(ab) && bob.over(ab) && bob.over(bc) && carol.over(bc) })
		w.blocks(5)
		for _, n := range names {
			w.nodes[n].books(start)
		}
	})
}

// What Liquidity says can be sent can be sent, and one unit more can't.
func TestLiquidity(t *testing.T) {
	inWorld(t, []string{"alice", "bob", "carol"}, func(w *world) {
		alice, bob := w.nodes["alice"], w.nodes["bob"]
		ab := w.open("alice", "bob", 90*types.Coin, 0)
		ca := w.open("carol", "alice", 90*types.Coin, 0)
		w.open("bob", "carol", 50*types.Coin, 50*types.Coin)
		alice.known(3)
		l, err := alice.Liquidity(bob.ID())
		if err != nil {
			t.Fatal(err)
		}
		if l.Send.Total != 90*types.Coin || l.Receive.Total != 90*types.Coin || len(l.Channels) != 2 {
			t.Errorf("alice has %+v", l)
		}
		if r := l.Reach; r == nil || r.To.Most < 89*types.Coin || r.To.Most > 90*types.Coin || r.From.Most < 40*types.Coin || r.From.Most > 90*types.Coin {
			t.Errorf("to and from bob: %+v", l.Reach)
		}
		want := "chancli rebalance --out " + ab.String() + " --in " + ca.String() + " --amount 45"
		if l.Hint != want {
			t.Errorf("the hint is %q (%s), want %q", l.Hint, l.Why, want)
		}
		if _, err := alice.Liquidity(alice.ID()); err == nil {
			t.Error("a way to oneself")
		}
		alice.pay(bob.invoice(l.Send.Once), PaymentSucceeded)
		p, err := alice.Pay(w.ctx, PayRequest{Invoice: bob.invoice(1)})
		if err == nil && p.State == PaymentSucceeded {
			t.Errorf("one more than all was paid: %+v", p)
		}
	})
}
