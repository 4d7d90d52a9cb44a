package channel_test

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/eschaton-network/chand/channel"
	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/wire"
)

// TestNoToxicState holds invariant 2 over random histories of payments both ways: whichever version a side ever held and publishes,
// the other gets at least what the newest version gives it, and exactly that when it holds a newer one. The publisher
// is not punished: it gets what the version that wins says. The defence is one transaction and one signed version, however many
// updates there were.
func TestNoToxicState(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		a, b := w.party("alice", 100*types.Coin), w.party("bob", 100*types.Coin)
		ready(a, b, 60*types.Coin, 40*types.Coin, wire.Rules{})
		for range rapid.IntRange(1, 12).Draw(t, "payments") {
			by := []*party{a, b}[rapid.IntRange(0, 1).Draw(t, "by")]
			if !by.s.MyTurn() {
				if err := by.peer.step(channel.GiveTurn{}); err != nil {
					t.Fatal(err)
				}
				deliverAll(a, b)
			}
			pay := wire.Pay{Amount: types.Amount(rapid.Int64Range(1, int64(3*types.Coin)).Draw(t, "amount"))}
			if err := by.step(channel.Propose{Ops: []wire.Op{pay}}); err != nil {
				t.Fatal(err)
			}
			deliverAll(a, b)
		}
		cheater := []*party{a, b}[rapid.IntRange(0, 1).Draw(t, "cheater")]
		honest := cheater.peer
		old := cheater.history[rapid.IntRange(0, len(cheater.history)-1).Draw(t, "version")]
		newest, wins := honest.s.Current, old.Version
		if honest.s.Held.Number > old.Number {
			wins = honest.s.Held.Version
		}
		before := map[*party]types.Amount{a: w.balance(a.account), b: w.balance(b.account)}
		saved := len(honest.disk)
		cut(a, b)
		cheater.publish(old)
		cheater.asleep = true // it does nothing more
		for range testTiming.Window + 2 {
			w.mine(a, b)
		}
		const fee = types.Coin / 100 // far above what publishing costs
		for side, p := range map[channel.Side]*party{channel.Opener: a, channel.Acceptor: b} {
			got := w.balance(p.account) - before[p]
			if got > wins.Balance[side] || got < wins.Balance[side]-fee {
				t.Fatalf("%s published version %d: %s got %s, version %d gives %s", cheater.name, old.Number, p.name, got, wins.Number, wins.Balance[side])
			}
			if p == honest && got < newest.Balance[side]-fee {
				t.Fatalf("%s published version %d: %s got %s, the newest gives %s", cheater.name, old.Number, p.name, got, newest.Balance[side])
			}
		}
		if len(honest.disk) > saved+2048 {
			t.Fatalf("the state to defend the channel with grew from %d to %d bytes", saved, len(honest.disk))
		}
	})
}
