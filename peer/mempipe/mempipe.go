// Package mempipe is the memory twin of package peer: links between daemons of one process, made of channels and
// time only, so that whole networks run in a testing/synctest bubble. Faults come on demand: lost links, partitions, delay.
package mempipe

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/wire"
)

const (
	// maxQueue bounds the bytes on the way to a peer, as package peer does.
	maxQueue = 16 << 20
	// retry is how often a kept peer is tried again.
	retry = time.Second
)

var (
	// ErrNoLink means that the peer is not connected.
	ErrNoLink = errors.New("no link to the peer")
	// ErrSlow means that the peer did not take what was queued for it; the link was dropped.
	ErrSlow = errors.New("the peer is too slow, link dropped")
	// ErrFrameSize means that a frame is empty or larger than wire.MaxFrame.
	ErrFrameSize = errors.New("frame of impossible size")
	// ErrUnreachable means that the peer is not there, or cut off.
	ErrUnreachable = errors.New("the peer cannot be reached")
	// ErrClosed is returned by everything after Close.
	ErrClosed = errors.New("the peer port is closed")
)

// Network connects the nodes of one process.
type Network struct {
	mu    sync.Mutex
	nodes map[types.NodeID]*Node // guarded by mu; the ones that are up
	cut   map[pair]bool          // guarded by mu
	delay time.Duration          // guarded by mu
}

// pair names two nodes, the smaller first.
type pair struct{ a, b types.NodeID }

func pairOf(a, b types.NodeID) pair {
	if bytes.Compare(a[:], b[:]) > 0 {
		a, b = b, a
	}
	return pair{a, b}
}

// New makes a network without nodes and delay.
func New() *Network {
	return &Network{nodes: make(map[types.NodeID]*Node), cut: make(map[pair]bool)}
}

// Node starts a node; one that ran under this id must have been closed.
func (w *Network) Node(id types.NodeID) *Node {
	n := &Node{net: w, self: id, ends: make(map[types.NodeID]*end), kept: make(map[types.NodeID]context.CancelFunc)}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.nodes[id] != nil {
		panic(fmt.Sprintf("mempipe: node %s is up already", id))
	}
	w.nodes[id] = n
	return n
}

// SetDelay makes every frame sent from now on take this long.
func (w *Network) SetDelay(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.delay = d
}

// Break ends the link between two nodes; frames on the way are lost. They may connect again.
func (w *Network) Break(a, b types.NodeID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.breakLink(a, b)
}

func (w *Network) breakLink(a, b types.NodeID) {
	if n := w.nodes[a]; n != nil && n.ends[b] != nil {
		n.ends[b].finish()
	}
	if n := w.nodes[b]; n != nil && n.ends[a] != nil {
		n.ends[a].finish()
	}
}

// Cut breaks the link between two nodes and keeps them apart until Heal.
func (w *Network) Cut(a, b types.NodeID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut[pairOf(a, b)] = true
	w.breakLink(a, b)
}

// Heal undoes Cut.
func (w *Network) Heal(a, b types.NodeID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.cut, pairOf(a, b))
}

// Partition cuts every node of the group from every other node that is up now.
func (w *Network) Partition(group ...types.NodeID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, a := range group {
		for b := range w.nodes {
			if !slices.Contains(group, b) {
				w.cut[pairOf(a, b)] = true
				w.breakLink(a, b)
			}
		}
	}
}

// HealAll undoes all cuts.
func (w *Network) HealAll() {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.cut)
}

// Node is one daemon's port. Safe for concurrent use.
type Node struct {
	net  *Network
	self types.NodeID
	wg   sync.WaitGroup

	handler types.LinkHandler                   // guarded by net.mu, set once
	handled bool                                // guarded by net.mu
	closed  bool                                // guarded by net.mu
	ends    map[types.NodeID]*end               // guarded by net.mu; the newest end of each link, until its OnDown returned
	kept    map[types.NodeID]context.CancelFunc // guarded by net.mu
}

// end is one side of a link: frames on their way to its node. All fields that change are guarded by Network.mu.
type end struct {
	node    *Node
	peer    types.NodeID
	other   *end
	inbound bool
	prev    *end
	queue   []item
	bytes   int
	over    bool
	live    bool
	wake    chan struct{} // one token when the queue has grown
	ended   chan struct{} // closed with over
	up      chan struct{} // closed when OnUp has returned, or when the link ended before it was called
	done    chan struct{} // closed after OnDown
}

