package escd

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cometbft/cometbft/crypto"
	cmtnode "github.com/cometbft/cometbft/node"
	"github.com/cometbft/cometbft/p2p"
	"github.com/cometbft/cometbft/proxy"
	sm "github.com/cometbft/cometbft/state"
	cmt "github.com/cometbft/cometbft/types"

	"github.com/eschaton-network/chand/chain/escd/light"
	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

// errStopped is returned by a node that was stopped.
var errStopped = errors.New("the ledger node has been stopped")

// errBehind is returned while a joined node is not connected yet.
var errBehind = errors.New("the ledger node has not caught up with its ledger yet; try again when Head is fresh")

// Node is a running ledger node. All methods are safe for concurrent use.
type Node struct {
	cfg     Config
	genesis ledger.Genesis
	trust   light.Trust
	app     *app
	dbs     *databases
	office  *office
	judge   *judge
	peers   *peers
	routes  routes
	clients clients
	// officeAt is where the office listens, once it does.
	officeAt atomic.Pointer[string]
	states   sm.Store // CometBFT's: who the validators are
	solitude atomic.Pointer[solitude]

	// own is this daemon's account; ownReady is closed once it is known.
	own      types.AccountID
	ownReady chan struct{}

	live context.Context // ends with quit
	quit context.CancelFunc
	work sync.WaitGroup // goroutines that end with live
	// life is held for reading while CometBFT is in use, and for writing to start it and to close its stores.
	life    sync.RWMutex
	comet   *cmtnode.Node // nil while a joined ledger is being caught up with
	started time.Time     // of comet
	p2pAddr string        // of comet
	quiet   atomic.Bool   // while stopping: CometBFT complains of everything that it closes itself
	stopped bool
	stop    sync.Once
	stopErr error
}

// Start opens or creates the ledger in cfg.Home and runs the node until Stop. It returns when the node takes transactions: on
// a ledger of one's own before its first block, on a joined one after a first attempt to catch up (Head says
// whether it has). ctx bounds only the start.
func Start(ctx context.Context, cfg Config) (_ *Node, err error) {
	cfg, err = cfg.normal()
	if err != nil {
		return nil, err
	}
	if err := prepareHome(cfg.Home); err != nil {
		return nil, fmt.Errorf("ledger node: %w", err)
	}
	n := &Node{cfg: cfg, ownReady: make(chan struct{}), dbs: newDatabases(filepath.Join(cfg.Home, dataDir))}
	n.live, n.quit = context.WithCancel(context.Background())
	reached, err := n.findLedger(ctx)
	if err != nil {
		return nil, fmt.Errorf("ledger node: %w", err)
	}
	defer func() {
		if err != nil {
			n.Stop()
			err = fmt.Errorf("ledger node: %w", err)
		}
	}()
	j, err := openJournal(cfg.Home)
	if err != nil {
		return nil, err
	}
	if n.app, err = newApp(cfg, n.genesis, j); err != nil {
		j.close()
		return nil, err
	}
	n.judge = n.app.judge
	n.judge.n = n
	if err := n.startComet(ctx, reached); err != nil {
		return nil, err
	}
	if n.office, err = openOffice(n); err != nil {
		return nil, err
	}
	n.work.Go(n.judge.run)
	if key := ledger.PublicKey(cfg.AccountSecret); !n.lookupOwn(key) {
		n.work.Go(func() { n.findOwnAccount(n.live, key) })
	}
	return n, nil
}

// findLedger settles on the genesis document and looks which of the peers are there. A peer of another ledger is an error when no
// other one answers.
func (n *Node) findLedger(ctx context.Context) (reached []*peer, err error) {
	if n.peers, err = newPeers(n.cfg); err != nil {
		return nil, err
	}
	if n.genesis, err = findGenesis(ctx, n.cfg, n.peers); err != nil {
		return nil, err
	}
	if doc, err := n.genesis.Bytes(); err != nil {
		return nil, err
	} else if n.genesis, err = ledger.ParseGenesis(doc); err != nil { // with the defaults filled in, as every node reads it
		return nil, err
	}
	if n.trust, err = light.TrustOf(n.genesis); err != nil {
		return nil, err
	}
	n.peers.genesis = n.trust.Genesis
	var foreign *foreignLedger
	switch reached, err = n.peers.ask(ctx); {
	case errors.As(err, &foreign):
		return nil, err
	case err != nil && !errors.Is(err, errSelf):
		n.cfg.Logger.Warn("no other node of the ledger answers; starting with what is here and trying on", "err", err)
	}
	return reached, nil
}

