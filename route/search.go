package route

import (
	"bytes"
	"cmp"
	"math"
	"math/bits"
	"slices"

	"github.com/eschaton-network/chand/htlc"
	"github.com/eschaton-network/chand/types"
)

// Scratch is the memory of a search, to be used again by the next: a search over a known graph then allocates its result only. One
// search at a time.
type Scratch struct {
	labels []label // by node
	epoch  uint32  // labels of other epochs are empty
	heap   []entry
	mark   []int32 // by arc: 0, -1 excluded, or 1 + index in states
	marked []int32 // what is not 0 in mark
	states []state

	// Nodes and channels that are not in the graph: own channels, hints, blinded paths.
	extraNodes []types.NodeID
	extraAt    map[types.NodeID]int32
	extra      []edge
	extras     []extra
	extraIDAt  map[types.ChannelID]int32
	extraAdj   map[int32][]int32
	nodeNats   map[int32]uint64

	flow flowScratch
}

// An arc is a channel in one direction: its number is 2*channel + direction. state is what is not as usual with one.
type state struct {
	span  span
	used  types.Amount // by locks under way, and by other parts of this payment
	flow  types.Amount // laid on it by the split that is being made
	locks int          // of this payment's other parts
	arc   int32
}

// extra is the rest of a channel that is not in the graph.
type extra struct {
	id      types.ChannelID
	key     types.OnionKey // of the node that the channel leads away from
	slots   int            // how many locks it takes; 0: any number
	blinded int            // 1 + index in Request.Blinded; 0: a channel
}

// label is the best path known from a node to the payee.
type label struct {
	cost   uint64
	amount types.Amount // of the lock that the node must receive
	asked  types.Amount // reservation fees of the nodes from here on
	out    types.Height // expiry of the lock that the node adds
	delta  uint32       // what the node's policy asks between the two
	edge   int32        // channel towards the payee; -1 at the payee
	epoch  uint32
	hops   uint8
	done   bool
}

type entry struct {
	cost uint64
	node int32
}

// metric is what a search makes least. The first is what users want; each of the others finds a path within one limit if there is one.
type metric uint8

const (
	byCost metric = iota
	byFee
	byHops
	byExpiry
)

// limits of one search.
type limits struct {
	amount types.Amount // most that may leave the payer, reservation fees counted
	hops   int
	expiry types.Height
}

// obstacles counts what a search could not use.
type obstacles struct{ capacity, minimum, fee, hops, expiry, closed, excluded int }

// search is one run over the graph, from the payee backwards, so that amounts and expiries are known where fees and deltas are charged.
type search struct {
	*Scratch
	g              *Graph
	r              *Request
	lim            limits
	metric         metric
	amount         types.Amount // what the payee gets of this part
	attempt        uint64
	source, target int32
	met            obstacles
}

// newSearch prepares a search: it numbers what is not in the graph and marks what is excluded, learnt or in use.
func (g *Graph) newSearch(r *Request, s *Scratch) *search {
	if s == nil {
		s = new(Scratch)
	}
	run := &search{Scratch: s, g: g, r: r, amount: r.Amount}
	run.prepare()
	return run
}

func (s *search) prepare() {
	r := s.r
	s.extraNodes, s.extra, s.extras = s.extraNodes[:0], s.extra[:0], s.extras[:0]
	s.extraAt, s.extraIDAt = map[types.NodeID]int32{}, map[types.ChannelID]int32{}
	s.extraAdj, s.nodeNats = map[int32][]int32{}, map[int32]uint64{}
	for _, m := range s.marked {
		s.mark[m] = 0
	}
	s.marked, s.states = s.marked[:0], s.states[:0]
	s.source = s.number(r.Source)
	if r.In.IsZero() {
		s.target = s.number(r.Target)
	} else { // the payer again, but as another node, so that the way back is none of length zero
		s.target = int32(len(s.g.nodes) + len(s.extraNodes))
		s.extraNodes = append(s.extraNodes, r.Source)
	}
	fee, err := r.Amount.MulDiv(uint64(r.Cost.AttemptMillionths), 1_000_000)
	if err != nil {
		fee = types.MaxAmount
	}
	s.attempt = satAdd(uint64(fee), uint64(max(0, r.Cost.Attempt)))
	s.addLocals()
	s.addHints()
	s.addBack()
	for i, b := range r.Blinded {
		p := Policy{Base: b.Base, Millionths: b.Millionths, Delta: b.Delta, Reserve: b.Reserve, Min: b.Min, Max: b.Max}
		if b.Entry != r.Source && p.Check() == nil {
			s.addEdge(b.Entry, s.target, edge{capacity: b.Max}, p.terms(), extra{id: types.ChannelID{31: byte(i + 1)}, key: b.EntryKey, blinded: i + 1})
		}
	}
	s.markAll()
}

