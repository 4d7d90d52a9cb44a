package route

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/eschaton-network/chand/htlc"
	"github.com/eschaton-network/chand/types"
)

// diamond has two equal ways from 0 to 3: over 1 and over 2.
func diamond() (*world, Request) {
	w := newWorld(4)
	for i, ends := range [][2]int{{0, 1}, {1, 3}, {0, 2}, {2, 3}} {
		w.connect(i, ends[0], ends[1], 1000*types.Coin, testTiming, fee(10, 0), fee(10, 0))
	}
	return w, Request{Source: w.nodes[0], Target: w.nodes[3], Amount: types.Coin, Locals: w.locals(0), MaxFee: types.Coin, Penalties: NewPenalties(), Now: 1_000_000}
}

func TestLearning(t *testing.T) {
	w, r := diamond()
	find := func() Route {
		t.Helper()
		got, err := w.FindRoute(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	first := find()
	busy := htlc.NewFailure(htlc.TemporaryChannelFailure, first.Hops[1].Channel, "")
	if !r.Penalties.Failed(&first, 0, busy, false, r.Now) {
		t.Error("another path can help")
	}
	second := find()
	if second.Hops[0].Node == first.Hops[0].Node {
		t.Fatal("the channel that failed was used again")
	}
	if first.Hops[1].RiskCost >= r.Amount/100 {
		t.Errorf("risk %s before anything failed", first.Hops[1].RiskCost)
	}
	r.Penalties.Failed(&second, 0, busy, false, r.Now+HalfLife/2)
	r.Now += HalfLife / 2
	if got := find(); got.Hops[0].Node != first.Hops[0].Node {
		t.Error("the older failure counts more than the newer")
	}
	r.Now += 11 * HalfLife
	r.Penalties.Forget(r.Now)
	if r.Penalties.Len() != 0 || find().Cost != first.Cost {
		t.Errorf("%d experiences left after many half-lives", r.Penalties.Len())
	}
}

func TestWhoIsBlamed(t *testing.T) {
	w, r := diamond()
	route, err := w.FindRoute(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	other := types.SHA256([]byte("somebody else's channel"))
	for _, c := range []struct {
		name            string
		index           int
		code            htlc.Code
		updated         bool
		retry           bool
		channels, nodes int
	}{
		{"channel", 0, htlc.TemporaryChannelFailure, false, true, 1, 0},
		{"old fee, new policy known", 0, htlc.FeeInsufficient, true, true, 0, 0},
		{"old fee, no new policy", 0, htlc.FeeInsufficient, false, true, 1, 0},
		{"node", 0, htlc.TemporaryNodeFailure, false, true, 0, 1},
		{"payee refuses", 1, htlc.IncorrectOrUnknownPaymentDetails, false, false, 1, 0},
		{"payee behind", 1, htlc.TemporaryNodeFailure, false, true, 1, 0},
		{"garbled", -1, 0, false, true, 0, 1},
		{"out of range", 7, 0, false, true, 0, 1},
	} {
		p := NewPenalties()
		retry := p.Failed(&route, c.index, htlc.NewFailure(c.code, other, ""), c.updated, r.Now)
		if retry != c.retry || len(p.channels) != c.channels || len(p.nodes) != c.nodes {
			t.Errorf("%s: retry %v, %d channels, %d nodes", c.name, retry, len(p.channels), len(p.nodes))
		}
		for d := range p.channels {
			if d.Channel == other {
				t.Errorf("%s: a channel was blamed that is not on the route", c.name)
			}
		}
	}
}

// What was learnt moves the odds the right way and fades; amounts below a failure are better off than those above, and a success
// makes what it carried safer.
func TestOdds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		capacity := types.Amount(rapid.Int64Range(1000, 1<<40).Draw(t, "capacity"))
		amount := types.Amount(rapid.Int64Range(1, int64(capacity)).Draw(t, "amount"))
		now := types.Time(rapid.Int64Range(1, 20*HalfLife).Draw(t, "now"))
		prior := odds(amount, capacity)
		failed := experience{failAmount: types.Amount(rapid.Int64Range(1, int64(capacity)).Draw(t, "failed")), failAt: 1}
		passed := experience{okAmount: types.Amount(rapid.Int64Range(1, int64(capacity)).Draw(t, "passed")), okAt: 1}
		f, s := failed.odds(amount, prior, now), passed.odds(amount, prior, now)
		if f < prior || s > prior || f > maxOdds {
			t.Fatalf("prior %d, failed %d, passed %d", prior, f, s)
		}
		if later := failed.odds(amount, prior, now+HalfLife); later > f {
			t.Fatalf("odds %d rise to %d with time", f, later)
		}
		if amount > 1 && failed.odds(amount-1, odds(amount-1, capacity), now) > f {
			t.Fatal("a smaller amount has worse odds")
		}
		if now > 10*HalfLife+1 && (f != prior || s != prior) {
			t.Fatalf("%d and %d after ten half-lives, prior %d", f, s, prior)
		}
	})
}

func TestPenaltiesAreBounded(t *testing.T) {
	p := NewPenalties()
	for i := range 3 * MaxPenalties {
		now := types.Time(1_000_000 + i)
		p.failure(Hop{Channel: testChannel(i), Amount: 5}, false, now)
		p.bound(now)
	}
	if p.Len() > MaxPenalties || p.Len() == 0 {
		t.Errorf("%d experiences", p.Len())
	}
	if _, ok := p.channels[Directed{Channel: testChannel(3*MaxPenalties - 1)}]; !ok {
		t.Error("the newest was dropped")
	}
}
