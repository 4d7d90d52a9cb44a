package channel

import (
	"errors"
	"fmt"

	"github.com/eschaton-network/chand/wire"
)

// linkUp begins the exchange on a new link, according to the phase.
func (m *machine) linkUp() {
	s := &m.s
	s.Link, s.TurnAsked = LinkWaits, false
	switch s.Phase {
	case PhaseProposed:
		m.send(&wire.Open{Temp: s.Temp, ChainGenesis: s.Genesis, Mine: s.Funding[0], Theirs: s.Funding[1], Timing: s.Timing, Rules: s.Rules[0],
			Keys: s.Keys[0], ValidUntil: s.ValidUntil, Salt: s.Salt, Epoch: s.Current.Epoch})
	case PhaseAccepted:
		m.sendAccept()
	case PhaseFunding:
		m.sendFunding()
	case PhaseOpen, PhaseFinishing:
		m.send(m.hello(false))
	}
}

// resetLink asks the peer to say where it is, after messages were lost. Nothing is believed until it answers.
func (m *machine) resetLink() {
	m.s.Link, m.s.TurnAsked = LinkWaits, false
	m.send(m.hello(false))
}

func (m *machine) hello(answer bool) *wire.Reestablish {
	s := &m.s
	return &wire.Reestablish{
		ID: s.ID, Epoch: s.Current.Epoch, Version: s.Current.Number, Acked: s.Held.Number, Turn: s.Turn,
		StateHash: stateHash(s.ID, &s.Current), Offered: s.Offered, Restored: s.Restored, Answer: answer,
	}
}

// reestablish compares where both sides are: equal, or one has to send again, or data was lost and is repaired.
func (m *machine) reestablish(p *wire.Reestablish) error {
	s := &m.s
	switch {
	case p.Answer && s.Link == LinkIsReady:
		return fmt.Errorf("%w: the link is agreed already", ErrIgnored)
	case s.Link != LinkWaits: // the peer begins again: it must know where this side is before anything is sent again
		m.resetLink()
		return nil
	case !p.Answer:
		m.send(m.hello(true))
	}
	s.Link, s.TurnAsked = LinkWaits, false
	mine, theirs := m.lost(p)
	switch {
	case s.Phase == PhaseFinishing:
		return m.finishAgain(p, theirs)
	case !p.Restored && p.Offered >= s.Current.Epoch && p.Offered > s.Offered:
		// Not seen here, or agreed here and not seen there: the peer sends its Resync again.
	case !s.Restored && s.Offered > p.Offered && p.Epoch <= s.Offered && (p.Epoch != s.Current.Epoch || p.Version <= s.Current.Number):
		m.sendResync() // not answered yet
	case m.unseen(p):
	case (mine || theirs) && m.ahead(p, mine, theirs):
		m.offer(p)
	case mine || theirs:
		// The peer has more than this side: it sends a Resync.
	case p.Version == s.Current.Number && p.StateHash != stateHash(s.ID, &s.Current):
		m.fault(fmt.Sprintf("both sides are at version %d but their contents differ", p.Version))
	default:
		m.catchUp(p)
	}
	return nil
}

// lost tells which side's claim shows that data was lost: a side that has less than what it signed or acknowledged.
func (m *machine) lost(p *wire.Reestablish) (mine, theirs bool) {
	s := &m.s
	mine = s.Restored || p.Epoch > s.Current.Epoch
	theirs = p.Restored || p.Epoch < s.Current.Epoch
	if p.Epoch != s.Current.Epoch {
		return mine, theirs
	}
	theirs = theirs || p.Version < s.Acked || p.Version < s.Held.Number || p.Turn+1 < s.Turn || p.Turn+1 == s.Turn && s.MyTurn()
	mine = mine || p.Acked > s.Current.Number || p.Turn > s.Turn+1 || p.Turn == s.Turn+1 && holder(p.Turn) != m.me() ||
		p.Version > s.Current.Number && s.MyTurn()
	return mine, theirs
}

