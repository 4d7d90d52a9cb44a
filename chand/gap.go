package chand

import (
	"context"
	"errors"
	"fmt"

	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

// A daemon that was away for longer than its ledger node keeps blocks, or whose node came to its state by a snapshot, never sees
// what the blocks between did. What the ledger holds now tells most of it: which of our transactions took their places, and
// which of our contracts are in dispute or paid out.

// crossGap hands the owners, in one block in the place of those that are missing, what follows from the ledger's state. It
// returns the height to go on after.
func (d *Daemon) crossGap(ctx context.Context, gap *ledger.Pruned) (types.Height, error) {
	head, _ := d.Chain.Head()
	if head.Height+1 < gap.First { // the state comes before its first block
		return 0, fmt.Errorf("the ledger is at block %d and keeps blocks from %d on: %w", head.Height, gap.First, gap)
	}
	b := ledger.BlockEvents{BlockInfo: head}
	for _, r := range d.allRunners() {
		events, err := d.contractNow(r.view.Load().State.ID)
		if err != nil {
			return 0, err
		}
		b.Events = append(b.Events, events...)
	}
	d.Log.Warn("blocks were missed that are no longer kept; going on from the ledger's state", "from", gap.Asked, "to", head.Height)
	d.emit("warning", fmt.Sprintf("the blocks %d to %d were missed and are no longer kept; what they did to open channels and to the account is read from the ledger's state, "+
		"payments received meanwhile are in the balance only", gap.Asked, head.Height), nil)
	d.account.gap.Store(uint32(head.Height))
	return head.Height, d.hand(ctx, b)
}

// contractNow is what the ledger has done with a contract so far, as events. Owners take an event that they know already for nothing
// new, so it does not matter which of them were missed, nor that a newer one comes again with its own block.
func (d *Daemon) contractNow(id types.ChannelID) ([]ledger.Event, error) {
	if id.IsZero() {
		return nil, nil
	}
	c, err := d.Chain.Contract(id)
	switch {
	case errors.Is(err, ledger.ErrNotFound):
		return nil, nil
	case err != nil:
		return nil, err
	}
	events := []ledger.Event{ledger.ContractOpened{ID: id}}
	if c.Posted != nil {
		events = append(events, *c.Posted)
	}
	if c.Settled != nil {
		events = append(events, *c.Settled)
	}
	return events, nil
}

// lostResult says of a transaction that its place in the account's hash chain is taken, and no more.
const lostResult = "it may have been executed or refused in a block that is no longer kept here; its place in the account's hash chain is taken, " +
	"so it is not sent again; look at the balance, and use a new idempotency key to repeat the command"

// crossGap finishes the transactions that took their places in blocks that are not kept. The account's hash names the last
// signature, so the pending ones up to it were executed, and those after it may still be. When the chain went another way,
// all whose number has passed are given up: none of them is ever signed again, as it may have been executed.
func (a *accountant) crossGap(ctx context.Context) error {
	acct, err := a.chain.Account(a.account())
	if err != nil {
		return nil // no account, no transactions
	}
	gone := 0
	for i, p := range a.pending {
		if p.Msid < acct.Msid {
			gone = i + 1
		}
	}
	if gone == 0 {
		return nil
	}
	exact := a.pending[gone-1].Next == acct.Hash
	a.log.Warn("transactions took their places in blocks that are no longer kept", "count", gone, "known by the hash chain", exact)
	var writes []types.Write
	for _, p := range append([]*pendingTx(nil), a.pending[:gone]...) {
		p.State, p.Text = TxUnknown, lostResult
		writes = append(writes, a.finish(p)...)
	}
	return a.commitFinished(ctx, writes)
}
