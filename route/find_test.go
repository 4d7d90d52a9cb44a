package route

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/eschaton-network/chand/htlc"
	"github.com/eschaton-network/chand/types"
)

// drawWorld makes a small graph and a request over it. With freeFees no policy has a proportional fee.
func drawWorld(t *rapid.T, proportional bool) (*world, Request) {
	n := rapid.IntRange(2, 6).Draw(t, "nodes")
	w := newWorld(n)
	policy := func(label string) Policy {
		p := Policy{Base: types.Amount(rapid.IntRange(0, 500).Draw(t, label+" base")), Delta: uint32(rapid.IntRange(0, 100).Draw(t, label+" delta")),
			Min: types.Amount(rapid.SampledFrom([]int{0, 1, 50_000}).Draw(t, label+" min")), Max: types.MaxAmount,
			Disabled: rapid.IntRange(0, 9).Draw(t, label+" disabled") == 0}
		if proportional {
			p.Millionths = uint32(rapid.IntRange(0, 20_000).Draw(t, label+" rate"))
			p.Reserve = uint32(rapid.SampledFrom([]int{0, 1, 30_000, MaxReserve}).Draw(t, label+" reserve"))
			p.Max = types.Amount(rapid.IntRange(50_000, 500_000).Draw(t, label+" max"))
		}
		return p
	}
	for c := range rapid.IntRange(1, 10).Draw(t, "channels") {
		i := rapid.IntRange(0, n-1).Draw(t, "i")
		j := rapid.IntRange(0, n-1).Draw(t, "j")
		if i == j {
			continue
		}
		capacity := types.Amount(rapid.IntRange(20_000, 400_000).Draw(t, "capacity"))
		timing := testTiming
		timing.Window += uint32(rapid.IntRange(0, 50).Draw(t, "window"))
		w.connect(c, i, j, capacity, timing, policy("i"), policy("j"))
	}
	r := Request{Source: w.nodes[0], Target: w.nodes[n-1], Amount: types.Amount(rapid.IntRange(1, 100_000).Draw(t, "amount")),
		FinalDelta: uint32(rapid.IntRange(0, 100).Draw(t, "final delta")), Height: 1000, Locals: w.locals(0), MaxFee: types.MaxAmount,
		Cost: Cost{LockTrillionths: 1_000_000, Attempt: 100}}
	return w, r
}

// path is a candidate of the brute force: channels in order from the payer.
type path []*known

// paths lists every path from the payer to the payee that meets no node twice.
func (w *world) paths(from, to types.NodeID, seen []types.NodeID) (out []path) {
	if from == to {
		return []path{nil}
	}
	seen = append(slices.Clone(seen), from)
	for _, e := range w.edgeAt {
		k := &w.known[e]
		side := k.ann.side(from)
		if side < 0 || slices.Contains(seen, k.ann.Nodes[1-side]) {
			continue
		}
		for _, rest := range w.paths(k.ann.Nodes[1-side], to, seen) {
			out = append(out, append(path{k}, rest...))
		}
	}
	return out
}

// price walks a path backwards with the public rules alone: policies, timings, capacities.
func price(p path, r Request) (fees types.Amount, cost uint64, first types.Height, ok bool) {
	from := []types.NodeID{r.Source}
	for _, k := range p {
		from = append(from, k.ann.Nodes[1-k.ann.side(from[len(from)-1])])
	}
	amount, asked, expiry, delta := r.Amount, types.Amount(0), types.Height(0), uint32(0)
	for i := len(p) - 1; i >= 0; i-- {
		k := p[i]
		pol := k.policies[k.ann.side(from[i])]
		grown := max(delta, k.ann.Timing.ForwardDelta())
		if i == len(p)-1 {
			grown = max(r.FinalDelta, uint32(k.ann.Timing.MinExpiry(0))) + DefaultSlack
			expiry = r.Height
		}
		expiry += types.Height(grown)
		if amount+asked > k.ann.Capacity || i > 0 && (pol.Disabled || amount < pol.Min || amount > pol.Max) {
			return 0, 0, 0, false
		}
		lock, _ := amount.MulDiv(r.Cost.LockTrillionths*uint64(grown), 1e12)
		cost += uint64(lock)
		delta = pol.Delta
		if i > 0 {
			fee, _ := pol.Fee(amount)
			reserve := pol.Ask(amount, uint32(expiry-r.Height)+DefaultSlack)
			odds := min(8, math.Log(float64(k.ann.Capacity+1)/float64(k.ann.Capacity-amount+1)))
			attempt := float64(r.Cost.Attempt) + float64(r.Amount)*float64(r.Cost.AttemptMillionths)/1e6
			cost += uint64(fee+reserve) + uint64(attempt*odds)
			amount += fee
			asked += reserve
		}
	}
	return amount + asked - r.Amount, cost, expiry, true
}

