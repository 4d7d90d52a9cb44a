package library_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eschaton-network/chand/chand/library"
	"github.com/eschaton-network/chand/dht/memdht"
	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/pubsub/memgossip"
	"github.com/eschaton-network/chand/statement"
	"github.com/eschaton-network/chand/statement/query"
	"github.com/eschaton-network/chand/store/memstore"
	"github.com/eschaton-network/chand/types"
)

// world is a network of libraries under fake time, and a ledger of which only the height matters.
type world struct {
	t      *testing.T
	gossip *memgossip.Network
	dht    *memdht.Network
	height atomic.Uint32
}

var genesis = types.SHA256([]byte("genesis"))

func bubble(t *testing.T, fn func(t *testing.T, w *world)) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, gossip: memgossip.New(), dht: memdht.New()}
		w.height.Store(100)
		fn(t, w)
	})
}

func blockAt(h types.Height) types.Hash { return types.SHA256(fmt.Appendf(nil, "block %d", h)) }

func (w *world) head() (ledger.BlockInfo, bool) {
	h := types.Height(w.height.Load())
	return ledger.BlockInfo{Height: h, Time: types.Time(h), Hash: blockAt(h)}, true
}

func seed(i int) (s types.Seed) { s[0] = byte(i); return s }

func id(i int) types.NodeID { return seed(i).NodeID() }

// node is a library that runs.
type node struct {
	*library.Library
	w          *world
	i          int
	store      *memstore.Store
	gossip     *memgossip.Node
	dht        *memdht.Node
	neighbours atomic.Pointer[[]types.NodeID]
	fresh      atomic.Int32
	stop       context.CancelFunc
	ended      chan error
}

type option func(*library.Config)

func (w *world) start(i int, store *memstore.Store, opts ...option) *node {
	w.t.Helper()
	n := &node{w: w, i: i, store: store, gossip: w.gossip.Node(id(i)), dht: w.dht.Node(id(i)), ended: make(chan error, 1)}
	n.neighbours.Store(&[]types.NodeID{})
	cfg := library.Config{
		Store: store, Gossip: n.gossip, Directory: n.dht, Head: w.head, Genesis: genesis,
		Blocks:          func(h types.Height) (types.Hash, types.Time, error) { return blockAt(h), types.Time(h), nil },
		StatementSecret: seed(i).StatementSecret(), NodeKey: seed(i).NodeKey(), AccountSecret: seed(i).AccountSecret(),
		Account:    func() types.AccountID { return types.AccountID{Node: 1, User: uint32(i)} },
		Neighbours: func() []types.NodeID { return *n.neighbours.Load() },
		Clock:      time.Now, Accepted: func(*statement.Statement) { n.fresh.Add(1) },
	}
	for _, o := range opts {
		o(&cfg)
	}
	var err error
	if n.Library, err = library.New(cfg); err != nil {
		w.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	n.stop = stop
	go func() { n.ended <- n.Run(ctx) }()
	w.t.Cleanup(func() { n.end() })
	synctest.Wait()
	return n
}

// connect makes two nodes neighbours.
func connect(a, b *node) {
	for _, p := range [][2]*node{{a, b}, {b, a}} {
		list := append(slices.Clone(*p[0].neighbours.Load()), id(p[1].i))
		p[0].neighbours.Store(&list)
	}
	a.PeerUp(id(b.i))
	b.PeerUp(id(a.i))
}

// end takes the node off the network and returns why its library ended.
func (n *node) end() error {
	n.stop()
	err := <-n.ended
	n.ended <- err
	_ = n.gossip.Close()
	_ = n.dht.Close()
	return err
}

func draft(subject, path string, value any) library.Draft {
	return library.Draft{Subjects: []string{subject}, Attributes: statement.Attributes{path: value}}
}

func (n *node) say(d library.Draft) library.Stored {
	n.w.t.Helper()
	s, err := n.Publish(context.Background(), d)
	if err != nil {
		n.w.t.Fatal(err)
	}
	return s
}

func (n *node) count(expression string) int {
	n.w.t.Helper()
	p, err := n.Query(context.Background(), expression, 1000, "")
	if err != nil {
		n.w.t.Fatal(err)
	}
	return len(p.Statements)
}

func TestGossipAndQuery(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a, b := w.start(1, memstore.New()), w.start(2, memstore.New())
		connect(a, b)
		time.Sleep(3 * time.Second)
		s := a.say(draft("http://example.org/", "rating", int64(5)))
		time.Sleep(time.Second)
		got, err := b.Get(s.ID)
		if err != nil {
			t.Fatal(err)
		}
		if got.Node != id(1) || !got.InForce || !bytes.Equal(got.Bytes(), s.Bytes()) {
			t.Errorf("b has it from %s, in force %v", got.Node, got.InForce)
		}
		if got.NotBefore == nil || got.NotBefore.Height != 100 || got.NotBefore.Time != 100 || got.From != 100 || got.Until != 100+30*86400 {
			t.Errorf("not before %+v, valid %d to %d", got.NotBefore, got.From, got.Until)
		}
		if n := b.count(`attributes.rating > 4 && "http://example.org/" in subjects`); n != 1 {
			t.Errorf("%d found, want 1", n)
		}
		if n := b.count(`attributes.rating > 5`); n != 0 {
			t.Errorf("%d found, want none", n)
		}
		if _, err := b.Query(t.Context(), `rating >`, 0, ""); !errors.Is(err, query.ErrQuery) {
			t.Errorf("broken expression: %v", err)
		}
		if _, err := b.Query(t.Context(), ``, 0, "page 2"); !errors.Is(err, library.ErrToken) {
			t.Errorf("broken token: %v", err)
		}
		if b.fresh.Load() != 3 { // two links and the rating
			t.Errorf("%d events, want 3", b.fresh.Load())
		}
		if n := a.count(`schema == "` + statement.LinkSchema.String() + `"`); n != 2 {
			t.Errorf("%d link statements, want 2", n)
		}
	})
}

