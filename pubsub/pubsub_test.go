package pubsub

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	gossip "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/eschaton-network/chand/pubsub/gossiptest"
	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/wire"
)

func newHost(t testing.TB, i int) host.Host {
	t.Helper()
	var s types.Seed
	s[0], s[1] = byte(i), 7
	key, err := crypto.UnmarshalSecp256k1PrivateKey(s.NodeKey().Serialize())
	if err != nil {
		t.Fatal(err)
	}
	return hostWith(t, key)
}

func hostWith(t testing.TB, key crypto.PrivKey) host.Host {
	t.Helper()
	h, err := libp2p.New(libp2p.Identity(key), libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"), libp2p.DisableMetrics())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	return h
}

func newGossip(t testing.TB, i int) (*Gossip, host.Host) {
	t.Helper()
	h := newHost(t, i)
	g, err := New(h, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = g.Close() })
	return g, h
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

// TestConformance runs the suite on hosts that are connected each with each; own messages then reach all at once.
func TestConformance(t *testing.T) {
	bare := func(t *testing.T, f func(*testing.T)) { f(t) }
	gossiptest.Run(t, bare, func(t *testing.T, n int) ([]gossiptest.Node, func(string)) {
		var nodes []gossiptest.Node
		var all []*Gossip
		var hosts []host.Host
		for i := range n {
			g, h := newGossip(t, i)
			for _, other := range hosts {
				connect(t, h, other)
			}
			hosts = append(hosts, h)
			all = append(all, g)
			nodes = append(nodes, gossiptest.Node{Gossip: g, ID: g.self})
		}
		return nodes, func(topic string) {
			for _, g := range all {
				until(t, "subscriptions known", func() bool { return len(g.Peers(topic)) == n-1 })
			}
		}
	})
}

// TestRelay has hosts in a line; one in the middle ignores some messages, and so the end does not get them.
func TestRelay(t *testing.T) {
	const n = 4
	var all []*Gossip
	var last host.Host
	got := make(chan string, 1<<12)
	for i := range n {
		g, h := newGossip(t, i)
		judge, deliver := accept, func(types.NodeID, []byte) {}
		switch i {
		case 1:
			judge = func(_ types.NodeID, data []byte) types.Verdict {
				if strings.HasPrefix(string(data), "no") {
					return types.Ignore
				}
				return types.Accept
			}
		case n - 1:
			deliver = func(from types.NodeID, data []byte) {
				if from != all[0].self {
					t.Errorf("from %s, want the author", from)
				}
				got <- string(data)
			}
		}
		if err := g.Join("a", judge, deliver); err != nil {
			t.Fatal(err)
		}
		if last != nil {
			connect(t, h, last)
		}
		last = h
		all = append(all, g)
	}
	// Until the meshes have formed (heartbeats of a second) relays may lose messages: say it again and again.
	until(t, "the end of the line hears the beginning", func() bool {
		for _, s := range []string{"no", "yes"} {
			if err := all[0].Publish(context.Background(), "a", []byte(s)); err != nil {
				t.Fatal(err)
			}
		}
		select {
		case s := <-got:
			if s != "yes" {
				t.Fatalf("%q went past a node that ignored it", s)
			}
			return true
		case <-time.After(50 * time.Millisecond):
			return false
		}
	})
}

func accept(types.NodeID, []byte) types.Verdict { return types.Accept }

// TestRejectedPeersAreLeftOut has a peer send invalid messages until it is no longer listened to.
func TestRejectedPeersAreLeftOut(t *testing.T) {
	victim, vh := newGossip(t, 1)
	bad, bh := newGossip(t, 2)
	good, gh := newGossip(t, 3)
	delivered := make(chan string, 100)
	judge := func(_ types.NodeID, data []byte) types.Verdict {
		if strings.HasPrefix(string(data), "bad") {
			return types.Reject
		}
		return types.Accept
	}
	if err := victim.Join("a", judge, func(_ types.NodeID, data []byte) { delivered <- string(data) }); err != nil {
		t.Fatal(err)
	}
	for _, g := range []*Gossip{bad, good} {
		if err := g.Join("a", accept, func(types.NodeID, []byte) {}); err != nil {
			t.Fatal(err)
		}
	}
	connect(t, bh, vh)
	connect(t, gh, vh)
	until(t, "subscriptions known", func() bool {
		return len(bad.Peers("a")) == 1 && len(good.Peers("a")) == 1 && len(victim.Peers("a")) == 2
	})
	ctx := context.Background()
	for i := range 20 {
		if err := bad.Publish(ctx, "a", fmt.Append(nil, "bad ", i)); err != nil {
			t.Fatal(err)
		}
	}
	// Now it says something valid, again and again; the victim must have stopped to listen at some point. The good
	// peer's messages come through all the while.
	until(t, "the bad peer is ignored", func() bool {
		if err := bad.Publish(ctx, "a", []byte("valid, from the bad one")); err != nil {
			t.Fatal(err)
		}
		if err := good.Publish(ctx, "a", []byte("valid, from the good one")); err != nil {
			t.Fatal(err)
		}
		for {
			switch s := <-delivered; {
			case strings.HasPrefix(s, "bad"):
				t.Fatalf("an invalid message was delivered: %q", s)
			case s == "valid, from the good one":
				return len(delivered) == 0 && heard(delivered, bad, good, t) == 0
			}
		}
	})
}

// heard lets both publish a number of messages and counts those of the bad one that come.
func heard(delivered chan string, bad, good *Gossip, t *testing.T) (n int) {
	t.Helper()
	ctx := context.Background()
	const each = 5
	for range each {
		if err := errors.Join(bad.Publish(ctx, "a", []byte("again, from the bad one")), good.Publish(ctx, "a", []byte("again, from the good one"))); err != nil {
			t.Fatal(err)
		}
	}
	for fromGood := 0; fromGood < each; {
		switch <-delivered {
		case "again, from the good one":
			fromGood++
		case "again, from the bad one":
			n++
		}
	}
	return n
}

// TestForeignAuthors has a host without node id take part: what it says is not for the daemon.
func TestForeignAuthors(t *testing.T) {
	g, h := newGossip(t, 1)
	key, _, err := crypto.GenerateEd25519Key(strings.NewReader(strings.Repeat("seed", 32)))
	if err != nil {
		t.Fatal(err)
	}
	fh := hostWith(t, key)
	if _, err := New(fh, nil); err == nil {
		t.Error("gossip started on a host without node id")
	}
	ps, err := gossip.NewGossipSub(t.Context(), fh)
	if err != nil {
		t.Fatal(err)
	}
	topic, err := ps.Join("a")
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan string, 10)
	if err := g.Join("a", accept, func(_ types.NodeID, data []byte) { got <- string(data) }); err != nil {
		t.Fatal(err)
	}
	connect(t, fh, h)
	until(t, "subscription known", func() bool { return len(topic.ListPeers()) == 1 })
	if err := topic.Publish(context.Background(), []byte("foreign")); err != nil {
		t.Fatal(err)
	}
	// The same connection carries a message of a node behind it: what came before was therefore not taken.
	other, oh := newGossip(t, 2)
	if err := other.Join("a", accept, func(types.NodeID, []byte) {}); err != nil {
		t.Fatal(err)
	}
	connect(t, oh, h)
	until(t, "subscription known", func() bool { return len(other.Peers("a")) == 1 })
	if err := other.Publish(context.Background(), "a", []byte("native")); err != nil {
		t.Fatal(err)
	}
	if s := <-got; s != "native" {
		t.Errorf("%q was delivered", s)
	}
	if got := g.Peers("a"); len(got) != 1 || got[0] != other.self {
		t.Errorf("peers %v, want the node alone", got)
	}
}

