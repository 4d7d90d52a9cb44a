package chand

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/btcsuite/btcd/btcec/v2"

	"github.com/eschaton-network/chand/chand/backup"
	"github.com/eschaton-network/chand/chand/library"
	"github.com/eschaton-network/chand/chand/stamper"
	"github.com/eschaton-network/chand/channel"
	"github.com/eschaton-network/chand/htlc"
	"github.com/eschaton-network/chand/route"
	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/wire"
)

// Config is what the owner of a daemon decides.
type Config struct {
	Seed types.Seed
	// AccountSecret is the ed25519 seed of the ledger account; zero: derived from Seed.
	AccountSecret [32]byte
	// Account is the ledger account, if it is known already; zero: learnt from the ledger once somebody creates it for our key.
	Account types.AccountID
	// Timing and Rules of channels that we open, and Rules of those that we accept.
	Timing types.Timing
	Rules  wire.Rules
	// BaseFee and FeeMillionths are asked for forwarding, and Reserve (10^-12 of the amount a block) for keeping a lock open.
	BaseFee       types.Amount
	FeeMillionths uint32
	Reserve       uint32
	// MaxContribution is the most that we put into a channel that a peer proposes. 0: nothing.
	MaxContribution types.Amount
	// InvoiceExpiry is how many seconds an invoice holds when its maker does not say.
	InvoiceExpiry uint32
	// History is how much of what is over is remembered.
	History History
	// StampRound is how long timestamp requests are collected before they are sealed. 0: a second.
	StampRound time.Duration
	// Redial keeps links to the peers of our channels.
	Redial bool
	// TowerServe makes this daemon a watchtower for others, at TowerPrice for a contract and a thousand blocks (0: nothing).
	TowerServe bool
	TowerPrice types.Amount
	// WarnBlocks is how many blocks before this daemon acts on an open lock by itself it says so (event deadline.near). 0: as many as it
	// may be down.
	WarnBlocks uint32
	// TowerEvery is after how many updates of a channel the watchtowers in use get its newest version before the next block. 0: each block only.
	TowerEvery uint32
	// RenewAt is the version number from which on a channel begins a new epoch. 0: shortly before the last one.
	RenewAt uint32
	// Restored says that the store came from a backup and may be old: channels sign nothing before both sides agreed anew.
	Restored bool
}

// Deps are the shells and the world.
type Deps struct {
	Store     Store
	Chain     Chain
	Transport Transport
	Gossip    Gossip
	Directory Directory
	Proofs    Proofs
	Log       *slog.Logger
	// Clock is the time of day.
	Clock func() time.Time
	// Entropy is a source of secrets (crypto/rand.Reader).
	Entropy io.Reader
}

// Daemon runs the rules for one owner. Its methods are safe for concurrent use.
type Daemon struct {
	Deps
	cfg     Config
	nodeKey *btcec.PrivateKey
	onion   *htlc.OnionSecret
	terms   *ownersTerms
	genesis types.Hash
	life    *group // set by Run before anything is started
	running atomic.Bool
	ready   chan struct{} // closed by Run once commands are taken, or when it is clear that they never will be
	height  atomic.Uint32 // newest block that the watcher has handed on
	events  bus
	entropy sync.Mutex // guards Entropy

	account   *accountant
	announcer *announcer
	stamper   *stamper.Stamper
	library   *library.Library
	shop      *shop
	payments  *payments
	history   *historian
	invoices  *invoices
	escrows   *escrows
	peers     *peers
	towers    *towers
	storage   *backup.Storage
	twins     *twins
	restoring atomic.Int32 // channels that have not saved yet that the store is a backup
	keys      keyLocks
	signers   signers
	streams   streams

	mu      sync.Mutex
	runners map[types.ChannelID]*runner // guarded by mu; by id, and by temporary id while opening
	shorts  map[htlc.ShortID]*runner    // guarded by mu
}

const (
	// defaultInvoiceExpiry is BOLT 11's: an hour.
	defaultInvoiceExpiry = 3600
	// maxRunners bounds the channels that are not over; each costs its opener a contract.
	maxRunners = 16384
)

