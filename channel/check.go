package channel

import (
	"errors"
	"fmt"

	"github.com/eschaton-network/chand/htlc"
)

// Check verifies every invariant of a state on its own: phase, keys, conservation in each version, order of versions,
// signatures that must be there. It verifies signatures, so it costs about a millisecond.
func (s State) Check() error {
	if err := s.check(); err != nil {
		return fmt.Errorf("%w: channel %s: %w", ErrState, s.ID, err)
	}
	return nil
}

func (s *State) check() error {
	if s.Phase == 0 || s.Phase >= phases || s.Side > Acceptor || len(s.Why) > 512 {
		return fmt.Errorf("phase %d, side %d", s.Phase, s.Side)
	}
	if _, err := s.Funding[0].Add(s.Funding[1]); err != nil || s.Capacity() == 0 {
		return fmt.Errorf("funding %v", s.Funding)
	}
	if err := errors.Join(s.Timing.Check(), checkRules(s.Rules[0]), checkRules(s.Rules[1]), checkPubKeys(s.Keys[0])); err != nil {
		return err
	}
	if err := s.checkVersion(&s.Current); err != nil {
		return fmt.Errorf("newest version: %w", err)
	}
	if s.Phase == PhaseProposed || s.Phase == PhaseFailed && s.ID.IsZero() {
		return s.checkProposed()
	}
	if err := checkPubKeys(s.Keys[1]); err != nil {
		return err
	}
	if s.ID != s.Body().ID(s.Genesis) {
		return fmt.Errorf("the id is not that of the contract")
	}
	if s.Phase == PhaseAccepted || s.Phase == PhaseFailed {
		return nil
	}
	return errors.Join(s.checkVersions(), s.checkFlags(), s.checkChain())
}

func (s *State) checkProposed() error {
	if s.Side != Opener && s.Phase == PhaseProposed || !s.ID.IsZero() || s.Current.Number != 1 {
		return errors.New("a proposed channel has an id, or more than one version")
	}
	return nil
}

// checkVersions compares the newest version with the newest one that can be published.
func (s *State) checkVersions() error {
	if err := s.checkVersion(&s.Held.Version); err != nil {
		return fmt.Errorf("held version: %w", err)
	}
	if err := s.verify(s.Side.Other(), &s.Held.Version, false, s.Held.Sig); err != nil {
		return fmt.Errorf("held version: %w", err)
	}
	c, h := &s.Current, &s.Held.Version
	switch {
	case c.Epoch != h.Epoch || c.Number < h.Number || c.Number == h.Number && !c.same(h):
		return fmt.Errorf("newest version (%d, %d) does not follow from the held (%d, %d)", c.Epoch, c.Number, h.Epoch, h.Number)
	case !noWorse(h, c, s.Side.Other()):
		return fmt.Errorf("newest version takes from the peer, compared with the held one")
	case s.Acked > c.Number:
		return fmt.Errorf("version %d is acknowledged, the newest is %d", s.Acked, c.Number)
	}
	given, err := s.checkGiven()
	if err != nil {
		return err
	}
	for _, locks := range [][]Lock{c.Locks, h.Locks, given} {
		for i := range locks {
			l := &locks[i]
			if l.ID == 0 || l.ID >= s.NextLock[l.Funder] {
				return fmt.Errorf("lock %d: the next one is %d", l.ID, s.NextLock[l.Funder])
			}
			if !l.Preimage.IsZero() && l.Preimage.Hash() != l.Hash {
				return fmt.Errorf("lock %d: the preimage does not open its hash", l.ID)
			}
		}
	}
	return nil
}

// checkGiven wants locks that this side settled after the newest version that the peer has, and gives them.
func (s *State) checkGiven() ([]Lock, error) {
	if len(s.Given) > maxGiven {
		return nil, fmt.Errorf("%d settled locks are kept, at most %d", len(s.Given), maxGiven)
	}
	locks := make([]Lock, len(s.Given))
	for i, g := range s.Given {
		_, current := s.Current.find(g.Key())
		_, held := s.Held.find(g.Key())
		switch {
		case i > 0 && locks[i-1].ID >= g.ID || g.Funder != s.Side || current || held:
			return nil, fmt.Errorf("settled lock %d is out of order, open or the peer's", g.ID)
		case g.Version <= max(s.Acked, s.Held.Number) || g.Version > s.Current.Number:
			return nil, fmt.Errorf("lock %d was settled in version %d, the peer has %d of %d", g.ID, g.Version, max(s.Acked, s.Held.Number), s.Current.Number)
		case g.Amount <= 0 || g.Amount > s.Capacity() || g.Expiry == 0 || g.Expiry > htlc.MaxExpiry || g.Preimage.IsZero():
			return nil, fmt.Errorf("settled lock %d: amount %s, expiry %d", g.ID, g.Amount, g.Expiry)
		}
		locks[i] = g.Lock
	}
	return locks, nil
}

func (s *State) checkFlags() error {
	switch {
	case !s.HasFund[s.Side]:
		return errors.New("the contract is not signed here")
	case s.HasFinal && s.Phase < PhaseFinishing:
		return errors.New("the final refund is signed in an open channel")
	case (s.HasFinal || s.Phase == PhaseFinishing) && len(s.Current.Locks) != 0:
		return errors.New("the final refund is signed with open locks")
	case s.Offered != 0 && (s.Offered <= s.Current.Epoch || s.Offered&1 != uint32(s.Side)):
		return fmt.Errorf("epoch %d is offered, the newest is %d", s.Offered, s.Current.Epoch)
	}
	if s.HasFinal {
		if err := s.verify(s.Side.Other(), &s.Current, true, s.FinalSig); err != nil {
			return fmt.Errorf("final refund: %w", err)
		}
	}
	return nil
}

func (s *State) checkChain() error {
	if s.Phase < PhaseSettled && len(s.Outputs) != 0 {
		return errors.New("outputs before the contract has settled")
	}
	for i := range s.Outputs {
		if i > 0 && s.Outputs[i-1].Index >= s.Outputs[i].Index {
			return errors.New("outputs out of order")
		}
		if s.Phase == PhaseClosed && !s.Outputs[i].Done {
			return fmt.Errorf("closed with output %d open", s.Outputs[i].Index)
		}
	}
	return nil
}