// TestGarbageOnTheProtocol writes what is not a gossip message at all, and messages beyond the limit.
func TestGarbageOnTheProtocol(t *testing.T) {
	g, h := newGossip(t, 1)
	good, gh := newGossip(t, 2)
	got := make(chan string, 10)
	if err := errors.Join(
		g.Join("a", accept, func(_ types.NodeID, data []byte) { got <- string(data) }),
		good.Join("a", accept, func(types.NodeID, []byte) {})); err != nil {
		t.Fatal(err)
	}
	connect(t, gh, h)
	until(t, "subscription known", func() bool { return len(good.Peers("a")) == 1 })
	for i, data := range [][]byte{
		[]byte(strings.Repeat("\xff", 100)), make([]byte, 1<<20), {5, 1, 2, 3, 4, 5},
		append([]byte{0x80, 0x80, 0x80, 0x02}, make([]byte, 4*wire.MaxGossip)...), // a length of 4 MiB
	} {
		bad := newHost(t, 10+i)
		connect(t, bad, h)
		s, err := bad.NewStream(network.WithAllowLimitedConn(context.Background(), "test"), h.ID(), gossip.GossipSubID_v11)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = s.Write(data) // it may hang up in the middle
		_ = s.CloseWrite()
		want := fmt.Sprint("after garbage ", i)
		if err := good.Publish(context.Background(), "a", []byte(want)); err != nil {
			t.Fatal(err)
		}
		if s := <-got; s != want {
			t.Errorf("got %q, want %q", s, want)
		}
	}
}

func TestAppScoreIsBounded(t *testing.T) {
	g, h := newGossip(t, 1)
	if s := g.appScore(h.ID()); s != 0 {
		t.Errorf("score %v before it was set", s)
	}
	for score, want := range map[float64]float64{5: 5, 1e9: maxAppScore, -1e9: -maxAppScore} {
		g.SetPeerScore(func(id types.NodeID) float64 {
			if id != g.self {
				t.Errorf("asked for %s", id)
			}
			return score
		})
		if s := g.appScore(h.ID()); s != want {
			t.Errorf("score %v, want %v", s, want)
		}
	}
	if s := g.appScore("foreign"); s != 0 {
		t.Errorf("a foreign peer scores %v", s)
	}
}

func TestClosed(t *testing.T) {
	g, _ := newGossip(t, 1)
	if err := g.Join("a", accept, func(types.NodeID, []byte) {}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := g.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := g.Publish(context.Background(), "a", []byte("x")); !errors.Is(err, ErrClosed) {
		t.Errorf("publish after close: %v", err)
	}
	if err := g.Join("b", accept, func(types.NodeID, []byte) {}); !errors.Is(err, ErrClosed) {
		t.Errorf("join after close: %v", err)
	}
}
