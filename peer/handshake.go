package peer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/libp2p/go-libp2p/core/network"

	"github.com/eschaton-network/chand/types"
)

// The bytes that begin a link (see the package's text).
const (
	byteOpen    = 'o'
	byteAccept  = 'a'
	byteReject  = 'r'
	byteConfirm = 'c'
)

const (
	// dialTimeout bounds an attempt from the first packet to the confirmed link.
	dialTimeout = 15 * time.Second
	// handshakeTimeout bounds the three bytes: some round trips.
	handshakeTimeout = 10 * time.Second
	// protectTag keeps libp2p's connection manager from closing connections that carry a link.
	protectTag = "chand link"
)

var (
	errSuperseded  = errors.New("the peer opened the link first")
	errUnconfirmed = errors.New("the peer did not confirm its link")
	errReplaced    = errors.New("the peer opened a new link")
)

// remote is what is known of a peer at the moment. Its fields are guarded by Node.mu.
type remote struct {
	link      *link    // the newest link, until its OnDown returned
	dialing   *attempt // we open
	accepting *attempt // the peer opens
}

// attempt is a link in the making.
type attempt struct {
	ctx    context.Context
	cancel context.CancelFunc
	opened bool          // guarded by Node.mu; byteOpen is sent or about to be: from now on the smaller id wins
	done   chan struct{} // closed when link or err is set
	link   *link         // valid after done
	err    error         // valid after done
}

func newAttempt(parent context.Context, limit time.Duration) *attempt {
	a := &attempt{done: make(chan struct{})}
	a.ctx, a.cancel = context.WithTimeout(parent, limit)
	return a
}

// finish gives the outcome to those who wait; only the first one counts. Call with Node.mu held.
func (a *attempt) finish(l *link, err error) {
	select {
	case <-a.done:
	default:
		a.link, a.err = l, err
		close(a.done)
	}
	a.cancel()
}

// end ends whatever there is. Call with Node.mu held.
func (r *remote) end(reason error) {
	if r.link != nil {
		r.link.end(reason)
	}
	for _, a := range []*attempt{r.dialing, r.accepting} {
		if a != nil {
			a.finish(nil, reason)
		}
	}
}

// remote returns the entry of a peer, made if need be. Call with mu held.
func (n *Node) remote(id types.NodeID) *remote {
	r := n.peers[id]
	if r == nil {
		r = new(remote)
		n.peers[id] = r
	}
	return r
}

// tidy forgets an entry that holds nothing. Call with mu held.
func (n *Node) tidy(id types.NodeID) {
	if r := n.peers[id]; r != nil && r.link == nil && r.dialing == nil && r.accepting == nil {
		delete(n.peers, id)
		if n.kept[id] == nil {
			n.host.ConnManager().Unprotect(peerID(id), protectTag)
		}
	}
}

// link returns the newest link to a peer, or nil.
func (n *Node) link(id types.NodeID) *link {
	n.mu.Lock()
	defer n.mu.Unlock()
	if r := n.peers[id]; r != nil {
		return r.link
	}
	return nil
}

// gone is called by a link when all is over.
func (n *Node) gone(l *link) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if r := n.peers[l.peer]; r != nil && r.link == l {
		r.link = nil
		n.tidy(l.peer)
	}
}

// install makes a stream the peer's link; the caller then starts run. Call with mu held.
func (n *Node) install(id types.NodeID, r *remote, s network.Stream) *link {
	l := newLink(n, id, s, r.link)
	if r.link != nil {
		r.link.end(errReplaced)
	}
	r.link = l
	if n.ended {
		l.end(ErrClosed)
	}
	n.host.ConnManager().Protect(peerID(id), protectTag)
	return l
}

// dial opens a link: the goroutine of an outgoing attempt.
func (n *Node) dial(id types.NodeID, r *remote, a *attempt) {
	l, err := n.open(id, r, a)
	n.mu.Lock()
	if r.dialing == a {
		r.dialing = nil
	}
	a.finish(l, err)
	n.tidy(id)
	n.mu.Unlock()
	if l != nil {
		l.run(n.handler)
	}
}

