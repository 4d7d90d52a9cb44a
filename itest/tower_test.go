package itest

import (
	"testing"

	"github.com/eschaton-network/chand/internal/devnet"
	chandv1 "github.com/eschaton-network/chand/rpc/gen/chand/v1"
	"github.com/eschaton-network/chand/types"
)

// TestTowerActsWhileItsClientIsOff lets mallory publish a version from before she paid, and the whole dispute window pass while bob is off. His
// watchtower, which he pays, answers for him; it is killed and started between.
func TestTowerActsWhileItsClientIsOff(t *testing.T) {
	n := newNetwork(t, "--ledger-block-time", "200ms", "--channel-downtime", "20", "--channel-window", "40", "--tower-serve", "--tower-price", "0.001")
	d := n.joined("mallory", "bob", "tina")
	mallory, bob, tina := d[0], d[1], d[2]
	n.open(bob, tina, "5", "0")
	id := n.open(mallory, bob, "50", "10")
	if err := mallory.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := devnet.CopyHome(mallory.Home, mallory.Home+"-old"); err != nil {
		t.Fatal(err)
	}
	if err := mallory.Restart(n.ctx()); err != nil {
		t.Fatal(err)
	}
	self := must(tina.Peers.Self(n.ctx(), &chandv1.SelfRequest{}))
	if v, err := bob.Towers.Add(n.ctx(), &chandv1.AddTowerRequest{Address: self.Addresses[0]}); err == nil {
		t.Errorf("a tower that costs more than allowed is used: %v", v)
	}
	must(bob.Towers.Add(n.ctx(), &chandv1.AddTowerRequest{Address: self.Addresses[0], MaxPrice: "0.001"}))
	n.pay(mallory, bob, "30")
	n.until("the tower has bob's newest versions", func() bool {
		v := must(bob.Towers.List(n.ctx(), &chandv1.ListTowersRequest{})).Towers[0]
		return v.Covered == v.Channels && v.Channels == 2 && v.Behind == 0
	})
	if err := mallory.Stop(); err != nil {
		t.Fatal(err)
	}
	bobBefore := n.account(bob)
	if err := bob.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := tina.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := tina.Restart(n.ctx()); err != nil {
		t.Fatal(err)
	}
	old := n.start("mallory-old", "--ledger-join", n.join, "--peer-dial=false")
	malloryBefore := n.account(old)
	must(old.Channels.Close(n.ctx(), &chandv1.CloseChannelRequest{Id: id, Force: true}))
	n.state(old, id, "closed") // bob has slept through all of it
	if err := bob.Restart(n.ctx()); err != nil {
		t.Fatal(err)
	}
	n.state(bob, id, "closed")
	for _, c := range []struct {
		who       string
		got, want types.Amount
	}{
		{"bob", n.account(bob) - bobBefore, 40 * types.Coin},
		{"mallory", n.account(old) - malloryBefore, 20 * types.Coin},
	} {
		if c.got > c.want || c.got < c.want-types.Coin/100 {
			t.Errorf("%s got %s of the channel, want %s less a small fee", c.who, c.got, c.want)
		}
	}
	w := must(tina.Towers.Watched(n.ctx(), &chandv1.WatchedRequest{}))
	if len(w.Contracts) != 1 || w.Contracts[0].Client != must(bob.Peers.Self(n.ctx(), &chandv1.SelfRequest{})).Id {
		t.Errorf("the tower watches %v, want bob's other channel alone", w.Contracts)
	}
}
