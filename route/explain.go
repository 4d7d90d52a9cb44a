package route

import (
	"math"
	"slices"

	"github.com/eschaton-network/chand/types"
)

// HopCost says what one hop of a route adds to its cost, and why. All amounts are in units of money.
type HopCost struct {
	Node    types.NodeID
	Channel types.ChannelID
	Amount  types.Amount
	Expiry  types.Height
	// Base and Proportional are what Node takes for passing the lock on, Ask what it takes for adding the next one, all 0 for the payee.
	Base, Proportional, Ask types.Amount
	// LockBlocks is how much longer the lock on Channel lives than the next, and LockCost the price of its amount for that time.
	LockBlocks uint32
	LockCost   types.Amount
	// Capacity of the channel; Low and High bound what is supposed that it can carry; Used is taken by locks under way.
	Capacity, Low, High, Used types.Amount
	// Channels and Conduct are the odds of success in millionths: of the channel, and of the node that is to use it, by how it did before.
	ChannelMillionths, NodeMillionths uint32
	// RiskCost is what these odds cost.
	RiskCost types.Amount
	// Total is the sum: fees, reservation fee, lock cost and risk cost.
	Total uint64
}

// Explanation is a route with every term of its cost.
type Explanation struct {
	Hops []HopCost
	// Route is the route as it would be priced now.
	Route Route
	// SuccessMillionths are the odds of the whole route.
	SuccessMillionths uint32
}

// Explain prices a route by what is known now, and shows the terms. It fails with a *NoRouteError when the route keeps the request's limits
// or the policies no longer.
func (g *Graph) Explain(r Request, route Route) (Explanation, error) {
	r.Amount = route.Delivered()
	if bad := r.check(true); bad != nil {
		return Explanation{}, bad
	}
	s := g.newSearch(&r, nil)
	way, ok := s.wayOf(&route)
	if !ok {
		return Explanation{}, noRoute(NoPath, "a channel of the route is not known any more")
	}
	lim := s.limits(r.Amount, r.MaxFee)
	now, ok := s.walk(way, r.Amount, lim)
	if !ok {
		return Explanation{}, s.refused(lim)
	}
	e := Explanation{Route: now}
	all, n := uint64(0), s.source
	for i := range now.Hops {
		h, nats := s.hopCost(&now, i, n, way[i])
		all += nats
		e.Hops = append(e.Hops, h)
		n = s.edge(way[i] / 2).node[way[i]&1^1]
	}
	e.SuccessMillionths = millionths(all)
	return e, nil
}

// hopCost takes a hop of a route apart. n is the node that it begins at.
func (s *search) hopCost(r *Route, i int, n, arc int32) (HopCost, uint64) {
	h, ed := &r.Hops[i], s.edge(arc/2)
	c := HopCost{Node: h.Node, Channel: h.Channel, Amount: h.Amount, Expiry: h.Expiry, Ask: h.Ask, LockCost: h.LockCost, RiskCost: h.RiskCost,
		Capacity: ed.capacity, High: ed.capacity, LockBlocks: uint32(h.Expiry - s.r.Height)}
	if i+1 < len(r.Hops) {
		c.LockBlocks = uint32(h.Expiry - r.Hops[i+1].Expiry)
		c.Base = s.baseFee(&r.Hops[i+1])
		c.Proportional = h.Fee - c.Base
	}
	known := span{0, ed.capacity}
	if m := s.mark[arc]; m > 0 {
		known, c.Used = s.states[m-1].span, s.states[m-1].used
	}
	c.Low, c.High = known.low, known.high
	odds, conduct := uint64(0), uint64(0)
	if x := s.extraOf(arc / 2); n != s.source && (x == nil || x.blinded == 0) {
		odds, conduct = known.nats(c.Used, h.Amount), s.nodeNats[n]
	}
	c.ChannelMillionths, c.NodeMillionths = millionths(odds), millionths(conduct)
	c.Total = satAdd(uint64(h.Fee+h.Ask), satAdd(uint64(h.LockCost), uint64(h.RiskCost)))
	return c, odds + conduct
}

// baseFee is what the node before a hop asks for any lock over its channel.
func (s *search) baseFee(h *Hop) types.Amount {
	for _, e := range s.numbers(h.Channel) {
		if t := &s.edge(e).terms[h.dir]; t.open {
			return t.base
		}
	}
	return 0
}

// wayOf finds the arcs of a route: own channels, hints and blinded paths where the search keeps them, the others in the graph.
func (s *search) wayOf(r *Route) (way []int32, ok bool) {
	n := s.source
	for i := range r.Hops {
		list := s.numbers(r.Hops[i].Channel)
		slices.Reverse(list) // what the search added itself is better known
		at := slices.IndexFunc(list, func(e int32) bool { return s.edge(e).node[r.Hops[i].dir&1] == n })
		if at < 0 {
			return nil, false
		}
		arc := 2*list[at] + int32(r.Hops[i].dir&1)
		way = append(way, arc)
		n = s.edge(arc / 2).node[arc&1^1]
	}
	return way, n == s.target
}

// refused says which limit a given way met.
func (s *search) refused(lim limits) *NoRouteError {
	switch met := s.met; {
	case met.excluded > 0:
		return noRoute(AllExcluded, "a channel of the route refused this payment or was excluded")
	case met.closed > 0:
		return noRoute(NoPath, "a channel of the route is disabled or has no policy")
	case met.capacity > 0:
		return noRoute(AmountTooBig, "a channel of the route can't carry %s with fees", s.amount)
	case met.minimum > 0:
		return noRoute(AmountTooSmall, "a channel of the route carries no payment as small as %s", s.amount)
	case met.fee > 0:
		return noRoute(FeeAboveLimit, "the route costs more than the fee limit of %s", s.r.MaxFee)
	case met.hops > 0:
		return noRoute(TooManyHops, "the route has more than %d hops", lim.hops)
	}
	return noRoute(ExpiryTooFar, "the route locks money for more than %d blocks", s.r.MaxAhead)
}

// millionths shows odds that are kept as -ln. For people only: nothing is decided by it.
func millionths(nats uint64) uint32 { return uint32(math.Round(1e6 * math.Exp(-float64(nats)/natOne))) }
