package chand

import (
	"errors"

	"github.com/eschaton-network/chand/channel"
	"github.com/eschaton-network/chand/htlc"
	"github.com/eschaton-network/chand/route"
	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/wire"
)

// lockAdded decides what becomes of a lock of the peer's, once, and saves the decision with the version that brought the lock. The
// decision is one of: reveal (it pays an invoice of ours, or us without one), hold (an escrow for us), forward, give back.
func (r *runner) lockAdded(b *batch, n channel.LockAdded) {
	l := n.Lock
	if r.incoming[l.ID] != nil {
		return // a repeated notice: decided already
	}
	in := &incomingRecord{Hash: l.Hash, Amount: l.Amount, Expiry: l.Expiry, Reserve: n.Reserve}
	r.incoming[l.ID] = in
	if len(n.Onion) == 0 {
		r.holdEscrow(b, l, in, n.Memo, r.peer)
	} else {
		r.peel(b, l, in, n.Onion)
	}
	r.saveIncoming(b, l.ID)
}

func (r *runner) saveIncoming(b *batch, id uint64) {
	b.write(put(bucketIncoming, lockKey(b.state.ID, id), *r.incoming[id]))
}

func (r *runner) peel(b *batch, l channel.Lock, in *incomingRecord, onion []byte) {
	peeled, err := htlc.PeelOnion(r.d.onion, onion, l.Hash[:])
	var bad *htlc.OnionError
	if errors.As(err, &bad) {
		r.reject(b, in, l.ID, htlc.MalformedReason(bad), in.Reserve)
		return
	}
	if err != nil {
		r.reject(b, in, l.ID, nil, in.Reserve)
		return
	}
	in.Secret = peeled.SharedSecret
	switch {
	case peeled.Blinded != nil:
		r.peelBlinded(b, l, in, peeled)
	case peeled.IsFinal:
		r.final(b, l, in, peeled.Payload)
	default:
		r.pass(b, l, in, peeled.Payload, peeled.Next[:])
	}
}

// pass forwards a lock, or gives it back.
func (r *runner) pass(b *batch, l channel.Lock, in *incomingRecord, p htlc.Payload, onion []byte) {
	if f := r.startForward(b, l, in, p, onion); f != nil {
		r.decline(b, in, l.ID, f)
	}
}

// final takes a lock that is for us, or gives it back.
func (r *runner) final(b *batch, l channel.Lock, in *incomingRecord, p htlc.Payload) {
	if f := route.CheckFinal(r.lockIn(b, l, in.Reserve), p, r.d.chainView(r.height)); f != nil {
		r.decline(b, in, l.ID, f)
		return
	}
	switch p.Kind {
	case htlc.Escrow:
		r.holdEscrow(b, l, in, p.Memo, types.NodeID{})
	default:
		r.hold(b, l, in, p)
	}
}

// accept shows the peer the preimage in the same commit: from here on the money is ours.
func (r *runner) accept(b *batch, l channel.Lock, in *incomingRecord, p types.Preimage) {
	in.Kind = kindFinal
	r.reveal(b, in, l.ID, p)
}

func (r *runner) reveal(b *batch, in *incomingRecord, id uint64, p types.Preimage) {
	in.Preimage = p
	if _, err := r.step(b, channel.Reveal{Preimages: []types.Preimage{p}}); err != nil && !errors.Is(err, channel.ErrIgnored) {
		r.log.Error("a preimage can't be shown to the peer", "lock", id, "why", err)
	}
}

// reject marks a lock to be given back with a reason as soon as this side has the turn, and with it what is left of its reservation
// fee: whoever did not keep a lock open downstream has not earned one.
func (r *runner) reject(b *batch, in *incomingRecord, id uint64, reason []byte, refund types.Amount) {
	if in.Kind == 0 {
		in.Kind = kindReject
	}
	in.GiveBack, in.Reason = true, reason
	r.backs = append(r.backs, id)
	if refund > 0 && r.refund(b, wire.Pay{Amount: refund, Hash: in.Hash, Refund: true}) {
		in.Refunded = refund
	}
}

