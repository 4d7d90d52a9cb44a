package chand

import (
	"bytes"
	"errors"
	"testing"

	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

// TestAnchor: one transaction a key, also after a restart, and its bytes as they stand in the block.
func TestAnchor(t *testing.T) {
	inWorld(t, []string{"alice"}, func(w *world) {
		alice := w.nodes["alice"]
		values := []types.Hash{{1}, {2}}
		raw, err := alice.Anchor(w.ctx, "k", values)
		if err != nil {
			t.Fatal(err)
		}
		tx, err := ledger.DecodeTx(raw)
		if err != nil {
			t.Fatal(err)
		}
		if body, ok := tx.Body.(ledger.Anchor); !ok || len(body.Hashes) != 2 || body.Hashes[1] != values[1] {
			t.Errorf("the transaction holds %+v", tx.Body)
		}
		paid := balance(t, alice)
		alice.stop()
		alice.start()
		again, err := alice.Anchor(w.ctx, "k", values)
		if err != nil || !bytes.Equal(again, raw) {
			t.Errorf("the same key made another transaction, or %v", err)
		}
		if now := balance(t, alice); now != paid {
			t.Errorf("the same key cost %s more", paid-now)
		}
		var e *Error
		if _, err := alice.Anchor(w.ctx, "k", values[:1]); !errors.As(err, &e) || e.Code != CodeConflict {
			t.Errorf("other hashes under the key: %v", err)
		}
		if _, err := alice.Anchor(w.ctx, "", values); !errors.As(err, &e) || e.Code != CodeInvalid {
			t.Errorf("without a key: %v", err)
		}
		if _, err := alice.Anchor(w.ctx, "many", make([]types.Hash, ledger.MaxAnchors+1)); err == nil {
			t.Error("too many hashes were taken")
		}
	})
}

func balance(t *testing.T, n *node) types.Amount {
	t.Helper()
	a, err := n.view.Account(n.account)
	if err != nil {
		t.Fatal(err)
	}
	return a.Balance
}
