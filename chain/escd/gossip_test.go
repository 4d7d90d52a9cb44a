package escd

import (
	"encoding/binary"
	"sync"
	"testing"
	"time"

	"github.com/cometbft/cometbft/config"
	"github.com/cometbft/cometbft/mempool"
	"github.com/cometbft/cometbft/p2p"
	"github.com/cometbft/cometbft/p2p/mock"
	protomem "github.com/cometbft/cometbft/proto/tendermint/mempool"

	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

// countingPeer counts what it is sent.
type countingPeer struct {
	*mock.Peer
	sent int
}

func (p *countingPeer) Send(p2p.Envelope) bool { p.sent++; return true }

func newCountingPeer(t *testing.T) *countingPeer {
	p := &countingPeer{Peer: mock.NewPeer(nil)}
	t.Cleanup(func() { p.Stop() })
	return p
}

func testGossip(pause time.Duration) *gossip {
	g := newGossip(mempool.NewReactor(config.DefaultMempoolConfig(), nil), nil)
	g.pause = pause
	return g
}

// testMessage is a message that nothing but its number distinguishes.
func testMessage(t *testing.T, msid uint32) []byte {
	m := ledger.NodeMessage{Node: 1, Msid: msid, Time: 1}
	binary.LittleEndian.PutUint32(m.Signature[:], msid)
	raw, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestGossipSendsWhatThePeerLacks(t *testing.T) {
	const pause = 20 * time.Millisecond
	g := testGossip(pause)
	raw := testMessage(t, 1)
	id := types.SHA256(raw)
	send := func(p p2p.Peer, raw []byte) {
		(&relay{p, g}).Send(p2p.Envelope{ChannelID: mempool.MempoolChannel, Message: &protomem.Txs{Txs: [][]byte{raw}}})
	}
	knows, lacks := newCountingPeer(t), newCountingPeer(t)
	g.pause = time.Hour // would be noticed
	for _, own := range [][]byte{raw, ledger.Direct([]byte("a transaction"))} {
		send(lacks, own)
	}
	if lacks.sent != 2 {
		t.Fatal("what did not come from a peer was not sent")
	}
	g.pause = pause
	if !g.arrived(raw, id) || g.arrived(raw, id) {
		t.Fatal("a message is new once")
	}
	came := time.Now()
	g.has(newCountingPeer(t).ID(), id) // whom it came from
	send(lacks, raw)
	if lacks.sent != 3 || time.Since(came) < pause/2 {
		t.Errorf("sent %d times to the peer that lacks it, after %s", lacks.sent-2, time.Since(came))
	}
	g.pause = time.Hour
	var done sync.WaitGroup
	done.Go(func() { send(knows, raw) })
	g.Receive(p2p.Envelope{Src: knows, ChannelID: noticeChannel, Message: &protomem.Txs{Txs: [][]byte{id[:]}}})
	done.Wait() // before the hour is over
	if knows.sent != 0 {
		t.Error("sent to the peer that has it")
	}
}

func TestGossipIsNotMisledByForgedMessages(t *testing.T) {
	g := testGossip(time.Hour)
	raw := testMessage(t, 1)
	forged := append([]byte(nil), raw...)
	forged[len(forged)-1] ^= 1 // under the same signature
	id, other := types.SHA256(raw), types.SHA256(forged)
	p := newCountingPeer(t)
	g.has(p.ID(), other)
	if !g.arrived(forged, other) || !g.arrived(raw, id) {
		t.Error("the true message was taken for the forged one")
	}
	g.has(newCountingPeer(t).ID(), id)
	if g.rumours[id].owners[p.ID()] {
		t.Error("who has the forged message was taken to have the true one")
	}
	g.refused(forged, other)
	if g.arrived(raw, id) {
		t.Error("the true message was forgotten with the forged one")
	}
	g.refused(raw, id)
	if g.spare(p, raw) || !g.arrived(raw, id) {
		t.Error("a message that was refused cannot come again")
	}
}

func TestGossipForgets(t *testing.T) {
	g := testGossip(0)
	p := newCountingPeer(t)
	for i := range uint32(maxRumours + 10) {
		raw := testMessage(t, i)
		id := types.SHA256(raw)
		g.has(p.ID(), id)
		g.arrived(raw, id)
		g.refused(raw, id)
		g.arrived(raw, id)
	}
	if len(g.got) != maxRumours || len(g.rumours) != maxRumours || len(g.gotOrder) != maxRumours || len(g.rumoursOrder) != maxRumours {
		t.Errorf("%d messages and owners of %d are remembered, want %d", len(g.got), len(g.rumours), maxRumours)
	}
}

// All nodes of a network tell each other what they have got.
func TestGossipNotices(t *testing.T) {
	configs := several(t, "a", "b", "c")
	nodes := make([]*Node, len(configs))
	for i, c := range configs {
		nodes[i] = start(t, c)
	}
	a, b, c := nodes[0], nodes[1], nodes[2]
	for _, n := range nodes {
		await(t, n, "connected with both", func() bool { return n.comet.Switch().Peers().Size() == 2 })
	}
	of := func(n *Node) *gossip { return n.comet.Switch().Reactor("MEMPOOL").(*gossip) }
	told := func(n *Node, by *Node) bool {
		g := of(n)
		g.mu.Lock()
		defer g.mu.Unlock()
		for _, r := range g.rumours {
			if r.owners[by.comet.NodeInfo().ID()] && r.owners[c.comet.NodeInfo().ID()] {
				return true
			}
		}
		return false
	}
	submit(t, c, sendOne(t, c, types.AccountID{Node: 3}, configs[2].AccountSecret, admin, 1))
	await(t, a, "b has told that it has c's message", func() bool { return told(a, b) })
	await(t, b, "a has told that it has c's message", func() bool { return told(b, a) })
}
