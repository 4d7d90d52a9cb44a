package route

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/eschaton-network/chand/types"
)

// put applies writes as a store would.
func put(store map[string][]byte, writes []types.Write) {
	for _, w := range writes {
		if w.Value == nil {
			delete(store, w.Key)
		} else {
			store[w.Key] = w.Value
		}
	}
}

func load(t rapid.TB, store map[string][]byte) *Graph {
	g := NewGraph()
	for _, k := range slices.Sorted(maps.Keys(store)) {
		if err := g.Load(k, store[k]); err != nil {
			t.Fatal(err)
		}
	}
	return g
}

func TestGossipIntoGraph(t *testing.T) {
	a, c := signed(1, 1, 2, 100_000)
	other, _ := signed(1, 1, 3, 100_000)
	g := NewGraph()
	contract := contracts(c)
	check := func(name string, m Gossip, now types.Height, want error) {
		t.Helper()
		_, err := g.CheckGossip(m.Encode(), now, contract)
		if !errors.Is(err, want) || (err == nil) != (want == nil) {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
		if err == nil && len(g.Apply(&m, now)) == 0 {
			t.Errorf("%s: accepted, but nothing to store", name)
		}
	}
	policy := func(i int, seq uint64, h types.Height) Gossip {
		return Gossip{Policies: []Policy{signedPolicy(&a, i, seq, h)}}
	}
	forged := signedPolicy(&a, 1, 9, 101)
	forged.Sig[5] ^= 1
	check("policy before the announcement", policy(1, 1, 100), 100, ErrUnknown)
	check("announcement", Gossip{Announcement: &a}, 100, nil)
	check("announcement again", Gossip{Announcement: &a}, 100, ErrStale)
	check("another announcement of the channel", Gossip{Announcement: &other}, 100, ErrStale)
	check("policy", policy(1, 5, 100), 100, nil)
	check("policy again", policy(1, 5, 100), 100, ErrStale)
	check("older policy", policy(1, 4, 100), 100, ErrStale)
	check("older block", policy(1, 6, 99), 100, ErrStale)
	check("the other side", policy(2, 1, 100), 100, nil)
	check("forged", Gossip{Policies: []Policy{forged}}, 100, ErrInvalid)
	check("of the future", policy(1, 6, 101+MaxFuture), 100, ErrStale)
	check("news and known together", Gossip{Announcement: &a, Policies: []Policy{signedPolicy(&a, 1, 6, 101)}}, 100, nil)
	check("too old", policy(1, 7, 101), 102+StaleAfter, ErrStale)
	if nodes, channels := g.Len(); nodes != 2 || channels != 1 {
		t.Errorf("%d nodes, %d channels", nodes, channels)
	}
	if m, ok := g.Channel(a.Channel); !ok || len(m.Policies) != 2 {
		t.Errorf("%+v", m)
	}
	if Verdict(ErrInvalid) != types.Reject || Verdict(ErrFull) != types.Ignore || Verdict(nil) != types.Accept {
		t.Error("verdicts")
	}
}

// One channel can't make everybody write and verify without end.
func TestPolicyBudget(t *testing.T) {
	a, c := signed(1, 1, 2, 100_000)
	g := NewGraph()
	taken := func(from, to uint64, now types.Height) (n int) {
		for seq := from; seq < to; seq++ {
			m := Gossip{Announcement: &a, Policies: []Policy{signedPolicy(&a, 1, seq, now)}}
			if g.Check(&m, now, contracts(c)) == nil {
				g.Apply(&m, now)
				n++
			}
		}
		return n
	}
	if n := taken(1, 2*PolicyBurst, 1000); n != PolicyBurst {
		t.Errorf("%d policies at once", n)
	}
	if n := taken(100, 110, 1000+PolicyGap-1); n != 0 {
		t.Errorf("%d policies too soon", n)
	}
	if n := taken(200, 210, 1000+2*PolicyGap); n != 2 {
		t.Errorf("%d policies after two gaps", n)
	}
	if n := taken(300, 330, 1000+100*PolicyGap); n != PolicyBurst {
		t.Errorf("%d policies after a long time", n)
	}
}

func TestLimitsOfGraph(t *testing.T) {
	w := newWorld(MaxChannelsPerNode + 3)
	for i := range MaxChannelsPerNode {
		w.connect(i, 0, i+1, 1000, testTiming, fee(0, 0), fee(0, 0))
	}
	a := NewAnnouncement(testChannel(-1), [2]types.NodeID{w.nodes[0], w.nodes[MaxChannelsPerNode+1]}, [2]types.PubKey{{2, 1}, {2, 2}}, 1000, testTiming)
	if err := w.Check(&Gossip{Announcement: &a}, 1, contracts()); !errors.Is(err, ErrFull) {
		t.Errorf("one node more: %v", err)
	}
	if w.Apply(&Gossip{Announcement: &a}, 1) != nil {
		t.Error("applied above the limit")
	}
}

// describe lists what a graph knows.
func describe(g *Graph) (out []string) {
	for _, m := range g.Channels(types.ChannelID{}, MaxChannels) {
		out = append(out, fmt.Sprintf("%x", m.Encode()))
	}
	return out
}

// Whatever is added, removed and pruned, the stored records give the same graph back, numbers are used again, and neighbours' lists stay true.
func TestRecordsRebuildGraph(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, store := newWorld(8), map[string][]byte{}
		now := types.Height(1)
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			channel := rapid.IntRange(0, 9).Draw(t, "channel")
			switch rapid.IntRange(0, 3).Draw(t, "step") {
			case 0:
				put(store, w.Remove(testChannel(channel)))
			case 1:
				now += types.Height(rapid.IntRange(0, int(StaleAfter/2)).Draw(t, "blocks"))
				put(store, w.Prune(now))
			default:
				i := rapid.IntRange(0, 6).Draw(t, "i")
				a := NewAnnouncement(testChannel(channel), [2]types.NodeID{w.nodes[i], w.nodes[i+1]}, [2]types.PubKey{{2, 1}, {2, 2}}, 1000, testTiming)
				p := fee(1, 1)
				p.Channel, p.Seq, p.Height, p.Max = a.Channel, rapid.Uint64Range(1, 99).Draw(t, "seq"), now, 1000
				put(store, w.Apply(&Gossip{Announcement: &a, Policies: []Policy{p}}, now))
			}
			again := load(t, store)
			if got, want := describe(again), describe(w.Graph); !slices.Equal(got, want) {
				t.Fatalf("loaded %d channels, want %d", len(got), len(want))
			}
			checkNumbers(t, w.Graph)
			checkNumbers(t, again)
		}
	})
}

