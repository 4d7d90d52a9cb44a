package escd

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	abci "github.com/cometbft/cometbft/abci/types"

	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

// app is the ledger as CometBFT's application: it applies blocks to the state and keeps state and events on disk.
type app struct {
	abci.BaseApplication
	params  ledger.Params
	journal journal
	saver   *saver
	// keep is called with each committed height and says up to which block CometBFT may forget; nil: none.
	keep func(types.Height) (types.Height, error)
	// pace is told of each block while CometBFT makes them; nil before.
	pace *pace

	mu    sync.RWMutex
	state *ledger.State
	head  ledger.BlockInfo // zero height before the first block
	// nanos is head's time, applied when it was applied by this machine's clock.
	nanos   int64
	applied time.Time
	waiting waiting
	judge   *judge
	desk    *desk // nil before it is open, and when this node has no number on the ledger
	// next is closed and replaced when head moves on.
	next   chan struct{}
	closed bool

	// Only CometBFT's consensus connection, which is one goroutine at a time, and shutdown use these.
	committed  types.Height // head at the last Commit: only then may a snapshot be taken
	sinceBytes int64        // of transactions, since the snapshot
}

func newApp(c Config, g ledger.Genesis, j journal) (*app, error) {
	a := &app{judge: newJudge(), journal: j, next: make(chan struct{})}
	if err := a.load(c, g, nil); err != nil {
		return nil, err
	}
	a.params = a.state.Params()
	return a, nil
}