func TestPublish(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a := w.start(1, memstore.New())
		d := draft("word:thing", "price", int64(3))
		d.IdempotencyKey = "k"
		first := a.say(d)
		time.Sleep(time.Hour)
		if again := a.say(d); again.ID != first.ID {
			t.Error("the same key made another statement")
		}
		a.end()
		a = w.start(1, a.store.Reopen())
		if again := a.say(d); again.ID != first.ID {
			t.Error("the same key made another statement after a restart")
		}
		other := draft("word:thing", "price", int64(4))
		other.IdempotencyKey = "k"
		if _, err := a.Publish(t.Context(), other); !errors.Is(err, library.ErrConflict) {
			t.Errorf("the key of another draft: %v", err)
		}
		for name, bad := range map[string]library.Draft{
			"no subject": {Attributes: statement.Attributes{"a": int64(1)}}, "float": draft("word:thing", "a", 1.5),
			"not ours": {Subjects: []string{"word:thing"}, Revokes: []statement.ID{{1}}}, "long key": {Subjects: []string{"word:x"}, IdempotencyKey: string(make([]byte, 129))},
		} {
			if _, err := a.Publish(t.Context(), bad); !errors.Is(err, library.ErrDraft) {
				t.Errorf("%s: %v", name, err)
			}
		}
		next := draft("word:thing", "price", int64(5))
		next.ValidBlocks, next.Supersedes = 10, []statement.ID{first.ID}
		second := a.say(next)
		if second.Until != first.Until {
			t.Errorf("valid until %d, what it supersedes until %d: that would come back", second.Until, first.Until)
		}
		if n := a.count("has(attributes.price)"); n != 1 {
			t.Errorf("%d prices, want the new one", n)
		}
		a.say(library.Draft{Subjects: []string{"word:thing"}, Revokes: []statement.ID{second.ID}})
		if n := a.count("has(attributes.price)"); n != 0 {
			t.Errorf("%d prices after the revocation", n)
		}
		if _, err := a.Publish(t.Context(), d); !errors.Is(err, library.ErrNotFound) {
			t.Errorf("the key of a statement that was superseded: %v", err)
		}
		if err := library.Check(a.store); err != nil {
			t.Error(err)
		}
	})
}