// unseen handles a side that was restored and yet has updates that the other never saw, as it stopped between saving and sending: first
// these are sent again and taken, then the link begins anew (see ack).
func (m *machine) unseen(p *wire.Reestablish) bool {
	s := &m.s
	switch {
	case p.Epoch != s.Current.Epoch || s.Offered != 0 || p.Offered != 0:
		return false
	case s.Restored && !p.Restored && p.Version < s.Current.Number && p.Version >= s.Held.Number:
		m.fx.Resend = p.Version + 1
		return true
	case p.Restored && !s.Restored && p.Version > s.Current.Number && !s.MyTurn():
		s.Link = LinkIsReady
		return true
	}
	return false
}

// ahead decides which side's state is offered after a loss of data: the newest one, and never that of a side that was restored to one that
// was not, as this one takes no epoch that is high enough.
func (m *machine) ahead(p *wire.Reestablish, mine, theirs bool) bool {
	s := &m.s
	switch {
	case s.Restored && !p.Restored:
		return false
	case p.Epoch != s.Current.Epoch || p.Version != s.Current.Number:
		return s.Current.after(p.Epoch, p.Version)
	case mine != theirs:
		return theirs
	}
	return m.me() == Opener
}

// catchUp resumes after nothing worse than lost messages.
func (m *machine) catchUp(p *wire.Reestablish) {
	s := &m.s
	s.Link = LinkIsReady
	m.note(LinkReady{})
	if p.Version > s.Acked && p.Version > s.Held.Number && p.Version <= s.Current.Number {
		m.acked(p.Version)
	}
	if p.Version < s.Current.Number {
		m.fx.Resend = p.Version + 1
	}
	if s.Turn == p.Turn+1 { // given away here, not seen there
		m.send(&wire.Yield{ID: s.ID, Version: s.Current.Number, Turn: s.Turn})
	}
	m.resume()
}

// resume repeats what is still open and was perhaps not seen.
func (m *machine) resume() {
	s := &m.s
	m.showPreimages(nil)
	if s.CloseAsked[m.me()] {
		m.send(&wire.CloseRequest{ID: s.ID})
	}
	if s.MyTurn() {
		m.note(TurnGained{})
	}
}

// finishAgain: the final refund is signed here, so nothing but its exchange remains.
func (m *machine) finishAgain(p *wire.Reestablish, lost bool) error {
	s := &m.s
	if lost || p.Epoch != s.Current.Epoch || p.Version > s.Current.Number {
		m.stop(fmt.Sprintf("the final refund of version %d is signed here and the peer is at version %d of another history", s.Current.Number, p.Version))
		return nil
	}
	s.Link = LinkIsReady
	m.note(LinkReady{})
	if p.Version < s.Current.Number {
		m.fx.Resend = p.Version + 1
	}
	m.send(&wire.CloseRequest{ID: s.ID})
	m.sendCloseSign()
	return nil
}

// nextEpoch is the epoch that this side can offer now: above least and everything that it knows of.
func (m *machine) nextEpoch(least uint32) uint32 {
	epoch := max(uint32(m.env.Now/60), m.s.Current.Epoch+1, m.s.Offered+1, least)
	if epoch&1 != uint32(m.me()) { // the two sides never offer the same epoch
		epoch++
	}
	return epoch
}

// checkEpoch wants a new epoch that is near the clock: the ledger takes none from far ahead, so a peer that could push ours there could
// publish an old version that we could not supersede. A side that was restored wants it above all that it may have signed and forgotten.
func (m *machine) checkEpoch(epoch uint32, restored bool) error {
	now, known := uint32(m.env.Now/60), m.s.Current.Epoch
	switch {
	case epoch > now+maxEpochAhead || !restored && epoch > now+restoredAhead && epoch > known+2:
		return fmt.Errorf("epoch %d (minutes since 1970) lies in the future, it is %d now; check the clock", epoch, now)
	case restored && epoch <= now+restoredAhead:
		return fmt.Errorf("epoch %d is too low after a loss of data, what was forgotten may be higher: want one above %d; check the clock", epoch, now+restoredAhead)
	}
	return nil
}

