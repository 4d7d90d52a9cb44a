package channel_test

import (
	"errors"
	"testing"

	"github.com/eschaton-network/chand/channel"
	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/wire"
)

// proposal is an opening up to the acceptor's Accept, each side with its state.
func proposal(t tb) (a, b *party, open *wire.Open, rules wire.Rules) {
	w := newWorld(t)
	a, b = w.party("alice", 1000*types.Coin), w.party("bob", 1000*types.Coin)
	a.peer, b.peer = b, a
	a.height, b.height = w.ledger.Height(), w.ledger.Height()
	rules = wire.Rules{Dust: 10}
	open = &wire.Open{Temp: types.Hash{1}, ChainGenesis: w.ledger.Params().Genesis, Mine: 60 * types.Coin, Theirs: 40 * types.Coin, Timing: testTiming, Rules: rules,
		Keys: a.partyKeys(), ValidUntil: a.height + 100, Salt: types.Hash{2}, Epoch: uint32(a.env().Now / 60)}
	return a, b, open, rules
}

// TestOpenRefusals: terms that no channel may have are refused on both sides, before anything is signed.
func TestOpenRefusals(t *testing.T) {
	for name, change := range map[string]func(o *wire.Open){
		"other ledger":   func(o *wire.Open) { o.ChainGenesis[0]++ },
		"nothing put in": func(o *wire.Open) { o.Mine, o.Theirs = 0, 0 },
		"overflow":       func(o *wire.Open) { o.Mine, o.Theirs = types.MaxAmount, types.MaxAmount },
		"dust":           func(o *wire.Open) { o.Theirs = 9 },
		"future epoch":   func(o *wire.Open) { o.Epoch += 61 },
		"no time":        func(o *wire.Open) { o.ValidUntil = 5 },
		"too much time":  func(o *wire.Open) { o.ValidUntil += 1 << 20 },
		"window":         func(o *wire.Open) { o.Timing.Window = 3 },
		"rules":          func(o *wire.Open) { o.Rules.MaxLocks = 484 },
		"key":            func(o *wire.Open) { o.Keys.Lock[0] = 9 },
		"no account":     func(o *wire.Open) { o.Keys.Account = types.AccountID{} },
		"no id":          func(o *wire.Open) { o.Temp = types.Hash{} },
	} {
		a, b, open, rules := proposal(t)
		change(open)
		if s, _, err := channel.AcceptOpening(types.NodeID{1}, open, rules, b.partyKeys(), 1, b.env()); !errors.Is(err, channel.ErrRefused) || s.Phase != 0 {
			t.Errorf("%s: accepted: %v", name, err)
		}
		if name == "other ledger" || name == "future epoch" || name == "dust" { // filled in by, or known only after, NewOpening
			continue
		}
		if _, _, err := channel.NewOpening(types.NodeID{1}, *open, 1, a.env()); !errors.Is(err, channel.ErrRefused) {
			t.Errorf("%s: proposed: %v", name, err)
		}
	}
	a, b, open, rules := proposal(t)
	for name, keys := range map[string]wire.PartyKeys{"the opener's keys": a.partyKeys(), "the opener's account": func() wire.PartyKeys {
		k := b.partyKeys()
		k.Account = a.account
		return k
	}()} {
		if _, _, err := channel.AcceptOpening(types.NodeID{1}, open, rules, keys, 1, b.env()); !errors.Is(err, channel.ErrRefused) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestOpenBadAnswers: an acceptance or a signature that can't be used ends the opening, and no contract signature leaves.
func TestOpenBadAnswers(t *testing.T) {
	for name, change := range map[string]func(m *wire.Accept){
		"signature":    func(m *wire.Accept) { m.RefundSig[5]++ },
		"no signature": func(m *wire.Accept) { m.RefundSig = wire.Sig{} },
		"rules":        func(m *wire.Accept) { m.Rules.Dust = 50 * types.Coin },
		"key":          func(m *wire.Accept) { m.Keys.Fund[0] = 7 },
	} {
		a, b, open, rules := proposal(t)
		s, fx, err := channel.NewOpening(types.NodeID{1}, *open, 1, a.env())
		if err != nil {
			t.Fatal(err)
		}
		a.carryOut(s, fx)
		_, fx, err = channel.AcceptOpening(types.NodeID{1}, b.next().(*wire.Open), rules, b.partyKeys(), 1, b.env())
		if err != nil {
			t.Fatal(err)
		}
		accept := fx.Send[0].(*wire.Accept)
		change(accept)
		next, fx, err := channel.Step(a.s, channel.Message{Msg: accept}, a.env())
		if err != nil || next.Phase != channel.PhaseFailed || next.Check() != nil {
			t.Errorf("%s: %v, %s, %v", name, err, next.Phase, next.Check())
		}
		for _, m := range fx.Send {
			if _, ok := m.(*wire.Refuse); !ok {
				t.Errorf("%s: %T was sent", name, m)
			}
		}
	}
	_, b, open, rules := proposal(t)
	s, _, err := channel.AcceptOpening(types.NodeID{1}, open, rules, b.partyKeys(), 1, b.env())
	if err != nil {
		t.Fatal(err)
	}
	next, fx, err := channel.Step(s, channel.Message{Msg: &wire.OpenRefund{Temp: open.Temp, ID: s.ID, RefundSig: wire.Sig{1}}}, b.env())
	if err != nil || next.Phase != channel.PhaseFailed || len(fx.Send) != 1 {
		t.Errorf("%v, %s, sends %v", err, next.Phase, fx.Send)
	}
}
