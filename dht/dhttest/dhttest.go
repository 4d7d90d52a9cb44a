// Package dhttest is the test suite that every directory passes: kad-dht and its memory twin.
package dhttest

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/wire"
)

// Directory is what the daemon needs of a directory.
type Directory interface {
	Provide(ctx context.Context, key types.Hash) error
	Providers(ctx context.Context, key types.Hash, limit int) ([]types.NodeID, error)
	Ask(ctx context.Context, peer types.NodeID, protocol string, request []byte) ([]byte, error)
	Serve(protocol string, handler func(ctx context.Context, from types.NodeID, request []byte) ([]byte, error))
}

// Node is a directory and the id of its daemon.
type Node struct {
	Directory
	ID types.NodeID
}

// Fleet makes n nodes of one network that is ready for use.
type Fleet func(t *testing.T, n int) []Node

// Run runs the suite; wrap surrounds each test (with a synctest bubble, or with nothing).
func Run(t *testing.T, wrap func(*testing.T, func(*testing.T)), fleet Fleet) {
	tests := []struct {
		name string
		run  func(*testing.T, Fleet)
	}{
		{"alone", testAlone},
		{"two", func(t *testing.T, f Fleet) { testProviders(t, f, 2) }},
		{"three", func(t *testing.T, f Fleet) { testProviders(t, f, 3) }},
		{"ten", func(t *testing.T, f Fleet) { testProviders(t, f, 10) }},
		{"ask", testAsk},
		{"sizes", testSizes},
		{"failures", testFailures},
		{"many at once", testMany},
		{"ended context", testContext},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { wrap(t, func(t *testing.T) { tt.run(t, fleet) }) })
	}
}

