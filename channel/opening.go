package channel

import (
	"errors"
	"fmt"

	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/wire"
)

// NewOpening begins a channel as the opener and sends open. Open's Temp, Salt, funding, Timing, Rules, Keys (those of
// env.Keys and the own account) and ValidUntil are the caller's; ChainGenesis and Epoch are filled in from env.
func NewOpening(peer types.NodeID, open wire.Open, keyIndex uint64, env Env) (State, Effects, error) {
	open.ChainGenesis = env.Genesis
	open.Epoch = uint32(env.Now / 60)
	if err := checkOpen(&open, env); err != nil {
		return State{}, Effects{}, refuse("%w; nothing was sent", err)
	}
	if err := checkKeys(open.Keys, env.Keys); err != nil {
		return State{}, Effects{}, refuse("%w", err)
	}
	s := fromOpen(peer, &open, keyIndex)
	s.Side, s.Phase, s.Since = Opener, PhaseProposed, env.Height
	return s, Effects{Save: true, Send: []wire.Message{&open}, Notices: []Notice{PhaseChanged{0, PhaseProposed}}}, nil
}

// AcceptOpening agrees to a peer's Open, as it stands. Whether this daemon wants the channel (amounts, timing, rules) is
// for the caller to decide before; what no channel may have is refused here.
func AcceptOpening(peer types.NodeID, open *wire.Open, rules wire.Rules, keys wire.PartyKeys, keyIndex uint64, env Env) (State, Effects, error) {
	if open.ChainGenesis != env.Genesis {
		return State{}, Effects{}, refuse("the channel is for another ledger (genesis %s, here %s)", open.ChainGenesis, env.Genesis)
	}
	if err := checkOpen(open, env); err != nil {
		return State{}, Effects{}, refuse("%w", err)
	}
	if err := errors.Join(checkKeys(keys, env.Keys), checkRules(rules)); err != nil {
		return State{}, Effects{}, refuse("%w", err)
	}
	m := machine{s: fromOpen(peer, open, keyIndex), env: env}
	m.s.Side, m.s.Link = Acceptor, LinkWaits
	if err := m.bind(rules, keys); err != nil {
		return State{}, Effects{}, refuse("%w", err)
	}
	m.s.Phase, m.s.Since, m.fx.Save = PhaseAccepted, env.Height, true
	m.note(PhaseChanged{0, PhaseAccepted})
	m.sendAccept()
	return m.s, m.fx, m.err
}

func fromOpen(peer types.NodeID, o *wire.Open, keyIndex uint64) State {
	s := State{
		Temp: o.Temp, Peer: peer, KeyIndex: keyIndex, Genesis: o.ChainGenesis, Timing: o.Timing,
		Funding: [2]types.Amount{o.Mine, o.Theirs}, ValidUntil: o.ValidUntil, Salt: o.Salt, NextLock: [2]uint64{1, 1}, Acked: 1,
		Current: Version{Epoch: o.Epoch, Number: 1, Balance: [2]types.Amount{o.Mine, o.Theirs}},
		Link:    LinkWaits,
	}
	s.Rules[Opener], s.Keys[Opener] = o.Rules, o.Keys
	return s
}

// bind completes the fixed part with what the acceptor brings; from here on the channel has its id.
func (m *machine) bind(rules wire.Rules, keys wire.PartyKeys) error {
	s := &m.s
	s.Rules[Acceptor], s.Keys[Acceptor] = rules, keys
	if s.Keys[0].Account == s.Keys[1].Account {
		return errors.New("both sides name the same account")
	}
	if s.Keys[0].Fund == s.Keys[1].Fund || s.Keys[0].Lock == s.Keys[1].Lock || s.Keys[0].Close == s.Keys[1].Close {
		return errors.New("both sides name the same key")
	}
	for _, k := range s.Keys {
		if m.env.HasAccount != nil && !m.env.HasAccount(k.Account) {
			return fmt.Errorf("account %s does not exist on the ledger: no version that pays it could be published", k.Account)
		}
	}
	for side, b := range s.Current.Balance {
		if b > 0 && b < s.dust() {
			return fmt.Errorf("rule dust: side %d would start with %s, an output must have at least %s or be absent", side, b, s.dust())
		}
	}
	body := s.Body()
	if _, err := body.Capacity(); err != nil {
		return err
	}
	s.ID, s.cache = body.ID(s.Genesis), nil
	_, err := s.derive()
	return err
}

