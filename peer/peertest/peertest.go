// Package peertest is the test suite that every transport passes: libp2p and its memory twin.
package peertest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/wire"
)

// Transport is what the daemon needs of a transport, and what its owner does with it.
type Transport interface {
	Self() types.NodeID
	Connect(ctx context.Context, peer types.NodeID, addr string) error
	Send(peer types.NodeID, frame []byte) error
	Drop(peer types.NodeID, reason string)
	Peers() []types.PeerInfo
	Handle(h types.LinkHandler)
	Addrs() []string
	Keep(peer types.NodeID)
	Close() error
}

// Fleet makes transports that can reach each other. Each call makes one.
type Fleet func() Transport

// patience is how long a test waits for what must come; it is never waited out when all is well, however busy the machine.
const patience = 2 * time.Minute

// Run runs the suite; wrap surrounds each test (with a synctest bubble, or with nothing).
func Run(t *testing.T, wrap func(*testing.T, func(*testing.T)), fleet func(*testing.T) Fleet) {
	tests := []struct {
		name string
		run  func(*testing.T, Fleet)
	}{
		{"frames both ways in order", testFrames},
		{"sizes", testSizes},
		{"no link", testNoLink},
		{"connect twice", testConnectTwice},
		{"connect waits for the handler", testConnectWaits},
		{"drop and connect again", testDrop},
		{"drop from the handler", testDropInHandler},
		{"both connect at once", testSimultaneous},
		{"many senders", testManySenders},
		{"slow reader", testSlowReader},
		{"slow reader harms nobody else", testSlowIsAlone},
		{"close", testClose},
		{"keep", testKeep},
		{"connect to itself", testSelf},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { wrap(t, func(t *testing.T) { tt.run(t, fleet(t)) }) })
	}
}

// event is one call of a handler.
type event struct {
	what  string // up, down, frame
	peer  types.NodeID
	frame []byte
}

// node is a transport whose handler checks the pairing of up and down and hands everything to the test.
type node struct {
	Transport
	t       *testing.T
	events  chan event
	onFrame func(types.NodeID, []byte) // set before start; nil: frames go to events

	mu    sync.Mutex
	state map[types.NodeID]string // guarded by mu: "up" or "down"
	busy  map[types.NodeID]bool   // guarded by mu: a handler is running
}

func start(t *testing.T, f Fleet, onFrame func(types.NodeID, []byte)) *node {
	n := &node{Transport: f(), t: t, events: make(chan event, 1<<16), onFrame: onFrame,
		state: make(map[types.NodeID]string), busy: make(map[types.NodeID]bool)}
	n.Handle(types.LinkHandler{
		OnUp:    func(p types.NodeID) { n.handle("up", p, nil) },
		OnDown:  func(p types.NodeID) { n.handle("down", p, nil) },
		OnFrame: func(p types.NodeID, frame []byte) { n.handle("frame", p, frame) },
	})
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		n.mu.Lock()
		defer n.mu.Unlock()
		for p, s := range n.state {
			if s == "up" {
				t.Errorf("%s was up and never went down", p)
			}
		}
	})
	return n
}

// handle checks that the calls for one peer come one at a time and in a possible order.
func (n *node) handle(what string, p types.NodeID, frame []byte) {
	n.mu.Lock()
	if n.busy[p] {
		n.t.Errorf("%s: called while another handler of the same peer runs", what)
	}
	n.busy[p] = true
	was := n.state[p]
	if (what == "up") == (was == "up") {
		n.t.Errorf("%s of a peer that is %q", what, was)
	}
	if what != "frame" {
		n.state[p] = what
	}
	n.mu.Unlock()
	if what == "frame" && n.onFrame != nil {
		n.onFrame(p, frame)
	} else {
		n.events <- event{what, p, frame}
	}
	n.mu.Lock()
	n.busy[p] = false
	n.mu.Unlock()
}

// want waits for the next event and checks it.
func (n *node) want(what string, p *node) event {
	n.t.Helper()
	select {
	case e := <-n.events:
		if e.what != what || e.peer != p.Self() {
			n.t.Fatalf("got %s of %s, want %s of %s", e.what, e.peer, what, p.Self())
		}
		return e
	case <-time.After(patience):
		n.t.Fatalf("no %s of %s", what, p.Self())
	}
	return event{}
}

func connect(t *testing.T, a, b *node) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := a.Connect(ctx, b.Self(), b.Addrs()[0]); err != nil {
		t.Fatalf("connect: %v", err)
	}
}

func linked(t *testing.T, f Fleet) (a, b *node) {
	t.Helper()
	a, b = start(t, f, nil), start(t, f, nil)
	connect(t, a, b)
	a.want("up", b)
	b.want("up", a)
	return a, b
}

