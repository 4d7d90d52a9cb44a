package chand

import (
	"bytes"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/eschaton-network/chand/chand/tower"
	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/wire"
)

// useTower makes client use the daemon tower, and waits until it covers all channels.
func (w *world) useTower(client, tower *node, maxPrice types.Amount) {
	w.t.Helper()
	if _, err := client.UseTower(w.ctx, tower.ID(), "memory", maxPrice); err != nil {
		w.t.Fatal(err)
	}
	w.covered(client)
}

// covered waits until every tower of a node has the newest version of each of its channels.
func (w *world) covered(client *node) {
	w.t.Helper()
	w.until(client.name+"'s towers have everything", func() bool {
		for _, c := range client.Towers() {
			if c.Covered < c.Channels || c.Behind > 0 {
				return false
			}
		}
		return true
	})
}

// Mallory publishes a version from before she paid, while bob is off for longer than the dispute window. Bob's tower acts, for which it was
// paid, also when it has been restarted between.
func TestTowerActsForASleeper(t *testing.T) {
	for name, price := range map[string]types.Amount{"free": 0, "paid": types.Coin / 1000} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, []string{"mallory", "bob", "tina"}, func(w *world) {
				mallory, bob, tina := w.nodes["mallory"], w.nodes["bob"], w.nodes["tina"]
				tina.stop()
				tina.cfg.TowerServe, tina.cfg.TowerPrice = true, price
				tina.start()
				id := w.open("mallory", "bob", 50*types.Coin, 10*types.Coin)
				if price > 0 {
					w.open("bob", "tina", 10*types.Coin, 0)
				}
				old := mallory.store.Copy()
				mallory.pay(bob.invoice(30*types.Coin), PaymentSucceeded)
				w.useTower(bob, tina, price)
				mallory.pay(bob.invoice(1*types.Coin), PaymentSucceeded)
				w.covered(bob)
				before := bob.balance()
				bob.stop()
				mallory.stop()
				mallory.store, mallory.cfg.Redial = old, false
				tina.crash()
				tina.start()
				mallory.start()
				ctx, cancel := w.timeout()
				defer cancel()
				if _, err := mallory.Close(ctx, id, true); err != nil {
					t.Fatal(err)
				}
				w.until("settled", func() bool {
					c, err := tina.Chain.Contract(id)
					return err == nil && c.Settled != nil
				})
				bob.start()
				w.until("bob sees the end", func() bool { return bob.over(id) })
				if got := bob.balance() - before; got != 41*types.Coin {
					t.Errorf("bob got %s, want 41", got)
				}
				if list, _ := tina.Watched(); len(list) > 1 {
					t.Errorf("the tower keeps %+v, of which one is over", list)
				}
			})
		})
	}
}

// A tower takes only what it could publish, from whom it was paid, and never goes back to an older version.
func TestTowerRefuses(t *testing.T) {
	inWorld(t, []string{"alice", "bob", "tina"}, func(w *world) {
		alice, bob, tina := w.nodes["alice"], w.nodes["bob"], w.nodes["tina"]
		tina.stop()
		tina.cfg.TowerServe = true
		tina.start()
		id := w.open("alice", "bob", 50*types.Coin, 10*types.Coin)
		other := w.open("alice", "tina", 50*types.Coin, 10*types.Coin)
		refund := func(n *node, id types.ChannelID) []byte {
			for _, c := range n.towers.channels() {
				if c.ID == id {
					return must(c.Refund())
				}
			}
			t.Fatalf("%s has no channel %s", n.name, id)
			return nil
		}
		first := refund(bob, id)
		alice.pay(bob.invoice(types.Coin), PaymentSucceeded)
		second := refund(bob, id)
		ask := func(q wire.TowerRequest) wire.TowerAnswer {
			t.Helper()
			return must(wire.DecodeTowerAnswer(must(bob.dir.Ask(w.ctx, tina.ID(), tower.Protocol, q.Encode()))))
		}
		unsigned := bytes.Clone(second)
		unsigned[len(unsigned)/2] ^= 1
		for name, c := range map[string]struct {
			q    wire.TowerRequest
			want string
		}{
			"unknown contract":     {wire.TowerRequest{Kind: wire.TowerPut, Contract: types.Hash{1}, Refund: second}, "no contract"},
			"of another contract":  {wire.TowerRequest{Kind: wire.TowerPut, Contract: other, Refund: second}, "does not spend contract"},
			"changed":              {wire.TowerRequest{Kind: wire.TowerPut, Contract: id, Refund: unsigned}, "refund"},
			"nothing to be bought": {wire.TowerRequest{Kind: wire.TowerBuy, Contract: id, Blocks: 5}, "costs nothing"},
		} {
			if a := ask(c.q); !strings.Contains(a.Refused, c.want) {
				t.Errorf("%s: %+v, want a refusal with %q", name, a, c.want)
			}
		}
		if paid, err := tina.towers.paid(types.Hash{9}); paid || err != nil {
			t.Errorf("an invoice that was forgotten: paid %v, %v", paid, err)
		}
		version := uint32(0)
		for _, tx := range [][]byte{first, second, first} {
			a := ask(wire.TowerRequest{Kind: wire.TowerPut, Contract: id, Refund: tx})
			if a.Refused != "" || a.Version < version {
				t.Fatalf("%+v after version %d", a, version)
			}
			version = a.Version
		}
		for range 100 {
			if a := ask(wire.TowerRequest{Kind: wire.TowerTerms, Contract: id}); strings.Contains(a.Refused, "too many requests") {
				return
			}
		}
		t.Error("a hundred requests in a moment are answered")
	})
}

