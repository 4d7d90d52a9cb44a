package dht

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/eschaton-network/chand/dht/dhttest"
	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/wire"
)

func newHost(t testing.TB, i int) host.Host {
	t.Helper()
	var s types.Seed
	s[0], s[1] = byte(i), 9
	key, err := crypto.UnmarshalSecp256k1PrivateKey(s.NodeKey().Serialize())
	if err != nil {
		t.Fatal(err)
	}
	h, err := libp2p.New(libp2p.Identity(key), libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"), libp2p.DisableMetrics())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	return h
}

func nodeID(t testing.TB, h host.Host) types.NodeID {
	t.Helper()
	id, ok := types.NodeIDFromPeerID(string(h.ID()))
	if !ok {
		t.Fatal("no node id")
	}
	return id
}

func newDirectory(t testing.TB, i int) (*Directory, host.Host) {
	t.Helper()
	h := newHost(t, i)
	d, err := New(h)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d, h
}

func connect(t testing.TB, a, b host.Host) {
	t.Helper()
	if err := a.Connect(context.Background(), peer.AddrInfo{ID: b.ID(), Addrs: b.Addrs()}); err != nil {
		t.Fatal(err)
	}
}

// patience ends what hangs; nothing waits this long when all is well, however busy the machine.
const patience = 2 * time.Minute

// until waits for what libp2p does in its own time.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	end := time.After(patience)
	for !ok() {
		select {
		case <-end:
			t.Fatalf("%s: not so after %s", what, patience)
		case <-time.After(time.Millisecond): // polls, and leaves the processor to libp2p
		}
	}
}

// fleet connects every node to the first alone: the DHT has to find the rest.
func fleet(t *testing.T, n int) (nodes []dhttest.Node) {
	var first host.Host
	for i := range n {
		d, h := newDirectory(t, i)
		if first == nil {
			first = h
		} else {
			connect(t, h, first)
			until(t, "routing table", func() bool { return d.Size() > 0 })
		}
		nodes = append(nodes, dhttest.Node{Directory: d, ID: nodeID(t, h)})
	}
	hub := nodes[0].Directory.(*Directory)
	until(t, "routing table of the first", func() bool { return hub.Size() == n-1 })
	return nodes
}

func TestConformance(t *testing.T) {
	bare := func(t *testing.T, f func(*testing.T)) { f(t) }
	dhttest.Run(t, bare, fleet)
}

