package escd

import (
	"context"
	"errors"
	"fmt"

	"github.com/cometbft/cometbft/config"
	sm "github.com/cometbft/cometbft/state"
	cmt "github.com/cometbft/cometbft/types"

	"github.com/eschaton-network/chand/chain/escd/light"
	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

// Bundle is the signed header of a block with its commit and validators, for light.Trust.Advance. It is there as soon as the
// block is Head.
func (n *Node) Bundle(h types.Height) ([]byte, error) {
	done, err := n.use()
	if err != nil {
		return nil, err
	}
	defer done()
	blocks := n.comet.BlockStore()
	meta := blocks.LoadBlockMeta(int64(h))
	if kept, err := n.app.journal.bundle(h); err != nil || kept != nil {
		return kept, err
	}
	if h == 0 || meta == nil {
		return nil, fmt.Errorf("block %d: %w", h, ledger.ErrNotFound)
	}
	commit := blocks.LoadBlockCommit(int64(h))
	if commit == nil { // the newest block: its commit is in no block yet
		commit = blocks.LoadSeenCommit(int64(h))
	}
	if commit == nil || commit.Height != int64(h) {
		return nil, fmt.Errorf("commit of block %d: %w", h, ledger.ErrNotFound)
	}
	db, err := n.dbs.get(&config.DBContext{ID: "state"})
	if err != nil {
		return nil, err
	}
	vals, err := sm.NewStore(db, sm.StoreOptions{}).LoadValidators(int64(h))
	if err != nil {
		return nil, err
	}
	return light.Encode(&cmt.SignedHeader{Header: &meta.Header, Commit: commit}, vals)
}

// FindTx returns the block that a transaction was executed in (or, if it never was, last refused in) and its place.
func (n *Node) FindTx(id types.Hash) (types.Height, ledger.Place, error) { return n.app.journal.tx(id) }

// Chain leads from the genesis document to the header of a block. It waits for the block.
func (n *Node) Chain(ctx context.Context, h types.Height) (light.Chain, error) {
	for {
		head, next, stopped := n.app.waitOrStopped()
		if stopped {
			return nil, errStopped
		}
		if head.Height >= h {
			break
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("block %d, whose header carries the state root: %w", h, ctx.Err())
		case <-next:
		}
	}
	target, err := n.Bundle(h)
	if err != nil {
		return nil, err
	}
	changes, err := n.app.journal.bundlesAfter(0, light.MaxChainBytes)
	if err != nil {
		return nil, err
	}
	return n.trust.Lead(changes, target)
}

// proof begins a proof of a fact after a block.
func (n *Node) proof(ctx context.Context, after types.Height) (light.Proof, error) {
	c, err := n.Chain(ctx, after+1)
	return light.Proof{Format: light.Format, ChainID: n.genesis.ChainID, Genesis: n.trust.Genesis, Height: after, Chain: c}, err
}

// ProveAccount proves an account's record after Head. Like the other proofs it waits for the next block, whose header carries
// the state root. ErrNotFound (package ledger) when there is none.
func (n *Node) ProveAccount(ctx context.Context, id types.AccountID) (light.Proof, error) {
	a := n.app
	a.mu.Lock() // the proof rehashes
	record, err := a.state.Record(id)
	if err != nil {
		a.mu.Unlock()
		return light.Proof{}, fmt.Errorf("account %s: %w", id, err)
	}
	fact, err := a.state.AccountProof(id)
	head := a.head
	a.mu.Unlock()
	if err != nil {
		return light.Proof{}, err
	}
	p, err := n.proof(ctx, head.Height)
	raw := record.Marshal(id)
	p.Account = &light.AccountFact{Record: raw[:], Proof: fact}
	return p, err
}

// ProveContract proves the state of a contract after Head, or that there never was one.
func (n *Node) ProveContract(ctx context.Context, id types.ChannelID) (light.Proof, error) {
	a := n.app
	a.mu.Lock()
	fact := light.ContractFact{ID: id, Proof: a.state.ContractProof(id)}
	c, err := a.state.Contract(id)
	head := a.head
	a.mu.Unlock()
	switch {
	case err == nil:
		fact.State = ledger.EncodeContract(&c)
	case !errors.Is(err, ledger.ErrNotFound):
		return light.Proof{}, err
	}
	p, err := n.proof(ctx, head.Height)
	p.Contract = &fact
	return p, err
}

// ProveTx proves that a block holds a transaction. ErrNotFound when none does, *ledger.Pruned when it is too old for this node.
func (n *Node) ProveTx(ctx context.Context, id types.Hash) (light.Proof, error) {
	h, place, err := n.FindTx(id)
	if err != nil {
		return light.Proof{}, err
	}
	if place.Node == 0 { // it may have waited before it was executed
		h = types.Height(place.Msid)
	}
	return n.proveAt(ctx, h, place, &id)
}

// ProvePlace is ProveTx for a transaction that is named by its place.
func (n *Node) ProvePlace(ctx context.Context, place ledger.Place) (light.Proof, error) {
	if place.Node == 0 {
		return n.proveAt(ctx, types.Height(place.Msid), place, nil)
	}
	h, err := n.app.journal.message(place.Node, place.Msid)
	if err != nil {
		return light.Proof{}, err
	}
	return n.proveAt(ctx, h, place, nil)
}

// ProveAnchor proves that a transaction anchors a hash, one in the first block that did.
func (n *Node) ProveAnchor(ctx context.Context, hash types.Hash) (light.Proof, error) {
	id, err := n.app.journal.anchor(hash)
	if err != nil {
		return light.Proof{}, err
	}
	p, err := n.ProveTx(ctx, id)
	if err == nil {
		p.Transaction.Anchor = &hash
	}
	return p, err
}

// proveAt proves the transaction at a place of a block; if id is set, it must be the one there.
func (n *Node) proveAt(ctx context.Context, h types.Height, place ledger.Place, id *types.Hash) (light.Proof, error) {
	fact, err := n.txFact(h, place)
	if err != nil {
		return light.Proof{}, fmt.Errorf("transaction %s: %w", place, err)
	}
	if got := types.SHA256(fact.Raw); id != nil && got != *id {
		return light.Proof{}, fmt.Errorf("transaction %s is %s, the journal says %s: the stores are damaged", place, got, id)
	}
	p, err := n.proof(ctx, h)
	p.Transaction = fact
	return p, err
}

// txFact reads a transaction's block.
func (n *Node) txFact(h types.Height, place ledger.Place) (*light.TransactionFact, error) {
	r, err := n.app.journal.blockFor(h, func(types.AccountID) bool { return false })
	if err != nil {
		return nil, err
	}
	done, err := n.use()
	if err != nil {
		return nil, err
	}
	defer done()
	block := n.comet.BlockStore().LoadBlock(int64(h))
	if block == nil {
		return nil, fmt.Errorf("block %d: %w", h, ledger.ErrNotFound)
	}
	fact := &light.TransactionFact{}
	from := ledger.BlockTxs{Roots: r.roots, Parts: r.parts}
	directs := uint32(0)
	for _, tx := range block.Txs {
		raw, direct := ledger.ParseDirect(tx)
		switch {
		case direct && place.Node == 0:
			if directs++; directs == place.Position {
				fact.Raw = raw
				fact.Proof, err = from.ProveDirect(types.SHA256(raw), h)
				return fact, err
			}
		case !direct && ledger.IsMessage(tx, place.Node, place.Msid):
			fact.Raw, fact.Proof, err = from.ProveMessageTx(tx, place.Position)
			if err == nil { // else another message with this number in the block was taken
				return fact, nil
			}
		}
	}
	return nil, fmt.Errorf("block %d: %w", h, ledger.ErrNotFound)
}
