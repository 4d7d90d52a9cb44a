package chand

import (
	"testing"

	"github.com/eschaton-network/chand/types"
)

// Both sides of an escrow are reminded at half of its life, at a tenth and in the last blocks, once each, over restarts too.
func TestEscrowReminders(t *testing.T) {
	inWorld(t, []string{"alice", "bob"}, func(w *world) {
		alice, bob := w.nodes["alice"], w.nodes["bob"]
		w.open("alice", "bob", 100*types.Coin, 10*types.Coin)
		e, err := alice.OpenEscrow(w.ctx, EscrowRequest{To: bob.ID(), Amount: 10 * types.Coin, Lifetime: 170})
		if err != nil {
			t.Fatal(err)
		}
		w.until("held", func() bool { h, err := bob.Escrow(e.ID, rolePayee); return err == nil && h.State == EscrowHeld })
		for _, life := range []struct {
			end  types.Height
			want int
		}{{e.Deadline - 50, 1}, {e.Deadline - 1, 2}} {
			said := map[string]int{}
			count := map[string]func(){}
			for _, n := range []*node{alice, bob} {
				events, cancel, err := n.Subscribe()
				if err != nil {
					t.Fatal(err)
				}
				defer cancel()
				count[n.name] = func() {
					for len(events) > 0 {
						if v := <-events; v.Type == "escrow.reminder" && v.Item.(Escrow).ID == e.ID && v.Item.(Escrow).Preimage.IsZero() {
							said[n.name]++
						}
					}
				}
			}
			w.until("later", func() bool {
				count["alice"]()
				count["bob"]()
				return alice.Height() >= life.end && bob.Height() >= life.end
			})
			for _, n := range []*node{alice, bob} {
				if count[n.name](); said[n.name] != life.want {
					t.Errorf("%s was reminded %d times until block %d, want %d", n.name, said[n.name], life.end, life.want)
				}
			}
			if life.want == 1 {
				alice.crash()
				bob.crash()
				alice.start()
				bob.start()
			}
		}
	})
}