type item struct {
	frame []byte
	at    time.Time
}

// finish ends one side. Call with Network.mu held.
func (e *end) finish() {
	if !e.over {
		e.over, e.live, e.queue, e.bytes = true, false, nil, 0
		close(e.ended)
	}
}

// Self is this node's id.
func (n *Node) Self() types.NodeID { return n.self }

// Addrs is what others may give to Connect; the network finds nodes by id alone.
func (n *Node) Addrs() []string { return []string{"/memory/" + n.self.String()} }

// Reach does nothing: everybody can be asked.
func (n *Node) Reach(context.Context, types.NodeID, string) error { return nil }

// AddAddr does nothing: ids are addresses here.
func (n *Node) AddAddr(types.NodeID, string) error { return nil }

// Handle sets the handler and begins to accept links. It must be called once; a second call panics.
func (n *Node) Handle(h types.LinkHandler) {
	n.net.mu.Lock()
	defer n.net.mu.Unlock()
	if n.handled {
		panic("mempipe: Handle called twice")
	}
	n.handler, n.handled = h, true
}

// Connect makes a link or waits for the one in the making; nil means that it is up and OnUp has returned. It must not be
// called from a link handler.
func (n *Node) Connect(ctx context.Context, id types.NodeID, _ string) error {
	for {
		n.net.mu.Lock()
		e, delay := n.ends[id], n.net.delay
		var err error
		if e == nil {
			e, err = n.join(id)
		}
		n.net.mu.Unlock()
		if err != nil {
			return err
		}
		select {
		case <-e.up:
		case <-ctx.Done():
			return fmt.Errorf("connect to %s: %w", id, ctx.Err())
		}
		select { // the way there and back takes time
		case <-e.ended:
		case <-time.After(2 * delay):
		case <-ctx.Done():
			return fmt.Errorf("connect to %s: %w", id, ctx.Err())
		}
		if n.alive(e) {
			return nil
		}
		select { // it was just ending
		case <-e.done:
		case <-ctx.Done():
			return fmt.Errorf("connect to %s: %w", id, ctx.Err())
		}
	}
}

func (n *Node) alive(e *end) bool {
	n.net.mu.Lock()
	defer n.net.mu.Unlock()
	return e.live
}

// join makes both ends of a link. Call with net.mu held.
func (n *Node) join(id types.NodeID) (*end, error) {
	other := n.net.nodes[id]
	switch {
	case n.closed:
		return nil, ErrClosed
	case !n.handled:
		return nil, errors.New("mempipe: Connect before Handle")
	case id == n.self:
		return nil, fmt.Errorf("%w: %s is this node itself", ErrUnreachable, id)
	case other == nil || !other.handled || n.net.cut[pairOf(n.self, id)]:
		return nil, fmt.Errorf("%w: %s", ErrUnreachable, id)
	}
	a, b := n.newEnd(id, false), other.newEnd(n.self, true)
	a.other, b.other = b, a
	n.wg.Go(a.run)
	other.wg.Go(b.run)
	return a, nil
}

func (n *Node) newEnd(id types.NodeID, inbound bool) *end {
	e := &end{node: n, peer: id, inbound: inbound, prev: n.ends[id], wake: make(chan struct{}, 1),
		ended: make(chan struct{}), up: make(chan struct{}), done: make(chan struct{})}
	if e.prev != nil {
		e.prev.finish()
	}
	n.ends[id] = e
	return e
}

