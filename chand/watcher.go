package chand

import (
	"context"
	"errors"
	"fmt"

	"github.com/eschaton-network/chand/channel"
	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

// watchSave is after how many blocks the height is saved up to which every owner is done. A restart replays at most so many
// blocks twice, which changes nothing: what owners do follows from their saved state.
const watchSave = 16

// watch hands every block to every owner, in order, from the height on up to which all had processed the chain.
func (d *Daemon) watch(ctx context.Context) error {
	saved, _, err := load[types.Height](d.Store, bucketMeta, metaWatched)
	if err != nil {
		return err
	}
	from := saved + 1
	if saved == 0 {
		if head, ok := d.Chain.Head(); ok && head.Height > 0 && len(d.allRunners()) == 0 && !d.account.resumed {
			from = head.Height // a new daemon has nothing to find in older blocks
		}
	}
	for {
		err := d.watchFrom(ctx, from, &saved)
		var gap *ledger.Pruned
		if !errors.As(err, &gap) {
			return err
		}
		done, err := d.crossGap(ctx, gap)
		if err != nil {
			return err
		}
		from = done + 1
	}
}

// watchFrom hands on blocks until ctx ends or one is missing.
func (d *Daemon) watchFrom(ctx context.Context, from types.Height, saved *types.Height) error {
	return d.Chain.Blocks(ctx, from, func(b ledger.BlockEvents) error {
		if err := d.hand(ctx, b); err != nil {
			return err
		}
		if done := d.processed(b.Height); done >= *saved+watchSave {
			if err := d.Store.Commit(ctx, put(bucketMeta, metaWatched, done)); err != nil {
				return fmt.Errorf("saving the height that was watched: %w", err)
			}
			*saved = done
		}
		return nil
	})
}

// hand gives one block to all owners. An owner that lags far behind slows the watcher, and nothing else.
func (d *Daemon) hand(ctx context.Context, b ledger.BlockEvents) error {
	lanes := []chan ledger.BlockEvents{d.account.blocks, d.announcer.blocks, d.towers.blocks}
	over := make([]chan struct{}, len(lanes))
	d.height.Store(uint32(b.Height))
	for _, r := range d.allRunners() {
		lanes, over = append(lanes, r.blocks), append(over, r.over)
	}
	for i, lane := range lanes {
		select {
		case lane <- b:
		case <-over[i]:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	d.emit("block", fmt.Sprintf("block %d", b.Height), b.BlockInfo)
	return nil
}

// processed is the height up to which every owner is done, h at most.
func (d *Daemon) processed(h types.Height) types.Height {
	h = min(h, types.Height(d.account.seen.Load()))
	for _, r := range d.allRunners() {
		if v := r.view.Load(); v.State.Phase >= channel.PhaseProposed {
			h = min(h, types.Height(r.seen.Load()))
		}
	}
	return h
}
