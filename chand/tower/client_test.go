package tower

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/eschaton-network/chand/store/memstore"
	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/wire"
)

// office is a tower that answers as it likes, and a daemon with one channel that uses it.
type office struct {
	c       *Client
	u       *user
	height  types.Height
	version uint32

	until    types.Height // what it says of every contract
	held     uint32       // the newest version that it was given
	invoices int
	outcome  Outcome
	paid     types.Amount
}

func newOffice(t *testing.T, outcome Outcome) *office {
	t.Helper()
	o := &office{height: 1000, version: 1, outcome: outcome}
	tower := Tower{Node: types.Seed{1}.NodeID(), MaxPrice: 1000}
	c, err := NewClient(ClientConfig{
		Store: memstore.New(), Height: func() types.Height { return o.height }, Now: func() types.Time { return 1 },
		Ask: func(_ context.Context, _ types.NodeID, _ string, raw []byte) ([]byte, error) {
			q, err := wire.DecodeTowerRequest(raw)
			a := wire.TowerAnswer{Price: 1000, Until: o.until}
			switch q.Kind {
			case wire.TowerBuy:
				o.invoices++
				a.Invoice = fmt.Sprint("invoice ", o.invoices)
			case wire.TowerPut:
				o.held = o.version
				a.Epoch, a.Version = 1, o.held
			}
			return a.Encode(), err
		},
		Price: func(string) (types.Amount, types.NodeID, error) { return MinBlocks, tower.Node, nil },
		Pay: func(context.Context, string, string) (Outcome, error) {
			if o.outcome == Paid {
				o.paid += MinBlocks
				return Paid, nil
			}
			return o.outcome, errors.New("no route")
		},
		Channels: func() []Channel {
			return []Channel{{ID: types.Hash{1}, Epoch: 1, Version: o.version, Refund: func() ([]byte, error) { return []byte{1}, nil }}}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	o.c, o.u = c, newUser(tower)
	c.towers[tower.Node] = o.u
	return o
}

// A tower that is paid and says that it was not gets nothing more before what was bought is over, also after a restart of its client.
func TestTowerThatForgetsIsNotPaidAgain(t *testing.T) {
	o := newOffice(t, Paid)
	for range 3 {
		for range 100 {
			_ = o.c.round(t.Context(), o.u)
			o.height++
		}
		if err := o.c.cfg.Store.Commit(t.Context(), put(BucketTower, o.u.Node.String(), o.u.Tower)); err != nil {
			t.Fatal(err)
		}
		again, err := NewClient(o.c.cfg)
		if err != nil {
			t.Fatal(err)
		}
		o.c, o.u = again, again.towers[o.u.Node]
	}
	if o.paid != MinBlocks {
		t.Errorf("paid %s in 300 blocks, want %s once", o.paid, types.Amount(MinBlocks))
	}
	if err := o.c.round(t.Context(), o.u); !errors.Is(err, ErrRefused) {
		t.Errorf("the owner hears %v", err)
	}
	o.height += MinBlocks
	_ = o.c.round(t.Context(), o.u)
	if o.paid != 2*MinBlocks {
		t.Errorf("paid %s once the time is over, want it twice", o.paid)
	}
}

// While no payment gets through, invoices are not asked for at every block, and what is left of the time is used.
func TestTowerThatCannotBePaid(t *testing.T) {
	o := newOffice(t, Unpaid)
	o.until = o.height + MinBlocks/8
	for range 2 * buyPause {
		o.version++
		if err := o.c.round(t.Context(), o.u); err == nil {
			t.Fatal("nobody hears that the time runs out")
		}
		if o.held != o.version {
			t.Fatalf("the tower has version %d of %d, and was paid for %d blocks more", o.held, o.version, o.until-o.height)
		}
		o.height++
	}
	if o.invoices != 2 {
		t.Errorf("%d invoices in %d blocks, want 2", o.invoices, 2*buyPause)
	}
}
