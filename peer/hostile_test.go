package peer

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	"github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
	mss "github.com/multiformats/go-multistream"

	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/wire"
)

// victim is a node that echoes frames, and an honest friend who checks that it still does.
type victim struct {
	*Node
	t      *testing.T
	friend *Node
	echoes chan []byte
	downs  chan types.NodeID
}

func newVictim(t *testing.T) *victim {
	v := &victim{Node: newNode(t, 1), t: t, friend: newNode(t, 2), echoes: make(chan []byte, 16), downs: make(chan types.NodeID, 1024)}
	v.Handle(types.LinkHandler{
		OnFrame: func(p types.NodeID, f []byte) { _ = v.Send(p, f) }, // who is gone needs no echo
		OnDown:  func(p types.NodeID) { v.downs <- p },
	})
	v.friend.Handle(types.LinkHandler{OnFrame: func(_ types.NodeID, f []byte) { v.echoes <- f }})
	t.Cleanup(func() {
		if err := errors.Join(v.friend.Close(), v.Close()); err != nil {
			t.Error(err)
		}
	})
	v.serves()
	return v
}

// patience ends what hangs; nothing waits this long when all is well, however busy the machine.
const patience = 2 * time.Minute

// serves wants a new link and an echo, now.
func (v *victim) serves() {
	v.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := v.friend.Connect(ctx, v.Self(), v.Addrs()[0]); err != nil {
		v.t.Fatalf("the node serves no more: %v", err)
	}
	if err := v.friend.Send(v.Self(), []byte("ping")); err != nil {
		v.t.Fatal(err)
	}
	select {
	case f := <-v.echoes:
		if string(f) != "ping" {
			v.t.Fatalf("echo %q", f)
		}
	case <-ctx.Done():
		v.t.Fatal("the node answers no more")
	}
}

// attacker is a bare libp2p host with an identity of its own.
func attacker(t *testing.T, v *victim, i int) host.Host {
	t.Helper()
	n := newNode(t, i) // its key and transports are as ours; its links are not used
	t.Cleanup(func() { _ = n.Close() })
	n.Host().Peerstore().AddAddrs(peerID(v.Self()), v.Host().Addrs(), time.Hour)
	return n.Host()
}

// stream opens a link by hand.
func stream(t *testing.T, v *victim, h host.Host) (network.Stream, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	s, err := h.NewStream(ctx, peerID(v.Self()), Protocol)
	if err != nil {
		return nil, err
	}
	answer, err := ask(s, byteOpen)
	if err == nil && answer != byteAccept {
		err = errors.New("not accepted")
	}
	if err == nil {
		_, err = s.Write([]byte{byteConfirm})
	}
	return s, err
}

