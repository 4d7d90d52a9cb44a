package chand

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/eschaton-network/chand/types"
)

// Every call that moves money is made once for a key: asked again, by whoever and after a restart, it gives the same result; with other
// arguments it is refused. Also when the first caller left before it had an answer.
func TestKeysCountOnce(t *testing.T) {
	inDiamond(t, func(w *diamond) {
		alice, bob := w.alice, w.bob
		invoices := map[types.Amount]string{types.Coin: bob.invoice(types.Coin), 2 * types.Coin: bob.invoice(2 * types.Coin)}
		calls := map[string]func(ctx context.Context, amount types.Amount) (types.Hash, error){
			"pay an invoice": func(ctx context.Context, a types.Amount) (types.Hash, error) {
				p, err := alice.Pay(ctx, PayRequest{Invoice: invoices[a], Key: "pay"})
				return p.Hash, err
			},
			"pay without an invoice": func(ctx context.Context, a types.Amount) (types.Hash, error) {
				p, err := alice.Pay(ctx, PayRequest{To: w.dave.ID(), Amount: a, Key: "spontaneous"})
				return p.Hash, err
			},
			"rebalance": func(ctx context.Context, a types.Amount) (types.Hash, error) {
				limit := types.Coin
				p, err := alice.Pay(ctx, RebalanceRequest(w.ab, w.ac, a, &limit, "rebalance"))
				return p.Hash, err
			},
			"invoice create": func(ctx context.Context, a types.Amount) (types.Hash, error) {
				v, err := alice.CreateInvoice(ctx, InvoiceRequest{Amount: a, Key: "invoice"})
				return v.Hash, err
			},
			"account send": func(ctx context.Context, a types.Amount) (types.Hash, error) {
				tx, err := alice.Send(ctx, bob.account, a, types.Hash{}, "send")
				return tx.ID, err
			},
			"escrow open": func(ctx context.Context, a types.Amount) (types.Hash, error) {
				e, err := alice.OpenEscrow(ctx, EscrowRequest{To: bob.ID(), Amount: a, Lifetime: 600, Key: "escrow"})
				return e.ID, err
			},
			"channel open": func(ctx context.Context, a types.Amount) (types.Hash, error) {
				c, err := alice.Open(ctx, OpenRequest{Peer: bob.ID(), Mine: a, Key: "open"})
				return c.ID, err
			},
		}
		first := map[string]types.Hash{}
		for name, call := range calls {
			impatient, cancel := context.WithTimeout(w.ctx, time.Millisecond)
			call(impatient, types.Coin) // this caller has left
			cancel()
			id, err := call(w.ctx, types.Coin)
			if err != nil || id.IsZero() {
				t.Errorf("%s: %s, %v", name, id, err)
			}
			first[name] = id
		}
		for _, restart := range []bool{false, true} {
			if restart {
				alice.crash()
				alice.start()
				w.until("links", func() bool { return alice.ready(w.ab) && alice.ready(w.ac) })
			}
			for name, call := range calls {
				if id, err := call(w.ctx, types.Coin); err != nil || id != first[name] {
					t.Errorf("%s again (restart %v): %s, %v; the first was %s", name, restart, id, err, first[name])
				}
				var e *Error
				if id, err := call(w.ctx, 2*types.Coin); !errors.As(err, &e) || e.Code != CodeConflict {
					t.Errorf("%s with another amount (restart %v): %s, %v", name, restart, id, err)
				}
			}
		}
		// What is named by its id: again answers the same.
		e := first["escrow open"]
		for range 2 {
			if _, err := alice.ReleaseEscrow(w.ctx, e); err != nil {
				t.Errorf("release: %v", err)
			}
			w.until("released", func() bool { return must(alice.Escrow(e, rolePayer)).State == EscrowReleased })
		}
		c := first["channel open"]
		w.until("open", func() bool { return alice.ready(c) })
		for range 2 {
			if _, err := alice.Close(w.ctx, c, false); err != nil {
				t.Errorf("close: %v", err)
			}
			w.until("closed", func() bool { return alice.over(c) })
		}
		list, _, err := alice.Payments("", 100)
		if err != nil || len(list) != 3 {
			t.Errorf("%d payments, %v", len(list), err)
		}
	})
}
