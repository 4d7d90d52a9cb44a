package escd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/cometbft/cometbft/config"
	sm "github.com/cometbft/cometbft/state"
	"github.com/cometbft/cometbft/store"
	cmt "github.com/cometbft/cometbft/types"
	"github.com/cometbft/cometbft/version"

	"github.com/eschaton-network/chand/chain/escd/light"
	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

// A state sync: a node that is far behind fetches a snapshot instead of replaying blocks. What it believes: the header after the
// snapshot's block, whose signers it is led to from the validators it trusts already (those of the genesis at first), and
// with it the state root. The snapshot is decoded as a whole and must have that root. Nothing of the node's own data is
// touched before all of it has been checked.

const (
	// freshBehind is from how many blocks on a node without any takes a snapshot: replaying these takes half a second.
	freshBehind = 1000
	// farBehind is from how many blocks on a node that has some does, although blocks tell its daemon more than a state: a day of
	// one-second blocks, which take a minute to replay when they are empty.
	farBehind = 86_400
	// chunkTimeout bounds one chunk, and with the size of snapshots how long a slow office can be waited for.
	chunkTimeout = 30 * time.Second
	// chunksAtOnce keeps a connection with some latency busy.
	chunksAtOnce = 4
	// syncAgain is for how long an office whose snapshot was no good is not asked for another.
	syncAgain = 10 * time.Minute
	// maxSteps bounds the answers with changes of the validators that are read.
	maxSteps = 1000
	// maxLead bounds the bundles that are kept of them, in bytes.
	maxLead = 2 * maxChanges
)

// errSnapshotOffered marks errors of what an office offered, as against those of this machine or of the connection.
var errSnapshotOffered = errors.New("the snapshot offered is not used")

// wanted picks the snapshot to go on from, height 0 for none. must tells that the office has no blocks that this node could go
// on with instead.
func (n *Node) wanted(o offer, have types.Height) (m manifest, must bool) {
	must = o.First > have+1
	behind := types.Height(freshBehind)
	if have > 0 {
		behind = farBehind
	}
	for _, m := range o.Snapshots {
		if m.Height > have && (must || n.cfg.KeepBlocks > 0 && m.Height-have >= behind) {
			return m, must
		}
	}
	return manifest{}, must
}

// stateSync brings this node to a snapshot of one of the offices, if it needs one and there is one. It returns the syncer to go on
// with: s, when nothing was done. refused remembers until when an office is not asked.
func (n *Node) stateSync(ctx context.Context, s *syncer, from []*peer, refused map[*peer]time.Time) (*syncer, error) {
	var errs []error
	for _, p := range from {
		if time.Now().Before(refused[p]) {
			continue
		}
		o, err := p.office.offer(ctx)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		m, must := n.wanted(o, types.Height(s.state.LastBlockHeight))
		if m.Height == 0 {
			if must {
				errs = append(errs, fmt.Errorf("the office at %s has no blocks before %d and no snapshot yet", p.office.addr, o.First))
			}
			continue
		}
		began := time.Now()
		state, err := n.fetchState(ctx, s, p.office, &m)
		if err != nil {
			if errors.Is(err, errSnapshotOffered) {
				refused[p] = time.Now().Add(syncAgain)
			}
			errs = append(errs, fmt.Errorf("snapshot %d of the office at %s: %w", m.Height, p.office.addr, err))
			continue
		}
		next, err := n.restart(ctx, s, state)
		if err != nil {
			return nil, err
		}
		n.cfg.Logger.Info("the ledger's state came from a snapshot", "office", p.office.addr, "block", m.Height, "bytes", m.Size, "took", time.Since(began))
		return next, nil
	}
	return s, errors.Join(errs...)
}

// restart goes over to the data that fetchState has made, of which state is the snapshot.
func (n *Node) restart(ctx context.Context, s *syncer, state *ledger.State) (*syncer, error) {
	s.close()
	return n.exchange(ctx, state)
}

// exchange puts the data in nextDir in the place of what is used now.
func (n *Node) exchange(ctx context.Context, state *ledger.State) (*syncer, error) {
	n.app.saver.close()
	if err := n.dbs.close(); err != nil {
		return nil, err
	}
	if err := settle(n.cfg.Home); err != nil {
		return nil, err
	}
	if err := n.app.load(n.cfg, n.genesis, state); err != nil {
		return nil, err
	}
	next, err := n.newSyncer(ctx)
	if err == nil {
		n.states = next.states
	}
	return next, err
}

