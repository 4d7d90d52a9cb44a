package channel

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/wire"
)

// canSign says why this side may not sign a new version now, or nil.
func (m *machine) canSign() error {
	switch s := &m.s; {
	case s.Restored || s.Offered != 0:
		return fmt.Errorf("%w: the state must first be agreed with the peer in a new epoch, after a loss of data or as version numbers run low", ErrOffline)
	case s.Link != LinkIsReady:
		return ErrOffline
	case !s.MyTurn():
		return ErrNotMyTurn
	}
	return nil
}

// refuse wraps a broken rule of a local command.
func refuse(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrRefused, fmt.Errorf(format, args...))
}

// propose signs a new version with ops and sends it. The peer need not have answered the ones before.
func (m *machine) propose(ops []wire.Op, yield bool) error {
	if err := m.canSign(); err != nil {
		return err
	}
	s := &m.s
	if s.Unacked() >= MaxUnacked {
		return fmt.Errorf("%w: %d", ErrWindow, s.Unacked())
	}
	if m.renewalDue() {
		return fmt.Errorf("%w: version numbers run low and a new epoch begins when the peer has acknowledged all of them", ErrWindow)
	}
	if len(ops) == 0 {
		return refuse("an update without operations")
	}
	ops, err := m.prepare(ops)
	if err != nil {
		return err
	}
	v, ch, err := s.apply(m.me(), ops)
	if err != nil {
		return refuse("%w; the channel stays as it was", err)
	}
	given := s.given(&v, ch.settled)
	if len(given) > maxGiven {
		return fmt.Errorf("%w: %d locks are settled that it has not seen gone", ErrWindow, len(s.Given))
	}
	u := &wire.Update{ID: s.ID, Version: v.Number, Ops: ops, Yield: yield}
	if n := wire.Size(u); n > wire.MaxFrame {
		return refuse("an update of %d bytes, at most %d fit; propose fewer operations at once", n, wire.MaxFrame)
	}
	if u.Sig, err = s.sign(m.env.Keys.Fund, &v, false); err != nil {
		return err
	}
	s.Current, s.Given = v, given
	s.NextLock[m.me()] += uint64(len(ch.added))
	for _, l := range ch.settled {
		m.note(LockSettled{l})
	}
	for _, l := range ch.returned {
		m.note(LockReturned{l.Lock, l.reason})
	}
	m.fx.Save = true
	m.fx.Outbox = []*wire.Update{u}
	m.send(u)
	if yield {
		s.Turn++
	}
	return nil
}

// given is Given after version v has settled own locks: those that the peer had signed are among Held's.
func (s *State) given(v *Version, settled []Lock) []Given {
	list := s.Given
	for _, l := range settled {
		if _, held := s.Held.find(l.Key()); !held {
			list = append(slices.Clip(list), Given{l, v.Number})
		}
	}
	if len(list) > len(s.Given) {
		slices.SortFunc(list, func(a, b Given) int { return cmp.Compare(a.ID, b.ID) })
	}
	return list
}

// prepare numbers new locks and applies the rules that bind one's own operations only.
func (m *machine) prepare(ops []wire.Op) ([]wire.Op, error) {
	s := &m.s
	out := make([]wire.Op, len(ops))
	next := s.NextLock[m.me()]
	for i, op := range ops {
		switch o := op.(type) {
		case wire.AddLock:
			if s.CloseAsked[0] || s.CloseAsked[1] {
				return nil, refuse("the channel is being closed and takes no new locks")
			}
			if least := s.Timing.MinExpiry(m.env.Height); o.Expiry < least {
				return nil, refuse("rule expiry: a lock until height %d, but the contract may need until %d to settle; want an expiry of at least %d",
					o.Expiry, least-1, least)
			}
			o.ID = next
			next++
			op = o
		case wire.GiveBack:
			if l, ok := s.Lock(LockKey{m.peer(), o.ID}); ok && !l.Preimage.IsZero() {
				return nil, refuse("lock %d of the peer is yours: its preimage is known; wait for the peer to settle it", o.ID)
			}
		}
		out[i] = op
	}
	return out, nil
}

// update takes the peer's signed version. It is acknowledged with this step's Save.
func (m *machine) update(u *wire.Update) error {
	s := &m.s
	switch {
	case s.Link != LinkIsReady:
		return fmt.Errorf("%w: an update before the link is agreed; the peer will send it again", ErrIgnored)
	case u.Version <= s.Current.Number:
		return fmt.Errorf("%w: version %d came again", ErrIgnored, u.Version)
	case s.MyTurn():
		m.fault(fmt.Sprintf("version %d was signed in this side's turn", u.Version))
		return nil
	case u.Version != s.Current.Number+1:
		m.resetLink() // something was lost on the way: ask for it again
		return nil
	}
	v, ch, err := s.apply(m.peer(), u.Ops)
	if err != nil {
		m.fault(fmt.Sprintf("version %d: %v", u.Version, err))
		return nil
	}
	if err := s.verifyWith(m.env.Tables, m.peer(), &v, false, u.Sig); err != nil {
		m.fault(fmt.Sprintf("version %d: %v", u.Version, err))
		return nil
	}
	s.NextLock[m.peer()] += uint64(len(ch.added))
	s.Current, s.Held, s.Given = v, Signed{v, u.Sig}, nil
	m.fx.Save = true
	m.send(&wire.Ack{ID: s.ID, Version: v.Number})
	m.gained(&ch)
	if u.Yield {
		m.takeTurn(s.Turn + 1)
	}
	return nil
}

