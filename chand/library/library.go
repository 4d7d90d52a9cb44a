package library

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/btcsuite/btcd/btcec/v2"

	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/statement"
	"github.com/eschaton-network/chand/timestamp"
	"github.com/eschaton-network/chand/types"
)

const (
	// Topic is the gossip topic: one statement a message.
	Topic = "chand/statements/1"
	// QueryProtocol is served with package query's requests and answers.
	QueryProtocol = "/chand/query/1"

	// incomingQueue bounds foreign statements that wait for the owner (16 MB at worst); gossip beyond it is dropped and comes again
	// by synchronisation.
	incomingQueue = 1024
	// publishQueue bounds commands that wait for the owner.
	publishQueue = 256
	// maxDrain bounds what shares one commit: 4 MB at worst.
	maxDrain = 256
	// expireEvery is how often statements that can't be in force again are dropped, and our link is looked after.
	expireEvery = time.Minute
)

var (
	// ErrBusy says that too many commands wait.
	ErrBusy = errors.New("too many statements wait to be published")
	// ErrStopped says that the library does not run.
	ErrStopped = errors.New("the daemon is stopping")
	// ErrNotFound says that a statement is not held here.
	ErrNotFound = errors.New("no such statement here")
	// ErrDraft is wrapped by every refusal of what was to be published; nothing was.
	ErrDraft = errors.New("the statement can't be published")
	// ErrConflict says that an idempotency key was used for another statement.
	ErrConflict = errors.New("the idempotency key was used for another statement")
	// ErrPeer is wrapped when a peer could not be asked, or its answer was not valid.
	ErrPeer = errors.New("the peer gave no valid answer")
	// ErrToken says that a page token is not of this query.
	ErrToken = errors.New("not a page token")

	errRecord = errors.New("the stored statements are damaged")
)

// Store is durable storage; Commit is all or nothing (the daemon's contract of the same name).
type Store interface {
	Commit(ctx context.Context, writes ...types.Write) error
	Reader
}

// Reader is the part of a Store that Check needs.
type Reader interface {
	Get(bucket, key string) ([]byte, error)
	Scan(bucket, prefix string, fn func(key string, value []byte) error) error
}

// Gossip spreads messages to all daemons (the daemon's contract of the same name).
type Gossip interface {
	Join(topic string, validate func(from types.NodeID, data []byte) types.Verdict, deliver func(from types.NodeID, data []byte)) error
	Publish(ctx context.Context, topic string, data []byte) error
}

// Directory finds daemons by index key and asks one directly (the daemon's contract of the same name).
type Directory interface {
	Provide(ctx context.Context, key types.Hash) error
	Providers(ctx context.Context, key types.Hash, limit int) ([]types.NodeID, error)
	Ask(ctx context.Context, peer types.NodeID, protocol string, request []byte) ([]byte, error)
	Serve(protocol string, handler func(ctx context.Context, from types.NodeID, request []byte) ([]byte, error))
}

// Config is what the library needs of the daemon.
type Config struct {
	Store     Store
	Gossip    Gossip
	Directory Directory
	// Head is the newest verified block (chand.Chain.Head); Genesis the hash of the ledger's genesis document.
	Head    func() (ledger.BlockInfo, bool)
	Genesis types.Hash
	// Blocks looks up old blocks, to check and date the blocks that statements name. May be nil: then they are not dated.
	Blocks timestamp.BlockLookup
	// StatementSecret signs our statements.
	StatementSecret [32]byte
	// NodeKey is the key of this daemon's identity; with the account's it signs the link statement.
	NodeKey *btcec.PrivateKey
	// Account is our ledger account, zero while there is none; AccountSecret its key. Account may be nil.
	Account       func() types.AccountID
	AccountSecret [32]byte
	// Neighbours lists connected peers. They are asked first, and what they say is kept before what strangers say.
	Neighbours func() []types.NodeID
	// ValidBlocks is for how long a statement holds when its draft does not say. 0: 30 days of blocks of a second.
	ValidBlocks uint32
	// Limits bound what is held; zero: statement.DefaultLimits.
	Limits statement.Limits
	Clock  func() time.Time
	// Accepted, if set, is called for every statement that is new here, after it was saved; it must not block.
	Accepted func(*statement.Statement)
	// Log may be nil.
	Log *slog.Logger
}

// Library holds statements. Its methods are safe for concurrent use.
type Library struct {
	cfg  Config
	key  statement.Key
	self types.NodeID
	log  *slog.Logger

	incoming chan *statement.Statement // verified; not yet in the set
	publish  chan publishRequest
	syncs    chan types.NodeID // peers to ask for what they hold
	ups      chan struct{}     // holds one: a peer has connected, our own statements are gossiped again
	provides chan struct{}     // holds one: there may be keys to provide
	stopped  chan struct{}     // closed when Run has ended
	serving  chan struct{}     // one token for each query that is being answered
	spent    budget            // what peers have asked for lately

	mu    sync.RWMutex                          // the owner changes the set, and saves before it lets go
	set   *statement.Set                        // guarded by mu
	held  map[statement.ID]*statement.Statement // guarded by mu; everything in set, in force or not
	links map[statement.Key][]statement.ID      // guarded by mu; link statements in set
	stale []statement.ID                        // stored, but not in the set since New; owned by Run, which deletes them

	linkMu sync.Mutex
	nodes  map[statement.ID]types.NodeID // guarded by linkMu; verified link statements
}

