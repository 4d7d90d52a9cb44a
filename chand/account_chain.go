package chand

import (
	"context"
	"fmt"

	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

// block notes what a block did to our transactions, then looks for lost ones.
func (a *accountant) block(ctx context.Context, b ledger.BlockEvents) error {
	if b.Height == types.Height(a.gap.Load()) {
		if err := a.crossGap(ctx); err != nil {
			return err
		}
	}
	writes, err := a.discover()
	if err != nil {
		return err
	}
	for _, e := range b.Events {
		done, ok := e.(ledger.TxDone)
		if !ok || done.Sender != a.account() {
			continue
		}
		p := a.find(done.ID)
		if p == nil || (done.Code != 0 && !final(done.Code)) {
			continue
		}
		p.State, p.Code, p.Text, p.Height, p.Time = TxConfirmed, done.Code, done.Text, b.Height, b.Time
		if done.Code != 0 {
			p.State = TxRefused
		}
		p.Created = createdIn(b, p.body)
		writes = append(writes, a.finish(p)...)
	}
	if len(writes) > 0 {
		if err := a.commitFinished(ctx, writes); err != nil {
			return err
		}
	}
	a.seen.Store(uint32(b.Height))
	return a.reconcile(ctx, b.Height)
}

func (a *accountant) find(id types.Hash) *pendingTx {
	for _, p := range a.pending {
		for _, i := range p.IDs {
			if i == id {
				return p
			}
		}
	}
	return nil
}

// discover learns our own account when there is one with our key. It asks the state, since the block that created it may be one that
// was never seen here.
func (a *accountant) discover() ([]types.Write, error) {
	if a.exists() {
		return nil, nil
	}
	id, ok, err := a.chain.AccountOf(a.public)
	if err != nil || !ok {
		return nil, err
	}
	return a.learn(id), nil
}

func (a *accountant) learn(id types.AccountID) []types.Write {
	a.id.Store(&id)
	close(a.known)
	a.emit("account", fmt.Sprintf("the account %s is ours", id), nil)
	return []types.Write{put(bucketMeta, metaAccount, id)}
}

// reconcile runs at the tip only: it submits again what was not seen, and signs again what lost its place.
func (a *accountant) reconcile(ctx context.Context, h types.Height) error {
	if len(a.pending) == 0 {
		return nil
	}
	before, ok := a.chain.Head()
	acct, err := a.chain.Account(a.account())
	after, _ := a.chain.Head()
	if !ok || err != nil || before.Height != h || after.Height != h {
		return nil // more blocks are on their way here; the account was not read at exactly h
	}
	if p := a.pending[0]; p.Msid == acct.Msid && p.Prev == acct.Hash {
		var again []*pendingTx
		for _, p := range a.pending[:min(len(a.pending), maxTxBatch)] {
			if h >= p.submitted+resubmitAfter {
				again = append(again, p)
			}
		}
		return a.submitAll(ctx, again)
	}
	return a.resign(ctx, acct)
}

// resign gives every pending transaction a new place in the hash chain.
func (a *accountant) resign(ctx context.Context, acct ledger.Account) error {
	a.log.Info("signing again: the account's hash chain went another way", "pending", len(a.pending), "msid", acct.Msid)
	msid, prev := acct.Msid, acct.Hash
	var writes []types.Write
	for _, p := range append([]*pendingTx(nil), a.pending...) {
		raw, next, err := ledger.Sign(a.secret, prev, ledger.Head{From: a.account(), Msid: msid, Time: a.now()}, p.body)
		if err != nil || len(p.IDs) >= maxTxIDs {
			p.State, p.Text = TxRefused, fmt.Sprintf("given up after %d places in the account's hash chain: %v", len(p.IDs), err)
			writes = append(writes, a.finish(p)...)
			continue
		}
		p.Raw, p.IDs, p.Prev, p.Next, p.Msid = raw, append(p.IDs, types.SHA256(raw)), prev, next, msid
		msid, prev = msid+1, next
		writes = append(writes, a.save(p)...)
	}
	if err := a.commitFinished(ctx, writes); err != nil {
		return err
	}
	return a.submitAll(ctx, append([]*pendingTx(nil), a.pending...))
}

func createdIn(b ledger.BlockEvents, body ledger.Body) types.AccountID {
	want, ok := body.(ledger.CreateAccount)
	for _, e := range b.Events {
		if c, is := e.(ledger.AccountCreated); ok && is && c.PublicKey == want.PublicKey {
			return c.ID
		}
	}
	return types.AccountID{}
}
