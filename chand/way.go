package chand

import (
	"errors"
	"slices"

	"github.com/eschaton-network/chand/channel"
	"github.com/eschaton-network/chand/htlc"
	"github.com/eschaton-network/chand/route"
	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/wire"
)

const (
	// feeLimitMillionths and feeLimitLeast are what a payment may cost in fees when its payer does not say: 1 percent, and for small
	// amounts a thousandth of a coin.
	feeLimitMillionths = 10_000
	feeLimitLeast      = types.Coin / 1000
	// directSlack is how many blocks may pass between an escrow's proposal and its signature.
	directSlack = 30
)

func (d *Daemon) feeLimit(amount types.Amount, given *types.Amount) types.Amount {
	if given != nil {
		return *given
	}
	f, err := amount.MulDiv(feeLimitMillionths, 1_000_000)
	if err != nil {
		return feeLimitLeast
	}
	return max(f, feeLimitLeast)
}

// wayRequest asks for a way to a payee.
type wayRequest struct {
	to     types.NodeID
	amount types.Amount
	hash   types.Hash
	maxFee types.Amount
	// ahead is how many blocks the payee wants to hold the lock before it has to act.
	ahead uint32
	final htlc.Payload
	// direct allows a lock without onion in a channel with the payee (escrow).
	direct          bool
	excludeChannels []route.Directed
	excludeNodes    []types.NodeID
}

// way is a lock to be added in one of our channels that leads to the payee.
type way struct {
	runner      *runner
	op          wire.AddLock
	amount      types.Amount // that the payee gets
	fee         types.Amount
	expiry      types.Height // of our lock
	payeeExpiry types.Height // of the last lock
	timing      types.Timing // of the last channel
	session     types.Hash
	nodes       []types.NodeID
	channels    []types.ChannelID
	route       *route.Route // nil: direct
}

// findWay finds the cheapest way that keeps the limits.
func (d *Daemon) findWay(q wayRequest) (*way, error) {
	if _, fresh := d.Chain.Head(); !fresh {
		return nil, refuse(CodeStale, "wait until the ledger is in sync", "the ledger as seen here is not fresh")
	}
	height := d.chainView(d.Height()).Height
	if q.direct {
		if r := d.directChannel(q.to, q.amount, nil); r != nil {
			t := r.view.Load().State.Timing
			expiry := t.MinExpiry(height) + types.Height(q.ahead) + directSlack
			return &way{runner: r, amount: q.amount, expiry: expiry, payeeExpiry: expiry, timing: t,
				op: wire.AddLock{Amount: q.amount, Hash: q.hash, Expiry: expiry, Memo: q.final.Memo}}, nil
		}
	}
	req := route.Request{Source: d.ID(), Target: q.to, Amount: q.amount, Height: height, MaxFee: q.maxFee, Locals: d.locals(),
		ExcludeChannels: q.excludeChannels, ExcludeNodes: q.excludeNodes, Now: d.now()}
	if q.ahead > 0 {
		req.FinalDelta = uint32(d.cfg.Timing.MinExpiry(0)) + q.ahead
	}
	found, err := d.announcer.find(req)
	if err != nil {
		return nil, noWay(err)
	}
	w := &way{route: &found, amount: q.amount, runner: d.runner(found.Hops[0].Channel), fee: found.Fee, expiry: found.Hops[0].Expiry, nodes: found.Nodes()}
	if w.runner == nil {
		return nil, refuse(CodeNoRoute, "try again", "channel %s has just closed", found.Hops[0].Channel)
	}
	last := found.Hops[len(found.Hops)-1]
	w.payeeExpiry, w.timing = last.Expiry, d.announcer.timing(last.Channel, d.cfg.Timing)
	for _, h := range found.Hops {
		w.channels = append(w.channels, h.Channel)
	}
	if err := d.random(w.session[:]); err != nil {
		return nil, err
	}
	packet, err := htlc.BuildOnion(found.Onion(q.final), w.session, q.hash[:])
	if err != nil {
		return nil, refuse(CodeInvalid, "use a shorter memo", "%w", err)
	}
	w.op = wire.AddLock{Amount: found.Hops[0].Amount, Hash: q.hash, Expiry: w.expiry, Onion: packet[:]}
	return w, nil
}

// findWays finds ways that carry an amount together, in at most so many parts.
func (d *Daemon) findWays(q wayRequest, parts int) ([]*way, error) {
	w, err := d.findWay(q)
	if err != nil {
		return nil, err
	}
	return []*way{w}, nil
}

// noWay makes an error of what the path search found.
func noWay(err error) error {
	var why *route.NoRouteError
	if !errors.As(err, &why) {
		return err
	}
	code, next := CodeNoRoute, "open a channel with the payee, or with a node that has one"
	switch why.Why {
	case route.NoBalance:
		code, next = CodeFunds, "pay less, or open another channel"
	case route.FeeAboveLimit:
		code, next = CodeFeeTooHigh, "allow a higher fee with --max-fee"
	case route.NoChannel:
		next = "open a channel: chancli channel open"
	}
	return &Error{Code: code, Text: err.Error(), Next: next, Money: noMoneyMoved, Err: err}
}

// locals are our channels that can send now.
func (d *Daemon) locals() []route.Local {
	var list []route.Local
	for _, r := range d.allRunners() {
		if v := r.view.Load(); v != nil && v.State.Ready() {
			list = append(list, route.Local{Channel: v.State.ID, Peer: r.peer, CanSend: v.State.CanSend(), Timing: v.State.Timing})
		}
	}
	return list
}

// directChannel is the channel with the peer that can best send the amount now, or nil.
func (d *Daemon) directChannel(peer types.NodeID, amount types.Amount, without []types.ChannelID) *runner {
	var best *runner
	var most types.Amount
	for _, r := range d.allRunners() {
		v := r.view.Load()
		if r.peer != peer || v == nil || v.State.Phase != channel.PhaseOpen || !v.State.Ready() || slices.Contains(without, v.State.ID) {
			continue
		}
		if can := v.State.CanSend(); can >= amount && can > most {
			best, most = r, can
		}
	}
	return best
}