// offer proposes the newest state under a new epoch after a loss of data on either side. Until the peer agrees nothing is signed, so that
// no forgotten higher number can supersede what follows.
func (m *machine) offer(p *wire.Reestablish) {
	least, restored := p.Offered+1, m.s.Restored || p.Restored
	if restored {
		least = max(least, uint32(m.env.Now/60)+(restoredAhead+maxEpochAhead)/2) // in the middle: clocks differ
	}
	epoch := m.nextEpoch(least)
	if err := m.checkEpoch(epoch, restored); err != nil {
		m.stop(fmt.Sprintf("no new epoch can be agreed on with the peer: %v", err))
		return
	}
	m.offerEpoch(epoch)
}

func (m *machine) offerEpoch(epoch uint32) {
	m.s.Offered, m.fx.Save = epoch, true
	m.sendResync()
}

// renewalDue tells whether version numbers run low and this side is the one to offer the newest state as version 1 of a new epoch.
// It waits while the clock is behind the epochs, as then there are numbers left.
func (m *machine) renewalDue() bool {
	s, at := &m.s, m.env.RenewAt
	if at == 0 {
		at = renewAt
	}
	if s.Current.Number < at || m.canSign() != nil {
		return false
	}
	return m.checkEpoch(m.nextEpoch(0), false) == nil
}

// renew runs after every step: the holder of the turn, whose word alone counts, offers the new epoch as soon as the peer has everything.
func (m *machine) renew() {
	if m.s.Phase == PhaseOpen && m.err == nil && m.s.Unacked() == 0 && m.renewalDue() {
		m.offerEpoch(m.nextEpoch(0))
	}
}

// first is the version that both sides sign for a new epoch: the same content, counted from 1 again.
func first(v Version) Version {
	v.Number = 1
	return v
}

func (m *machine) sendResync() {
	s := &m.s
	v := s.Current
	v.Epoch = s.Offered
	signed := first(v)
	sig, err := s.sign(m.env.Keys.Fund, &signed, false)
	if err != nil {
		m.void(err)
		return
	}
	m.send(&wire.Resync{ID: s.ID, Base: wireVersion(&s.Held.Version), BaseSig: s.Held.Sig, State: wireVersion(&v), Sig: sig,
		Turn: s.Turn, NextLock: s.NextLock})
}

// resync takes the newest state from the peer, if it is provably no worse than what this side signed or knows.
func (m *machine) resync(r *wire.Resync) error {
	s := &m.s
	v := s.fromWire(&r.State)
	agreed := first(v)
	switch {
	case s.Link == LinkIsDown:
		return fmt.Errorf("%w: a repair before the link is agreed", ErrIgnored)
	case agreed.same(&s.Held.Version): // agreed before, the peer has not seen it
		if s.Link == LinkWaits {
			s.Link = LinkIsReady
			m.note(LinkReady{})
			m.resume()
		}
		return m.sendAgree(&s.Held.Version)
	case v.Epoch <= s.Current.Epoch || v.Epoch <= s.Offered:
		return fmt.Errorf("%w: epoch %d is not new", ErrIgnored, v.Epoch)
	}
	if err := m.checkResync(r, &v); err != nil {
		m.fault(fmt.Sprintf("repair with version (%d, %d): %v", v.Epoch, v.Number, err))
		return nil
	}
	var gone []Lock
	for _, l := range s.Current.Locks {
		if i, ok := agreed.find(l.Key()); ok {
			agreed.Locks[i].Preimage = l.Preimage
		} else {
			gone = append(gone, l)
		}
	}
	s.Current = agreed
	s.NextLock = [2]uint64{max(s.NextLock[0], r.NextLock[0]), max(s.NextLock[1], r.NextLock[1])}
	s.Turn = r.Turn
	m.repaired(r.Sig, gone)
	return m.sendAgree(&agreed)
}

