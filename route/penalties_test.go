package route

import (
	"bytes"
	"errors"
	"math"
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
		{"channel", 0, htlc.TemporaryChannelFailure, false, true, 1, 1},
		{"old fee, new policy known", 0, htlc.FeeInsufficient, true, true, 0, 0},
		{"old fee, no new policy", 0, htlc.FeeInsufficient, false, true, 1, 1},
		{"node", 0, htlc.TemporaryNodeFailure, false, true, 0, 1},
		{"payee refuses", 1, htlc.IncorrectOrUnknownPaymentDetails, false, false, 1, 1},
		{"payee behind", 1, htlc.TemporaryNodeFailure, false, true, 1, 1},
		{"garbled", -1, 0, false, true, 0, 1},
		{"out of range", 7, 0, false, true, 0, 1},
	} {
		p := NewPenalties()
		retry := p.Failed(&route, c.index, htlc.NewFailure(c.code, other, ""), c.updated, r.Now)
		if retry != c.retry || len(p.channels) != c.channels || len(p.nodes) != c.nodes {
			t.Errorf("%s: retry %v, %d channels, %d nodes", c.name, retry, len(p.channels), len(p.nodes))
		}
		for id := range p.channels {
			if id == other {
				t.Errorf("%s: a channel was blamed that is not on the route", c.name)
			}
		}
	}
}

// The logarithm in integers is the real one, never falls, and is the same for all machines.
func TestNats(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		den := rapid.Uint64Range(1, 1<<62).Draw(t, "den")
		num := rapid.Uint64Range(den, 1<<62).Draw(t, "num")
		got, want := float64(nats(num, den))/natOne, math.Log(float64(num))-math.Log(float64(den))
		if math.Abs(got-want) > 3e-4 {
			t.Fatalf("ln(%d/%d) = %v, not %v", num, den, want, got)
		}
		if x := rapid.Uint64Range(1, 1<<63).Draw(t, "x"); log2(x) > log2(x+1) {
			t.Fatalf("log2 falls after %d", x)
		}
	})
	if log2(1<<20) != 20<<16 || log2(3) != 103872 {
		t.Errorf("log2: %d %d", log2(1<<20), log2(3))
	}
}

// What was learnt moves the odds the right way and fades; one direction learns what the other does; whatever happens the
// bounds stay in order, and nothing that was just seen to pass is thought impossible.
func TestBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		capacity := types.Amount(rapid.Int64Range(2, 1<<40).Draw(t, "capacity"))
		b, now := bounds{capacity: capacity, high: capacity}, types.Time(1_000_000)
		truth := types.Amount(rapid.Int64Range(0, int64(capacity)).Draw(t, "balance"))
		for range rapid.IntRange(1, 12).Draw(t, "payments") {
			now += types.Time(rapid.IntRange(0, 2*HalfLife).Draw(t, "pause"))
			amount := types.Amount(rapid.Int64Range(1, int64(capacity)).Draw(t, "amount"))
			turn := rapid.Bool().Draw(t, "turned")
			have := truth
			if turn {
				b, have = b.turned(), capacity-truth
			}
			before := b.seen(now)
			switch {
			case amount > have:
				b.atMost(amount-1, now)
				if s := b.seen(now); s.nats(0, amount) != maxNats {
					t.Fatalf("%d just failed, %+v", amount, s)
				}
			case rapid.Bool().Draw(t, "settles"):
				b.moved(amount, now)
				have -= amount
				if s := b.turned().seen(now); s.nats(0, amount) != 0 {
					t.Fatalf("%d just came, %+v", amount, s)
				}
			default:
				b.atLeast(amount, now)
				if s := b.seen(now); s.nats(0, amount) != 0 || before.nats(0, amount) != maxNats && s.high < before.high {
					t.Fatalf("%d just passed, %+v", amount, s)
				}
			}
			if turn {
				b, truth = b.turned(), capacity-have
			} else {
				truth = have
			}
			if b.low < 0 || b.low > b.high || b.high > capacity || b.low > truth || b.high < truth {
				t.Fatalf("%+v with a balance of %d", b, truth)
			}
			if s := b.turned().seen(now); s.low < 0 || s.low > s.high || s.high > capacity {
				t.Fatalf("%+v is seen as %+v", b.turned(), s)
			}
		}
		if s := b.seen(now + 11*HalfLife); s != (span{0, capacity}) {
			t.Fatalf("%+v after many half-lives", s)
		}
	})
}

