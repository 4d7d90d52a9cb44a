package memgossip_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/eschaton-network/chand/pubsub/gossiptest"
	"github.com/eschaton-network/chand/pubsub/memgossip"
	"github.com/eschaton-network/chand/types"
)

func id(i int) types.NodeID {
	var s types.Seed
	s[0] = byte(i)
	return s.NodeID()
}

func TestConformance(t *testing.T) {
	gossiptest.Run(t, synctest.Test, func(t *testing.T, n int) ([]gossiptest.Node, func(string)) {
		w := memgossip.New()
		var nodes []gossiptest.Node
		for i := range n {
			g := w.Node(id(i))
			t.Cleanup(func() { _ = g.Close() })
			nodes = append(nodes, gossiptest.Node{Gossip: g, ID: id(i)})
		}
		return nodes, func(string) {}
	})
}

func TestDelayAndLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, begin := memgossip.New(), time.Now()
		a, b := w.Node(id(1)), w.Node(id(2))
		defer a.Close()
		got := make(chan string, 10)
		for _, n := range []*memgossip.Node{a, b} {
			accept := func(types.NodeID, []byte) types.Verdict { return types.Accept }
			deliver := func(_ types.NodeID, data []byte) {
				if n == b {
					got <- string(data) + " " + time.Since(begin).String()
				}
			}
			if err := n.Join("a", accept, deliver); err != nil {
				t.Fatal(err)
			}
		}
		publish := func(s string) {
			t.Helper()
			if err := a.Publish(t.Context(), "a", []byte(s)); err != nil {
				t.Fatal(err)
			}
		}
		w.Lose(func(_, to types.NodeID, _ string) bool { return to == id(2) })
		publish("lost")
		w.Lose(nil)
		w.SetDelay(time.Second)
		publish("late")
		if s := <-got; s != "late 1s" {
			t.Errorf("got %q", s)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		publish("nobody hears")
		if err := b.Publish(t.Context(), "a", []byte("x")); err == nil {
			t.Error("a closed node published")
		}
	})
}