// TestLateJoiner: what was published before is known to who comes later, over several hops, also from one who has left.
func TestLateJoiner(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a, b := w.start(1, memstore.New()), w.start(2, memstore.New())
		connect(a, b)
		var ids []statement.ID
		for i := range 300 {
			ids = append(ids, a.say(draft("word:thing", "n", int64(i))).ID)
		}
		time.Sleep(10 * time.Second)
		a.end()
		c := w.start(3, memstore.New())
		connect(b, c)
		time.Sleep(5 * time.Second)
		if n := c.count(`attributes.n >= 0`); n != len(ids) {
			t.Errorf("c has %d of %d", n, len(ids))
		}
		// gossip that is lost is made up later
		w.gossip.Lose(func(_, to types.NodeID, _ string) bool { return to == id(3) })
		s := b.say(draft("word:thing", "lost", true))
		time.Sleep(time.Second)
		if _, err := c.Get(s.ID); !errors.Is(err, library.ErrNotFound) {
			t.Fatalf("it was not lost: %v", err)
		}
		time.Sleep(12 * time.Minute)
		if _, err := c.Get(s.ID); err != nil {
			t.Error(err)
		}
	})
}

// TestCrashAtEveryCommit: what Publish has answered is there after a crash; what it has not, the key finds or makes.
func TestCrashAtEveryCommit(t *testing.T) {
	for _, fault := range []memstore.Fault{memstore.NotDone, memstore.DoneButFailed} {
		for n := 1; n <= 5; n++ {
			t.Run(fmt.Sprintf("%d/%d", fault, n), func(t *testing.T) {
				bubble(t, func(t *testing.T, w *world) {
					b := w.start(2, memstore.New())
					store := memstore.New()
					store.FailAt(n, fault)
					a := w.start(1, store)
					crashes := 0
					var ids []statement.ID
					for i := range 6 {
						d := draft("word:thing", "n", int64(i))
						d.IdempotencyKey = fmt.Sprint(i)
						s, err := a.Publish(t.Context(), d)
						if err != nil {
							if !errors.Is(err, library.ErrStopped) || !errors.Is(a.end(), memstore.ErrInjected) {
								t.Fatal(err)
							}
							crashes++
							a = w.start(1, a.store.Reopen())
							s = a.say(d)
						}
						ids = append(ids, s.ID)
						time.Sleep(time.Second)
					}
					if crashes != 1 {
						t.Errorf("%d crashes, want 1", crashes)
					}
					connect(a, b)
					time.Sleep(5 * time.Second)
					for _, x := range []*node{a, b} {
						if got := x.count(`issuer == "` + a.Key().String() + `" && has(attributes.n)`); got != len(ids) {
							t.Errorf("node %d has %d statements, want %d", x.i, got, len(ids))
						}
					}
					if got := a.count(`schema == "` + statement.LinkSchema.String() + `" && issuer == "` + a.Key().String() + `"`); got != 1 {
						t.Errorf("%d own links in force, want 1", got)
					}
					if err := library.Check(a.store); err != nil {
						t.Error(err)
					}
				})
			})
		}
	}
}

// stranger signs statements without a library.
func stranger(i int, body statement.Body) *statement.Statement {
	if body.Ledger.IsZero() {
		body.Ledger = genesis
	}
	if body.Subjects == nil {
		body.Subjects = []string{"word:thing"}
	}
	s, err := statement.Sign(body, seed(i).StatementSecret())
	if err != nil {
		panic(err)
	}
	return s
}

// tap joins the topic on a node of its own and sends what it is told.
func (w *world) tap(i int) func(data []byte) {
	g := w.gossip.Node(id(i))
	w.t.Cleanup(func() { _ = g.Close() })
	accept := func(types.NodeID, []byte) types.Verdict { return types.Accept }
	if err := g.Join(library.Topic, accept, func(types.NodeID, []byte) {}); err != nil {
		w.t.Fatal(err)
	}
	return func(data []byte) {
		w.t.Helper()
		if err := g.Publish(context.Background(), library.Topic, data); err != nil {
			w.t.Fatal(err)
		}
		synctest.Wait()
	}
}