func (v *victim) dial() net.Conn {
	v.t.Helper()
	addr, err := manet.ToNetAddr(v.Host().Addrs()[0])
	if err != nil {
		v.t.Fatal(err)
	}
	c, err := net.Dial("tcp", addr.String())
	if err != nil {
		v.t.Fatal(err)
	}
	v.t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestRawGarbage(t *testing.T) {
	v := newVictim(t)
	random := make([]byte, 1<<20)
	if _, err := rand.Read(random); err != nil {
		t.Fatal(err)
	}
	select1 := []byte("\x13/multistream/1.0.0\n")
	for name, data := range map[string][]byte{
		"nothing": nil, "random": random, "zeros": make([]byte, 1<<16), "http": []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
		"multistream, then random": append(bytes.Clone(select1), random...), "huge length": {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f},
		"noise, then random": append(append(bytes.Clone(select1), "\x07/noise\n"...), random...),
	} {
		for range 8 {
			c := v.dial()
			_, _ = c.Write(data) // the node may hang up in the middle
			if name != "nothing" {
				_ = c.(*net.TCPConn).CloseWrite()
				_ = c.SetReadDeadline(time.Now().Add(patience))
				_, err := io.Copy(io.Discard, c)
				if nerr, ok := err.(net.Error); ok && nerr.Timeout() {
					t.Errorf("%s: the node still holds the connection", name)
				}
			}
		}
		v.serves()
	}
	// Connections that say nothing at all stay open for the handshake's timeout; more of them keep nobody out.
	for range 200 {
		v.dial()
	}
	v.friend.Drop(v.Self(), "a new one")
	v.serves()
}

// TestGarbageInsideNoise does an honest security handshake and then speaks no yamux.
func TestGarbageInsideNoise(t *testing.T) {
	v := newVictim(t)
	h := attacker(t, v, 3)
	key := h.Peerstore().PrivKey(h.ID())
	n, err := noise.New(noise.ID, key, nil)
	if err != nil {
		t.Fatal(err)
	}
	garbage := make([]byte, 300000)
	if _, err := rand.Read(garbage); err != nil {
		t.Fatal(err)
	}
	for _, prefix := range []string{"", "\x13/multistream/1.0.0\n\x0d/yamux/1.0.0\n"} {
		c := v.dial()
		if err := mss.SelectProtoOrFail(noise.ID, c); err != nil {
			t.Fatal(err)
		}
		s, err := n.SecureOutbound(context.Background(), c, peerID(v.Self()))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = s.Write(append([]byte(prefix), garbage...))
		_ = c.SetReadDeadline(time.Now().Add(patience))
		if _, err := io.Copy(io.Discard, s); err != nil {
			if nerr, ok := err.(net.Error); ok && nerr.Timeout() {
				t.Errorf("after %q: the node still holds the connection", prefix)
			}
		}
		v.serves()
	}
}

// TestBadFrames sends frames of impossible length on a proper link until the ban.
func TestBadFrames(t *testing.T) {
	for name, header := range map[string]uint32{"empty": 0, "too large": wire.MaxFrame + 1, "huge": 0xffffffff} {
		t.Run(name, func(t *testing.T) {
			v := newVictim(t)
			h := attacker(t, v, 3)
			id, _ := types.NodeIDFromPeerID(string(h.ID()))
			for i := range maxStrikes {
				if until := v.BannedUntil(id); !until.IsZero() {
					t.Fatalf("banned after %d strikes", i)
				}
				s, err := stream(t, v, h)
				if err != nil {
					t.Fatalf("strike %d: %v", i, err)
				}
				frame := binary.BigEndian.AppendUint32(nil, 5)
				frame = binary.BigEndian.AppendUint32(append(frame, "hello"...), header)
				if _, err := s.Write(append(frame, make([]byte, 1000)...)); err != nil {
					t.Fatal(err)
				}
				if p := <-v.downs; p != id {
					t.Fatalf("%s went down", p)
				}
			}
			if until := v.BannedUntil(id); until.IsZero() {
				t.Fatalf("not banned after %d strikes", maxStrikes)
			}
			if _, err := stream(t, v, h); err == nil {
				t.Error("a banned peer has a link")
			}
			if err := v.Connect(context.Background(), id, h.Addrs()[0].String()); !errors.Is(err, ErrBanned) {
				t.Errorf("connecting to a banned peer: %v", err)
			}
			v.serves()
			v.gate.mu.Lock()
			v.gate.now = func() time.Time { return time.Now().Add(banTime + time.Second) }
			v.gate.mu.Unlock()
			if _, err := stream(t, v, h); err != nil {
				t.Errorf("after the ban: %v", err)
			}
		})
	}
}

// TestHalfFrame ends the stream within a frame: nothing is delivered.
func TestHalfFrame(t *testing.T) {
	v := newVictim(t)
	h := attacker(t, v, 3)
	s, err := stream(t, v, h)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Write([]byte{0, 0, 0, 5, 'x'}); err != nil {
		t.Fatal(err)
	}
	if err := s.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	<-v.downs
	if n, err := s.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("half a frame was echoed: %d bytes, %v", n, err)
	}
	v.serves()
}

// TestManyStreams opens as many links and half-open ones as it can.
func TestManyStreams(t *testing.T) {
	v := newVictim(t)
	h := attacker(t, v, 3)
	id, _ := types.NodeIDFromPeerID(string(h.ID()))
	var wg sync.WaitGroup
	var mu sync.Mutex
	refused := 0
	for i := range 300 {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			s, err := h.NewStream(ctx, peerID(v.Self()), Protocol)
			if err == nil && i%2 == 0 {
				_, err = ask(s, byteOpen) // and never confirm
			} else if err == nil {
				_, err = s.Write(nil) // and say nothing
			}
			if err != nil {
				mu.Lock()
				refused++
				mu.Unlock()
			}
		})
	}
	v.friend.Drop(v.Self(), "a new one")
	v.serves()
	wg.Wait()
	if refused == 0 {
		t.Error("no stream was refused")
	}
	for _, p := range v.Peers() {
		if p.ID == id {
			t.Error("a link without confirmation is up")
		}
	}
	// Once the attacker's streams are gone, the same identity can have a link.
	if err := h.Network().ClosePeer(peerID(v.Self())); err != nil {
		t.Fatal(err)
	}
	for { // the node learns of the closed connection in its own time, bounded by the handshake's timeout
		s, err := stream(t, v, h)
		if err == nil {
			_ = s.Reset()
			break
		}
		if t.Context().Err() != nil {
			t.Fatal(err)
		}
	}
	v.serves()
}

func TestWrongHandshakeBytes(t *testing.T) {
	v := newVictim(t)
	h := attacker(t, v, 3)
	for _, first := range []byte{byteConfirm, byteAccept, byteReject, 0, 0xff} {
		s, err := h.NewStream(context.Background(), peerID(v.Self()), Protocol)
		if err != nil {
			break // banned by now
		}
		answer, err := ask(s, first)
		if err == nil {
			t.Errorf("opening with %q was answered %q", first, answer)
		}
	}
	id, _ := types.NodeIDFromPeerID(string(h.ID()))
	if v.BannedUntil(id).IsZero() {
		t.Error("not banned")
	}
	v.serves()
}

