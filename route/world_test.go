package route

import (
	"fmt"
	"math/rand/v2"

	"github.com/btcsuite/btcd/btcec/v2"

	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

func testKey(name string, i int) *btcec.PrivateKey {
	h := types.SHA256(fmt.Appendf(nil, "route test %s %d", name, i))
	k, _ := btcec.PrivKeyFromBytes(h[:])
	return k
}

func testNode(i int) types.NodeID {
	return types.NodeID(testKey("node", i).PubKey().SerializeCompressed())
}

func testChannel(i int) types.ChannelID { return types.SHA256(fmt.Appendf(nil, "channel %d", i)) }

var testTiming = types.Timing{Inclusion: 3, Downtime: 5, Window: 10}

// signed makes a whole valid announcement between nodes i and j, and the contract that it is about.
func signed(channel, i, j int, capacity types.Amount) (Announcement, ledger.Contract) {
	keys := [2]types.PubKey{}
	for n, at := range []int{i, j} {
		copy(keys[n][:], testKey("close", at).PubKey().SerializeCompressed())
	}
	a := NewAnnouncement(testChannel(channel), [2]types.NodeID{testNode(i), testNode(j)}, keys, capacity, testTiming)
	for _, at := range []int{i, j} {
		if err := a.SetSigs(testNode(at), a.Sign(testKey("node", at), testKey("close", at))); err != nil {
			panic(err)
		}
	}
	return a, ledger.Contract{ID: a.Channel, Capacity: capacity, CloseKeys: keys, Window: testTiming.Window}
}

// signedPolicy makes a valid policy of node i for the channel.
func signedPolicy(a *Announcement, i int, seq uint64, height types.Height) Policy {
	dir, ok := a.Direction(testNode(i))
	if !ok {
		panic("not a side")
	}
	p := Policy{Channel: a.Channel, Direction: dir, Seq: seq, Height: height, Base: 100, Millionths: 1000, Delta: 40, Min: 1, Max: a.Capacity, Reserve: 30,
		OnionKey: types.OnionKey(types.SHA256(fmt.Appendf(nil, "onion key %d", i)))}
	p.Sign(testKey("node", i))
	return p
}

// contracts answers from a list.
func contracts(list ...ledger.Contract) ContractFunc {
	return func(id types.ChannelID) (ledger.Contract, error) {
		for _, c := range list {
			if c.ID == id {
				return c, nil
			}
		}
		return ledger.Contract{}, ledger.ErrNotFound
	}
}

// world is a graph made without signatures, for searches.
type world struct {
	*Graph
	nodes []types.NodeID
}

// plainNode makes ids fast: 50,000 channels need no real keys.
func plainNode(i int) types.NodeID {
	h := types.SHA256(fmt.Appendf(nil, "plain node %d", i))
	n := types.NodeID{2}
	copy(n[1:], h[:])
	return n
}

func newWorld(nodes int) *world {
	w := &world{Graph: NewGraph()}
	for i := range nodes {
		w.nodes = append(w.nodes, plainNode(i))
	}
	return w
}

// connect adds a channel between nodes i and j with the policies of i and of j.
func (w *world) connect(channel, i, j int, capacity types.Amount, timing types.Timing, ofI, ofJ Policy) types.ChannelID {
	a := NewAnnouncement(testChannel(channel), [2]types.NodeID{w.nodes[i], w.nodes[j]}, [2]types.PubKey{{2, 1}, {2, 2}}, capacity, timing)
	m := Gossip{Announcement: &a}
	for at, p := range map[int]Policy{i: ofI, j: ofJ} {
		p.Channel, p.Seq, p.Height = a.Channel, 1, 1
		p.Direction, _ = a.Direction(w.nodes[at])
		m.Policies = append(m.Policies, p)
	}
	if len(w.Apply(&m, 1)) != 3 {
		panic("channel not taken")
	}
	return a.Channel
}

func fee(base types.Amount, millionths uint32) Policy {
	return Policy{Base: base, Millionths: millionths, Delta: 40, Min: 1, Max: types.MaxAmount}
}

// random makes a connected graph of n nodes and m channels; some nodes are hubs, as in real networks.
func randomWorld(seed uint64, n, m int) *world {
	rng := rand.New(rand.NewPCG(seed, 1))
	w := newWorld(n)
	for c := range m {
		i := rng.IntN(n)
		if c < n-1 {
			i = c + 1
		}
		j := rng.IntN(max(1, i))
		if rng.IntN(2) == 0 { // hubs
			j = rng.IntN(max(1, min(i, n/50+1)))
		}
		if i == j {
			continue
		}
		pol := func() Policy {
			return fee(types.Amount(rng.IntN(2000)), uint32(rng.IntN(3000)))
		}
		capacity := types.Amount(1+rng.IntN(1000)) * types.Coin
		w.connect(c, i, j, capacity, types.DefaultTiming, pol(), pol())
	}
	return w
}

// local gives node i all its channels as own ones that can send what they hold.
func (w *world) locals(i int) (out []Local) {
	at, ok := w.nodeAt[w.nodes[i]]
	if !ok {
		return nil
	}
	for _, e := range w.adj[at] {
		k := &w.known[e]
		peer := k.ann.Nodes[0]
		if peer == w.nodes[i] {
			peer = k.ann.Nodes[1]
		}
		out = append(out, Local{Channel: k.ann.Channel, Peer: peer, CanSend: k.ann.Capacity, Timing: k.ann.Timing})
	}
	return out
}
