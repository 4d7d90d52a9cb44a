package route

import (
	"bytes"
	"math"
	"math/bits"
	"slices"

	"github.com/eschaton-network/chand/types"
)

// Scratch is the memory of a search, to be used again by the next: a search over a known graph then allocates its result only. One
// search at a time.
type Scratch struct {
	labels []label // by node
	epoch  uint32  // labels of other epochs are empty
	heap   []entry
	mark   []int32 // by channel*2+direction: 0, -1 excluded, or 1 + index in learnt
	marked []int32 // what is not 0 in mark
	learnt []experience

	// Nodes and channels that are not in the graph: own channels and hints.
	extraNodes []types.NodeID
	extraAt    map[types.NodeID]int32
	extra      []edge
	extraIDs   []types.ChannelID
	extraIDAt  map[types.ChannelID]int32
	extraAdj   map[int32][]int32
	nodeOdds   map[int32]uint64
}

// label is the best path known from a node to the payee.
type label struct {
	cost   uint64
	amount types.Amount // of the lock that the node must receive
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
	amount types.Amount // most that may leave the payer
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
	attempt        uint64
	source, target int32
	met            obstacles
}

// prepare numbers what is not in the graph and marks what is excluded or learnt.
func (s *search) prepare() {
	r := s.r
	s.extraNodes, s.extra, s.extraIDs = s.extraNodes[:0], s.extra[:0], s.extraIDs[:0]
	s.extraAt, s.extraIDAt = map[types.NodeID]int32{}, map[types.ChannelID]int32{}
	s.extraAdj, s.nodeOdds = map[int32][]int32{}, map[int32]uint64{}
	for _, m := range s.marked {
		s.mark[m] = 0
	}
	s.marked, s.learnt = s.marked[:0], s.learnt[:0]
	s.source, s.target = s.number(r.Source), s.number(r.Target)
	fee, err := r.Amount.MulDiv(uint64(r.Cost.AttemptMillionths), 1_000_000)
	if err != nil {
		fee = types.MaxAmount
	}
	s.attempt = satAdd(uint64(fee), uint64(max(0, r.Cost.Attempt)))

	locals := slices.Clone(r.Locals) // of equal ones the fullest is taken, which keeps the channels even
	slices.SortFunc(locals, func(a, b Local) int {
		if a.CanSend != b.CanSend {
			if a.CanSend > b.CanSend {
				return -1
			}
			return 1
		}
		return compareIDs(a.Channel, b.Channel)
	})
	for _, l := range locals {
		s.addEdge(r.Source, l.Peer, l.Channel, edge{capacity: l.CanSend, lockDelta: l.Timing.ForwardDelta(), minAhead: uint32(l.Timing.MinExpiry(0))},
			terms{max: l.CanSend, open: true})
	}
	for _, path := range r.Hints {
		for i, h := range path[:min(len(path), MaxHintHops)] {
			to := r.Target
			if i+1 < len(path) {
				to = path[i+1].Node
			}
			if h.Node != r.Source && h.Delta <= MaxDelta && h.Millionths <= 1_000_000 && h.Base >= 0 && h.Base <= types.MaxAmount {
				s.addEdge(h.Node, to, h.Channel, edge{capacity: types.MaxAmount},
					terms{base: h.Base, millionths: h.Millionths, delta: h.Delta, max: types.MaxAmount, open: true})
			}
		}
	}
	s.markAll()
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
func (s *search) addEdge(from, to types.NodeID, id types.ChannelID, e edge, t terms) {
	if _, twice := s.extraIDAt[id]; twice || from == to {
		return
	}
	e.node = [2]int32{s.number(from), s.number(to)}
	e.terms[0] = t
	if bytes.Compare(from[:], to[:]) > 0 {
		e.node[0], e.node[1] = e.node[1], e.node[0]
		e.terms[0], e.terms[1] = terms{}, t
	}
	n := int32(len(s.g.edges) + len(s.extra))
	s.extra, s.extraIDs = append(s.extra, e), append(s.extraIDs, id)
	s.extraIDAt[id] = n
	end := s.number(to) // channels are looked up from their far end
	s.extraAdj[end] = append(s.extraAdj[end], n)
}

// markAll puts exclusions and experiences where the search finds them by number.
func (s *search) markAll() {
	if n := 2 * (len(s.g.edges) + len(s.extra)); len(s.mark) < n {
		s.mark = append(s.mark, make([]int32, n-len(s.mark))...)
	}
	set := func(d Directed, value int32) {
		if e, ok := s.g.edgeAt[d.Channel]; ok {
			s.setMark(2*e+int32(d.Dir&1), value)
		}
		if e, ok := s.extraIDAt[d.Channel]; ok {
			s.setMark(2*e+int32(d.Dir&1), value)
		}
	}
	if p := s.r.Penalties; p != nil {
		for d, e := range p.channels {
			s.learnt = append(s.learnt, e)
			set(d, int32(len(s.learnt)))
		}
		for n, at := range p.nodes {
			if w := weight(at, s.r.Now); w > 0 {
				s.nodeOdds[s.number(n)] = nodeOdds * w / oddsOne
			}
		}
	}
	for _, d := range s.r.ExcludeChannels {
		set(d, -1)
	}
}

func (s *search) setMark(at, value int32) {
	s.mark[at] = value
	s.marked = append(s.marked, at)
}

// run searches once and tells whether the payer was reached.
func (s *search) run(m metric, lim limits) bool {
	s.metric, s.lim, s.met = m, lim, obstacles{}
	if n := len(s.g.nodes) + len(s.extraNodes); len(s.labels) < n {
		s.labels = append(s.labels, make([]label, n-len(s.labels))...)
	}
	if s.epoch++; s.epoch == 0 {
		clear(s.labels)
		s.epoch = 1
	}
	s.heap = s.heap[:0]
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
	s.labels[s.target] = label{amount: s.r.Amount, edge: -1, epoch: s.epoch}
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
	switch {
	case mark < 0:
		s.met.excluded++
		return
	case !t.open:
		s.met.closed++
		return
	case l.amount > ed.capacity || l.amount > t.max:
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
	var fee types.Amount
	if from != s.source {
		fee = t.fee(l.amount)
	}
	if fee > s.lim.amount-l.amount {
		s.met.fee++
		return
	}
	cost := l.cost
	switch s.metric {
	case byCost:
		cost = satAdd(cost, satAdd(uint64(fee), satAdd(s.lockCost(l.amount, grown), s.riskCost(from, mark, ed, l.amount))))
	case byFee:
		cost = satAdd(cost, uint64(fee))
	case byHops:
		cost++
	case byExpiry:
		cost = satAdd(cost, uint64(grown))
	}
	if seen && (cost > old.cost || cost == old.cost && !s.better(e, l.hops+1, old)) {
		return
	}
	*old = label{cost: cost, amount: l.amount + fee, out: out, delta: t.delta, edge: e, epoch: s.epoch, hops: l.hops + 1}
	s.push(entry{cost, from})
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

// riskCost is what the attempt is worth times the odds that this channel fails.
func (s *search) riskCost(from int32, mark int32, ed *edge, amount types.Amount) uint64 {
	if from == s.source {
		return 0 // what an own channel can send is known
	}
	o := odds(amount, ed.capacity)
	if mark > 0 {
		o = s.learnt[mark-1].odds(amount, o, s.r.Now)
	}
	if len(s.nodeOdds) > 0 {
		o = min(maxOdds, o+s.nodeOdds[from])
	}
	hi, lo := bits.Mul64(s.attempt, o)
	if hi >= oddsOne {
		return math.MaxUint64
	}
	q, _ := bits.Div64(hi, lo, oddsOne)
	return q
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