// TestForeignKeys lets a peer with a key of another type connect: it may use other protocols, but not have a link.
func TestForeignKeys(t *testing.T) {
	v := newVictim(t)
	h, err := libp2p.New(libp2p.NoListenAddrs) // ed25519
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	if err := h.Connect(context.Background(), peer.AddrInfo{ID: peerID(v.Self()), Addrs: v.Host().Addrs()}); err != nil {
		t.Fatal(err)
	}
	if _, err := stream(t, v, h); err == nil {
		t.Error("a peer without node id has a link")
	}
	v.serves()
}

func TestAddresses(t *testing.T) {
	a, b := newNode(t, 1), newNode(t, 2)
	defer a.Close()
	defer b.Close()
	a.Handle(types.LinkHandler{})
	b.Handle(types.LinkHandler{})
	for name, addr := range map[string]string{
		"text": "hello", "only an id": "/p2p/" + b.Self().String(), "somebody else's": "/ip4/127.0.0.1/tcp/1/p2p/" + a.Self().String(),
		"too many parts": strings.Repeat("/ip4/127.0.0.1", 20), "udp": "/ip4/127.0.0.1/udp/1", "long": strings.Repeat("/ip4/127.0.0.1", 10000),
	} {
		if err := a.Connect(context.Background(), b.Self(), addr); !errors.Is(err, ErrAddress) || len(err.Error()) > 2000 {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := a.Connect(context.Background(), b.Self(), ""); err == nil || !strings.Contains(err.Error(), "no address is known") {
		t.Errorf("no address: %v", err)
	}
	if err := a.AddAddr(b.Self(), "/dns4/localhost/tcp/4001"); err != nil {
		t.Errorf("a name: %v", err)
	}
	plain := strings.TrimSuffix(b.Addrs()[0], "/p2p/"+b.Self().String())
	if err := a.Connect(context.Background(), b.Self(), plain); err != nil {
		t.Errorf("address without id: %v", err)
	}
	if _, err := multiaddr.NewMultiaddr(a.Addrs()[0]); err != nil {
		t.Error(err)
	}
	// The address of a node that is not the one named.
	c := testSeed(9).NodeID()
	if err := a.Connect(context.Background(), c, plain); err == nil {
		t.Error("connected to a node that is another one")
	}
}

// TestKeptPeerThatRestarts comes back at the same address under the same key.
func TestKeptPeerThatRestarts(t *testing.T) {
	a, b := newNode(t, 1), newNode(t, 2)
	defer a.Close()
	ups := make(chan types.NodeID, 8)
	a.Handle(types.LinkHandler{OnUp: func(p types.NodeID) { ups <- p }})
	b.Handle(types.LinkHandler{})
	addr := b.Host().Addrs()[0].String()
	if err := a.AddAddr(b.Self(), addr); err != nil {
		t.Fatal(err)
	}
	a.Keep(b.Self())
	<-ups
	for range 2 {
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		var err error
		if b, err = New(Options{Key: testSeed(2).NodeKey(), Listen: []string{addr}}); err != nil {
			t.Fatal(err)
		}
		b.Handle(types.LinkHandler{})
		<-ups
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestQUIC(t *testing.T) {
	a, err := New(Options{Key: testSeed(1).NodeKey(), QUIC: true, Listen: []string{"/ip4/127.0.0.1/udp/0/quic-v1"}})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	b, err := New(Options{Key: testSeed(2).NodeKey(), QUIC: true, Listen: []string{}})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	got := make(chan string, 1)
	a.Handle(types.LinkHandler{OnFrame: func(_ types.NodeID, f []byte) { got <- string(f) }})
	b.Handle(types.LinkHandler{})
	if err := b.Connect(context.Background(), a.Self(), a.Addrs()[0]); err != nil {
		t.Fatal(err)
	}
	if err := b.Send(a.Self(), []byte("hello")); err != nil {
		t.Fatal(err)
	}
	if s := <-got; s != "hello" {
		t.Errorf("got %q", s)
	}
}

func TestStrikesAreForgotten(t *testing.T) {
	g, now := newGate(), time.Unix(1e9, 0)
	g.now = func() time.Time { return now }
	id := testSeed(1).NodeID()
	for range 10 { // slow enough never to be banned
		if g.strike(id) {
			t.Fatal("banned for old strikes")
		}
		now = now.Add(strikeMemory + time.Second)
	}
	for i := range 3 * maxRecords {
		g.strike(types.NodeID{byte(i), byte(i >> 8), byte(i >> 16)})
	}
	if len(g.peers) > maxRecords {
		t.Errorf("%d records, want at most %d", len(g.peers), maxRecords)
	}
}