// startOver sets aside data whose snapshots are all damaged and whose first blocks are gone, so that the state is fetched again.
func (n *Node) startOver(ctx context.Context, cause error) (*syncer, error) {
	if len(n.peers.offices()) == 0 {
		return nil, fmt.Errorf("no snapshot in %s can be used, and %w; restore the home from a copy, or name a peer's office to fetch the state from", n.dbs.dir, cause)
	}
	n.cfg.Logger.Warn("no snapshot of the ledger can be used and its first blocks are gone; fetching its state again", "err", cause)
	if err := os.MkdirAll(filepath.Join(n.cfg.Home, nextDir), 0o700); err != nil {
		return nil, err
	}
	if err := (&synced{}).finish(n.cfg.Home); err != nil { // data without any block
		return nil, err
	}
	return n.exchange(ctx, nil)
}

// fetchState makes new data of a snapshot in nextDir, all of it checked, and returns the state.
func (n *Node) fetchState(ctx context.Context, s *syncer, c *Client, m *manifest) (*ledger.State, error) {
	a, err := c.anchor(ctx, m.Height)
	if err != nil {
		return nil, err
	}
	lead := leader{trust: n.trust, c: c}
	if h := s.state.LastBlockHeight; h > 0 {
		lead.trust = light.TrustIn(n.trust.ChainID, n.trust.Genesis, h, s.state.Validators, s.state.NextValidators)
	}
	last, err := lead.to(ctx, m.Height, a.bundle)
	if err != nil {
		return nil, err
	}
	boot, err := bootState(n.genesis, lead.trust, last, &a, m)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errSnapshotOffered, err)
	}
	if err := os.RemoveAll(filepath.Join(n.cfg.Home, nextDir)); err != nil {
		return nil, err
	}
	state, err := n.fetchSnapshot(ctx, c, m, last)
	if err != nil {
		return nil, err
	}
	if err := bootStores(filepath.Join(n.cfg.Home, nextDir), boot, last.Commit); err != nil {
		return nil, err
	}
	done := &synced{Height: m.Height, Nanos: last.Time.UnixNano(), Hash: types.Hash(last.Hash()), AppHash: types.Hash(last.AppHash),
		Bundles: append(lead.bundles, keptBundle{m.Height, a.bundle})}
	return state, done.finish(n.cfg.Home)
}

// leader leads a verifier over the changes of the validators.
type leader struct {
	trust   light.Trust
	c       *Client
	bundles []keptBundle // that led from one set to another
	size    int
}

// to verifies the bundle of a height. It goes over every change of the validators that the office has before it, one by one,
// although larger steps may hold: so this node can lead others, whatever they start from.
func (l *leader) to(ctx context.Context, height types.Height, bundle []byte) (*cmt.LightBlock, error) {
	for range maxSteps {
		steps, err := l.c.changes(ctx, l.trust.Height())
		if err != nil {
			return nil, err
		}
		if !l.advance(height, steps) {
			break
		}
	}
	trust, lb, err := l.trust.Advance(bundle)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errSnapshotOffered, err)
	}
	l.trust = trust
	return lb, nil
}

// advance goes as far as the bundles lead below a height, and tells whether there may be more.
func (l *leader) advance(below types.Height, steps [][]byte) (more bool) {
	for _, b := range steps {
		trust, lb, err := l.trust.Advance(b)
		if err != nil || lb.Height >= int64(below) {
			return false
		}
		l.trust, more = trust, true
		if l.size += len(b); l.size <= maxLead {
			l.bundles = append(l.bundles, keptBundle{types.Height(lb.Height), b})
		}
	}
	return more
}