// The towers of a busy channel do not wait for blocks.
func TestTowerFollowsUpdates(t *testing.T) {
	inWorld(t, []string{"alice", "bob", "tina"}, func(w *world) {
		alice, bob, tina := w.nodes["alice"], w.nodes["bob"], w.nodes["tina"]
		tina.stop()
		tina.cfg.TowerServe = true
		tina.start()
		bob.stop()
		bob.cfg.TowerEvery = 4
		bob.start()
		w.open("alice", "bob", 50*types.Coin, 10*types.Coin)
		w.useTower(bob, tina, 0)
		height := bob.Height()
		for range 20 {
			alice.pay(bob.invoice(types.Coin/1000), PaymentSucceeded)
			synctest.Wait()
			if v := bob.Towers()[0]; v.Behind > 4 {
				t.Fatalf("the tower is %d updates behind", v.Behind)
			}
		}
		if now := bob.Height(); now > height+2 {
			t.Fatalf("%d blocks passed: this test shows nothing", now-height)
		}
	})
}

// A client that publishes an old version of its own channel and gives the tower one newer version after the other makes it pay for a few
// transactions, and no more.
func TestTowerPaysForFewVersions(t *testing.T) {
	inWorld(t, []string{"alice", "bob", "tina"}, func(w *world) {
		alice, bob, tina := w.nodes["alice"], w.nodes["bob"], w.nodes["tina"]
		tina.stop()
		tina.cfg.TowerServe = true
		tina.start()
		id := w.open("alice", "bob", 50*types.Coin, 10*types.Coin)
		old := alice.store.Copy()
		var refunds [][]byte
		for range 8 {
			alice.pay(bob.invoice(types.Coin), PaymentSucceeded)
			refunds = append(refunds, must(bob.towers.channels()[0].Refund()))
		}
		bob.stop()
		alice.stop()
		alice.store, alice.cfg.Redial = old, false
		alice.start()
		ctx, cancel := w.timeout()
		defer cancel()
		if _, err := alice.Close(ctx, id, true); err != nil {
			t.Fatal(err)
		}
		dir := w.dht.Node(bob.seed.NodeID())
		defer dir.Close()
		posted := func() uint32 {
			c, err := tina.Chain.Contract(id)
			if err != nil || c.Posted == nil {
				return 0
			}
			return c.Posted.Version
		}
		w.until("alice has posted", func() bool { return posted() != 0 })
		for i, refund := range refunds {
			q := wire.TowerRequest{Kind: wire.TowerPut, Contract: id, Refund: refund}
			a := must(wire.DecodeTowerAnswer(must(dir.Ask(w.ctx, tina.ID(), tower.Protocol, q.Encode()))))
			if i < 4 {
				w.until("the tower has acted", func() bool { return a.Refused == "" && posted() == a.Version })
			} else if before := posted(); !strings.Contains(a.Refused, "its most") {
				t.Errorf("version %d of the client's on top of %d: %+v", i+1, before, a)
			}
		}
	})
}
