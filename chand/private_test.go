package chand

import (
	"testing"

	"github.com/eschaton-network/chand/htlc"
	"github.com/eschaton-network/chand/route"
	"github.com/eschaton-network/chand/types"
)

// openPrivate opens a channel that nobody else is to know.
func (w *world) openPrivate(a, b *node, mine, theirs types.Amount) types.ChannelID {
	w.t.Helper()
	ctx, cancel := w.timeout()
	defer cancel()
	if err := a.Connect(ctx, b.ID(), "memory"); err != nil {
		w.t.Fatal(err)
	}
	c, err := a.Open(ctx, OpenRequest{Peer: b.ID(), Mine: mine, Theirs: theirs, Private: true})
	if err != nil {
		w.t.Fatal(err)
	}
	w.until("private channel open", func() bool { return a.ready(c.ID) && b.ready(c.ID) })
	return c.ID
}

// policyOf waits until a node's graph says so of a channel's policy by another node.
func (n *node) policyOf(id types.ChannelID, of *node, want func(route.Policy) bool) {
	n.w.t.Helper()
	n.w.until("the policy is known", func() bool {
		for _, g := range n.Graph(types.ChannelID{}, 100) {
			for _, p := range g.Policies {
				if dir, _ := g.Announcement.Direction(of.ID()); p.Channel == id && p.Direction == dir && want(p) {
					return true
				}
			}
		}
		return false
	})
}

// A payee whose only channel is private is paid by the hint in its invoice, whoever opened the channel; the hop is paid its fee and its
// reservation fee by the terms that it told the payee, and nobody hears of the channel.
func TestPrivateChannel(t *testing.T) {
	for name, payeeOpens := range map[string]bool{"the payee opens": true, "the hop opens": false} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, []string{"alice", "bob", "carol"}, func(w *world) {
				alice, bob, carol := w.nodes["alice"], w.nodes["bob"], w.nodes["carol"]
				public := w.open("alice", "bob", 60*types.Coin, 10*types.Coin)
				var private types.ChannelID
				if payeeOpens {
					private = w.openPrivate(carol, bob, 10*types.Coin, 60*types.Coin)
				} else {
					private = w.openPrivate(bob, carol, 60*types.Coin, 10*types.Coin)
				}
				alice.known(1)
				reserve, base := uint32(500_000), types.Amount(7000)
				if p := must(bob.SetTerms(w.ctx, private, ChannelTerms{Reserve: &reserve, Base: &base}, false)); p.Reserve != reserve || p.Base != base || p.Millionths != 1000 {
					t.Fatalf("terms %+v", p)
				}
				hint := func() (h htlc.RouteHint) {
					if list, _ := carol.hints(types.Coin, false); len(list) == 1 {
						h = list[0][0]
					}
					return h
				}
				w.until("carol knows bob's terms", func() bool { return hint().Reserve == reserve })
				if h := hint(); h.Node != bob.ID() || h.Channel != htlc.Short(private) || h.Base != base || h.PPM != 1000 || h.OnionKey != bob.onion.Key() {
					t.Errorf("hint %+v", h)
				}
				had := bob.mine(public) + bob.mine(private)
				p := alice.pay(carol.invoice(5*types.Coin), PaymentSucceeded)
				if p.Fee != base+5*types.Coin/1000 || p.Reserve <= 0 || len(p.Route) != 2 {
					t.Errorf("fee %s, reservation fee %s, route %v", p.Fee, p.Reserve, p.Route)
				}
				w.until("settled", func() bool {
					return alice.ready(public) && bob.ready(public) && bob.ready(private) && bob.mine(public) > 10*types.Coin
				})
				if earned := bob.mine(public) + bob.mine(private) - had; earned != p.Fee+p.Reserve {
					t.Errorf("bob earned %s, alice paid %s and %s", earned, p.Fee, p.Reserve)
				}
				if got := carol.mine(private); got != 15*types.Coin {
					t.Errorf("carol has %s", got)
				}
				carol.pay(alice.invoice(types.Coin), PaymentSucceeded) // and it sends
				for _, n := range w.nodes {
					n.crash()
					n.start()
				}
				w.until("links again", func() bool {
					return carol.ready(private) && bob.ready(private) && alice.ready(public) && hint().Reserve == reserve
				})
				alice.pay(carol.invoice(types.Coin), PaymentSucceeded)
				for _, n := range w.nodes {
					if n.announcer.isPublic(private) {
						t.Errorf("%s has heard of the private channel", n.name)
					}
				}
			})
		})
	}
}

