package channel

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/wire"
)

// openPair is an open channel with both sides at version 1.
func openPair(t interface{ Fatal(...any) }, mine, theirs types.Amount, rules wire.Rules) (s [2]State, env [2]Env) {
	a, _, ka, kb := pair(mine + theirs)
	a.Funding, a.Current.Balance = [2]types.Amount{mine, theirs}, [2]types.Amount{mine, theirs}
	a.Rules = [2]wire.Rules{rules, rules}
	a.Phase, a.Link, a.HasFund, a.Acked, a.cache = PhaseOpen, LinkIsReady, [2]bool{true, true}, 1, nil
	a.ID = a.Body().ID(types.Hash{})
	s = [2]State{a, a}
	s[1].Side = Acceptor
	env = [2]Env{{Height: 100, Now: 1_800_000_000, Keys: ka}, {Height: 100, Now: 1_800_000_000, Keys: kb}}
	for i := range s {
		sig, err := s[1-i].sign(env[1-i].Keys.Fund, &s[1-i].Current, false)
		if err != nil {
			t.Fatal(err)
		}
		s[i].Held = Signed{s[i].Current, sig}
	}
	return s, env
}

func drawOps(t *rapid.T, s *State) []wire.Op {
	n := rapid.IntRange(1, 4).Draw(t, "ops")
	ops := make([]wire.Op, n)
	for i := range ops {
		id := uint64(rapid.IntRange(1, 8).Draw(t, "id"))
		amount := types.Amount(rapid.Int64Range(-2, 120).Draw(t, "amount"))
		pre := types.Preimage{byte(rapid.IntRange(0, 3).Draw(t, "preimage"))}
		switch rapid.IntRange(0, 4).Draw(t, "op") {
		case 0:
			ops[i] = wire.Pay{Amount: amount, Refund: rapid.Bool().Draw(t, "refund")}
		case 1:
			ops[i] = wire.AddLock{ID: id, Amount: amount, Reserve: types.Amount(rapid.Int64Range(-1, 9).Draw(t, "reserve")), Hash: pre.Hash(), Expiry: 200}
		case 2:
			ops[i] = wire.Settle{ID: id, Preimage: pre}
		case 3:
			list := rapid.SliceOfN(rapid.Int64Range(-1, 40), 0, 5).Draw(t, "stream")
			o := wire.PayStream{First: uint64(rapid.IntRange(0, 3).Draw(t, "first")), Amounts: make([]types.Amount, len(list))}
			for j, a := range list {
				o.Amounts[j] = types.Amount(a)
			}
			ops[i] = o
		default:
			ops[i] = wire.GiveBack{ID: id}
		}
	}
	return ops
}

