package sim

import (
	"context"
	"errors"

	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

// View is the chain as one daemon sees it, with knobs for what goes wrong for this daemon alone. It has the methods of
// chand.Chain. Safe for concurrent use.
type View struct {
	c *Chain
	// The knobs are guarded by c.mu.
	delay uint32
	drop  func(tx []byte) bool
	stale bool
}

// View makes a new view.
func (c *Chain) View() *View { return &View{c: c} }

// Delay makes submissions reach the pool only when so many more blocks were made; 0 turns it off.
func (v *View) Delay(blocks uint32) {
	v.c.mu.Lock()
	defer v.c.mu.Unlock()
	v.delay = blocks
}

// Drop loses submissions for which f is true, silently; nil turns it off. f must not call the view.
func (v *View) Drop(f func(tx []byte) bool) {
	v.c.mu.Lock()
	defer v.c.mu.Unlock()
	v.drop = f
}

// Stale makes Head say that the view is stale.
func (v *View) Stale(stale bool) {
	v.c.mu.Lock()
	defer v.c.mu.Unlock()
	v.stale = stale
}

// Head is the newest block; ok is false before the first one, while the chain is halted and while the view is stale.
func (v *View) Head() (ledger.BlockInfo, bool) {
	v.c.mu.Lock()
	defer v.c.mu.Unlock()
	return v.c.head, v.c.head.Height > 0 && !v.c.halted && !v.stale
}

// Blocks calls fn for each block in order, from the given height on (0: from the next one), on the caller's goroutine,
// until ctx ends or fn fails. The error is a *ledger.Pruned for a block that was forgotten.
func (v *View) Blocks(ctx context.Context, from types.Height, fn func(ledger.BlockEvents) error) error {
	c := v.c
	if from == 0 {
		from = c.Height() + 1
	}
	for next := from; ; {
		if err := ctx.Err(); err != nil {
			return err
		}
		c.mu.Lock()
		changed := c.changed
		var block *ledger.BlockEvents
		if next <= c.head.Height && next >= c.first {
			block = &c.blocks[next-1]
		}
		first := c.first
		c.mu.Unlock()
		if next < first {
			return &ledger.Pruned{Asked: next, First: first}
		}
		if block != nil {
			if err := fn(*block); err != nil {
				return err
			}
			next++
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

// Submit hands a signed transaction to the chain. nil means that it waits for a block, or is in one already; a *ledger.Refusal
// says why not. Delayed and dropped submissions are accepted as by a network that then fails to deliver.
func (v *View) Submit(ctx context.Context, tx []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c := v.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if v.drop != nil && v.drop(tx) {
		return nil
	}
	if v.delay == 0 {
		return c.submit(tx)
	}
	if _, err := ledger.DecodeTx(tx); err != nil {
		return err
	}
	at := c.head.Height + 1 + types.Height(v.delay)
	c.late = append(c.late, lateTx{at: at, tx: append([]byte(nil), tx...)})
	return nil
}

// Account returns the account's state at Head.
func (v *View) Account(id types.AccountID) (ledger.Account, error) {
	v.c.mu.Lock()
	defer v.c.mu.Unlock()
	return v.c.state.Account(id)
}

// AccountOf finds the account of a public key at Head.
func (v *View) AccountOf(key [32]byte) (types.AccountID, bool, error) {
	v.c.mu.Lock()
	defer v.c.mu.Unlock()
	id, err := v.c.state.AccountOf(key)
	if errors.Is(err, ledger.ErrNotFound) {
		return id, false, nil
	}
	return id, err == nil, err
}

// Contract returns an open or settled contract at Head.
func (v *View) Contract(id types.ChannelID) (ledger.Contract, error) {
	v.c.mu.Lock()
	defer v.c.mu.Unlock()
	return v.c.state.Contract(id)
}

// Params gives the chain id, the genesis hash and the block time.
func (v *View) Params() ledger.Params { return v.c.state.Params() }