func (s *search) addLocals() {
	locals := slices.Clone(s.r.Locals) // of equal ones the fullest is taken, which keeps the channels even
	slices.SortFunc(locals, func(a, b Local) int {
		return cmp.Or(cmp.Compare(b.CanSend, a.CanSend), compareIDs(a.Channel, b.Channel))
	})
	for _, l := range locals {
		if l.Channel != s.r.In {
			s.addEdge(s.r.Source, s.number(l.Peer), edge{capacity: l.total(), lockDelta: l.Timing.ForwardDelta(), minAhead: uint32(l.Timing.MinExpiry(0))},
				terms{max: l.CanSend, open: true}, extra{id: l.Channel, slots: l.Slots})
		}
	}
}

func (s *search) addHints() {
	r := s.r
	for _, path := range r.Hints {
		for i, h := range path[:min(len(path), MaxHintHops)] {
			to := r.Target
			if i+1 < len(path) {
				to = path[i+1].Node
			}
			most := h.Max
			if most == 0 {
				most = types.MaxAmount
			}
			p := Policy{Base: h.Base, Millionths: h.Millionths, Delta: h.Delta, Reserve: h.Reserve, Max: most}
			if h.Node == r.Source || p.Check() != nil {
				continue
			}
			t := p.terms()
			if h.Max == 0 {
				t.floor = 0
			}
			s.addEdge(h.Node, s.number(to), edge{capacity: most}, t, extra{id: h.Channel, key: h.OnionKey})
		}
	}
}

// addBack adds the channel over which a circular route comes home, on the terms of the peer's policy.
func (s *search) addBack() {
	e, ok := s.g.edgeAt[s.r.In]
	if s.r.In.IsZero() || !ok {
		return
	}
	k := &s.g.known[e]
	if side := k.ann.side(s.r.Source); side >= 0 {
		s.addEdge(k.ann.Nodes[1-side], s.target, s.g.edges[e], s.g.edges[e].terms[1-side], extra{id: s.r.In, key: k.key(1 - side)})
	}
}

// key is the onion key in a side's policy.
func (k *known) key(side int) types.OnionKey {
	if p := k.policies[side]; p != nil {
		return p.OnionKey
	}
	return types.OnionKey{}
}

// number returns the number of a node, graph nodes first.
func (s *search) number(id types.NodeID) int32 {
	if at, ok := s.g.nodeAt[id]; ok {
		return at
	}
	if at, ok := s.extraAt[id]; ok {
		return at
	}
	at := int32(len(s.g.nodes) + len(s.extraNodes))
	s.extraAt[id] = at
	s.extraNodes = append(s.extraNodes, id)
	return at
}

func (s *search) id(node int32) types.NodeID {
	if int(node) < len(s.g.nodes) {
		return s.g.nodes[node]
	}
	return s.extraNodes[int(node)-len(s.g.nodes)]
}

// addEdge adds a channel for this search, usable in one direction. Ends are in the order of ids, as in announcements.
func (s *search) addEdge(fromID types.NodeID, to int32, e edge, t terms, x extra) {
	from, toID := s.number(fromID), s.id(to)
	if _, twice := s.extraIDAt[x.id]; twice || from == to {
		return
	}
	e.node = [2]int32{from, to}
	e.terms = [2]terms{t, {}}
	if bytes.Compare(fromID[:], toID[:]) > 0 {
		e.node[0], e.node[1] = e.node[1], e.node[0]
		e.terms[0], e.terms[1] = terms{}, t
	}
	n := int32(len(s.g.edges) + len(s.extra))
	s.extra, s.extras = append(s.extra, e), append(s.extras, x)
	s.extraIDAt[x.id] = n
	s.extraAdj[to] = append(s.extraAdj[to], n) // channels are looked up from their far end
}

