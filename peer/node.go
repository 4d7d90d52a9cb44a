package peer

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	libyamux "github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/net/connmgr"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	quic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"github.com/libp2p/go-yamux/v5"
	"github.com/multiformats/go-multiaddr"

	"github.com/eschaton-network/chand/types"
)

// Protocol is the stream protocol of links.
const Protocol protocol.ID = "/chand/channel/1"

const (
	// DefaultListen is loopback with a port of the system's choice.
	DefaultListen = "/ip4/127.0.0.1/tcp/0"

	// lowConns and highConns are where libp2p begins and ends to close idle connections; peers with a link, and kept
	// ones, are never closed. The DHT and gossip need some tens.
	lowConns, highConns = 160, 224
	connGrace           = 30 * time.Second

	// keepAlive is how often an idle connection is pinged; with yamux' write timeout of 10 s, a peer whose machine
	// vanished is noticed within half a minute.
	keepAlive = 15 * time.Second
	// maxWindow bounds what one stream's sender may have under way: 4 MiB fill 300 Mbit/s at 100 ms.
	maxWindow = 4 << 20

	// linkStreams bounds the streams of our protocol a peer may have open at a time: the link, its successor, and two of slack.
	linkStreams = 4
)

var (
	// ErrNoLink means that the peer is not connected.
	ErrNoLink = errors.New("no link to the peer")
	// ErrSlow means that the peer did not take what was queued for it; the link was dropped.
	ErrSlow = errors.New("the peer is too slow, link dropped")
	// ErrFrameSize means that a frame is empty or larger than wire.MaxFrame.
	ErrFrameSize = errors.New("frame of impossible size")
	// ErrBanned means that the peer misbehaved lately.
	ErrBanned = errors.New("the peer is banned")
	// ErrAddress means that an address makes no sense.
	ErrAddress = errors.New("not a peer address")
	// ErrClosed is returned by everything after Close.
	ErrClosed = errors.New("the peer port is closed")
)

// Options of New.
type Options struct {
	// Key is the node's identity (types.Seed.NodeKey). Required.
	Key *btcec.PrivateKey
	// Listen holds multiaddrs; nil means DefaultListen, empty means not to listen.
	Listen []string
	// QUIC adds the QUIC transport, for multiaddrs that ask for it.
	QUIC bool
	// Log gets what happens to links; nil means silence.
	Log *slog.Logger
}

// Node is this daemon's libp2p host and its links. Safe for concurrent use.
type Node struct {
	self types.NodeID
	host host.Host
	gate *gate
	log  *slog.Logger
	wg   sync.WaitGroup // every goroutine of the node

	closed chan struct{} // closed by Close, once

	mu      sync.Mutex
	handler types.LinkHandler        // guarded by mu; set once by Handle
	handled bool                     // guarded by mu
	peers   map[types.NodeID]*remote // guarded by mu; entries are removed when nothing is known of a peer any more
	kept    map[types.NodeID]func()  // guarded by mu; ends the goroutine that keeps the peer
	ended   bool                     // guarded by mu; no goroutine is started any more
}

// New starts a host that listens. Links are refused until Handle was called.
func New(o Options) (*Node, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Listen == nil {
		o.Listen = []string{DefaultListen}
	}
	if o.Key == nil {
		return nil, errors.New("peer: no node key")
	}
	key, err := crypto.UnmarshalSecp256k1PrivateKey(o.Key.Serialize())
	if err != nil {
		return nil, fmt.Errorf("node key: %w", err)
	}
	n := &Node{
		self: types.NodeID(o.Key.PubKey().SerializeCompressed()), gate: newGate(), log: o.Log, closed: make(chan struct{}),
		peers: make(map[types.NodeID]*remote), kept: make(map[types.NodeID]func()),
	}
	opts, err := n.hostOptions(key, o)
	if err != nil {
		return nil, err
	}
	if n.host, err = libp2p.New(opts...); err != nil {
		return nil, fmt.Errorf("listen for peers at %q: %w: see that no other daemon has the port", o.Listen, err)
	}
	return n, nil
}

