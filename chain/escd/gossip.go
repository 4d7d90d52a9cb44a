package escd

import (
	"sync"
	"time"

	"github.com/cometbft/cometbft/mempool"
	cmtnode "github.com/cometbft/cometbft/node"
	"github.com/cometbft/cometbft/p2p"
	"github.com/cometbft/cometbft/p2p/conn"
	protomem "github.com/cometbft/cometbft/proto/tendermint/mempool"

	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

const (
	// noticeChannel carries notices: SHA-256 of a message that the sender has. It is a channel of its own so that they overtake messages.
	noticeChannel  = byte(0x7A)
	noticePriority = 10
	// noticeQueue is how many notices wait for a slow peer; without the rest it is sent what it has.
	noticeQueue = 64
	// noticeBytes bounds what a peer sends there at a time: one hash.
	noticeBytes = 64
	// relayPart is the part of the block time, one in so many, that a node waits before it passes on what it got from a peer, and maxRelayPause
	// the longest: whoever is connected with the node that signed it has it from there by then, and has said so.
	relayPart     = 4
	maxRelayPause = 250 * time.Millisecond
	// maxRumours bounds the messages of which it is remembered who has them.
	maxRumours = 4096
	// gossipTurns is how many nodes' messages are checked at a time.
	gossipTurns = 64
)

// gossip is CometBFT's mempool reactor, which floods: it gives everything to every peer that it did not get it from, so on n nodes that are
// all connected each message arrives n-1 times at each. Here a node tells its peers what it has got, and passes on only what they have
// not after a pause. Its own messages, direct transactions and evidence leave at once.
type gossip struct {
	*mempool.Reactor
	app   *app
	pause time.Duration
	turns [gossipTurns]sync.Mutex

	mu sync.Mutex
	// got are the messages that came from peers and were not refused, by signature.
	got map[[64]byte]arrival
	// rumours say who has a message; the orders are the keys of both, the oldest first.
	rumours      map[types.Hash]*rumour
	gotOrder     [][64]byte
	rumoursOrder []types.Hash
}

// rumour is who has a message. news is closed and replaced when somebody else has it too.
type rumour struct {
	owners map[p2p.ID]bool
	news   chan struct{}
}

type arrival struct {
	id types.Hash
	at time.Time
}

func newGossip(r *mempool.Reactor, a *app) *gossip {
	return &gossip{Reactor: r, app: a, got: map[[64]byte]arrival{}, rumours: map[types.Hash]*rumour{}}
}

// gossiping puts gossip in the place of CometBFT's reactor.
func (n *Node) gossiping(c *cmtnode.Node) {
	g := newGossip(c.MempoolReactor().(*mempool.Reactor), n.app)
	g.pause = min(time.Duration(n.genesis.BlockMillis)*time.Millisecond/relayPart, maxRelayPause)
	cmtnode.CustomReactors(map[string]p2p.Reactor{"MEMPOOL": g})(c)
}

// GetChannels is part of p2p.Reactor.
func (g *gossip) GetChannels() []*conn.ChannelDescriptor {
	return append(g.Reactor.GetChannels(), &conn.ChannelDescriptor{ID: noticeChannel, Priority: noticePriority,
		SendQueueCapacity: noticeQueue, RecvMessageCapacity: noticeBytes, MessageType: &protomem.Message{}})
}

// AddPeer is part of p2p.Reactor. What the mempool sends to the peer goes through gossip.
func (g *gossip) AddPeer(p p2p.Peer) { g.Reactor.AddPeer(&relay{p, g}) }

// Receive is part of p2p.Reactor.
func (g *gossip) Receive(e p2p.Envelope) {
	txs, ok := e.Message.(*protomem.Txs)
	if !ok || len(txs.Txs) != 1 {
		g.Reactor.Receive(e)
		return
	}
	raw := txs.Txs[0]
	if e.ChannelID == noticeChannel {
		if len(raw) == len(types.Hash{}) {
			g.has(e.Src.ID(), types.Hash(raw))
		}
		return
	}
	node, _, ok := ledger.MessageHead(raw)
	if !ok {
		g.Reactor.Receive(e)
		return
	}
	id := types.SHA256(raw)
	g.has(e.Src.ID(), id)
	if !g.arrived(raw, id) {
		return
	}
	for _, p := range g.Switch.Peers().List() {
		if p.ID() != e.Src.ID() {
			p.TrySend(p2p.Envelope{ChannelID: noticeChannel, Message: &protomem.Txs{Txs: [][]byte{id[:]}}})
		}
	}
	turn := &g.turns[node%gossipTurns] // the one before it may have come from another peer, and be under way
	turn.Lock()
	defer turn.Unlock()
	g.Reactor.Receive(e)
	g.app.mu.RLock()
	known := g.app.state.KnowsMessage(raw)
	g.app.mu.RUnlock()
	if !known {
		g.refused(raw, id)
	}
}

// has notes that a peer has a message.
func (g *gossip) has(peer p2p.ID, id types.Hash) {
	g.mu.Lock()
	defer g.mu.Unlock()
	r := g.rumours[id]
	if r == nil {
		if len(g.rumoursOrder) == maxRumours {
			delete(g.rumours, g.rumoursOrder[0])
			g.rumoursOrder = g.rumoursOrder[1:]
		}
		r = &rumour{map[p2p.ID]bool{}, make(chan struct{})}
		g.rumours[id] = r
		g.rumoursOrder = append(g.rumoursOrder, id)
	}
	if !r.owners[peer] {
		r.owners[peer] = true
		close(r.news)
		r.news = make(chan struct{})
	}
}

// arrived notes a message that came; false when the same was there already.
func (g *gossip) arrived(raw []byte, id types.Hash) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	sig := signatureOf(raw)
	a, old := g.got[sig]
	if old && a.id == id {
		return false
	}
	if !old {
		if len(g.gotOrder) == maxRumours {
			delete(g.got, g.gotOrder[0])
			g.gotOrder = g.gotOrder[1:]
		}
		g.gotOrder = append(g.gotOrder, sig)
	}
	g.got[sig] = arrival{id, time.Now()}
	return true
}

