package route

import (
	"math"
	"math/bits"
	"slices"

	"github.com/eschaton-network/chand/types"
)

// The split of a payment is a flow of least cost: every channel takes the first of its money cheaply and the last only at a high price,
// because the odds of success fall with what it must carry. -ln of them is convex, so it is laid out in pieces of rising
// slope, and the cheapest way for the next bit of money is a shortest path over the slopes where the channels stand (successive
// shortest paths; Ahuja, Magnanti and Orlin, Network Flows, chapters 9 and 14). Money laid on a channel can be
// taken back by a later path. Rates are in 10^-12 of the amount.
const (
	rateOne = 1_000_000_000_000
	// maxRate is a thousand times the amount for one channel, so that the sum over a path stays far below 2^63.
	maxRate = 1000 * rateOne
	// augmentsPerPart bounds the shortest paths of one flow: a part takes a few, as it climbs the pieces of its channels.
	augmentsPerPart = 4
	// flowRounds is how often the rest is laid out anew that fees left over.
	flowRounds = 3
)

// flowScratch is the memory of the flow computation.
type flowScratch struct {
	labels  []flowLabel // by node
	epoch   uint32
	heights []height // by node
	round   uint32
	visited []int32
	arcs    []int32 // that have had a flow
}

// flowLabel is the cheapest way known from a node to the payee; arc is its first step, negative-1 for money taken back.
type flowLabel struct {
	cost  uint64
	arc   int32
	epoch uint32
	hops  uint8
	back  bool
	done  bool
}

// height is a node's potential: with it, costs of steps are not negative though money may be taken back.
type height struct {
	value int64
	round uint32
}

// layOut puts amount on channels at least cost. It reports how much found a place; state.flow then holds it.
func (s *search) layOut(amount, grain types.Amount) types.Amount {
	s.beginFlow()
	laid := types.Amount(0)
	for i := 0; i < augmentsPerPart*s.r.MaxParts && laid < amount && s.cheapest(amount-laid, min(grain, amount-laid)); i++ {
		laid += s.augment(amount-laid, min(grain, amount-laid))
	}
	return laid
}

// beginFlow forgets the flow before.
func (s *search) beginFlow() {
	f := &s.flow
	if n := len(s.g.nodes) + len(s.extraNodes); len(f.labels) < n {
		f.labels = append(f.labels, make([]flowLabel, n-len(f.labels))...)
		f.heights = append(f.heights, make([]height, n-len(f.heights))...)
	}
	f.arcs = f.arcs[:0]
	for i := range s.states {
		s.states[i].flow = 0
	}
	if f.round++; f.round == 0 {
		clear(f.heights)
		f.round = 1
	}
}

func (s *search) heightOf(n int32) int64 {
	if h := &s.flow.heights[n]; h.round == s.flow.round {
		return h.value
	}
	return 0
}

// cheapest finds the cheapest way for the next money, from the payee backwards.
func (s *search) cheapest(amount, grain types.Amount) bool {
	f := &s.flow
	if f.epoch++; f.epoch == 0 {
		clear(f.labels)
		f.epoch = 1
	}
	s.heap, f.visited = s.heap[:0], f.visited[:0]
	for _, n := range s.r.ExcludeNodes {
		if at, ok := s.g.nodeAt[n]; ok && at != s.target {
			f.labels[at] = flowLabel{epoch: f.epoch, done: true}
		} else if at, ok := s.extraAt[n]; ok && at != s.target {
			f.labels[at] = flowLabel{epoch: f.epoch, done: true}
		}
	}
	f.labels[s.target] = flowLabel{epoch: f.epoch, arc: -1}
	s.push(entry{0, s.target})
	for len(s.heap) > 0 {
		n := s.pop().node
		l := &f.labels[n]
		if l.done {
			continue
		}
		l.done = true
		f.visited = append(f.visited, n)
		if n == s.source {
			s.raise(l.cost)
			return true
		}
		if int(l.hops) < s.r.MaxHops {
			s.flowExpand(n, l, amount, grain)
		}
	}
	return false
}

// raise moves the heights by the costs found, no further than to the payer.
func (s *search) raise(cost uint64) {
	f := &s.flow
	for _, n := range f.visited {
		f.heights[n] = height{s.heightOf(n) + int64(f.labels[n].cost) - int64(cost), f.round}
	}
}