func testFrames(t *testing.T, f Fleet) {
	a, b := linked(t, f)
	const count = 2000
	send := func(from, to *node) {
		frame := make([]byte, 200)
		for i := range uint32(count) {
			binary.BigEndian.PutUint32(frame, i)
			if err := from.Send(to.Self(), frame[:4+i%197]); err != nil {
				t.Errorf("send %d: %v", i, err)
				return
			}
		}
	}
	var wg sync.WaitGroup
	wg.Go(func() { send(a, b) })
	wg.Go(func() { send(b, a) })
	for i := range uint32(count) {
		for _, e := range []event{a.want("frame", b), b.want("frame", a)} {
			if got := binary.BigEndian.Uint32(e.frame); got != i || len(e.frame) != int(4+i%197) {
				t.Fatalf("frame %d of %d bytes came as number %d", got, len(e.frame), i)
			}
		}
	}
	wg.Wait()
	pa, pb := a.Peers(), b.Peers()
	if len(pa) != 1 || pa[0].ID != b.Self() || pa[0].Inbound || pa[0].Addr == "" {
		t.Errorf("peers of the one who connected: %+v", pa)
	}
	if len(pb) != 1 || pb[0].ID != a.Self() || !pb[0].Inbound {
		t.Errorf("peers of the other: %+v", pb)
	}
}

func testSizes(t *testing.T, f Fleet) {
	a, b := linked(t, f)
	for _, size := range []int{0, wire.MaxFrame + 1} {
		if err := a.Send(b.Self(), make([]byte, size)); err == nil {
			t.Errorf("a frame of %d bytes was taken", size)
		}
	}
	for _, size := range []int{wire.MaxFrame, 1, wire.MaxFrame - 1} {
		frame := make([]byte, size)
		frame[size-1] = byte(size)
		if err := a.Send(b.Self(), frame); err != nil {
			t.Fatal(err)
		}
		frame[size-1]++ // the frame was copied
		if e := b.want("frame", a); len(e.frame) != size || e.frame[size-1] != byte(size) {
			t.Errorf("%d bytes came, want %d as they were", len(e.frame), size)
		}
	}
}

func testNoLink(t *testing.T, f Fleet) {
	a, b := start(t, f, nil), start(t, f, nil)
	if err := a.Send(b.Self(), []byte("x")); err == nil {
		t.Error("sent without a link")
	}
	a.Drop(b.Self(), "there is none")
	if p := a.Peers(); len(p) != 0 {
		t.Errorf("peers: %v", p)
	}
	addr := b.Addrs()[0]
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := a.Connect(ctx, b.Self(), addr); err == nil {
		t.Error("connected to a closed node")
	}
}

func testConnectTwice(t *testing.T, f Fleet) {
	a, b := linked(t, f)
	connect(t, a, b)
	connect(t, b, a)
	if err := b.Send(a.Self(), []byte("one link")); err != nil {
		t.Fatal(err)
	}
	a.want("frame", b) // and nothing went down or up before it
}

// testConnectWaits: what the handler knows of a peer is known to whoever called Connect.
func testConnectWaits(t *testing.T, f Fleet) {
	a, b := f(), start(t, f, nil)
	entered, gate := make(chan struct{}), make(chan struct{})
	a.Handle(types.LinkHandler{OnUp: func(types.NodeID) { close(entered); <-gate }})
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	release := sync.OnceFunc(func() { close(gate) })
	t.Cleanup(release) // before Close, which waits for the handler
	result := make(chan error, 1)
	go func() { result <- a.Connect(context.Background(), b.Self(), b.Addrs()[0]) }()
	select {
	case <-entered:
	case err := <-result:
		t.Fatalf("connect ended before the handler was called: %v", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond) // one that does not wait needs less
	defer cancel()
	if err := a.Connect(ctx, b.Self(), b.Addrs()[0]); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("connected while the handler did not know yet: %v", err)
	}
	release()
	if err := <-result; err != nil {
		t.Errorf("connect: %v", err)
	}
}

func testDrop(t *testing.T, f Fleet) {
	a, b := linked(t, f)
	for i := range 20 {
		x, y := a, b
		if i%2 == 1 {
			x, y = b, a
		}
		x.Drop(y.Self(), "test")
		if err := x.Send(y.Self(), []byte("x")); err == nil {
			t.Error("sent after a drop")
		}
		connect(t, x, y) // at once: the other may not have noticed yet
		for _, n := range []*node{x, y} {
			other := map[*node]*node{x: y, y: x}[n]
			n.want("down", other)
			n.want("up", other)
		}
		if err := x.Send(y.Self(), []byte{byte(i)}); err != nil {
			t.Fatal(err)
		}
		if e := y.want("frame", x); e.frame[0] != byte(i) {
			t.Errorf("frame %d after drop %d", e.frame[0], i)
		}
	}
}

func testDropInHandler(t *testing.T, f Fleet) {
	a := start(t, f, nil)
	var b *node
	frames := 0
	b = start(t, f, func(p types.NodeID, _ []byte) { frames++; b.Drop(p, "one is enough") })
	connect(t, a, b)
	a.want("up", b)
	b.want("up", a)
	for range 100 {
		_ = a.Send(b.Self(), []byte("x")) // fails once the drop is known here
	}
	b.want("down", a)
	a.want("down", b)
	if frames != 1 {
		t.Errorf("%d frames were delivered, want none after the drop", frames)
	}
}

