package chand

import (
	"cmp"
	"slices"

	"github.com/eschaton-network/chand/channel"
	"github.com/eschaton-network/chand/htlc"
	"github.com/eschaton-network/chand/route"
	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/wire"
)

// A channel that is not public is used for own payments, and for payments to its owners, whose invoices name it (route hints). The
// terms on which the peer passes locks on to us come from the peer itself, over the link. A private channel stays so because its opener
// never signs the announcement, which needs both.

// mailPeerPolicy is what a peer asks for passing locks on to us.
type mailPeerPolicy struct {
	r    *runner
	data []byte
}

// sendTerms tells the peer of a channel that is not public what we ask. The peer hears it again on each link.
func (a *announcer) sendTerms(r *runner) {
	v := r.view.Load()
	if v.State.Phase != channel.PhaseOpen {
		return
	}
	a.mu.RLock()
	_, public := a.graph.Channel(v.State.ID)
	a.mu.RUnlock()
	if public {
		return
	}
	ann := a.announcement(&v.State)
	p := a.policy(&v.State, &ann)
	if p.Seq <= a.sent[v.State.ID] {
		p.Seq = a.sent[v.State.ID] + 1
		p.Sign(a.d.nodeKey)
	}
	a.sent[v.State.ID] = p.Seq
	if err := a.d.Transport.Send(r.peer, wire.Encode(&wire.PeerPolicy{ID: v.State.ID, Policy: p.Encode()})); err != nil {
		a.d.Log.Info("the peer was not told our terms; it hears them on the next link", "channel", v.State.ID, "err", err)
	}
}

// peerPolicy takes the peer's terms. What does not verify is passed over: it harms only the peer.
func (a *announcer) peerPolicy(m mailPeerPolicy) {
	v := m.r.view.Load()
	p, err := route.DecodePolicy(m.data)
	ann := a.announcement(&v.State)
	side, _ := ann.Direction(m.r.peer)
	a.mu.RLock()
	old, known := a.terms[v.State.ID]
	a.mu.RUnlock()
	if err != nil || p.Direction != side || known && p.Seq <= old.Seq || v.State.Phase != channel.PhaseOpen {
		return
	}
	if err := route.VerifyPolicy(&p, &ann); err != nil {
		a.d.Log.Warn("a peer's terms don't verify", "channel", v.State.ID, "err", err)
		return
	}
	a.mu.Lock()
	a.terms[v.State.ID] = p
	a.mu.Unlock()
}

// forget drops what is kept of a channel that has ended.
func (a *announcer) forget(id types.ChannelID) {
	delete(a.sent, id)
	a.mu.Lock()
	delete(a.terms, id)
	a.mu.Unlock()
}

// isPublic tells whether a channel is in the graph.
func (a *announcer) isPublic(id types.ChannelID) bool {
	a.mu.RLock()
	defer a.mu.RUnlock()
	_, ok := a.graph.Channel(id)
	return ok
}

// hints are the ways to us over channels that are not public, the widest first, and the least life that a lock must have on any of them.
// Without always there are none while a public channel can receive the amount.
func (d *Daemon) hints(amount types.Amount, always bool) (list [][]htlc.RouteHint, least types.Height) {
	type way struct {
		hint htlc.RouteHint
		room types.Amount
	}
	var ways []way
	for _, r := range d.allRunners() {
		v := r.view.Load()
		if v == nil || v.State.Phase != channel.PhaseOpen || !v.State.Ready() {
			continue
		}
		room := v.State.CanReceive()
		if d.announcer.isPublic(v.State.ID) {
			if room >= max(amount, 1) && !always {
				return nil, 0
			}
			continue
		}
		d.announcer.mu.RLock()
		p, ok := d.announcer.terms[v.State.ID]
		d.announcer.mu.RUnlock()
		if ok && !p.Disabled && room > 0 {
			ways = append(ways, way{htlc.RouteHint{Node: r.peer, Channel: htlc.Short(v.State.ID), Base: p.Base, PPM: p.Millionths, Delta: p.Delta,
				Reserve: p.Reserve, Max: p.Max, OnionKey: p.OnionKey}, room})
			least = max(least, v.State.Timing.MinExpiry(0))
		}
	}
	slices.SortFunc(ways, func(a, b way) int {
		return cmp.Or(cmp.Compare(b.room, a.room), slices.Compare(a.hint.Channel[:], b.hint.Channel[:]))
	})
	for _, w := range ways[:min(len(ways), htlc.MaxHints)] {
		list = append(list, []htlc.RouteHint{w.hint})
	}
	return list, least
}