// TestBusy has one peer ask more at a time than it may, and another one get its answer all the same.
func TestBusy(t *testing.T) {
	nodes := fleet(t, 3)
	release := make(chan struct{})
	var running sync.WaitGroup
	running.Add(peerRequests)
	nodes[0].Serve("waits", func(_ context.Context, from types.NodeID, _ []byte) ([]byte, error) {
		if from == nodes[1].ID {
			running.Done()
			<-release
		}
		return []byte("done"), nil
	})
	ctx := context.Background()
	var asked sync.WaitGroup
	for range peerRequests {
		asked.Go(func() {
			if got, err := nodes[1].Ask(ctx, nodes[0].ID, "waits", nil); err != nil || string(got) != "done" {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
	running.Wait()
	for _, size := range []int{0, wire.MaxQuery} {
		if _, err := nodes[1].Ask(ctx, nodes[0].ID, "waits", make([]byte, size)); !errors.Is(err, ErrBusy) {
			t.Errorf("one request of %d bytes too many: %v", size, err)
		}
	}
	if got, err := nodes[2].Ask(ctx, nodes[0].ID, "waits", nil); err != nil || string(got) != "done" {
		t.Errorf("another peer: %q, %v", got, err)
	}
	close(release)
	asked.Wait()
	d := nodes[0].Directory.(*Directory)
	until(t, "all requests counted out", func() bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		return d.total == 0 && len(d.asking) == 0
	})
}

// TestGarbage writes what is no request, on the query protocol and on the DHT's own.
func TestGarbage(t *testing.T) {
	nodes := fleet(t, 2)
	d := nodes[0].Directory.(*Directory)
	d.Serve("echo", func(_ context.Context, _ types.NodeID, request []byte) ([]byte, error) { return request, nil })
	for i, data := range []string{"", "\x00", "\xff\xff\xff\xff", "\x00\x10\x00\x01" + strings.Repeat("x", 100),
		"\x00\x00\x00\x05abc", "\x00\x00\x00\x05abcdefg", strings.Repeat("\xff", 1<<20)} {
		for _, p := range []protocol.ID{protocolOf("echo"), "/chand/kad/1.0.0"} {
			bad := newHost(t, 100+i)
			connect(t, bad, d.host)
			s, err := bad.NewStream(context.Background(), d.host.ID(), p)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = s.Write([]byte(data)) // it may hang up in the middle
			_ = s.CloseWrite()
			_ = s.SetReadDeadline(time.Now().Add(patience))
			if n, err := s.Read(make([]byte, 1)); n != 0 || err == nil {
				t.Errorf("%s: garbage %d was answered", p, i)
			}
			_ = bad.Close()
		}
		if got, err := nodes[1].Ask(context.Background(), nodes[0].ID, "echo", []byte("x")); err != nil || string(got) != "x" {
			t.Fatalf("after garbage %d: %q, %v", i, got, err)
		}
	}
	if err := nodes[1].Provide(context.Background(), types.SHA256([]byte("k"))); err != nil {
		t.Errorf("after the garbage: %v", err)
	}
}

// TestBadAnswers has a peer that answers in every wrong way.
func TestBadAnswers(t *testing.T) {
	d, h := newDirectory(t, 1)
	bad := newHost(t, 2)
	connect(t, h, bad)
	for name, tt := range map[string]struct {
		answer string
		want   error
	}{
		"nothing": {"", io.EOF}, "short": {"\x00\x00\x00\x00\x05abc", io.ErrUnexpectedEOF}, "large": {"\x00\xff\xff\xff\xff", ErrTooLarge},
		"failure": {"\x01\x00\x00\x00\x02no", ErrFailed}, "long failure": {"\x01\x00\x00\xff\xff" + strings.Repeat("x", 0xffff), ErrTooLarge},
		"trailing": {"\x00\x00\x00\x00\x02okx", ErrBadAnswer},
		"status":   {"\x09\x00\x00\x00\x00", ErrBadAnswer}, "busy": {"\x02\x00\x00\x00\x00", ErrBusy},
	} {
		bad.SetStreamHandler(protocolOf(name), func(s network.Stream) {
			if name != "busy" { // which does not even read the request
				_, _ = io.Copy(io.Discard, s)
			}
			_, _ = s.Write([]byte(tt.answer))
			_ = s.Close()
		})
		if got, err := d.Ask(context.Background(), nodeID(t, bad), name, make([]byte, wire.MaxQuery)); got != nil || !errors.Is(err, tt.want) {
			t.Errorf("%s: answer %q, %v; want %v", name, got, err, tt.want)
		}
	}
	// One that never answers: the asker's own limit ends it.
	bad.SetStreamHandler(protocolOf("silent"), func(network.Stream) {})
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if _, err := d.Ask(ctx, nodeID(t, bad), "silent", nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("silent: %v", err)
	}
}

func TestClosed(t *testing.T) {
	nodes := fleet(t, 2)
	d := nodes[0].Directory.(*Directory)
	d.Serve("echo", func(_ context.Context, _ types.NodeID, request []byte) ([]byte, error) { return request, nil })
	for range 2 {
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	}
	ctx := context.Background()
	_, err1 := d.Providers(ctx, types.Hash{}, 1)
	_, err2 := d.Ask(ctx, nodes[1].ID, "echo", nil)
	for _, err := range []error{d.Provide(ctx, types.Hash{}), err1, err2} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("after close: %v", err)
		}
	}
	if _, err := nodes[1].Ask(ctx, nodes[0].ID, "echo", nil); err == nil {
		t.Error("a closed directory answered")
	}
}