func testSimultaneous(t *testing.T, f Fleet) {
	a, b := start(t, f, nil), start(t, f, nil)
	for i := range 30 {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		var wg sync.WaitGroup
		for _, p := range [][2]*node{{a, b}, {b, a}, {a, b}} {
			wg.Go(func() {
				if err := p[0].Connect(ctx, p[1].Self(), p[1].Addrs()[0]); err != nil {
					t.Errorf("round %d: %v", i, err)
				}
			})
		}
		wg.Wait()
		cancel()
		if t.Failed() {
			return
		}
		a.want("up", b)
		b.want("up", a)
		for _, p := range [][2]*node{{a, b}, {b, a}} {
			if err := p[0].Send(p[1].Self(), []byte("on the same link")); err != nil {
				t.Fatalf("round %d: %v", i, err)
			}
			p[1].want("frame", p[0])
		}
		if len(a.Peers()) != 1 || len(b.Peers()) != 1 || a.Peers()[0].Inbound == b.Peers()[0].Inbound {
			t.Errorf("round %d: %+v and %+v: want one link, in one direction", i, a.Peers(), b.Peers())
		}
		a.Drop(b.Self(), "next round")
		a.want("down", b)
		b.want("down", a)
	}
}

func testManySenders(t *testing.T, f Fleet) {
	a, b := linked(t, f)
	const senders, each = 8, 200
	var wg sync.WaitGroup
	for s := range senders {
		wg.Go(func() {
			for i := range each {
				if err := a.Send(b.Self(), fmt.Appendf(nil, "%d %d", s, i)); err != nil {
					t.Errorf("send: %v", err)
					return
				}
			}
		})
	}
	var next [senders]int
	for range senders * each {
		var s, i int
		if _, err := fmt.Sscanf(string(b.want("frame", a).frame), "%d %d", &s, &i); err != nil || i != next[s] {
			t.Fatalf("frame %d of sender %d, want %d (%v)", i, s, next[s], err)
		}
		next[s]++
	}
	wg.Wait()
}

// stuck makes a node whose frame handler waits for release.
func stuck(t *testing.T, f Fleet) (n *node, release func()) {
	gate := make(chan struct{})
	n = start(t, f, func(types.NodeID, []byte) { <-gate })
	release = sync.OnceFunc(func() { close(gate) })
	t.Cleanup(release) // before the node's own cleanup
	return n, release
}

func testSlowReader(t *testing.T, f Fleet) {
	a := start(t, f, nil)
	b, release := stuck(t, f)
	connect(t, a, b)
	a.want("up", b)
	b.want("up", a)
	var err error
	frame, sent := make([]byte, wire.MaxFrame), 0
	for err == nil && sent < 1000 { // a thousand frames of a MiB do not fit anywhere
		err = a.Send(b.Self(), frame)
		sent++
	}
	if err == nil {
		t.Fatal("everything was queued for a peer that does not read")
	}
	a.want("down", b)
	release()
	b.want("down", a)
	if got := b.Peers(); len(got) != 0 {
		t.Errorf("peers after the drop: %v", got)
	}
}

func testSlowIsAlone(t *testing.T, f Fleet) {
	a, c := start(t, f, nil), start(t, f, nil)
	b, _ := stuck(t, f)
	for _, n := range []*node{b, c} {
		connect(t, a, n)
		a.want("up", n)
		n.want("up", a)
	}
	for range 8 { // b blocks in its handler; c goes on
		if err := a.Send(b.Self(), make([]byte, wire.MaxFrame)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 100 {
		if err := a.Send(c.Self(), []byte{byte(i)}); err != nil {
			t.Fatal(err)
		}
		c.want("frame", a)
	}
}

func testClose(t *testing.T, f Fleet) {
	a, b := linked(t, f)
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	a.want("down", b) // Close has waited for it
	b.want("down", a)
	if err := a.Send(b.Self(), []byte("x")); err == nil {
		t.Error("sent after Close")
	}
	if err := a.Connect(context.Background(), b.Self(), b.Addrs()[0]); err == nil {
		t.Error("connected after Close")
	}
}

func testKeep(t *testing.T, f Fleet) {
	a, b := linked(t, f)
	a.Keep(b.Self())
	for range 3 {
		b.Drop(a.Self(), "test")
		for _, what := range []string{"down", "up"} {
			a.want(what, b)
			b.want(what, a)
		}
	}
}

func testSelf(t *testing.T, f Fleet) {
	a := start(t, f, nil)
	if err := a.Connect(context.Background(), a.Self(), a.Addrs()[0]); err == nil {
		t.Error("connected to itself")
	}
	if got := a.Peers(); !slices.Equal(got, nil) {
		t.Errorf("peers: %v", got)
	}
}
