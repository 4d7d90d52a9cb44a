package chand

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/eschaton-network/chand/channel"
	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/wire"
)

const (
	// redialFirst and redialMost bound the pause between attempts to reach a peer of our channels; it doubles from one to the other.
	redialFirst = time.Second
	redialMost  = time.Minute
	// dialTimeout bounds one attempt.
	dialTimeout = 10 * time.Second
	// maxStrays is how many messages that fit nothing a peer may send on one link before the link is dropped.
	maxStrays = 100
)

// peers knows who is connected, and its goroutine keeps links to the peers of our channels.
type peers struct {
	d    *Daemon
	wake chan struct{} // a link broke, or a channel came

	mu    sync.Mutex
	up    map[types.NodeID]int    // guarded by mu; connected peers, with the strays that each has sent
	addrs map[types.NodeID]string // guarded by mu; where to dial
}

func newPeers(d *Daemon) (*peers, error) {
	p := &peers{d: d, wake: make(chan struct{}, 1), up: make(map[types.NodeID]int), addrs: make(map[types.NodeID]string)}
	err := loadAll(d.Store, bucketPeer, "", func(key string, addr string) error {
		id, err := types.ParseNodeID(key)
		if err != nil {
			return fmt.Errorf("peer/%s: %w", key, err)
		}
		p.addrs[id] = addr
		return nil
	})
	return p, err
}

func (p *peers) linked(id types.NodeID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, ok := p.up[id]
	return ok
}

// address is where a peer was dialled last, or empty.
func (p *peers) address(id types.NodeID) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.addrs[id]
}

// Connect dials a peer and keeps the address for reconnection.
func (d *Daemon) Connect(ctx context.Context, peer types.NodeID, addr string) error {
	if err := d.Transport.Connect(ctx, peer, addr); err != nil {
		return &Error{Code: CodePeerOffline, Text: fmt.Sprintf("connecting to %s: %v", peer, err), Next: "check the address and that the peer runs", Err: err}
	}
	if addr == "" {
		return nil
	}
	d.peers.mu.Lock()
	d.peers.addrs[peer] = addr
	d.peers.mu.Unlock()
	return d.Store.Commit(ctx, put(bucketPeer, peer.String(), addr))
}

// onUp, onDown and onFrame are called by the transport.
func (d *Daemon) onUp(peer types.NodeID) {
	d.peers.mu.Lock()
	d.peers.up[peer] = 0
	d.peers.mu.Unlock()
	if !d.begun() {
		return
	}
	for _, r := range d.allRunners() {
		if r.peer == peer {
			d.toLane(r, mailLink{up: true})
		}
	}
	d.announcer.box.force(mailPeerUp{})
	d.library.PeerUp(peer)
	d.emit("peer.up", "connected to "+peer.String(), nil)
}

func (d *Daemon) onDown(peer types.NodeID) {
	d.peers.mu.Lock()
	delete(d.peers.up, peer)
	d.peers.mu.Unlock()
	if !d.begun() {
		return
	}
	for _, r := range d.allRunners() {
		if r.peer == peer {
			d.toLane(r, mailLink{up: false})
		}
	}
	select {
	case d.peers.wake <- struct{}{}:
	default:
	}
	d.emit("peer.down", "the link to "+peer.String()+" broke", nil)
}

// begun waits for Run; it is false when the daemon is over.
func (d *Daemon) begun() bool {
	<-d.ready
	return d.life.ctx.Err() == nil
}

// onFrame decodes a frame and hands it to its channel. It runs on the link's goroutine: a full queue slows that peer alone.
func (d *Daemon) onFrame(peer types.NodeID, frame []byte) {
	if !d.begun() {
		return
	}
	m, err := wire.Decode(frame)
	if err != nil {
		d.Transport.Drop(peer, "a frame that is no message: "+err.Error())
		return
	}
	msg, ok := m.(wire.ChannelMessage)
	if !ok {
		if d.twins.frame(peer, m) {
			return
		}
		d.stray(peer, fmt.Sprintf("message type %d belongs to no channel", m.MessageType()))
		return
	}
	if open, ok := msg.(*wire.Open); ok {
		d.acceptOpen(peer, open)
		return
	}
	id := msg.Channel()
	r := d.runner(id)
	if refund, ok := msg.(*wire.OpenRefund); ok && r == nil {
		r = d.runner(refund.Temp)
	}
	if r == nil || r.peer != peer {
		d.unknown(peer, msg)
		return
	}
	if p, ok := msg.(*wire.PeerPolicy); ok {
		d.announcer.box.put(mailPeerPolicy{r, p.Policy}) // full: it comes again
		return
	}
	d.toRunner(r, peer, msg)
}

