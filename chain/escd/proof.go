package escd

import (
	"context"
	"encoding/hex"
	"fmt"

	"github.com/cometbft/cometbft/config"
	sm "github.com/cometbft/cometbft/state"
	cmt "github.com/cometbft/cometbft/types"

	"github.com/eschaton-network/chand/chain/escd/light"
	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

// Bundle is the signed header of a block with its commit and validators, for light.VerifyBundle. It is there as soon as the
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

// FindTx returns the block that a transaction was executed in (or, if it never was, last refused in) and its place there.
func (n *Node) FindTx(id types.Hash) (types.Height, uint32, error) { return n.app.journal.tx(id) }

// TxProof leads from a transaction's id to the DataHash of its block's header.
func (n *Node) TxProof(id types.Hash) (light.TxPath, error) {
	h, index, err := n.FindTx(id)
	if err != nil {
		return light.TxPath{}, err
	}
	done, err := n.use()
	if err != nil {
		return light.TxPath{}, err
	}
	defer done()
	block := n.comet.BlockStore().LoadBlock(int64(h))
	if block == nil || int(index) >= len(block.Txs) {
		return light.TxPath{}, fmt.Errorf("block %d with transaction %s: %w", h, id, ledger.ErrNotFound)
	}
	proof := block.Txs.Proof(int(index))
	aunts := make([]types.Hash, len(proof.Proof.Aunts))
	for i, a := range proof.Proof.Aunts {
		aunts[i] = types.Hash(a)
	}
	p := light.TxPath{Height: h, Index: index, TxID: id}
	var ok bool
	if p.Steps, ok = light.PathOf(uint64(index), uint64(len(block.Txs)), aunts); !ok || p.Root() != types.Hash(block.DataHash) {
		return light.TxPath{}, fmt.Errorf("block %d: the path of transaction %s does not lead to the data hash: the stores are damaged", h, id)
	}
	return p, nil
}

// ProveAccount returns an account's record after Head with proof. It waits for the next block, whose header carries the root.
func (n *Node) ProveAccount(ctx context.Context, id types.AccountID) (light.Account, error) {
	a := n.app
	a.mu.Lock() // the proof rehashes
	record, err := a.state.Record(id)
	if err != nil {
		a.mu.Unlock()
		return light.Account{}, fmt.Errorf("account %s: %w", id, err)
	}
	proof, err := a.state.AccountProof(id)
	head, next := a.head, a.next
	a.mu.Unlock()
	if err != nil {
		return light.Account{}, err
	}
	select {
	case <-ctx.Done():
		return light.Account{}, fmt.Errorf("the block after %d, which signs this state: %w", head.Height, ctx.Err())
	case <-next:
	}
	bundle, err := n.Bundle(head.Height + 1)
	if err != nil {
		return light.Account{}, err
	}
	raw := record.Marshal(id)
	return light.Account{Record: hex.EncodeToString(raw[:]), Proof: proof, Bundle: bundle}, nil
}
