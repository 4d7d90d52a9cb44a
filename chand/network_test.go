package chand

import (
	"strings"
	"testing"
	"time"

	"github.com/eschaton-network/chand/types"
)

func TestPayDirect(t *testing.T) {
	inWorld(t, []string{"alice", "bob"}, func(w *world) {
		alice, bob := w.nodes["alice"], w.nodes["bob"]
		id := w.open("alice", "bob", 100*types.Coin, 50*types.Coin)
		p := alice.pay(bob.invoice(7*types.Coin), PaymentSucceeded)
		if p.Preimage.Hash() != p.Hash || p.Fee != 0 {
			t.Errorf("payment %+v", p)
		}
		bob.pay(alice.invoice(3*types.Coin), PaymentSucceeded)
		if a, b := alice.mine(id), bob.mine(id); a != 96*types.Coin || b != 54*types.Coin {
			t.Errorf("balances %s and %s, want 96 and 54", a, b)
		}
		got, err := bob.Payment(p.Hash, "")
		if err != nil || got.Direction != PaymentReceived || got.Amount != 7*types.Coin {
			t.Errorf("bob's record: %+v, %v", got, err)
		}
	})
}

func TestPaySpontaneous(t *testing.T) {
	inWorld(t, []string{"alice", "bob", "carol"}, func(w *world) {
		alice, bob, carol := w.nodes["alice"], w.nodes["bob"], w.nodes["carol"]
		id := w.open("alice", "bob", 100*types.Coin, 0)
		far := w.open("bob", "carol", 100*types.Coin, 0)
		alice.known(2)
		reserve := types.Amount(0)
		for _, to := range []*node{bob, carol} {
			p, err := alice.Pay(w.ctx, PayRequest{To: to.ID(), Amount: 5 * types.Coin, Key: "k " + to.name})
			if err != nil || p.State != PaymentSucceeded {
				t.Fatalf("to %s: %+v, %v, %+v", to.name, p, err, p.Failure)
			}
			reserve += p.Reserve
			again, err := alice.Pay(w.ctx, PayRequest{To: to.ID(), Amount: 5 * types.Coin, Key: "k " + to.name})
			if err != nil || again.Hash != p.Hash {
				t.Errorf("the same key made another payment: %+v, %v", again, err)
			}
			if _, err := alice.Pay(w.ctx, PayRequest{To: to.ID(), Amount: 6 * types.Coin, Key: "k " + to.name}); err == nil {
				t.Error("the same key with another amount was taken")
			}
		}
		w.until("carol is paid", func() bool { return carol.mine(far) == 5*types.Coin })
		fee := types.Amount(1000) + 5*types.Coin/1000 + reserve
		if got := alice.mine(id); got != 90*types.Coin-fee {
			t.Errorf("alice has %s, want 90 less the fee %s", got, fee)
		}
	})
}

func TestPayOverTwoHops(t *testing.T) {
	inWorld(t, []string{"alice", "bob", "carol", "dave"}, func(w *world) {
		alice, bob, dave := w.nodes["alice"], w.nodes["bob"], w.nodes["dave"]
		ab := w.open("alice", "bob", 100*types.Coin, 10*types.Coin)
		w.open("bob", "carol", 100*types.Coin, 10*types.Coin)
		cd := w.open("carol", "dave", 100*types.Coin, 10*types.Coin)
		alice.known(3)
		dave.known(3)
		p := alice.pay(dave.invoice(20*types.Coin), PaymentSucceeded)
		if p.Fee <= 0 || len(p.Route) != 3 {
			t.Errorf("payment %+v", p)
		}
		w.until("the money is there", func() bool { return alice.mine(ab) == 80*types.Coin-p.Fee-p.Reserve && dave.mine(cd) == 30*types.Coin })
		w.until("no locks", func() bool { c, _ := bob.Channel(ab); return c.Locks == 0 })
		list, _, err := bob.Payments("", 10)
		if err != nil || len(list) != 1 || list[0].Direction != PaymentForwarded || list[0].Fee <= 0 || list[0].Reserve <= 0 {
			t.Errorf("bob's records: %+v, %v", list, err)
		}
		// The other way, and more than carol can send to bob.
		dave.pay(alice.invoice(5*types.Coin), PaymentSucceeded)
		f := alice.pay(dave.invoice(95*types.Coin), PaymentFailed)
		if f.Failure == nil || f.Failure.Rule == "" || f.Failure.Text == "" {
			t.Errorf("failure %+v", f.Failure)
		}
	})
}

