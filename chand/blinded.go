package chand

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/btcsuite/btcd/btcec/v2"

	"github.com/eschaton-network/chand/channel"
	"github.com/eschaton-network/chand/htlc"
	"github.com/eschaton-network/chand/route"
	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/wire"
)

const (
	// blindedPaths is how many paths a blinded invoice holds: a second one for when the peer of the first is away.
	blindedPaths = 2
	// blindedParts is into how many parts a payer may split the amount of a blinded invoice. The smaller the parts may be, the more
	// reservation fee the path must promise for each.
	blindedParts = 4
)

// peelBlinded does what the payee wrote for this hop of a blinded path. The payer hears of no failure but that the path failed.
func (r *runner) peelBlinded(b *batch, l channel.Lock, in *incomingRecord, peeled htlc.Peeled) {
	in.Blinded = true
	refused := htlc.NewFailure(htlc.InvalidOnionBlinding, types.ChannelID{}, "the blinded path can't carry the payment")
	for range htlc.MaxBlindedHops {
		d := peeled.Blinded
		if d == nil || d.Admit(l.Amount, l.Expiry) != nil {
			break
		}
		switch d.Kind {
		case htlc.HopForward:
			p, err := d.Forward(l.Amount, l.Expiry)
			if err != nil {
				r.decline(b, in, l.ID, refused)
				return
			}
			r.pass(b, l, in, r.blindedForward(b, in, p), peeled.Next[:])
			return
		case htlc.HopFinal:
			p := peeled.Payload
			p.Secret = d.PathID // what the payer read in the invoice proves nothing here
			r.final(b, l, in, p)
			return
		}
		next, err := htlc.PeelOnion(r.d.onion, peeled.Next[:], l.Hash[:])
		if err != nil {
			break
		}
		peeled = next
	}
	r.decline(b, in, l.ID, refused)
}

// blindedForward fits what the payee asked for to what this node asks itself: its reservation fee, and a delta for the channel that the
// lock came over, which the payee does not know.
func (r *runner) blindedForward(b *batch, in *incomingRecord, p htlc.Payload) htlc.Payload {
	if delta := types.Height(b.state.Timing.ForwardDelta()); in.Expiry > delta {
		p.Expiry = min(p.Expiry, in.Expiry-delta)
	}
	if out := r.d.runnerByShort(p.Next); out != nil {
		terms := r.d.ownTerms(&out.view.Load().State)
		p.Reserve = max(0, in.Reserve-terms.Ask(p.Amount, uint32(max(p.Expiry, r.height)-r.height)))
	}
	return p
}

// failure is what this node gives a lock back with: on a blinded path it always says the same.
func (in *incomingRecord) failure(f *htlc.Failure) []byte {
	if in.Blinded {
		return htlc.BlindFailure(in.Secret)
	}
	return htlc.EncryptFailure(in.Secret, f)
}

// wrapped is what a reason from downstream becomes.
func (in *incomingRecord) wrapped(out types.ChannelID, reason []byte) []byte {
	if in.Blinded {
		return htlc.BlindFailure(in.Secret)
	}
	return htlc.WrapFailure(in.Secret, out, reason)
}

// invoiceKey signs a blinded invoice: the node key would tell who asks.
func (d *Daemon) invoiceKey(hash types.Hash) *btcec.PrivateKey {
	secret := d.cfg.Seed.Secret("blinded invoice " + hash.String())
	key, _ := btcec.PrivKeyFromBytes(secret[:])
	return key
}

