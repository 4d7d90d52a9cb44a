package chand

import (
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

// wayRequest asks for ways to a payee.
type wayRequest struct {
	to     types.NodeID
	amount types.Amount
	hash   types.Hash
	maxFee types.Amount // with reservation fees
	// ahead is how many blocks the payee wants to hold the lock before it has to act; delta what its invoice asks beside.
	ahead, delta uint32
	hints        [][]route.Hint
	key          types.OnionKey // the payee's, when the invoice says it
	paths        []htlc.BlindedPath
	final        htlc.Payload
	// direct allows a lock without onion in a channel with the payee (escrow).
	direct          bool
	excludeChannels []route.Directed
	excludeNodes    []types.NodeID
	inFlight        []*route.Route // of other parts
	circle          *Circle        // out and in over these own channels
}

// follow takes over what an invoice says of the ways to its payee.
func (q *wayRequest) follow(inv *htlc.PaymentRequest) {
	q.delta, q.hints, q.key, q.paths = inv.FinalDelta, hintsOf(inv), inv.OnionKey, inv.Paths
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
	secrets     [][32]byte   // shared with the nodes
	nodes       []types.NodeID
	channels    []types.ChannelID
	route       *route.Route // nil: direct
}

// findWay finds the cheapest way that keeps the limits.
func (d *Daemon) findWay(q wayRequest) (*way, error) {
	height, err := d.routable()
	if err != nil {
		return nil, err
	}
	if q.direct {
		if r := d.directChannel(q.to, q.amount, nil); r != nil {
			t := r.view.Load().State.Timing
			expiry := t.MinExpiry(height) + types.Height(q.ahead) + directSlack
			return &way{runner: r, amount: q.amount, expiry: expiry, payeeExpiry: expiry, timing: t,
				op: wire.AddLock{Amount: q.amount, Hash: q.hash, Expiry: expiry, Memo: q.final.Memo}}, nil
		}
	}
	found, err := d.announcer.find(d.routeRequest(q, height))
	if err != nil {
		return nil, noWay(err)
	}
	return d.makeWay(q, &found)
}

// findFlow finds routes that carry an amount together, in at most so many parts. Several parts are held by the payee until the last is
// there, so they last longer.
func (d *Daemon) findFlow(q wayRequest, parts int) ([]route.Route, error) {
	height, err := d.routable()
	if err != nil {
		return nil, err
	}
	req := d.routeRequest(q, height)
	req.MaxParts = parts
	flow, err := d.announcer.findFlow(req)
	if err == nil && len(flow.Parts) > 1 && q.ahead == 0 {
		q.ahead = holdBlocks
		req = d.routeRequest(q, height)
		req.MaxParts = parts
		flow, err = d.announcer.findFlow(req)
	}
	if err != nil {
		return nil, noWay(err)
	}
	return flow.Parts, nil
}

// findWays is findFlow with an onion for each part.
func (d *Daemon) findWays(q wayRequest, parts int) ([]*way, error) {
	routes, err := d.findFlow(q, parts)
	if err != nil {
		return nil, err
	}
	ways := make([]*way, len(routes))
	for i := range routes {
		if ways[i], err = d.makeWay(q, &routes[i]); err != nil {
			return nil, err
		}
	}
	return ways, nil
}

// routable wants a fresh view of the ledger: expiries are counted from its height.
func (d *Daemon) routable() (types.Height, error) {
	if _, fresh := d.Chain.Head(); !fresh {
		return 0, refuse(CodeStale, "wait until the ledger is in sync", "the ledger as seen here is not fresh")
	}
	return d.chainView(d.Height()).Height, nil
}

func (d *Daemon) routeRequest(q wayRequest, height types.Height) route.Request {
	req := route.Request{Source: d.ID(), Target: q.to, Amount: q.amount, Height: height, MaxFee: q.maxFee, Locals: d.locals(), Hints: q.hints, TargetKey: q.key,
		ExcludeChannels: q.excludeChannels, ExcludeNodes: q.excludeNodes, InFlight: q.inFlight, Now: d.now(), FinalDelta: q.delta}
	if len(q.paths) > 0 {
		req.Target, req.Blinded = types.NodeID{}, blindedOf(q.paths)
	}
	if q.circle != nil {
		req.In = q.circle.In
		req.Locals = slices.DeleteFunc(req.Locals, func(l route.Local) bool { return l.Channel != q.circle.Out })
	}
	if q.ahead > 0 {
		req.FinalDelta = max(req.FinalDelta, uint32(d.cfg.Timing.MinExpiry(0))) + q.ahead
	}
	return req
}

// makeWay builds the onion of a route.
func (d *Daemon) makeWay(q wayRequest, found *route.Route) (*way, error) {
	w := &way{route: found, amount: found.Delivered(), runner: d.runner(found.Hops[0].Channel), fee: found.Fee, expiry: found.Hops[0].Expiry, nodes: found.Nodes()}
	if w.runner == nil {
		return nil, refuse(CodeNoRoute, "try again", "channel %s has just closed", found.Hops[0].Channel)
	}
	last := found.Hops[len(found.Hops)-1]
	w.payeeExpiry, w.timing = last.Expiry, d.announcer.timing(last.Channel, d.cfg.Timing)
	for _, h := range found.Hops {
		w.channels = append(w.channels, h.Channel)
	}
	var session [32]byte
	if err := d.random(session[:]); err != nil {
		return nil, err
	}
	hops := found.Onion(q.final)
	if found.Blinded > 0 {
		hops = found.OnionOver(&q.paths[found.Blinded-1], q.final)
	}
	onion, err := htlc.BuildOnion(hops, session, q.hash[:])
	if err != nil {
		return nil, refuse(CodeInvalid, "use a shorter memo, or ask the payee for an invoice, which tells its onion key", "%w", err)
	}
	w.secrets = onion.Secrets
	w.op = wire.AddLock{Amount: found.Hops[0].Amount, Reserve: found.Hops[0].Reserve, Hash: q.hash, Expiry: w.expiry, Onion: onion.Packet[:]}
	return w, nil
}

// locals are our channels that can send now.
func (d *Daemon) locals() []route.Local {
	var list []route.Local
	for _, r := range d.allRunners() {
		if v := r.view.Load(); v != nil && v.State.Ready() {
			list = append(list, local(&v.State))
		}
	}
	return list
}

// local is what a channel can send in one lock, and in all.
func local(s *channel.State) route.Local {
	r, slots := room(s, s.Side)
	return route.Local{Channel: s.ID, Peer: s.Peer, CanSend: r.Once, Total: r.Total, Slots: max(0, slots), Timing: s.Timing}
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
