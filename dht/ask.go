package dht

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/wire"
)

const (
	// askTimeout bounds one request from the dial to the answer's last byte, on either side.
	askTimeout = 30 * time.Second
	// peerRequests and allRequests bound the requests that are answered at a time; each may hold two times wire.MaxQuery.
	peerRequests, allRequests = 8, 64
	// maxFailure bounds the text of a failure.
	maxFailure = 1024
)

// The byte in front of an answer.
const (
	statusAnswer  = 0
	statusFailure = 1
	statusBusy    = 2
)

var (
	// ErrBusy means that the peer answers too many requests at the moment; asking again later may help.
	ErrBusy = errors.New("the peer is busy")
	// ErrFailed means that the peer's handler failed; the text is the peer's.
	ErrFailed = errors.New("the peer refused the request")
	// ErrTooLarge means that a request or an answer exceeds wire.MaxQuery.
	ErrTooLarge = errors.New("larger than a query may be")
	// ErrBadAnswer means that the peer broke the protocol.
	ErrBadAnswer = errors.New("the peer's answer makes no sense")
)

func protocolOf(name string) protocol.ID { return protocol.ID("/chand/ask/1/" + name) }

// Ask sends one request and returns the answer. The peer is dialed if need be; its address is looked up in the DHT when it
// is not known. Errors: ErrBusy, ErrFailed, ErrTooLarge, ErrBadAnswer, or why the peer was not reached.
func (d *Directory) Ask(ctx context.Context, id types.NodeID, name string, request []byte) ([]byte, error) {
	if len(request) > wire.MaxQuery {
		return nil, fmt.Errorf("%w: request of %d bytes, at most %d", ErrTooLarge, len(request), wire.MaxQuery)
	}
	ctx, end, err := d.walk(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	p := peer.ID(id.PeerID())
	if err := d.reach(ctx, p); err != nil {
		return nil, fmt.Errorf("ask %s: %w", id, err)
	}
	s, err := d.host.NewStream(ctx, p, protocolOf(name))
	if err != nil {
		return nil, fmt.Errorf("ask %s for %s: %w", id, name, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = s.Reset() })
	answer, err := exchange(s, request)
	stop()
	_ = s.Reset() // whatever came of it, nothing more is wanted
	if err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, fmt.Errorf("ask %s for %s: %w", id, name, err)
	}
	return answer, nil
}

// exchange writes the request and reads the answer. A busy peer answers before it has read the request, so that both go on
// at once; whatever is still being written when exchange returns ends when the caller resets the stream.
func exchange(s network.Stream, request []byte) ([]byte, error) {
	block := appendBlock(nil, request)
	go func() {
		if _, err := s.Write(block); err == nil {
			_ = s.CloseWrite()
		} // an error shows in what is read
	}()
	var status [1]byte
	if _, err := io.ReadFull(s, status[:]); err != nil {
		return nil, err
	}
	limit := wire.MaxQuery
	if status[0] != statusAnswer {
		limit = maxFailure
	}
	answer, err := readBlock(s, limit)
	if err != nil {
		return nil, err
	}
	switch status[0] {
	case statusAnswer:
		// The peer closes the stream once this request no longer counts against us, so that the next one is welcome.
		if err := atEnd(s); err != nil {
			return nil, err
		}
		return answer, nil
	case statusFailure:
		return nil, fmt.Errorf("%w: %.*q", ErrFailed, maxFailure, answer)
	case statusBusy:
		return nil, ErrBusy
	}
	return nil, fmt.Errorf("%w: status %d", ErrBadAnswer, status[0])
}

// appendBlock appends the length and the block.
func appendBlock(to, block []byte) []byte {
	return append(binary.BigEndian.AppendUint32(to, uint32(len(block))), block...)
}

// readBlock reads a length, at most limit, and the block.
func readBlock(r io.Reader, limit int) ([]byte, error) {
	var header [4]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(header[:])
	if uint64(size) > uint64(limit) {
		return nil, fmt.Errorf("%w: %d bytes announced, at most %d", ErrTooLarge, size, limit)
	}
	block := make([]byte, size)
	_, err := io.ReadFull(r, block)
	return block, err
}

// atEnd wants the other side to have closed the stream.
func atEnd(r io.Reader) error {
	var b [1]byte
	switch _, err := io.ReadFull(r, b[:]); err {
	case io.EOF:
		return nil
	case nil:
		return fmt.Errorf("%w: more follows its end", ErrBadAnswer)
	default:
		return err
	}
}

// Serve answers requests on the named protocol. handler must be safe for concurrent use; its context ends after askTimeout or
// with Close. The text of its error is sent to the asker. A second handler for a name replaces the first.
func (d *Directory) Serve(name string, handler func(ctx context.Context, from types.NodeID, request []byte) ([]byte, error)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return
	}
	d.served[name] = struct{}{}
	d.host.SetStreamHandler(protocolOf(name), func(s network.Stream) {
		from, ok := types.NodeIDFromPeerID(string(s.Conn().RemotePeer()))
		if !ok {
			_ = s.Reset()
			return
		}
		release, verdict := d.admit(s.Conn().RemotePeer())
		if verdict != nil {
			_ = s.SetDeadline(time.Now().Add(askTimeout))
			if _, err := s.Write(appendBlock([]byte{statusBusy}, nil)); err != nil {
				_ = s.Reset()
			} else {
				_ = s.Close()
			}
			return
		}
		err := d.answer(s, from, handler)
		release()
		if err != nil {
			_ = s.Reset()
		} else {
			_ = s.Close()
		}
	})
}

// admit counts a request in, or tells why not.
func (d *Directory) admit(p peer.ID) (release func(), err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, ErrClosed
	}
	if d.asking[p] >= peerRequests || d.total >= allRequests {
		return nil, ErrBusy
	}
	d.asking[p]++
	d.total++
	d.wg.Add(1)
	return func() {
		defer d.wg.Done()
		d.mu.Lock()
		defer d.mu.Unlock()
		d.total--
		if d.asking[p]--; d.asking[p] == 0 {
			delete(d.asking, p)
		}
	}, nil
}

// answer serves one request; an error means that nothing sensible can be said to the asker.
func (d *Directory) answer(s network.Stream, from types.NodeID, handler func(context.Context, types.NodeID, []byte) ([]byte, error)) error {
	ctx, cancel := context.WithTimeout(d.ctx, askTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = s.Reset() })
	defer stop()
	request, err := readBlock(s, wire.MaxQuery)
	if err == nil {
		err = atEnd(s)
	}
	if err != nil {
		return err
	}
	status := byte(statusAnswer)
	answer, err := handler(ctx, from, request)
	if err == nil && len(answer) > wire.MaxQuery {
		err = fmt.Errorf("the answer of %d bytes is larger than the %d that fit: ask for less", len(answer), wire.MaxQuery)
	}
	if err != nil {
		text := err.Error()
		status, answer = statusFailure, []byte(text[:min(len(text), maxFailure)])
	}
	_, err = s.Write(appendBlock([]byte{status}, answer))
	return err
}