func (n *Node) hostOptions(key crypto.PrivKey, o Options) ([]libp2p.Option, error) {
	conns, err := connmgr.NewConnManager(lowConns, highConns, connmgr.WithGracePeriod(connGrace))
	if err != nil {
		return nil, err
	}
	resources, err := newResources()
	if err != nil {
		return nil, err
	}
	mux := yamux.Config(*libyamux.DefaultTransport)
	mux.KeepAliveInterval, mux.MaxStreamWindowSize = keepAlive, maxWindow
	opts := []libp2p.Option{
		libp2p.Identity(key), libp2p.ListenAddrStrings(o.Listen...),
		// Dialing from the listening port would turn two dials at the same moment into one connection that both ends
		// believe to have opened (TCP simultaneous open), and the handshake fails.
		libp2p.Transport(tcp.NewTCPTransport, tcp.DisableReuseport()),
		libp2p.Security(noise.ID, noise.New), libp2p.Muxer(libyamux.ID, (*libyamux.Transport)(&mux)),
		libp2p.ConnectionGater(n.gate), libp2p.ConnectionManager(conns), libp2p.ResourceManager(resources),
		libp2p.UserAgent("chand"), libp2p.Ping(true), libp2p.DisableMetrics(),
		// No relays, no guessing of outside addresses: a daemon is reached where it says that it listens.
		libp2p.DisableRelay(), libp2p.DisableIdentifyAddressDiscovery(),
	}
	if o.QUIC {
		opts = append(opts, libp2p.Transport(quic.NewTransport))
	}
	return opts, nil
}

// newResources is libp2p's default limits, scaled to the machine, and tighter ones for links.
func newResources() (network.ResourceManager, error) {
	limits := rcmgr.DefaultLimits
	libp2p.SetDefaultServiceLimits(&limits)
	limits.AddProtocolPeerLimit(Protocol, rcmgr.BaseLimit{
		Streams: 2 * linkStreams, StreamsInbound: linkStreams, StreamsOutbound: linkStreams, Memory: 2 * linkStreams * maxWindow,
	}, rcmgr.BaseLimitIncrease{})
	return rcmgr.NewResourceManager(rcmgr.NewFixedLimiter(limits.AutoScale()))
}

// Host gives the libp2p host to the gossip and directory shells. It is closed by Close.
func (n *Node) Host() host.Host { return n.host }

// Self is this node's id.
func (n *Node) Self() types.NodeID { return n.self }

// Addrs lists the multiaddrs that this node listens on, with its id, as others can Connect to them.
func (n *Node) Addrs() []string {
	var out []string
	for _, a := range n.host.Addrs() {
		out = append(out, a.String()+"/p2p/"+n.self.String())
	}
	return out
}

// Handle sets the handler and begins to accept links. It must be called once; a second call panics.
func (n *Node) Handle(h types.LinkHandler) {
	n.mu.Lock()
	if n.handled {
		panic("peer: Handle called twice")
	}
	n.handler, n.handled = h, true
	n.mu.Unlock()
	n.host.SetStreamHandler(Protocol, n.accept)
}

// Close drops all links, waits until their OnDown returned, and ends the host. Calling it again does nothing.
func (n *Node) Close() error {
	n.mu.Lock()
	if n.ended {
		n.mu.Unlock()
		n.wg.Wait()
		return nil
	}
	n.ended = true
	close(n.closed)
	for _, r := range n.peers {
		r.end(ErrClosed)
	}
	n.mu.Unlock()
	err := n.host.Close()
	n.wg.Wait()
	return err
}

// spawn runs fn on a goroutine that Close waits for; false when the node is closed.
func (n *Node) spawn(fn func()) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ended {
		return false
	}
	n.wg.Go(fn)
	return true
}

func peerID(id types.NodeID) peer.ID { return peer.ID(id.PeerID()) }

// maxAddr bounds an address: the longest names of hosts (253 bytes) fit.
const maxAddr = 400

// address parses a multiaddr; a /p2p/ part, if there is one, must name the peer.
func address(id types.NodeID, addr string) (multiaddr.Multiaddr, error) {
	if len(addr) > maxAddr {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrAddress, len(addr), maxAddr)
	}
	m, err := multiaddr.NewMultiaddr(addr)
	if err != nil {
		return nil, fmt.Errorf("%w: %.200q: %w: want one like /ip4/127.0.0.1/tcp/4001/p2p/%s", ErrAddress, addr, err, id)
	}
	transport, named := peer.SplitAddr(m)
	if named != "" && named != peerID(id) {
		return nil, fmt.Errorf("%w: %.200q belongs to %s, not to %s", ErrAddress, addr, named, id)
	}
	if transport == nil {
		return nil, fmt.Errorf("%w: %.200q has no host and port", ErrAddress, addr)
	}
	return transport, nil
}
