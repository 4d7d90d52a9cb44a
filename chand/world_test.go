package chand

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eschaton-network/chand/chain/sim"
	"github.com/eschaton-network/chand/channel"
	"github.com/eschaton-network/chand/dht/memdht"
	"github.com/eschaton-network/chand/peer/mempipe"
	"github.com/eschaton-network/chand/pubsub/memgossip"
	"github.com/eschaton-network/chand/store/memstore"
	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/wire"
)

// world is a whole network in one process under fake time: a ledger with a block a second, and daemons.
type world struct {
	t      *testing.T
	chain  *sim.Chain
	pipes  *mempipe.Network
	gossip *memgossip.Network
	dht    *memdht.Network
	ctx    context.Context
	nodes  map[string]*node
}

// node is one daemon with what survives its restarts.
type node struct {
	w       *world
	name    string
	seed    types.Seed
	account types.AccountID
	store   *memstore.Store
	view    *sim.View
	cfg     Config
	wrap    func(*Deps) // for faults

	*Daemon
	pipe   *mempipe.Node
	gossip *memgossip.Node
	dir    *memdht.Node
	cancel context.CancelFunc
	ended  chan error
	life   int
}

const (
	funding = 1000 * types.Coin
	// testReserve is more than a daemon asks by itself, so that it shows in small payments.
	testReserve = 10_000
)

var testRules = wire.Rules{Dust: 1000, MaxPayment: 100 * types.Coin, MaxInFlight: 500 * types.Coin, MaxLocks: 100}

// inWorld runs fn in a bubble with the named daemons funded and running.
func inWorld(t *testing.T, names []string, fn func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		chain, err := sim.New("test", time.Second)
		if err != nil {
			t.Fatal(err)
		}
		w := &world{t: t, chain: chain, pipes: mempipe.New(), gossip: memgossip.New(), dht: memdht.New(), ctx: ctx, nodes: map[string]*node{}}
		mined := make(chan struct{})
		for _, name := range names {
			w.add(name)
		}
		go func() { chain.Run(ctx, time.Second); close(mined) }()
		for _, name := range names {
			w.nodes[name].start()
		}
		defer func() { // also after Fatal: every goroutine of the bubble must end
			for _, n := range w.nodes {
				n.stop()
				n.check()
			}
			if err := chain.Verify(); err != nil {
				t.Error(err)
			}
			cancel()
			<-mined
		}()
		fn(w)
	})
}

func (w *world) add(name string) *node {
	w.t.Helper()
	h := sha256.Sum256([]byte(name))
	n := &node{w: w, name: name, store: memstore.New(), view: w.chain.View()}
	copy(n.seed[:], h[:])
	var err error
	if n.account, err = w.chain.NewAccount(n.seed.AccountSecret(), funding); err != nil {
		w.t.Fatal(err)
	}
	n.cfg = Config{Seed: n.seed, Account: n.account, Timing: types.DemoTiming, Rules: testRules, BaseFee: 1000, FeeMillionths: 1000, Reserve: testReserve,
		MaxContribution: funding, Redial: true}
	w.nodes[name] = n
	return n
}