// A larger amount never has better odds, and the odds of two amounts one after the other are those of both at once.
func TestSpanOdds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		high := types.Amount(rapid.Int64Range(1, 1<<40).Draw(t, "high"))
		s := span{types.Amount(rapid.Int64Range(0, int64(high)).Draw(t, "low")), high}
		a := types.Amount(rapid.Int64Range(0, int64(high)).Draw(t, "a"))
		b := types.Amount(rapid.Int64Range(0, int64(high-a)).Draw(t, "b"))
		one, two, both := s.nats(0, a), s.nats(a, b), s.nats(0, a+b)
		if one > both || both < maxNats && one < maxNats && two < maxNats && diff(one+two, both) > 8 {
			t.Fatalf("%d, then %d, at once %d", one, two, both)
		}
		if a <= s.low && one != 0 || s.nats(0, high+1) != maxNats {
			t.Fatalf("%+v: %d", s, one)
		}
	})
}

// A node whose channels fail counts as worse than one that carries what it is given.
func TestConduct(t *testing.T) {
	w, r := diamond()
	first, err := w.FindRoute(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Penalties.Failed(&first, 0, htlc.NewFailure(htlc.TemporaryNodeFailure, types.ChannelID{}, ""), false, r.Now)
	second, err := w.FindRoute(r, nil)
	if err != nil || second.Hops[0].Node == first.Hops[0].Node {
		t.Fatalf("%+v, %v: the node that failed is used again", second, err)
	}
	bad := r.Penalties.nodes[first.Hops[0].Node].nats(r.Now)
	for range 9 {
		r.Penalties.Succeeded(&first, r.Now)
	}
	if better := r.Penalties.nodes[first.Hops[0].Node].nats(r.Now); better >= bad || bad != nodeNats {
		t.Errorf("%d after nine successes, %d before", better, bad)
	}
}

// Scores are encoded in one way, and what was decoded gives the same routes.
func TestScores(t *testing.T) {
	w, r := diamond()
	first, _ := w.FindRoute(r, nil)
	r.Penalties.Failed(&first, 0, htlc.NewFailure(htlc.TemporaryChannelFailure, types.ChannelID{}, ""), false, r.Now)
	want, _ := w.FindRoute(r, nil)
	text := r.Penalties.Encode()
	p, err := DecodePenalties(text)
	if err != nil || !bytes.Equal(p.Encode(), text) {
		t.Fatalf("%v", err)
	}
	r.Penalties = NewPenalties()
	if n := r.Penalties.Import(p, r.Now); n != p.Len() || n == 0 {
		t.Errorf("%d entries taken of %d", n, p.Len())
	}
	if r.Penalties.Import(p, r.Now) != 0 {
		t.Error("the same was taken twice")
	}
	if got, err := w.FindRoute(r, nil); err != nil || got.Hops[0].Node != want.Hops[0].Node {
		t.Errorf("%+v, %v", got, err)
	}
	for _, cut := range [][]byte{nil, text[:4], text[:len(text)-1], append(bytes.Clone(text), 0)} {
		if _, err := DecodePenalties(cut); !errors.Is(err, ErrScores) {
			t.Errorf("%d bytes: %v", len(cut), err)
		}
	}
}

func FuzzDecodePenalties(f *testing.F) {
	w, r := diamond()
	first, _ := w.FindRoute(r, nil)
	f.Add(NewPenalties().Encode())
	r.Penalties.Succeeded(&first, r.Now)
	f.Add(r.Penalties.Encode())
	r.Penalties.Garbled(&first, r.Now)
	f.Add(r.Penalties.Encode())
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := DecodePenalties(data)
		if err == nil && !bytes.Equal(p.Encode(), data) {
			t.Fatalf("%x encodes to %x", data, p.Encode())
		}
		if err == nil {
			r := r
			r.Penalties = p
			if _, err := w.FindRoute(r, nil); err != nil {
				t.Fatalf("no route with these scores: %v", err)
			}
		}
	})
}

func TestPenaltiesAreBounded(t *testing.T) {
	p := NewPenalties()
	for i := range 3 * MaxPenalties {
		now := types.Time(1_000_000 + i)
		p.learn(Hop{Channel: testChannel(i), Amount: 5, capacity: 10}, now, func(b *bounds) { b.atMost(4, now) })
		p.bound(now)
	}
	if p.Len() > MaxPenalties || p.Len() == 0 {
		t.Errorf("%d experiences", p.Len())
	}
	if _, ok := p.channels[testChannel(3*MaxPenalties-1)]; !ok {
		t.Error("the newest was dropped")
	}
}