func (m *machine) sendAgree(v *Version) error {
	sig, err := m.s.sign(m.env.Keys.Fund, v, false)
	if err != nil {
		return err
	}
	m.send(&wire.Agree{ID: m.s.ID, Epoch: v.Epoch, Sig: sig})
	if m.s.Current.Number > v.Number { // signed since, and perhaps not seen
		m.fx.Resend = v.Number + 1
	}
	return nil
}

// checkResync wants a state that no honest peer would have to hide: reached, from the newest version that is known here or
// proved by this side's own signature, by operations of the peer alone, which can only give.
func (m *machine) checkResync(r *wire.Resync, v *Version) error {
	s := &m.s
	if err := errors.Join(m.checkEpoch(v.Epoch, s.Restored), s.checkVersion(v), checkCounters(r, v)); err != nil {
		return err
	}
	if r.Base.Epoch < s.Current.Epoch {
		return fmt.Errorf("the state comes from epoch %d, this side has agreed on epoch %d", r.Base.Epoch, s.Current.Epoch)
	}
	base := s.fromWire(&r.Base)
	if err := s.checkVersion(&base); err != nil {
		return fmt.Errorf("base: %w", err)
	}
	if err := s.verify(m.me(), &base, false, r.BaseSig); err != nil {
		return fmt.Errorf("base is not what this side signed: %w", err)
	}
	if !base.after(s.Current.Epoch, s.Current.Number) {
		base = s.Current
	}
	at := *v
	at.Epoch = base.Epoch
	switch {
	case at.Number < base.Number:
		return fmt.Errorf("version %d is older than %d", at.Number, base.Number)
	case at.Number == base.Number && !at.same(&base):
		return fmt.Errorf("version %d differs from what this side knows", at.Number)
	case !noWorse(&base, &at, m.me()):
		return fmt.Errorf("version %d takes from this side, compared with %d", at.Number, base.Number)
	}
	agreed := first(*v)
	return s.verify(m.peer(), &agreed, false, r.Sig)
}

// checkCounters wants what comes beside the version to fit it, and to be so low that counting on never overflows.
func checkCounters(r *wire.Resync, v *Version) error {
	if r.Turn > maxCounter {
		return fmt.Errorf("turn %d: at most %d", r.Turn, uint64(maxCounter))
	}
	for side, next := range r.NextLock {
		if next == 0 || next > maxCounter {
			return fmt.Errorf("the next lock of side %d is said to be %d: want 1..%d", side, next, uint64(maxCounter))
		}
	}
	for i := range v.Locks {
		if l := &v.Locks[i]; l.ID == 0 || l.ID >= r.NextLock[l.Funder] {
			return fmt.Errorf("lock %d of side %d: the next one is said to be %d", l.ID, l.Funder, r.NextLock[l.Funder])
		}
	}
	return nil
}

// repaired: the current version is now signed by the peer too, as the first of a new epoch.
func (m *machine) repaired(sig wire.Sig, gone []Lock) {
	s := &m.s
	s.Held, s.Given = Signed{s.Current, sig}, nil
	s.Acked, s.Offered, s.Restored = s.Current.Number, 0, false
	s.Link = LinkIsReady
	m.fx.Save, m.fx.OutboxAcked = true, MaxNumber // numbers begin anew: nothing of the old epoch may stay
	m.note(Resynced{gone})
	m.note(LinkReady{})
	m.resume()
}

// agree ends the repair on the side that offered it.
func (m *machine) agree(a *wire.Agree) error {
	s := &m.s
	if s.Offered == 0 || a.Epoch != s.Offered || s.Link == LinkIsDown || s.Restored && m.checkEpoch(a.Epoch, true) != nil {
		return fmt.Errorf("%w: agreement on epoch %d, not offered", ErrIgnored, a.Epoch)
	}
	v := first(s.Current)
	v.Epoch = a.Epoch
	if err := s.verify(m.peer(), &v, false, a.Sig); err != nil {
		m.fault(fmt.Sprintf("agreement on epoch %d: %v", a.Epoch, err))
		return nil
	}
	s.Current = v
	m.repaired(a.Sig, nil)
	return nil
}
