package channel

import (
	"errors"
	"testing"

	"pgregory.net/rapid"

	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/wire"
)

// TestUnseenVersionsAreKnown: whatever this side signs without an answer, it can take back the locks of every version that the peer has not
// acknowledged, and the state that says so can be saved.
func TestUnseenVersionsAreKnown(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, env := openPair(t, 500, 500, wire.Rules{})
		me, e := s[0], env[0]
		unseen := []Version{me.Current}
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			if rapid.IntRange(0, 5).Draw(t, "acknowledged") == 0 && len(unseen) > 1 {
				n := rapid.IntRange(1, len(unseen)-1).Draw(t, "up to")
				if unseen[n].Number > me.Acked {
					next, _, err := Step(me, Message{&wire.Ack{ID: me.ID, Version: unseen[n].Number}}, e)
					if err != nil {
						t.Fatal(err)
					}
					me, unseen = next, unseen[n:]
				}
				continue
			}
			next, _, err := Step(me, Propose{drawOps(t, &me)}, e)
			if err != nil {
				if !errors.Is(err, ErrRefused) {
					t.Fatal(err)
				}
				continue
			}
			me = next
			unseen = append(unseen, me.Current)
		}
		back, err := Decode(me.Encode())
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range unseen {
			for _, l := range v.Locks {
				_, current := back.Current.find(l.Key())
				_, held := back.Held.find(l.Key())
				given := false
				for _, g := range back.Given {
					given = given || g.Key() == l.Key() && sameLock(g.Lock, l) && g.Preimage.Hash() == l.Hash
				}
				if !current && !held && !given {
					t.Fatalf("lock %d of version %d is not known at version %d, acknowledged %d", l.ID, v.Number, me.Current.Number, me.Acked)
				}
			}
		}
	})
}

// TestGivenIsBounded: locks that are settled without an answer are held up at a bound, and go on with the answer.
func TestGivenIsBounded(t *testing.T) {
	s, env := openPair(t, 1_000_000, 1000, wire.Rules{})
	me, pre := s[0], types.Preimage{1}
	one := func() (err error) {
		id := me.NextLock[0]
		me, _, err = Step(me, Propose{[]wire.Op{wire.AddLock{Amount: 1, Hash: pre.Hash(), Expiry: 200}, wire.Settle{ID: id, Preimage: pre}}}, env[0])
		return err
	}
	many := func(n int) (err error) {
		var ops []wire.Op
		for id := me.NextLock[0]; len(ops) < 2*n; id++ {
			ops = append(ops, wire.AddLock{Amount: 1, Hash: pre.Hash(), Expiry: 200}, wire.Settle{ID: id, Preimage: pre})
		}
		me, _, err = Step(me, Propose{ops}, env[0])
		return err
	}
	for len(me.Given) < maxGiven {
		if err := many(min(200, maxGiven-len(me.Given))); err != nil {
			t.Fatal(err)
		}
	}
	if size := len(me.Encode()); size > MaxStateSize/2 {
		t.Errorf("a state of %d bytes", size)
	}
	if _, err := Decode(me.Encode()); err != nil {
		t.Fatal(err)
	}
	if err := one(); !errors.Is(err, ErrWindow) {
		t.Fatalf("lock %d: %v", maxGiven+1, err)
	}
	next, _, err := Step(me, Message{&wire.Ack{ID: me.ID, Version: me.Current.Number}}, env[0])
	if err != nil {
		t.Fatal(err)
	}
	if me = next; len(me.Given) != 0 || one() != nil {
		t.Errorf("%d settled locks are kept after the answer", len(me.Given))
	}
}
