package chand

import (
	"testing"

	"github.com/eschaton-network/chand/types"
)

// TestRenewal: a channel whose version numbers run low goes on in a new epoch, over payments in both directions, open escrows and kills of
// either side, and the newest version still wins on the ledger.
func TestRenewal(t *testing.T) {
	inWorld(t, []string{"alice", "bob"}, func(w *world) {
		alice, bob := w.nodes["alice"], w.nodes["bob"]
		for _, n := range []*node{alice, bob} {
			n.stop()
			n.cfg.RenewAt = 6
			n.start()
		}
		id := w.open("alice", "bob", 100*types.Coin, 50*types.Coin)
		begin := alice.runner(id).view.Load().State.Current.Epoch
		for i := range 12 {
			alice.pay(bob.invoice(2*types.Coin), PaymentSucceeded)
			bob.pay(alice.invoice(types.Coin), PaymentSucceeded)
			if i%4 == 2 {
				n := []*node{alice, bob}[i/4%2]
				n.crash()
				n.start()
				w.until("ready again", func() bool { return alice.ready(id) && bob.ready(id) })
			}
		}
		s := alice.runner(id).view.Load().State
		if s.Current.Epoch < begin+3 || s.Current.Number > 8 {
			t.Errorf("version (%d, %d) after epoch %d", s.Current.Epoch, s.Current.Number, begin)
		}
		if a, b := alice.mine(id), bob.mine(id); a != 88*types.Coin || b != 62*types.Coin {
			t.Errorf("alice holds %s, bob %s, want 88 and 62", a, b)
		}
		before := bob.balance()
		ctx, cancel := w.timeout()
		defer cancel()
		if _, err := bob.Close(ctx, id, true); err != nil {
			t.Fatal(err)
		}
		w.until("closed", func() bool { return alice.over(id) && bob.over(id) })
		if got := bob.balance() - before; got < 62*types.Coin-types.Coin/100 || got > 62*types.Coin {
			t.Errorf("bob got %s, want 62 less fees", got)
		}
	})
}
