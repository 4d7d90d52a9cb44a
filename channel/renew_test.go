package channel_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/eschaton-network/chand/channel"
	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/wire"
)

// TestRenewalCrashes begins a new epoch with locks of both sides open. After any number of messages the link breaks and either side, or
// both in either order, loses its memory; on the next link the same state stands in the new epoch on both sides and payments go on.
func TestRenewalCrashes(t *testing.T) {
	for after := range 8 {
		for _, crashes := range []string{"", "a", "b", "ab", "ba"} {
			for _, turn := range []string{"a", "b"} {
				t.Run(fmt.Sprintf("after %d %s, turn of %s", after, crashes, turn), func(t *testing.T) { renewWithCrashes(t, after, crashes, turn) })
			}
		}
	}
}

func renewWithCrashes(t *testing.T, after int, crashes, turn string) {
	w := newWorld(t)
	a, b := w.party("alice", 100*types.Coin), w.party("bob", 100*types.Coin)
	ready(a, b, 60*types.Coin, 40*types.Coin, wire.Rules{})
	by := map[string]*party{"a": a, "b": b}
	lock := func(p *party, name string) wire.Op {
		return wire.AddLock{Amount: types.Coin, Reserve: 5, Hash: preimage(name).Hash(), Expiry: p.height + 60}
	}
	mustStep(t, a, channel.ProposeAndYield{Ops: []wire.Op{lock(a, "x"), lock(a, "y")}})
	deliverAll(a, b)
	mustStep(t, b, channel.ProposeAndYield{Ops: []wire.Op{lock(b, "z")}})
	mustStep(t, b, channel.Reveal{Preimages: []types.Preimage{preimage("x")}})
	deliverAll(a, b)
	holder := by[turn]
	if turn == "b" {
		mustStep(t, a, channel.GiveTurn{})
		deliverAll(a, b)
	}
	epoch := a.s.Current.Epoch
	a.renewAt, b.renewAt = 5, 5
	mustStep(t, holder, channel.Propose{Ops: []wire.Op{wire.Pay{Amount: 7}}})
	mustStep(t, holder, channel.Propose{Ops: []wire.Op{wire.Pay{Amount: 9}}})
	if err := holder.step(channel.Propose{Ops: []wire.Op{wire.Pay{Amount: 11}}}); !errors.Is(err, channel.ErrWindow) {
		t.Fatalf("an update beyond the threshold: %v", err)
	}
	mine, theirs := a.s.Mine(), a.s.Theirs()
	if turn == "b" {
		mine, theirs = b.s.Theirs(), b.s.Mine()
	}
	for n := 0; n < after && (a.deliver() || b.deliver()); n++ { // one message at a time, of either direction
	}
	cut(a, b)
	for _, name := range strings.Split(crashes, "") {
		by[name].crash()
	}
	join(a, b)
	deliverAll(a, b)
	for _, p := range []*party{a, b} {
		switch c := p.s.Current; {
		case !p.s.Ready() || p.s.Offered != 0 || c.Epoch <= epoch || c.Number != 1 || len(c.Locks) != 3:
			t.Fatalf("%s: ready %v, version (%d, %d) with %d locks after epoch %d", p.name, p.s.Ready(), c.Epoch, c.Number, len(c.Locks), epoch)
		case len(p.outbox) != 0:
			t.Errorf("%s: %d updates of the old epoch are kept", p.name, len(p.outbox))
		}
		if err := p.s.Check(); err != nil {
			t.Fatal(err)
		}
	}
	if a.s.Mine() != mine || b.s.Mine() != theirs || a.s.Theirs() != theirs || !a.s.MyTurn() == !b.s.MyTurn() {
		t.Fatalf("alice has %s, bob %s; want %s and %s", a.s.Mine(), b.s.Mine(), mine, theirs)
	}
	a.renewAt, b.renewAt = 0, 0
	if !a.s.MyTurn() {
		mustStep(t, b, channel.GiveTurn{})
		deliverAll(a, b)
	}
	mustStep(t, a, channel.ProposeAndYield{Ops: a.s.Settleable()}) // what was revealed before is known still
	deliverAll(a, b)
	if len(b.s.Current.Locks) != 2 || b.s.Mine() != theirs+types.Coin {
		t.Fatalf("bob has %s and %d locks", b.s.Mine(), len(b.s.Current.Locks))
	}
}

func mustStep(t *testing.T, p *party, in channel.Input) {
	t.Helper()
	if err := p.step(in); err != nil {
		t.Fatalf("%s: %T: %v", p.name, in, err)
	}
}

// TestRenewalByItself: with thresholds of a few versions, payments in both directions go on over many epochs until these are as far ahead of
// the clock as the ledger allows, and then without new ones.
func TestRenewalByItself(t *testing.T) {
	w := newWorld(t)
	a, b := w.party("alice", 100*types.Coin), w.party("bob", 100*types.Coin)
	ready(a, b, 60*types.Coin, 40*types.Coin, wire.Rules{})
	a.renewAt, b.renewAt = 3, 4
	epochs := map[uint32]bool{}
	for range 200 {
		p := a
		if b.s.MyTurn() {
			p = b
		}
		mustStep(t, p, channel.ProposeAndYield{Ops: []wire.Op{wire.Pay{Amount: 1}}})
		deliverAll(a, b)
		epochs[a.s.Current.Epoch] = true
	}
	if len(epochs) < 10 || a.s.Mine() != 60*types.Coin || a.s.Current.Number < 50 || !a.s.Ready() || !b.s.Ready() {
		t.Errorf("%d epochs; alice has %s at version %d", len(epochs), a.s.Mine(), a.s.Current.Number)
	}
}
