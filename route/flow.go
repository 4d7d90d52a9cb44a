package route

import "github.com/eschaton-network/chand/types"

// Flow is a payment in parts: routes whose deliveries add up to the request's amount.
type Flow struct {
	// Parts begin with the largest. Each is a lock of its own, with an onion of its own.
	Parts []Route
	// Amount is what leaves the payer if all parts succeed, without Reserve: what the payee gets and Fee. Reserve is paid when the locks are
	// added, whatever happens.
	Amount, Fee, Reserve types.Amount
	// Cost is the sum of the parts' costs and Request.Cost.Part for each part after the first.
	Cost uint64
}

// sum makes a flow of parts.
func (s *search) sum(parts []Route) (f Flow) {
	f.Parts = parts
	for i := range parts {
		p := &parts[i]
		f.Amount, f.Fee, f.Reserve = f.Amount+p.Amount, f.Fee+p.Fee, f.Reserve+p.Reserve
		f.Cost = satAdd(f.Cost, p.Cost)
		if i > 0 {
			f.Cost = satAdd(f.Cost, uint64(max(0, s.r.Cost.Part)))
		}
	}
	return f
}

// FindFlow returns routes that together bring the amount to the payee, at most MaxParts, within the limits of the request taken together (MaxFee)
// or each (MaxHops, MaxAhead), none of which takes what another needs. One route is preferred when it costs no more. Every error
// is a *NoRouteError. s may be nil. Like FindRoute it may run beside other searches.
func (g *Graph) FindFlow(r Request, s *Scratch) (Flow, error) {
	if bad := r.check(true); bad != nil {
		return Flow{}, bad
	}
	run := g.newSearch(&r, s)
	lim := run.limits(r.Amount, r.MaxFee)
	one, single := run.find(lim)
	met := run.met
	if single && one.risk() <= uint64(max(0, r.Cost.Part)) || r.MaxParts == 1 {
		if !single {
			return Flow{}, run.explain(met, lim)
		}
		return run.sum([]Route{one}), nil
	}
	var best Flow
	if single {
		best = run.sum([]Route{one})
	}
	if f, ok := run.cheapestFlow(); ok && (best.Parts == nil || f.Cost < best.Cost) {
		best = f
	} else if best.Parts == nil {
		best, _ = run.halve()
	}
	if best.Parts == nil {
		run.release()
		run.amount = r.Amount
		return Flow{}, run.explainFlow(met, lim)
	}
	return best, nil
}

// risk is the part of the cost that better odds could save.
func (r *Route) risk() (sum uint64) {
	for i := range r.Hops {
		sum = satAdd(sum, uint64(r.Hops[i].RiskCost))
	}
	return sum
}
