package itest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eschaton-network/chand/chain/escd"
	"github.com/eschaton-network/chand/chand"
	"github.com/eschaton-network/chand/htlc"
	"github.com/eschaton-network/chand/internal/devnet"
	"github.com/eschaton-network/chand/itest/mallory"
	"github.com/eschaton-network/chand/ledger"
	chandv1 "github.com/eschaton-network/chand/rpc/gen/chand/v1"
	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/wire"

	btcwire "github.com/btcsuite/btcd/wire/v2"
)

// stage is a network of honest daemons and, in this process, as many Mallorys as a test wants, with a ledger of their own that tells
// the test to the unit what every contract paid to whom.
type stage struct {
	*network
	follower *escd.Node
	books    *books
	bob      *devnet.Node
	carol    *devnet.Node
	dave     *devnet.Node // for one scene alone
	line     string       // the channel between bob and dave
	dir      string
}

// Short enough that what has to run out does so within seconds, long enough that an answer gets into a block on a busy machine.
var stageTiming = types.Timing{Inclusion: 6, Downtime: 10, Window: 20}

// Bob's rules, which Mallory will try to break.
const (
	stageDeposit = types.Coin
	stageLocks   = 8
	stageMost    = 200 * types.Coin
	stageDust    = types.Coin / 100_000
)

