package route

import (
	"fmt"

	"github.com/eschaton-network/chand/htlc"
	"github.com/eschaton-network/chand/types"
)

// Local is an own channel that can send now.
type Local struct {
	Channel types.ChannelID
	Peer    types.NodeID
	// CanSend is what the channel can really carry in one lock, with the reservation fee that goes with it. Total is what it can
	// carry in all; 0 means CanSend. Slots is how many locks may be added; 0 means that nothing limits them.
	CanSend, Total types.Amount
	Slots          int
	Timing         types.Timing
}

// total is what the channel can carry in several locks.
func (l *Local) total() types.Amount { return max(l.CanSend, l.Total) }

// Hint is one hop of an invoice's route hints: a channel that is not public, from Node to the next hint's node or the payee.
type Hint struct {
	Node       types.NodeID
	Channel    types.ChannelID
	Base       types.Amount
	Millionths uint32
	Delta      uint32
	// Reserve and Max are as in Policy; Max 0 means that it is not known.
	Reserve  uint32
	Max      types.Amount
	OnionKey types.OnionKey
}

// Blinded is a path that the payee has hidden: from its entry node on the payer knows the sums of its terms only. The whole of it
// counts as one channel.
type Blinded struct {
	Entry      types.NodeID
	EntryKey   types.OnionKey
	Base       types.Amount
	Millionths uint32
	// Delta is the sum of what the hops ask, with the life of the last lock: the entry's lock must expire that many blocks ahead.
	Delta    uint32
	Reserve  uint32
	Min, Max types.Amount
}

const (
	// MaxHints bounds the hint paths that are looked at, and MaxHintHops the length of each: an invoice is written by a stranger.
	MaxHints, MaxHintHops = 8, 4
	// DefaultMaxAhead is how far ahead of the present height a lock may expire: 20 hops with the default timing, plus a day, at one block a second.
	DefaultMaxAhead = 500_000
	// DefaultSlack is how many blocks may pass between the search and the last hop's check.
	DefaultSlack = 30
	// MaxParts bounds the parts of a payment, and with them what one payment costs the payee to hold together.
	MaxParts = 64
	// DefaultMaxParts is how many parts FindFlow makes when it is not told.
	DefaultMaxParts = 16
)

// Request is what to find a path for.
type Request struct {
	Source, Target types.NodeID
	// Amount is what the payee gets.
	Amount types.Amount
	// FinalDelta is how many blocks ahead of Height the last lock must expire at least, as the invoice asks; the last
	// channel's timing can ask for more.
	FinalDelta uint32
	Height     types.Height
	// Slack is added to the last lock's expiry for the blocks that pass on the way; 0 means DefaultSlack.
	Slack  uint32
	Locals []Local
	Hints  [][]Hint
	// Blinded paths lead to the payee without saying where it is; Target is then zero and only they end at it.
	Blinded []Blinded
	// TargetKey is the payee's onion key, as the invoice says; zero: the one that the payee's policies name.
	TargetKey types.OnionKey
	// In, for a circular route, is the own channel over which the money comes back; Source and Target are then the same.
	In types.ChannelID
	// InFlight are routes of locks under way: what they take of a channel is not there for another.
	InFlight []*Route
	// MaxFee is the budget for all fees and reservation fees together. MaxHops 0 means htlc.MaxHops; MaxAhead 0 means DefaultMaxAhead.
	MaxFee   types.Amount
	MaxHops  int
	MaxAhead uint32
	// MaxParts is how many parts FindFlow may make; 0 means DefaultMaxParts.
	MaxParts int
	// ExcludeChannels and ExcludeNodes are not used, for instance because they refused this very payment.
	ExcludeChannels []Directed
	ExcludeNodes    []types.NodeID
	// Penalties may be nil. Now is the time for their decay.
	Penalties *Penalties
	Now       types.Time
	// Cost weighs fee, time and risk; the zero value means DefaultCost.
	Cost Cost
}

