package chand

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/btcec/v2/ecdsa"

	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/wire"
)

// Two daemons with one seed phrase, as when a copy of a home is started while the first still runs, would sign different things for the same
// place and undo each other's links. So before a daemon opens a link it asks the peer who is at the other end of the link that the peer has with
// this identity. The peer passes the question's nonce on over that link; who runs there signs it. The answer proves that another process runs with
// our key at this moment, and nobody else can make one: we stop. An old link whose daemon has died answers nothing.

// twinProtocol is what peers are asked by.
const twinProtocol = "/chand/twin/1"

const (
	// twinWait is how long the other end of a link has for its proof. A daemon whose machine is gone costs the next start so much.
	twinWait = 2 * time.Second
	// twinPause is the least time between two questions that are passed on to one peer, or answered.
	twinPause types.Time = 1
	// twinWarn is the least time between two warnings: any peer can say that it was asked.
	twinWarn types.Time = 600
	// maxAsked bounds what is remembered of who asked.
	maxAsked = 1024
)

var errTwin = errors.New("another daemon runs with the seed phrase of this one")

type twins struct {
	d        *Daemon
	instance types.Hash // drawn at the start

	mu      sync.Mutex
	waiting map[types.NodeID]chan *wire.TwinProof // guarded by mu; questions that were passed on
	asked   map[types.NodeID]types.Time           // guarded by mu; when a peer's question was answered last
	warned  types.Time                            // guarded by mu
}

func newTwins(d *Daemon) (*twins, error) {
	t := &twins{d: d, waiting: map[types.NodeID]chan *wire.TwinProof{}, asked: map[types.NodeID]types.Time{}}
	if err := d.random(t.instance[:]); err != nil {
		return nil, err
	}
	d.Directory.Serve(twinProtocol, t.serve)
	return t, nil
}

// look asks a peer, before a link to it is opened, whether it has one with another daemon of this identity. Only errTwin says so; other errors mean that
// nothing is known.
func (t *twins) look(ctx context.Context, peer types.NodeID, addr string) error {
	if t.d.peers.linked(peer) {
		return nil
	}
	if err := t.d.Transport.Reach(ctx, peer, addr); err != nil {
		return err
	}
	var nonce types.Hash
	if err := t.d.random(nonce[:]); err != nil {
		return err
	}
	raw, err := t.d.Directory.Ask(ctx, peer, twinProtocol, nonce[:])
	if err != nil || len(raw) == 0 {
		return err
	}
	m, err := wire.Decode(raw)
	p, ok := m.(*wire.TwinProof)
	if err != nil || !ok || p.Nonce != nonce || p.Instance == t.instance || !t.signed(p) {
		return fmt.Errorf("%s answers with a proof that is none: %w", peer, errors.Join(wire.ErrMalformed, err))
	}
	return fmt.Errorf("%w and has a link with %s: stop one of the two, and never start a copy of a home beside the first; this one has signed nothing with that peer",
		errTwin, peer)
}

func (t *twins) signed(p *wire.TwinProof) bool {
	var r, s btcec.ModNScalar
	if r.SetByteSlice(p.Sig[:32]) || s.SetByteSlice(p.Sig[32:]) {
		return false
	}
	digest := wire.TwinDigest(t.d.ID(), p.Nonce, p.Instance)
	return ecdsa.NewSignature(&r, &s).Verify(digest[:], t.d.nodeKey.PubKey())
}

// serve answers who asks for its own identity: it passes the nonce on over the link, if there is one.
func (t *twins) serve(ctx context.Context, from types.NodeID, raw []byte) ([]byte, error) {
	if len(raw) != 32 {
		return nil, fmt.Errorf("%w: a nonce of %d bytes, want 32", wire.ErrMalformed, len(raw))
	}
	if !t.d.running.Load() || !t.d.peers.linked(from) {
		return nil, nil
	}
	answer := make(chan *wire.TwinProof, 1)
	t.mu.Lock()
	busy := t.waiting[from] != nil
	if !busy {
		t.waiting[from] = answer
	}
	t.mu.Unlock()
	if busy {
		return nil, errors.New("a question is under way")
	}
	defer func() { t.mu.Lock(); delete(t.waiting, from); t.mu.Unlock() }()
	nonce := types.Hash(raw)
	if err := t.d.Transport.Send(from, wire.Encode(&wire.TwinAsk{Nonce: nonce})); err != nil {
		return nil, nil // the link is gone
	}
	ctx, cancel := context.WithTimeout(ctx, twinWait)
	defer cancel()
	for {
		select {
		case p := <-answer:
			if bytes.Equal(p.Nonce[:], nonce[:]) {
				return wire.Encode(p), nil
			}
		case <-ctx.Done():
			return nil, nil
		}
	}
}

// frame takes the messages of this file; false for others.
func (t *twins) frame(peer types.NodeID, m wire.Message) bool {
	switch m := m.(type) {
	case *wire.TwinAsk:
		t.prove(peer, m)
	case *wire.TwinProof:
		t.mu.Lock()
		if c := t.waiting[peer]; c != nil {
			select {
			case c <- m:
			default:
			}
		}
		t.mu.Unlock()
	default:
		return false
	}
	return true
}

// prove signs a nonce. Who has it passed on knows our node key, or is the peer itself, which learns nothing.
func (t *twins) prove(peer types.NodeID, m *wire.TwinAsk) {
	now := t.d.now()
	t.mu.Lock()
	soon := now < t.asked[peer]+twinPause
	if !soon {
		if len(t.asked) >= maxAsked {
			clear(t.asked)
		}
		t.asked[peer] = now
	}
	warn := !soon && now >= t.warned+twinWarn
	if warn {
		t.warned = now
	}
	t.mu.Unlock()
	if soon {
		return
	}
	p := &wire.TwinProof{Nonce: m.Nonce, Instance: t.instance}
	digest := wire.TwinDigest(t.d.ID(), p.Nonce, p.Instance)
	sig := ecdsa.Sign(t.d.nodeKey, digest[:])
	r, s := sig.R(), sig.S()
	r.PutBytesUnchecked(p.Sig[:32])
	s.PutBytesUnchecked(p.Sig[32:])
	t.d.send(peer, p)
	if warn {
		t.d.Log.Warn("a peer says that another daemon with this one's seed phrase asks whether this one runs: was a copy of its home started?", "peer", peer)
		t.d.emit("warning", "a peer says that another daemon with this one's seed phrase was started; if so, that one is told to stop", nil)
	}
}
