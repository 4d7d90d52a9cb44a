package chand

import (
	"strings"
	"testing"

	"github.com/eschaton-network/chand/channel"
	"github.com/eschaton-network/chand/types"
)

// lockedSum wants what Deadlines lists to be what channels and status show, complete, and in order; it returns the rows.
func (n *node) lockedSum() []LockedCoins {
	n.w.t.Helper()
	rows, err := n.Deadlines()
	if err != nil {
		n.w.t.Fatal(err)
	}
	byChannel := map[types.ChannelID]types.Amount{}
	var all types.Amount
	last := types.Height(0)
	for _, c := range rows {
		byChannel[c.Channel] += c.Amount
		all += c.Amount
		if c.Kind == "" || c.Text == "" || c.Who == "" || c.Amount <= 0 || (c.ActBy == nil) != (c.Act == "") {
			n.w.t.Errorf("%s: incomplete: %+v", n.name, c)
		}
		if c.nearest() < last {
			n.w.t.Errorf("%s: block %d after block %d", n.name, c.nearest(), last)
		}
		last = c.nearest()
	}
	for _, c := range must(n.Channels(false)) {
		if got := byChannel[c.ID]; got != c.Locked+c.Bound {
			n.w.t.Errorf("%s: channel %s is %s with %s locked and %s bound, the deadlines list %s", n.name, c.ID, c.State, c.Locked, c.Bound, got)
		}
	}
	if s := n.Status(); s.Locked+s.Bound != all {
		n.w.t.Errorf("%s: the status says %s and %s, the deadlines list %s", n.name, s.Locked, s.Bound, all)
	}
	return rows
}

// Every coin that can't be used is listed at every stage, and all of them come free at the latest when the list said so.
func TestDeadlinesListEveryLockedCoin(t *testing.T) {
	names := []string{"alice", "bob", "carol"}
	inWorld(t, names, func(w *world) {
		alice, bob, carol := w.nodes["alice"], w.nodes["bob"], w.nodes["carol"]
		ab := w.open("alice", "bob", 100*types.Coin, 10*types.Coin)
		w.open("bob", "carol", 100*types.Coin, 10*types.Coin)
		alice.known(2)
		direct, err := alice.OpenEscrow(w.ctx, EscrowRequest{To: bob.ID(), Amount: 10 * types.Coin, Lifetime: 30})
		if err != nil {
			t.Fatal(err)
		}
		far, err := alice.OpenEscrow(w.ctx, EscrowRequest{To: carol.ID(), Amount: 20 * types.Coin, Lifetime: 30})
		if err != nil {
			t.Fatal(err)
		}
		w.until("held", func() bool {
			a, err1 := bob.Escrow(direct.ID, rolePayee)
			b, err2 := carol.Escrow(far.ID, rolePayee)
			return err1 == nil && err2 == nil && a.State == EscrowHeld && b.State == EscrowHeld
		})
		want := map[string]string{"alice": "escrow escrow", "bob": "escrow forward forward", "carol": "escrow"}
		for _, name := range names {
			var kinds []string
			for _, c := range w.nodes[name].lockedSum() {
				kinds = append(kinds, c.Kind)
				if c.Kind == LockedEscrow && c.Out && c.Next != "chancli escrow release "+c.Ref.String() {
					t.Errorf("next is %q", c.Next)
				}
			}
			for _, k := range strings.Fields(want[name]) {
				if i := index(kinds, k); i >= 0 {
					kinds = append(kinds[:i], kinds[i+1:]...)
				} else {
					t.Errorf("%s has no %s", name, k)
				}
			}
			if len(kinds) > 0 {
				t.Errorf("%s has %v, too", name, kinds)
			}
		}
		free := types.Height(0)
		if _, err := alice.Close(w.ctx, ab, true); err != nil {
			t.Fatal(err)
		}
		stages := map[channel.Phase]bool{}
		w.until("nothing is locked", func() bool {
			open := 0
			for _, name := range names {
				rows := w.nodes[name].lockedSum()
				open += len(rows)
				for _, c := range rows {
					if c.Free == nil {
						t.Fatalf("%s: never free: %+v", name, c)
					}
					if free == 0 || c.Free.Block > free {
						free = c.Free.Block
					}
					if c.Channel == ab {
						stages[w.nodes[name].runner(ab).view.Load().State.Phase] = true
					}
				}
			}
			return open == 0
		})
		if !stages[channel.PhasePosted] || !stages[channel.PhaseSettled] {
			t.Errorf("seen at %v only", stages)
		}
		if h := alice.Height(); h > free+1 {
			t.Errorf("free at block %d, promised was %d", h, free)
		}
	})
}