func newStage(t *testing.T) *stage {
	t.Helper()
	n := newNetwork(t, "--channel-inclusion", fmt.Sprint(stageTiming.Inclusion), "--channel-downtime", fmt.Sprint(stageTiming.Downtime),
		"--channel-window", fmt.Sprint(stageTiming.Window), "--channel-deposit", stageDeposit.String(), "--channel-max-locks", fmt.Sprint(stageLocks),
		"--channel-max-payment", stageMost.String(), "--route-reserve", "1000000")
	s := &stage{network: n, dir: t.TempDir()}
	d := n.joined("bob", "carol", "dave")
	s.bob, s.carol, s.dave = d[0], d[1], d[2]
	n.open(s.carol, s.bob, "100", "100")
	s.line = n.open(s.bob, s.dave, "100", "1")
	var err error
	secret := [32]byte{1, 2, 3}
	s.follower, err = escd.Start(n.ctx(), escd.Config{Home: filepath.Join(s.dir, "ledger"), Moniker: "mallory", Join: n.join,
		LedgerNodeSecret: secret, AccountSecret: secret})
	if err != nil {
		t.Fatal(err)
	}
	s.books = newBooks()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.follower.Blocks(ctx, 1, s.books.block) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if err := s.follower.Stop(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// scene is one test on the stage with Mallorys of its own.
type scene struct {
	*stage
	t *testing.T
}

// ctx ends with the scene's test.
func (s *scene) ctx() context.Context {
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	s.t.Cleanup(cancel)
	return ctx
}

func (s *scene) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// until polls, less often than the network does, since many scenes are played at once.
func (s *scene) until(what string, ok func() bool) {
	s.t.Helper()
	ctx := s.ctx()
	for !ok() {
		select {
		case <-ctx.Done():
			s.t.Fatalf("waited %s in vain until %s", patience, what)
		case <-time.After(100 * time.Millisecond): // polls; nothing is concluded from how long it took
		}
	}
}

// fresh waits until Mallory and bob see new blocks: else both refuse what has to do with time.
func (s *scene) fresh() {
	s.t.Helper()
	s.until("both see fresh blocks", func() bool {
		_, fresh := s.follower.Head()
		return fresh && must(s.bob.Status.Get(s.ctx(), &chandv1.GetStatusRequest{})).Ledger.Synced
	})
}

// height waits for a block.
func (s *scene) height(at types.Height) {
	s.t.Helper()
	s.until(fmt.Sprintf("block %d is there", at), func() bool { head, _ := s.follower.Head(); return head.Height >= at })
}

// cast is what plays scenes.
type cast func(name string, play func(s *scene))

// together plays scenes at once, however few processors there are: they mostly wait for blocks.
func (s *stage) together(t *testing.T, tell func(run cast)) {
	var all sync.WaitGroup
	tell(func(name string, play func(s *scene)) {
		all.Go(func() { t.Run(name, func(t *testing.T) { play(&scene{stage: s, t: t}) }) })
	})
	all.Wait()
}

// mallory starts one with 1000 coins and a link to bob.
func (s *scene) mallory(name string) *mallory.Daemon {
	s.t.Helper()
	office, _, _ := strings.Cut(s.join, "/")
	level := slog.LevelWarn
	if os.Getenv("MALLORY_LOG") != "" {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(s.t.Output(), &slog.HandlerOptions{Level: level})).With("who", name)
	m, err := mallory.Start(s.ctx(), mallory.Config{Name: s.t.Name() + name, Dir: s.t.TempDir(), Ledger: s.follower, Office: office, Timing: stageTiming,
		Rules: wire.Rules{Dust: stageDust, MaxLocks: 400}, Log: log})
	s.must(err)
	s.t.Cleanup(func() {
		if err := m.Stop(); err != nil {
			s.t.Error(err)
		}
	})
	sent, err := s.ledger.Account.Send(s.ctx(), &chandv1.SendRequest{To: m.Account().String(), Amount: "1000", IdempotencyKey: "fund " + s.t.Name() + name})
	if err != nil || sent.State != "confirmed" {
		s.t.Fatalf("funding %s: %v, %v", name, sent, err)
	}
	s.until(name+" is funded", func() bool {
		a, err := s.follower.Account(m.Account())
		return err == nil && a.Balance >= 1000*types.Coin
	})
	s.meet(m, s.bob)
	return m
}

func (s *scene) meet(m *mallory.Daemon, d *devnet.Node) types.NodeID {
	s.t.Helper()
	self := must(d.Peers.Self(s.ctx(), &chandv1.SelfRequest{}))
	id := must(types.ParseNodeID(self.Id))
	s.must(m.Connect(s.ctx(), id, self.Addresses[0]))
	return id
}

// opens has Mallory open a channel with an honest daemon, and returns once both can use it.
func (s *scene) opens(m *mallory.Daemon, to *devnet.Node, mine, theirs types.Amount) types.ChannelID {
	s.t.Helper()
	peer := s.meet(m, to)
	var id types.ChannelID
	s.until("a channel is opened", func() bool {
		c, err := m.Open(s.ctx(), chand.OpenRequest{Peer: peer, Mine: mine, Theirs: theirs, Private: true})
		if stale(err) || err != nil && strings.Contains(err.Error(), "openings of yours are not completed") {
			return false
		}
		s.must(err)
		id = c.ID
		return true
	})
	s.ready(m, to, id)
	return id
}

// ready waits until both can use the channel, and what they say on its first link is over.
func (s *scene) ready(m *mallory.Daemon, d *devnet.Node, id types.ChannelID) {
	s.t.Helper()
	s.until("the channel is open at both", func() bool {
		c, err := m.Channel(id)
		b := s.channel(d, id)
		return err == nil && c.State == chand.ChannelOpen && c.CanSend > 0 && b.State == "open" && b.PeerConnected
	})
}

func stale(err error) bool {
	var e *chand.Error
	return errors.As(err, &e) && e.Code == chand.CodeStale || err != nil && strings.Contains(err.Error(), chand.NotFresh)
}

// pays has Mallory pay an invoice of an honest daemon, which wants success.
func (s *scene) pays(m *mallory.Daemon, to *devnet.Node, amount types.Amount) {
	s.t.Helper()
	s.until("mallory has paid", func() bool {
		inv := must(to.Payments.CreateInvoice(s.ctx(), &chandv1.CreateInvoiceRequest{Amount: amount.String()}))
		p, err := m.Pay(s.ctx(), chand.PayRequest{Invoice: inv.Invoice})
		s.must(err)
		if p.State == chand.PaymentFailed && p.Failure != nil && slices.Contains(passing, p.Failure.Rule) {
			return false
		}
		if p.State != chand.PaymentSucceeded {
			s.t.Fatalf("mallory pays %s: %s, %+v", amount, p.State, p.Failure)
		}
		return true
	})
}

// paid has an honest daemon pay Mallory.
func (s *scene) paid(from *devnet.Node, m *mallory.Daemon, amount types.Amount) {
	s.t.Helper()
	s.until("mallory was paid", func() bool {
		inv, err := m.CreateInvoice(s.ctx(), chand.InvoiceRequest{Amount: amount})
		s.must(err)
		p := must(from.Payments.Pay(s.ctx(), &chandv1.PayRequest{Invoice: inv.Text}))
		if p.State == "failed" && slices.Contains(passing, p.Failure.GetRule()) {
			return false
		}
		if p.State != "succeeded" {
			s.t.Fatalf("bob pays %s: %v", amount, p)
		}
		return true
	})
}

// mine is what an honest daemon has in a channel, locks apart.
func (s *scene) mine(d *devnet.Node, id types.ChannelID) types.Amount {
	return coins(s.channel(d, id.String()).Mine)
}

func (s *scene) channel(d *devnet.Node, id any) *chandv1.Channel {
	return must(d.Channels.Get(s.ctx(), &chandv1.GetChannelRequest{Id: fmt.Sprint(id)}))
}

// closed waits until nothing of a channel is left on the ledger, wants the honest daemon to have got at least its due, to the unit, and
// prints the books.
func (s *scene) closed(d *devnet.Node, m *mallory.Daemon, id types.ChannelID, due types.Amount) (got types.Amount) {
	s.t.Helper()
	s.until(d.Name+"'s channel is closed", func() bool { return s.channel(d, id).State == "closed" })
	account := must(types.ParseAccountID(must(d.Account.Get(s.ctx(), &chandv1.GetAccountRequest{})).Address))
	s.until("the ledger has paid out", func() bool { _, ok := s.books.paid(id); return ok })
	paid, _ := s.books.paid(id)
	c := s.channel(d, id)
	got = paid[account]
	s.t.Logf("books of channel %.8s: %s was owed %s and got %s; mallory got %s; %s open; capacity %s; %s",
		id, d.Name, due, got, paid[m.Account()], s.books.open(id), c.Capacity, c.StateText)
	if got < due {
		s.t.Errorf("%s got %s of the contract, had signed for %s", d.Name, got, due)
	}
	return got
}

// books follow what contracts paid, from the ledger's own events.
type books struct {
	mu     sync.Mutex
	paidTo map[types.ChannelID]map[types.AccountID]types.Amount // guarded by mu
	locks  map[ledger.OutPoint]owed                             // guarded by mu; unspent outputs of refunds
}

type owed struct {
	channel types.ChannelID
	amount  types.Amount
}

func newBooks() *books {
	return &books{paidTo: make(map[types.ChannelID]map[types.AccountID]types.Amount), locks: make(map[ledger.OutPoint]owed)}
}

func (b *books) block(e ledger.BlockEvents) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range e.Events {
		switch e := e.(type) {
		case ledger.ContractSettled:
			b.paidTo[e.ID] = make(map[types.AccountID]types.Amount)
			if err := b.pay(e.ID, e.TxID, e.Refund); err != nil {
				return err
			}
		case ledger.OutputSpent:
			at := ledger.OutPoint{TxID: e.TxID, Index: e.Index}
			lock, ok := b.locks[at]
			if !ok {
				continue // the deposit of something else
			}
			delete(b.locks, at)
			if err := b.pay(lock.channel, types.Hash{}, e.By); err != nil {
				return err
			}
		}
	}
	return nil
}

// pay books the outputs of a transaction with one input. The caller has the lock.
func (b *books) pay(id types.ChannelID, txid types.Hash, raw []byte) error {
	var tx btcwire.MsgTx
	if err := tx.Deserialize(strings.NewReader(string(raw))); err != nil {
		return err
	}
	if len(tx.TxIn) != 1 {
		return fmt.Errorf("a spend of %d inputs: the books know one", len(tx.TxIn))
	}
	for i, out := range tx.TxOut {
		if account, ok := htlc.ParseAccountScript(out.PkScript); ok {
			b.paidTo[id][account] += types.Amount(out.Value)
		} else {
			b.locks[ledger.OutPoint{TxID: txid, Index: uint32(i)}] = owed{id, types.Amount(out.Value)}
		}
	}
	return nil
}

// paid tells what a settled contract has paid to whom.
func (b *books) paid(id types.ChannelID) (map[types.AccountID]types.Amount, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	m, ok := b.paidTo[id]
	return maps.Clone(m), ok
}

// open is the sum of a contract's locks that nobody has claimed.
func (b *books) open(id types.ChannelID) (sum types.Amount) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, l := range b.locks {
		if l.channel == id {
			sum += l.amount
		}
	}
	return sum
}

