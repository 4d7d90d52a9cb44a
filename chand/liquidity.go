package chand

import (
	"fmt"

	"github.com/eschaton-network/chand/channel"
	"github.com/eschaton-network/chand/route"
	"github.com/eschaton-network/chand/types"
)

// Room is what can move one way: in one payment, and in all, as several.
type Room struct {
	Once, Total types.Amount
}

// ChannelRoom is what an open channel can carry now.
type ChannelRoom struct {
	ID            types.ChannelID
	Peer          types.NodeID
	Connected     bool
	Mine, Theirs  types.Amount
	Locked        types.Amount
	Deposit       types.Amount // floor under our balance that the peer demands
	Send, Receive Room
}

// Reach is what can go to another node and come from it, over all channels.
type Reach struct {
	Node types.NodeID
	// To is an estimate from the public network and what payments have taught; From knows of the node's side only the capacities.
	To, From route.Reach
}

// Liquidity is how much can be paid and received.
type Liquidity struct {
	Channels      []ChannelRoom
	Send, Receive Room // sums, and the largest single payments to and from a peer
	Reach         *Reach
	// Hint is a command that would make the channels more even; Why says so in words. Empty: nothing to do.
	Hint, Why string
}

// room is what a side can give in one lock and in all, by its balance and the other's rules, and how many locks it may add (0: no rule).
func room(s *channel.State, from channel.Side) (r Room, slots int) {
	if r.Once = s.CanSend(); from != s.Side {
		r.Once = s.CanReceive()
	}
	rules := s.Rules[from.Other()]
	r.Total = max(r.Once, s.Current.Balance[from]-rules.Deposit)
	open, sum := 0, types.Amount(0)
	for i := range s.Current.Locks {
		if k := &s.Current.Locks[i]; k.Funder == from {
			open++
			sum += k.Amount
		}
	}
	if rules.MaxInFlight > 0 {
		r.Total = min(r.Total, max(0, rules.MaxInFlight-sum))
		r.Once = min(r.Once, r.Total)
	}
	if rules.MaxLocks > 0 {
		if slots = int(rules.MaxLocks) - open; slots <= 0 {
			return Room{}, slots
		}
	}
	return r, slots
}

// Liquidity tells what can be paid and received, and with a node what can go to it and come from it.
func (d *Daemon) Liquidity(node types.NodeID) (Liquidity, error) {
	var out Liquidity
	var ins []route.Local
	for _, r := range d.allRunners() {
		v := r.view.Load()
		s := &v.State
		if s.Phase != channel.PhaseOpen {
			continue
		}
		c := ChannelRoom{ID: s.ID, Peer: s.Peer, Connected: s.Ready(), Mine: s.Mine(), Theirs: s.Theirs(), Locked: lockedIn(s), Deposit: s.Rules[s.Side.Other()].Deposit}
		c.Send, _ = room(s, s.Side)
		slots := 0
		c.Receive, slots = room(s, s.Side.Other())
		out.Channels = append(out.Channels, c)
		if !c.Connected {
			continue
		}
		ins = append(ins, route.Local{Channel: s.ID, Peer: s.Peer, CanSend: c.Receive.Once, Total: c.Receive.Total, Slots: slots, Timing: s.Timing})
		for _, x := range []struct{ sum, add *Room }{{&out.Send, &c.Send}, {&out.Receive, &c.Receive}} {
			x.sum.Once = max(x.sum.Once, x.add.Once)
			x.sum.Total += x.add.Total
		}
	}
	out.Hint, out.Why = rebalanceHint(out.Channels)
	if node.IsZero() {
		return out, nil
	}
	if node == d.ID() {
		return out, refuse(CodeInvalid, "name another node", "a way to this daemon itself")
	}
	height, err := d.routable()
	if err != nil {
		return out, err
	}
	reach, err := d.reach(node, height, ins)
	out.Reach = &reach
	return out, err
}

// reach asks the graph both ways. Where there is no way at all nothing can go, which is an answer and no error.
func (d *Daemon) reach(node types.NodeID, height types.Height, ins []route.Local) (out Reach, err error) {
	out.Node = node
	to := d.routeRequest(wayRequest{to: node, maxFee: types.MaxAmount}, height)
	to.MaxParts = maxParts
	a := d.announcer
	a.mu.RLock()
	defer a.mu.RUnlock()
	a.memory.Lock()
	defer a.memory.Unlock()
	to.Penalties = a.penalties
	if len(to.Locals) > 0 { // none would mean all that are public
		if out.To, err = a.graph.MaxFlow(to, nil, nil); err != nil {
			return out, noWay(err)
		}
	}
	if len(ins) > 0 {
		from := to
		from.Source, from.Target, from.Locals = node, d.ID(), a.graph.Outgoing(node)
		if len(from.Locals) > 0 {
			if out.From, err = a.graph.MaxFlow(from, ins, nil); err != nil {
				return out, noWay(err)
			}
		}
	}
	return out, nil
}

// unevenPercent is from which difference of two channels on a payment to oneself is worth its fee.
const unevenPercent = 50

// rebalanceHint names the two most uneven channels that a payment to oneself could make more even.
func rebalanceHint(list []ChannelRoom) (command, why string) {
	var out, in *ChannelRoom
	for i := range list {
		c := &list[i]
		if !c.Connected || c.Mine+c.Theirs == 0 {
			continue
		}
		for j := range list {
			e := &list[j]
			if e.Peer == c.Peer || !e.Connected || e.Mine+e.Theirs == 0 {
				continue
			}
			if out == nil || c.percent()-e.percent() > out.percent()-in.percent() {
				out, in = c, e
			}
		}
	}
	if out == nil || out.percent()-in.percent() < unevenPercent {
		return "", ""
	}
	amount := min((out.Mine-out.Theirs)/2, (in.Theirs-in.Mine)/2, out.Send.Once, in.Receive.Once)
	if amount <= 0 {
		return "", ""
	}
	return fmt.Sprintf("chancli rebalance --out %s --in %s --amount %s", out.ID, in.ID, amount),
		fmt.Sprintf("of one channel %d percent are ours, of another %d percent", out.percent(), in.percent())
}

// percent is our share of what both sides hold.
func (c *ChannelRoom) percent() int64 {
	return int64(float64(c.Mine) / float64(c.Mine+c.Theirs) * 100)
}