func TestFailureNamesHop(t *testing.T) {
	inWorld(t, []string{"alice", "bob", "carol"}, func(w *world) {
		alice, bob, carol := w.nodes["alice"], w.nodes["bob"], w.nodes["carol"]
		ab := w.open("alice", "bob", 100*types.Coin, 0)
		bc := w.open("bob", "carol", 60*types.Coin, 0)
		alice.known(2)
		bob.pay(carol.invoice(50*types.Coin), PaymentSucceeded) // bob has 10 left; alice can't know
		p := alice.pay(carol.invoice(30*types.Coin), PaymentFailed)
		if p.Failure.Hop != bob.ID() || p.Failure.Rule != "temporary_channel_failure" || p.Failure.Next == "" {
			t.Errorf("failure %+v, want bob's temporary_channel_failure", p.Failure)
		}
		w.until("all is back", func() bool { return alice.mine(ab) == 100*types.Coin })
		// An invoice that nobody made, and one that was paid.
		inv := carol.invoice(types.Coin)
		alice.pay(inv, PaymentSucceeded)
		if again := alice.pay(inv, PaymentSucceeded); again.Tries != 1 {
			t.Errorf("the invoice was paid again: %+v", again)
		}
		other := bob.pay(inv, PaymentFailed)
		if other.Failure.Hop != carol.ID() {
			t.Errorf("a paid invoice: %+v", other.Failure)
		}
		w.until("refund", func() bool { return bob.mine(bc) == 9*types.Coin })
	})
}

func TestEscrow(t *testing.T) {
	inWorld(t, []string{"alice", "bob", "carol"}, func(w *world) {
		alice, bob, carol := w.nodes["alice"], w.nodes["bob"], w.nodes["carol"]
		ab := w.open("alice", "bob", 100*types.Coin, 10*types.Coin)
		bc := w.open("bob", "carol", 100*types.Coin, 10*types.Coin)
		alice.known(2)
		for _, to := range []*node{bob, carol} {
			open := func(life uint32) Escrow {
				e, err := alice.OpenEscrow(w.ctx, EscrowRequest{To: to.ID(), Amount: 10 * types.Coin, Memo: "a bicycle", Lifetime: life})
				if err != nil {
					t.Fatal(err)
				}
				w.until("held", func() bool { h, err := to.Escrow(e.ID, rolePayee); return err == nil && h.State == EscrowHeld })
				if h, _ := to.Escrow(e.ID, rolePayee); h.Memo != "a bicycle" || !h.Preimage.IsZero() {
					t.Errorf("the payee sees %+v", h)
				}
				return e
			}
			state := func(id types.Hash, a, b string) {
				w.until("escrow "+a, func() bool {
					x, _ := alice.Escrow(id, rolePayer)
					y, _ := to.Escrow(id, rolePayee)
					return x.State == a && y.State == b
				})
			}
			e := open(100)
			if _, err := to.ReleaseEscrow(w.ctx, e.ID); err == nil {
				t.Error("the payee released")
			}
			if _, err := alice.RefundEscrow(w.ctx, e.ID); err == nil {
				t.Error("the payer refunded")
			}
			if _, err := alice.ReleaseEscrow(w.ctx, e.ID); err != nil {
				t.Fatal(err)
			}
			state(e.ID, EscrowReleased, EscrowReleased)
			e = open(100)
			if _, err := to.RefundEscrow(w.ctx, e.ID); err != nil {
				t.Fatal(err)
			}
			state(e.ID, EscrowRefunded, EscrowRefunded)
			e = open(5) // nobody acts: it comes back by itself, and no channel closes for it
			state(e.ID, EscrowRefunded, EscrowRefunded)
			if _, err := alice.ReleaseEscrow(w.ctx, e.ID); err == nil {
				t.Error("a late release was taken")
			}
		}
		w.until("no locks", func() bool {
			x, _ := bob.Channel(ab)
			y, _ := bob.Channel(bc)
			return x.Locks == 0 && y.Locks == 0
		})
		if alice.state(ab) != ChannelOpen || carol.state(bc) != ChannelOpen {
			t.Error("a channel closed")
		}
		if b, c := bob.mine(bc), carol.mine(bc); b != 90*types.Coin || c != 20*types.Coin {
			t.Errorf("bob %s, carol %s", b, c)
		}
	})
}

