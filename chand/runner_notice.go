package chand

import (
	"errors"
	"fmt"
	"slices"

	"github.com/eschaton-network/chand/channel"
	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/wire"
)

// notice turns what became true in the channel into records of the same commit, and into words for others after it.
// Notices may repeat after a restart, so each handler looks at its record first.
func (r *runner) notice(b *batch, n channel.Notice) {
	switch v := n.(type) {
	case channel.Opened:
		r.info.Opened, b.info = r.d.now(), true
		b.then(func() { r.d.channelOpened(r) })
	case channel.Received:
		r.received(b, v.Pay)
	case channel.Streamed:
		r.streamed(b, v)
	case channel.LockAdded:
		r.lockAdded(b, v)
	case channel.PreimageKnown:
		if out := r.outgoing[v.Lock.ID]; out != nil {
			r.opened1(b, v.Lock.ID, out, v.Lock.Preimage)
		}
	case channel.LockSettled:
		r.lockSettled(b, v.Lock)
	case channel.LockReturned:
		r.lockReturned(b, v.Lock, v.Reason)
	case channel.Acked:
		r.acked(b, v.Version)
	case channel.Receipts:
		for _, p := range v.Preimages {
			if pay := r.pays[p.Hash()]; pay != nil {
				delete(r.pays, p.Hash())
				pay.succeed(b, p)
			}
		}
	case channel.LinkReady:
		r.reestablished(b)
	case channel.TurnGained:
		r.asked, r.silent = false, 0
	case channel.TurnWanted:
		r.wanted = true
	case channel.Failed:
		r.info.Fault, b.info = v.Text, true
		r.log.Warn("the channel failed", "why", v.Text)
		b.then(func() {
			r.agreed(refuse(CodeRefused, "ask the peer, or open with other terms", "%s", v.Text)) // an opening that failed
			r.d.emit("warning", fmt.Sprintf("channel %s: %s", r.state.ID, v.Text), nil)
		})
	case channel.Closed:
		r.closed(b, v.Agreed)
		r.streamsClosed(b, v.Agreed)
	case channel.PhaseChanged:
		if v.To == channel.PhaseFunding { // agreed: both can be refunded
			if r.info.OpenKey != "" {
				b.write(put(bucketPayIndex, "open/"+r.info.OpenKey, b.state.ID))
			}
			b.then(func() { r.agreed(nil) })
		}
		if v.To > channel.PhaseOpen {
			for _, p := range r.pays {
				p.unsure(b, textUnsure)
			}
		}
		if v.To > channel.PhaseOpen {
			for _, s := range slices.Clone(r.streams) {
				r.failStream(b, s, streamOver(&b.state))
			}
		}
		b.then(func() { r.d.phaseChanged(r, v.To) })
	case channel.Announceable:
		r.info.Announce, b.info = wire.Encode(&v.Sigs), true
		b.then(func() { r.d.announcer.box.force(mailSigs{r, v.Sigs}) })
	case channel.Resynced:
		r.resynced(b, v.Gone)
		r.streamsResynced(b)
	}
}

// acked: the peer has saved this side's updates up to a version.
func (r *runner) acked(b *batch, version uint32) {
	for len(r.spont) > 0 && r.spont[0].version() <= version {
		r.spont[0].succeed(b, types.Preimage{})
		r.spont = r.spont[1:]
	}
	r.streamsAcked(b, version)
}

// opened1: the preimage of a lock that this side funds is known. Whoever asked for the lock hears of it at once; the lock stays open until
// it is settled.
func (r *runner) opened1(b *batch, id uint64, out *outgoing, p types.Preimage) {
	if !out.Preimage.IsZero() || p.IsZero() {
		return
	}
	out.Preimage = p
	switch out.Kind {
	case kindPayment:
		if out.payment != nil {
			out.payment.succeed(b, p)
		}
	case kindEscrow:
		if out.escrow != nil {
			out.escrow.end(b, EscrowReleased, p, nil)
		}
	case kindForward:
		b.write(put(bucketOutgoing, lockKey(b.state.ID, id), out.outgoingRecord))
		r.tellUpstream(b, id, out)
	case kindOrphan:
		r.orphanOpened(b, p)
	}
}