func TestBadGossip(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a := w.start(1, memstore.New())
		send := w.tap(9)
		time.Sleep(time.Second)
		before := a.count("")
		good := stranger(9, statement.Body{Attributes: statement.Attributes{"ok": true}})
		forged := bytes.Clone(good.Bytes())
		forged[len(forged)-1] ^= 1
		link, err := statement.NewLink(statement.Body{Ledger: genesis}, statement.LinkKeys{Statement: seed(9).StatementSecret(), Node: seed(8).NodeKey()})
		if err != nil {
			t.Fatal(err)
		}
		stolen := stranger(7, link.Body) // the node's signature is for another key
		for name, data := range map[string][]byte{
			"forged": forged, "oversized": make([]byte, statement.MaxSize+1), "truncated": good.Bytes()[:40], "trailing": append(bytes.Clone(good.Bytes()), 0),
			"other ledger": stranger(9, statement.Body{Ledger: types.Hash{1}}).Bytes(), "ended": stranger(9, statement.Body{Until: 99}).Bytes(),
			"ahead":  stranger(9, statement.Body{NotBefore: []types.BlockRef{{Height: 5000}}}).Bytes(),
			"stolen": stolen.Bytes(),
		} {
			send(data)
			if n := a.count(""); n != before {
				t.Errorf("%s was taken", name)
				before = n
			}
		}
		send(good.Bytes())
		if _, err := a.Get(good.ID); err != nil {
			t.Error("a good one was not taken")
		}
		commits := a.store.Commits()
		send(good.Bytes())
		if a.store.Commits() != commits {
			t.Error("a known one was stored again")
		}
	})
}

func TestExpiry(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a := w.start(1, memstore.New())
		d := draft("word:thing", "short", true)
		d.ValidBlocks = 50
		s := a.say(d)
		w.height.Store(151)
		if got, err := a.Get(s.ID); err != nil || got.InForce {
			t.Errorf("in force %v after its end, %v", got.InForce, err)
		}
		time.Sleep(2 * time.Minute)
		if _, err := a.Get(s.ID); !errors.Is(err, library.ErrNotFound) {
			t.Errorf("still held: %v", err)
		}
		a.end()
		a = w.start(1, a.store.Reopen())
		if _, err := a.Get(s.ID); !errors.Is(err, library.ErrNotFound) {
			t.Errorf("held again after a restart: %v", err)
		}
		// the link is renewed in time
		w.height.Store(100 + 29*86400)
		time.Sleep(2 * time.Minute)
		if n := a.count(`schema == "` + statement.LinkSchema.String() + `" && until > 50 * 86400`); n != 1 {
			t.Errorf("%d links with a new end, want 1", n)
		}
	})
}

// TestBounds fills a small library and sees who gives way to whom.
func TestBounds(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		small := func(c *library.Config) { c.Limits = statement.Limits{Total: 40, PerIssuer: 30} }
		a := w.start(1, memstore.New(), small)
		send := w.tap(9)
		say := func(i, n int, subject string) {
			for k := range n {
				send(stranger(i, statement.Body{Subjects: []string{subject}, Issued: types.Time(k), Attributes: statement.Attributes{"from": int64(i)}}).Bytes())
			}
		}
		say(9, 35, "word:x") // more than one issuer may have
		if n := a.count("attributes.from == 9"); n != 30 {
			t.Errorf("an issuer has %d, want 30", n)
		}
		say(8, 20, "word:x") // strangers share the room
		n8, n9 := a.count("attributes.from == 8"), a.count("attributes.from == 9")
		if n8+n9 != 39 || n8 < 19 || n9 < 19 {
			t.Errorf("two strangers have %d and %d of 39", n8, n9)
		}
		say(7, 20, "peer:"+id(1).String()) // about us: up to a share
		if n := a.count("attributes.from == 7"); n < 10 || n > 14 {
			t.Errorf("%d about us, want a quarter and the stranger's part", n)
		}
		for k := range 25 {
			a.say(draft("word:y", "own", int64(k)))
		}
		if n := a.count("has(attributes.own)"); n != 25 {
			t.Errorf("%d of our own, want 25", n)
		}
		if n := a.count(""); n != 40 {
			t.Errorf("%d are held, want 40", n)
		}
		if err := library.Check(a.store); err != nil {
			t.Error(err)
		}
		a.end()
		a = w.start(1, a.store.Reopen(), small)
		if n := a.count(""); n != 40 {
			t.Errorf("%d after a restart, want 40", n)
		}
	})
}