func (d *Daemon) toRunner(r *runner, peer types.NodeID, msg wire.ChannelMessage) {
	if r.peer != peer {
		d.unknown(peer, msg)
		return
	}
	d.toLane(r, mailMessage{msg})
}

// toLane waits for room in the runner's queue, or for the daemon's end.
func (d *Daemon) toLane(r *runner, m any) {
	select {
	case r.fromPeer <- m:
	case <-r.over:
	case <-d.life.ctx.Done():
	}
}

// unknown answers messages about channels that we don't have with that peer. A refusal is never answered, so two daemons
// can't answer each other for ever.
func (d *Daemon) unknown(peer types.NodeID, msg wire.ChannelMessage) {
	if _, ok := msg.(*wire.Refuse); !ok {
		if _, over, err := load[chanRecord](d.Store, bucketChanInfo, msg.Channel().String()); !over && err == nil {
			d.send(peer, &wire.Refuse{ID: msg.Channel(), Text: "no such channel with you here"})
		}
	}
	d.stray(peer, fmt.Sprintf("message type %d about an unknown channel %s", msg.MessageType(), msg.Channel()))
}

// stray counts what fits nothing; too much of it ends the link.
func (d *Daemon) stray(peer types.NodeID, what string) {
	d.peers.mu.Lock()
	n, up := d.peers.up[peer]
	if up {
		d.peers.up[peer] = n + 1
	}
	d.peers.mu.Unlock()
	d.Log.Debug("a stray message", "peer", peer, "what", what)
	if n+1 >= maxStrays {
		d.Transport.Drop(peer, fmt.Sprintf("%d stray messages, the last: %s", n+1, what))
	}
}

func (d *Daemon) send(peer types.NodeID, m wire.Message) {
	if err := d.Transport.Send(peer, wire.Encode(m)); err != nil {
		d.Log.Info("a message was not taken by the link", "peer", peer, "err", err)
	}
}

// run keeps links to the peers of channels that are not over.
func (p *peers) run(ctx context.Context) error {
	if !p.d.cfg.Redial {
		return nil
	}
	pause := map[types.NodeID]time.Duration{}
	due := map[types.NodeID]time.Time{}
	timer := time.NewTicker(redialFirst)
	defer timer.Stop()
	for {
		for _, peer := range p.missing() {
			if p.d.Clock().Before(due[peer]) {
				continue
			}
			p.mu.Lock()
			addr := p.addrs[peer]
			p.mu.Unlock()
			c, cancel := context.WithTimeout(ctx, dialTimeout)
			err := p.d.twins.look(c, peer, addr)
			if errors.Is(err, errTwin) {
				cancel()
				return err
			}
			err = p.d.Transport.Connect(c, peer, addr)
			cancel()
			if err == nil {
				delete(pause, peer)
				continue
			}
			pause[peer] = min(max(2*pause[peer], redialFirst), redialMost)
			due[peer] = p.d.Clock().Add(pause[peer])
		}
		select {
		case <-ctx.Done():
			return nil
		case <-p.wake:
		case <-timer.C:
		}
	}
}

// missing are the peers of live channels that are not connected.
func (p *peers) missing() []types.NodeID { return p.partners(false) }

// neighbours are the peers of live channels that are connected.
func (d *Daemon) neighbours() []types.NodeID { return d.peers.partners(true) }

// partners are the peers of live channels, those that are connected or those that are not.
func (p *peers) partners(linked bool) []types.NodeID {
	var list []types.NodeID
	seen := map[types.NodeID]bool{}
	for _, r := range p.d.allRunners() {
		v := r.view.Load()
		if v == nil || v.State.Phase > channel.PhaseFinishing || seen[r.peer] || p.linked(r.peer) != linked {
			continue
		}
		seen[r.peer] = true
		list = append(list, r.peer)
	}
	return list
}