// Cost says what a path costs beside its fees, in units of money.
type Cost struct {
	// LockTrillionths is the price of locking money: parts in 10^12 of the amount a block.
	LockTrillionths uint64
	// Attempt and AttemptMillionths (of the amount) are what it is worth to make an attempt e times as likely to succeed: they are multiplied by
	// -ln of the odds of success.
	Attempt           types.Amount
	AttemptMillionths uint32
	// Part is what another part of a payment must save: its locks at every hop are somebody's work.
	Part types.Amount
}

// DefaultCost: 5 percent a year at one block a second; a tenth of a thousandth of a coin and a thousandth of the amount for an attempt; a
// hundredth of the former for a part.
var DefaultCost = Cost{LockTrillionths: 1600, Attempt: types.Coin / 10_000, AttemptMillionths: 1000, Part: types.Coin / 1_000_000}

// Hop is one channel of a route and the node at its end.
type Hop struct {
	// Node receives the lock over Channel.
	Node    types.NodeID
	Channel types.ChannelID
	// Amount and Expiry of the lock on Channel.
	Amount types.Amount
	Expiry types.Height
	// Fee is what Node keeps for passing it on; 0 for the payee.
	Fee types.Amount
	// Reserve is paid with the lock on Channel, for good: Node keeps Ask of it and pays the rest with the next lock.
	Reserve, Ask types.Amount
	// Key is Node's onion key, zero when it is not known.
	Key types.OnionKey
	// LockCost and RiskCost say why this channel was chosen or not: its parts of the route's cost beside the fee.
	LockCost, RiskCost types.Amount

	capacity types.Amount // of Channel
	dir      uint8
}

func (h Hop) directed() Directed { return Directed{h.Channel, h.dir} }

// Route is a path with every amount and expiry on it.
type Route struct {
	// Hops in order from the payer; the first is over a channel of its own, the last ends at the payee.
	Hops []Hop
	// Amount is what leaves the payer if the payment succeeds, without Reserve: what the payee gets and Fee. Reserve is paid at once and
	// whatever happens.
	Amount, Fee, Reserve types.Amount
	// Cost is the sum that the search made least: fees, reservation fees, lock costs and risk costs.
	Cost uint64
	// Blinded is 1 + the index in Request.Blinded of the path that the route ends with, whose one hop is the last of Hops; 0: none.
	Blinded int
}

// Delivered is what the payee gets.
func (r *Route) Delivered() types.Amount { return r.Hops[len(r.Hops)-1].Amount }

// Nodes lists the nodes after the payer, in the order of htlc.Onion.Secrets.
func (r *Route) Nodes() []types.NodeID {
	nodes := make([]types.NodeID, len(r.Hops))
	for i, h := range r.Hops {
		nodes[i] = h.Node
	}
	return nodes
}

// Directed names the channel of a hop and its direction, for Request.ExcludeChannels.
func (r *Route) Directed(i int) Directed { return r.Hops[i].directed() }

// Onion returns what htlc.BuildOnion takes. final carries kind, secret and memo; amount and expiry are put in from the route,
// and the total unless it is set.
func (r *Route) Onion(final htlc.Payload) []htlc.OnionHop {
	hops := make([]htlc.OnionHop, len(r.Hops))
	for i, h := range r.Hops {
		if i == len(r.Hops)-1 {
			final.Amount, final.Expiry = h.Amount, h.Expiry
			if final.Total == 0 {
				final.Total = h.Amount
			}
			hops[i] = htlc.OnionHop{Key: h.Key, Payload: final}
			continue
		}
		next := r.Hops[i+1]
		hops[i] = htlc.OnionHop{Key: h.Key, Payload: htlc.Payload{Kind: htlc.Forward,
			Next: htlc.Short(next.Channel), Amount: next.Amount, Expiry: next.Expiry, Reserve: next.Reserve}}
	}
	return hops
}

// OnionOver is Onion for a route whose last hop is a blinded path: this one.
func (r *Route) OnionOver(path *htlc.BlindedPath, final htlc.Payload) []htlc.OnionHop {
	n := len(r.Hops) - 1
	last := r.Hops[n]
	if final.Amount, final.Expiry = last.Amount, last.Expiry; final.Total == 0 {
		final.Total = last.Amount
	}
	seen := Route{Hops: r.Hops[:n]}
	return append(seen.Onion(final)[:n-1], path.Onion(final)...)
}

