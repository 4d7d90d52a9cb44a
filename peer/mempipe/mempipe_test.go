package mempipe_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eschaton-network/chand/peer/mempipe"
	"github.com/eschaton-network/chand/peer/peertest"
	"github.com/eschaton-network/chand/types"
)

func id(i int) types.NodeID {
	var s types.Seed
	s[0] = byte(i)
	return s.NodeID()
}

func TestConformance(t *testing.T) {
	peertest.Run(t, synctest.Test, func(*testing.T) peertest.Fleet {
		net, i := mempipe.New(), 0
		return func() peertest.Transport { i++; return net.Node(id(i)) }
	})
}

// three makes a line of nodes in which each arrival is recorded with its time.
func three(t *testing.T) (*mempipe.Network, []*mempipe.Node, chan string) {
	net, got := mempipe.New(), make(chan string, 100)
	begin := time.Now()
	var nodes []*mempipe.Node
	for i := range 3 {
		n := net.Node(id(i))
		n.Handle(types.LinkHandler{
			OnDown:  func(types.NodeID) { got <- "down" },
			OnFrame: func(_ types.NodeID, f []byte) { got <- string(f) + " " + time.Since(begin).String() },
		})
		nodes = append(nodes, n)
		t.Cleanup(func() { _ = n.Close() })
	}
	return net, nodes, got
}

func TestDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net, n, got := three(t)
		if err := n[0].Connect(t.Context(), n[1].Self(), ""); err != nil {
			t.Fatal(err)
		}
		for _, d := range []time.Duration{time.Second, 0} { // a later frame never overtakes
			net.SetDelay(d)
			if err := n[0].Send(n[1].Self(), []byte("after "+d.String())); err != nil {
				t.Fatal(err)
			}
		}
		for _, want := range []string{"after 1s 1s", "after 0s 1s"} {
			if s := <-got; s != want {
				t.Errorf("got %q, want %q", s, want)
			}
		}
	})
}

func TestBreakLosesWhatIsOnTheWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net, n, got := three(t)
		net.SetDelay(time.Second)
		if err := n[0].Connect(t.Context(), n[1].Self(), ""); err != nil {
			t.Fatal(err)
		}
		if err := n[0].Send(n[1].Self(), []byte("lost")); err != nil {
			t.Fatal(err)
		}
		net.Break(n[1].Self(), n[0].Self())
		for range 2 {
			if s := <-got; s != "down" {
				t.Errorf("got %q, want both sides down", s)
			}
		}
		time.Sleep(time.Minute) // fake time
		if len(got) != 0 {
			t.Errorf("%q came after the break", <-got)
		}
	})
}

func TestPartition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net, n, _ := three(t)
		ctx := context.Background()
		connect := func(a, b int, want bool) {
			t.Helper()
			if err := n[a].Connect(ctx, n[b].Self(), ""); (err == nil) != want {
				t.Errorf("connect %d to %d: %v, want success %v", a, b, err, want)
			}
		}
		connect(0, 1, true)
		n[0].Keep(n[1].Self())
		net.Partition(n[0].Self())
		connect(0, 1, false)
		connect(2, 0, false)
		connect(1, 2, true)
		net.Heal(n[0].Self(), n[2].Self())
		connect(0, 2, true)
		time.Sleep(10 * time.Second)
		if got := len(n[0].Peers()); got != 1 {
			t.Errorf("%d peers while cut off from the kept one, want 1", got)
		}
		net.HealAll()
		time.Sleep(10 * time.Second)
		if got := len(n[0].Peers()); got != 2 {
			t.Errorf("%d peers, want the kept one back", got)
		}
		n[0].Forget(n[1].Self())
		net.Cut(n[0].Self(), n[1].Self())
		net.Heal(n[0].Self(), n[1].Self())
		time.Sleep(10 * time.Second)
		if got := len(n[0].Peers()); got != 1 {
			t.Errorf("%d peers, want the forgotten one to stay away", got)
		}
		// A node that was closed may come back under its id.
		if err := n[1].Close(); err != nil {
			t.Fatal(err)
		}
		again := net.Node(n[1].Self())
		again.Handle(types.LinkHandler{})
		connect(0, 1, true)
		if err := again.Close(); err != nil {
			t.Fatal(err)
		}
	})
}