// TestInvariants drives both sides with random operations, good and bad, and holds channels.md section 2:
// (1) what a side signs is no worse for its peer than the state before, whatever preimages become known; (4) every
// version sums up to the capacity; (5) no lock is added that could expire before its refund settles; (6) the rules of both sides
// hold in every version, and a refused operation changes nothing.
func TestInvariants(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rules := wire.Rules{Dust: types.Amount(rapid.IntRange(0, 5).Draw(t, "dust")), MaxPayment: types.Amount(rapid.IntRange(0, 80).Draw(t, "max")),
			MaxInFlight: types.Amount(rapid.IntRange(0, 90).Draw(t, "flight")), MaxLocks: uint16(rapid.IntRange(0, 4).Draw(t, "locks")),
			MinLock: types.Amount(rapid.IntRange(0, 9).Draw(t, "least")), MaxOps: uint16(rapid.IntRange(0, 3).Draw(t, "most ops")),
			Deposit: types.Amount(rapid.IntRange(0, 20).Draw(t, "deposit"))}
		s, env := openPair(t, 100, 100, rules)
		for range rapid.IntRange(1, 25).Draw(t, "updates") {
			by := holder(s[0].Turn)
			before := s[by]
			next, fx, err := Step(before, Propose{drawOps(t, &before)}, env[by])
			if err != nil {
				if !errors.Is(err, ErrRefused) || !before.Current.same(&s[by].Current) {
					t.Fatal(err)
				}
				continue
			}
			holdReserves(t, &before, &next, by, fx.Outbox[0].Ops)
			holdInvariants(t, &before, &next, by, rules, env[by].Height, fx.Outbox[0].Ops)
			s[by] = next
			msgs := fx.Send
			if rapid.Bool().Draw(t, "yield") {
				var fx Effects
				if s[by], fx, err = Step(s[by], GiveTurn{}, env[by]); err != nil {
					t.Fatal(err)
				}
				msgs = append(msgs, fx.Send...)
			}
			for _, m := range msgs {
				peer := by.Other()
				if s[peer], fx, err = Step(s[peer], Message{m.(wire.ChannelMessage)}, env[peer]); err != nil || s[peer].Phase != PhaseOpen {
					t.Fatalf("the peer refuses %+v: %v %s", m, err, s[peer].Why)
				}
				for _, m := range fx.Send {
					if s[by], _, err = Step(s[by], Message{m.(wire.ChannelMessage)}, env[by]); err != nil {
						t.Fatal(err)
					}
				}
			}
			if !s[0].Current.same(&s[1].Current) || s[0].Turn != s[1].Turn {
				t.Fatal("the sides differ")
			}
			for i := range s {
				if err := s[i].Check(); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}

func holdInvariants(t *rapid.T, before, after *State, by Side, rules wire.Rules, now types.Height, ops []wire.Op) {
	v, w := &before.Current, &after.Current
	if !noWorse(v, w, by.Other()) {
		t.Fatalf("(1) version %d takes from the peer: %+v, then %+v", w.Number, v, w)
	}
	// The same said directly: for every set of preimages that may become known, the peer's worth does not fall.
	for known := range 16 {
		if worth(w, by.Other(), known) < worth(v, by.Other(), known) {
			t.Fatalf("(1) with preimages %b the peer loses", known)
		}
	}
	sum, count, flight := w.Balance[0]+w.Balance[1], 0, types.Amount(0)
	for _, l := range w.Locks {
		sum += l.Amount
		if l.Expiry < before.Timing.MinExpiry(now) {
			t.Fatalf("(5) lock until %d", l.Expiry)
		}
		if l.Amount < max(rules.Dust, rules.MinLock, 1) || rules.MaxPayment > 0 && l.Amount > rules.MaxPayment {
			t.Fatalf("(6) lock of %d", l.Amount)
		}
		if l.Funder == by {
			count++
			flight += l.Amount
		}
	}
	if sum != after.Capacity() {
		t.Fatalf("(4) sum %d", sum)
	}
	if rules.MaxLocks > 0 && count > int(rules.MaxLocks) || rules.MaxInFlight > 0 && flight > rules.MaxInFlight {
		t.Fatalf("(6) %d locks hold %d", count, flight)
	}
	for _, b := range w.Balance {
		if b < 0 || b > 0 && b < rules.Dust {
			t.Fatalf("(6) balance %d", b)
		}
	}
	if rules.MaxOps > 0 && len(ops) > int(rules.MaxOps) {
		t.Fatalf("(6) %d operations", len(ops))
	}
	kept := w.Balance[by] // but for what is given back
	for _, op := range ops {
		if p, ok := op.(wire.Pay); ok && p.Refund {
			kept += p.Amount
		}
	}
	if kept < v.Balance[by] && kept < rules.Deposit {
		t.Fatalf("(6) deposit: %d", kept)
	}
}

// holdReserves: what the peer has at once is exactly what was paid, reserved, settled and, for the signer, given back.
func holdReserves(t *rapid.T, before, after *State, by Side, ops []wire.Op) {
	want := before.Current.Balance
	var added []Lock
	find := func(funder Side, id uint64) types.Amount {
		for _, l := range append(slices.Clone(before.Current.Locks), added...) {
			if l.Funder == funder && l.ID == id {
				return l.Amount
			}
		}
		return 0
	}
	for _, op := range ops {
		switch o := op.(type) {
		case wire.Pay:
			want[by], want[by.Other()] = want[by]-o.Amount, want[by.Other()]+o.Amount
		case wire.PayStream:
			for _, amount := range o.Amounts {
				if amount <= 0 {
					t.Fatalf("a stream pays %s", amount)
				}
				want[by], want[by.Other()] = want[by]-amount, want[by.Other()]+amount
			}
		case wire.AddLock:
			want[by], want[by.Other()] = want[by]-o.Amount-o.Reserve, want[by.Other()]+o.Reserve
			added = append(added, Lock{ID: o.ID, Funder: by, Amount: o.Amount})
		case wire.Settle:
			want[by.Other()] += find(by, o.ID)
		case wire.GiveBack:
			want[by.Other()] += find(by.Other(), o.ID)
		}
	}
	if want != after.Current.Balance {
		t.Fatalf("balances %v, want %v", after.Current.Balance, want)
	}
}

// worth is what a version brings a side if exactly these preimages (bits) become known: the payee gets a lock then, else its funder.
func worth(v *Version, side Side, known int) types.Amount {
	sum := v.Balance[side]
	for _, l := range v.Locks {
		open := false
		for i := range 4 {
			open = open || known>>i&1 == 1 && (types.Preimage{byte(i)}).Hash() == l.Hash
		}
		if open == (l.Funder != side) {
			sum += l.Amount
		}
	}
	return sum
}

// TestPeerCantTake sends updates that an own automaton would refuse: each is a fault, the channel closes with the version before,
// and this side's signature is on nothing new.
func TestPeerCantTake(t *testing.T) {
	lock := wire.AddLock{ID: 1, Amount: 10, Hash: types.Preimage{}.Hash(), Expiry: 200}
	for name, ops := range map[string][]wire.Op{
		"negative":      {wire.Pay{Amount: -5}},
		"zero":          {wire.Pay{Amount: 0}},
		"too much":      {wire.Pay{Amount: 101}},
		"overflow":      {wire.Pay{Amount: types.MaxAmount}, wire.Pay{Amount: types.MaxAmount}},
		"dust":          {wire.Pay{Amount: 99}},
		"lock number":   {wire.AddLock{ID: 2, Amount: 10, Hash: lock.Hash, Expiry: 200}},
		"lock small":    {wire.AddLock{ID: 1, Amount: 2, Hash: lock.Hash, Expiry: 200}},
		"many ops":      slices.Repeat([]wire.Op{wire.Pay{Amount: 1}}, 6),
		"lock dust":     {wire.AddLock{ID: 1, Amount: 1, Hash: lock.Hash, Expiry: 200}},
		"expiry zero":   {wire.AddLock{ID: 1, Amount: 10, Hash: lock.Hash}},
		"expiry time":   {wire.AddLock{ID: 1, Amount: 10, Hash: lock.Hash, Expiry: 500_000_000}},
		"own back":      {lock, wire.GiveBack{ID: 1}},
		"no such lock":  {wire.GiveBack{ID: 1}},
		"preimage":      {lock, wire.Settle{ID: 1, Preimage: types.Preimage{1}}},
		"too many":      {lock, wire.AddLock{ID: 2, Amount: 10, Hash: lock.Hash, Expiry: 200}, wire.AddLock{ID: 3, Amount: 10, Hash: lock.Hash, Expiry: 200}},
		"deposit":       {wire.Pay{Amount: 95}},
		"no stream":     {wire.PayStream{First: 1}},
		"stream minus":  {wire.PayStream{First: 1, Amounts: []types.Amount{5, -5}}},
		"stream much":   {wire.PayStream{First: 1, Amounts: []types.Amount{50, 51}}},
		"stream wraps":  {wire.PayStream{First: 1, Amounts: []types.Amount{types.MaxAmount, types.MaxAmount, types.MaxAmount, types.MaxAmount}}},
		"stream from 0": {wire.PayStream{Amounts: []types.Amount{5}}},
		"stream floor":  {wire.PayStream{First: 1, Amounts: []types.Amount{45, 46}}},
		"stream long":   {wire.PayStream{First: 1, Amounts: slices.Repeat([]types.Amount{1}, wire.MaxStream+1)}},
		"reserve minus": {wire.AddLock{ID: 1, Amount: 10, Reserve: -1, Hash: lock.Hash, Expiry: 200}},
		"reserve much":  {wire.AddLock{ID: 1, Amount: 10, Reserve: 91, Hash: lock.Hash, Expiry: 200}},
		"reserve max":   {wire.AddLock{ID: 1, Amount: 10, Reserve: types.MaxAmount, Hash: lock.Hash, Expiry: 200}},
		"reserve floor": {wire.AddLock{ID: 1, Amount: 80, Reserve: 11, Hash: lock.Hash, Expiry: 200}},
		"bad signature": {wire.Pay{Amount: 5}},
	} {
		s, env := openPair(t, 100, 100, wire.Rules{Dust: 2, MinLock: 3, MaxLocks: 2, MaxOps: 5, Deposit: 10})
		u := &wire.Update{ID: s[0].ID, Version: 2, Ops: ops}
		if v, _, err := s[0].apply(Opener, ops); err == nil && name != "bad signature" {
			t.Errorf("%s: applied as %+v", name, v)
		}
		next, fx, err := Step(s[1], Message{u}, env[1])
		if err != nil || next.Phase != PhaseClosing || next.Current.Number != 1 || next.Why == "" {
			t.Errorf("%s: %v, %s at version %d", name, err, next.Phase, next.Current.Number)
			continue
		}
		if len(fx.Chain) != 1 || !fx.Save || !slices.ContainsFunc(fx.Send, func(m wire.Message) bool { _, ok := m.(*wire.Fault); return ok }) {
			t.Errorf("%s: effects %+v", name, fx)
		}
		if err := next.Check(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, in := range []Input{Propose{[]wire.Op{wire.Pay{Amount: 1}}}, GiveTurn{}, Message{u}} { // frozen
			if _, _, err := Step(next, in, env[1]); !errors.Is(err, ErrPhase) {
				t.Errorf("%s: %T after the fault: %v", name, in, err)
			}
		}
	}
}

// TestWindow bounds what is in flight.
func TestWindow(t *testing.T) {
	s, env := openPair(t, 1000, 0, wire.Rules{})
	var err error
	for range MaxUnacked {
		if s[0], _, err = Step(s[0], Propose{[]wire.Op{wire.Pay{Amount: 1}}}, env[0]); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err = Step(s[0], Propose{[]wire.Op{wire.Pay{Amount: 1}}}, env[0]); !errors.Is(err, ErrWindow) {
		t.Fatal(err)
	}
	if s[0], _, err = Step(s[0], Message{&wire.Ack{ID: s[0].ID, Version: 100}}, env[0]); err != nil {
		t.Fatal(err)
	}
	if _, _, err = Step(s[0], Propose{[]wire.Op{wire.Pay{Amount: 1}}}, env[0]); err != nil {
		t.Fatal(err)
	}
}

// TestEpochsStayNear: a peer that claims a loss of data again and again can't push the epoch to where the ledger would not take
// this side's newest version.
func TestEpochsStayNear(t *testing.T) {
	s, env := openPair(t, 100, 100, wire.Rules{})
	now := uint32(env[0].Now / 60)
	for i := 0; ; i++ {
		a, b := &s[0], &s[1]
		a.Link, b.Restored = LinkWaits, true
		hello := &wire.Reestablish{ID: a.ID, Epoch: b.Current.Epoch, Version: b.Current.Number, Turn: b.Turn, Restored: true}
		next, fx, err := Step(*a, Message{hello}, env[0])
		if err != nil {
			t.Fatal(err)
		}
		if next.Phase == PhaseClosing {
			if i < 7 || len(fx.Chain) != 1 {
				t.Fatalf("closed after %d repairs with %d transactions", i, len(fx.Chain))
			}
			break
		}
		if next.Offered <= now+restoredAhead {
			t.Fatalf("epoch %d may be one that the peer has forgotten", next.Offered)
		}
		*a, b.Link = next, LinkWaits
		if *b, fx, err = Step(*b, Message{fx.Send[1].(*wire.Resync)}, env[1]); err != nil || b.Phase != PhaseOpen {
			t.Fatal(err, b.Why)
		}
		if *a, _, err = Step(*a, Message{fx.Send[0].(*wire.Agree)}, env[0]); err != nil || a.Current.Epoch > now+maxEpochAhead {
			t.Fatal(err, a.Current.Epoch)
		}
	}
}

// TestLastNumber: at the end of the numbers the holder of the turn begins a new epoch; while the clock is behind the epochs nothing can be
// signed, and the refusal says so.
func TestLastNumber(t *testing.T) {
	for _, number := range []uint32{renewAt - 1, renewAt, MaxNumber - 1, MaxNumber} {
		for _, early := range []bool{false, true} {
			s, env := openPair(t, 100, 100, wire.Rules{})
			for i := range s {
				s[i].Current.Number = number
			}
			for i := range s {
				sig, err := s[1-i].sign(env[1-i].Keys.Fund, &s[1-i].Current, false)
				if err != nil {
					t.Fatal(err)
				}
				s[i].Held, s[i].Acked = Signed{s[i].Current, sig}, number
				if early {
					env[i].Now = types.Time(s[i].Current.Epoch-maxEpochAhead) * 60
				}
			}
			next, fx, err := Step(s[0], Propose{[]wire.Op{wire.Pay{Amount: 1}}}, env[0])
			switch {
			case early && number == MaxNumber:
				if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "last one") {
					t.Errorf("the update after the last: %v", err)
				}
			case early || number < renewAt:
				if err != nil || next.Current.Number != number+1 || next.Offered != 0 {
					t.Errorf("update %d: %v", number+1, err)
				}
			default:
				if !errors.Is(err, ErrWindow) {
					t.Errorf("update %d instead of a new epoch: %v", number+1, err)
				}
				if next, fx, err = Step(s[0], Block{}, env[0]); err != nil || next.Offered == 0 || len(fx.Send) != 1 {
					t.Fatalf("no new epoch at version %d: %v", number, err)
				}
				peer, fx, err := Step(s[1], Message{fx.Send[0].(*wire.Resync)}, env[1])
				if err != nil || peer.Current.Number != 1 {
					t.Fatal(err, peer.Why)
				}
				if next, _, err = Step(next, Message{fx.Send[0].(*wire.Agree)}, env[0]); err != nil || !next.Current.same(&peer.Current) {
					t.Fatal(err)
				}
			}
		}
	}
}

// TestResyncCantTake: a repair that is worse for its receiver than what it signed or knows is a fault.
func TestResyncCantTake(t *testing.T) {
	s, env := openPair(t, 100, 100, wire.Rules{})
	for range 2 { // versions 2 and 3 by the opener, who yields; 4 by the acceptor
		next, fx, err := Step(s[0], Propose{[]wire.Op{wire.Pay{Amount: 10}}}, env[0])
		if err != nil {
			t.Fatal(err)
		}
		s[0] = next
		if s[1], _, err = Step(s[1], Message{fx.Outbox[0]}, env[1]); err != nil {
			t.Fatal(err)
		}
	}
	base, baseSig := s[0].Held, s[0].Held.Sig
	for name, change := range map[string]func(*wire.Resync){
		"older":        func(r *wire.Resync) { r.State.Version = 2 },
		"other":        func(r *wire.Resync) { r.State.Balance = [2]types.Amount{81, 119} },
		"takes":        func(r *wire.Resync) { r.State.Version, r.State.Balance = 9, [2]types.Amount{100, 100} },
		"sum":          func(r *wire.Resync) { r.State.Balance[0]++ },
		"far epoch":    func(r *wire.Resync) { r.State.Epoch += 1000 },
		"old epoch":    func(r *wire.Resync) { r.Base.Epoch-- },
		"base":         func(r *wire.Resync) { r.Base.Balance = [2]types.Amount{200, 0} },
		"no signature": func(r *wire.Resync) {},
	} {
		v := s[0].Current
		v.Epoch = uint32(env[0].Now/60) + 2
		r := &wire.Resync{ID: s[0].ID, Base: wireVersion(&base.Version), BaseSig: baseSig, State: wireVersion(&v), Turn: s[0].Turn, NextLock: s[0].NextLock}
		change(r)
		w := first(s[1].fromWire(&r.State))
		if name != "no signature" {
			var err error
			if r.Sig, err = s[0].sign(env[0].Keys.Fund, &w, false); err != nil {
				t.Fatal(err)
			}
		}
		next, fx, err := Step(s[1], Message{r}, env[1])
		if err != nil || next.Phase != PhaseClosing || !next.Current.same(&s[1].Current) {
			t.Errorf("%s: %v, %s, %+v", name, err, next.Phase, fx.Send)
		}
	}
}
