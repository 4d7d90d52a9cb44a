package escd

import (
	"context"
	"time"

	"github.com/cometbft/cometbft/mempool"
	cmt "github.com/cometbft/cometbft/types"

	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

// The daemon's border to a settlement chain.
var _ interface {
	Head() (ledger.BlockInfo, bool)
	Blocks(context.Context, types.Height, func(ledger.BlockEvents) error) error
	Submit(context.Context, []byte) error
	Account(types.AccountID) (ledger.Account, error)
	Contract(types.ChannelID) (ledger.Contract, error)
	Params() ledger.Params
} = (*Node)(nil)

// Params are the ledger's constants.
func (n *Node) Params() ledger.Params { return n.app.params }

// Head is the newest block applied and checked here. ok is false while the view is stale: no block for several block times, or
// behind the peers.
func (n *Node) Head() (block ledger.BlockInfo, ok bool) {
	a := n.app
	a.mu.RLock()
	head, nanos, applied := a.head, a.nanos, a.applied
	a.mu.RUnlock()
	done, err := n.use()
	if err != nil { // stopped, or catching up
		return head, false
	}
	defer done()
	alone := n.alone(head.Height)
	if alone && applied.Before(n.started) {
		applied = n.started // its first block is due one block time later
	}
	stale := staleAfter(a.params.BlockMillis)
	if time.Since(applied) > stale {
		return head, false
	}
	if alone {
		return head, true
	}
	blockTime := time.Duration(a.params.BlockMillis) * time.Millisecond
	if time.Since(time.Unix(0, nanos)) > stale+blockTime+maxClockLag { // a block carries the time of the one before
		return head, false
	}
	return head, !n.behindPeers(head.Height)
}

// behindPeers tells whether a peer says that it is further than the block after next. A lie can only make this node refuse
// to act, never act on something false.
func (n *Node) behindPeers(head types.Height) bool {
	for _, p := range n.comet.Switch().Peers().List() {
		// A peer at height h has applied h-1 blocks; one more may just be on its way to us.
		if s, ok := p.Get(cmt.PeerStateKey).(mempool.PeerState); ok && s.GetHeight()-1 > int64(head)+1 {
			return true
		}
	}
	return false
}

// Blocks calls fn for each block in order, from the given height on (0: from the next one), until ctx ends or fn fails. The error
// is a *ledger.Pruned when that block is no longer kept, or when this node came to its state without it.
func (n *Node) Blocks(ctx context.Context, from types.Height, fn func(ledger.BlockEvents) error) error {
	return n.blocks(ctx, from, nil, fn)
}

// Daemon is a Node as its daemon sees it: of the transactions and deposits in a block it reports those of the daemon's own account only,
// so that blocks with a hundred thousand transfers between others cost little. All other events are reported.
type Daemon struct{ *Node }

// Blocks is Node.Blocks without the transactions and deposits of other accounts.
func (d Daemon) Blocks(ctx context.Context, from types.Height, fn func(ledger.BlockEvents) error) error {
	return d.blocks(ctx, from, func(id types.AccountID) bool { return id == d.OwnAccount() }, fn)
}

func (n *Node) blocks(ctx context.Context, from types.Height, wanted interest, fn func(ledger.BlockEvents) error) error {
	head, next := n.app.wait()
	if from == 0 {
		from = head.Height + 1
	}
	for h := from; ; h++ {
		for h > head.Height {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-next:
			}
			var stopped bool
			if head, next, stopped = n.app.waitOrStopped(); stopped {
				return errStopped
			}
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		r, err := n.app.journal.blockFor(h, wanted)
		if err != nil {
			return err
		}
		if err := fn(ledger.BlockEvents{BlockInfo: r.BlockInfo, Events: r.events}); err != nil {
			return err
		}
	}
}

// Account returns the account's state at Head.
func (n *Node) Account(id types.AccountID) (ledger.Account, error) {
	n.app.mu.RLock()
	defer n.app.mu.RUnlock()
	return n.app.state.Account(id)
}

// Contract returns an open or settled contract at Head.
func (n *Node) Contract(id types.ChannelID) (ledger.Contract, error) {
	n.app.mu.RLock()
	defer n.app.mu.RUnlock()
	return n.app.state.Contract(id)
}

// BlockCount says how many transactions a block carried.
type BlockCount struct {
	Height types.Height `json:"height"`
	// UnixNanos is the block's time: that at which the block before it was agreed on.
	UnixNanos int64 `json:"unix_nanos"`
	// Executed and Refused are transactions; Bytes is the size of both.
	Executed uint32 `json:"executed"`
	Refused  uint32 `json:"refused"`
	Bytes    uint64 `json:"bytes"`
}

// Counts lists what the blocks from..to (at most MaxCounts of them, at most up to Head) carried; it begins with the first that is
// kept.
func (n *Node) Counts(from, to types.Height) ([]BlockCount, error) {
	head, _ := n.app.wait()
	first, err := n.app.journal.first()
	if err != nil {
		return nil, err
	}
	from = max(from, first)
	to = min(to, head.Height)
	out := []BlockCount{}
	for h := from; h <= to && len(out) < MaxCounts; h++ {
		r, err := n.app.journal.head(h)
		if err != nil {
			return nil, err
		}
		out = append(out, BlockCount{h, r.nanos, r.txs, r.refused, r.bytes})
	}
	return out, nil
}

// MaxCounts bounds one answer of Counts: about 100 KB of JSON.
const MaxCounts = 1000
