package route

import "github.com/eschaton-network/chand/types"

// FindRoute returns the path of least cost (fees and reservation fees, price of locking money, odds of failing) that keeps all limits of the request. Every
// error is a *NoRouteError. s may be nil. Not changing the graph, it may run beside other searches with other scratches.
//
// It is Dijkstra's algorithm with one label a node, so with limits that bind it can miss the very best path. It never
// misses the best because of that altogether: when the limits cut every cheap path off, it looks once more for the least of what was cut
// off: fee, hops or expiry.
func (g *Graph) FindRoute(r Request, s *Scratch) (Route, error) {
	if bad := r.check(false); bad != nil {
		return Route{}, bad
	}
	run := g.newSearch(&r, s)
	lim := run.limits(r.Amount, r.MaxFee)
	if got, ok := run.find(lim); ok {
		return got, nil
	}
	return Route{}, run.explain(run.met, lim)
}

// limits of a part.
func (s *search) limits(amount, maxFee types.Amount) limits {
	lim := limits{amount: types.MaxAmount, hops: s.r.MaxHops, expiry: s.r.Height + types.Height(s.r.MaxAhead)}
	if maxFee < types.MaxAmount-amount {
		lim.amount = amount + maxFee
	}
	return lim
}

// find searches once for the least cost, and should limits cut that off, for the least of what they cut off. met is left as
// the first search met it.
func (s *search) find(lim limits) (Route, bool) {
	if s.run(byCost, lim) {
		return s.route(), true
	}
	met := s.met
	defer func() { s.met = met }()
	for _, again := range []struct {
		count int
		metric
	}{{met.fee, byFee}, {met.hops, byHops}, {met.expiry, byExpiry}} {
		if again.count > 0 && s.run(again.metric, lim) {
			return s.route(), true
		}
	}
	return Route{}, false
}

// route reads the labels from the payer on.
func (s *search) route() Route {
	r := Route{Hops: make([]Hop, 0, s.labels[s.source].hops)}
	for n := s.source; n != s.target; {
		l := s.labels[n]
		ed := s.edge(l.edge)
		dir := int32(0)
		if ed.node[1] == n {
			dir = 1
		}
		to := ed.node[1-dir]
		next := s.labels[to]
		r.Hops = append(r.Hops, s.hop(n, to, dir, &l, &next))
		if x := s.extraOf(l.edge); x != nil && x.blinded > 0 {
			r.Blinded = x.blinded
		}
		h := &r.Hops[len(r.Hops)-1]
		r.Cost = satAdd(r.Cost, satAdd(uint64(h.Fee+h.Ask), satAdd(uint64(h.LockCost), uint64(h.RiskCost))))
		n = to
	}
	r.Amount, r.Reserve = r.Hops[0].Amount, r.Hops[0].Reserve
	r.Fee = r.Amount - s.amount
	return r
}

// hop is the step from node n with label l to node to with label next.
func (s *search) hop(n, to, dir int32, l, next *label) Hop {
	ed, arc := s.edge(l.edge), 2*l.edge+dir
	var st *state
	if s.mark[arc] > 0 {
		st = &s.states[s.mark[arc]-1]
	}
	_, grown := s.expiry(to, ed, next)
	h := Hop{Node: s.id(to), Channel: s.channelID(l.edge), Amount: next.amount, Expiry: l.out, Reserve: next.asked, Key: s.r.TargetKey,
		LockCost: clampCost(s.lockCost(next.amount, grown)), RiskCost: clampCost(s.riskCost(n, l.edge, st, ed, next.amount)),
		capacity: ed.capacity, dir: uint8(dir)}
	if x := s.extraOf(l.edge); x != nil && x.blinded > 0 {
		h.capacity, h.Key = 0, types.OnionKey{}
	}
	if to == s.target {
		if h.Key.IsZero() && h.capacity > 0 {
			h.Key = s.g.OnionKey(h.Node)
		}
		return h
	}
	after := s.labels[s.far(next.edge, to)]
	h.Fee, h.Ask, h.Key = next.amount-after.amount, next.asked-after.asked, s.keyOf(next.edge, to)
	return h
}

