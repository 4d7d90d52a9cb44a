package chand

import (
	"fmt"

	"github.com/eschaton-network/chand/channel"
	"github.com/eschaton-network/chand/htlc"
	"github.com/eschaton-network/chand/route"
	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/wire"
)

// A forwarded lock lives in two channels and has one record in each, written by that channel's runner alone:
//
//	incoming record (saved with the version that brought the lock)   →  request to the outgoing runner
//	outgoing record (saved with the update that adds the lock)       →  outcome; that the lock came back is saved before upstream hears of it
//	incoming record: preimage revealed, or given back                →  "forget" to the outgoing runner
//
// After a restart an incoming record without an outgoing one was never passed on and is given back; an outgoing record with an outcome
// tells it again. Whoever hears something twice answers and does nothing.

// startForward decides on passing a lock on. A non-nil failure goes back to the payer.
func (r *runner) startForward(b *batch, l channel.Lock, in *incomingRecord, p htlc.Payload, onion []byte) *htlc.Failure {
	out := r.d.runnerByShort(p.Next)
	if out == nil {
		return htlc.NewFailure(htlc.UnknownNextPeer, types.ChannelID{}, "no channel %s here", p.Next)
	}
	v := out.view.Load()
	if f := route.CheckForward(r.lockIn(b, l, in.Reserve), p, r.d.lockOut(v), r.d.chainView(r.height)); f != nil {
		if f.Code.Update() {
			f.Policy = r.d.announcer.signedPolicy(v.State.ID)
		}
		return f
	}
	in.Kind, in.OutAmount, in.OutExpiry, in.OutChannel, in.Next, in.OutReserve = kindForward, p.Amount, p.Expiry, v.State.ID, v.State.Peer, p.Reserve
	self, id, ref := r.box, l.ID, lockRef{b.state.ID, l.ID}
	req := &request{
		op:  wire.AddLock{Amount: p.Amount, Reserve: p.Reserve, Hash: l.Hash, Expiry: p.Expiry, Onion: onion},
		out: &outgoing{outgoingRecord: outgoingRecord{Kind: kindForward, Hash: l.Hash, InChannel: ref.channel, InLock: ref.lock, Reserve: p.Reserve}},
		refused: func(err error) {
			self.force(mailOutcome{lock: id, returned: true, out: v.State.ID,
				failure: htlc.NewFailure(htlc.TemporaryChannelFailure, v.State.ID, "the next channel can't take the lock now: %v", err)})
		},
	}
	b.then(func() {
		if !out.box.put(mailRequest{req}) {
			req.fail(fmt.Errorf("more than %d commands wait for it", maxCommands))
		}
	})
	return nil
}

// topUp makes a reservation fee large enough for a peer that has nothing in the channel yet: a balance below the dust limit can't be
// published. It happens once in the life of a channel, or never.
func topUp(s *channel.State, theirs *types.Amount, op wire.AddLock) wire.AddLock {
	dust := max(s.Rules[0].Dust, s.Rules[1].Dust)
	if op.Reserve > 0 && *theirs+op.Reserve < dust {
		op.Reserve = dust - *theirs
	}
	*theirs += op.Reserve
	return op
}

// outcome: the downstream half ended. It is saved here, then the downstream side may forget it.
func (r *runner) outcome(b *batch, m mailOutcome) {
	if in := r.incoming[m.lock]; in != nil {
		switch {
		case !m.preimage.IsZero() && in.Preimage.IsZero():
			if in.GiveBack {
				r.log.Error("a lock was paid downstream after it was given back upstream", "lock", m.lock)
				break
			}
			r.reveal(b, in, m.lock, m.preimage)
			r.saveIncoming(b, m.lock)
		case m.returned && in.Released:
			r.dropIncoming(b, m.lock) // its funder paid us, and the payee did not take it
		case m.returned && in.Preimage.IsZero() && !in.GiveBack:
			reason := in.wrapped(m.out, m.reason)
			refund := min(m.refunded, in.OutReserve, in.Reserve)
			if m.failure != nil { // never passed on
				reason, refund = in.failure(m.failure), in.Reserve
				in.OutReserve = 0
			} else {
				in.OutReserve -= refund
			}
			r.reject(b, in, m.lock, reason, refund)
			r.saveIncoming(b, m.lock)
		}
	}
	if m.ack != nil {
		b.then(m.ack)
	}
}