// blind makes paths to this daemon that begin at peers. Behind the peer stands a dummy, so that a payer can't tell whether
// it is the last hop but one. Secret becomes the path's id: what the invoice shows as its payment secret is another, and opens nothing.
func (d *Daemon) blind(rec *invoiceRecord, p *htlc.PaymentRequest) error {
	p.Secret, p.OnionKey = d.cfg.Seed.Secret("blinded secret "+p.Hash.String()), types.OnionKey{}
	last := d.Height() + route.DefaultMaxAhead + types.Height(p.Seconds)
	for _, e := range d.entries(rec.Amount) {
		p.FinalDelta = max(p.FinalDelta, uint32(e.least))
		var session [32]byte
		if err := d.random(session[:]); err != nil {
			return err
		}
		floor := e.policy.Max / (wire.MaxLocks / 2) // below it the reservation fee does not shrink
		least := max(e.policy.Min, 1, rec.Amount/blindedParts)
		if least < floor {
			least = min(floor, cmp.Or(rec.Amount, floor))
		}
		if most := e.policy.Max - htlc.MaxBlindedHops; least <= most {
			path, err := htlc.NewBlindedPath(e.peer, []htlc.PathHop{
				{Key: e.policy.OnionKey, Reserve: e.policy.Reserve, Max: e.policy.Max, Data: htlc.HopData{Kind: htlc.HopForward, Next: htlc.Short(e.policy.Channel),
					Terms: htlc.Terms{Base: e.policy.Base, Millionths: e.policy.Millionths, Delta: e.policy.Delta}, MaxExpiry: last}},
				{Key: d.onion.Key(), Data: htlc.HopData{Kind: htlc.HopDummy, MaxExpiry: last}},
				{Key: d.onion.Key(), Data: htlc.HopData{Kind: htlc.HopFinal, PathID: rec.Secret, MaxExpiry: last}},
			}, session, least, most)
			if err != nil {
				return fmt.Errorf("channel %s: %w", e.policy.Channel, err)
			}
			p.Paths = append(p.Paths, *path)
		}
	}
	if len(p.Paths) == 0 {
		return fmt.Errorf("no path can be hidden: it needs an open channel whose peer has told its terms and can send %s here", rec.Amount)
	}
	return nil
}

// entry is a peer with what it asks for passing a lock on to us.
type entry struct {
	peer   types.NodeID
	room   types.Amount
	least  types.Height // that a lock must have left
	policy route.Policy
}

// entries are the peers at which blinded paths begin, at most one channel of each, the widest first.
func (d *Daemon) entries(amount types.Amount) (list []entry) {
	for _, r := range d.allRunners() {
		v := r.view.Load()
		if v == nil || v.State.Phase != channel.PhaseOpen {
			continue
		}
		room := v.State.CanReceive()
		if p, ok := d.announcer.termsOf(v.State.ID, r.peer); ok && !p.Disabled && !p.OnionKey.IsZero() && room >= max(amount, 1) {
			list = append(list, entry{r.peer, room, v.State.Timing.MinExpiry(0), p})
		}
	}
	slices.SortFunc(list, func(a, b entry) int {
		return cmp.Or(slices.Compare(a.peer[:], b.peer[:]), cmp.Compare(b.room, a.room))
	})
	list = slices.CompactFunc(list, func(a, b entry) bool { return a.peer == b.peer })
	slices.SortStableFunc(list, func(a, b entry) int { return cmp.Compare(b.room, a.room) })
	return list[:min(len(list), blindedPaths)]
}

// termsOf is what a peer asks for its side of a channel: as announced, or as it told us over the link.
func (a *announcer) termsOf(id types.ChannelID, peer types.NodeID) (route.Policy, bool) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	if p, ok := a.terms[id]; ok {
		return p, true
	}
	m, _ := a.graph.Channel(id)
	for _, p := range m.Policies {
		if dir, ok := m.Announcement.Direction(peer); ok && p.Direction == dir {
			return p, true
		}
	}
	return route.Policy{}, false
}

// blindedOf are an invoice's blinded paths as the path search takes them.
func blindedOf(paths []htlc.BlindedPath) (list []route.Blinded) {
	for i := range paths {
		p := &paths[i]
		list = append(list, route.Blinded{Entry: p.Entry, EntryKey: p.Hops[0].Key, Base: p.Terms.Base, Millionths: p.Terms.Millionths,
			Delta: p.Terms.Delta, Reserve: p.Reserve, Min: p.Min, Max: p.Max})
	}
	return list
}