// load goes on with the newest state that is in the home; ready is what the newest snapshot holds, or nil to read it.
func (a *app) load(c Config, g ledger.Genesis, ready *ledger.State) error {
	hash, err := g.Hash()
	if err != nil {
		return err
	}
	if err := a.journal.adopt(c.Home); err != nil {
		return err
	}
	kept, err := openSnapshots(filepath.Join(c.Home, dataDir, snapshotDir), c.Logger)
	if err != nil {
		return err
	}
	s, warning, err := loadState(kept, g, hash, a.journal, ready)
	if err != nil {
		return err
	}
	if warning != nil {
		c.Logger.Warn(warning.Error())
	}
	head, nanos := ledger.BlockInfo{Time: g.Time}, g.Time.Std().UnixNano()
	if h := s.Height(); h > 0 {
		r, err := a.journal.stored(h)
		if err != nil {
			return err
		}
		head, nanos = r.BlockInfo, r.nanos
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.state, a.head, a.nanos, a.waiting = s, head, nanos, waiting{}
	s.SetWorkers(parallel)
	a.committed, a.sinceBytes = s.Height(), 0
	a.saver = newSaver(kept, a.journal, c.snapshotBlocks, c.Logger)
	a.moved()
	return nil
}

// snapshots are those that are kept.
func (a *app) snapshots() *snapshots {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.saver.kept
}

// moved tells everybody who waits that the head is another.
func (a *app) moved() {
	if !a.closed {
		close(a.next)
		a.next = make(chan struct{})
	}
}

// Info tells CometBFT from where to replay.
func (a *app) Info(context.Context, *abci.RequestInfo) (*abci.ResponseInfo, error) {
	a.mu.Lock() // Root rehashes
	defer a.mu.Unlock()
	r := &abci.ResponseInfo{Data: "chand ledger", AppVersion: 1, LastBlockHeight: int64(a.head.Height)}
	if a.head.Height > 0 {
		root := a.state.Root()
		r.LastBlockAppHash = root[:]
	}
	return r, nil
}

// InitChain answers with the genesis state's root.
func (a *app) InitChain(_ context.Context, req *abci.RequestInitChain) (*abci.ResponseInitChain, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if req.ChainId != a.params.ChainID || a.head.Height != 0 {
		return nil, fmt.Errorf("asked to start chain %q at height %d, want %q at 0", req.ChainId, a.head.Height, a.params.ChainID)
	}
	root := a.state.Root()
	return &abci.ResponseInitChain{AppHash: root[:]}, nil
}

// FinalizeBlock applies a decided block. An error halts the node.
func (a *app) FinalizeBlock(_ context.Context, req *abci.RequestFinalizeBlock) (*abci.ResponseFinalizeBlock, error) {
	if a.pace != nil {
		size := 0
		for _, tx := range req.Txs {
			size += len(tx)
		}
		a.pace.finalized(time.Now(), size)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if req.Height != int64(a.head.Height)+1 || len(req.Hash) != 32 {
		return nil, fmt.Errorf("asked to apply block %d after block %d", req.Height, a.head.Height)
	}
	r := &blockRecord{nanos: req.Time.UnixNano(), BlockInfo: ledger.BlockInfo{
		Height: types.Height(req.Height), Time: types.Time(req.Time.Unix()),
		Hash: types.Hash(req.Hash), AppHash: a.state.Root(),
	}}
	for _, m := range req.Misbehavior {
		if m.Type == abci.MisbehaviorType_DUPLICATE_VOTE && len(m.Validator.Address) == 20 {
			a.state.Accuse([20]byte(m.Validator.Address))
		}
	}
	done := a.state.Apply(r.Height, r.Time, req.Txs)
	out := &abci.ResponseFinalizeBlock{TxResults: make([]*abci.ExecTxResult, len(req.Txs))}
	for i, t := range done.Block {
		if t.Code == ledger.CodeOK {
			a.judge.took(req.Txs[i])
		}
		out.TxResults[i] = &abci.ExecTxResult{Code: t.Code, Log: t.Text} // Log is not part of consensus
		r.bytes += uint64(len(req.Txs[i]))
	}
	ids := make([]types.Hash, len(done.Results))
	for i, t := range done.Results {
		ids[i] = t.ID
		switch {
		case t.Type == ledger.TypeConnection, t.Type == ledger.TypeAcceptAccount: // the node's own, nobody asked for it
		case t.Code == ledger.CodeOK:
			r.txs++
		default:
			r.refused++
		}
	}
	for _, v := range done.Validators {
		out.ValidatorUpdates = append(out.ValidatorUpdates, abci.Ed25519ValidatorUpdate(v.PublicKey[:], v.Power))
	}
	a.waiting.reapply(a.state, ids)
	if a.desk != nil {
		a.desk.applied()
	}
	r.events, r.roots, r.parts = done.Events, done.Roots, a.state.Parts()
	if err := a.journal.put(r); err != nil {
		return nil, fmt.Errorf("block %d: %w", req.Height, err)
	}
	root := r.parts.Root()
	out.AppHash = root[:]
	a.sinceBytes += int64(r.bytes)
	a.head, a.nanos, a.applied = r.BlockInfo, r.nanos, time.Now()
	a.moved()
	return out, nil
}

// Commit begins a snapshot when one is due, and says what may be forgotten.
func (a *app) Commit(context.Context, *abci.RequestCommit) (*abci.ResponseCommit, error) {
	a.mu.RLock()
	h := a.head.Height
	a.mu.RUnlock()
	a.committed = h
	if a.saver.due(h, a.sinceBytes) {
		a.mu.Lock()
		frozen := a.state.Freeze()
		a.mu.Unlock()
		a.sinceBytes = 0
		collectBySize()
		a.saver.start(frozen)
	}
	if a.keep == nil {
		return &abci.ResponseCommit{}, nil
	}
	retain, err := a.keep(h)
	if err != nil {
		return nil, err
	}
	return &abci.ResponseCommit{RetainHeight: int64(retain)}, nil
}

// save writes a snapshot of the committed state before a stop; it does nothing when there is one already, when a block is half
// done, or when replaying the blocks takes no longer.
func (a *app) save() error {
	a.saver.close()
	a.mu.Lock()
	defer a.mu.Unlock()
	newest := a.saver.kept.newest()
	if a.committed == newest.Height || a.committed != a.head.Height || newest.Size > stopBytes {
		return nil
	}
	return a.saver.kept.write(context.Background(), a.state.Freeze(), a.journal.flush)
}

// CheckTx asks the rules whether a transaction may wait for a block.
func (a *app) CheckTx(_ context.Context, req *abci.RequestCheckTx) (*abci.ResponseCheckTx, error) {
	if _, _, message := ledger.MessageHead(req.Tx); message {
		return a.checkMessage(req)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if ledger.IsEvidence(req.Tx) {
		return checked(a.state.CheckEvidence(req.Tx))
	}
	raw, direct := ledger.ParseDirect(req.Tx)
	if !direct {
		return &abci.ResponseCheckTx{Code: ledger.CodeType, Log: "want a node's message, a direct transaction or evidence"}, nil
	}
	err := a.state.Check(raw)
	if err == nil {
		a.waiting.add(raw)
	}
	return checked(err)
}

// checked is the answer of CheckTx to what the rules say.
func checked(err error) (*abci.ResponseCheckTx, error) {
	if err == nil {
		return &abci.ResponseCheckTx{Code: ledger.CodeOK}, nil
	}
	var refusal *ledger.Refusal
	if errors.As(err, &refusal) {
		return &abci.ResponseCheckTx{Code: refusal.Code, Log: refusal.Text}, nil
	}
	return nil, err
}

// wait returns the head and a channel that is closed when it moves on.
func (a *app) wait() (ledger.BlockInfo, <-chan struct{}) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.head, a.next
}

// waitOrStopped is wait, and tells whether stop was called.
func (a *app) waitOrStopped() (ledger.BlockInfo, <-chan struct{}, bool) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.head, a.next, a.closed
}

// stop wakes everybody who waits for a block and closes the journal.
func (a *app) stop() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return
	}
	a.saver.close()
	a.closed = true
	close(a.next)
	a.journal.close()
}