// bootState is CometBFT's state after the snapshot's block, of verified parts alone; last is the verified bundle of that block.
func bootState(g ledger.Genesis, trust light.Trust, last *cmt.LightBlock, a *anchor, m *manifest) (sm.State, error) {
	var none sm.State
	_, next, err := trust.Advance(a.next)
	params := cometGenesis(g).ConsensusParams
	switch {
	case err != nil:
		return none, err
	case last.Height != int64(m.Height) || next.Height != last.Height+1:
		return none, fmt.Errorf("the bundles are of blocks %d and %d, want %d and %d", last.Height, next.Height, m.Height, m.Height+1)
	case !next.LastBlockID.Equals(last.Commit.BlockID):
		return none, errors.New("the bundles are not of successive blocks")
	case !bytes.Equal(next.AppHash, m.Root[:]):
		return none, fmt.Errorf("the state root signed in block %d is %X, the snapshot's is %s", next.Height, next.AppHash.Bytes(), m.Root)
	case !bytes.Equal(a.after.Hash(), next.NextValidatorsHash):
		return none, fmt.Errorf("the validators of block %d are not those that block %d names", next.Height+1, next.Height)
	case !bytes.Equal(params.Hash(), next.ConsensusHash):
		return none, fmt.Errorf("block %d has other consensus parameters than this version of the program", next.Height)
	}
	for _, lb := range []*cmt.LightBlock{last, next} {
		if err := proposes(lb); err != nil {
			return none, err
		}
	}
	state := sm.State{ChainID: g.ChainID, InitialHeight: 1, LastBlockHeight: last.Height, LastBlockTime: last.Time, LastBlockID: last.Commit.BlockID,
		LastValidators: last.ValidatorSet, Validators: next.ValidatorSet, NextValidators: a.after, LastHeightValidatorsChanged: next.Height + 1,
		ConsensusParams: *params, LastHeightConsensusParamsChanged: 1, LastResultsHash: next.LastResultsHash, AppHash: next.AppHash}
	state.Version.Consensus, state.Version.Software = next.Version, version.TMCoreSemVer
	return state, nil
}

// proposes checks the one thing of a validator set that no header signs, whose turn it is to propose, against who did. A lie about
// it can't hurt more than this node's own proposals.
func proposes(lb *cmt.LightBlock) error {
	set := lb.ValidatorSet
	if lb.Commit.Round > 0 {
		set = set.CopyIncrementProposerPriority(lb.Commit.Round)
	}
	if got := set.GetProposer().Address; !bytes.Equal(got, lb.ProposerAddress) {
		return fmt.Errorf("by the validators given it was for %s to propose block %d, %s did", got, lb.Height, lb.ProposerAddress)
	}
	return nil
}

// fetchSnapshot writes the snapshot to nextDir and reads it as a whole.
func (n *Node) fetchSnapshot(ctx context.Context, c *Client, m *manifest, last *cmt.LightBlock) (*ledger.State, error) {
	kept, err := openSnapshots(filepath.Join(n.cfg.Home, nextDir, snapshotDir), n.cfg.Logger)
	if err != nil {
		return nil, err
	}
	err = writeFile(kept.path(m.Height), func(f *os.File) error { return fetchChunks(ctx, c, m, f) })
	if err != nil {
		return nil, err
	}
	state, err := kept.load(*m, n.trust.Genesis)
	if err == nil && state.Time() != types.Time(last.Time.Unix()) {
		err = fmt.Errorf("it is of time %d, the block of %d", state.Time(), last.Time.Unix())
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errSnapshotOffered, err)
	}
	return state, kept.add(*m)
}

// fetchChunks fetches some chunks at a time and writes each to its place.
func fetchChunks(ctx context.Context, c *Client, m *manifest, f *os.File) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	next := make(chan int)
	var work sync.WaitGroup
	for range min(chunksAtOnce, len(m.Chunks)) {
		work.Go(func() {
			for i := range next {
				ask, done := context.WithTimeout(ctx, chunkTimeout)
				b, err := c.chunk(ask, m, i)
				done()
				if err == nil {
					_, err = f.WriteAt(b, int64(i)*chunkBytes)
				}
				if err != nil {
					cancel(err)
				}
			}
		})
	}
	for i := range m.Chunks {
		select {
		case next <- i:
			continue
		case <-ctx.Done():
		}
		break
	}
	close(next)
	work.Wait()
	return context.Cause(ctx)
}

// bootStores makes CometBFT's stores as they are after a block of which only the commit is there.
func bootStores(dir string, state sm.State, commit *cmt.Commit) (err error) {
	dbs := newDatabases(dir)
	defer func() { err = errors.Join(err, dbs.close()) }()
	stateDB, err := dbs.get(&config.DBContext{ID: "state"})
	if err != nil {
		return err
	}
	blockDB, err := dbs.get(&config.DBContext{ID: "blockstore"})
	if err != nil {
		return err
	}
	states := sm.NewStore(stateDB, sm.StoreOptions{})
	if err := states.Bootstrap(state); err != nil {
		return err
	}
	if err := states.SetOfflineStateSyncHeight(state.LastBlockHeight); err != nil {
		return err
	}
	if err := store.NewBlockStore(blockDB).SaveSeenCommit(state.LastBlockHeight, commit); err != nil {
		return err
	}
	return blockDB.SetSync([]byte("synced"), heightBytes(types.Height(state.LastBlockHeight))) // flushes what is before it
}