// asks has an honest daemon pay Mallory, again and again until it ends otherwise than by a daemon that has seen no block lately.
func (s *scene) asks(from *devnet.Node, m *mallory.Daemon, amount types.Amount) {
	s.t.Helper()
	inv, err := m.CreateInvoice(s.ctx(), chand.InvoiceRequest{Amount: amount})
	s.must(err)
	ctx := s.ctx()
	s.aside(func() {
		for ctx.Err() == nil {
			p, err := from.Payments.Pay(ctx, &chandv1.PayRequest{Invoice: inv.Text})
			if err == nil && (p.State != "failed" || !slices.Contains(passing, p.Failure.GetRule())) {
				return
			}
		}
	})
}

// offers has Mallory pay an honest daemon likewise.
func (s *scene) offers(m *mallory.Daemon, to *devnet.Node, amount types.Amount) {
	s.t.Helper()
	inv := must(to.Payments.CreateInvoice(s.ctx(), &chandv1.CreateInvoiceRequest{Amount: amount.String()}))
	ctx := s.ctx()
	s.aside(func() {
		for ctx.Err() == nil {
			p, err := m.Pay(ctx, chand.PayRequest{Invoice: inv.Invoice})
			if err == nil && (p.State != chand.PaymentFailed || p.Failure == nil || !slices.Contains(passing, p.Failure.Rule)) {
				return
			}
		}
	})
}

// aside runs fn beside the scene, which waits for its end: its context ends with the scene.
func (s *scene) aside(fn func()) {
	done := make(chan struct{})
	go func() { defer close(done); fn() }()
	s.t.Cleanup(func() { <-done })
}

// force closes bob's side of a channel.
func (s *scene) force(d *devnet.Node, id types.ChannelID) {
	s.t.Helper()
	_, err := d.Channels.Close(s.ctx(), &chandv1.CloseChannelRequest{Id: id.String(), Force: true})
	s.must(err)
}

func closeChannel(s *scene, id types.ChannelID, force bool) (*chandv1.Channel, error) {
	return s.bob.Channels.Close(s.ctx(), &chandv1.CloseChannelRequest{Id: id.String(), Force: force})
}

// lock is an unspent output of a settled contract.
func (b *books) lock(id types.ChannelID) (ledger.OutPoint, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for at, l := range b.locks {
		if l.channel == id {
			return at, true
		}
	}
	return ledger.OutPoint{}, false
}