// checkOpen wants terms that a channel can have on this ledger now.
func checkOpen(o *wire.Open, env Env) error {
	total, err := o.Mine.Add(o.Theirs)
	if err != nil {
		return err
	}
	epoch := uint32(env.Now / 60)
	switch {
	case total == 0:
		return errors.New("neither side puts anything in")
	case o.Temp.IsZero():
		return errors.New("the temporary id is zero")
	case o.Epoch < 2 || o.Epoch > epoch+maxEpochAhead:
		return fmt.Errorf("epoch %d (minutes since 1970) lies in the future, it is %d now; check the clock", o.Epoch, epoch)
	case o.ValidUntil <= env.Height+types.Height(o.Timing.Inclusion):
		return fmt.Errorf("valid until block %d: too soon, it is block %d and a transaction may take %d blocks", o.ValidUntil, env.Height, o.Timing.Inclusion)
	case o.ValidUntil > env.Height+maxOpening:
		return fmt.Errorf("valid until block %d: it is block %d now and funds may be bound by an opening for %d blocks at most", o.ValidUntil, env.Height, maxOpening)
	}
	return errors.Join(o.Timing.Check(), checkRules(o.Rules), checkPubKeys(o.Keys))
}

func checkRules(r wire.Rules) error {
	if r.Dust < 0 || r.MaxPayment < 0 || r.MaxInFlight < 0 || r.MinLock < 0 || r.Deposit < 0 || r.MaxLocks > maxSideLocks || r.MaxOps > wire.MaxOps {
		return fmt.Errorf("rules %+v: amounts must not be negative, at most %d locks a side and %d operations in one update", r, maxSideLocks, wire.MaxOps)
	}
	return nil
}

func checkPubKeys(k wire.PartyKeys) error {
	for _, key := range []types.PubKey{k.Fund, k.Close, k.Lock} {
		if _, err := key.Parse(); err != nil {
			return fmt.Errorf("key %s: %w", key, err)
		}
	}
	if k.Account.IsZero() {
		return errors.New("no account is named")
	}
	return nil
}

// checkKeys wants the public keys to belong to the private ones that will sign.
func checkKeys(pub wire.PartyKeys, keys Keys) error {
	for _, p := range []struct {
		want types.PubKey
		have []byte
	}{
		{pub.Fund, keys.Fund.PubKey().SerializeCompressed()},
		{pub.Close, keys.Close.PubKey().SerializeCompressed()},
		{pub.Lock, keys.Lock.PubKey().SerializeCompressed()},
	} {
		if p.want != types.PubKey(p.have) {
			return fmt.Errorf("key %s is not this channel's own", p.want)
		}
	}
	if pub.Account.IsZero() {
		return errors.New("no account is named")
	}
	return nil
}

// sendAccept signs refund version 1, which pays both back and can't be used before the contract exists.
func (m *machine) sendAccept() {
	s := &m.s
	sig, err := s.sign(m.env.Keys.Fund, &s.Current, false)
	if err != nil {
		m.void(err)
		return
	}
	m.send(&wire.Accept{Temp: s.Temp, Rules: s.Rules[Acceptor], Keys: s.Keys[Acceptor], RefundSig: sig})
}

// openAgain answers a repeated Open (the peer has not seen our Accept).
func (m *machine) openAgain(o *wire.Open) error {
	again := fromOpen(m.s.Peer, o, m.s.KeyIndex)
	if m.me() != Acceptor || o.Temp != m.s.Temp || o.Salt != m.s.Salt || again.Funding != m.s.Funding || again.Keys[Opener] != m.s.Keys[Opener] ||
		again.Rules[Opener] != m.s.Rules[Opener] || again.Timing != m.s.Timing || again.ValidUntil != m.s.ValidUntil || o.Epoch != m.s.Current.Epoch {
		return fmt.Errorf("%w: another proposal under the id of a running opening", ErrIgnored)
	}
	m.sendAccept()
	return nil
}

