package route

import (
	"errors"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/eschaton-network/chand/htlc"
	"github.com/eschaton-network/chand/types"
)

// drawSplit makes a small graph on which payments often need parts.
func drawSplit(t *rapid.T) (*world, Request) {
	w, r := drawWorld(t, rapid.Bool().Draw(t, "fees"))
	r.MaxParts = rapid.IntRange(1, 8).Draw(t, "parts")
	r.MaxHops = rapid.SampledFrom([]int{0, 0, 2, 3, 8}).Draw(t, "max hops")
	r.Cost = Cost{LockTrillionths: 1_000_000, Attempt: 100, AttemptMillionths: 10_000, Part: types.Amount(rapid.IntRange(0, 200).Draw(t, "part"))}
	if rapid.Bool().Draw(t, "fee limit") {
		r.MaxFee = types.Amount(rapid.IntRange(0, 20_000).Draw(t, "max fee"))
	}
	for i := range r.Locals {
		l := &r.Locals[i]
		capacity := int64(l.CanSend)
		l.CanSend = types.Amount(rapid.Int64Range(1, capacity).Draw(t, "can send"))
		if rapid.Bool().Draw(t, "more in several locks") {
			l.Total = types.Amount(rapid.Int64Range(int64(l.CanSend), capacity).Draw(t, "total"))
			l.Slots = rapid.IntRange(0, 3).Draw(t, "slots")
		}
	}
	all := int64(1)
	for _, l := range r.Locals {
		all += int64(l.total())
	}
	r.Amount = types.Amount(rapid.Int64Range(1, all).Draw(t, "amount"))
	return w, r
}

// checkFlow wants the parts to add up, to keep every limit together, and each hop of each to pass.
func (w *world) checkFlow(t *rapid.T, f Flow, r Request) {
	var delivered, fees, reserve, amount types.Amount
	used, locks := map[Directed]types.Amount{}, map[types.ChannelID]int{}
	for i := range f.Parts {
		p := &f.Parts[i]
		delivered += p.Delivered()
		fees += p.Fee
		reserve += p.Reserve
		amount += p.Amount
		if r.MaxHops > 0 && len(p.Hops) > r.MaxHops || i > 0 && p.Delivered() > f.Parts[i-1].Delivered() {
			t.Fatalf("part %d: %+v", i, p)
		}
		for k := range p.Hops {
			used[p.Directed(k)] += p.Hops[k].Amount + p.Hops[k].Reserve
		}
		locks[p.Hops[0].Channel]++
		w.forwardAll(t, *p, r.Height, DefaultMaxAhead+DefaultSlack)
	}
	if delivered != r.Amount || fees+reserve > r.MaxFee || len(f.Parts) > r.MaxParts || f.Fee != fees || f.Reserve != reserve || f.Amount != amount ||
		amount != r.Amount+fees {
		t.Fatalf("%d of %d delivered in %d parts (at most %d) for %d + %d (at most %d)", delivered, r.Amount, len(f.Parts), r.MaxParts, fees, reserve, r.MaxFee)
	}
	for d, sum := range used {
		if k := &w.known[w.edgeAt[d.Channel]]; sum > k.ann.Capacity {
			t.Fatalf("%d over channel %s of %d", sum, d.Channel, k.ann.Capacity)
		}
	}
	for _, l := range r.Locals {
		dir := uint8(slices.Index([]bool{true, false}, w.known[w.edgeAt[l.Channel]].ann.Nodes[0] == r.Source))
		if used[Directed{l.Channel, dir}] > l.total() || l.Slots > 0 && locks[l.Channel] > l.Slots {
			t.Fatalf("%d in %d locks over %+v", used[Directed{l.Channel, dir}], locks[l.Channel], l)
		}
	}
	for _, p := range f.Parts {
		i := slices.IndexFunc(r.Locals, func(l Local) bool { return l.Channel == p.Hops[0].Channel })
		if p.Hops[0].Amount+p.Hops[0].Reserve > r.Locals[i].CanSend {
			t.Fatalf("%d at once over %+v", p.Hops[0].Amount, r.Locals[i])
		}
	}
}

// A flow keeps every limit, costs no more than the one route where there is one, and the same request gives the same flow.
func TestFlowLimits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, r := drawSplit(t)
		f, err := w.FindFlow(r, nil)
		one, single := w.FindRoute(r, nil)
		if err != nil {
			var why *NoRouteError
			if single == nil || !errors.As(err, &why) {
				t.Fatalf("%v, but one route is %+v", err, one)
			}
			return
		}
		w.checkFlow(t, f, r)
		if single == nil && f.Cost > one.Cost {
			t.Fatalf("cost %d, one route costs %d", f.Cost, one.Cost)
		}
		again, err := w.FindFlow(r, new(Scratch))
		if err != nil || again.Cost != f.Cost || len(again.Parts) != len(f.Parts) {
			t.Fatalf("another time: %+v, %v", again, err)
		}
	})
}