func logger() *slog.Logger {
	if os.Getenv("CHAND_TEST_LOG") != "" {
		return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	return slog.New(slog.NewTextHandler(io.Discard, nil))
}

// entropy is repeatable, other for each life of each node.
type entropy struct{ r *rand.ChaCha8 }

func (e entropy) Read(b []byte) (int, error) { return e.r.Read(b) }

func (n *node) start() {
	n.w.t.Helper()
	n.load()
	n.run()
}

// load makes the daemon of what is stored; it does nothing yet.
func (n *node) load() {
	n.w.t.Helper()
	n.life++
	n.pipe, n.gossip, n.dir = n.w.pipes.Node(n.seed.NodeID()), n.w.gossip.Node(n.seed.NodeID()), n.w.dht.Node(n.seed.NodeID())
	deps := Deps{Store: n.store, Chain: n.view, Transport: n.pipe, Gossip: n.gossip, Directory: n.dir, Log: logger().With("node", n.name),
		Clock: time.Now, Entropy: entropy{rand.NewChaCha8(sha256.Sum256([]byte(fmt.Sprint(n.name, n.life))))}}
	if n.wrap != nil {
		n.wrap(&deps)
	}
	d, err := New(n.cfg, deps)
	if err != nil {
		n.w.t.Fatalf("%s: %v", n.name, err)
	}
	n.Daemon = d
}

func (n *node) run() {
	d := n.Daemon
	ctx, cancel := context.WithCancel(n.w.ctx)
	n.cancel, n.ended = cancel, make(chan error, 1)
	go func() { n.ended <- d.Run(ctx) }()
	<-d.ready
}

// stop ends the daemon cleanly and wants no error.
func (n *node) stop() {
	n.w.t.Helper()
	if n.Daemon == nil {
		return
	}
	n.cancel()
	if err := <-n.ended; err != nil && !errors.Is(err, errFault) {
		n.w.t.Errorf("%s ended: %v", n.name, err)
	}
	n.gone()
}

func (n *node) gone() {
	n.pipe.Close()
	n.gossip.Close()
	n.dir.Close()
	n.Daemon = nil
}

// crash is kill -9: nothing more is written or sent.
func (n *node) crash() {
	n.store.Crash()
	n.pipe.Close()
	n.cancel()
	<-n.ended
	n.gone()
	n.store = n.store.Reopen()
}

// check runs the offline checker on a stopped node.
func (n *node) check() {
	n.w.t.Helper()
	if err := Check(n.store); err != nil {
		n.w.t.Errorf("%s: %v", n.name, err)
	}
}

// until waits, under fake time, for a condition.
func (w *world) until(what string, cond func() bool) {
	w.t.Helper()
	for range 3000 {
		synctest.Wait()
		if cond() {
			return
		}
		<-time.After(100 * time.Millisecond)
	}
	for _, n := range w.nodes {
		if n.Daemon != nil {
			list, _ := n.Channels(true)
			for _, c := range list {
				w.t.Logf("%s: %s %s: %s mine %s theirs %s locks %d v%d", n.name, c.ID.String()[:8], c.State, c.Text, c.Mine, c.Theirs, c.Locks, c.Version)
			}
		}
	}
	w.t.Fatalf("in five minutes not: %s", what)
}

// blocks lets so many blocks pass.
func (w *world) blocks(n int) {
	<-time.After(time.Duration(n) * time.Second)
	synctest.Wait()
}

func (w *world) timeout() (context.Context, context.CancelFunc) {
	return context.WithTimeout(w.ctx, 2*time.Minute)
}

// open opens a channel and waits until both can use it.
func (w *world) open(a, b string, mine, theirs types.Amount) types.ChannelID {
	w.t.Helper()
	ctx, cancel := w.timeout()
	defer cancel()
	x, y := w.nodes[a], w.nodes[b]
	if err := x.Connect(ctx, y.ID(), "memory"); err != nil {
		w.t.Fatal(err)
	}
	c, err := x.Open(ctx, OpenRequest{Peer: y.ID(), Mine: mine, Theirs: theirs})
	if err != nil {
		w.t.Fatalf("open %s-%s: %v", a, b, err)
	}
	w.until("channel open", func() bool {
		return x.state(c.ID) == ChannelOpen && y.state(c.ID) == ChannelOpen && x.ready(c.ID) && y.ready(c.ID)
	})
	return c.ID
}

func (n *node) state(id types.ChannelID) string {
	c, err := n.Channel(id)
	if err != nil {
		return err.Error()
	}
	return c.State
}

func (n *node) ready(id types.ChannelID) bool {
	r := n.runner(id)
	return r != nil && r.view.Load().State.Ready()
}

func (n *node) mine(id types.ChannelID) types.Amount {
	c, err := n.Channel(id)
	if err != nil {
		n.w.t.Fatal(err)
	}
	return c.Mine
}

func (n *node) balance() types.Amount {
	a, err := n.view.Account(n.account)
	if err != nil {
		n.w.t.Fatal(err)
	}
	return a.Balance
}

// invoice of the node.
func (n *node) invoice(amount types.Amount) string {
	n.w.t.Helper()
	i, err := n.CreateInvoice(n.w.ctx, InvoiceRequest{Amount: amount, Memo: "test"})
	if err != nil {
		n.w.t.Fatal(err)
	}
	return i.Text
}

// pay pays an invoice and wants the state.
func (n *node) pay(invoice, want string) Payment {
	n.w.t.Helper()
	ctx, cancel := n.w.timeout()
	defer cancel()
	p, err := n.Pay(ctx, PayRequest{Invoice: invoice})
	if err != nil {
		n.w.t.Fatalf("%s pays: %v", n.name, err)
	}
	if p.State != want {
		n.w.t.Fatalf("%s pays: %s, want %s: %+v", n.name, p.State, want, p.Failure)
	}
	return p
}

// known waits until a node knows so many public channels with both policies.
func (n *node) known(channels int) {
	n.w.t.Helper()
	n.w.until(fmt.Sprintf("%s knows %d channels", n.name, channels), func() bool {
		full := 0
		for _, g := range n.Graph(types.ChannelID{}, 100) {
			if len(g.Policies) == 2 {
				full++
			}
		}
		return full >= channels
	})
}

// settledPhase tells whether nothing of the channel is left on chain.
func (n *node) over(id types.ChannelID) bool {
	c, err := n.Channel(id)
	return err == nil && c.Phase == channel.PhaseClosed
}
