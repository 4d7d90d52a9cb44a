// Package gossiptest is the test suite that every gossip passes: gossipsub and its memory twin.
package gossiptest

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/wire"
)

// Gossip is what the daemon needs of gossip.
type Gossip interface {
	Join(topic string, validate func(types.NodeID, []byte) types.Verdict, deliver func(types.NodeID, []byte)) error
	Publish(ctx context.Context, topic string, data []byte) error
}

// Node is a gossip and the id of its daemon.
type Node struct {
	Gossip
	ID types.NodeID
}

// Fleet makes n nodes that are connected, end to end at least; settle waits until all of them know who is on a topic.
type Fleet func(t *testing.T, n int) (nodes []Node, settle func(topic string))

// patience is how long a test waits for what must come; it is never waited out when all is well, however busy the machine.
const patience = 2 * time.Minute

// Run runs the suite; wrap surrounds each test (with a synctest bubble, or with nothing).
func Run(t *testing.T, wrap func(*testing.T, func(*testing.T)), fleet Fleet) {
	tests := []struct {
		name string
		run  func(*testing.T, Fleet)
	}{
		{"everybody gets it once, in order", testSpread},
		{"verdicts", testVerdicts},
		{"topics are apart", testTopics},
		{"refusals", testRefusals},
		{"sizes", testSizes},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { wrap(t, func(t *testing.T) { tt.run(t, fleet) }) })
	}
}

type got struct {
	from types.NodeID
	data string
}

func accept(types.NodeID, []byte) types.Verdict { return types.Accept }

// join subscribes and hands deliveries to the test.
func join(t *testing.T, n Node, topic string, validate func(types.NodeID, []byte) types.Verdict) <-chan got {
	t.Helper()
	ch := make(chan got, 1<<12)
	if err := n.Join(topic, validate, func(from types.NodeID, data []byte) { ch <- got{from, string(data)} }); err != nil {
		t.Fatal(err)
	}
	return ch
}

func publish(t *testing.T, n Node, topic string, data []byte) {
	t.Helper()
	if err := n.Publish(context.Background(), topic, data); err != nil {
		t.Fatalf("publish: %v", err)
	}
}

func want(t *testing.T, ch <-chan got, from types.NodeID, data string) {
	t.Helper()
	select {
	case g := <-ch:
		if g.from != from || g.data != data {
			t.Fatalf("got %.40q (%d bytes) of %s, want %.40q of %s", g.data, len(g.data), g.from, data, from)
		}
	case <-time.After(patience):
		t.Fatalf("%.40q did not come", data)
	}
}

func testSpread(t *testing.T, fleet Fleet) {
	nodes, settle := fleet(t, 4)
	var chans []<-chan got
	for _, n := range nodes {
		chans = append(chans, join(t, n, "a", accept))
	}
	settle("a")
	for i := range 20 {
		from := nodes[i%len(nodes)]
		data := []byte(fmt.Sprint("message ", i))
		publish(t, from, "a", data)
		copy(data, "XXXXXXX") // it was copied
		for _, ch := range chans {
			want(t, ch, from.ID, fmt.Sprint("message ", i))
		}
	}
	for i, ch := range chans {
		if len(ch) != 0 {
			t.Errorf("node %d got more: %v", i, <-ch)
		}
	}
}

// testVerdicts has a node refuse what others take. The last message shows that the earlier ones are not just late.
func testVerdicts(t *testing.T, fleet Fleet) {
	nodes, settle := fleet(t, 2)
	judge := func(_ types.NodeID, data []byte) types.Verdict {
		switch data[0] {
		case 'i':
			return types.Ignore
		case 'r':
			return types.Reject
		}
		return types.Accept
	}
	all := join(t, nodes[0], "a", accept)
	some := join(t, nodes[1], "a", judge)
	settle("a")
	for _, data := range []string{"ignored", "rejected", "accepted"} {
		publish(t, nodes[0], "a", []byte(data))
		want(t, all, nodes[0].ID, data)
	}
	want(t, some, nodes[0].ID, "accepted")
	for _, data := range []string{"ignored", "rejected"} { // nor does a node say what it would not take itself
		if err := nodes[1].Publish(context.Background(), "a", []byte(data)); err == nil {
			t.Errorf("%q was published", data)
		}
	}
}

func testTopics(t *testing.T, fleet Fleet) {
	nodes, settle := fleet(t, 2)
	a0, b0 := join(t, nodes[0], "a", accept), join(t, nodes[0], "b", accept)
	a1 := join(t, nodes[1], "a", accept)
	settle("a")
	publish(t, nodes[0], "b", []byte("for b"))
	publish(t, nodes[0], "a", []byte("for a"))
	want(t, b0, nodes[0].ID, "for b")
	want(t, a0, nodes[0].ID, "for a")
	want(t, a1, nodes[0].ID, "for a")
}

func testRefusals(t *testing.T, fleet Fleet) {
	nodes, _ := fleet(t, 1)
	n := nodes[0]
	if err := n.Publish(context.Background(), "a", []byte("x")); err == nil {
		t.Error("published on a topic that was not joined")
	}
	ch := join(t, n, "a", accept)
	if err := n.Join("a", accept, func(types.NodeID, []byte) {}); err == nil {
		t.Error("joined twice")
	}
	publish(t, n, "a", []byte("alone")) // to nobody but itself
	want(t, ch, n.ID, "alone")
}

func testSizes(t *testing.T, fleet Fleet) {
	nodes, settle := fleet(t, 2)
	join(t, nodes[0], "a", accept)
	ch := join(t, nodes[1], "a", accept)
	settle("a")
	for _, size := range []int{0, wire.MaxGossip + 1} {
		if err := nodes[0].Publish(context.Background(), "a", make([]byte, size)); err == nil {
			t.Errorf("%d bytes were published", size)
		}
	}
	for _, size := range []int{wire.MaxGossip, 1} {
		data := bytes.Repeat([]byte{7}, size)
		publish(t, nodes[0], "a", data)
		want(t, ch, nodes[0].ID, string(data))
	}
}