// Two ways of which neither carries the payment; with the same money everywhere one way is taken, and a bound that was learnt moves the parts.
func TestSplit(t *testing.T) {
	w, r := diamond()
	r.Amount, r.MaxFee = 1500*types.Coin, types.Coin
	f, err := w.FindFlow(r, nil)
	if err != nil || len(f.Parts) != 2 || f.Parts[0].Delivered() != 750*types.Coin {
		t.Fatalf("%+v, %v", f, err)
	}
	if f.Fee != 20 || f.Amount != r.Amount+20 {
		t.Errorf("fee %d, want the base fee of each part", f.Fee)
	}
	over := &f.Parts[0]
	r.Penalties.Failed(over, 0, htlc.NewFailure(htlc.TemporaryChannelFailure, over.Hops[1].Channel, ""), false, r.Now)
	again, err := w.FindFlow(r, nil)
	if err != nil || len(again.Parts) != 2 || again.Parts[1].Hops[0].Node != over.Hops[0].Node || again.Parts[1].Delivered() >= 750*types.Coin {
		t.Errorf("after a failure of 750: %+v, %v", again, err)
	}
	r.Penalties = nil
	r.InFlight = []*Route{over}
	if _, err := w.FindFlow(r, nil); err == nil || err.(*NoRouteError).Why != AmountTooBig {
		t.Errorf("with half of one way taken: %v", err)
	}
	r.InFlight, r.MaxParts = nil, 1
	if _, err := w.FindFlow(r, nil); err == nil {
		t.Error("one part carried more than any channel")
	}
	r.Amount, r.MaxParts = types.Coin, 0
	if f, err := w.FindFlow(r, nil); err != nil || len(f.Parts) != 1 {
		t.Errorf("%+v, %v: a small payment in parts", f, err)
	}
}

// What a flow of its own finds is what the slow solver finds; what is likely is less than what is possible.
func TestMaxFlow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, r := drawSplit(t)
		w.plain(0)
		for i := range r.Locals {
			l := &r.Locals[i]
			l.Slots, l.CanSend = 0, l.total()
		}
		if len(r.Locals) == 0 {
			t.Skip()
		}
		r.MaxParts, r.MaxHops = MaxParts, 0
		reach, err := w.MaxFlow(r, nil, nil)
		if want := w.slowMax(r); err != nil || reach.Most > want || !reach.Cut && reach.Most != want || reach.Most < want-want/100 || reach.Likely > reach.Most {
			t.Fatalf("%+v, %v: the slow solver finds %d", reach, err, want)
		}
		ins := w.locals(len(w.nodes) - 1)
		sum := types.Amount(0)
		for i := range ins {
			ins[i].CanSend /= 2
			sum += ins[i].CanSend
		}
		if len(ins) > 0 {
			if in, err := w.MaxFlow(r, ins, nil); err != nil || in.Most > min(sum, reach.Most) {
				t.Fatalf("%+v, %v: at most %d can come in", in, err, sum)
			}
		}
	})
}

// plain makes everything that is not a capacity free: what can be sent is then what the cuts let through.
func (w *world) plain(min types.Amount) {
	for e := range w.edges {
		for i := range 2 {
			p := Policy{Delta: 1, Min: min, Max: w.edges[e].capacity}
			*w.known[e].policies[i], w.edges[e].terms[i] = p, p.terms()
		}
	}
}

// slowMax is Ford and Fulkerson's algorithm on a matrix: again and again any way with room, bit by bit.
func (w *world) slowMax(r Request) (total types.Amount) {
	at := map[types.NodeID]int{}
	for i, n := range w.nodes {
		at[n] = i
	}
	n := len(w.nodes)
	type link struct{ from, to int }
	room := map[link]types.Amount{}
	for _, e := range w.edgeAt {
		a := &w.known[e].ann
		i, j := at[a.Nodes[0]], at[a.Nodes[1]]
		if i != at[r.Source] && j != at[r.Source] {
			room[link{i, j}] += a.Capacity
			room[link{j, i}] += a.Capacity
		}
	}
	for _, l := range r.Locals {
		room[link{at[r.Source], at[l.Peer]}] += l.total()
	}
	for {
		seen, way := make([]bool, n), []int(nil)
		var walk func(at, to int, path []int) bool
		walk = func(i, to int, path []int) bool {
			path = append(slices.Clone(path), i)
			seen[i] = true
			if i == to {
				way = path
				return true
			}
			for j := range n {
				if !seen[j] && room[link{i, j}] > 0 && walk(j, to, path) {
					return true
				}
			}
			return false
		}
		if !walk(at[r.Source], at[r.Target], nil) {
			return total
		}
		least := types.MaxAmount
		for i := 1; i < len(way); i++ {
			least = min(least, room[link{way[i-1], way[i]}])
		}
		for i := 1; i < len(way); i++ {
			room[link{way[i-1], way[i]}] -= least
			room[link{way[i], way[i-1]}] += least
		}
		total += least
	}
}