// New reads the store and makes a library that is ready for Run. Queries are answered at once.
func New(cfg Config) (*Library, error) {
	if cfg.ValidBlocks == 0 {
		cfg.ValidBlocks = defaultValidity
	}
	if cfg.Limits == (statement.Limits{}) {
		cfg.Limits = statement.DefaultLimits
	}
	if cfg.Account == nil {
		cfg.Account = func() types.AccountID { return types.AccountID{} }
	}
	if cfg.Neighbours == nil {
		cfg.Neighbours = func() []types.NodeID { return nil }
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	l := &Library{
		cfg: cfg, key: statement.KeyOf(cfg.StatementSecret), self: types.NodeID(cfg.NodeKey.PubKey().SerializeCompressed()), log: cfg.Log,
		incoming: make(chan *statement.Statement, incomingQueue), publish: make(chan publishRequest, publishQueue),
		syncs: make(chan types.NodeID, syncQueue), ups: make(chan struct{}, 1), provides: make(chan struct{}, 1),
		stopped: make(chan struct{}), serving: make(chan struct{}, maxServing),
		set: statement.NewSet(cfg.Limits), held: make(map[statement.ID]*statement.Statement), links: make(map[statement.Key][]statement.ID), nodes: make(map[statement.ID]types.NodeID),
	}
	l.spent.window = serveWindow
	l.spent.limit = serveBudget
	return l, l.load()
}

// load fills the set. Signatures were verified before a statement was stored; the store keeps the bytes.
func (l *Library) load() error {
	h := l.height()
	return l.cfg.Store.Scan(bucketStatement, "", func(key string, raw []byte) error {
		s, err := statement.Decode(raw)
		if err == nil && s.ID.String() != key {
			err = fmt.Errorf("it holds %s", s.ID)
		}
		if err != nil {
			return fmt.Errorf("%w: %s: %w", errRecord, key, err)
		}
		dropped, err := l.set.Add(s, h)
		if err != nil { // has ended, or the limits are lower now
			l.log.Debug("a stored statement is not kept", "id", s.ID, "why", err)
			l.stale = append(l.stale, s.ID)
			return nil
		}
		l.remember(s)
		for _, old := range dropped {
			l.forget(old)
			l.stale = append(l.stale, old.ID)
		}
		return nil
	})
}

// remember and forget follow what enters and leaves the set. Callers hold mu.
func (l *Library) remember(s *statement.Statement) {
	l.held[s.ID] = s
	if s.Schema == statement.LinkSchema {
		l.links[s.Issuer] = append(l.links[s.Issuer], s.ID)
	}
}

func (l *Library) forget(s *statement.Statement) {
	delete(l.held, s.ID)
	if s.Schema != statement.LinkSchema {
		return
	}
	rest := slices.DeleteFunc(l.links[s.Issuer], func(id statement.ID) bool { return id == s.ID })
	if l.links[s.Issuer] = rest; len(rest) == 0 {
		delete(l.links, s.Issuer)
	}
	l.linkMu.Lock()
	defer l.linkMu.Unlock()
	delete(l.nodes, s.ID)
}

// Topics lists the gossip topics that Run joins.
func (l *Library) Topics() []string { return []string{Topic} }

// Key signs our statements.
func (l *Library) Key() statement.Key { return l.key }

// PeerUp tells that a link to a peer is up: it is asked for what we miss, and our own statements are gossiped again for it. It
// never blocks; what does not fit is made up by the regular synchronisation.
func (l *Library) PeerUp(peer types.NodeID) {
	l.requestSync(peer)
	signal(l.ups)
	signal(l.provides)
}

func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// height is that of the newest block known, also while the view of the ledger is stale.
func (l *Library) height() types.Height {
	head, _ := l.cfg.Head()
	return head.Height
}

// Run joins the topic, serves queries and works until ctx ends (then it returns nil) or the store fails. All its goroutines
// have ended by then. Once only.
func (l *Library) Run(ctx context.Context) error {
	inner, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer close(l.stopped)
	defer cancel()
	if err := l.tidy(inner); err != nil {
		return err
	}
	if err := l.cfg.Gossip.Join(Topic, l.validate, l.deliver); err != nil {
		return fmt.Errorf("statements: %w", err)
	}
	l.cfg.Directory.Serve(QueryProtocol, l.serve)
	for range syncWorkers {
		wg.Go(func() { l.syncPeers(inner) })
	}
	wg.Go(func() { l.spreadAgain(inner) })
	wg.Go(func() { l.provideAll(inner) })
	for _, p := range l.cfg.Neighbours() { // those that connected before
		l.PeerUp(p)
	}
	err := l.own(inner)
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil
	}
	return err
}

// own is the owner's loop.
func (l *Library) own(ctx context.Context) error {
	tick := time.NewTicker(expireEvery)
	defer tick.Stop()
	link := time.NewTimer(0) // until there is a head to name
	defer link.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return nil
		case s := <-l.incoming:
			err = l.take(ctx, l.drain([]*statement.Statement{s}), nil)
		case r := <-l.publish:
			err = l.take(ctx, l.drain(nil), []publishRequest{r})
		case <-tick.C:
			err = l.tidy(ctx)
			link.Reset(0)
		case <-link.C:
			var again bool
			if again, err = l.keepLink(ctx); again {
				link.Reset(time.Second)
			}
		}
		if err != nil {
			return err
		}
	}
}

// drain adds what else came in, so that it shares the commit.
func (l *Library) drain(list []*statement.Statement) []*statement.Statement {
	for len(list) < maxDrain {
		select {
		case s := <-l.incoming:
			list = append(list, s)
		default:
			return list
		}
	}
	return list
}
