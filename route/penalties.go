package route

import (
	"github.com/eschaton-network/chand/htlc"
	"github.com/eschaton-network/chand/types"
)

const (
	// HalfLife is after how many seconds an experience counts half. Balances move with every payment, so it is short; a
	// new attempt after hours starts nearly afresh.
	HalfLife = 3600
	// MaxPenalties bounds what is remembered, channels and nodes together; beyond it the weakest go first. About 100 bytes each.
	MaxPenalties = 1 << 14

	// weights are counted in 1/oddsOne.
	oddsOne = 1 << 10
	// nodeNats is what each channel of a node that failed once as a whole, and never did anything else, counts at first.
	nodeNats = 2 * natOne
	// channelShare is what the failure of a channel counts against its node: many such channels make a bad node.
	channelShare = oddsOne / 8
	// maxCount bounds the weight of what is remembered of a node.
	maxCount = 1 << 20
)

// Directed names one direction of a channel: 0 is from the node with the lower id.
type Directed struct {
	Channel types.ChannelID
	Dir     uint8
}

// bounds is what payments have taught about a channel: direction 0 could carry at least low (learnt at lowAt) and at most high (at
// highAt). Direction 1 carries what the other does not: at least capacity - high. 0 as a time: never learnt.
type bounds struct {
	capacity, low, high types.Amount
	lowAt, highAt       types.Time
}

// turned is the same channel seen from the other direction.
func (b bounds) turned() bounds {
	return bounds{b.capacity, b.capacity - b.high, b.capacity - b.low, b.highAt, b.lowAt}
}

// seen returns the bounds as they stand by now: both drift back to where nothing is known.
func (b bounds) seen(now types.Time) span {
	low, _ := b.low.MulDiv(weight(b.lowAt, now), oddsOne)
	fall, _ := (b.capacity - b.high).MulDiv(weight(b.highAt, now), oddsOne)
	return span{low, max(low, b.capacity-fall)}
}

// atLeast takes in that the channel could carry amount. What contradicts it is forgotten.
func (b *bounds) atLeast(amount types.Amount, now types.Time) {
	amount = min(amount, b.capacity)
	if amount > b.seen(now).low {
		b.low, b.lowAt = amount, now
	}
	if b.low > b.high {
		b.high, b.highAt = b.capacity, 0
	}
}

// atMost takes in that the channel could not carry more than amount.
func (b *bounds) atMost(amount types.Amount, now types.Time) {
	amount = max(0, min(amount, b.capacity))
	if amount < b.seen(now).high {
		b.high, b.highAt = amount, now
	}
	if b.low > b.high {
		b.low, b.lowAt = 0, 0
	}
}

// moved takes in that amount went over to the other side for good.
func (b *bounds) moved(amount types.Amount, now types.Time) {
	b.atLeast(amount, now)
	b.low, b.high = max(0, b.low-amount), max(0, b.high-amount)
	b.atMost(b.capacity-amount, now) // the other direction has the amount now
}

// conduct is how a node did: failures and successes in 1/oddsOne, as they weighed at a time.
type conduct struct {
	fails, oks uint32
	at         types.Time
}

func (c conduct) seen(now types.Time) conduct {
	w := weight(c.at, now)
	return conduct{uint32(uint64(c.fails) * w / oddsOne), uint32(uint64(c.oks) * w / oddsOne), now}
}

// nats is what a node's conduct adds to each of its channels: failures per success.
func (c conduct) nats(now types.Time) uint64 {
	c = c.seen(now)
	return min(maxNats, nodeNats*uint64(c.fails)/(uint64(c.oks)+oddsOne))
}

// Penalties is what the payer has learnt from results: which channels carried how much, which did not, and which nodes fail. One
// goroutine owns it.
type Penalties struct {
	channels map[types.ChannelID]bounds
	nodes    map[types.NodeID]conduct
}

// NewPenalties returns an empty memory.
func NewPenalties() *Penalties {
	return &Penalties{channels: map[types.ChannelID]bounds{}, nodes: map[types.NodeID]conduct{}}
}

// Succeeded records that a lock went over the whole route and was paid: its amount is on the other side of every channel now.
func (p *Penalties) Succeeded(r *Route, now types.Time) {
	for i := 1; i < len(r.Hops); i++ {
		p.learn(r.Hops[i], now, func(b *bounds) { b.moved(r.Hops[i].Amount, now) })
		p.node(r.Hops[i-1].Node, 0, oddsOne, now)
	}
	p.bound(now)
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
	defer p.bound(now)
	for i := 1; i <= index; i++ {
		p.learn(r.Hops[i], now, func(b *bounds) { b.atLeast(r.Hops[i].Amount, now) })
		p.node(r.Hops[i-1].Node, 0, oddsOne, now)
	}
	node := r.Hops[index].Node
	switch last := index == len(r.Hops)-1; {
	case last:
		return f.Code == htlc.TemporaryNodeFailure || f.Code == htlc.FinalIncorrectExpiry || f.Code == htlc.FinalIncorrectAmount
	case f.Code.OfNode():
		p.node(node, oddsOne, 0, now)
	case updated && f.Code.Update() && f.Code != htlc.TemporaryChannelFailure:
	default:
		amount := r.Hops[index+1].Amount - 1
		if f.Code.Permanent() {
			amount = 0
		}
		p.learn(r.Hops[index+1], now, func(b *bounds) { b.atMost(amount, now) })
		p.node(node, channelShare, 0, now)
	}
	return true
}

// Garbled records a failure that names no hop: every node between payer and payee may be to blame.
func (p *Penalties) Garbled(r *Route, now types.Time) {
	for i := 0; i+1 < len(r.Hops); i++ {
		p.node(r.Hops[i].Node, oddsOne, 0, now)
	}
	p.bound(now)
}

// learn changes the bounds of a hop's channel, seen in the direction of the hop.
func (p *Penalties) learn(h Hop, now types.Time, change func(*bounds)) {
	if h.Channel.IsZero() || h.capacity <= 0 {
		return // the hidden part of a blinded path
	}
	b, ok := p.channels[h.Channel]
	if !ok || b.capacity != h.capacity {
		b = bounds{capacity: h.capacity, high: h.capacity}
	}
	if h.dir == 1 {
		b = b.turned()
	}
	change(&b)
	if h.dir == 1 {
		b = b.turned()
	}
	p.channels[h.Channel] = b
}

func (p *Penalties) node(n types.NodeID, fails, oks uint32, now types.Time) {
	c := p.nodes[n].seen(now)
	c.fails, c.oks = min(maxCount, c.fails+fails), min(maxCount, c.oks+oks)
	p.nodes[n] = c
}

// bound drops the weakest experiences until MaxPenalties are left.
func (p *Penalties) bound(now types.Time) {
	for least := uint64(1); p.Len() > MaxPenalties; least *= 2 {
		p.forget(now, least)
	}
}

// Forget drops what has no weight any more. Once an hour is enough.
func (p *Penalties) Forget(now types.Time) { p.forget(now, 1) }

func (p *Penalties) forget(now types.Time, least uint64) {
	for k, b := range p.channels {
		if weight(b.lowAt, now) < least && weight(b.highAt, now) < least {
			delete(p.channels, k)
		}
	}
	for k, c := range p.nodes {
		if weight(c.at, now) < least || c.fails+c.oks == 0 {
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