// New reads the store and makes a daemon that is ready for Run. It calls Transport.Handle.
func New(cfg Config, deps Deps) (*Daemon, error) {
	if cfg.InvoiceExpiry == 0 {
		cfg.InvoiceExpiry = defaultInvoiceExpiry
	}
	if cfg.AccountSecret == [32]byte{} {
		cfg.AccountSecret = cfg.Seed.AccountSecret()
	}
	if err := cfg.Timing.Check(); err != nil {
		return nil, err
	}
	d := &Daemon{Deps: deps, cfg: cfg, nodeKey: cfg.Seed.NodeKey(), onion: htlc.NewOnionSecret(cfg.Seed.OnionSecret()), genesis: deps.Chain.Params().Genesis, ready: make(chan struct{}),
		runners: make(map[types.ChannelID]*runner), shorts: make(map[htlc.ShortID]*runner)}
	if self := deps.Transport.Self(); self != cfg.Seed.NodeID() {
		return nil, fmt.Errorf("the transport speaks for %s, the seed is of %s", self, cfg.Seed.NodeID())
	}
	d.escrows = &escrows{open: make(map[string]*escrow)}
	d.invoices = &invoices{d: d, claims: make(map[types.Hash]bool), sets: make(map[types.Hash]*heldSet)}
	var err error
	for _, step := range []func() error{
		func() error { d.account, err = newAccountant(d); return err },
		func() error { d.payments, err = newPayments(d); return err },
		func() error { d.history, err = newHistorian(d); return err },
		func() error { return d.loadEscrows() },
		d.loadTerms,
		func() error { d.announcer, err = newAnnouncer(d); return err },
		func() error { d.peers, err = newPeers(d); return err },
		func() error { d.library, err = newLibrary(d); return err },
		func() error { d.stamper, err = newStamper(d); return err },
		func() error { d.shop, err = newShop(d); return err },
		func() error { d.towers, err = newTowers(d); return err },
		func() error { d.storage = newStorage(d); return nil },
		func() error { d.twins, err = newTwins(d); return err },
		func() error { return d.loadChannels() },
	} {
		if err := step(); err != nil {
			return nil, fmt.Errorf("starting from the store: %w", err)
		}
	}
	d.Transport.Handle(types.LinkHandler{OnUp: d.onUp, OnDown: d.onDown, OnFrame: d.onFrame})
	return d, nil
}

// Run works until ctx ends (then it returns nil) or an owner fails (then the reason). All its goroutines have ended by then. Once only.
func (d *Daemon) Run(ctx context.Context) error {
	if !d.running.CompareAndSwap(false, true) {
		return errors.New("the daemon runs already")
	}
	d.life = newGroup(ctx)
	defer d.life.stop(errStopAsked)
	if err := d.announcer.join(); err != nil {
		d.life.stop(err)
		close(d.ready) // a link that came up meanwhile waits for it, and the transport's Close for that link
		return d.life.wait(ctx)
	}
	saved, unpaid := d.allRunners(), d.payments.all() // those that begin from now on are started where they begin
	close(d.ready)
	d.life.run("stamper", d.stamper.Run)
	d.life.run("library", d.library.Run)
	d.life.run("account", d.account.run)
	d.life.run("announcer", d.announcer.run)
	d.life.run("peers", d.peers.run)
	d.life.run("towers", d.towers.run)
	d.life.run("clients of towers", d.towers.client.Run)
	d.life.run("backup with peers", d.storage.Run)
	if d.cfg.Restored && d.restoring.Load() == 0 { // no channel had to hear of it
		d.life.run("mark of a restored store", d.unmark)
	}
	for _, r := range saved {
		d.life.run("runner", r.run)
	}
	d.life.run("history", d.history.run)
	d.life.run("watcher", d.watch)
	for _, p := range unpaid {
		d.life.run("payment", p.drive)
	}
	return d.life.wait(ctx)
}

// Stop asks Run to return.
func (d *Daemon) Stop() {
	if d.running.Load() {
		<-d.ready
		d.life.stop(errStopAsked)
	}
}