// markAll puts exclusions, experiences and locks under way where the search finds them by number.
func (s *search) markAll() {
	s.growMarks()
	if p := s.r.Penalties; p != nil {
		for id, b := range p.channels {
			for _, e := range s.numbers(id) {
				s.state(2 * e).span = b.seen(s.r.Now).within(s.edge(e).capacity)
				s.state(2*e + 1).span = b.turned().seen(s.r.Now).within(s.edge(e).capacity)
			}
		}
		for n, c := range p.nodes {
			if w := c.nats(s.r.Now); w > 0 {
				s.nodeNats[s.number(n)] = w
			}
		}
	}
	for _, r := range s.r.InFlight {
		s.use(r, 1)
	}
	for _, d := range s.r.ExcludeChannels {
		for _, e := range s.numbers(d.Channel) {
			at := 2*e + int32(d.Dir&1)
			s.mark[at] = -1
			s.marked = append(s.marked, at)
		}
	}
}

func (s *search) growMarks() {
	if n := 2 * (len(s.g.edges) + len(s.extra)); len(s.mark) < n {
		s.mark = append(s.mark, make([]int32, n-len(s.mark))...)
	}
}

// numbers finds a channel: in the graph, among the others, or both.
func (s *search) numbers(id types.ChannelID) (list []int32) {
	if e, ok := s.g.edgeAt[id]; ok {
		list = append(list, e)
	}
	if e, ok := s.extraIDAt[id]; ok {
		list = append(list, e)
	}
	return list
}

// state returns the state of an arc to be changed. Not for excluded ones.
func (s *search) state(arc int32) *state {
	if s.mark[arc] <= 0 {
		s.states = append(s.states, state{span: span{0, s.edge(arc / 2).capacity}, arc: arc})
		s.mark[arc] = int32(len(s.states))
		s.marked = append(s.marked, arc)
	}
	return &s.states[s.mark[arc]-1]
}

// use takes what a route's locks need from the channels after the payer's own, whose CanSend counts them already.
func (s *search) use(r *Route, from int) {
	for i := from; i < len(r.Hops); i++ {
		h := &r.Hops[i]
		for _, e := range s.numbers(h.Channel) {
			if arc := 2*e + int32(h.dir&1); s.mark[arc] >= 0 {
				st := s.state(arc)
				st.used += h.Amount + h.Reserve
				st.locks++
			}
		}
	}
}

// edge returns a channel by its number.
func (s *search) edge(e int32) *edge {
	if n := len(s.g.edges); int(e) >= n {
		return &s.extra[int(e)-n]
	}
	return &s.g.edges[e]
}

// extraOf returns the rest of a channel that is not in the graph, or nil.
func (s *search) extraOf(e int32) *extra {
	if n := len(s.g.edges); int(e) >= n {
		return &s.extras[int(e)-n]
	}
	return nil
}

// run searches once and tells whether the payer was reached.
func (s *search) run(m metric, lim limits) bool {
	s.begin(m, lim)
	return s.dijkstra()
}

// begin forgets the labels of the run before.
func (s *search) begin(m metric, lim limits) {
	s.metric, s.lim, s.met = m, lim, obstacles{}
	if n := len(s.g.nodes) + len(s.extraNodes); len(s.labels) < n {
		s.labels = append(s.labels, make([]label, n-len(s.labels))...)
	}
	if s.epoch++; s.epoch == 0 {
		clear(s.labels)
		s.epoch = 1
	}
	s.heap = s.heap[:0]
}

