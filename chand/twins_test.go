package chand

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/wire"
)

// A peer that keeps asking for proofs gets them, and doesn't fill the log and the events with warnings.
func TestTwinWarningsAreRare(t *testing.T) {
	inWorld(t, []string{"alice", "bob"}, func(w *world) {
		alice, bob := w.nodes["alice"], w.nodes["bob"]
		w.open("alice", "bob", 10*types.Coin, 0)
		events, cancel, err := alice.Subscribe()
		if err != nil {
			t.Fatal(err)
		}
		defer cancel()
		warnings := 0
		for range 100 {
			alice.twins.prove(bob.ID(), &wire.TwinAsk{Nonce: types.Hash{1}})
			time.Sleep(2 * time.Second)
			synctest.Wait()
			for more := true; more; {
				select {
				case e := <-events:
					if e.Type == "warning" {
						warnings++
					}
				default:
					more = false
				}
			}
		}
		if warnings != 1 {
			t.Errorf("%d warnings in 200 seconds, want 1", warnings)
		}
	})
}