// Where costs do not depend on the amount's small changes (no proportional fees: base fees only), the search is exact. So is the fee where
// fees are all that counts. With proportional fees and other costs mixed it stays within a percent.
func TestOptimal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		feesOnly := rapid.Bool().Draw(t, "fees only")
		w, r := drawWorld(t, feesOnly)
		if feesOnly {
			r.Cost = Cost{LockTrillionths: 0, Attempt: 0, AttemptMillionths: 0}
			r.Cost.Attempt = -1 // not the zero value, counts as none
		} else {
			r.Cost = Cost{LockTrillionths: 0, Attempt: -1}
		}
		for _, list := range w.known { // minimums make a dearer beginning pass where a cheaper does not: TestLimitsHold covers them
			for _, p := range list.policies {
				p.Min, p.Max, p.Reserve = 0, types.MaxAmount, 0
			}
		}
		for e := range w.edges {
			for i := range 2 {
				w.edges[e].terms[i].min, w.edges[e].terms[i].max, w.edges[e].terms[i].reserve = 0, types.MaxAmount, 0
			}
		}
		best, any := uint64(0), false
		for _, p := range w.paths(r.Source, r.Target, nil) {
			r.Cost.Attempt = 0
			_, cost, _, ok := price(p, r)
			r.Cost.Attempt = -1
			if ok && (!any || cost < best) {
				best, any = cost, true
			}
		}
		got, err := w.FindRoute(r, nil)
		if any != (err == nil) {
			t.Fatalf("brute force found %v, search %v", any, err)
		}
		if any && got.Cost != best {
			t.Fatalf("cost %d, the best is %d", got.Cost, best)
		}
	})
}

// With every cost mixed, a route is found whenever one exists (no limit binds), its cost is the sum that it says, and it is
// close to the best.
func TestNearOptimal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, r := drawWorld(t, true)
		best, any := uint64(0), false
		for _, p := range w.paths(r.Source, r.Target, nil) {
			if _, cost, _, ok := price(p, r); ok && (!any || cost < best) {
				best, any = cost, true
			}
		}
		got, err := w.FindRoute(r, nil)
		if err == nil && !any {
			t.Fatalf("found %+v, which the rules forbid", got)
		}
		if err == nil {
			_, cost, _, ok := price(w.pathOf(got), r)
			if !ok || diff(cost, got.Cost) > 2*uint64(len(got.Hops))+cost/1000 { // roundings
				t.Fatalf("cost %d, by the rules %d, %v", got.Cost, cost, ok)
			}
			if got.Cost > best+best/20+2*uint64(len(got.Hops)) {
				t.Fatalf("cost %d, the best is %d", got.Cost, best)
			}
		}
	})
}

func diff(a, b uint64) uint64 { return max(a, b) - min(a, b) }

func (w *world) pathOf(r Route) (p path) {
	for _, h := range r.Hops {
		p = append(p, &w.known[w.edgeAt[h.Channel]])
	}
	return p
}

// A found route keeps every limit, passes the forwarding check at every hop with the payloads of its onion, and excluded channels
// are not on it. When a limit is set below what the best path needs, a path within it is found if one exists by that limit alone.
func TestLimitsHold(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, r := drawWorld(t, true)
		r.MaxFee = types.Amount(rapid.IntRange(0, 3000).Draw(t, "max fee"))
		r.MaxHops = rapid.IntRange(1, 6).Draw(t, "max hops")
		r.MaxAhead = uint32(rapid.IntRange(50, 600).Draw(t, "max ahead"))
		r.Penalties = NewPenalties()
		for _, e := range w.edgeAt {
			if rapid.IntRange(0, 5).Draw(t, "exclude") == 0 {
				r.ExcludeChannels = append(r.ExcludeChannels, Directed{w.known[e].ann.Channel, uint8(rapid.IntRange(0, 1).Draw(t, "dir"))})
			}
		}
		got, err := w.FindRoute(r, nil)
		if err != nil {
			var why *NoRouteError
			if !errors.As(err, &why) || why.Why == "" || why.Text == "" {
				t.Fatalf("error %v", err)
			}
			return
		}
		if got.Fee+got.Reserve > r.MaxFee || got.Fee != got.Amount-r.Amount || len(got.Hops) > r.MaxHops || got.Hops[0].Expiry > r.Height+types.Height(r.MaxAhead) {
			t.Fatalf("limits %d %d %d: %+v", r.MaxFee, r.MaxHops, r.MaxAhead, got)
		}
		for i := range got.Hops {
			if slices.Contains(r.ExcludeChannels, got.Directed(i)) {
				t.Fatalf("hop %d was excluded", i)
			}
		}
		// The checks happen up to DefaultSlack blocks later.
		w.forwardAll(t, got, r.Height+types.Height(rapid.IntRange(0, DefaultSlack).Draw(t, "blocks later")), r.MaxAhead+DefaultSlack)
	})
}

