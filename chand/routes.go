package chand

import (
	"bytes"
	"context"
	"errors"

	"github.com/eschaton-network/chand/route"
	"github.com/eschaton-network/chand/types"
)

// RoutesRequest asks how a payment would go.
type RoutesRequest struct {
	To     types.NodeID
	Amount types.Amount
	// MaxFee is the most for fees and reservation fees; nil: the default. MaxParts 0: the default.
	MaxFee   *types.Amount
	MaxParts int
}

// FindRoutes says how a payment would go now, and explains each part. It changes nothing.
func (d *Daemon) FindRoutes(q RoutesRequest) (route.Flow, []route.Explanation, error) {
	height, err := d.routable()
	if err != nil {
		return route.Flow{}, nil, err
	}
	if q.Amount <= 0 || q.Amount > types.MaxAmount || q.MaxParts < 0 || q.MaxParts > route.MaxParts {
		return route.Flow{}, nil, refuse(CodeInvalid, "correct the command", "a positive amount, and at most %d parts", route.MaxParts)
	}
	req := d.routeRequest(wayRequest{to: q.To, amount: q.Amount, maxFee: d.feeLimit(q.Amount, q.MaxFee)}, height)
	req.MaxParts = q.MaxParts
	a := d.announcer
	a.mu.RLock()
	defer a.mu.RUnlock()
	a.memory.Lock()
	defer a.memory.Unlock()
	req.Penalties = a.penalties
	flow, err := a.graph.FindFlow(req, nil)
	if err != nil {
		return flow, nil, noWay(err)
	}
	var list []route.Explanation
	for i := range flow.Parts {
		e, err := a.graph.Explain(req, flow.Parts[i])
		if err != nil {
			return flow, nil, noWay(err)
		}
		list = append(list, e)
		req.InFlight = append(req.InFlight, &flow.Parts[i])
	}
	return flow, list, nil
}

// Scores is what payments have taught, in the order of the ids, and encoded for ImportScores.
func (d *Daemon) Scores() ([]route.ChannelScore, []route.NodeScore, []byte) {
	d.announcer.memory.Lock()
	defer d.announcer.memory.Unlock()
	p := d.announcer.penalties
	channels, nodes := p.Scores()
	return channels, nodes, p.Encode()
}

// ImportScores takes in what another daemon has learnt, where it is newer, and says how many entries it took.
func (d *Daemon) ImportScores(encoded []byte) (int, error) {
	from, err := route.DecodePenalties(encoded)
	if err != nil {
		return 0, refuse(CodeInvalid, "give the file that `chancli route scores --json` wrote", "%w", err)
	}
	d.announcer.memory.Lock()
	defer d.announcer.memory.Unlock()
	return d.announcer.penalties.Import(from, d.now()), nil
}

// bucketScores holds one record: what payments have taught, encoded, as it was republishEvery ago at most.
const bucketScores = "scores"

const scoresKey = "all"

// loadScores reads what was learnt before. Should that be damaged it is learnt anew.
func loadScores(d *Daemon) *route.Penalties {
	b, err := d.Store.Get(bucketScores, scoresKey)
	if err == nil && b == nil {
		return route.NewPenalties()
	}
	p, bad := route.DecodePenalties(b)
	if err := errors.Join(err, bad); err != nil {
		d.Log.Warn("what payments have taught can't be read; it is learnt anew", "err", err)
		return route.NewPenalties()
	}
	return p
}

// saveScores forgets what has no weight any more and saves the rest, if it has changed.
func (a *announcer) saveScores(ctx context.Context) error {
	a.memory.Lock()
	a.penalties.Forget(a.d.now())
	b := a.penalties.Encode()
	a.memory.Unlock()
	if old, err := a.d.Store.Get(bucketScores, scoresKey); err != nil || bytes.Equal(old, b) {
		return err
	}
	return a.save(ctx, []types.Write{{Bucket: bucketScores, Key: scoresKey, Value: b}})
}
