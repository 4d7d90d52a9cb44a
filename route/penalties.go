package route

import (
	"github.com/eschaton-network/chand/htlc"
	"github.com/eschaton-network/chand/types"
)

const (
	// HalfLife is after how many seconds an experience counts half. Balances move with every payment, so it is short; a
	// new attempt after hours starts nearly afresh.
	HalfLife = 3600
	// MaxPenalties bounds what is remembered; beyond it the weakest go first.
	MaxPenalties = 1 << 14

	// Odds of failing (failures per success) are counted in 1/oddsOne. maxOdds is what "it has just failed" counts.
	oddsOne = 1 << 10
	maxOdds = 64 * oddsOne
	// nodeOdds is what each channel of a node that failed as a whole counts at first.
	nodeOdds = 8 * oddsOne
)

// Directed names one direction of a channel: 0 is from the node with the lower id.
type Directed struct {
	Channel types.ChannelID
	Dir     uint8
}

// experience is what payments have taught about a direction of a channel, or about a node (failAmount only).
type experience struct {
	failAmount, okAmount types.Amount
	failAt, okAt         types.Time // 0: never
}

// Penalties is what the payer has learnt from results: which channels carried how much, and which did not. One goroutine owns it.
type Penalties struct {
	channels map[Directed]experience
	nodes    map[types.NodeID]types.Time
}

// NewPenalties returns an empty memory.
func NewPenalties() *Penalties {
	return &Penalties{channels: map[Directed]experience{}, nodes: map[types.NodeID]types.Time{}}
}

// Succeeded records that a payment went over the whole route.
func (p *Penalties) Succeeded(r *Route, now types.Time) {
	for i := 1; i < len(r.Hops); i++ {
		p.success(r.Hops[i], now)
	}
}

// Failed records a failure that the node of hop index reported (as htlc.DecryptFailure names it): the channels up to that node carried the
// amount, the one behind it did not. updated: the failure brought a newer policy of that channel which is now in the
// graph, so the next search avoids the refusal by itself and the channel is not blamed. What the failure says is the
// hop's word alone, so only the hop and its own channel are blamed, whatever channel it names. retry is false when
// another path can't help.
func (p *Penalties) Failed(r *Route, index int, f *htlc.Failure, updated bool, now types.Time) (retry bool) {
	if index < 0 || index >= len(r.Hops) {
		p.Garbled(r, now)
		return true
	}
	for i := 1; i <= index; i++ {
		p.success(r.Hops[i], now)
	}
	switch last := index == len(r.Hops)-1; {
	case last:
		return f.Code == htlc.TemporaryNodeFailure || f.Code == htlc.FinalIncorrectExpiry || f.Code == htlc.FinalIncorrectAmount
	case f.Code.OfNode():
		p.nodes[r.Hops[index].Node] = now
	case updated && f.Code.Update() && f.Code != htlc.TemporaryChannelFailure:
	default:
		p.failure(r.Hops[index+1], f.Code.Permanent(), now)
	}
	p.bound(now)
	return true
}

// Garbled records a failure that names no hop: every node between payer and payee may be to blame.
func (p *Penalties) Garbled(r *Route, now types.Time) {
	for i := 0; i+1 < len(r.Hops); i++ {
		p.nodes[r.Hops[i].Node] = now
	}
	p.bound(now)
}

func (p *Penalties) success(h Hop, now types.Time) {
	e := p.channels[h.directed()]
	if e.okAt == 0 || h.Amount >= e.okAmount || weight(e.okAt, now) < oddsOne/2 {
		e.okAmount = h.Amount
	}
	e.okAt = now
	if e.failAmount <= h.Amount {
		e.failAt, e.failAmount = 0, 0
	}
	p.channels[h.directed()] = e
	p.bound(now)
}

func (p *Penalties) failure(h Hop, permanent bool, now types.Time) {
	e := p.channels[h.directed()]
	amount := h.Amount
	if permanent {
		amount = 1
	}
	if e.failAt == 0 || amount < e.failAmount || weight(e.failAt, now) < oddsOne/2 {
		e.failAmount = amount
	}
	e.failAt = now
	if e.okAmount >= amount {
		e.okAt, e.okAmount = 0, 0
	}
	p.channels[h.directed()] = e
}

// bound drops the weakest experiences until MaxPenalties are left.
func (p *Penalties) bound(now types.Time) {
	for least := uint64(1); len(p.channels)+len(p.nodes) > MaxPenalties; least *= 2 {
		p.forget(now, least)
	}
}

// Forget drops what has no weight any more. Once an hour is enough.
func (p *Penalties) Forget(now types.Time) { p.forget(now, 1) }

func (p *Penalties) forget(now types.Time, least uint64) {
	for k, e := range p.channels {
		if weight(e.failAt, now) < least && weight(e.okAt, now) < least {
			delete(p.channels, k)
		}
	}
	for k, at := range p.nodes {
		if weight(at, now) < least {
			delete(p.nodes, k)
		}
	}
}

// Len returns how many experiences are remembered.
func (p *Penalties) Len() int { return len(p.channels) + len(p.nodes) }

// weight is oddsOne at once, half of it after each HalfLife (linear between), 0 after ten of them or for never.
func weight(at, now types.Time) uint64 {
	if at == 0 {
		return 0
	}
	age := uint64(max(0, now-at))
	halves := age / HalfLife
	if halves >= 10 {
		return 0
	}
	w := uint64(oddsOne) >> halves
	return w - w/2*(age%HalfLife)/HalfLife
}

// odds returns the odds of failing in 1/oddsOne for an amount over a channel whose balance is evenly likely to be anything from 0 to
// capacity: a to (c - a + 1). 64 at most.
func odds(amount, capacity types.Amount) uint64 {
	if amount > capacity {
		return maxOdds
	}
	o, err := amount.MulDiv(oddsOne, uint64(capacity-amount)+1)
	if err != nil {
		return maxOdds
	}
	return min(maxOdds, uint64(o))
}

// odds joins what was learnt with what the capacity alone says.
func (e *experience) odds(amount types.Amount, prior uint64, now types.Time) uint64 {
	if amount <= e.okAmount {
		prior -= prior * weight(e.okAt, now) / oddsOne
	}
	if e.failAt == 0 {
		return prior
	}
	learnt := uint64(maxOdds)
	if amount < e.failAmount {
		learnt = odds(amount, e.failAmount-1)
	}
	return min(maxOdds, prior+learnt*weight(e.failAt, now)/oddsOne)
}