func (s *search) flowExpand(n int32, l *flowLabel, amount, grain types.Amount) {
	if int(n) < len(s.g.nodes) {
		for _, e := range s.g.adj[n] {
			ed := &s.g.edges[e]
			dir := int32(0)
			if ed.node[0] == n {
				dir = 1
			}
			if from := ed.node[dir]; from != s.source {
				s.flowRelax(n, from, 2*e+dir, ed, l, amount, grain)
			}
		}
	}
	for _, e := range s.extraAdj[n] {
		ed := s.edge(e)
		dir := int32(0)
		if ed.node[0] == n {
			dir = 1
		}
		s.flowRelax(n, ed.node[dir], 2*e+dir, ed, l, amount, grain)
	}
}

// flowRelax tries the step from a node over an arc to n.
func (s *search) flowRelax(n, from, arc int32, ed *edge, l *flowLabel, amount, grain types.Amount) {
	f := &s.flow
	old := &f.labels[from]
	seen := old.epoch == f.epoch
	if seen && old.done {
		return
	}
	rate, room, back := s.step(from, arc, ed, amount, grain)
	if room <= 0 {
		return
	}
	cost := l.cost + uint64(max(0, rate+s.heightOf(n)-s.heightOf(from)))
	if seen && (cost > old.cost || cost == old.cost && !s.sooner(l.hops+1, arc, old)) {
		return
	}
	*old = flowLabel{cost: cost, arc: arc, epoch: f.epoch, hops: l.hops + 1, back: back}
	s.push(entry{cost, from})
}

// sooner breaks ties as search.better does.
func (s *search) sooner(hops uint8, arc int32, old *flowLabel) bool {
	if hops != old.hops {
		return hops < old.hops
	}
	return compareIDs(s.channelID(arc/2), s.channelID(old.arc/2)) < 0
}

// step says at what rate the next money goes over an arc, and how much at that rate, or 0. Money that is on the channel in the
// other direction is taken back first. Pieces smaller than grain are taken together with the next.
func (s *search) step(from, arc int32, ed *edge, amount, grain types.Amount) (rate int64, room types.Amount, back bool) {
	if other := s.mark[arc^1]; other > 0 {
		if st := &s.states[other-1]; st.flow > 0 {
			at := st.used + st.flow
			p := s.piece(ed.node[arc&1^1], arc^1, ed, st, at-1)
			return -p.rate, min(st.flow, max(at-p.start, grain)), true
		}
	}
	mark, t := s.mark[arc], &ed.terms[arc&1]
	if mark < 0 || !t.open || t.min > amount || t.max <= 0 {
		return 0, 0, false
	}
	st, at := (*state)(nil), types.Amount(0)
	if mark > 0 {
		st = &s.states[mark-1]
		at = st.used + st.flow
	}
	if at >= ed.capacity {
		return 0, 0, false
	}
	p := s.piece(from, arc, ed, st, at)
	for p.end-at < grain && p.end < ed.capacity {
		p = s.piece(from, arc, ed, st, p.end)
	}
	return p.rate, p.end - at, false
}

// piece is a stretch of what a channel can carry on which every bit costs the same.
type piece struct {
	start, end types.Amount
	rate       int64
}

// piece returns the one at a place below the capacity. Of what lies between the bounds the lower half costs ln 2, so does half of the rest, and
// half of that; the remaining eighth costs what is left to maxNats. What lies above the upper bound costs more than anything below.
func (s *search) piece(from, arc int32, ed *edge, st *state, at types.Amount) piece {
	fixed := s.fixedRate(from, arc, ed)
	if from == s.source {
		return piece{0, ed.capacity, fixed}
	}
	if x := s.extraOf(arc / 2); x != nil && x.blinded > 0 {
		return piece{0, ed.capacity, fixed}
	}
	known := span{0, ed.capacity}
	if st != nil {
		known = st.span
	}
	if at < known.low {
		return piece{0, known.low, fixed}
	}
	const ln2 = 45426 // of natOne
	w := known.high - known.low
	slope := s.rate(s.attempt, natOne, uint64(max(1, w)))
	end := known.low
	for _, cut := range [...]struct{ shift, slope uint64 }{{1, 2 * ln2}, {2, 4 * ln2}, {3, 8 * ln2}, {3, 8 * (maxNats - 3*ln2)}} {
		start := end
		if end += w >> cut.shift; cut.slope > 8*ln2 {
			end = known.high
		}
		if at < end {
			return piece{start, end, s.addRate(fixed, mulRate(slope, cut.slope))}
		}
	}
	return piece{known.high, ed.capacity, s.addRate(fixed, max(mulRate(slope, 16*maxNats), s.rate(s.attempt, maxNats, uint64(s.r.Amount))))}
}