func index(list []string, s string) int {
	for i, x := range list {
		if x == s {
			return i
		}
	}
	return -1
}

// A daemon says what it is about to do before it does it, once.
func TestDeadlineNear(t *testing.T) {
	inWorld(t, []string{"alice", "bob"}, func(w *world) {
		alice, bob := w.nodes["alice"], w.nodes["bob"]
		id := w.open("alice", "bob", 100*types.Coin, 10*types.Coin)
		events, cancel, err := bob.Subscribe()
		if err != nil {
			t.Fatal(err)
		}
		defer cancel()
		e, err := alice.OpenEscrow(w.ctx, EscrowRequest{To: bob.ID(), Amount: 10 * types.Coin, Lifetime: 20})
		if err != nil {
			t.Fatal(err)
		}
		var near []LockedCoins
		var at types.Height
		w.until("given back", func() bool {
			for len(events) > 0 {
				v := <-events
				if c, ok := v.Item.(LockedCoins); ok && v.Type == "deadline.near" {
					near, at = append(near, c), bob.Height()
				}
			}
			x, _ := alice.Escrow(e.ID, rolePayer)
			return x.State == EscrowRefunded
		})
		if len(near) != 1 || near[0].Ref != e.ID || near[0].ActBy == nil {
			t.Fatalf("said: %+v", near)
		}
		if left := near[0].ActBy.Left; left == 0 || left > types.DemoTiming.Downtime || at > near[0].ActBy.Block {
			t.Errorf("said at %d, %d blocks before block %d", at, left, near[0].ActBy.Block)
		}
		if alice.state(id) != ChannelOpen {
			t.Error("the channel closed")
		}
	})
}

// Who was down when a lock ran out, and comes back before it is too late, takes it back in agreement: no channel closes for it.
func TestNoForceAfterDowntime(t *testing.T) {
	for _, down := range []string{"alice", "bob"} {
		t.Run(down, func(t *testing.T) {
			inWorld(t, []string{"alice", "bob"}, func(w *world) {
				alice, bob := w.nodes["alice"], w.nodes["bob"]
				id := w.open("alice", "bob", 100*types.Coin, 10*types.Coin)
				e, err := alice.OpenEscrow(w.ctx, EscrowRequest{To: bob.ID(), Amount: 10 * types.Coin, Lifetime: 10})
				if err != nil {
					t.Fatal(err)
				}
				w.until("held", func() bool { h, err := bob.Escrow(e.ID, rolePayee); return err == nil && h.State == EscrowHeld })
				closeBy := types.DemoTiming.CloseBy(e.Expiry)
				stop, back := e.Deadline-1, closeBy+1 // of the payer: from before the payee gives it back until after the time to close
				if down == "bob" {
					stop, back = e.Deadline-2, closeBy-1 // of the payee: the payer would close
				}
				w.until("shortly before the deadline", func() bool { return alice.Height() >= stop })
				w.nodes[down].stop()
				w.until("after it", func() bool { return types.Height(w.chain.Height()) >= back })
				w.nodes[down].start()
				w.until("given back", func() bool { x, err := alice.Escrow(e.ID, rolePayer); return err == nil && x.State == EscrowRefunded })
				w.settled([]string{"alice", "bob"}, []types.ChannelID{id})
				if a, b := alice.state(id), bob.state(id); a != ChannelOpen || b != ChannelOpen {
					t.Errorf("the channel is %s and %s", a, b)
				}
			})
		})
	}
}
