package channel

import (
	"math"
	"testing"

	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/wire"
)

// What a peer says in a Resync beside the version must not lead to a state that can't be loaded again, now or one lock later.
func TestResyncNumbers(t *testing.T) {
	s, env := openPair(t, 100, 100, wire.Rules{})
	lock := Lock{ID: 1, Funder: Opener, Amount: 5, Hash: types.SHA256([]byte("x")), Expiry: 500}
	for name, change := range map[string]func(v *Version, r *wire.Resync){
		"honest":             func(*Version, *wire.Resync) {},
		"lock not counted":   func(_ *Version, r *wire.Resync) { r.NextLock = [2]uint64{1, 1} },
		"lock number zero":   func(v *Version, _ *wire.Resync) { v.Locks[0].ID = 0 },
		"lock number huge":   func(v *Version, r *wire.Resync) { v.Locks[0].ID, r.NextLock[0] = math.MaxUint64-1, math.MaxUint64 },
		"no room for a lock": func(_ *Version, r *wire.Resync) { r.NextLock[1] = math.MaxUint64 },
		"no room for a turn": func(_ *Version, r *wire.Resync) { r.Turn = math.MaxUint64 },
	} {
		v := s[0].Current
		v.Epoch, v.Number = uint32(env[0].Now/60)+2, v.Number+1
		v.Locks = []Lock{s[0].newLock(lock)}
		v.Balance[Opener] -= lock.Amount
		r := &wire.Resync{ID: s[0].ID, Base: wireVersion(&s[0].Held.Version), BaseSig: s[0].Held.Sig, Turn: 1, NextLock: [2]uint64{2, 1}}
		change(&v, r)
		var err error
		signed := first(v)
		if r.Sig, err = s[0].sign(env[0].Keys.Fund, &signed, false); err != nil {
			t.Fatal(err)
		}
		r.State = wireVersion(&v)
		next, _, err := Step(s[1], Message{r}, env[1])
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if name == "honest" && next.Phase != PhaseOpen {
			t.Errorf("honest: %s", next.Why)
		}
		if err := next.Check(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if next.Phase != PhaseOpen {
			continue
		}
		for range 2 {
			if after, _, err := Step(next, ProposeAndYield{[]wire.Op{wire.AddLock{Amount: 5, Hash: lock.Hash, Expiry: 500}}}, env[1]); err == nil {
				next = after
			}
		}
		if err := next.Check(); err != nil {
			t.Errorf("%s, one lock later: %v", name, err)
		}
		if next.Turn < r.Turn {
			t.Errorf("%s: turn %d after %d", name, next.Turn, r.Turn)
		}
	}
}

// A payment that is not wanted can go back also to a payer who demands a deposit: what the payer sent is not the deposit.
func TestRefundDespiteDeposit(t *testing.T) {
	s, env := openPair(t, 100, 0, wire.Rules{Deposit: 20})
	u := func(signer Side, yield bool, op wire.Op) error {
		var in Input = Propose{[]wire.Op{op}}
		if yield {
			in = ProposeAndYield{[]wire.Op{op}}
		}
		next, fx, err := Step(s[signer], in, env[signer])
		if err != nil {
			return err
		}
		s[signer] = next
		if s[signer.Other()], _, err = Step(s[signer.Other()], Message{fx.Outbox[0]}, env[signer.Other()]); err == nil && s[signer.Other()].Phase != PhaseOpen {
			t.Fatal(s[signer.Other()].Why)
		}
		return err
	}
	if err := u(Opener, true, wire.Pay{Amount: 5, Hash: types.SHA256([]byte("x"))}); err != nil {
		t.Fatal(err)
	}
	if err := u(Acceptor, false, wire.Pay{Amount: 1}); err == nil {
		t.Error("an ordinary payment went below the deposit")
	}
	if err := u(Acceptor, false, wire.Pay{Amount: 5, Hash: types.SHA256([]byte("x")), Refund: true}); err != nil {
		t.Errorf("refund: %v", err)
	}
}

// An acknowledgement, a memo: breaches that once passed.
func TestMemoIsText(t *testing.T) {
	s, env := openPair(t, 100, 100, wire.Rules{})
	if _, _, err := Step(s[0], Propose{[]wire.Op{wire.AddLock{Amount: 5, Expiry: 500, Memo: "\xff"}}}, env[0]); err == nil {
		t.Error("a memo that is not UTF-8 was signed")
	}
}