// mulRate multiplies a slope by nats.
func mulRate(slope int64, n uint64) int64 {
	hi, lo := bits.Mul64(uint64(slope), n)
	if hi >= natOne {
		return maxRate
	}
	return int64(min(maxRate, hi<<48|lo>>16))
}

func (s *search) addRate(a, b int64) int64 { return min(maxRate, a+b) }

// rate is value * n/natOne for an amount, per unit.
func (s *search) rate(value, n, amount uint64) int64 {
	hi, lo := bits.Mul64(value, rateOne)
	if hi >= amount {
		return maxRate
	}
	q, _ := bits.Div64(hi, lo, amount)
	hi, lo = bits.Mul64(q, n)
	if hi >= natOne {
		return maxRate
	}
	return int64(min(maxRate, hi<<48|lo>>16))
}

// fixedRate is what every bit costs on an arc whatever else is there: fees (the base fee as if all went here at once), the price of
// locking it for as long as one more hop takes, the reservation fee for twice that, and the conduct of the node.
func (s *search) fixedRate(from, arc int32, ed *edge) int64 {
	blocks := uint64(max(ed.lockDelta, 1))
	rate := satMul(s.r.Cost.LockTrillionths, blocks)
	if from != s.source {
		t := &ed.terms[arc&1]
		rate = satAdd(rate, uint64(t.millionths)*(rateOne/1_000_000)+2*blocks*uint64(t.reserve))
		rate = satAdd(rate, uint64(s.rate(uint64(t.base), natOne, uint64(s.r.Amount))))
		if len(s.nodeNats) > 0 {
			rate = satAdd(rate, uint64(s.rate(s.attempt, s.nodeNats[from], uint64(s.r.Amount))))
		}
	}
	return int64(min(maxRate, rate))
}

// augment lays money on the way that cheapest has found, as much as goes at its rates, and reports how much.
func (s *search) augment(amount, grain types.Amount) types.Amount {
	f, least := &s.flow, amount
	for n := s.source; n != s.target; n = s.ahead(n) {
		l := &f.labels[n]
		_, room, _ := s.step(n, l.arc, s.edge(l.arc/2), amount, grain)
		least = min(least, room)
	}
	for n := s.source; n != s.target; n = s.ahead(n) {
		l := &f.labels[n]
		if l.back {
			s.states[s.mark[l.arc^1]-1].flow -= least
			continue
		}
		st := s.state(l.arc)
		st.flow += least
		f.arcs = append(f.arcs, l.arc)
	}
	return least
}

// ahead is the next node on the way that cheapest has found.
func (s *search) ahead(n int32) int32 {
	arc := s.flow.labels[n].arc
	return s.edge(arc / 2).node[arc&1^1]
}

// paths takes the flow apart: again and again the way that carries most. Each is priced exactly, backwards from the payee, and takes what
// the rules let through of it.
func (s *search) paths(parts []part, fees types.Amount, rest *types.Amount) ([]part, types.Amount) {
	slices.Sort(s.flow.arcs)
	s.flow.arcs = slices.Compact(s.flow.arcs)
	for len(parts) < s.r.MaxParts && *rest > 0 {
		way, most := s.widest()
		if most == 0 {
			break
		}
		got, ok := s.most(way, 1, min(most, *rest), fees)
		gone := most
		if ok {
			s.take(&got)
			parts = append(parts, part{got, way})
			*rest -= got.Delivered()
			fees -= got.Fee + got.Reserve
			if got.Delivered() > most/2 {
				gone = got.Delivered() // the way may carry another lock
			}
		}
		for _, arc := range way {
			s.state(arc).flow -= min(gone, s.state(arc).flow)
		}
	}
	return parts, fees
}

// part is a route with the arcs that it goes over.
type part struct {
	Route
	way []int32
}