// Whatever the cuts let through is found, to the last unit, when there are parts enough: money laid on a channel is taken back where that
// makes room.
func TestFlowFindsWhatFits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, r := drawSplit(t)
		w.plain(0)
		for i := range r.Locals {
			l := &r.Locals[i]
			l.Slots, l.CanSend = 0, l.total()
		}
		r.MaxParts, r.MaxHops, r.MaxFee = MaxParts, 0, 0
		most := w.slowMax(r)
		if most == 0 {
			t.Skip()
		}
		r.Amount = most - types.Amount(rapid.Int64Range(0, min(3, int64(most)-1)).Draw(t, "less"))
		f, err := w.FindFlow(r, nil)
		if err != nil {
			t.Fatalf("%d of %d: %v", r.Amount, most, err)
		}
		w.checkFlow(t, f, r)
		r.Amount = most + 1
		if f, err := w.FindFlow(r, nil); err == nil {
			t.Fatalf("more than fits: %+v", f)
		}
	})
}

// slowSplit tries every way to give chunks of the amount to the simple paths, and returns the least cost: of locking, and of the odds of
// each channel with all that it carries.
func (w *world) slowSplit(r Request, chunks int) (best float64, any bool) {
	all := w.paths(r.Source, r.Target, nil)
	chunk := r.Amount / types.Amount(chunks)
	attempt := float64(r.Cost.Attempt) + float64(r.Amount)*float64(r.Cost.AttemptMillionths)/1e6
	given := make([]int, len(all))
	canSend := map[types.ChannelID]types.Amount{}
	for _, l := range r.Locals {
		canSend[l.Channel] = l.total()
	}
	price := func() (cost float64, ok bool) {
		load := map[Directed]types.Amount{}
		for i, n := range given {
			if n == 0 {
				continue
			}
			from, amount := r.Source, types.Amount(n)*chunk
			for k, c := range all[i] {
				dir := c.ann.side(from)
				load[Directed{c.ann.Channel, uint8(dir)}] += amount
				if k == 0 && load[Directed{c.ann.Channel, uint8(dir)}] > canSend[c.ann.Channel] {
					return 0, false
				}
				from = c.ann.Nodes[1-dir]
			}
			cost += float64(r.Cost.Part)
		}
		for d, sum := range load {
			c := w.known[w.edgeAt[d.Channel]].ann.Capacity
			if sum > c {
				return 0, false
			}
			if canSend[d.Channel] == 0 {
				cost += attempt * min(8, math.Log(float64(c+1)/float64(c-sum+1)))
			}
		}
		return cost - float64(r.Cost.Part), true
	}
	var give func(i, left int)
	give = func(i, left int) {
		if left == 0 {
			if cost, ok := price(); ok && (!any || cost < best) {
				best, any = cost, true
			}
			return
		}
		if i == len(all) {
			return
		}
		for n := 0; n <= left; n++ {
			given[i] = n
			give(i+1, left-n)
		}
		given[i] = 0
	}
	give(0, chunks)
	return best, any
}

// The split costs little more than the best one in chunks of a quarter, where only odds and parts cost something.
func TestFlowIsCheap(t *testing.T) {
	worst := 0.0
	rapid.Check(t, func(t *rapid.T) {
		w, r := drawSplit(t)
		w.plain(0)
		for i := range r.Locals {
			l := &r.Locals[i]
			l.Slots, l.CanSend = 0, l.total()
		}
		r.Amount = max(1, r.Amount/4) * 4
		r.MaxParts, r.MaxHops, r.MaxFee = 8, 0, 0
		r.Cost.LockTrillionths = 0
		if len(w.edgeAt) > 7 {
			t.Skip("too many ways for the slow solver")
		}
		best, any := w.slowSplit(r, 4)
		f, err := w.FindFlow(r, nil)
		if any && err != nil {
			t.Fatalf("in quarters it fits: %v", err)
		}
		if any && best > 0 {
			worst = max(worst, float64(f.Cost)/best)
			if float64(f.Cost) > best*1.25+float64(2*r.Cost.Part)+10 {
				t.Fatalf("cost %d, in quarters %.0f: %+v", f.Cost, best, f)
			}
		}
	})
	t.Logf("at worst %.2f times the best in quarters", worst)
}
