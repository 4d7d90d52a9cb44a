package channel

import (
	"fmt"

	"github.com/eschaton-network/chand/wire"
)

// askClose asks for an agreed close: no new locks from now on; when none is open, the holder of the turn signs.
func (m *machine) askClose() error {
	s := &m.s
	if s.CloseAsked[m.me()] {
		return fmt.Errorf("%w: the close was asked for already", ErrIgnored)
	}
	s.CloseAsked[m.me()], m.fx.Save = true, true
	if s.Link == LinkIsReady {
		m.send(&wire.CloseRequest{ID: s.ID})
	}
	return nil
}

// closeRequest agrees: who does not want to close has no reason to keep a peer that does.
func (m *machine) closeRequest() error {
	s := &m.s
	if s.Link != LinkIsReady {
		return fmt.Errorf("%w: a close request before the link is agreed", ErrIgnored)
	}
	if s.CloseAsked[m.peer()] && s.CloseAsked[m.me()] {
		return fmt.Errorf("%w: the close was asked for already", ErrIgnored)
	}
	s.CloseAsked[m.peer()], m.fx.Save = true, true
	if !s.CloseAsked[m.me()] {
		s.CloseAsked[m.me()] = true
		m.send(&wire.CloseRequest{ID: s.ID})
	}
	return nil
}

// agreeClose runs after every step: as soon as both want the close and no lock is open, the holder of the turn signs
// the final refund, and nothing else ever after.
func (m *machine) agreeClose() {
	s := &m.s
	if s.Phase != PhaseOpen || !s.CloseAsked[0] || !s.CloseAsked[1] || len(s.Current.Locks) != 0 || m.canSign() != nil || m.err != nil {
		return
	}
	m.setPhase(PhaseFinishing)
	m.sendCloseSign()
}

func (m *machine) sendCloseSign() {
	s := &m.s
	sig, err := s.sign(m.env.Keys.Fund, &s.Current, true)
	if err != nil {
		m.void(err)
		return
	}
	m.send(&wire.CloseSign{ID: s.ID, Version: s.Current.Number, Sig: sig})
}

// closeSign takes the peer's signature on the final refund, answers with this side's, and submits.
func (m *machine) closeSign(c *wire.CloseSign) error {
	s := &m.s
	switch {
	case s.Link != LinkIsReady || s.HasFinal:
		return fmt.Errorf("%w: a final signature before the link is agreed, or again", ErrIgnored)
	case c.Version > s.Current.Number:
		if s.Phase == PhaseOpen {
			m.resetLink() // updates before it were lost on the way
			return nil
		}
		fallthrough
	case c.Version != s.Current.Number || len(s.Current.Locks) != 0 || s.Phase == PhaseOpen && (!s.CloseAsked[m.me()] || s.MyTurn()):
		m.fault(fmt.Sprintf("a final signature for version %d with %d open locks, not agreed like that; the newest version is %d",
			c.Version, len(s.Current.Locks), s.Current.Number))
		return nil
	}
	if err := s.verify(m.peer(), &s.Current, true, c.Sig); err != nil {
		m.fault(fmt.Sprintf("final signature for version %d: %v", c.Version, err))
		return nil
	}
	s.FinalSig, s.HasFinal, m.fx.Save = c.Sig, true, true
	if s.Phase == PhaseOpen {
		m.setPhase(PhaseFinishing)
		m.sendCloseSign()
		m.publishFinal()
	}
	return nil
}

// forceClose publishes the best version held, or gives up an opening in which nothing was signed that binds money.
func (m *machine) forceClose() error {
	switch m.s.Phase {
	case PhaseProposed, PhaseAccepted:
		m.send(&wire.Refuse{ID: m.s.Temp, Text: "the opening was given up"})
		m.fail("the opening was given up here; no money is bound")
	default:
		m.stop("closed by this side's user")
	}
	return nil
}
