// Package memdht is the memory twin of package dht: provider records and requests between the daemons of one process, without
// a network, so that it works in a testing/synctest bubble.
package memdht

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

const (
	// recordTTL is how long a provider record lives, as in package dht.
	recordTTL = 48 * time.Hour
	// askTimeout bounds one request.
	askTimeout = 30 * time.Second
	// maxProviders bounds a search for providers.
	maxProviders = 1000
	// maxFailure bounds the text of a failure.
	maxFailure = 1024
)

var (
	// ErrNoPeers means that no other daemon is up.
	ErrNoPeers = errors.New("no other daemon is known")
	// ErrFailed means that the peer's handler failed; the text is the peer's.
	ErrFailed = errors.New("the peer refused the request")
	// ErrTooLarge means that a request or an answer exceeds wire.MaxQuery.
	ErrTooLarge = errors.New("larger than a query may be")
	// ErrUnreachable means that the peer is not up, or has no handler for the protocol.
	ErrUnreachable = errors.New("the peer cannot be asked")
	// ErrClosed is returned by everything after Close.
	ErrClosed = errors.New("the directory is closed")
)

// Handler answers requests.
type Handler = func(ctx context.Context, from types.NodeID, request []byte) ([]byte, error)

// Network connects the nodes of one process.
type Network struct {
	mu      sync.Mutex
	nodes   map[types.NodeID]*Node  // guarded by mu; the ones that are up
	records map[types.Hash][]record // guarded by mu; oldest first
}

type record struct {
	node types.NodeID
	end  time.Time
}

// New makes a network without nodes.
func New() *Network {
	return &Network{nodes: make(map[types.NodeID]*Node), records: make(map[types.Hash][]record)}
}

// Node is one daemon's directory. Safe for concurrent use.
type Node struct {
	net    *Network
	self   types.NodeID
	ctx    context.Context
	cancel context.CancelFunc

	handlers map[string]Handler // guarded by net.mu
}

// Node starts a node; one that ran under this id must have been closed.
func (w *Network) Node(id types.NodeID) *Node {
	n := &Node{net: w, self: id, handlers: make(map[string]Handler)}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.nodes[id] != nil {
		panic(fmt.Sprintf("memdht: node %s is up already", id))
	}
	w.nodes[id] = n
	return n
}

// usable says why the node cannot be used. Call with net.mu held.
func (n *Node) usable(ctx context.Context) error {
	if n.net.nodes[n.self] != n {
		return ErrClosed
	}
	return ctx.Err()
}

// Provide announces that this node holds something under key.
func (n *Node) Provide(ctx context.Context, key types.Hash) error {
	n.net.mu.Lock()
	defer n.net.mu.Unlock()
	if err := n.usable(ctx); err != nil {
		return err
	}
	if len(n.net.nodes) == 1 {
		return fmt.Errorf("announce %s: %w: connect to a peer and announce again", key, ErrNoPeers)
	}
	mine := func(r record) bool { return r.node == n.self }
	n.net.records[key] = append(slices.DeleteFunc(n.net.records[key], mine), record{n.self, time.Now().Add(recordTTL)})
	return nil
}

// Providers lists up to limit other nodes that announced the key.
func (n *Node) Providers(ctx context.Context, key types.Hash, limit int) ([]types.NodeID, error) {
	if limit < 1 || limit > maxProviders {
		return nil, fmt.Errorf("providers of %s: limit %d, want 1..%d", key, limit, maxProviders)
	}
	n.net.mu.Lock()
	defer n.net.mu.Unlock()
	if err := n.usable(ctx); err != nil {
		return nil, err
	}
	if len(n.net.nodes) == 1 {
		return nil, fmt.Errorf("providers of %s: %w: connect to a peer", key, ErrNoPeers)
	}
	var out []types.NodeID
	for _, r := range n.net.records[key] {
		if r.node != n.self && time.Now().Before(r.end) && len(out) < limit {
			out = append(out, r.node)
		}
	}
	return out, nil
}

// Ask sends one request and returns the answer; the handler runs on a goroutine of its own.
func (n *Node) Ask(ctx context.Context, id types.NodeID, name string, request []byte) ([]byte, error) {
	if len(request) > wire.MaxQuery {
		return nil, fmt.Errorf("%w: request of %d bytes, at most %d", ErrTooLarge, len(request), wire.MaxQuery)
	}
	n.net.mu.Lock()
	err := n.usable(ctx)
	other := n.net.nodes[id]
	var h Handler
	if other != nil && other != n {
		h = other.handlers[name]
	}
	n.net.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if h == nil {
		return nil, fmt.Errorf("ask %s for %s: %w", id, name, ErrUnreachable)
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	type result struct {
		answer []byte
		err    error
	}
	done := make(chan result, 1)
	go func() {
		ctx, cancel := context.WithTimeout(other.ctx, askTimeout)
		defer cancel()
		answer, err := h(ctx, n.self, slices.Clone(request))
		if err == nil && len(answer) > wire.MaxQuery {
			err = fmt.Errorf("the answer of %d bytes is larger than the %d that fit: ask for less", len(answer), wire.MaxQuery)
		}
		done <- result{append([]byte{}, answer...), err}
	}()
	select {
	case r := <-done:
		if r.err != nil {
			return nil, fmt.Errorf("ask %s for %s: %w: %.*q", id, name, ErrFailed, maxFailure, r.err.Error())
		}
		return r.answer, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("ask %s for %s: %w", id, name, ctx.Err())
	case <-other.ctx.Done():
		return nil, fmt.Errorf("ask %s for %s: %w", id, name, ErrUnreachable)
	}
}

// Serve answers requests on the named protocol.
func (n *Node) Serve(name string, handler func(ctx context.Context, from types.NodeID, request []byte) ([]byte, error)) {
	n.net.mu.Lock()
	defer n.net.mu.Unlock()
	n.handlers[name] = handler
}

// Close takes the node off the network; its records stay until they expire. Calling it again does nothing.
func (n *Node) Close() error {
	n.net.mu.Lock()
	defer n.net.mu.Unlock()
	if n.net.nodes[n.self] == n {
		delete(n.net.nodes, n.self)
	}
	n.cancel()
	return nil
}