func (n *Node) open(id types.NodeID, r *remote, a *attempt) (*link, error) {
	s, err := n.newStream(a.ctx, id)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(a.ctx, func() { _ = s.Reset() })
	n.mu.Lock()
	mine := r.dialing == a
	a.opened = mine
	n.mu.Unlock()
	var answer byte
	if mine {
		answer, err = ask(s, byteOpen)
	}
	if err == nil && answer == byteReject {
		// The peer has the smaller id and opens at this moment. Its stream, when it arrives, ends this attempt.
		<-a.ctx.Done()
		err = fmt.Errorf("%s refused the link and opened none", id)
	} else if err == nil && mine && answer != byteAccept {
		err = fmt.Errorf("%s answered %q to the opening of a link", id, answer)
	}
	n.mu.Lock()
	if r.dialing != a || err != nil || !stop() {
		n.mu.Unlock()
		_ = s.Reset()
		if err == nil {
			err = errSuperseded
		}
		return nil, fmt.Errorf("open a link to %s: %w", id, err)
	}
	r.dialing = nil
	l := n.install(id, r, s)
	n.mu.Unlock()
	if _, err := s.Write([]byte{byteConfirm}); err != nil {
		l.end(fmt.Errorf("open a link: %w", err))
	}
	_ = s.SetDeadline(time.Time{})
	return l, nil
}

// ask sends one byte and reads the answer.
func ask(s network.Stream, b byte) (answer byte, err error) {
	_ = s.SetDeadline(time.Now().Add(handshakeTimeout)) // a stream without deadlines ends with the attempt's context
	if _, err := s.Write([]byte{b}); err != nil {
		return 0, err
	}
	var buf [1]byte
	_, err = io.ReadFull(s, buf[:])
	return buf[0], err
}

// accept is libp2p's handler of incoming streams.
func (n *Node) accept(s network.Stream) {
	id, ok := types.NodeIDFromPeerID(string(s.Conn().RemotePeer()))
	if !ok || !n.gate.until(id).IsZero() || !n.spawn(func() { n.serve(id, s) }) {
		_ = s.Reset()
	}
}

// serve accepts a link: the goroutine of an incoming stream.
func (n *Node) serve(id types.NodeID, s network.Stream) {
	a := newAttempt(context.Background(), handshakeTimeout)
	stop := context.AfterFunc(a.ctx, func() { _ = s.Reset() })
	defer a.cancel()
	var buf [1]byte
	if _, err := io.ReadFull(s, buf[:]); err != nil || buf[0] != byteOpen {
		_ = s.Reset()
		if err == nil {
			n.Strike(id, fmt.Sprintf("opened a link with %q", buf[0]))
		}
		return
	}
	if !n.admit(id, a) {
		_, _ = s.Write([]byte{byteReject}) // the peer's own timeout covers the loss of it
		_ = s.CloseWrite()
		_, _ = io.ReadFull(s, buf[:]) // let the peer close: a reset could overtake the byte
		_ = s.Reset()
		return
	}
	answer, err := ask(s, byteAccept)
	var l *link
	n.mu.Lock()
	r := n.remote(id)
	if r.accepting == a {
		r.accepting = nil
		if err == nil && answer == byteConfirm && stop() {
			l = n.install(id, r, s)
		}
	}
	a.finish(l, errUnconfirmed)
	n.tidy(id)
	n.mu.Unlock()
	if l == nil {
		_ = s.Reset()
		return
	}
	_ = s.SetDeadline(time.Time{})
	l.run(n.handler)
}

// admit decides whether an incoming open goes on; an attempt of ours gives way then.
func (n *Node) admit(id types.NodeID, a *attempt) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	r := n.remote(id)
	if n.ended {
		return false
	}
	if d := r.dialing; d != nil {
		if d.opened && bytes.Compare(n.self[:], id[:]) < 0 {
			return false
		}
		r.dialing = nil
		d.finish(nil, errSuperseded)
	}
	if r.accepting != nil {
		r.accepting.finish(nil, errSuperseded)
	}
	r.accepting = a
	return true
}