func (s *search) dijkstra() bool {
	for _, n := range s.r.ExcludeNodes {
		if at, ok := s.g.nodeAt[n]; ok {
			s.labels[at] = label{epoch: s.epoch, done: true}
			s.met.excluded++
		} else if at, ok := s.extraAt[n]; ok {
			s.labels[at] = label{epoch: s.epoch, done: true}
			s.met.excluded++
		}
	}
	if s.labels[s.target].epoch == s.epoch || s.labels[s.source].epoch == s.epoch {
		return false
	}
	s.labels[s.target] = label{amount: s.amount, edge: -1, epoch: s.epoch}
	s.push(entry{0, s.target})
	for len(s.heap) > 0 {
		n := s.pop().node
		if n == s.source {
			return true
		}
		l := &s.labels[n]
		if l.done {
			continue
		}
		l.done = true
		s.expand(n, *l)
	}
	return false
}

// expand looks at every channel that ends at node n.
func (s *search) expand(n int32, l label) {
	if int(n) < len(s.g.nodes) {
		for _, e := range s.g.adj[n] {
			ed := &s.g.edges[e]
			dir := int32(0) // of the lock: towards n
			if ed.node[0] == n {
				dir = 1
			}
			if from := ed.node[dir]; from != s.source { // own channels are known better: Request.Locals
				s.relax(n, from, e, dir, ed, &l)
			}
		}
	}
	for _, e := range s.extraAdj[n] {
		ed := &s.extra[int(e)-len(s.g.edges)]
		dir := int32(0)
		if ed.node[0] == n {
			dir = 1
		}
		s.relax(n, ed.node[dir], e, dir, ed, &l)
	}
}

// relax tries the path from a node over channel e in direction dir to node n and on as l says.
func (s *search) relax(n, from, e, dir int32, ed *edge, l *label) {
	old := &s.labels[from]
	seen := old.epoch == s.epoch
	if seen && old.done {
		return
	}
	t, mark := &ed.terms[dir], s.mark[2*e+dir]
	carried, st := l.amount+l.asked, (*state)(nil)
	if mark > 0 {
		st = &s.states[mark-1]
	}
	switch {
	case mark < 0:
		s.met.excluded++
		return
	case !t.open:
		s.met.closed++
		return
	case carried > ed.capacity || l.amount > t.max || st != nil && carried > ed.capacity-st.used || from == s.source && !s.own(e, carried, st):
		s.met.capacity++
		return
	case l.amount < t.min:
		s.met.minimum++
		return
	case int(l.hops) >= s.lim.hops:
		s.met.hops++
		return
	}
	out, grown := s.expiry(n, ed, l)
	if out > s.lim.expiry {
		s.met.expiry++
		return
	}
	var fee, asked types.Amount
	if from != s.source {
		fee = t.fee(l.amount)
		asked = s.ask(e, t, l.amount, fee, out)
	}
	if left := s.lim.amount - carried; fee > left || asked > left-fee {
		s.met.fee++
		return
	}
	cost := l.cost
	switch s.metric {
	case byCost:
		cost = satAdd(cost, satAdd(uint64(fee+asked), satAdd(s.lockCost(l.amount, grown), s.riskCost(from, e, st, ed, l.amount))))
	case byFee:
		cost = satAdd(cost, uint64(fee+asked))
	case byHops:
		cost++
	case byExpiry:
		cost = satAdd(cost, uint64(grown))
	}
	if seen && (cost > old.cost || cost == old.cost && !s.better(e, l.hops+1, old)) {
		return
	}
	*old = label{cost: cost, amount: l.amount + fee, asked: l.asked + asked, out: out, delta: t.delta, edge: e, epoch: s.epoch, hops: l.hops + 1}
	s.push(entry{cost, from})
}

// own tells whether an own channel takes another lock of that much.
func (s *search) own(e int32, carried types.Amount, st *state) bool {
	x := s.extraOf(e)
	return carried <= s.edge(e).own() && (st == nil || x.slots == 0 || st.locks < x.slots)
}

// own is what one lock in an own channel can carry with its reservation fee.
func (e *edge) own() types.Amount { return max(e.terms[0].max, e.terms[1].max) }

// ask is what a node asks for adding a lock that expires at out. The payer pays for Slack blocks more, because the hop
// may not be as far as the payer. A blinded path asks for the lock that comes in at its entry, and its hops round.
func (s *search) ask(e int32, t *terms, amount, fee types.Amount, out types.Height) types.Amount {
	if t.reserve == 0 {
		return 0
	}
	blocks := uint32(out-s.r.Height) + s.r.Slack
	if x := s.extraOf(e); x != nil && x.blinded > 0 {
		return min(types.MaxAmount-htlc.MaxHops, ask(t.reserve, amount+min(fee, types.MaxAmount-amount), 0, blocks+t.delta)) + htlc.MaxHops
	}
	return ask(t.reserve, amount, t.floor, blocks)
}