// gained reports what the peer's update did.
func (m *machine) gained(ch *change) {
	for _, p := range ch.pays {
		m.note(Received{p})
	}
	for _, p := range ch.streams {
		m.note(Streamed{p.Stream, p.First, p.Amounts})
	}
	for _, l := range ch.added {
		m.note(LockAdded{l.Lock, l.reserve, l.onion, l.memo})
	}
	for _, l := range ch.settled {
		m.note(LockSettled{l})
	}
	for _, l := range ch.returned {
		m.note(LockReturned{l.Lock, l.reason})
	}
}

func (m *machine) ack(a *wire.Ack) error {
	s := &m.s
	switch {
	case s.Restored && s.Link == LinkWaits && a.Version == s.Current.Number: // of what the peer had not seen
		m.resetLink()
		return nil
	case s.Link != LinkIsReady:
		return fmt.Errorf("%w: an acknowledgement before the link is agreed", ErrIgnored)
	case a.Version <= s.Acked || a.Version <= s.Held.Number:
		return fmt.Errorf("%w: version %d was acknowledged before", ErrIgnored, a.Version)
	case a.Version > s.Current.Number:
		m.fault(fmt.Sprintf("version %d was acknowledged, the newest one is %d", a.Version, s.Current.Number))
		return nil
	}
	m.acked(a.Version)
	return nil
}

func (m *machine) acked(version uint32) {
	m.s.Given = slices.DeleteFunc(slices.Clone(m.s.Given), func(g Given) bool { return g.Version <= version })
	m.s.Acked = version // not worth a save of its own: a lower number after a crash only costs sending again
	m.fx.OutboxAcked = version
	m.note(Acked{version})
}

func (m *machine) requestTurn() error {
	s := &m.s
	switch {
	case s.Link != LinkIsReady:
		return ErrOffline
	case s.MyTurn():
		return fmt.Errorf("%w: this side has the turn already", ErrIgnored)
	case s.TurnAsked:
		return fmt.Errorf("%w: the turn was asked for already", ErrIgnored)
	}
	s.TurnAsked = true
	m.send(&wire.TurnRequest{ID: s.ID})
	return nil
}

func (m *machine) turnRequest() error {
	if m.s.Link != LinkIsReady || !m.s.MyTurn() {
		return fmt.Errorf("%w: the turn is not here", ErrIgnored) // it is on its way already
	}
	m.note(TurnWanted{})
	return nil
}

// giveTurn hands the turn over. Saved first: a turn given away must stay away.
func (m *machine) giveTurn() error {
	if err := m.canSign(); err != nil {
		return err
	}
	m.s.Turn++
	m.fx.Save = true
	m.send(&wire.Yield{ID: m.s.ID, Version: m.s.Current.Number, Turn: m.s.Turn})
	return nil
}

func (m *machine) yield(y *wire.Yield) error {
	s := &m.s
	switch {
	case s.Link != LinkIsReady:
		return fmt.Errorf("%w: a yield before the link is agreed", ErrIgnored)
	case y.Turn <= s.Turn:
		return fmt.Errorf("%w: turn %d came again", ErrIgnored, y.Turn)
	case y.Version > s.Current.Number:
		m.resetLink() // updates before it were lost on the way
		return nil
	case y.Turn != s.Turn+1 || y.Version != s.Current.Number || s.MyTurn():
		m.fault(fmt.Sprintf("turn %d was handed over at version %d, this side knows turn %d and version %d", y.Turn, y.Version, s.Turn, s.Current.Number))
		return nil
	}
	m.takeTurn(y.Turn)
	return nil
}

// takeTurn needs no save: if this step is forgotten, the peer hands the turn over again on the next link.
func (m *machine) takeTurn(turn uint64) {
	m.s.Turn, m.s.TurnAsked = turn, false
	m.note(TurnGained{})
}

// reveal takes preimages of the peer's locks from this side's user (its invoice, or a downstream hop) and shows them to the peer.
func (m *machine) reveal(preimages []types.Preimage) error {
	fresh := map[types.Hash]bool{}
	for _, l := range m.learn(preimages) {
		if l.Funder != m.me() {
			fresh[l.Hash] = true
		}
	}
	if len(m.s.Outputs) > 0 {
		m.settleOutputs() // claims at once what can be claimed
	}
	if !m.fx.Save {
		return fmt.Errorf("%w: no open lock of the peer has this hash, or its preimage was known", ErrIgnored)
	}
	if len(fresh) > 0 && m.s.Ready() { // once the contract is being closed the claim on chain shows it
		m.showPreimages(fresh)
	}
	return nil
}

// showPreimages sends the known preimages of the peer's open locks, all or those with the given hashes.
func (m *machine) showPreimages(only map[types.Hash]bool) {
	msg := &wire.Reveal{ID: m.s.ID}
	for _, l := range m.s.Current.Locks {
		if l.Funder == m.peer() && !l.Preimage.IsZero() && (only == nil || only[l.Hash]) {
			msg.Preimages = append(msg.Preimages, l.Preimage)
		}
	}
	if len(msg.Preimages) > 0 {
		m.send(msg)
	}
}

// revealed takes preimages that the peer shows for locks that this side funded.
func (m *machine) revealed(preimages []types.Preimage) error {
	opened := m.learn(preimages)
	for _, l := range opened {
		if l.Funder == m.me() {
			m.note(PreimageKnown{l})
		}
	}
	if !m.fx.Save {
		return fmt.Errorf("%w: no open lock has this hash, or its preimage was known", ErrIgnored)
	}
	return nil
}

func (m *machine) sendReceipts(preimages []types.Preimage) error {
	if m.s.Link != LinkIsReady {
		return ErrOffline
	}
	if len(preimages) == 0 || len(preimages) > wire.MaxLocks {
		return refuse("%d receipts in one message: want 1..%d", len(preimages), wire.MaxLocks)
	}
	m.send(&wire.Receipt{ID: m.s.ID, Preimages: preimages})
	return nil
}
