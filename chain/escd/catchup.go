package escd

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cometbft/cometbft/blocksync"
	"github.com/cometbft/cometbft/config"
	"github.com/cometbft/cometbft/consensus"
	"github.com/cometbft/cometbft/crypto"
	"github.com/cometbft/cometbft/evidence"
	"github.com/cometbft/cometbft/mempool"
	cmtnode "github.com/cometbft/cometbft/node"
	"github.com/cometbft/cometbft/proxy"
	sm "github.com/cometbft/cometbft/state"
	"github.com/cometbft/cometbft/store"
	cmt "github.com/cometbft/cometbft/types"

	"github.com/eschaton-network/chand/types"
)

// catchUpBudget bounds how long Start waits for the newest block; what is left is caught up on in the background.
const catchUpBudget = 1500 * time.Millisecond

// syncer applies blocks from other nodes' offices the way CometBFT's block sync does: each must carry the commit of
// more than two thirds of the validators that our own state names for its height, and fit our own state root. It runs before
// CometBFT, which then starts at the newest block: CometBFT's own block sync waits three seconds for peers before it asks
// for a block and another before it follows. It belongs to one goroutine at a time.
type syncer struct {
	state  sm.State
	states sm.Store
	blocks *store.BlockStore
	exec   *sm.BlockExecutor
	conns  proxy.AppConns
}

// has tells whether the key is a validator's of the next block, and whether it is the only one.
func (s *syncer) has(key crypto.PubKey) (validates, alone bool) {
	validates = s.state.Validators.HasAddress(key.Address())
	return validates, validates && s.state.Validators.Size() == 1
}

// run applies blocks until there are no more.
func (s *syncer) run(ctx context.Context, c *Client) error {
	for {
		got, err := c.blocks(ctx, s.state.LastBlockHeight+1)
		if err != nil {
			return err
		}
		for _, b := range got {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := s.apply(b); err != nil {
				return err
			}
		}
		if len(got) == 0 {
			return nil
		}
	}
}

// runAny fetches from each office until it has no more. ok tells whether one of them could be followed to its end, so that
// this node is where they are.
func (s *syncer) runAny(ctx context.Context, from []*peer) (ok bool, err error) {
	var errs []error
	for _, p := range from {
		err := s.run(ctx, p.office)
		ok = ok || err == nil
		errs = append(errs, err)
	}
	return ok, errors.Join(errs...)
}

// catchUp runs the syncer for a moment, and launches CometBFT when this node is where the others are. When the moment is not
// enough it goes on in the background, and so does a follower that finds nobody. A validator that finds nobody is
// launched: the others may be waiting for its votes. Should they be ahead all the same, consensus brings it up to them,
// block by block.
func (n *Node) catchUp(ctx context.Context, s *syncer, reached []*peer) error {
	quick, cancel := context.WithTimeout(ctx, catchUpBudget)
	defer cancel()
	if !n.needsState(quick, s, reached) {
		ok, _ := s.runAny(quick, reached)
		if n.mayLaunch(s, ok) && quick.Err() == nil {
			return n.launch(ctx, s)
		}
	}
	n.work.Go(func() { n.catchUpLater(s) })
	return nil
}

// mayLaunch says whether there is a reason to wait for an office that answers.
func (n *Node) mayLaunch(s *syncer, caughtUp bool) bool {
	validates, _ := s.has(n.key())
	return caughtUp || validates || len(n.peers.offices()) == 0
}

func (n *Node) catchUpLater(s *syncer) {
	defer n.dontPanic("catching up")
	refused := map[*peer]time.Time{}
	for told := false; ; told = true {
		reached, err := n.peers.ask(n.live)
		ok := false
		if err == nil {
			next, syncErr := n.stateSync(n.live, s, reached, refused)
			if next == nil {
				n.cfg.Logger.Error("the ledger node cannot go on with the snapshot that it fetched; restart the daemon", "err", syncErr)
				return
			}
			if syncErr != nil && !told && n.live.Err() == nil {
				n.cfg.Logger.Warn("no snapshot of the ledger could be used; replaying its blocks", "err", syncErr)
			}
			s = next
			ok, err = s.runAny(n.live, reached)
		}
		if n.live.Err() == nil && n.mayLaunch(s, ok) {
			if err := n.launch(n.live, s); err != nil {
				n.cfg.Logger.Error("the ledger node cannot start", "err", err)
			}
			return
		}
		if !told {
			n.cfg.Logger.Warn("cannot catch up with the ledger; trying on", "block", s.state.LastBlockHeight, "err", err)
		}
		select {
		case <-n.live.Done():
			s.close()
			return
		case <-time.After(redialEvery):
		}
	}
}

func (s *syncer) close() { s.conns.Stop() }