// widest finds the way from payer to payee over the flow that carries most, by Dijkstra's algorithm with the least room on the way
// for a distance. The flow touches a few hundred arcs at most.
func (s *search) widest() (way []int32, most types.Amount) {
	type reached struct {
		room types.Amount
		arc  int32
		done bool
	}
	at := map[int32]*reached{s.source: {room: math.MaxInt64, arc: -1}}
	out := map[int32][]int32{}
	for _, arc := range s.flow.arcs {
		if s.mark[arc] > 0 && s.states[s.mark[arc]-1].flow > 0 {
			from := s.edge(arc / 2).node[arc&1]
			out[from] = append(out[from], arc)
		}
	}
	order := []int32{s.source}
	for {
		best := int32(-1)
		for _, n := range order {
			if r := at[n]; !r.done && (best < 0 || r.room > at[best].room) {
				best = n
			}
		}
		if best < 0 {
			return nil, 0
		}
		if best == s.target {
			break
		}
		here := at[best]
		here.done = true
		for _, arc := range out[best] {
			to, room := s.edge(arc / 2).node[arc&1^1], min(here.room, s.states[s.mark[arc]-1].flow)
			if old := at[to]; old == nil {
				at[to] = &reached{room: room, arc: arc}
				order = append(order, to)
			} else if !old.done && room > old.room {
				old.room, old.arc = room, arc
			}
		}
	}
	most = at[s.target].room
	for n := s.target; n != s.source; {
		arc := at[n].arc
		way = append(way, arc)
		n = s.edge(arc / 2).node[arc&1]
	}
	slices.Reverse(way)
	return way, most
}

// walk prices an amount over a given way by the rules of the search itself.
func (s *search) walk(way []int32, amount types.Amount, lim limits) (Route, bool) {
	s.begin(byCost, lim)
	s.amount = amount
	s.labels[s.target] = label{amount: amount, edge: -1, epoch: s.epoch}
	n := s.target
	for _, arc := range slices.Backward(way) {
		ed := s.edge(arc / 2)
		from := ed.node[arc&1]
		l := s.labels[n]
		s.relax(n, from, arc/2, arc&1, ed, &l)
		if s.labels[from].epoch != s.epoch {
			return Route{}, false
		}
		n = from
	}
	return s.route(), true
}

// most finds the largest amount from least to limit that the rules let over a way within a budget for fees.
func (s *search) most(way []int32, least, limit, fees types.Amount) (best Route, ok bool) {
	if got, ok := s.walk(way, limit, s.limits(limit, fees)); ok {
		return got, true
	}
	for low, high := least, limit-1; low <= high; {
		mid := low + (high-low+1)/2
		got, fits := s.walk(way, mid, s.limits(mid, fees))
		if fits {
			best, ok, low = got, true, mid+1
			continue
		}
		high = mid - 1
	}
	return best, ok
}

// cheapestFlow splits by least cost. The rest that fees leave over goes on top of the parts, or into further ones.
func (s *search) cheapestFlow() (Flow, bool) {
	s.release()
	r := s.r
	rest, fees := r.Amount, r.MaxFee
	var parts []part
	for i := 0; i < flowRounds && rest > 0 && len(parts) < r.MaxParts; i++ {
		grain := r.Amount / types.Amount(augmentsPerPart*r.MaxParts)
		if s.layOut(rest, max(1, grain)) == 0 {
			break
		}
		before := rest
		parts, fees = s.paths(parts, fees, &rest)
		s.enlarge(parts, &fees, &rest)
		if rest == before {
			break
		}
	}
	routes := make([]Route, len(parts))
	for i := range parts {
		routes[i] = parts[i].Route
	}
	if rest == 0 {
		return s.sum(inOrder(routes)), true
	}
	return s.complete(routes)
}

// enlarge puts what is left on top of the parts, the first first.
func (s *search) enlarge(parts []part, fees, rest *types.Amount) {
	for i := range parts {
		if *rest == 0 {
			return
		}
		p := &parts[i]
		had := p.Delivered()
		s.untake(&p.Route)
		budget := *fees + p.Fee + p.Reserve
		if got, ok := s.most(p.way, had, had+*rest, budget); ok {
			*rest -= got.Delivered() - had
			*fees = budget - got.Fee - got.Reserve
			p.Route = got
		}
		s.take(&p.Route)
	}
}
