package sim

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

func pay(t *testing.T, v *View, secret [32]byte, from, to types.AccountID, amount types.Amount, skip uint32) []byte {
	t.Helper()
	a, err := v.Account(from)
	if err != nil {
		t.Fatal(err)
	}
	h := ledger.Head{From: from, Msid: a.Msid + skip, Time: types.Time(time.Now().Unix())}
	raw, _, err := ledger.Sign(secret, a.Hash, h, ledger.SendOne{To: to, Amount: amount})
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func setup(t *testing.T) (*Chain, *View, [32]byte, types.AccountID) {
	t.Helper()
	c, err := New("sim-test", time.Second)
	if err != nil {
		t.Fatal(err)
	}
	secret := ledger.BrainKey("alice")
	id, err := c.NewAccount(secret, 10*types.Coin)
	if err != nil {
		t.Fatal(err)
	}
	return c, c.View(), secret, id
}

func TestBlocksReplayAndFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, v, secret, alice := setup(t)
		c.Mine(3)
		ctx, cancel := context.WithCancel(t.Context())
		go c.Run(ctx, time.Second)
		admin := types.AccountID{Node: 1}
		tx := pay(t, v, secret, alice, admin, types.Coin, 0)
		if err := v.Submit(ctx, tx); err != nil {
			t.Fatal(err)
		}
		if err := v.Submit(ctx, tx); err != nil {
			t.Fatalf("the same bytes again: %v", err)
		}
		var last types.Height
		paid := false
		err := v.Blocks(ctx, 1, func(b ledger.BlockEvents) error {
			if b.Height != last+1 {
				t.Fatalf("block %d after %d", b.Height, last)
			}
			last = b.Height
			for _, e := range b.Events {
				if d, ok := e.(ledger.Deposited); ok && d.From == alice {
					paid = true
				}
			}
			if paid {
				cancel()
			}
			return nil
		})
		if !errors.Is(err, context.Canceled) || !paid {
			t.Fatalf("paid %v, %v", paid, err)
		}
		if err := v.Submit(t.Context(), tx); err != nil {
			t.Fatalf("the same bytes after the block: %v", err)
		}
		synctest.Wait()
		if err := c.Verify(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestFollowFromNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, v, _, _ := setup(t)
		got := make(chan types.Height, 1)
		go v.Blocks(t.Context(), 0, func(b ledger.BlockEvents) error {
			got <- b.Height
			return errors.New("enough")
		})
		synctest.Wait()
		want := c.Height() + 1
		c.Mine(1)
		if h := <-got; h != want {
			t.Fatalf("got block %d, want %d", h, want)
		}
	})
}

func TestKnobs(t *testing.T) {
	c, v, secret, alice := setup(t)
	other := c.View()
	admin := types.AccountID{Node: 1}
	msid := func() uint32 {
		a, err := v.Account(alice)
		if err != nil {
			t.Fatal(err)
		}
		return a.Msid
	}
	submit := func(v *View, tx []byte) {
		t.Helper()
		if err := v.Submit(t.Context(), tx); err != nil {
			t.Fatal(err)
		}
	}
	tx := pay(t, v, secret, alice, admin, types.Coin, 0)
	v.Drop(func([]byte) bool { return true })
	submit(v, tx)
	c.Mine(2)
	if msid() != 1 {
		t.Fatal("a dropped transaction was executed")
	}
	v.Drop(nil)
	v.Delay(3)
	submit(v, tx)
	c.Mine(3)
	if msid() != 1 {
		t.Fatal("a delayed transaction was executed too early")
	}
	c.Mine(1)
	if msid() != 2 {
		t.Fatal("a delayed transaction was not executed")
	}
	v.Delay(0)
	var r *ledger.Refusal
	if err := v.Submit(t.Context(), pay(t, v, secret, alice, admin, types.Coin, 7)); !errors.As(err, &r) || r.Code != ledger.CodeMsid {
		t.Fatalf("a gap in numbers: %v", err)
	}
	v.Stale(true)
	if _, ok := v.Head(); ok {
		t.Fatal("stale view says ok")
	}
	if _, ok := other.Head(); !ok {
		t.Fatal("another view is stale too")
	}
	c.Halt(true)
	h := c.Height()
	c.Mine(5)
	if _, ok := other.Head(); ok || c.Height() != h {
		t.Fatal("a halted chain went on")
	}
	c.Halt(false)
	submit(other, pay(t, v, secret, alice, admin, types.Coin, 0))
	c.Mine(1)
	if msid() != 3 {
		t.Fatal("the chain did not go on")
	}
}