// better breaks ties in a way that does not depend on the order in which the graph was learnt: fewer hops, then the lower channel id.
func (s *search) better(e int32, hops uint8, old *label) bool {
	if hops != old.hops {
		return hops < old.hops
	}
	if int(e) >= len(s.g.edges) || int(old.edge) >= len(s.g.edges) {
		return false
	}
	return compareIDs(s.g.known[e].ann.Channel, s.g.known[old.edge].ann.Channel) < 0
}

// expiry returns what the lock in channel ed into node n must expire at, and how much later that is than what comes after.
func (s *search) expiry(n int32, ed *edge, l *label) (types.Height, uint32) {
	if n == s.target {
		grown := max(s.r.FinalDelta, ed.minAhead) + s.r.Slack
		return s.r.Height + types.Height(grown), grown
	}
	grown := max(l.delta, ed.lockDelta)
	return l.out + types.Height(grown), grown
}

// fee is Policy.Fee without an error: what overflows is more than any budget.
func (t *terms) fee(amount types.Amount) types.Amount {
	f, err := amount.MulDiv(uint64(t.millionths), 1_000_000)
	if err != nil || f > types.MaxAmount-t.base {
		return types.MaxAmount
	}
	return f + t.base
}

func (s *search) lockCost(amount types.Amount, blocks uint32) uint64 {
	hi, lo := bits.Mul64(uint64(amount), s.r.Cost.LockTrillionths)
	if hi >= 1_000_000_000_000 {
		return math.MaxUint64
	}
	// rem is below 2^40 and blocks below 2^23 (MaxDelta and the limits of types.Timing): the product fits.
	q, rem := bits.Div64(hi, lo, 1_000_000_000_000)
	return satAdd(satMul(q, uint64(blocks)), rem*uint64(blocks)/1_000_000_000_000)
}

// riskCost is what the attempt is worth times -ln of the odds that this channel carries the amount.
func (s *search) riskCost(from, e int32, st *state, ed *edge, amount types.Amount) uint64 {
	if from == s.source {
		return 0 // what an own channel can send is known
	}
	if x := s.extraOf(e); x != nil && x.blinded > 0 {
		return 0 // the same for every way to it
	}
	n := uint64(0)
	if st != nil {
		n = st.span.nats(st.used, amount)
	} else {
		n = span{0, ed.capacity}.nats(0, amount)
	}
	if len(s.nodeNats) > 0 {
		n += s.nodeNats[from]
	}
	hi, lo := bits.Mul64(s.attempt, n)
	if hi >= natOne {
		return math.MaxUint64
	}
	return hi<<48 | lo>>16
}

func satAdd(a, b uint64) uint64 {
	c, carry := bits.Add64(a, b, 0)
	if carry != 0 {
		return math.MaxUint64
	}
	return c
}

func satMul(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	if hi != 0 {
		return math.MaxUint64
	}
	return lo
}

// push and pop keep a binary heap by (cost, node); container/heap would cost an interface call a comparison.
func (s *search) push(x entry) {
	h := append(s.heap, x)
	i := len(h) - 1
	for i > 0 {
		up := (i - 1) / 2
		if !h[i].before(h[up]) {
			break
		}
		h[i], h[up] = h[up], h[i]
		i = up
	}
	s.heap = h
}

func (s *search) pop() entry {
	h := s.heap
	top, last := h[0], len(h)-1
	h[0] = h[last]
	h = h[:last]
	for i := 0; ; {
		c := 2*i + 1
		if c >= last {
			break
		}
		if c+1 < last && h[c+1].before(h[c]) {
			c++
		}
		if !h[c].before(h[i]) {
			break
		}
		h[i], h[c] = h[c], h[i]
		i = c
	}
	s.heap = h
	return top
}

func (a entry) before(b entry) bool { return a.cost < b.cost || a.cost == b.cost && a.node < b.node }