// forwardAll plays a route: each hop checks what it was sent against its own policy.
func (w *world) forwardAll(t rapid.TB, r Route, now types.Height, ahead uint32) {
	onion := r.Onion(htlc.Payload{Kind: htlc.Invoice})
	view := View{Height: now, Fresh: true, MaxAhead: ahead}
	for i, h := range r.Hops {
		in := LockIn{Channel: h.Channel, Amount: h.Amount, Reserve: h.Reserve, Expiry: h.Expiry, Timing: w.known[w.edgeAt[h.Channel]].ann.Timing}
		p := onion[i].Payload
		if err := p.Check(); err != nil {
			t.Fatal(err)
		}
		if i == len(r.Hops)-1 {
			if f := CheckFinal(in, p, view); f != nil {
				t.Fatalf("the payee refuses: %v", f)
			}
			return
		}
		k := &w.known[w.edgeAt[r.Hops[i+1].Channel]]
		dir, ok := k.ann.Direction(h.Node)
		if !ok {
			t.Fatalf("hop %d does not own the next channel", i)
		}
		out := LockOut{Channel: k.ann.Channel, Policy: k.policies[dir], CanSend: k.ann.Capacity, Online: true, Timing: k.ann.Timing}
		if f := CheckForward(in, p, out, view); f != nil {
			t.Fatalf("hop %d refuses: %v", i, f)
		}
		if h.Fee != h.Amount-r.Hops[i+1].Amount {
			t.Fatalf("hop %d keeps %d, the route says %d", i, h.Amount-r.Hops[i+1].Amount, h.Fee)
		}
	}
}