// decline is reject by this node itself.
func (r *runner) decline(b *batch, in *incomingRecord, id uint64, f *htlc.Failure) {
	r.reject(b, in, id, in.failure(f), in.Reserve)
}

// refund gives money back as soon as this side has the turn. false: too many wait.
func (r *runner) refund(b *batch, p wire.Pay) bool {
	if len(r.refunds) >= maxRefunds {
		r.log.Warn("money is not given back: too many refunds wait", "hash", p.Hash, "amount", p.Amount)
		return false
	}
	r.refunds = append(r.refunds, p)
	r.info.Refunds, b.info = r.refunds, true
	return true
}

// giveBack is the payee's refund of a held lock.
func (r *runner) giveBack(b *batch, id uint64) error {
	in := r.incoming[id]
	if in == nil || in.Kind != kindEscrow {
		return refuse(CodePhase, "see `escrow list`", "the lock is not held any more")
	}
	if in.GiveBack {
		return nil // asked for already
	}
	reason := []byte("the payee gives the escrow back")
	if in.Secret != (types.Hash{}) {
		reason = in.failure(htlc.NewFailure(htlc.IncorrectOrUnknownPaymentDetails, types.ChannelID{}, "%s", reason))
	}
	if e := r.d.escrows.get(in.Hash, rolePayee); e != nil {
		e.rec.State = EscrowRefunding
		b.write(e.write())
		b.then(e.show)
	}
	r.reject(b, in, id, reason, 0)
	r.saveIncoming(b, id)
	return nil
}

// incomingSettled: the peer's lock was paid to us.
func (r *runner) incomingSettled(b *batch, l channel.Lock) {
	in := r.incoming[l.ID]
	if in == nil {
		return
	}
	r.unback(l.ID)
	if in.GiveBack && in.Kind != kindEscrow { // it was on its way back, and is not ours; its reservation fee went back before
		in.Released = true
		r.repay(b, l.ID, in, in.Amount)
		return
	}
	switch in.Kind {
	case kindEscrow:
		r.d.escrows.ended(b, l.Hash, rolePayee, EscrowReleased, l.Preimage, "")
	case kindOrphan:
		r.orphanSettled(b, l.Hash, l.Preimage)
	case kindForward:
		if in.Preimage.IsZero() { // released by its funder: the outgoing lock must follow
			in.Preimage, in.Released = l.Preimage, true
			r.saveIncoming(b, l.ID)
			r.tellDownstream(b, l.ID, in)
			return
		}
		r.forwarded(b, l.ID, in, true)
	}
	r.dropIncoming(b, l.ID)
}

// incomingReturned: the peer's lock went back to the peer.
func (r *runner) incomingReturned(b *batch, l channel.Lock) {
	in := r.incoming[l.ID]
	if in == nil {
		return
	}
	r.unback(l.ID)
	r.leave(b, l.ID, in)
	if in.Kind == kindForward {
		r.forwarded(b, l.ID, in, false)
	}
	if in.Kind == kindEscrow {
		r.d.escrows.ended(b, l.Hash, rolePayee, EscrowRefunded, types.Preimage{}, "")
	}
	r.dropIncoming(b, l.ID)
}

func (r *runner) dropIncoming(b *batch, id uint64) {
	delete(r.incoming, id)
	b.write(del(bucketIncoming, lockKey(b.state.ID, id)))
}

