package chand

import (
	"errors"
	"testing"

	"github.com/eschaton-network/chand/types"
)

// TestSendNeedsAFreshLedger: while no block comes nothing new is signed, but what was sent before can be asked for.
func TestSendNeedsAFreshLedger(t *testing.T) {
	inWorld(t, []string{"alice", "bob"}, func(w *world) {
		alice, to := w.nodes["alice"], w.nodes["bob"].Account()
		first, err := alice.Send(w.ctx, to, types.Coin, types.Hash{}, "rent")
		if err != nil || first.State != TxConfirmed {
			t.Fatalf("%+v, %v", first, err)
		}
		alice.view.Stale(true)
		var e *Error
		if _, err := alice.Send(w.ctx, to, types.Coin, types.Hash{}, "more rent"); !errors.As(err, &e) || e.Code != CodeStale {
			t.Errorf("a send without a fresh ledger: %v, want %s", err, CodeStale)
		}
		if again, err := alice.Send(w.ctx, to, types.Coin, types.Hash{}, "rent"); err != nil || again.ID != first.ID {
			t.Errorf("the earlier send is %+v, %v; want %s", again, err, first.ID)
		}
		alice.view.Stale(false)
		if tx, err := alice.Send(w.ctx, to, types.Coin, types.Hash{}, "more rent"); err != nil || tx.State != TxConfirmed || tx.ID == first.ID {
			t.Errorf("%+v, %v", tx, err)
		}
	})
}