// A limit alone that cuts off the path of least cost does not hide a path within it.
func TestLimitFindsAnotherPath(t *testing.T) {
	// 0-1-4 is cheap in cost but dear in fees; 0-2-3-4 has no fees but is long.
	w := newWorld(5)
	w.connect(1, 0, 1, types.Coin, testTiming, fee(0, 0), fee(0, 0))
	w.connect(2, 1, 4, types.Coin, testTiming, fee(500, 0), fee(0, 0))
	w.connect(3, 0, 2, types.Coin, testTiming, fee(0, 0), fee(0, 0))
	w.connect(4, 2, 3, types.Coin, testTiming, fee(0, 0), fee(0, 0))
	w.connect(5, 3, 4, types.Coin, testTiming, fee(0, 0), fee(0, 0))
	r := Request{Source: w.nodes[0], Target: w.nodes[4], Amount: 1000, Locals: w.locals(0), MaxFee: 2000, Cost: Cost{LockTrillionths: 100_000_000_000}}
	for _, c := range []struct {
		name   string
		change func(*Request)
		hops   int
		why    Why
	}{
		{"no limit binds", func(*Request) {}, 2, ""},
		{"fee", func(r *Request) { r.MaxFee = 499 }, 3, ""},
		{"hops", func(r *Request) { r.MaxHops = 2; r.Cost = Cost{Attempt: 1} }, 2, ""},
		{"expiry", func(r *Request) { r.MaxAhead = 100; r.Cost = Cost{Attempt: 1} }, 2, ""},
		{"fee and hops", func(r *Request) { r.MaxFee, r.MaxHops = 499, 2 }, 0, FeeAboveLimit},
		{"hops alone", func(r *Request) { r.MaxHops = 1 }, 0, TooManyHops},
		{"expiry alone", func(r *Request) { r.MaxAhead = 60 }, 0, ExpiryTooFar},
		{"node excluded", func(r *Request) { r.ExcludeNodes = []types.NodeID{w.nodes[1]} }, 3, ""},
		{"both excluded", func(r *Request) { r.ExcludeNodes = []types.NodeID{w.nodes[1], w.nodes[2]} }, 0, AllExcluded},
		{"too big", func(r *Request) { r.Amount = types.Coin + 1; r.Locals[0].CanSend *= 3; r.Locals[1].CanSend *= 3 }, 0, AmountTooBig},
		{"balance", func(r *Request) { r.Amount = types.Coin * 5 }, 0, NoBalance},
		{"no channel", func(r *Request) { r.Locals = nil }, 0, NoChannel},
		{"unknown payee", func(r *Request) { r.Target = plainNode(99) }, 0, UnknownPayee},
		{"self", func(r *Request) { r.Target = r.Source }, 0, BadRequest},
		{"nothing", func(r *Request) { r.Amount = 0 }, 0, BadRequest},
		{"not connected", func(r *Request) { r.Locals = []Local{{Channel: testChannel(77), Peer: plainNode(77), CanSend: 9999}} }, 0, NoPath},
	} {
		req := r
		req.Locals = slices.Clone(r.Locals)
		c.change(&req)
		got, err := w.FindRoute(req, nil)
		var why *NoRouteError
		if c.why == "" && (err != nil || len(got.Hops) != c.hops) {
			t.Errorf("%s: %d hops, %v, want %d", c.name, len(got.Hops), err, c.hops)
		}
		if c.why != "" && (!errors.As(err, &why) || why.Why != c.why) {
			t.Errorf("%s: %v, want %s", c.name, err, c.why)
		}
	}
	small := newWorld(3)
	small.connect(1, 0, 1, types.Coin, testTiming, fee(0, 0), fee(0, 0))
	least := fee(0, 0)
	least.Min = 5000
	id := small.connect(2, 1, 2, types.Coin, testTiming, least, fee(0, 0))
	r = Request{Source: small.nodes[0], Target: small.nodes[2], Amount: 1000, Locals: small.locals(0)}
	if _, err := small.FindRoute(r, nil); err == nil || err.(*NoRouteError).Why != AmountTooSmall {
		t.Errorf("minimum: %v", err)
	}
	small.edges[small.edgeAt[id]].terms = [2]terms{}
	if _, err := small.FindRoute(r, nil); err == nil || err.(*NoRouteError).Why != NoPath || !strings.Contains(err.Error(), "disabled") {
		t.Errorf("disabled: %v", err)
	}
}

// A payee without public channels is reached by its hints; the fee and delta of the hint are paid.
func TestHints(t *testing.T) {
	w := newWorld(3)
	w.connect(1, 0, 1, types.Coin, testTiming, fee(0, 0), fee(0, 0))
	w.connect(2, 1, 2, types.Coin, testTiming, fee(7, 0), fee(0, 0))
	payee := plainNode(50)
	r := Request{Source: w.nodes[0], Target: payee, Amount: 1000, FinalDelta: 100, Height: 10, Locals: w.locals(0), MaxFee: 100,
		Hints: [][]Hint{{{Node: w.nodes[2], Channel: testChannel(9), Base: 13, Delta: 70}}, {{Node: w.nodes[0], Channel: testChannel(1)}}}}
	got, err := w.FindRoute(r, nil)
	if err != nil || len(got.Hops) != 3 || got.Fee != 20 || got.Hops[2].Channel != testChannel(9) || got.Hops[2].Expiry != 10+100+DefaultSlack ||
		got.Hops[1].Expiry != got.Hops[2].Expiry+70 {
		t.Errorf("%+v, %v", got, err)
	}
	r.ExcludeChannels = []Directed{got.Directed(2)}
	if _, err := w.FindRoute(r, nil); err == nil || err.(*NoRouteError).Why != AllExcluded {
		t.Errorf("excluded hint: %v", err)
	}
}

