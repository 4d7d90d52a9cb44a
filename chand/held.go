package chand

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/eschaton-network/chand/channel"
	"github.com/eschaton-network/chand/htlc"
	"github.com/eschaton-network/chand/types"
)

// A payment to us comes as one lock or as several parts: locks with one hash, each of which names the total. They are held until they add
// up. The commit that saves the invoice as paid, with the list of its parts, is the decision: every part in it is claimed, now or
// after a restart, and no other. Until then the parts are what the records of held locks say, and all of them go back when time is up.

const (
	// holdBlocks is how long the first part of a payment waits for the last: a minute at one block a second, as BOLT 4 asks.
	holdBlocks = 60
	// maxHeld bounds the parts of one payment to us: twice what a payer of this daemon makes.
	maxHeld = 2 * maxParts
)

// heldPart is one part of a payment to us.
type heldPart struct {
	r       *runner
	amount  types.Amount
	claimBy types.Height
}

// heldSet are the parts of one payment to us that are here.
type heldSet struct {
	total, sum types.Amount
	since      types.Height
	parts      map[lockRef]heldPart
}

// moves is what the parts bring, by channel.
func (s *heldSet) moves() (list []Move) {
	for at, part := range s.parts {
		list = addMove(list, at.channel, part.amount)
	}
	slices.SortFunc(list, func(a, b Move) int { return bytes.Compare(a.Channel[:], b.Channel[:]) })
	return list
}

// hold takes a lock that is for us: it waits for the other parts of its payment, or completes it.
func (r *runner) hold(b *batch, l channel.Lock, in *incomingRecord, p htlc.Payload) {
	in.Kind, in.Since, in.Total = kindHeld, r.height, p.Total
	pre, why := r.d.invoices.join(b, r, l, p)
	switch {
	case why != nil:
		in.Kind = 0
		r.decline(b, in, l.ID, why)
	case !pre.IsZero():
		r.accept(b, l, in, pre)
	}
}

// part: the payment of a held lock is complete, or goes back.
func (r *runner) part(b *batch, m mailPart) {
	in := r.incoming[m.lock]
	if in == nil || in.Kind != kindHeld || in.GiveBack || !in.Preimage.IsZero() {
		return
	}
	if m.failure != nil {
		r.decline(b, in, m.lock, m.failure)
	} else {
		in.Kind = kindFinal
		r.reveal(b, in, m.lock, m.preimage)
	}
	r.saveIncoming(b, m.lock)
}

// leave forgets a held lock that has gone. The parts that are still here wait for another in its place, or for the time-out.
func (r *runner) leave(b *batch, id uint64, in *incomingRecord) {
	if in.Kind == kindHeld && !in.GiveBack {
		r.d.invoices.leave(in.Hash, lockRef{b.state.ID, id})
	}
}

// join adds a part. It gives the preimage when the payment is complete, a failure when the part is not taken, and neither while it waits.
func (s *invoices) join(b *batch, r *runner, l channel.Lock, p htlc.Payload) (types.Preimage, *htlc.Failure) {
	s.mu.Lock()
	defer s.mu.Unlock()
	rec, bad := s.wanted(l.Hash, p, l.Amount)
	if bad != nil {
		return types.Preimage{}, bad
	}
	set := s.sets[l.Hash]
	if set == nil {
		set = &heldSet{total: p.Total, since: r.height, parts: make(map[lockRef]heldPart)}
	}
	switch {
	case set.total != p.Total:
		return types.Preimage{}, detailsFailure("this part says that the payment is %s, the parts before said %s", p.Total, set.total)
	case len(set.parts) >= maxHeld:
		return types.Preimage{}, detailsFailure("more than %d parts", maxHeld)
	case set.sum+l.Amount > 2*set.total:
		return types.Preimage{}, detailsFailure("the parts would be %s, more than twice the %s of the payment", set.sum+l.Amount, set.total)
	}
	at := lockRef{b.state.ID, l.ID}
	set.parts[at] = heldPart{r: r, amount: l.Amount, claimBy: b.state.Timing.ClaimBy(l.Expiry)}
	set.sum += l.Amount
	s.sets[l.Hash] = set
	if set.sum < set.total {
		return types.Preimage{}, nil
	}
	if len(set.parts) > 1 { // one part alone is claimed by the commit that brought it
		if set.near(s.d.chainView(r.height).Height) {
			delete(set.parts, at)
			s.returnAll(l.Hash, timeoutFailure(set))
			return types.Preimage{}, timeoutFailure(set)
		}
		rec.Held = set.refs()
	}
	s.paid(b, l.Hash, rec, set.sum, r.peer, set.moves())
	delete(s.sets, l.Hash)
	b.then(func() {
		for ref, part := range set.parts {
			if ref != at {
				part.r.box.force(mailPart{lock: ref.lock, preimage: rec.Preimage})
			}
		}
	})
	return rec.Preimage, nil
}