// What the owner asks on one channel is announced, survives a restart, binds the next payment, and goes back to the settings.
func TestChannelTerms(t *testing.T) {
	inWorld(t, []string{"alice", "bob", "carol"}, func(w *world) {
		alice, bob, carol := w.nodes["alice"], w.nodes["bob"], w.nodes["carol"]
		w.open("alice", "bob", 60*types.Coin, 0)
		out := w.open("bob", "carol", 60*types.Coin, 0)
		alice.known(2)
		if p := alice.pay(carol.invoice(types.Coin), PaymentSucceeded); p.Fee != 1000+types.Coin/1000 || p.Reserve <= 0 {
			t.Errorf("fee %s and %s", p.Fee, p.Reserve)
		}
		millionths, reserve, least := uint32(5000), uint32(100), types.Coin/2
		must(bob.SetTerms(w.ctx, out, ChannelTerms{Millionths: &millionths, Reserve: &reserve, Min: &least}, false))
		alice.policyOf(out, bob, func(p route.Policy) bool { return p.Millionths == millionths && p.Reserve == reserve && p.Base == 1000 })
		if p := alice.pay(carol.invoice(types.Coin), PaymentSucceeded); p.Fee != 1000+types.Coin/200 || p.Reserve == 0 {
			t.Errorf("with terms: fee %s and %s", p.Fee, p.Reserve)
		}
		flow, why, err := alice.FindRoutes(RoutesRequest{To: carol.ID(), Amount: types.Coin})
		if err != nil || len(why) != 1 || flow.Fee != 1000+types.Coin/200 || why[0].Hops[0].Base != 1000 || why[0].Hops[0].Proportional != types.Coin/200 {
			t.Errorf("%+v, %+v, %v", flow, why, err)
		}
		if _, _, err := alice.FindRoutes(RoutesRequest{To: carol.ID(), Amount: least - 1}); err == nil {
			t.Error("a payment below the least amount has a way")
		}
		bob.crash()
		bob.start()
		w.until("bob is back", func() bool { return bob.ready(out) })
		if p, own, err := bob.Terms(out); err != nil || p.Millionths != millionths || own.Base != nil || own.Min == nil {
			t.Errorf("after a restart %+v, %+v, %v", p, own, err)
		}
		over := uint32(2_000_000)
		if _, err := bob.SetTerms(w.ctx, out, ChannelTerms{Millionths: &over}, false); err == nil {
			t.Error("a fee above the amount was taken")
		}
		must(bob.SetTerms(w.ctx, out, ChannelTerms{}, true))
		alice.policyOf(out, bob, func(p route.Policy) bool { return p.Millionths == 1000 && p.Reserve == testReserve })
		channels, nodes, encoded := alice.Scores()
		if len(channels) != 1 || len(nodes) != 1 || len(encoded) == 0 {
			t.Errorf("%d channels and %d nodes learnt", len(channels), len(nodes))
		}
		if n, err := carol.ImportScores(encoded); err != nil || n != 2 {
			t.Errorf("%d taken, %v", n, err)
		}
		if err := carol.announcer.saveScores(w.ctx); err != nil {
			t.Fatal(err)
		}
		carol.crash()
		carol.start()
		if list, _, again := carol.Scores(); len(list) != 1 || len(again) != len(encoded) {
			t.Errorf("%d channels known after a restart", len(list))
		}
		if _, err := carol.ImportScores(encoded[1:]); err == nil {
			t.Error("a damaged file was taken")
		}
	})
}
