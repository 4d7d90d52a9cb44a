// Package memgossip is the memory twin of package pubsub: gossip between the daemons of one process, made of channels and
// time only, so that it works in a testing/synctest bubble.
package memgossip

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/wire"
)

// deliverQueue is how many messages may be on the way to a node; what comes beyond is lost.
const deliverQueue = 1024

var (
	// ErrNotJoined means that Join was not called for the topic.
	ErrNotJoined = errors.New("topic not joined")
	// ErrJoined means that the topic was joined before.
	ErrJoined = errors.New("topic joined already")
	// ErrTooLarge means that a message is empty or larger than wire.MaxGossip.
	ErrTooLarge = errors.New("gossip message of impossible size")
	// ErrRefused means that the topic's own validator did not accept what was to be published.
	ErrRefused = errors.New("message refused by the topic's validator")
	// ErrClosed is returned by everything after Close.
	ErrClosed = errors.New("gossip is closed")
)

// Network connects the nodes of one process, each with each.
type Network struct {
	mu    sync.Mutex
	nodes map[types.NodeID]*Node                         // guarded by mu; the ones that are up
	delay time.Duration                                  // guarded by mu
	lose  func(from, to types.NodeID, topic string) bool // guarded by mu; nil: nothing is lost
}

// New makes a network without nodes.
func New() *Network { return &Network{nodes: make(map[types.NodeID]*Node)} }

// SetDelay makes every message published from now on take this long.
func (w *Network) SetDelay(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.delay = d
}

// Lose asks f for each message and receiver whether it is lost; nil ends it. f must not call the network.
func (w *Network) Lose(f func(from, to types.NodeID, topic string) bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lose = f
}

// Node is one daemon's gossip. Safe for concurrent use.
type Node struct {
	net    *Network
	self   types.NodeID
	queue  chan message
	closed chan struct{}
	once   sync.Once
	done   chan struct{}

	topics map[string]topic // guarded by net.mu
}

type topic struct {
	validate func(types.NodeID, []byte) types.Verdict
	deliver  func(types.NodeID, []byte)
}

type message struct {
	from  types.NodeID
	topic string
	data  []byte
	at    time.Time
}

// Node starts a node; one that ran under this id must have been closed.
func (w *Network) Node(id types.NodeID) *Node {
	n := &Node{net: w, self: id, queue: make(chan message, deliverQueue), closed: make(chan struct{}), done: make(chan struct{}),
		topics: make(map[string]topic)}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.nodes[id] != nil {
		panic(fmt.Sprintf("memgossip: node %s is up already", id))
	}
	w.nodes[id] = n
	go n.run()
	return n
}

// Join subscribes to a topic.
func (n *Node) Join(name string, validate func(types.NodeID, []byte) types.Verdict, deliver func(types.NodeID, []byte)) error {
	n.net.mu.Lock()
	defer n.net.mu.Unlock()
	if n.net.nodes[n.self] != n {
		return ErrClosed
	}
	if _, ok := n.topics[name]; ok {
		return fmt.Errorf("%w: %s", ErrJoined, name)
	}
	n.topics[name] = topic{validate, deliver}
	return nil
}

// Publish sends data to everybody on the topic, this node included.
func (n *Node) Publish(_ context.Context, name string, data []byte) error {
	if len(data) == 0 || len(data) > wire.MaxGossip {
		return fmt.Errorf("%w: %d bytes, want 1..%d", ErrTooLarge, len(data), wire.MaxGossip)
	}
	n.net.mu.Lock()
	t, ok := n.topics[name]
	up := n.net.nodes[n.self] == n
	n.net.mu.Unlock()
	if !up {
		return ErrClosed
	}
	if !ok {
		return fmt.Errorf("%w: %s", ErrNotJoined, name)
	}
	if t.validate(n.self, data) != types.Accept {
		return fmt.Errorf("%w: %s", ErrRefused, name)
	}
	n.net.mu.Lock()
	defer n.net.mu.Unlock()
	m := message{n.self, name, slices.Clone(data), time.Now().Add(n.net.delay)}
	for _, to := range n.net.nodes {
		_, joined := to.topics[name]
		if !joined || to != n && n.net.lose != nil && n.net.lose(n.self, to.self, name) {
			continue
		}
		select {
		case to.queue <- m:
		default: // too slow
		}
	}
	return nil
}

// run is the node's goroutine: it validates and delivers, one message at a time.
func (n *Node) run() {
	defer close(n.done)
	for {
		select {
		case <-n.closed:
			return
		case m := <-n.queue:
			if wait := time.Until(m.at); wait > 0 {
				select {
				case <-time.After(wait):
				case <-n.closed:
					return
				}
			}
			n.net.mu.Lock()
			t := n.topics[m.topic]
			n.net.mu.Unlock()
			data := slices.Clone(m.data) // each node has its own
			if m.from == n.self || t.validate(m.from, data) == types.Accept {
				t.deliver(m.from, data)
			}
		}
	}
}

// Close takes the node off the network and waits for the delivery that runs. Calling it again does nothing.
func (n *Node) Close() error {
	n.net.mu.Lock()
	if n.net.nodes[n.self] == n {
		delete(n.net.nodes, n.self)
	}
	n.net.mu.Unlock()
	n.once.Do(func() { close(n.closed) })
	<-n.done
	return nil
}