func TestAgreedClose(t *testing.T) {
	inWorld(t, []string{"alice", "bob"}, func(w *world) {
		alice, bob := w.nodes["alice"], w.nodes["bob"]
		id := w.open("alice", "bob", 100*types.Coin, 50*types.Coin)
		a, b := alice.balance(), bob.balance()
		alice.pay(bob.invoice(25*types.Coin), PaymentSucceeded)
		if _, err := alice.Close(w.ctx, id, false); err != nil {
			t.Fatal(err)
		}
		w.until("closed", func() bool { return alice.over(id) && bob.over(id) })
		paid := bob.balance() - b
		if got := alice.balance() - a; got > 75*types.Coin || got < 74*types.Coin || paid > 75*types.Coin || paid < 74*types.Coin {
			t.Errorf("alice got %s, bob %s; want 75 each, less a fee", got, paid)
		}
		if c, err := alice.Close(w.ctx, id, false); err != nil || c.State != ChannelClosed {
			t.Errorf("closing again: %+v, %v", c, err)
		}
	})
}

func TestForcedClose(t *testing.T) {
	inWorld(t, []string{"alice", "bob"}, func(w *world) {
		alice, bob := w.nodes["alice"], w.nodes["bob"]
		id := w.open("alice", "bob", 100*types.Coin, 50*types.Coin)
		b := bob.balance()
		alice.pay(bob.invoice(25*types.Coin), PaymentSucceeded)
		bob.pay(alice.invoice(5*types.Coin), PaymentSucceeded)
		if _, err := alice.Close(w.ctx, id, true); err != nil {
			t.Fatal(err)
		}
		w.until("disputed", func() bool { return bob.state(id) == ChannelDisputed })
		w.until("closed", func() bool { return alice.over(id) && bob.over(id) })
		if got := bob.balance() - b; got != 70*types.Coin {
			t.Errorf("bob got %s, want 70", got)
		}
	})
}

// Mallory puts back an old copy of her store and closes with it, while bob is there, and while he sleeps.
func TestOldVersionIsSuperseded(t *testing.T) {
	for _, asleep := range []bool{false, true} {
		inWorld(t, []string{"mallory", "bob"}, func(w *world) {
			mallory, bob := w.nodes["mallory"], w.nodes["bob"]
			id := w.open("mallory", "bob", 100*types.Coin, 50*types.Coin)
			bob.pay(mallory.invoice(1*types.Coin), PaymentSucceeded) // the newest version that mallory holds
			old, err := mallory.store.Get(bucketChannel, id.String())
			if err != nil {
				t.Fatal(err)
			}
			b := bob.balance()
			mallory.pay(bob.invoice(60*types.Coin), PaymentSucceeded)
			if asleep {
				bob.stop()
			}
			mallory.stop()
			if err := mallory.store.Commit(w.ctx, types.Write{Bucket: bucketChannel, Key: id.String(), Value: old}); err != nil {
				t.Fatal(err)
			}
			mallory.start()
			if !asleep {
				w.pipes.Cut(mallory.ID(), bob.ID())
			}
			if _, err := mallory.Close(w.ctx, id, true); err != nil {
				t.Fatal(err)
			}
			w.until("posted", func() bool { return mallory.state(id) == ChannelDisputed })
			if asleep {
				w.blocks(int(types.DemoTiming.Downtime))
				bob.start()
			}
			w.until("closed", func() bool { return bob.over(id) })
			if got := bob.balance() - b; got < 108*types.Coin || got > 109*types.Coin {
				t.Errorf("asleep %v: bob got %s, want 109 less a fee", asleep, got)
			}
			mallory.stop()
			mallory.Daemon = nil
			w.blocks(1)
			for _, key := range []string{"mallory"} { // her store is a forgery: it need not hold together
				delete(w.nodes, key)
			}
		})
	}
}

func TestRestartsAndBrokenLinks(t *testing.T) {
	inWorld(t, []string{"alice", "bob", "carol"}, func(w *world) {
		alice, bob, carol := w.nodes["alice"], w.nodes["bob"], w.nodes["carol"]
		ab := w.open("alice", "bob", 100*types.Coin, 0)
		bc := w.open("bob", "carol", 100*types.Coin, 0)
		alice.known(2)
		for i, n := range []*node{alice, bob, carol, bob} {
			inv := carol.invoice(types.Coin)
			p, _, err := alice.beginPayment(PayRequest{Invoice: inv})
			if err != nil {
				t.Fatal(err)
			}
			hash := p.rec.Hash
			n.crash()
			n.start()
			w.until("links", func() bool { return alice.ready(ab) && bob.ready(ab) && bob.ready(bc) && carol.ready(bc) })
			w.until("outcome", func() bool {
				p, err := alice.Payment(hash, "")
				return err != nil || p.State != PaymentPending
			})
			w.pipes.Break(alice.ID(), bob.ID())
			w.until("links", func() bool { return alice.ready(ab) && bob.ready(ab) })
			p2, err := alice.Payment(hash, "")
			if err != nil && !strings.Contains(err.Error(), "no such payment") {
				t.Fatal(err)
			}
			paid, _ := carol.Invoice(hash)
			if (p2.State == PaymentSucceeded) != (paid.State == InvoicePaid) {
				t.Errorf("round %d: alice says %q, carol %q", i, p2.State, paid.State)
			}
		}
		alice.pay(carol.invoice(types.Coin), PaymentSucceeded)
	})
}