// tellDownstream: the funder of a forwarded lock released it; the outgoing lock must be settled too.
func (r *runner) tellDownstream(b *batch, id uint64, in *incomingRecord) {
	m := mailRelease{in: lockRef{b.state.ID, id}, preimage: in.Preimage, ack: func() { r.box.force(mailReleased{id}) }}
	out := in.OutChannel
	b.then(func() {
		if o := r.d.runner(out); o != nil {
			o.box.force(m)
			return
		}
		m.ack()
	})
}

// release settles the lock that we funded for another channel's lock.
func (r *runner) release(b *batch, m mailRelease) {
	for id, out := range r.outgoing {
		if out.Kind != kindForward || out.InChannel != m.in.channel || out.InLock != m.in.lock {
			continue
		}
		out.acked = true
		if !out.Gone && out.Preimage.IsZero() {
			out.Preimage = m.preimage
			r.releases[id] = m.preimage
			b.write(put(bucketOutgoing, lockKey(b.state.ID, id), out.outgoingRecord))
		}
	}
	for _, q := range r.queue { // not signed yet: it will be settled as soon as it is
		if q.out != nil && q.out.Kind == kindForward && q.out.InChannel == m.in.channel && q.out.InLock == m.in.lock {
			q.out.Preimage, q.out.acked = m.preimage, true
		}
	}
	b.then(m.ack)
}

// released: the downstream side has saved that it must settle.
func (r *runner) released(b *batch, id uint64) {
	if in := r.incoming[id]; in != nil && in.Released {
		r.forwarded(b, id, in, true)
		r.dropIncoming(b, id)
	}
}

// forwarded records what passing a lock on has earned: the fee if it was settled, and the reservation fee in any case.
func (r *runner) forwarded(b *batch, id uint64, in *incomingRecord, settled bool) {
	p := Payment{Hash: in.Hash, Direction: PaymentForwarded, State: PaymentSucceeded, Amount: in.OutAmount, Created: r.d.now(), Settled: r.d.now(),
		Peer: r.peer, Route: []types.NodeID{in.Next}, Preimage: in.Preimage, Reserve: max(0, in.Reserve-in.Refunded-in.OutReserve)}
	if settled {
		p.Fee = max(0, in.Amount-in.OutAmount)
	} else if p.State = PaymentFailed; p.Reserve == 0 {
		return // nothing was earned: nothing to remember
	}
	b.write(put(bucketPayment, seqKey(r.d.payments.number()), p))
	text := fmt.Sprintf("passed on %s for a fee of %s", p.Amount, p.Fee)
	if !settled {
		text = fmt.Sprintf("kept a lock of %s open, which was not settled, for %s", p.Amount, p.Reserve)
	}
	b.then(func() { r.d.emit("payment.forwarded", text, p) })
}

// deadlines gives held locks back before the channel would have to be closed for them.
func (r *runner) deadlines(b *batch) {
	for id, in := range r.incoming {
		near := r.height >= b.state.Timing.ClaimBy(in.Expiry)
		switch {
		case in.GiveBack:
		case in.Kind == kindEscrow && near:
			var reason []byte
			if in.Secret != (types.Hash{}) {
				reason = in.failure(htlc.NewFailure(htlc.MPPTimeout, types.ChannelID{}, "the escrow was not released in time"))
			}
			r.reject(b, in, id, reason, 0)
			r.saveIncoming(b, id)
		case in.Kind == kindHeld && in.Preimage.IsZero() && (near || r.height >= in.Since+holdBlocks):
			r.d.invoices.giveUp(in.Hash, in.Since)
		}
	}
}