// The same graph learnt in another order, and a scratch used before for another graph, give the same route.
func TestDeterministic(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, r := drawWorld(t, true)
		again := &world{Graph: NewGraph(), nodes: w.nodes}
		list := w.Channels(types.ChannelID{}, 100)
		for i := range list {
			again.Apply(&list[len(list)-1-i], 1)
		}
		var s Scratch
		big := randomWorld(3, 50, 120)
		big.FindRoute(Request{Source: big.nodes[0], Target: big.nodes[9], Amount: 5, MaxFee: 1000, Locals: big.locals(0)}, &s)
		a, errA := w.FindRoute(r, nil)
		b, errB := again.FindRoute(r, &s)
		c, errC := w.FindRoute(r, &s)
		if (errA == nil) != (errB == nil) || (errA == nil) != (errC == nil) || a.Cost != b.Cost || a.Cost != c.Cost ||
			!slices.Equal(a.Hops, c.Hops) {
			t.Fatalf("%+v %v\n%+v %v\n%+v %v", a, errA, b, errB, c, errC)
		}
	})
}

// The cheapest way from a common node on breaks a limit only further up, where that node's one label has forgotten the other way. The second look
// finds it.
func TestLimitBehindCommonNode(t *testing.T) {
	build := func(viaOne, viaTwo, common Policy, detour bool) *world {
		w := newWorld(7)
		w.connect(7, 0, 3, types.Coin, testTiming, fee(0, 0), fee(0, 0))
		w.connect(1, 3, 5, types.Coin, testTiming, common, fee(0, 0))
		w.connect(2, 5, 1, types.Coin, testTiming, common, fee(0, 0))
		w.connect(3, 5, 2, types.Coin, testTiming, common, fee(0, 0))
		if detour {
			w.connect(4, 1, 6, types.Coin, testTiming, viaOne, fee(0, 0))
			w.connect(5, 6, 4, types.Coin, testTiming, viaOne, fee(0, 0))
		} else {
			w.connect(4, 1, 4, types.Coin, testTiming, viaOne, fee(0, 0))
		}
		w.connect(6, 2, 4, types.Coin, testTiming, viaTwo, fee(0, 0))
		return w
	}
	slow := fee(0, 0)
	slow.Delta = 300
	const finalAhead = 22 + DefaultSlack // testTiming's least life
	for _, c := range []struct {
		name string
		w    *world
		r    Request
		fee  types.Amount
	}{
		{"expiry", build(slow, fee(50, 0), fee(1, 0), false), Request{MaxFee: 100, MaxAhead: finalAhead + 300 + 79, Cost: Cost{Attempt: 1}}, 52},
		{"hops", build(fee(0, 0), fee(50, 0), fee(1, 0), true), Request{MaxFee: 100, MaxHops: 4, Cost: Cost{Attempt: 1}}, 52},
		{"fee", build(fee(50, 0), slow, fee(1, 0), false), Request{MaxFee: 51, Cost: Cost{LockTrillionths: 1_000_000_000}}, 2},
	} {
		r := c.r
		r.Source, r.Target, r.Amount, r.Locals = c.w.nodes[0], c.w.nodes[4], 1000, c.w.locals(0)
		got, err := c.w.FindRoute(r, nil)
		if err != nil || got.Fee != c.fee {
			t.Errorf("%s: fee %d, %v, want the path of %d", c.name, got.Fee, err, c.fee)
		}
		r.MaxFee, r.MaxAhead, r.MaxHops = 100, 0, 0
		if free, err := c.w.FindRoute(r, nil); err != nil || free.Fee == c.fee {
			t.Errorf("%s: without the limit %d, %v: the case tests nothing", c.name, free.Fee, err)
		}
	}
}

func TestHeap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		costs := rapid.SliceOfN(rapid.Uint64Range(0, 50), 1, 200).Draw(t, "costs")
		s := &search{Scratch: new(Scratch)}
		for i, c := range costs {
			s.push(entry{c, int32(i)})
		}
		slices.Sort(costs)
		for i, want := range costs {
			if got := s.pop().cost; got != want {
				t.Fatalf("entry %d has cost %d, want %d", i, got, want)
			}
		}
	})
}

