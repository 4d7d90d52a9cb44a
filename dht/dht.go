package dht

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
	kad "github.com/libp2p/go-libp2p-kad-dht"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multihash"

	"github.com/eschaton-network/chand/types"
)

const (
	// prefix makes a DHT of our own: the protocol is /chand/kad/1.0.0.
	prefix = "/chand"
	// ProvideTTL is when to call Provide again: records live for 48 hours, the addresses beside them for 24.
	ProvideTTL = 22 * time.Hour
	// walkTimeout bounds one walk through the DHT, whatever the caller's context says.
	walkTimeout = 30 * time.Second
	// maxProviders bounds a search for providers.
	maxProviders = 1000
)

var (
	// ErrNoPeers means that no other daemon with a directory is known.
	ErrNoPeers = errors.New("no other daemon is known")
	// ErrClosed is returned by everything after Close.
	ErrClosed = errors.New("the directory is closed")
)

// Directory is kad-dht and the query protocol on a host. Safe for concurrent use.
type Directory struct {
	host   host.Host
	kad    *kad.IpfsDHT
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup // handlers that run

	mu     sync.Mutex
	closed bool                // guarded by mu
	asking map[peer.ID]int     // guarded by mu; requests of each peer that are being answered
	total  int                 // guarded by mu; of all peers
	served map[string]struct{} // guarded by mu; names with a handler
}

// New starts a directory on a host whose identity is a node key. The peers that the host is connected to are its way in.
func New(h host.Host) (*Directory, error) {
	if _, ok := types.NodeIDFromPeerID(string(h.ID())); !ok {
		return nil, fmt.Errorf("directory: host %s has no secp256k1 identity", h.ID())
	}
	k, err := kad.New(h,
		kad.ProtocolPrefix(prefix), kad.Mode(kad.ModeServer),
		kad.DisableValues(),    // records that anybody could overwrite are of no use to us
		kad.AddressFilter(nil), // loopback and private addresses count: a network may live on one machine
		kad.BootstrapPeersFunc(func() []peer.AddrInfo { return connected(h) }),
	)
	if err != nil {
		return nil, fmt.Errorf("start directory: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	d := &Directory{host: h, kad: k, ctx: ctx, cancel: cancel, asking: make(map[peer.ID]int), served: make(map[string]struct{})}
	if err := k.Bootstrap(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("start directory: %w", err), d.Close())
	}
	return d, nil
}

// connected lists the host's peers, as bootstrap peers for when the routing table has run empty.
func connected(h host.Host) []peer.AddrInfo {
	var out []peer.AddrInfo
	for _, p := range h.Network().Peers() {
		out = append(out, h.Peerstore().PeerInfo(p))
	}
	return out
}

// contentID is the name of a key in the DHT: a CID of a SHA-256 digest.
func contentID(key types.Hash) (cid.Cid, error) {
	m, err := multihash.Encode(key[:], multihash.SHA2_256)
	return cid.NewCidV1(cid.Raw, m), err
}

// Size is the number of daemons in the routing table.
func (d *Directory) Size() int { return d.kad.RoutingTable().Size() }

// Provide announces that this daemon holds something under key. It takes one walk of at most walkTimeout. With ErrNoPeers
// the announcement was kept here alone: call again when a peer is connected.
func (d *Directory) Provide(ctx context.Context, key types.Hash) error {
	ctx, end, err := d.walk(ctx)
	if err != nil {
		return err
	}
	defer end()
	id, err := contentID(key)
	if err != nil {
		return err
	}
	alone := d.Size() == 0
	if err := d.kad.Provide(ctx, id, !alone); err != nil {
		return fmt.Errorf("announce %s: %w", key, err)
	}
	if alone {
		return fmt.Errorf("announce %s: %w: connect to a peer and announce again", key, ErrNoPeers)
	}
	return nil
}

// Providers lists up to limit other daemons that announced the key, in the order in which they were found. It ends at the
// limit, when the DHT was searched, or with ctx; what was found by then is returned, with an error only if nothing was.
func (d *Directory) Providers(ctx context.Context, key types.Hash, limit int) ([]types.NodeID, error) {
	if limit < 1 || limit > maxProviders {
		return nil, fmt.Errorf("providers of %s: limit %d, want 1..%d", key, limit, maxProviders)
	}
	ctx, end, err := d.walk(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	id, err := contentID(key)
	if err != nil {
		return nil, err
	}
	var out []types.NodeID
	for info := range d.kad.FindProvidersAsync(ctx, id, limit+1) { // one more: it may be ourselves
		if n, ok := types.NodeIDFromPeerID(string(info.ID)); ok && info.ID != d.host.ID() && len(out) < limit {
			out = append(out, n)
		}
	}
	switch {
	case len(out) > 0:
		return out, nil
	case ctx.Err() != nil:
		return nil, fmt.Errorf("providers of %s: %w", key, ctx.Err())
	case d.Size() == 0:
		return nil, fmt.Errorf("providers of %s: %w: connect to a peer", key, ErrNoPeers)
	}
	return nil, nil
}

// walk bounds one walk through the DHT; it ends with Close.
func (d *Directory) walk(ctx context.Context) (context.Context, context.CancelFunc, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, nil, ErrClosed
	}
	ctx, cancel := context.WithTimeout(ctx, walkTimeout)
	stop := context.AfterFunc(d.ctx, cancel)
	return ctx, func() { stop(); cancel() }, nil
}

// reach makes sure that there is a connection to a peer, and looks its address up when it is not known.
func (d *Directory) reach(ctx context.Context, p peer.ID) error {
	if d.host.Network().Connectedness(p) == network.Connected {
		return nil
	}
	if len(d.host.Peerstore().Addrs(p)) == 0 {
		info, err := d.kad.FindPeer(ctx, p)
		if err != nil {
			return fmt.Errorf("find the address of %s: %w", p, err)
		}
		return d.host.Connect(ctx, info)
	}
	return d.host.Connect(ctx, peer.AddrInfo{ID: p})
}

// Close ends walks and requests, and waits for handlers that run. Calling it again does nothing.
func (d *Directory) Close() error {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return nil
	}
	d.closed = true
	for name := range d.served {
		d.host.RemoveStreamHandler(protocolOf(name))
	}
	d.mu.Unlock()
	d.cancel()
	err := d.kad.Close()
	d.wg.Wait()
	return err
}