func checkNumbers(t rapid.TB, g *Graph) {
	if len(g.edgeAt)+len(g.freeE) != len(g.edges) || len(g.nodeAt)+len(g.freeN) != len(g.nodes) {
		t.Fatalf("numbers leak: %d+%d of %d channels, %d+%d of %d nodes", len(g.edgeAt), len(g.freeE), len(g.edges), len(g.nodeAt), len(g.freeN), len(g.nodes))
	}
	ends := 0
	for n, list := range g.adj {
		for _, e := range list {
			if !slices.Contains(g.edges[e].node[:], int32(n)) {
				t.Fatalf("node %d lists channel %d, which does not end there", n, e)
			}
			ends++
		}
	}
	if ends != 2*len(g.edgeAt) {
		t.Fatalf("%d ends of %d channels", ends, len(g.edgeAt))
	}
}

func TestLoadRefusals(t *testing.T) {
	w, store := newWorld(2), map[string][]byte{}
	id := w.connect(1, 0, 1, 1000, testTiming, fee(0, 0), fee(0, 0))
	m, _ := w.Channel(id)
	put(store, []types.Write{announcementRecord(&known{ann: *m.Announcement}), policyRecord(&m.Policies[0])})
	key, pol := id.String()+"/0", id.String()+fmt.Sprintf("/%d", 1+m.Policies[0].Direction)
	for name, c := range map[string]struct {
		key   string
		value []byte
	}{"key": {"x", nil}, "hex": {fmt.Sprintf("%064s/0", "x"), nil}, "part": {id.String() + "/9", nil}, "short": {key, []byte{1}}, "policy first": {pol, store[pol]},
		"other channel": {testChannel(5).String() + "/0", store[key]}, "policy bytes": {pol, []byte{1}}} {
		if err := NewGraph().Load(c.key, c.value); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	g := load(t, store)
	if err := g.Load(key, store[key]); err == nil {
		t.Error("the same announcement twice was taken")
	}
}