// A circular route leaves over one channel and comes back over another; fees, expiries and the limits are those of any other.
func TestCircle(t *testing.T) {
	w := newWorld(3)
	out := w.connect(1, 0, 1, types.Coin, testTiming, fee(0, 0), fee(0, 0))
	w.connect(2, 1, 2, types.Coin, testTiming, fee(7, 0), fee(0, 0))
	in := w.connect(3, 2, 0, types.Coin, testTiming, fee(11, 0), fee(0, 0))
	locals := w.locals(0)
	r := Request{Source: w.nodes[0], Target: w.nodes[0], In: in, Amount: 1000, Height: 10, Locals: locals, MaxFee: 100}
	got, err := w.FindRoute(r, nil)
	if err != nil || len(got.Hops) != 3 || got.Hops[0].Channel != out || got.Hops[2].Channel != in || got.Hops[2].Node != w.nodes[0] || got.Fee != 18 {
		t.Fatalf("%+v, %v", got, err)
	}
	if e, err := w.Explain(r, got); err != nil || e.Route.Cost != got.Cost {
		t.Errorf("%+v, %v", e, err)
	}
	r.MaxFee = 17
	if _, err := w.FindRoute(r, nil); err == nil || err.(*NoRouteError).Why != FeeAboveLimit {
		t.Errorf("fee limit: %v", err)
	}
	r.MaxFee, r.In = 100, testChannel(99)
	if _, err := w.FindRoute(r, nil); err == nil {
		t.Error("a way back over an unknown channel")
	}
	r.In, r.Locals = out, locals[:1]
	if got, err := w.FindRoute(r, nil); err == nil {
		t.Errorf("there and back over the same channel: %+v", got)
	}
}

// A payee behind blinded paths: the path's terms are paid to its entry, the cheaper entry is taken, and limits of the path hold.
func TestBlinded(t *testing.T) {
	w := newWorld(3)
	w.connect(1, 0, 1, types.Coin, testTiming, fee(0, 0), fee(0, 0))
	w.connect(2, 1, 2, types.Coin, testTiming, fee(7, 0), fee(0, 0))
	key := types.OnionKey{5}
	r := Request{Source: w.nodes[0], Amount: 10_000, Height: 10, FinalDelta: 50, Locals: w.locals(0), MaxFee: 1000, Blinded: []Blinded{
		{Entry: w.nodes[2], EntryKey: key, Base: 13, Millionths: 1000, Delta: 300, Reserve: 100_000, Min: 100, Max: 20_000},
		{Entry: w.nodes[1], Base: 100, Max: 20_000}}}
	got, err := w.FindRoute(r, nil)
	// 13 + 10 to the path, 7 for the channel before; the entry's lock lives 50 + 30 + 300 blocks, 30 more are paid: 10,023 x 410 x 10^-7, up.
	if err != nil || got.Blinded != 1 || len(got.Hops) != 3 || got.Fee != 30 || got.Reserve != 1+htlc.MaxHops || got.Delivered() != 10_000 {
		t.Fatalf("%+v, %v", got, err)
	}
	if entry := got.Hops[1]; entry.Node != w.nodes[2] || entry.Key != key || entry.Amount != 10_023 || entry.Expiry != 10+50+DefaultSlack+300 || entry.Fee != 23 {
		t.Errorf("entry %+v", entry)
	}
	r.ExcludeChannels = []Directed{got.Directed(2)}
	if second, err := w.FindRoute(r, nil); err != nil || second.Blinded != 2 || second.Fee != 100 {
		t.Errorf("%+v, %v", second, err)
	}
	r.Amount = 20_001
	if _, err := w.FindRoute(r, nil); err == nil {
		t.Error("more than a path carries")
	}
	p := NewPenalties()
	p.Succeeded(&got, 1)
	if len(p.channels) != 1 {
		t.Errorf("%d channels learnt: the path is none", len(p.channels))
	}
}

// The terms that Explain shows add up to the cost that the search found, hop by hop.
func TestExplain(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, r := drawWorld(t, true)
		got, err := w.FindRoute(r, nil)
		if err != nil {
			t.Skip()
		}
		e, err := w.Explain(r, got)
		if err != nil || e.Route.Cost != got.Cost || len(e.Hops) != len(got.Hops) || e.SuccessMillionths > 1_000_000 {
			t.Fatalf("%+v, %v", e, err)
		}
		sum := uint64(0)
		for i, h := range e.Hops {
			sum += h.Total
			if h.Base+h.Proportional != got.Hops[i].Fee || h.Total != uint64(h.Base+h.Proportional+h.Ask+h.LockCost+h.RiskCost) || h.Low > h.High || h.Base < 0 || h.Proportional < 0 {
				t.Fatalf("hop %d: %+v of %+v", i, h, got.Hops[i])
			}
		}
		if sum != got.Cost {
			t.Fatalf("terms of %d, cost %d", sum, got.Cost)
		}
		r.MaxFee = got.Fee + got.Reserve - 1
		if _, err := w.Explain(r, got); r.MaxFee >= 0 && err == nil {
			t.Fatal("over the limit")
		}
	})
}