// refused lets a message come once more: it may have come too early.
func (g *gossip) refused(raw []byte, id types.Hash) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if sig := signatureOf(raw); g.got[sig].id == id {
		g.got[sig] = arrival{}
	}
}

// relay is a peer to which what came from others is sent when it has had the time to get it from them.
type relay struct {
	p2p.Peer
	g *gossip
}

// Send is called by the mempool, for one peer after the other in the order of what it has.
func (r *relay) Send(e p2p.Envelope) bool {
	txs, ok := e.Message.(*protomem.Txs)
	if ok && len(txs.Txs) == 1 && r.g.spare(r.Peer, txs.Txs[0]) {
		return true
	}
	return r.Peer.Send(e)
}

// spare tells whether a peer has a message, after waiting until it says so or the message may be passed on.
func (g *gossip) spare(p p2p.Peer, raw []byte) bool {
	if _, _, ok := ledger.MessageHead(raw); !ok {
		return false
	}
	g.mu.Lock()
	a := g.got[signatureOf(raw)]
	g.mu.Unlock()
	if a.at.IsZero() {
		return false
	}
	timer := time.NewTimer(time.Until(a.at.Add(g.pause)))
	defer timer.Stop()
	for {
		g.mu.Lock()
		r := g.rumours[a.id]
		if r == nil || r.owners[p.ID()] {
			g.mu.Unlock()
			return r != nil
		}
		news := r.news
		g.mu.Unlock()
		select {
		case <-news:
		case <-timer.C:
			return false
		case <-p.Quit():
			return false
		case <-g.Quit():
			return false
		}
	}
}