// key is this node's key as a validator.
func (n *Node) key() crypto.PubKey { return privKey(n.cfg.LedgerNodeSecret).PubKey() }

// solitude is what alone found for a height. It is asked for with every payment and changes with blocks only.
type solitude struct {
	height types.Height
	alone  bool
}

// alone tells whether this node is the only validator of the block after h: nobody can be ahead of it.
func (n *Node) alone(h types.Height) bool {
	if s := n.solitude.Load(); s != nil && s.height == h {
		return s.alone
	}
	set, err := n.states.LoadValidators(int64(h) + 1)
	if err != nil {
		return false
	}
	s := &solitude{h, set.Size() == 1 && set.HasAddress(n.key().Address())}
	n.solitude.Store(s)
	return s.alone
}

// dontPanic is deferred around CometBFT's code that panics on damaged data, which must not take the daemon down.
func (n *Node) dontPanic(what string) {
	if p := recover(); p != nil {
		n.cfg.Logger.Error("the ledger node cannot go on with what is in "+n.dbs.dir, "while", what, "panic", fmt.Sprint(p))
	}
}

func (n *Node) creator() proxy.ClientCreator { return proxy.NewConnSyncLocalClientCreator(n.app) }

// startComet brings CometBFT up: at once for the only validator, else as soon as this node has caught up.
func (n *Node) startComet(ctx context.Context, reached []*peer) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("CometBFT cannot go on with what is in %s: %v", n.dbs.dir, p)
		}
	}()
	s, err := n.newSyncer(ctx)
	if errors.Is(err, errBlocksGone) {
		s, err = n.startOver(ctx, err)
	}
	if err != nil {
		return err
	}
	n.states = s.states
	if _, alone := s.has(n.key()); alone {
		return n.launch(ctx, s)
	}
	return n.catchUp(ctx, s, reached)
}

// launch starts CometBFT at the syncer's block.
func (n *Node) launch(ctx context.Context, s *syncer) error {
	s.close()
	pv, err := validator(n.cfg.Home, n.cfg.LedgerNodeSecret)
	if err != nil {
		return err
	}
	p2pAddr, err := freePort(n.cfg.ListenP2P)
	if err != nil {
		return err
	}
	options := []cmtnode.Option{n.gossiping}
	_, alone := s.has(n.key()) // then CometBFT does not try to sync first either
	if !alone {
		options = append(options, cmtnode.CustomReactors(map[string]p2p.Reactor{"BLOCKSYNC": s.serving(n.logger())}))
	}
	cfg := cometConfig(n.cfg, n.genesis, p2pAddr)
	if err := markLog(cfg.Consensus.WalFile(), s.state.LastBlockHeight); err != nil {
		return fmt.Errorf("the log of consensus messages: %w", err)
	}
	comet, err := cmtnode.NewNodeWithContext(ctx, cfg, pv, nodeKey(n.cfg.LedgerNodeSecret), n.creator(),
		func() (*cmt.GenesisDoc, error) { return cometGenesis(n.genesis), nil }, n.dbs.get,
		cmtnode.DefaultMetricsProvider(cfg.Instrumentation), n.logger(), options...)
	if err != nil {
		return err
	}
	if got := comet.GenesisDoc().ChainID; got != n.genesis.ChainID {
		return fmt.Errorf("the blocks in %s are of chain %q, the genesis document is of %q: was %s replaced?", n.dbs.dir, got, n.genesis.ChainID, genesisFile)
	}
	desk, err := openDesk(n)
	if err != nil {
		return err
	}
	n.app.pace = newPace(cfg.Consensus)
	if err := comet.Start(); err != nil {
		return err
	}
	if !alone {
		comet.ConsensusReactor().SwitchToConsensus(s.state, false) // what was signed since the last block is in CometBFT's log
	}
	for _, p := range n.peers.all {
		n.work.Go(func() { p.keepConnected(n.live, comet.Switch(), n.cfg.Logger) })
	}
	n.life.Lock()
	defer n.life.Unlock()
	n.comet, n.started, n.p2pAddr = comet, time.Now(), p2pAddr
	if desk == nil {
		n.work.Go(n.openDeskLater)
	}
	return nil
}