// tellUpstream hands the outcome of a forwarded lock to the channel that it came from, which answers when it has saved it. A preimage
// goes there at once, so that both channels save it at the same time: knowing it can only bring money in, and after a crash before this
// side has saved it the payee shows it again, or claims on chain with it. That a lock came back must be saved first: the payee
// could take that back.
func (r *runner) tellUpstream(b *batch, id uint64, out *outgoing) {
	m := mailOutcome{lock: out.InLock, preimage: out.Preimage, returned: out.Returned, reason: out.Reason, out: b.state.ID, refunded: out.Refunded,
		ack: func() { r.box.force(mailForget{id}) }}
	up := out.InChannel
	tell := func() {
		if in := r.d.runner(up); in != nil {
			in.box.force(m)
			return
		}
		m.ack() // the upstream channel is over
	}
	if m.returned {
		b.then(tell)
	} else {
		tell()
	}
}

// tellPayer hands a lock of a payment of our own that came back, or is lost, to the payment's goroutine, which answers when it has saved
// it. false: nobody waits for it.
func (r *runner) tellPayer(b *batch, id uint64, out *outgoing) bool {
	return out.payment != nil && out.payment.returned(b, partNews{at: lockRef{b.state.ID, id}, returned: out.Returned, lost: out.Lost,
		reason: out.Reason, refunded: out.Refunded})
}

// forget: the upstream side has saved the outcome. The record goes with the lock.
func (r *runner) forget(b *batch, id uint64) {
	out := r.outgoing[id]
	if out == nil {
		return
	}
	if out.acked = true; r.idle(b, out) {
		r.dropOutgoing(b, id)
	}
}

func (r *runner) dropOutgoing(b *batch, id uint64) {
	delete(r.outgoing, id)
	b.write(del(bucketOutgoing, lockKey(b.state.ID, id)))
}

func (r *runner) mineLock(b *batch, l channel.Lock) bool { return l.Funder == b.state.Side }

// lockSettled: the lock's money went to its payee.
func (r *runner) lockSettled(b *batch, l channel.Lock) {
	if !r.mineLock(b, l) {
		r.incomingSettled(b, l)
		return
	}
	out := r.outgoing[l.ID]
	if out == nil {
		return
	}
	r.opened1(b, l.ID, out, l.Preimage)
	out.Gone = true
	if out.Kind != kindForward || r.idle(b, out) {
		r.dropOutgoing(b, l.ID)
		return
	}
	b.write(put(bucketOutgoing, lockKey(b.state.ID, l.ID), out.outgoingRecord))
}

// lockReturned: the lock's money is back with its funder for good.
func (r *runner) lockReturned(b *batch, l channel.Lock, reason []byte) {
	if !r.mineLock(b, l) {
		r.incomingReturned(b, l)
		return
	}
	out := r.outgoing[l.ID]
	if out == nil {
		r.escrowCameBack(b, l.Hash, l.Amount)
		return
	}
	out.Gone = true
	switch out.Kind {
	case kindPayment:
		out.Returned, out.Reason = true, reason
		if r.tellPayer(b, l.ID, out) {
			b.write(put(bucketOutgoing, lockKey(b.state.ID, l.ID), out.outgoingRecord))
			return
		}
	case kindEscrow:
		if out.escrow != nil {
			out.escrow.rec.Reserve -= min(out.Refunded, out.escrow.rec.Reserve)
			out.escrow.end(b, EscrowRefunded, types.Preimage{}, reason)
		}
	case kindForward:
		if out.Preimage.IsZero() || out.Released {
			out.Returned, out.Reason, out.acked = true, reason, false
			delete(r.releases, l.ID)
			b.write(put(bucketOutgoing, lockKey(b.state.ID, l.ID), out.outgoingRecord))
			r.tellUpstream(b, l.ID, out)
			return
		}
		if !out.acked { // settled before, and upstream has not saved that
			b.write(put(bucketOutgoing, lockKey(b.state.ID, l.ID), out.outgoingRecord))
			return
		}
	}
	r.dropOutgoing(b, l.ID)
}

// closed: nothing is left on chain. What still waits for a word of the peer is decided by the version that settled.
func (r *runner) closed(b *batch, agreed bool) {
	r.info.Closed, b.info = r.d.now(), true
	at := &b.state.OnChain
	moved := func(p *payment) bool {
		return agreed || at.Epoch == b.state.Current.Epoch && at.Version >= p.version()
	}
	for h, p := range r.pays {
		delete(r.pays, h)
		if moved(p) {
			p.settledWithoutReceipt(b)
		} else {
			p.fail(b, PaymentFailure{Rule: "channel_closed", Text: "the channel settled with a version from before the payment",
				Next: "pay again over another channel"})
		}
	}
	for _, p := range r.spont {
		if moved(p) {
			p.succeed(b, types.Preimage{})
		} else {
			p.fail(b, PaymentFailure{Rule: "channel_closed", Text: "the channel settled with a version from before the payment",
				Next: "pay again over another channel"})
		}
	}
	r.spont = nil
	r.refuseQueue(b, refuse(CodePhase, "use another channel", "the channel is closed"))
	r.releasedOver(b)
	for n := range min(r.receipts.next, maxReceipts) {
		b.write(del(bucketReceipt, receiptKey(b.state.ID, n)))
	}
	b.then(func() { r.d.channelClosed(r, agreed) })
}

