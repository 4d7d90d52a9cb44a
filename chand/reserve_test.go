package chand

import (
	"testing"

	"github.com/eschaton-network/chand/types"
)

// earned sums up what a node's records say that it earned by locks that were, or were not, settled.
func (n *node) earned() (fees, reserve types.Amount) {
	n.w.t.Helper()
	list, _, err := n.Payments("", 100)
	if err != nil {
		n.w.t.Fatal(err)
	}
	for _, p := range list {
		if p.Direction == PaymentForwarded {
			fees, reserve = fees+p.Fee, reserve+p.Reserve
		}
	}
	return fees, reserve
}

// Hops that kept a lock open earn for it; what was meant for those behind the one that refused comes back.
func TestReservationFees(t *testing.T) {
	inWorld(t, []string{"alice", "bob", "carol", "dave"}, func(w *world) {
		alice, bob, carol, dave := w.nodes["alice"], w.nodes["bob"], w.nodes["carol"], w.nodes["dave"]
		ab := w.open("alice", "bob", 100*types.Coin, 10*types.Coin)
		bc := w.open("bob", "carol", 100*types.Coin, 10*types.Coin)
		cd := w.open("carol", "dave", 60*types.Coin, 10*types.Coin)
		alice.known(3)
		line, ids := []string{"alice", "bob", "carol", "dave"}, []types.ChannelID{ab, bc, cd}
		p := alice.pay(dave.invoice(20*types.Coin), PaymentSucceeded)
		w.settled(line, ids)
		_, b := bob.earned()
		_, c := carol.earned()
		if p.Reserve <= 0 || b <= 0 || c <= 0 || b+c != p.Reserve {
			t.Errorf("alice paid %s, bob earned %s, carol %s", p.Reserve, b, c)
		}
		if a := alice.mine(ab); a != 80*types.Coin-p.Fee-p.Reserve {
			t.Errorf("alice has %s", a)
		}
		// The payee refuses: both hops kept the lock open, and nothing comes back.
		inv := must(dave.CreateInvoice(w.ctx, InvoiceRequest{Amount: 20 * types.Coin}))
		if _, err := dave.CancelInvoice(w.ctx, inv.Hash); err != nil {
			t.Fatal(err)
		}
		before := alice.mine(ab)
		p = alice.pay(inv.Text, PaymentFailed)
		w.settled(line, ids)
		_, b2 := bob.earned()
		_, c2 := carol.earned()
		if p.Reserve <= 0 || b2-b+c2-c != p.Reserve || alice.mine(ab) != before-p.Reserve || p.Fee != 0 {
			t.Errorf("refused by the payee: alice paid %s and has %s of %s, bob earned %s, carol %s", p.Reserve, alice.mine(ab), before, b2-b, c2-c)
		}
		// Carol refuses: bob has earned, carol gives back.
		carol.pay(dave.invoice(35*types.Coin), PaymentSucceeded)
		before = alice.mine(ab)
		p = alice.pay(dave.invoice(20*types.Coin), PaymentFailed)
		w.settled(line, ids)
		_, b3 := bob.earned()
		_, c3 := carol.earned()
		if p.Reserve <= 0 || p.Reserve != b3-b2 || c3 != c2 || alice.mine(ab) != before-p.Reserve {
			t.Errorf("refused by carol: alice paid %s and has %s of %s, bob earned %s, carol %s", p.Reserve, alice.mine(ab), before, b3-b2, c3-c2)
		}
		for _, n := range []*node{alice, bob, carol, dave} { // and all of it is on disk
			n.crash()
			n.start()
		}
		if _, b := bob.earned(); b != b3 {
			t.Errorf("after a restart bob's records say %s, not %s", b, b3)
		}
	})
}

// Who keeps somebody's channel full of locks pays for it by time and amount, though every lock comes back.
func TestJammerPays(t *testing.T) {
	inWorld(t, []string{"mallory", "bob", "accomplice"}, func(w *world) {
		mallory, bob, accomplice := w.nodes["mallory"], w.nodes["bob"], w.nodes["accomplice"]
		mb := w.open("mallory", "bob", 100*types.Coin, 10*types.Coin)
		ba := w.open("bob", "accomplice", 100*types.Coin, 10*types.Coin)
		mallory.known(2)
		jam := func(amount types.Amount, blocks uint32) types.Amount {
			before := mallory.mine(mb)
			_, earned := bob.earned()
			e, err := mallory.OpenEscrow(w.ctx, EscrowRequest{To: accomplice.ID(), Amount: amount, Lifetime: blocks})
			if err != nil {
				t.Fatal(err)
			}
			w.blocks(3)
			if _, err := accomplice.RefundEscrow(w.ctx, e.ID); err != nil {
				t.Fatal(err)
			}
			w.settled([]string{"mallory", "bob", "accomplice"}, []types.ChannelID{mb, ba})
			_, now := bob.earned()
			e = must(mallory.Escrow(e.ID, rolePayer))
			if lost := before - mallory.mine(mb); lost <= 0 || lost != now-earned || lost != e.Reserve {
				t.Errorf("mallory lost %s, bob earned %s, her record says %s", lost, now-earned, e.Reserve)
			}
			return now - earned
		}
		little, much, long := jam(types.Coin, 200), jam(40*types.Coin, 200), jam(40*types.Coin, 2000)
		if much < 39*little || long < 4*much {
			t.Errorf("1 coin for 200 blocks costs %s, 40 coins %s, and for 2000 blocks %s", little, much, long)
		}
	})
}
