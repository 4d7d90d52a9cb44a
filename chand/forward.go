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
// The funder of an escrow may settle the incoming lock first, whatever has become of it here by then:
//
//	incoming record: released                                        →  "release" to the outgoing runner
//	outgoing record: to be settled, as soon as there is a lock       →  "released" to the incoming runner
//	incoming record: followed                                        →  "forget" to the outgoing runner
//
// Both records stay until the locks would have expired: a lock that is not passed on further down, or comes back, is repaid upstream, by
// the outcome that the outgoing record then has.
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
		op: wire.AddLock{Amount: p.Amount, Reserve: p.Reserve, Hash: l.Hash, Expiry: p.Expiry, Onion: onion},
		out: &outgoing{outgoingRecord: outgoingRecord{Kind: kindForward, Hash: l.Hash, InChannel: ref.channel, InLock: ref.lock, Reserve: p.Reserve,
			Amount: p.Amount, Expiry: p.Expiry}},
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
		case !m.preimage.IsZero() && in.Released && !in.Followed: // the payee knows it from its funder: it is settled anyway
			r.follow(b, m.lock, in)
		case m.returned && in.Released && in.Owed == 0 && (m.failure == nil || !in.Followed):
			reserve := min(m.refunded, in.OutReserve, in.Reserve)
			if m.failure != nil { // never passed on
				reserve, in.OutReserve = in.Reserve, 0
			} else {
				in.OutReserve -= reserve
			}
			in.Refunded = reserve
			r.forwarded(b, m.lock, in, false)
			r.repay(b, m.lock, in, in.Amount+reserve)
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

// repay gives the money of a lock back that its funder has settled though it was not, or could not be, passed on. The record goes with the
// commit that queues the payment, so that it is made once.
func (r *runner) repay(b *batch, id uint64, in *incomingRecord, amount types.Amount) {
	switch {
	case b.state.Phase != channel.PhaseOpen:
		r.log.Error("the money of a released lock can't be given back: its channel is closing", "lock", id, "hash", in.Hash, "amount", amount)
	case !r.refund(b, wire.Pay{Amount: amount, Hash: in.Hash, Refund: true}):
		in.Owed = amount // tried again with the next block
		r.saveIncoming(b, id)
		return
	}
	r.dropIncoming(b, id)
}

// tellDownstream: the funder of a forwarded lock released it; the outgoing lock must be settled too.
func (r *runner) tellDownstream(b *batch, id uint64, in *incomingRecord) {
	m := mailRelease{in: lockRef{b.state.ID, id}, preimage: in.Preimage, missed: func(why string) {
		r.box.force(mailOutcome{lock: id, returned: true, failure: htlc.NewFailure(htlc.TemporaryNodeFailure, types.ChannelID{}, "%s", why)})
	}}
	out := in.OutChannel
	b.then(func() {
		if o := r.d.runner(out); o != nil {
			o.box.force(m)
			return
		}
		m.missed("the next channel is over")
	})
}

// release settles the lock that we funded for another channel's lock. One that waits to be signed is settled as soon as it is. Who asked
// hears of it once the record of the lock says so: before that nothing here outlasts a restart.
func (r *runner) release(b *batch, m mailRelease) {
	of := func(out *outgoing) bool {
		return out != nil && out.Kind == kindForward && out.InChannel == m.in.channel && out.InLock == m.in.lock
	}
	for id, out := range r.outgoing {
		if !of(out) {
			continue
		}
		if !out.Released && !out.Returned {
			out.Preimage, out.Released = m.preimage, true
			if !out.Gone {
				r.releases[id] = m.preimage
			}
			b.write(put(bucketOutgoing, lockKey(b.state.ID, id), out.outgoingRecord))
		}
		if !out.Returned { // else upstream hears of that
			r.tellReleased(b, id, out)
		}
		return
	}
	for _, q := range r.queue {
		if of(q.out) {
			q.out.Preimage, q.out.Released = m.preimage, true
			return
		}
	}
	b.then(func() { m.missed("the node did not pass the lock on") })
}

// tellReleased tells upstream that this side has saved that it must settle, and waits for its word that it has saved that.
func (r *runner) tellReleased(b *batch, id uint64, out *outgoing) {
	up, m := out.InChannel, mailReleased{lock: out.InLock, ack: func() { r.box.force(mailForget{id}) }}
	b.then(func() {
		if in := r.d.runner(up); in != nil {
			in.box.force(m)
			return
		}
		m.ack()
	})
}

// released: the downstream side has saved that it must settle.
func (r *runner) released(b *batch, m mailReleased) {
	if in := r.incoming[m.lock]; in != nil && in.Released && !in.Followed {
		r.follow(b, m.lock, in)
	}
	b.then(m.ack)
}

// follow notes that a released lock's outgoing half is settled, too. In a closed channel nothing could be repaid any more.
func (r *runner) follow(b *batch, id uint64, in *incomingRecord) {
	in.Followed = true
	r.forwarded(b, id, in, true)
	if r.saveIncoming(b, id); b.state.Phase == channel.PhaseClosed {
		r.dropIncoming(b, id)
	}
}

// releasedOver drops the records of released locks that can't come back any more.
func (r *runner) releasedOver(b *batch) {
	closed := b.state.Phase == channel.PhaseClosed
	for id, in := range r.incoming {
		if in.Followed && in.Owed == 0 && (closed || r.height >= in.Expiry) {
			r.dropIncoming(b, id)
		}
	}
	for id, out := range r.outgoing {
		if r.idle(b, out) {
			r.dropOutgoing(b, id)
		}
	}
}

// idle tells whether the record of an outgoing lock of another channel's lock is of no more use: the lock has gone, upstream knows how, and
// it will not come back.
func (r *runner) idle(b *batch, out *outgoing) bool {
	if out.Kind != kindForward || !out.Gone || !out.acked {
		return false
	}
	return !out.Released || out.Returned || b.state.Phase == channel.PhaseClosed || b.state.Phase == channel.PhaseOpen && r.height >= out.Expiry
}

// forwarded records what passing a lock on has earned: the fee if it was settled, and the reservation fee in any case.
func (r *runner) forwarded(b *batch, id uint64, in *incomingRecord, settled bool) {
	p := Payment{Hash: in.Hash, Direction: PaymentForwarded, State: PaymentSucceeded, Amount: in.OutAmount, Created: r.d.now(), Settled: r.d.now(),
		Peer: r.peer, Route: []types.NodeID{in.Next}, Preimage: in.Preimage, Reserve: max(0, in.Reserve-in.Refunded-in.OutReserve)}
	if settled {
		p.Fee = max(0, in.Amount-in.OutAmount)
		p.Over = []Move{{b.state.ID, in.Amount + in.Reserve - in.Refunded}, {in.OutChannel, -in.OutAmount - in.OutReserve}}
	} else if p.State = PaymentFailed; in.Reserve == in.Refunded && in.OutReserve == 0 {
		if in.Number != 0 {
			b.write(del(bucketPayment, seqKey(in.Number)))
		}
		return // nothing moved: nothing to remember
	} else {
		p.Over = []Move{{b.state.ID, in.Reserve - in.Refunded}, {in.OutChannel, -in.OutReserve}}
	}
	if in.Number == 0 {
		in.Number = r.d.payments.number()
	}
	b.write(put(bucketPayment, seqKey(in.Number), p))
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
		case in.Owed > 0:
			r.repay(b, id, in, in.Owed)
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
	r.releasedOver(b)
}
