package peer

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/multiformats/go-multiaddr"

	"github.com/eschaton-network/chand/types"
)

const (
	// minRetry and maxRetry are how long a kept peer is left alone between attempts; each wait is half to one and a half
	// times the nominal one, so that daemons that lost each other do not dial in step.
	minRetry = 100 * time.Millisecond
	maxRetry = 5 * time.Second
	// stableLink is how long a link must have lasted to begin again with minRetry.
	stableLink = 10 * time.Second
)

// AddAddr remembers where a peer listens, for as long as the node runs. Errors: ErrAddress.
func (n *Node) AddAddr(id types.NodeID, addr string) error {
	m, err := address(id, addr)
	if err != nil {
		return err
	}
	if sw, ok := n.host.Network().(*swarm.Swarm); ok && !named(m) && sw.TransportForDialing(m) == nil {
		return fmt.Errorf("%w: %.200q is neither TCP nor another transport that is switched on here", ErrAddress, addr)
	}
	n.host.Peerstore().AddAddr(peerID(id), m, peerstore.PermanentAddrTTL)
	return nil
}

// named tells whether the host is given by name; what it resolves to is checked when it is dialed.
func named(m multiaddr.Multiaddr) bool {
	switch m.Protocols()[0].Code {
	case multiaddr.P_DNS, multiaddr.P_DNS4, multiaddr.P_DNS6, multiaddr.P_DNSADDR:
		return true
	}
	return false
}

// Connect makes a link to a peer, or waits for the one in the making; nil means that it is up and OnUp has returned. addr
// is a multiaddr, with or without the peer's id, or empty to use what is known. It must not be called from a link handler.
func (n *Node) Connect(ctx context.Context, id types.NodeID, addr string) error {
	if id == n.self {
		return fmt.Errorf("%w: %s is this node itself", ErrAddress, id)
	}
	if addr != "" {
		if err := n.AddAddr(id, addr); err != nil {
			return err
		}
	}
	return n.connect(ctx, id)
}

// Reach makes sure that there is a connection to a peer, and opens no link. addr is as for Connect.
func (n *Node) Reach(ctx context.Context, id types.NodeID, addr string) error {
	if id == n.self {
		return fmt.Errorf("%w: %s is this node itself", ErrAddress, id)
	}
	if addr != "" {
		if err := n.AddAddr(id, addr); err != nil {
			return err
		}
	}
	return n.reach(ctx, id)
}

func (n *Node) reach(ctx context.Context, id types.NodeID) error {
	p := peerID(id)
	if n.host.Network().Connectedness(p) != network.Connected && len(n.host.Peerstore().Addrs(p)) == 0 {
		return fmt.Errorf("no address is known for %s: connect with its full address (/ip4/…/tcp/…/p2p/%s)", id, id)
	}
	if s, ok := n.host.Network().(*swarm.Swarm); ok {
		s.Backoff().Clear(p) // when to try again is decided here
	}
	if err := n.host.Connect(ctx, peer.AddrInfo{ID: p}); err != nil {
		return fmt.Errorf("connect to %s: %w", id, err)
	}
	return nil
}

func (n *Node) connect(ctx context.Context, id types.NodeID) error {
	for {
		if until := n.gate.until(id); !until.IsZero() {
			return fmt.Errorf("%w: %s, until %s", ErrBanned, id, until.Format(time.TimeOnly))
		}
		l, a, err := n.attempt(id)
		if err != nil {
			return err
		}
		if a != nil {
			select {
			case <-a.done:
			case <-ctx.Done():
				return fmt.Errorf("connect to %s: %w", id, ctx.Err())
			}
			if errors.Is(a.err, errSuperseded) || errors.Is(a.err, errUnconfirmed) {
				continue // what the peer does now decides
			}
			if a.err != nil {
				return a.err
			}
			l = a.link
		}
		select {
		case <-l.up:
		case <-ctx.Done():
			return fmt.Errorf("connect to %s: %w", id, ctx.Err())
		}
		err = l.reason()
		if err == nil || a != nil { // up, or as good as this attempt gets
			return err
		}
		select { // an older link that is just ending
		case <-l.done:
		case <-ctx.Done():
			return fmt.Errorf("connect to %s: %w", id, ctx.Err())
		}
	}
}

// attempt returns the peer's link or what is in the making, and begins to dial when there is neither.
func (n *Node) attempt(id types.NodeID) (*link, *attempt, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch r := n.peers[id]; {
	case n.ended:
		return nil, nil, ErrClosed
	case !n.handled:
		return nil, nil, errors.New("peer: Connect before Handle")
	case r != nil && r.link != nil:
		return r.link, nil, nil
	case r != nil && r.dialing != nil:
		return nil, r.dialing, nil
	case r != nil && r.accepting != nil:
		return nil, r.accepting, nil
	}
	r, a := n.remote(id), newAttempt(context.Background(), dialTimeout)
	r.dialing = a
	n.wg.Go(func() { n.dial(id, r, a) })
	return nil, a, nil
}

// newStream dials if need be and opens a stream.
func (n *Node) newStream(ctx context.Context, id types.NodeID) (network.Stream, error) {
	if err := n.reach(ctx, id); err != nil {
		return nil, err
	}
	s, err := n.host.NewStream(ctx, peerID(id), Protocol)
	if err != nil {
		return nil, fmt.Errorf("open a stream to %s: %w", id, err)
	}
	return s, nil
}

// Keep connects to a peer now and again whenever the link is lost, until Forget or Close.
func (n *Node) Keep(id types.NodeID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ended || n.kept[id] != nil || id == n.self {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	n.kept[id] = cancel
	n.host.ConnManager().Protect(peerID(id), protectTag)
	n.wg.Go(func() { n.keep(ctx, id) })
}

// Forget ends Keep. A link that is up stays up.
func (n *Node) Forget(id types.NodeID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if cancel := n.kept[id]; cancel != nil {
		cancel()
		delete(n.kept, id)
		n.tidy(id)
	}
}

// keep is the goroutine of a kept peer.
func (n *Node) keep(ctx context.Context, id types.NodeID) {
	stopped := func() bool { return ctx.Err() != nil }
	wait := minRetry
	for !stopped() {
		begin := time.Now()
		err := n.connect(ctx, id)
		if err == nil {
			if l := n.link(id); l != nil {
				select {
				case <-l.done:
				case <-ctx.Done():
					return
				}
			}
		} else if !stopped() {
			n.log.Debug("kept peer not reached", "peer", id, "err", err, "retry", wait)
		}
		if err == nil && time.Since(begin) > stableLink {
			wait = minRetry
		}
		timer := time.NewTimer(wait/2 + rand.N(wait))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		case <-n.closed:
			timer.Stop()
			return
		}
		wait = min(2*wait, maxRetry)
	}
}
