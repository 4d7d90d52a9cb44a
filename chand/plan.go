package chand

import (
	"math"

	"github.com/eschaton-network/chand/route"
	"github.com/eschaton-network/chand/types"
)

// Plan is how a payment would be made now. Nothing is saved, signed or locked for it, and the next block may change it.
type Plan struct {
	To     types.NodeID
	Amount types.Amount
	// Fee is paid if the payment succeeds, Reserve in any case; MaxFee is the limit for both together.
	Fee, Reserve, MaxFee types.Amount
	Parts                []PlanPart
	// Odds that all parts get through at the first try, as far as is known here: 0..1.
	Odds float64
}

// PlanPart is one lock of a plan, or one signature in a channel with the payee (Expiry 0: nothing is locked).
type PlanPart struct {
	Amount, Fee, Reserve types.Amount
	Expiry               types.Height
	Odds                 float64
	Hops                 []PlanHop
}

// PlanHop is one channel of a part, and the node at its end.
type PlanHop struct {
	Node    types.NodeID
	Channel types.ChannelID
	// Amount of the lock; Fee and Reserve are what Node keeps for passing it on.
	Amount, Fee, Reserve types.Amount
	Expiry               types.Height
	Odds                 float64
}

// PlanPayment says how Pay would make a payment, or why it can't.
func (d *Daemon) PlanPayment(q PayRequest) (Plan, error) {
	rec, inv, err := d.newPayment(q)
	if err != nil {
		return Plan{}, err
	}
	old, err := d.paidBefore(&rec)
	switch {
	case err != nil:
		return Plan{}, err
	case old != nil:
		return Plan{}, &Error{Code: CodeAlreadyPaid, Text: "this was paid before: the payment " + old.Hash.String() + " is " + old.State,
			Next: "see `chancli payment show " + old.Hash.String() + "`", Money: noMoneyMoved}
	case inv != nil && expired(inv, d.now()):
		return Plan{}, errExpired(inv)
	}
	plan := Plan{To: rec.Peer, Amount: rec.Amount, MaxFee: rec.MaxFee, Odds: 1}
	if r := d.directChannel(rec.Peer, rec.Amount, nil); r != nil && rec.Circle == nil {
		plan.Parts = []PlanPart{{Amount: rec.Amount, Odds: 1, Hops: []PlanHop{{Node: rec.Peer, Channel: r.view.Load().State.ID, Amount: rec.Amount, Odds: 1}}}}
		return plan, nil
	}
	t := wayRequest{to: rec.Peer, amount: rec.Amount, hash: rec.Hash, maxFee: rec.MaxFee, circle: rec.Circle}
	if inv != nil {
		t.follow(inv)
	}
	routes, err := d.findFlow(t, rec.MaxParts)
	if err != nil {
		return Plan{}, err
	}
	for i := range routes {
		part := planPart(&routes[i], rec.Amount)
		plan.Parts = append(plan.Parts, part)
		plan.Fee, plan.Reserve, plan.Odds = plan.Fee+part.Fee, plan.Reserve+part.Reserve, plan.Odds*part.Odds
	}
	return plan, nil
}

func planPart(r *route.Route, total types.Amount) PlanPart {
	p := PlanPart{Amount: r.Delivered(), Fee: r.Fee, Reserve: r.Reserve, Expiry: r.Hops[0].Expiry, Odds: 1}
	for i := range r.Hops {
		h := &r.Hops[i]
		odds := oddsOf(h.RiskCost, total)
		p.Odds *= odds
		p.Hops = append(p.Hops, PlanHop{Node: h.Node, Channel: h.Channel, Amount: h.Amount, Fee: h.Fee, Reserve: h.Ask, Expiry: h.Expiry, Odds: odds})
	}
	return p
}

// oddsOf is the probability behind a risk cost of the path search, which is the worth of an attempt times -ln of it.
func oddsOf(risk, total types.Amount) float64 {
	attempt := float64(route.DefaultCost.Attempt) + float64(total)*float64(route.DefaultCost.AttemptMillionths)/1e6
	return math.Exp(-float64(risk) / attempt)
}
