package itest

import (
	"testing"

	"github.com/eschaton-network/chand/internal/devnet"
	chandv1 "github.com/eschaton-network/chand/rpc/gen/chand/v1"
	"github.com/eschaton-network/chand/types"
)

// TestOldVersionWhileVictimSleeps lets mallory publish a version from before she paid, while bob is down for as long as his
// channel.downtime allows. Bob must have all that is his.
func TestOldVersionWhileVictimSleeps(t *testing.T) {
	// Slower blocks than elsewhere: the twenty seconds that are left to bob are enough to start in on a busy machine.
	n := newNetwork(t, "--ledger-block-time", "500ms", "--channel-downtime", "56", "--channel-window", "100")
	d := n.joined("mallory", "bob")
	mallory, bob := d[0], d[1]
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
	n.pay(mallory, bob, "30")
	if err := mallory.Stop(); err != nil {
		t.Fatal(err)
	}
	bobBefore := n.account(bob)
	if err := bob.Kill(); err != nil {
		t.Fatal(err)
	}
	old := n.start("mallory-old", "--ledger-join", n.join, "--peer-dial=false")
	malloryBefore := n.account(old)
	must(old.Channels.Close(n.ctx(), &chandv1.CloseChannelRequest{Id: id, Force: true}))
	n.state(old, id, "disputed")
	// channel-downtime is 56 of the window's 100 blocks, so bob must be back when 44 are left; his start takes some of them.
	n.until("bob has slept nearly as long as he may", func() bool {
		left := n.channel(old, id).Deadline.GetBlocksLeft()
		return left > 0 && left <= 44
	})
	if err := bob.Restart(n.ctx()); err != nil {
		t.Fatal(err)
	}
	n.state(bob, id, "closed")
	n.state(old, id, "closed")
	// Each may have paid the ledger's fee for publishing; it is far below a hundredth of a coin.
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
}