// wanted finds the invoice that a part is for and says whether the part is taken. A payment without an invoice brings its own: then the
// record is made here and saved when the payment is complete.
func (s *invoices) wanted(hash types.Hash, p htlc.Payload, amount types.Amount) (*invoiceRecord, *htlc.Failure) {
	begun := s.sets[hash] != nil
	rec, why := s.open(hash, begun, &p.Secret)
	switch {
	case p.Kind == htlc.Keysend && errors.Is(why, errNoInvoice):
		pre := types.Preimage(p.Secret)
		if pre.Hash() != hash {
			return nil, detailsFailure("the preimage does not open the lock's hash")
		}
		return &invoiceRecord{Preimage: pre, Amount: p.Total, Memo: p.Memo, Created: s.d.now(), Expires: s.d.now(), Spontaneous: true}, nil
	case p.Kind == htlc.Keysend && why == nil:
		return nil, detailsFailure("an invoice has this hash")
	case why != nil:
		return nil, detailsFailure("%v", why)
	case rec.Secret != types.Hash(p.Secret):
		return nil, detailsFailure("%v", errNoInvoice)
	}
	if why := rec.takes(p.Total); why != nil {
		return nil, detailsFailure("%v", why)
	}
	return rec, nil
}

// detailsFailure is what the payee says of a payment that it does not take.
func detailsFailure(format string, args ...any) *htlc.Failure {
	return htlc.NewFailure(htlc.IncorrectOrUnknownPaymentDetails, types.ChannelID{}, format, args...)
}

func (set *heldSet) refs() []heldRef {
	list := make([]heldRef, 0, len(set.parts))
	for ref := range set.parts {
		list = append(list, heldRef{ref.channel, ref.lock})
	}
	return list
}

// held is what of a payment is here and waits for the rest.
func (s *invoices) held(hash types.Hash) types.Amount {
	s.mu.Lock()
	defer s.mu.Unlock()
	if set := s.sets[hash]; set != nil {
		return set.sum
	}
	return 0
}

func (s *invoices) leave(hash types.Hash, at lockRef) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if set := s.sets[hash]; set != nil {
		set.sum -= set.parts[at].amount
		if delete(set.parts, at); len(set.parts) == 0 {
			delete(s.sets, hash)
		}
	}
}

// giveUp gives all parts of a payment back, if they are those that were held since the given height.
func (s *invoices) giveUp(hash types.Hash, since types.Height) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if set := s.sets[hash]; set != nil && set.since <= since {
		s.returnAll(hash, timeoutFailure(set))
	}
}

func timeoutFailure(set *heldSet) *htlc.Failure {
	return htlc.NewFailure(htlc.MPPTimeout, types.ChannelID{}, "%s of %s arrived in time; parts are held for %d blocks, or until one of them expires soon",
		set.sum, set.total, holdBlocks)
}

// near tells whether a part can't be claimed in time any more without closing its channel.
func (set *heldSet) near(h types.Height) bool {
	for _, p := range set.parts {
		if h+2 >= p.claimBy { // its runner may be a block ahead, and revealing takes one
			return true
		}
	}
	return false
}

// returnAll is called with mu held.
func (s *invoices) returnAll(hash types.Hash, why *htlc.Failure) {
	set := s.sets[hash]
	if set == nil {
		return
	}
	delete(s.sets, hash)
	for ref, part := range set.parts {
		part.r.box.force(mailPart{lock: ref.lock, failure: why})
	}
}

// resumeHeld is called at the start, before runners run: a held lock is a part of what was paid, or waits on.
func (r *runner) resumeHeld(id uint64, in *incomingRecord) error {
	s, at := r.d.invoices, lockRef{r.state.ID, id}
	s.mu.Lock()
	defer s.mu.Unlock()
	rec, ok, err := load[invoiceRecord](s.d.Store, bucketInvoice, in.Hash.String())
	if err != nil {
		return err
	}
	if ok && rec.Paid != 0 {
		m := mailPart{lock: id, failure: detailsFailure("%v", errPaidAlready)}
		for _, h := range rec.Held {
			if h.Channel == at.channel && h.Lock == at.lock {
				m = mailPart{lock: id, preimage: rec.Preimage}
			}
		}
		r.box.force(m)
		return nil
	}
	set := s.sets[in.Hash]
	if set == nil {
		set = &heldSet{total: in.Total, since: in.Since, parts: make(map[lockRef]heldPart)}
		s.sets[in.Hash] = set
	}
	set.since = min(set.since, in.Since)
	set.sum += in.Amount
	set.parts[at] = heldPart{r: r, amount: in.Amount, claimBy: r.state.Timing.ClaimBy(in.Expiry)}
	if in.Total != set.total {
		return fmt.Errorf("held lock %d: total %s, the other parts say %s", id, in.Total, set.total)
	}
	return nil
}