// ID is the daemon's node id.
func (d *Daemon) ID() types.NodeID { return d.Transport.Self() }

// Height is the newest block that the daemon has seen.
func (d *Daemon) Height() types.Height { return types.Height(d.height.Load()) }

func (d *Daemon) now() types.Time { return types.Time(d.Clock().Unix()) }

// random fills b with secret bytes.
func (d *Daemon) random(b []byte) error {
	d.entropy.Lock()
	defer d.entropy.Unlock()
	if _, err := io.ReadFull(d.Entropy, b); err != nil {
		return fmt.Errorf("no randomness: %w", err)
	}
	return nil
}

// chainView is what forwarding may know of the chain.
func (d *Daemon) chainView(h types.Height) route.View {
	head, ok := d.Chain.Head()
	return route.View{Height: max(h, head.Height), Fresh: ok}
}

func (d *Daemon) runner(id types.ChannelID) *runner {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.runners[id]
}

func (d *Daemon) runnerByShort(s htlc.ShortID) *runner {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.shorts[s]
}

// allRunners lists every runner once, in the order of their ids.
func (d *Daemon) allRunners() []*runner {
	d.mu.Lock()
	defer d.mu.Unlock()
	seen := make(map[*runner]bool, len(d.runners))
	var list []*runner
	for _, r := range d.runners {
		if !seen[r] {
			seen[r] = true
			list = append(list, r)
		}
	}
	sortRunners(list)
	return list
}

// register publishes what a runner shows and makes it reachable under an id, in this order: everybody who finds a runner may
// read its view. It is called by the runner's goroutine, or before that runs. ok is false when the id or the room is taken.
func (d *Daemon) register(r *runner, id types.ChannelID) (ok bool) {
	r.publish()
	d.mu.Lock()
	defer d.mu.Unlock()
	if other := d.runners[id]; other != nil && other != r || len(d.runners) >= 2*maxRunners {
		return false
	}
	d.runners[id] = r
	if id == r.state.ID { // a temporary id is the opener's choice and could begin like another channel's
		d.shorts[htlc.Short(id)] = r
	}
	return true
}

func (d *Daemon) unregister(r *runner) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for id, x := range d.runners {
		if x == r {
			delete(d.runners, id)
			if short := htlc.Short(id); d.shorts[short] == r {
				delete(d.shorts, short)
			}
		}
	}
}

// submitAction hands a chain action of a channel to the accountant. One that is pending already is not doubled; the automaton
// repeats what the chain still needs.
func (d *Daemon) submitAction(id types.ChannelID, a channel.ChainAction) {
	kind, body, err := d.actionBody(a)
	if err != nil {
		d.Log.Error("a chain action can't be made into a transaction", "channel", id, "err", err)
		return
	}
	if err := d.account.submit(txRequest{key: actionKey(id, kind, body), kind: kind, body: body}); err != nil {
		d.Log.Warn("a chain action waits for the next block", "channel", id, "err", err)
	}
}

// keyLocks makes commands with the same key wait for one another.
type keyLocks struct {
	mu   sync.Mutex
	held map[string]chan struct{} // guarded by mu
}

// lock waits until nobody else holds the key; the result frees it.
func (k *keyLocks) lock(key string) (unlock func()) {
	for {
		k.mu.Lock()
		wait, taken := k.held[key]
		if !taken {
			if k.held == nil {
				k.held = make(map[string]chan struct{})
			}
			mine := make(chan struct{})
			k.held[key] = mine
			k.mu.Unlock()
			return func() {
				k.mu.Lock()
				delete(k.held, key)
				k.mu.Unlock()
				close(mine)
			}
		}
		k.mu.Unlock()
		<-wait
	}
}

func busy() error {
	return refuse(CodeBusy, "try again in a moment", "more than %d commands wait already", maxCommands)
}

func errStopping() error {
	return &Error{Code: CodeStopping, Text: "the daemon is stopping", Next: "ask again after the restart, with the same idempotency key",
		Money: "what was under way is decided after the restart, from what is saved"}
}
