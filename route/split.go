package route

import (
	"cmp"
	"slices"

	"github.com/eschaton-network/chand/types"
)

// take counts a part's locks as used, the one in the payer's own channel too.
func (s *search) take(r *Route) { s.use(r, 0) }

// untake gives them back.
func (s *search) untake(r *Route) {
	for i := range r.Hops {
		h := &r.Hops[i]
		for _, e := range s.numbers(h.Channel) {
			if arc := 2*e + int32(h.dir&1); s.mark[arc] > 0 {
				st := &s.states[s.mark[arc]-1]
				st.used -= h.Amount + h.Reserve
				st.locks--
			}
		}
	}
}

// release forgets the parts, but not what is under way.
func (s *search) release() {
	for i := range s.states {
		s.states[i].used, s.states[i].locks = 0, 0
	}
	for _, r := range s.r.InFlight {
		s.use(r, 1)
	}
}

// halve splits in the plain way: the whole rest by one route, or if there is none half of it, and so on.
func (s *search) halve() (Flow, bool) {
	s.release()
	return s.complete(nil)
}

// complete adds parts to those given, which are taken already, until the amount is reached.
func (s *search) complete(parts []Route) (Flow, bool) {
	r := s.r
	rest, fees := r.Amount, r.MaxFee
	for i := range parts {
		rest -= parts[i].Delivered()
		fees -= parts[i].Fee + parts[i].Reserve
	}
	if fees < 0 {
		return Flow{}, false
	}
	for part := rest; rest > 0; part = min(part, rest) {
		left := r.MaxParts - len(parts)
		if left <= 0 || part < (rest+types.Amount(left)-1)/types.Amount(left) {
			return Flow{}, false // too few places for parts that small
		}
		s.amount = part
		got, ok := s.find(s.limits(part, fees))
		if !ok {
			part /= 2
			continue
		}
		s.take(&got)
		parts = append(parts, got)
		rest -= part
		fees -= got.Fee + got.Reserve
		part = rest
	}
	return s.sum(inOrder(parts)), true
}

// inOrder puts the largest part first.
func inOrder(parts []Route) []Route {
	slices.SortStableFunc(parts, func(a, b Route) int { return cmp.Compare(b.Delivered(), a.Delivered()) })
	return parts
}

// explainFlow says why even parts don't get there.
func (s *search) explainFlow(met obstacles, lim limits) *NoRouteError {
	why := s.explain(met, lim)
	if why.Why == AmountTooBig || why.Why == NoBalance {
		return noRoute(why.Why, "not even %d parts together bring %s to %s: %s", s.r.MaxParts, s.r.Amount, s.r.Target, why.Text)
	}
	return why
}
