package peer

import (
	"fmt"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/control"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"

	"github.com/eschaton-network/chand/types"
)

const (
	// maxStrikes within strikeMemory ban a peer. One may be a bug of an old version; three in ten minutes are not an accident.
	maxStrikes   = 3
	strikeMemory = 10 * time.Minute
	// banTime is short: a channel peer that was updated must get back before a dispute on the chain is due.
	banTime = 5 * time.Minute
	// maxRecords bounds what is remembered of misbehaving peers; ids are free, so an attacker can make many.
	maxRecords = 4096
)

// conduct is what is remembered of a peer that misbehaved.
type conduct struct {
	strikes int
	last    time.Time // of the last strike
	until   time.Time // banned until
}

// gate is libp2p's connection gater: it keeps banned peers out.
type gate struct {
	mu    sync.Mutex
	peers map[types.NodeID]conduct // guarded by mu
	now   func() time.Time
}

func newGate() *gate { return &gate{peers: make(map[types.NodeID]conduct), now: time.Now} }

// strike counts a misdeed and tells whether it made a ban.
func (g *gate) strike(id types.NodeID) (banned bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.prune()
	now, c := g.now(), g.peers[id]
	if now.Sub(c.last) > strikeMemory {
		c.strikes = 0
	}
	c.strikes++
	c.last = now
	if banned = c.strikes >= maxStrikes; banned {
		c.strikes, c.until = 0, now.Add(banTime)
	}
	g.peers[id] = c
	return banned
}

func (g *gate) ban(id types.NodeID, d time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.prune()
	c := g.peers[id]
	c.until = g.now().Add(d)
	g.peers[id] = c
}

// until is when the peer's ban ends; zero when it is not banned.
func (g *gate) until(id types.NodeID) time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	if c := g.peers[id]; c.until.After(g.now()) {
		return c.until
	}
	return time.Time{}
}

// prune forgets what is over; when that does not make room, it forgets anyone. Call with mu held.
func (g *gate) prune() {
	if len(g.peers) < maxRecords {
		return
	}
	now := g.now()
	for id, c := range g.peers {
		if !c.until.After(now) && now.Sub(c.last) > strikeMemory {
			delete(g.peers, id)
		}
	}
	for id := range g.peers {
		if len(g.peers) <= maxRecords/2 { // so that the next many need no search
			return
		}
		delete(g.peers, id)
	}
}

func (g *gate) allow(p peer.ID) bool {
	id, ok := types.NodeIDFromPeerID(string(p))
	return !ok || g.until(id).IsZero()
}

// InterceptPeerDial keeps us from dialing banned peers.
func (g *gate) InterceptPeerDial(p peer.ID) bool { return g.allow(p) }

// InterceptAddrDial allows every address.
func (g *gate) InterceptAddrDial(peer.ID, multiaddr.Multiaddr) bool { return true }

// InterceptAccept allows everybody: the resource manager counts.
func (g *gate) InterceptAccept(network.ConnMultiaddrs) bool { return true }

// InterceptSecured refuses banned peers as soon as it is known who they are.
func (g *gate) InterceptSecured(_ network.Direction, p peer.ID, _ network.ConnMultiaddrs) bool {
	return g.allow(p)
}

// InterceptUpgraded allows what came so far.
func (g *gate) InterceptUpgraded(network.Conn) (bool, control.DisconnectReason) { return true, 0 }

// Ban closes all connections to a peer and refuses new ones for a while.
func (n *Node) Ban(id types.NodeID, d time.Duration, reason string) {
	n.gate.ban(id, d)
	n.evict(id, d, reason)
}

// Strike counts a misdeed of a peer, drops its link, and bans it when there were too many.
func (n *Node) Strike(id types.NodeID, reason string) {
	if n.gate.strike(id) {
		n.evict(id, banTime, reason)
		return
	}
	n.Drop(id, reason)
}

// BannedUntil is when the peer's ban ends; zero when it is not banned.
func (n *Node) BannedUntil(id types.NodeID) time.Time { return n.gate.until(id) }

// evict ends what there is with a peer that was just banned.
func (n *Node) evict(id types.NodeID, d time.Duration, reason string) {
	n.log.Warn("peer banned", "peer", id, "for", d, "reason", reason)
	n.drop(id, fmt.Errorf("%w: %s", ErrBanned, reason))
	_ = n.host.Network().ClosePeer(peerID(id)) // what cannot be closed is broken already
}