// agreed answers those who wait for the opening.
func (r *runner) agreed(err error) {
	for _, c := range r.opened {
		c <- err
	}
	r.opened = nil
}

// resynced: the peer and we agreed on a new epoch, in which versions count from 1 again, and what we had signed is part of its first one.
// After a loss of data locks may differ. Payments whose locks vanished can't be told about. Locks that
// nobody here remembers get a record and are never given back, as what they were for may still be paid in another channel.
func (r *runner) resynced(b *batch, gone []channel.Lock) {
	for _, l := range gone {
		if !r.mineLock(b, l) {
			if in := r.incoming[l.ID]; in != nil {
				r.leave(b, l.ID, in)
				if in.Kind == kindEscrow {
					r.d.escrows.lost(b, l.Hash, rolePayee)
				}
				r.dropIncoming(b, l.ID)
			}
			continue
		}
		if out := r.outgoing[l.ID]; out != nil {
			out.Lost, out.Gone = true, true
			if out.Kind == kindEscrow {
				r.d.escrows.lost(b, l.Hash, rolePayer)
			}
			if out.Kind == kindPayment && r.tellPayer(b, l.ID, out) {
				b.write(put(bucketOutgoing, lockKey(b.state.ID, l.ID), out.outgoingRecord))
				continue
			}
			r.dropOutgoing(b, l.ID)
		}
	}
	for _, p := range r.spont {
		p.succeed(b, types.Preimage{})
	}
	r.spont = nil
	for _, p := range r.pays {
		p.renumbered(b)
		// A payee that lost data has the money and does not know for what. One that did not sends its receipt again, which ends the doubt.
		p.unsure(b, textAgreed)
	}
	for _, l := range b.state.Current.Locks {
		switch {
		case r.mineLock(b, l) && r.outgoing[l.ID] == nil:
			r.outgoing[l.ID] = &outgoing{outgoingRecord: outgoingRecord{Kind: kindOrphan, Hash: l.Hash}}
			b.write(put(bucketOutgoing, lockKey(b.state.ID, l.ID), r.outgoing[l.ID].outgoingRecord))
		case !r.mineLock(b, l) && r.incoming[l.ID] == nil:
			r.incoming[l.ID] = &incomingRecord{Kind: kindOrphan, Hash: l.Hash, Amount: l.Amount, Expiry: l.Expiry}
			r.saveIncoming(b, l.ID)
		}
	}
}

// orphan marks a forwarded lock whose other half a loss of data may hide: it is not given back any more.
func (r *runner) orphan(b *batch, id uint64) {
	if in := r.incoming[id]; in != nil && in.Kind == kindForward && !in.GiveBack && in.Preimage.IsZero() {
		in.Kind = kindOrphan
		r.saveIncoming(b, id)
	}
}

// orphanSettled: the funder of a lock that nobody here remembers has paid it to us. If it was one to be passed on, its other half is
// among the outgoing ones that nobody remembers either.
func (r *runner) orphanSettled(b *batch, hash types.Hash, p types.Preimage) {
	b.then(func() {
		for _, other := range r.d.allRunners() {
			other.box.force(func(*batch) {
				for id, out := range other.outgoing {
					if out.Kind == kindOrphan && out.Hash == hash && !out.Gone {
						other.releases[id] = p
					}
				}
			})
		}
	})
}

// orphanOpened: the preimage of a lock that nobody here remembers is known. Whatever channel it came in over can claim it.
func (r *runner) orphanOpened(b *batch, p types.Preimage) {
	b.then(func() {
		for _, other := range r.d.allRunners() {
			other.box.force(func(b *batch) {
				if _, err := other.step(b, channel.Reveal{Preimages: []types.Preimage{p}}); err != nil && !errors.Is(err, channel.ErrIgnored) {
					other.log.Info("a preimage is of no use here", "why", err)
				}
			})
		}
	})
}