func TestLedgerSend(t *testing.T) {
	inWorld(t, []string{"alice", "bob"}, func(w *world) {
		alice, bob := w.nodes["alice"], w.nodes["bob"]
		before := bob.balance()
		results := make(chan LedgerTx, 50)
		for range 50 { // pipelined: signed ahead of the chain
			go func() {
				tx, err := alice.Send(w.ctx, bob.account, types.Coin, types.Hash{}, "")
				if err != nil {
					t.Error(err)
				}
				results <- tx
			}()
		}
		for range 50 {
			if tx := <-results; tx.State != TxConfirmed || tx.Height == 0 {
				t.Errorf("%+v", tx)
			}
		}
		if got := bob.balance() - before; got != 50*types.Coin {
			t.Errorf("bob got %s", got)
		}
		first, err := alice.Send(w.ctx, bob.account, types.Coin, types.Hash{}, "once")
		if err != nil {
			t.Fatal(err)
		}
		alice.crash()
		alice.start()
		again, err := alice.Send(w.ctx, bob.account, types.Coin, types.Hash{}, "once")
		if err != nil || again.ID != first.ID {
			t.Errorf("again: %+v, %v", again, err)
		}
		if _, err := alice.Send(w.ctx, bob.account, 2*types.Coin, types.Hash{}, "once"); err == nil {
			t.Error("the key was taken for another amount")
		}
		if _, err := alice.Send(w.ctx, bob.account, 2*funding, types.Hash{}, ""); err == nil {
			t.Error("more than there is was sent")
		}
		if got := bob.balance() - before; got != 51*types.Coin {
			t.Errorf("bob got %s", got)
		}
	})
}

// Hundreds at once, both ways over the same channels, with a link that breaks and a hop that is killed in the middle: what
// succeeded was received once, and every coin is somewhere.
func TestManyPaymentsAtOnce(t *testing.T) {
	inWorld(t, []string{"alice", "bob", "carol"}, func(w *world) {
		line := []string{"alice", "bob", "carol"}
		alice, bob, carol := w.nodes["alice"], w.nodes["bob"], w.nodes["carol"]
		ids := []types.ChannelID{w.open("alice", "bob", 100*types.Coin, 50*types.Coin), w.open("bob", "carol", 100*types.Coin, 50*types.Coin)}
		for _, n := range line {
			w.nodes[n].known(2)
		}
		type result struct {
			payee *node
			p     Payment
			err   error
		}
		const each = 60
		results := make(chan result)
		send := func(payer, payee *node, payerDaemon *Daemon) {
			for range each {
				inv := payee.invoice(types.Coin / 10)
				go func() {
					p, err := payerDaemon.Pay(w.ctx, PayRequest{Invoice: inv})
					results <- result{payee, p, err}
				}()
			}
		}
		send(alice, carol, alice.Daemon)
		send(carol, alice, carol.Daemon)
		send(alice, bob, alice.Daemon)
		<-time.After(time.Millisecond)
		w.pipes.Break(alice.ID(), bob.ID())
		<-time.After(time.Millisecond)
		bob.crash()
		bob.start()
		got := map[*node]types.Amount{}
		for range 3 * each {
			r := <-results
			if r.err != nil {
				t.Error(r.err)
			}
			inv, err := r.payee.Invoice(r.p.Hash)
			if err != nil || (inv.State == InvoicePaid) != (r.p.State == PaymentSucceeded) {
				t.Errorf("the payer says %q, the invoice is %q, %v", r.p.State, inv.State, err)
			}
			if r.p.State == PaymentSucceeded {
				got[r.payee] += r.p.Amount
			}
		}
		w.settled(line, ids)
		for i, id := range ids {
			if a, b := w.nodes[line[i]].mine(id), w.nodes[line[i+1]].mine(id); a+b != 150*types.Coin {
				t.Errorf("channel %d: %s and %s do not add up", i, a, b)
			}
		}
		if c := carol.mine(ids[1]); c < 50*types.Coin+got[carol]-got[alice]-types.Coin/10*each/50 || c > 50*types.Coin+got[carol]-got[alice] {
			t.Errorf("carol holds %s, received %s, sent %s", c, got[carol], got[alice])
		}
	})
}