// limited gives a test's calls a limit that is never reached when all is well.
func limited(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

var key = types.SHA256([]byte("key"))

func testAlone(t *testing.T, fleet Fleet) {
	n, ctx, begin := fleet(t, 1)[0], limited(t), time.Now()
	if err := n.Provide(ctx, key); err == nil || !strings.Contains(err.Error(), "no other daemon is known") {
		t.Errorf("provide: %v", err)
	}
	if got, err := n.Providers(ctx, key, 5); err == nil || len(got) != 0 {
		t.Errorf("providers: %v, %v", got, err)
	}
	var s types.Seed
	if _, err := n.Ask(ctx, s.NodeID(), "x", nil); err == nil {
		t.Error("somebody unknown was asked")
	}
	if d := time.Since(begin); d > time.Minute { // at once, on a machine of any speed, rather than when ctx ends
		t.Errorf("a node that is alone took %v to say so", d)
	}
}

func testProviders(t *testing.T, fleet Fleet, n int) {
	nodes, ctx := fleet(t, n), limited(t)
	if got, err := nodes[0].Providers(ctx, key, 5); err != nil || len(got) != 0 {
		t.Errorf("before anybody provides: %v, %v", got, err)
	}
	for i, p := range nodes[1:] {
		for range 2 { // announcing again changes nothing
			if err := p.Provide(ctx, key); err != nil {
				t.Fatalf("node %d: %v", i+1, err)
			}
		}
	}
	got, err := nodes[0].Providers(ctx, key, n)
	if err != nil || len(got) != n-1 {
		t.Fatalf("%d providers, %v; want %d", len(got), err, n-1)
	}
	for _, p := range nodes[1:] {
		if !slices.Contains(got, p.ID) {
			t.Errorf("%s was not found", p.ID)
		}
	}
	if got, err := nodes[0].Providers(ctx, key, 1); err != nil || len(got) != 1 {
		t.Errorf("limit 1: %v, %v", got, err)
	}
	if got, err := nodes[1].Providers(ctx, key, n); err != nil || slices.Contains(got, nodes[1].ID) || len(got) != n-2 {
		t.Errorf("a provider finds %d others (%v), want %d", len(got), err, n-2)
	}
	if got, err := nodes[0].Providers(ctx, types.SHA256([]byte("another")), 5); err != nil || len(got) != 0 {
		t.Errorf("another key: %v, %v", got, err)
	}
	for _, limit := range []int{0, -1, 1 << 20} {
		if _, err := nodes[0].Providers(ctx, key, limit); err == nil {
			t.Errorf("limit %d was taken", limit)
		}
	}
}

func echo(_ context.Context, _ types.NodeID, request []byte) ([]byte, error) { return request, nil }

func testAsk(t *testing.T, fleet Fleet) {
	nodes, ctx := fleet(t, 3), limited(t)
	nodes[1].Serve("who", func(_ context.Context, from types.NodeID, request []byte) ([]byte, error) {
		return append([]byte(from.String()+" "), request...), nil
	})
	nodes[1].Serve("echo", echo)
	for _, n := range []Node{nodes[0], nodes[2]} {
		if got, err := n.Ask(ctx, nodes[1].ID, "who", []byte("asks")); err != nil || string(got) != n.ID.String()+" asks" {
			t.Errorf("answer %q, %v", got, err)
		}
	}
	if got, err := nodes[0].Ask(ctx, nodes[1].ID, "echo", []byte("x")); err != nil || string(got) != "x" {
		t.Errorf("answer %q, %v", got, err)
	}
}

func testSizes(t *testing.T, fleet Fleet) {
	nodes, ctx := fleet(t, 2), limited(t)
	nodes[1].Serve("echo", echo)
	nodes[1].Serve("huge", func(context.Context, types.NodeID, []byte) ([]byte, error) { return make([]byte, wire.MaxQuery+1), nil })
	for _, size := range []int{0, 1, wire.MaxQuery} {
		request := bytes.Repeat([]byte{7}, size)
		if got, err := nodes[0].Ask(ctx, nodes[1].ID, "echo", request); err != nil || !bytes.Equal(got, request) {
			t.Errorf("%d bytes: answer of %d bytes, %v", size, len(got), err)
		}
	}
	if _, err := nodes[0].Ask(ctx, nodes[1].ID, "echo", make([]byte, wire.MaxQuery+1)); err == nil {
		t.Error("a request that is too large was sent")
	}
	if got, err := nodes[0].Ask(ctx, nodes[1].ID, "huge", nil); err == nil {
		t.Errorf("an answer of %d bytes was taken", len(got))
	}
}

func testFailures(t *testing.T, fleet Fleet) {
	nodes, ctx := fleet(t, 2), limited(t)
	nodes[1].Serve("fails", func(context.Context, types.NodeID, []byte) ([]byte, error) {
		return []byte("half an answer"), errors.New("out of stock " + strings.Repeat("!", 5000))
	})
	got, err := nodes[0].Ask(ctx, nodes[1].ID, "fails", nil)
	if err == nil || got != nil || !strings.Contains(err.Error(), "out of stock") || len(err.Error()) > 3000 {
		t.Errorf("answer %q, error of %d bytes", got, len(err.Error()))
	}
	if _, err := nodes[0].Ask(ctx, nodes[1].ID, "unknown", nil); err == nil {
		t.Error("an unknown protocol was answered")
	}
	if _, err := nodes[0].Ask(ctx, nodes[0].ID, "fails", nil); err == nil {
		t.Error("a node asked itself")
	}
}

func testMany(t *testing.T, fleet Fleet) {
	nodes, ctx := fleet(t, 2), limited(t)
	nodes[1].Serve("echo", echo)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for j := range 50 {
				request := []byte{byte(i), byte(j)}
				if got, err := nodes[0].Ask(ctx, nodes[1].ID, "echo", request); err != nil || !bytes.Equal(got, request) {
					t.Errorf("answer %v, %v; want %v", got, err, request)
					return
				}
			}
		})
	}
	wg.Wait()
}

func testContext(t *testing.T, fleet Fleet) {
	nodes := fleet(t, 2)
	started, release := make(chan struct{}), make(chan struct{})
	nodes[1].Serve("waits", func(context.Context, types.NodeID, []byte) ([]byte, error) {
		close(started)
		<-release
		return nil, nil
	})
	t.Cleanup(func() { close(release) })
	ctx, cancel := context.WithCancel(context.Background())
	go func() { <-started; cancel() }()
	if _, err := nodes[0].Ask(ctx, nodes[1].ID, "waits", nil); !errors.Is(err, context.Canceled) {
		t.Errorf("ask with an ended context: %v", err)
	}
	if err := nodes[0].Provide(ctx, key); !errors.Is(err, context.Canceled) {
		t.Errorf("provide with an ended context: %v", err)
	}
	if _, err := nodes[0].Providers(ctx, key, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("providers with an ended context: %v", err)
	}
}