// run is the goroutine that calls the handler for one link.
func (e *end) run() {
	defer close(e.done)
	if e.prev != nil {
		<-e.prev.done
		e.prev = nil
	}
	mu := &e.node.net.mu
	mu.Lock()
	e.live = !e.over
	live, h := e.live, e.node.handler
	mu.Unlock()
	if !live {
		close(e.up)
	} else {
		if h.OnUp != nil {
			h.OnUp(e.peer)
		}
		close(e.up)
		for {
			frame, ok := e.next()
			if !ok {
				break
			}
			if h.OnFrame != nil {
				h.OnFrame(e.peer, frame)
			}
		}
		if h.OnDown != nil {
			h.OnDown(e.peer)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if e.node.ends[e.peer] == e {
		delete(e.node.ends, e.peer)
	}
}

// next waits for the next frame; false when the link has ended.
func (e *end) next() ([]byte, bool) {
	for {
		e.node.net.mu.Lock()
		var it item
		found := len(e.queue) > 0
		if found {
			it = e.queue[0]
		}
		wait := time.Until(it.at)
		if found && wait <= 0 {
			e.queue = e.queue[1:]
			e.bytes -= len(it.frame)
			e.node.net.mu.Unlock()
			return it.frame, true
		}
		over := e.over
		e.node.net.mu.Unlock()
		var timer <-chan time.Time
		if found {
			timer = time.After(wait)
		}
		if over {
			return nil, false
		}
		select {
		case <-e.ended:
		case <-e.wake:
		case <-timer:
		}
	}
}

// Send queues a frame for the peer.
func (n *Node) Send(id types.NodeID, frame []byte) error {
	if len(frame) == 0 || len(frame) > wire.MaxFrame {
		return fmt.Errorf("%w: %d bytes to send, want 1..%d", ErrFrameSize, len(frame), wire.MaxFrame)
	}
	n.net.mu.Lock()
	defer n.net.mu.Unlock()
	e := n.ends[id]
	if e == nil || !e.live {
		return fmt.Errorf("%w %s", ErrNoLink, id)
	}
	to := e.other
	if to.over {
		return nil // the other side has ended it and we have not heard yet
	}
	if to.bytes+len(frame) > maxQueue {
		n.net.breakLink(n.self, id)
		return fmt.Errorf("%w: %d bytes were waiting for %s", ErrSlow, maxQueue, id)
	}
	to.queue = append(to.queue, item{slices.Clone(frame), time.Now().Add(n.net.delay)})
	to.bytes += len(frame)
	select {
	case to.wake <- struct{}{}:
	default:
	}
	return nil
}

// Drop ends the link to a peer on both sides. It does not wait for OnDown.
func (n *Node) Drop(id types.NodeID, _ string) {
	n.net.mu.Lock()
	defer n.net.mu.Unlock()
	if e := n.ends[id]; e != nil {
		e.finish()
		e.other.finish()
	}
}

// Peers lists the peers with a link.
func (n *Node) Peers() []types.PeerInfo {
	n.net.mu.Lock()
	defer n.net.mu.Unlock()
	var out []types.PeerInfo
	for id, e := range n.ends {
		if e.live {
			out = append(out, types.PeerInfo{ID: id, Addr: "/memory/" + id.String(), Inbound: e.inbound})
		}
	}
	return out
}

// Keep connects to a peer again and again whenever the link is lost, until Forget or Close.
func (n *Node) Keep(id types.NodeID) {
	n.net.mu.Lock()
	defer n.net.mu.Unlock()
	if n.closed || n.kept[id] != nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	n.kept[id] = cancel
	n.wg.Go(func() {
		for ctx.Err() == nil {
			if err := n.Connect(ctx, id, ""); err == nil {
				n.net.mu.Lock()
				e := n.ends[id]
				n.net.mu.Unlock()
				if e != nil {
					select {
					case <-e.done:
					case <-ctx.Done():
					}
				}
			}
			select {
			case <-time.After(retry):
			case <-ctx.Done():
			}
		}
	})
}

// Forget ends Keep. A link that is up stays up.
func (n *Node) Forget(id types.NodeID) {
	n.net.mu.Lock()
	defer n.net.mu.Unlock()
	if cancel := n.kept[id]; cancel != nil {
		cancel()
		delete(n.kept, id)
	}
}

// Close takes the node off the network and waits until every OnDown returned. Calling it again does nothing.
func (n *Node) Close() error {
	n.net.mu.Lock()
	if !n.closed {
		n.closed = true
		delete(n.net.nodes, n.self)
		for _, e := range n.ends {
			e.finish()
			e.other.finish()
		}
		for _, cancel := range n.kept {
			cancel()
		}
	}
	n.net.mu.Unlock()
	n.wg.Wait()
	return nil
}