// received handles a payment by Pay: an invoice of ours is marked paid and its receipt sent; what nobody asked for goes back.
func (r *runner) received(b *batch, p wire.Pay) {
	if p.Refund {
		r.refunded(b, p)
		return
	}
	if p.Hash.IsZero() {
		r.d.received(b, Payment{Amount: p.Amount, Peer: r.peer, Spontaneous: true, Over: []Move{{b.state.ID, p.Amount}}})
		return
	}
	pre, why := r.d.invoices.claim(b, p.Hash, p.Amount, r.peer)
	if why != nil {
		r.log.Info("a payment goes back to the payer", "hash", p.Hash, "why", why.Text)
		r.refund(b, wire.Pay{Amount: p.Amount, Hash: p.Hash, Refund: true})
		return
	}
	r.receipt(b, pre)
	if _, err := r.step(b, channel.SendReceipts{Preimages: []types.Preimage{pre}}); err != nil && !errors.Is(err, channel.ErrIgnored) {
		r.log.Info("a receipt is not sent now; it goes with the next link", "why", err)
	}
}

// refunded: the peer gives back a payment that it does not want, the reservation fee of a lock that it did not pass on, or the money of
// an escrow that was released before it could pass that on.
func (r *runner) refunded(b *batch, p wire.Pay) {
	if pay := r.pays[p.Hash]; pay != nil && pay.rec.Amount == p.Amount {
		delete(r.pays, p.Hash)
		pay.fail(b, refusedByPayee(r.peer))
		return
	}
	for id, out := range r.outgoing {
		switch {
		case out.Hash != p.Hash:
			continue
		case !out.Gone && p.Amount <= out.Reserve-out.Refunded:
			out.Refunded += p.Amount
		case out.Gone && out.Released && !out.Returned && p.Amount >= out.Amount: // not passed on further down: repaid upstream
			out.Returned, out.acked, out.Refunded = true, false, p.Amount-out.Amount
			r.tellUpstream(b, id, out)
		default:
			continue
		}
		b.write(put(bucketOutgoing, lockKey(b.state.ID, id), out.outgoingRecord))
		return
	}
	r.escrowCameBack(b, p.Hash, p.Amount)
}

// maxRefunds bounds the payments that wait to be given back in one channel, which are saved in one record. A payer keeps at most
// maxReceipts payments open in one channel, so an honest one never gets there.
const maxRefunds = maxReceipts

// maxReceipts is how many receipts of a channel are kept for a link that breaks before the payer has read them. A payer keeps at
// most as many payments open in one channel, so none is forgotten.
const maxReceipts = 4096

// receipts is a ring of the newest receipts given. Owned by the runner.
type receipts struct {
	next uint64 // counts all
	ring map[uint64]types.Preimage
}

type receiptRecord struct {
	N        uint64         `cbor:"1,keyasint"`
	Preimage types.Preimage `cbor:"2,keyasint"`
}

const bucketReceipt = "receipt" // channel id/number modulo maxReceipts -> receiptRecord

func receiptKey(c types.ChannelID, n uint64) string { return lockKey(c, n%maxReceipts) }

func (r *runner) receipt(b *batch, p types.Preimage) {
	n := r.receipts.next
	r.receipts.next++
	r.receipts.ring[n] = p
	if n >= maxReceipts {
		delete(r.receipts.ring, n-maxReceipts)
	}
	b.write(put(bucketReceipt, receiptKey(b.state.ID, n), receiptRecord{n, p}))
}

// resendReceipts runs on every new link: those that the old one may have lost are sent again.
func (r *runner) resendReceipts(b *batch) {
	var list []types.Preimage
	first := r.receipts.next - uint64(len(r.receipts.ring))
	for n := first; n < r.receipts.next; n++ {
		list = append(list, r.receipts.ring[n])
	}
	for len(list) > 0 {
		n := min(len(list), wire.MaxOps)
		if _, err := r.step(b, channel.SendReceipts{Preimages: list[:n]}); err != nil {
			return
		}
		list = list[n:]
	}
}

// lockIn is the lock as package route checks it.
func (r *runner) lockIn(b *batch, l channel.Lock, reserve types.Amount) route.LockIn {
	return route.LockIn{Channel: b.state.ID, Amount: l.Amount, Reserve: reserve, Expiry: l.Expiry, Timing: b.state.Timing, Frozen: b.state.Phase != channel.PhaseOpen}
}
