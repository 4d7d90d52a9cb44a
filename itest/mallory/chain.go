package mallory

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/eschaton-network/chand/chain/escd"
	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

// Chain is her ledger. What her daemon submits can be held back, while she submits what she likes.
type Chain struct {
	*escd.Node
	mute atomic.Pointer[func(ledger.Body) bool]
}

// Mute holds back what her daemon submits and drop says true of. nil: nothing.
func (c *Chain) Mute(drop func(ledger.Body) bool) { c.mute.Store(&drop) }

// Spends says true of every spend: closes, replacements and claims.
func Spends(b ledger.Body) bool { _, ok := b.(*ledger.Spend); return ok }

// Everything says true.
func Everything(ledger.Body) bool { return true }

// Submit is her daemon's.
func (c *Chain) Submit(ctx context.Context, raw []byte) error {
	if drop := c.mute.Load(); drop != nil && *drop != nil {
		tx, err := ledger.DecodeTx(raw)
		if err != nil {
			return err
		}
		if (*drop)(tx.Body) {
			return nil
		}
	}
	return c.Node.Submit(ctx, raw)
}

// sign submits a transaction of hers beside her daemon, which signs its own again when they meet, and waits until it is in a block.
func (c *Chain) sign(ctx context.Context, from types.AccountID, secret [32]byte, body ledger.Body) error {
	for range 20 {
		acct, err := c.Account(from)
		if err != nil {
			return err
		}
		raw, _, err := ledger.Sign(secret, acct.Hash, ledger.Head{From: from, Msid: acct.Msid, Time: types.Time(time.Now().Unix())}, body)
		if err != nil {
			return err
		}
		if done, err := c.submitted(ctx, raw); done || err != nil {
			return err
		}
	}
	return errors.New("her transaction got into no block")
}

// submitted tells whether the transaction got into a block; if not, the account's chain went another way, or the ledger is slow.
func (c *Chain) submitted(ctx context.Context, raw []byte) (taken bool, err error) {
	head, _ := c.Head()
	watch, cancel := context.WithCancel(ctx)
	defer cancel()
	submitErr := c.Node.Submit(ctx, raw)
	id := types.SHA256(raw)
	patience := types.Height(24) // blocks: more than the ledger lets a transaction wait that comes by another node than its own
	if submitErr != nil {
		patience = 2
	}
	_ = c.Blocks(watch, head.Height+1, func(b ledger.BlockEvents) error { // it ends when the watch is cancelled
		for _, e := range b.Events {
			if d, ok := e.(ledger.TxDone); ok && d.ID == id {
				if taken = true; d.Code != 0 {
					err = &ledger.Refusal{Code: d.Code, Text: d.Text}
				}
				cancel()
			}
		}
		if b.Height >= head.Height+patience {
			cancel()
		}
		return nil
	})
	return taken, errors.Join(err, ctx.Err())
}
