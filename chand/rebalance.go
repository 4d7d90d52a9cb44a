package chand

import (
	"github.com/eschaton-network/chand/channel"
	"github.com/eschaton-network/chand/types"
)

// RebalanceRequest asks for money to be moved from one own channel to another by a payment to oneself.
func RebalanceRequest(out, in types.ChannelID, amount types.Amount, maxFee *types.Amount, key string) PayRequest {
	return PayRequest{Amount: amount, MaxFee: maxFee, Key: key, Circle: &Circle{Out: out, In: in}}
}

// checkCircle wants two own channels with different peers: the money must leave and come home by other ways.
func (d *Daemon) checkCircle(c *Circle) error {
	out, in := d.runner(c.Out), d.runner(c.In)
	next := "see `channel list`"
	switch {
	case out == nil || in == nil:
		return refuse(CodeNotFound, next, "channel %s or channel %s is not an open one of this daemon", c.Out, c.In)
	case out.peer == in.peer:
		return refuse(CodeInvalid, "name channels with two peers", "both channels are with %s: what goes out there can't come in from elsewhere", out.peer)
	}
	for _, r := range []*runner{out, in} {
		if v := r.view.Load(); v.State.Phase != channel.PhaseOpen || !v.State.Ready() {
			return refuse(CodePhase, next, "channel %s is not open, or its peer is not connected", v.State.ID)
		}
	}
	return nil
}