func (s *search) channelID(e int32) types.ChannelID {
	if x := s.extraOf(e); x != nil {
		return x.id
	}
	return s.g.known[e].ann.Channel
}

// keyOf is the onion key of the node that adds a lock to channel e.
func (s *search) keyOf(e, node int32) types.OnionKey {
	if x := s.extraOf(e); x != nil {
		return x.key
	}
	if s.g.edges[e].node[1] == node {
		return s.g.known[e].key(1)
	}
	return s.g.known[e].key(0)
}

// far returns the other end of a channel.
func (s *search) far(e, n int32) int32 {
	ed := s.edge(e)
	if ed.node[0] == n {
		return ed.node[1]
	}
	return ed.node[0]
}

func clampCost(c uint64) types.Amount { return types.Amount(min(c, uint64(types.MaxAmount))) }

// explain says what kept the search from the payee. It looks for the paths that would be there without the limits, so that it can
// say by how much they are exceeded.
func (s *search) explain(met obstacles, lim limits) *NoRouteError {
	to := s.r.Target
	if s.reachable() == 0 {
		return noRoute(UnknownPayee, "no public channel of %s is known, and no route hint leads there: gossip may not have arrived yet, "+
			"or it has no channels; an invoice made by it names a way in, or open a channel with it", to)
	}
	free := limits{amount: types.MaxAmount, hops: 255, expiry: lim.expiry + 1<<30}
	if met.fee > 0 && s.run(byFee, limits{amount: free.amount, hops: lim.hops, expiry: lim.expiry}) {
		return noRoute(FeeAboveLimit, "the cheapest path to %s costs %s in fees, the limit is %s: raise the fee limit", to, s.route().Fee, s.r.MaxFee)
	}
	if met.hops > 0 && s.run(byHops, limits{amount: lim.amount, hops: free.hops, expiry: lim.expiry}) {
		return noRoute(TooManyHops, "the shortest path to %s has %d hops, the limit is %d: open a channel closer to it", to, len(s.route().Hops), lim.hops)
	}
	if met.expiry > 0 && s.run(byExpiry, limits{amount: lim.amount, hops: lim.hops, expiry: free.expiry}) {
		return noRoute(ExpiryTooFar, "money would be locked for up to %d blocks on the way to %s, the limit is %d: raise it, or open a channel closer to it",
			s.route().Hops[0].Expiry-s.r.Height, to, s.r.MaxAhead)
	}
	if met.fee+met.hops+met.expiry > 0 && s.run(byFee, free) {
		r := s.route()
		return noRoute(FeeAboveLimit, "the paths to %s exceed more than one limit: one costs %s in fees (limit %s), has %d hops (limit %d) and locks money for %d blocks (limit %d)",
			to, r.Fee, s.r.MaxFee, len(r.Hops), lim.hops, r.Hops[0].Expiry-s.r.Height, s.r.MaxAhead)
	}
	switch {
	case met.excluded > 0:
		return noRoute(AllExcluded, "every path to %s uses one of the %d channels or nodes that refused this payment or were excluded", to,
			len(s.r.ExcludeChannels)+len(s.r.ExcludeNodes))
	case met.capacity > 0:
		return noRoute(AmountTooBig, "every path to %s has a channel that is too small for %s with fees, counting %d that were tried: pay less at once", to, s.r.Amount, met.capacity)
	case met.minimum > 0:
		return noRoute(AmountTooSmall, "every path to %s has a channel that carries no payment as small as %s", to, s.r.Amount)
	case met.closed > 0:
		return noRoute(NoPath, "every path to %s has a channel that is disabled or has no policy yet", to)
	}
	return noRoute(NoPath, "the channels known do not connect this node with %s", to)
}

// reachable counts the channels that end at the payee.
func (s *search) reachable() int {
	n := len(s.extraAdj[s.target])
	if int(s.target) < len(s.g.nodes) {
		n += len(s.g.adj[s.target])
	}
	return n
}
