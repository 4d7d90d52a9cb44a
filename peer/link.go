package peer

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/libp2p/go-libp2p/core/network"

	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/wire"
)

const (
	// maxQueue bounds the bytes queued for a peer that does not read: 16 of the largest frames, or some 80,000 of the usual ones.
	maxQueue = 16 << 20
	// keepBuffer is the largest buffer that is kept for the next write; larger ones are left to the collector.
	keepBuffer = 256 << 10
	// readBuffer saves system calls for small frames.
	readBuffer = 64 << 10
	// frameHeader is the length in front of each frame.
	frameHeader = 4
)

// link is one stream that carries frames.
type link struct {
	node   *Node
	peer   types.NodeID
	stream network.Stream
	prev   *link         // the link that this one replaced; its OnDown comes before our OnUp
	up     chan struct{} // closed when OnUp has returned, or when the link ended before it was called
	done   chan struct{} // closed when all is over and OnDown has returned
	ended  chan struct{} // closed when err is set
	wake   chan struct{} // holds one token when pending may have grown

	mu      sync.Mutex
	pending []byte // guarded by mu; frames with their lengths, waiting for the writer
	err     error  // guarded by mu; why the link ended; set once
	live    bool   // guarded by mu; Send may queue
}

func newLink(n *Node, id types.NodeID, s network.Stream, prev *link) *link {
	return &link{node: n, peer: id, stream: s, prev: prev,
		up: make(chan struct{}), done: make(chan struct{}), ended: make(chan struct{}), wake: make(chan struct{}, 1)}
}

// end ends the link. It does not wait and may be called from anywhere; only the first reason counts.
func (l *link) end(reason error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		l.err, l.live, l.pending = reason, false, nil
		close(l.ended)
	}
}

// reset ends the stream when the link has ended, which wakes reader and writer. It is a goroutine of its own because
// telling a peer that does not read can take seconds.
func (l *link) reset() {
	<-l.ended
	_ = l.stream.Reset() // an error means that it is gone already
}

// send queues a frame.
func (l *link) send(frame []byte) error {
	l.mu.Lock()
	if !l.live {
		l.mu.Unlock()
		return ErrNoLink
	}
	if len(l.pending)+frameHeader+len(frame) > maxQueue {
		l.mu.Unlock()
		err := fmt.Errorf("%w: %d bytes were waiting for %s", ErrSlow, maxQueue, l.peer)
		l.end(err)
		return err
	}
	l.pending = appendFrame(l.pending, frame)
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default: // the writer has not looked yet since the last time
	}
	return nil
}

// run lives as long as the link: it is the link's reading goroutine and the only one that calls the handler.
func (l *link) run(h types.LinkHandler) {
	defer close(l.done)
	var helpers sync.WaitGroup
	helpers.Go(l.reset)
	defer helpers.Wait()
	if l.prev != nil {
		<-l.prev.done
		l.prev = nil
	}
	l.mu.Lock()
	l.live = l.err == nil
	live := l.live
	l.mu.Unlock()
	if !live {
		close(l.up)
	} else {
		n := l.node
		n.log.Debug("link up", "peer", l.peer, "addr", l.stream.Conn().RemoteMultiaddr(), "inbound", l.inbound())
		helpers.Go(l.write)
		if h.OnUp != nil {
			h.OnUp(l.peer)
		}
		close(l.up)
		l.end(l.read(h.OnFrame))
		n.log.Debug("link down", "peer", l.peer, "reason", l.reason())
		if h.OnDown != nil {
			h.OnDown(l.peer)
		}
	}
	l.node.gone(l)
}

func (l *link) reason() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

func (l *link) inbound() bool { return l.stream.Stat().Direction == network.DirInbound }

// read delivers frames until the stream ends.
func (l *link) read(deliver func(types.NodeID, []byte)) error {
	r := bufio.NewReaderSize(l.stream, readBuffer)
	for {
		frame, err := readFrame(r)
		if errors.Is(err, ErrFrameSize) {
			l.end(err)
			l.node.Strike(l.peer, err.Error())
			return err
		}
		if err != nil {
			return fmt.Errorf("link lost: %w", err)
		}
		if err := l.reason(); err != nil { // dropped: nothing more is delivered, though more may be buffered
			return err
		}
		if deliver != nil {
			deliver(l.peer, frame)
		}
	}
}

// readFrame reads one frame. Errors: ErrFrameSize, or the reader's (io.EOF between frames only).
func readFrame(r io.Reader) ([]byte, error) {
	var header [frameHeader]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(header[:])
	if size == 0 || size > wire.MaxFrame {
		return nil, fmt.Errorf("%w: %d bytes announced, want 1..%d", ErrFrameSize, size, wire.MaxFrame)
	}
	frame := make([]byte, size)
	if _, err := io.ReadFull(r, frame); err != nil {
		return nil, fmt.Errorf("within a frame: %w", err)
	}
	return frame, nil
}

// appendFrame appends a frame with its length.
func appendFrame(to, frame []byte) []byte {
	return append(binary.BigEndian.AppendUint32(to, uint32(len(frame))), frame...)
}

// write is the writing goroutine: it takes all that is queued and writes it at once.
func (l *link) write() {
	var buf []byte
	for {
		l.mu.Lock()
		ended := l.err != nil
		buf, l.pending = l.pending, buf[:0]
		l.mu.Unlock()
		if ended {
			return
		}
		if len(buf) == 0 {
			select {
			case <-l.wake:
			case <-l.ended:
			}
			continue
		}
		if _, err := l.stream.Write(buf); err != nil {
			l.end(fmt.Errorf("link lost: %w", err))
			return
		}
		if cap(buf) > keepBuffer {
			buf = nil
		}
	}
}

// Send queues a frame for the peer. It fails at once with ErrNoLink, ErrSlow (the link is then dropped) or ErrFrameSize.
func (n *Node) Send(id types.NodeID, frame []byte) error {
	if len(frame) == 0 || len(frame) > wire.MaxFrame {
		return fmt.Errorf("%w: %d bytes to send, want 1..%d", ErrFrameSize, len(frame), wire.MaxFrame)
	}
	l := n.link(id)
	if l == nil {
		return fmt.Errorf("%w %s", ErrNoLink, id)
	}
	if err := l.send(frame); errors.Is(err, ErrNoLink) {
		return fmt.Errorf("%w %s", ErrNoLink, id)
	} else if err != nil {
		return err
	}
	return nil
}

// Drop ends the link to a peer, if there is one. It does not wait for OnDown.
func (n *Node) Drop(id types.NodeID, reason string) { n.drop(id, errors.New("dropped: "+reason)) }

func (n *Node) drop(id types.NodeID, reason error) {
	if l := n.link(id); l != nil {
		l.end(reason)
	}
}

// Peers lists the peers with a link.
func (n *Node) Peers() []types.PeerInfo {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []types.PeerInfo
	for id, r := range n.peers {
		if l := r.link; l != nil && l.isLive() {
			out = append(out, types.PeerInfo{ID: id, Addr: l.stream.Conn().RemoteMultiaddr().String(), Inbound: l.stream.Conn().Stat().Direction == network.DirInbound})
		}
	}
	return out
}

func (l *link) isLive() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.live
}