// accept (opener): both signatures on refund version 1 are here; with this step's save the contract may be signed.
func (m *machine) accept(a *wire.Accept) error {
	s := &m.s
	if m.me() != Opener || s.Phase != PhaseProposed {
		return fmt.Errorf("%w: the channel was accepted before", ErrIgnored)
	}
	bad := func(err error) error {
		m.send(&wire.Refuse{ID: a.Temp, Text: clip(err.Error())})
		m.fail(fmt.Sprintf("the peer's acceptance can't be used: %v. Nothing was signed and no money is bound", err))
		return nil
	}
	if err := errors.Join(checkRules(a.Rules), checkPubKeys(a.Keys)); err != nil {
		return bad(err)
	}
	if err := m.bind(a.Rules, a.Keys); err != nil {
		return bad(err)
	}
	if err := s.verify(Acceptor, &s.Current, false, a.RefundSig); err != nil {
		return bad(err)
	}
	s.Held = Signed{s.Current, a.RefundSig}
	m.fund()
	m.setPhase(PhaseFunding)
	m.sendFunding()
	return nil
}

// fund signs the contract as a funder. Only after both signatures on refund version 1 are here, and with them in one save.
func (m *machine) fund() {
	s := &m.s
	s.HasFund[m.me()] = true
	if s.Funding[m.me()] > 0 {
		s.FundSigs[m.me()] = m.env.FundSign(s.Body())
	}
}

// sendFunding sends (again) what the peer needs in this phase.
func (m *machine) sendFunding() {
	s := &m.s
	if m.me() == Opener {
		sig, err := s.sign(m.env.Keys.Fund, &s.Current, false)
		if err != nil {
			m.void(err)
			return
		}
		m.send(&wire.OpenRefund{Temp: s.Temp, ID: s.ID, RefundSig: sig})
	}
	m.send(&wire.OpenFund{ID: s.ID, FundSig: s.FundSigs[m.me()]})
}

// openRefund (acceptor): the same for the other side.
func (m *machine) openRefund(o *wire.OpenRefund) error {
	s := &m.s
	if m.me() != Acceptor || o.ID != s.ID {
		return fmt.Errorf("%w: a refund signature for channel %s", ErrIgnored, o.ID)
	}
	if s.Phase == PhaseFunding {
		m.sendFunding() // the peer has not seen ours
		return nil
	}
	if err := s.verify(Opener, &s.Current, false, o.RefundSig); err != nil {
		m.send(&wire.Refuse{ID: s.ID, Text: clip(err.Error())})
		m.fail(fmt.Sprintf("the peer's signature on refund version 1: %v. The contract was not signed and no money is bound", err))
		return nil
	}
	s.Held = Signed{s.Current, o.RefundSig}
	m.fund()
	m.setPhase(PhaseFunding)
	m.sendFunding()
	return nil
}

// openFund takes the other funder's signature; the opener then submits, the acceptor if the opener does not in time.
func (m *machine) openFund(o *wire.OpenFund) error {
	s := &m.s
	if o.ID != s.ID || s.HasFund[m.peer()] {
		return fmt.Errorf("%w: the contract was signed before", ErrIgnored)
	}
	s.HasFund[m.peer()], s.FundSigs[m.peer()] = true, o.FundSig
	m.fx.Save = true
	m.submitContract()
	return nil
}

// submitContract asks for the contract transaction until the chain shows it.
func (m *machine) submitContract() {
	s := &m.s
	patience := types.Height(0)
	if m.me() == Acceptor {
		patience = types.Height(s.Timing.Inclusion)
	}
	if s.Phase != PhaseFunding || !s.HasFund[0] || !s.HasFund[1] || m.env.Height < s.Since+patience {
		return
	}
	a := OpenContract{Body: s.Body()}
	for side, amount := range s.Funding {
		if amount > 0 {
			a.FundSigs = append(a.FundSigs, s.FundSigs[side])
		}
	}
	m.submit(a)
}

// opened: the contract is on chain. Its id is the hash of everything that was agreed (script, capacity, close keys,
// window), so the id alone proves that it is the right one.
func (m *machine) opened(e ledger.ContractOpened) {
	if m.s.Phase != PhaseFunding {
		return
	}
	m.setPhase(PhaseOpen)
	m.note(Opened{})
	if m.s.Link != LinkIsDown {
		m.linkUp()
	}
}