// needsState tells whether one of the offices has a snapshot that this node goes on from.
func (n *Node) needsState(ctx context.Context, s *syncer, from []*peer) bool {
	for _, p := range from {
		o, err := p.office.offer(ctx)
		if err != nil {
			continue
		}
		if m, must := n.wanted(o, types.Height(s.state.LastBlockHeight)); m.Height > 0 || must {
			return true
		}
	}
	return false
}

// serving is CometBFT's block sync as a server only. It goes in the place of the one that would sync first.
func (s *syncer) serving(log logger) *blocksync.Reactor {
	// The last one is for stores that a state sync has made and that have no block yet.
	r := blocksync.NewReactor(s.state, s.exec, s.blocks, false, blocksync.NopMetrics(), s.state.LastBlockHeight)
	r.SetLogger(log)
	return r
}

// errBlocksGone says that the state could not be brought up to the blocks.
var errBlocksGone = errors.New("blocks that would have to be replayed are no longer kept")

// newSyncer opens the stores and replays into the application what it has not kept.
func (n *Node) newSyncer(ctx context.Context) (_ *syncer, err error) {
	log := n.logger()
	conns := proxy.NewAppConns(n.creator(), proxy.NopMetrics())
	conns.SetLogger(log)
	if err := conns.Start(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			conns.Stop()
		}
	}()
	open := func(id string) (*database, error) {
		db, err := n.dbs.get(&config.DBContext{ID: id})
		if err != nil {
			return nil, err
		}
		return db.(*database), nil
	}
	blockDB, err := open("blockstore")
	if err != nil {
		return nil, err
	}
	stateDB, err := open("state")
	if err != nil {
		return nil, err
	}
	evidenceDB, err := open("evidence")
	if err != nil {
		return nil, err
	}
	blocks := store.NewBlockStore(blockDB)
	states := sm.NewStore(stateDB, sm.StoreOptions{DiscardABCIResponses: n.cfg.ListenRPC == ""})
	state, doc, err := cmtnode.LoadStateFromDBOrGenesisDocProvider(stateDB, func() (*cmt.GenesisDoc, error) { return cometGenesis(n.genesis), nil })
	if err != nil {
		return nil, err
	}
	if doc.ChainID != n.genesis.ChainID {
		return nil, fmt.Errorf("the blocks in %s are of chain %q, the genesis document is of %q", n.dbs.dir, doc.ChainID, n.genesis.ChainID)
	}
	prune, err := n.newPruner()
	if err != nil {
		return nil, err
	}
	n.app.keep = prune.committed
	base := blocks.Base()
	if base == 0 { // a state sync leaves no block
		base = state.LastBlockHeight + 1
	}
	if head, _ := n.app.wait(); int64(head.Height)+1 < base {
		return nil, fmt.Errorf("%w: the state is that after block %d, the first block kept is %d", errBlocksGone, head.Height, base)
	}
	h := consensus.NewHandshaker(states, state, blocks, doc)
	h.SetLogger(log)
	if err := h.HandshakeWithContext(ctx, conns); err != nil {
		return nil, err
	}
	if state, err = states.Load(); err != nil {
		return nil, err
	}
	pool, err := evidence.NewPool(evidenceDB, states, blocks)
	if err != nil {
		return nil, err
	}
	pool.SetLogger(log)
	return &syncer{state: state, states: states, blocks: blocks, conns: conns,
		exec: sm.NewBlockExecutor(states, log, conns.Consensus(), &mempool.NopMempool{}, pool, blocks)}, nil
}

func (s *syncer) apply(b signedBlock) error {
	parts, err := b.block.MakePartSet(cmt.BlockPartSizeBytes)
	if err != nil {
		return err
	}
	id := cmt.BlockID{Hash: b.block.Hash(), PartSetHeader: parts.Header()}
	if b.block.Height != s.state.LastBlockHeight+1 {
		return fmt.Errorf("the office sent block %d, want %d", b.block.Height, s.state.LastBlockHeight+1)
	}
	if err := s.state.Validators.VerifyCommit(s.state.ChainID, id, b.block.Height, b.commit); err != nil {
		return fmt.Errorf("block %d: %w", b.block.Height, err)
	}
	if err := s.exec.ValidateBlock(s.state, b.block); err != nil {
		return fmt.Errorf("block %d: %w", b.block.Height, err)
	}
	s.blocks.SaveBlock(b.block, parts, b.commit)
	if s.state, err = s.exec.ApplyVerifiedBlock(s.state, id, b.block); err != nil {
		// The block is stored but not applied, which is what CometBFT's handshake repairs at its start.
		return fmt.Errorf("block %d: %w", b.block.Height, err)
	}
	return nil
}