// Why says which kind of obstacle there was.
type Why string

// The reasons for finding no path, in the words of the API.
const (
	BadRequest     Why = "bad_request"
	NoChannel      Why = "no_open_channel"
	NoBalance      Why = "insufficient_balance"
	UnknownPayee   Why = "payee_not_in_graph"
	NoPath         Why = "no_path"
	AmountTooBig   Why = "channels_too_small"
	AmountTooSmall Why = "amount_below_minimum"
	FeeAboveLimit  Why = "fee_above_limit"
	TooManyHops    Why = "too_many_hops"
	ExpiryTooFar   Why = "expiry_above_limit"
	AllExcluded    Why = "all_paths_failed"
)

// NoRouteError says why there is no path, with numbers, and what would help.
type NoRouteError struct {
	Why  Why
	Text string
}

func (e *NoRouteError) Error() string { return "no route: " + e.Text }

func noRoute(why Why, format string, args ...any) *NoRouteError {
	return &NoRouteError{why, fmt.Sprintf(format, args...)}
}

// check wants a sensible request and puts in defaults. split: the amount may go in parts.
func (r *Request) check(split bool) *NoRouteError {
	if r.Slack == 0 {
		r.Slack = DefaultSlack
	}
	if r.MaxHops <= 0 || r.MaxHops > htlc.MaxHops {
		r.MaxHops = htlc.MaxHops
	}
	if r.MaxAhead == 0 {
		r.MaxAhead = DefaultMaxAhead
	}
	if r.MaxParts == 0 {
		r.MaxParts = DefaultMaxParts
	}
	if r.Cost == (Cost{}) {
		r.Cost = DefaultCost
	}
	switch {
	case r.Amount <= 0 || r.Amount > types.MaxAmount:
		return noRoute(BadRequest, "amount of %d units: want 1 to %d", r.Amount, types.MaxAmount)
	case r.MaxFee < 0 || r.MaxFee > types.MaxAmount:
		return noRoute(BadRequest, "fee limit of %d units: want 0 to %d", r.MaxFee, types.MaxAmount)
	case r.Source == r.Target && r.In.IsZero():
		return noRoute(BadRequest, "the payee is this node itself")
	case r.Source != r.Target && !r.In.IsZero():
		return noRoute(BadRequest, "a payment to another node can't come in over channel %s", r.In)
	case len(r.Blinded) > 0 && (!r.Target.IsZero() || len(r.Hints) > 0) || len(r.Blinded) > MaxHints:
		return noRoute(BadRequest, "%d blinded paths to a payee that is named, or more than %d", len(r.Blinded), MaxHints)
	case r.MaxParts < 0 || r.MaxParts > MaxParts:
		return noRoute(BadRequest, "%d parts: at most %d", r.MaxParts, MaxParts)
	case r.FinalDelta > MaxDelta || r.Slack > MaxDelta:
		return noRoute(BadRequest, "the payee asks for an expiry %d blocks ahead (slack %d): at most %d", r.FinalDelta, r.Slack, MaxDelta)
	case uint64(r.Height)+uint64(r.MaxAhead) > 1<<31:
		return noRoute(BadRequest, "height %d and expiry limit %d are beyond the range of heights", r.Height, r.MaxAhead)
	case len(r.Hints) > MaxHints:
		return noRoute(BadRequest, "%d route hints: at most %d", len(r.Hints), MaxHints)
	}
	var best, sum types.Amount
	for _, l := range r.Locals {
		best, sum = max(best, l.CanSend), min(types.MaxAmount, sum+min(l.total(), types.MaxAmount-sum))
	}
	switch {
	case len(r.Locals) == 0:
		return noRoute(NoChannel, "no channel is open and connected: open one with chancli channel open")
	case best < r.Amount && !split || sum < r.Amount:
		return noRoute(NoBalance, "the payment is %s, and the most that one channel can send now is %s (all together %s)", r.Amount, best, sum)
	}
	return nil
}