// stopTimeout bounds how long CometBFT may take to stop its goroutines; it needs some 10 ms, and a second when it is connecting.
const stopTimeout = 1500 * time.Millisecond

// Stop ends the node and closes its files. It takes well under two seconds; what CometBFT has not ended by then ends with the
// process. Nothing is lost in either case. Later calls return what the first did.
func (n *Node) Stop() error {
	n.stop.Do(func() { n.stopErr = n.shutdown() })
	return n.stopErr
}

func (n *Node) shutdown() error {
	n.quiet.Store(true)
	n.quit()
	if n.office != nil {
		n.office.close()
	}
	n.work.Wait() // after this nothing starts CometBFT any more
	if n.app != nil {
		if d := n.desk(); d != nil {
			d.stop()
		}
	}
	n.clients.close()
	clean := n.stopComet()
	n.life.Lock() // waits for calls that read CometBFT's stores
	defer n.life.Unlock()
	n.stopped = true
	var errs []error
	if n.app != nil {
		if clean {
			errs = append(errs, n.app.save())
		}
		n.app.stop()
	}
	if clean {
		errs = append(errs, n.dbs.close())
	}
	return errors.Join(errs...)
}

// stopComet tells whether CometBFT ended in time. Peers go first: most of its goroutines end with them, before the stores
// that they read from.
func (n *Node) stopComet() bool {
	if n.comet == nil || !n.comet.IsRunning() {
		return true
	}
	done := make(chan bool, 1)
	go func() {
		defer func() {
			if p := recover(); p != nil {
				n.cfg.Logger.Warn("CometBFT failed while stopping", "panic", p)
				done <- false
			}
		}()
		for _, p := range n.comet.Switch().Peers().List() {
			n.comet.Switch().StopPeerGracefully(p)
		}
		err := n.comet.Stop()
		if err != nil {
			n.cfg.Logger.Warn("CometBFT failed to stop", "err", err)
		}
		done <- err == nil
	}()
	select {
	case clean := <-done:
		return clean
	case <-time.After(stopTimeout):
		n.cfg.Logger.Warn("CometBFT did not stop in time; the rest ends with the process")
		return false
	}
}

func (n *Node) logger() logger { return logger{to: n.cfg.Logger, quiet: &n.quiet} }

// use holds CometBFT's stores open until done is called.
func (n *Node) use() (done func(), err error) {
	n.life.RLock()
	if n.stopped || n.comet == nil {
		n.life.RUnlock()
		if n.stopped {
			return nil, errStopped
		}
		return nil, errBehind
	}
	return n.life.RUnlock, nil
}

// OfficeAddr is the office's HOST:PORT.
func (n *Node) OfficeAddr() string { return n.office.addr }

// P2PAddr is ID@HOST:PORT of CometBFT's peer-to-peer port; empty while a joined ledger is being caught up with.
func (n *Node) P2PAddr() string {
	n.life.RLock()
	defer n.life.RUnlock()
	if n.p2pAddr == "" {
		return ""
	}
	return string(nodeKey(n.cfg.LedgerNodeSecret).ID()) + "@" + n.p2pAddr
}

// JoinAddr is what other daemons give as Join: HOST:PORT/GENESISHASH.
func (n *Node) JoinAddr() string { return n.OfficeAddr() + "/" + n.trust.Genesis.String() }

// GenesisDoc is the ledger's genesis document, from which package light verifies bundles offline.
func (n *Node) GenesisDoc() ledger.Genesis { return n.genesis }
