package route

import (
	"fmt"
	"slices"

	"github.com/eschaton-network/chand/types"
)

const (
	// MaxChannels bounds the graph. Each costs its owners a contract on the ledger and us about 1 KiB of memory.
	MaxChannels = 1 << 17
	// MaxChannelsPerNode keeps one node from filling the graph, and bounds what expanding it costs a path search.
	MaxChannelsPerNode = 1 << 13
	// StaleAfter is how many blocks a policy (or an announcement without one) stays: 12 days at one block a second. A node that lives repeats its
	// policies, with a new height, every RefreshAfter blocks.
	StaleAfter   types.Height = 1 << 20
	RefreshAfter types.Height = StaleAfter / 3
	// MaxFuture is how far ahead of us another node's view of the chain may be.
	MaxFuture types.Height = 60
	// PolicyBurst policies of one direction are taken at once, then one for every PolicyGap blocks. It bounds gossip, disk writes
	// and signature checks that one channel can cause.
	PolicyBurst              = 8
	PolicyGap   types.Height = 60
)

// Graph is the network's public channels as gossip told them. It is built for path searches: nodes and channels are
// numbers, and what a search reads of a channel lies together. One goroutine owns it; searches may run
// concurrently with each other, not with changes.
type Graph struct {
	nodes   []types.NodeID
	nodeAt  map[types.NodeID]int32
	adj     [][]int32 // by node: numbers of its channels
	freeN   []int32   // numbers of nodes without channels, to be used again
	edges   []edge    // by channel
	known   []known   // by channel
	edgeAt  map[types.ChannelID]int32
	freeE   []int32 // numbers of removed channels, to be used again
	version uint64  // counts changes, so that a scratch knows when its sizes are old
}

// edge is what a search reads of a channel: about 100 bytes.
type edge struct {
	node      [2]int32
	capacity  types.Amount
	lockDelta uint32 // types.Timing.ForwardDelta of the contract: least delta when a lock comes in over it
	minAhead  uint32 // types.Timing.MinExpiry above the present height: least life of a lock in it
	terms     [2]terms
}

// terms is a policy without its words. The zero value is closed.
type terms struct {
	base, min, max    types.Amount
	floor             types.Amount // what a lock counts as at least for the reservation fee
	millionths, delta uint32
	reserve           uint32
	open              bool
}

// known is the rest of a channel.
type known struct {
	ann      Announcement
	added    types.Height
	policies [2]*Policy
	budget   [2]budget
}

// budget limits how often policies are taken: the tokens left at a height.
type budget struct {
	tokens int
	at     types.Height
}

// refill returns the budget at height now.
func (b budget) refill(now types.Height) budget {
	if b.at == 0 {
		return budget{PolicyBurst, now}
	}
	if now <= b.at {
		return b
	}
	n := (now - b.at) / PolicyGap
	if n >= PolicyBurst {
		return budget{PolicyBurst, now}
	}
	return budget{min(PolicyBurst, b.tokens+int(n)), b.at + n*PolicyGap}
}

// NewGraph returns an empty graph.
func NewGraph() *Graph {
	return &Graph{nodeAt: map[types.NodeID]int32{}, edgeAt: map[types.ChannelID]int32{}}
}

// Len returns the numbers of nodes and channels.
func (g *Graph) Len() (nodes, channels int) { return len(g.nodeAt), len(g.edgeAt) }

// Channel returns what is known of a channel: everything that a newcomer needs, ready for gossip.
func (g *Graph) Channel(id types.ChannelID) (Gossip, bool) {
	e, ok := g.edgeAt[id]
	if !ok {
		return Gossip{}, false
	}
	return g.known[e].gossip(), true
}

// OnionKey returns the onion key that a node's newest policy names; zero when none is known.
func (g *Graph) OnionKey(n types.NodeID) (key types.OnionKey) {
	at, ok := g.nodeAt[n]
	if !ok {
		return key
	}
	var newest uint64
	for _, e := range g.adj[at] {
		k := &g.known[e]
		if p := k.policies[max(0, k.ann.side(n))]; p != nil && p.Seq >= newest && !p.OnionKey.IsZero() {
			newest, key = p.Seq, p.OnionKey
		}
	}
	return key
}

func (k *known) gossip() Gossip {
	ann := k.ann
	m := Gossip{Announcement: &ann}
	for _, p := range k.policies {
		if p != nil {
			m.Policies = append(m.Policies, *p)
		}
	}
	return m
}

// Channels returns up to limit channels with ids after the given one, in the order of their ids: for lists, and for what a newcomer is told.
func (g *Graph) Channels(after types.ChannelID, limit int) []Gossip {
	ids := make([]types.ChannelID, 0, len(g.edgeAt))
	for id := range g.edgeAt {
		if string(id[:]) > string(after[:]) {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, compareIDs)
	out := make([]Gossip, 0, min(limit, len(ids)))
	for _, id := range ids[:min(max(0, limit), len(ids))] {
		out = append(out, g.known[g.edgeAt[id]].gossip())
	}
	return out
}

func compareIDs(a, b types.ChannelID) int { return slices.Compare(a[:], b[:]) }

// CheckGossip decodes a message and says whether it is valid and brings something new at this height: nil, or an error for Verdict.
// What is known already or too old is found out before any signature is checked. It changes nothing.
func (g *Graph) CheckGossip(data []byte, now types.Height, contract ContractFunc) (Gossip, error) {
	m, err := DecodeGossip(data)
	if err != nil {
		return m, err
	}
	return m, g.Check(&m, now, contract)
}

// Check is CheckGossip for a decoded message.
func (g *Graph) Check(m *Gossip, now types.Height, contract ContractFunc) error {
	e, have := g.edgeAt[m.Channel()]
	ann := m.Announcement
	if have && ann != nil && *ann != g.known[e].ann {
		return fmt.Errorf("%w: channel %s is announced already, with other content", ErrStale, ann.Channel)
	}
	if !have {
		if ann == nil {
			return fmt.Errorf("%w: policy for channel %s, which was not announced", ErrUnknown, m.Channel())
		}
		if err := g.room(ann); err != nil {
			return err
		}
	}
	var old known
	if have {
		old = g.known[e]
		ann = &old.ann
	}
	fresh := !have
	for i := range m.Policies {
		if err := old.takes(&m.Policies[i], now); err == nil {
			fresh = true
		} else if have && len(m.Policies) == 1 {
			return err
		}
	}
	if !fresh {
		return fmt.Errorf("%w: nothing new about channel %s", ErrStale, m.Channel())
	}
	if !have {
		if err := VerifyAnnouncement(ann, contract); err != nil {
			return err
		}
	}
	for i := range m.Policies {
		if p := &m.Policies[i]; old.policies[p.Direction] == nil || *p != *old.policies[p.Direction] {
			if err := VerifyPolicy(p, ann); err != nil {
				return err
			}
		}
	}
	return nil
}

// takes says why a policy would not replace what is known, or nil.
func (k *known) takes(p *Policy, now types.Height) error {
	old := k.policies[p.Direction]
	switch {
	case p.Height > now+MaxFuture:
		return fmt.Errorf("%w: policy of channel %s is of block %d, we are at %d", ErrStale, p.Channel, p.Height, now)
	case p.Height+StaleAfter < now:
		return fmt.Errorf("%w: policy of channel %s is of block %d, more than %d blocks ago", ErrStale, p.Channel, p.Height, StaleAfter)
	case old != nil && (p.Seq <= old.Seq || p.Height < old.Height):
		return fmt.Errorf("%w: policy number %d of channel %s, number %d is known", ErrStale, p.Seq, p.Channel, old.Seq)
	case k.budget[p.Direction].refill(now).tokens == 0:
		return fmt.Errorf("%w: too many policies of channel %s: more than %d at once, or one in %d blocks", ErrStale, p.Channel, PolicyBurst, PolicyGap)
	}
	return nil
}

// room says whether limits leave place for a new channel.
func (g *Graph) room(a *Announcement) error {
	if len(g.edgeAt) >= MaxChannels {
		return fmt.Errorf("%w: %d channels known", ErrFull, MaxChannels)
	}
	for _, n := range a.Nodes {
		if at, ok := g.nodeAt[n]; ok && len(g.adj[at]) >= MaxChannelsPerNode {
			return fmt.Errorf("%w: %d channels of node %s known", ErrFull, MaxChannelsPerNode, n)
		}
	}
	return nil
}

// Apply takes in what Check accepted at the same height, and returns the records to store. What is not new in it is passed over.
func (g *Graph) Apply(m *Gossip, now types.Height) []types.Write {
	var writes []types.Write
	e, have := g.edgeAt[m.Channel()]
	if !have {
		if m.Announcement == nil || g.room(m.Announcement) != nil {
			return nil
		}
		e = g.add(m.Announcement, now)
		writes = append(writes, announcementRecord(&g.known[e]))
	}
	k := &g.known[e]
	for i := range m.Policies {
		p := m.Policies[i]
		if k.takes(&p, now) != nil {
			continue
		}
		b := k.budget[p.Direction].refill(now)
		b.tokens--
		k.budget[p.Direction] = b
		g.setPolicy(e, &p)
		writes = append(writes, policyRecord(&p))
	}
	return writes
}

func (g *Graph) add(a *Announcement, now types.Height) int32 {
	var at [2]int32
	for i, n := range a.Nodes {
		at[i] = g.node(n)
	}
	ed := edge{node: at, capacity: a.Capacity, lockDelta: a.Timing.ForwardDelta(), minAhead: uint32(a.Timing.MinExpiry(0))}
	k := known{ann: *a, added: now}
	var e int32
	if n := len(g.freeE); n > 0 {
		e, g.freeE = g.freeE[n-1], g.freeE[:n-1]
		g.edges[e], g.known[e] = ed, k
	} else {
		e = int32(len(g.edges))
		g.edges, g.known = append(g.edges, ed), append(g.known, k)
	}
	g.edgeAt[a.Channel] = e
	for _, n := range at {
		g.adj[n] = append(g.adj[n], e)
	}
	g.version++
	return e
}

// node returns the number of a node, new if need be.
func (g *Graph) node(id types.NodeID) int32 {
	if at, ok := g.nodeAt[id]; ok {
		return at
	}
	var at int32
	if n := len(g.freeN); n > 0 {
		at, g.freeN = g.freeN[n-1], g.freeN[:n-1]
		g.nodes[at] = id
	} else {
		at = int32(len(g.nodes))
		g.nodes, g.adj = append(g.nodes, id), append(g.adj, nil)
	}
	g.nodeAt[id] = at
	return at
}

func (g *Graph) setPolicy(e int32, p *Policy) {
	g.known[e].policies[p.Direction] = p
	g.edges[e].terms[p.Direction] = p.terms()
}

func (p *Policy) terms() terms {
	return terms{base: p.Base, min: p.Min, max: p.Max, floor: p.Max / lockSlots, millionths: p.Millionths, delta: p.Delta, reserve: p.Reserve, open: !p.Disabled}
}

// Remove forgets a channel whose contract was posted or has settled, and returns the records to delete.
func (g *Graph) Remove(id types.ChannelID) []types.Write {
	e, ok := g.edgeAt[id]
	if !ok {
		return nil
	}
	delete(g.edgeAt, id)
	for _, n := range g.edges[e].node {
		i := slices.Index(g.adj[n], e)
		g.adj[n] = slices.Delete(g.adj[n], i, i+1)
		if len(g.adj[n]) == 0 {
			delete(g.nodeAt, g.nodes[n])
			g.nodes[n], g.adj[n] = types.NodeID{}, nil
			g.freeN = append(g.freeN, n)
		}
	}
	g.edges[e], g.known[e] = edge{}, known{}
	g.freeE = append(g.freeE, e)
	g.version++
	return deleteRecords(id)
}

// Prune forgets channels that nobody has spoken of for StaleAfter blocks, and returns the records to delete. O(channels): once in
// some thousand blocks is enough.
func (g *Graph) Prune(now types.Height) []types.Write {
	var stale []types.ChannelID
	for id, e := range g.edgeAt {
		k := &g.known[e]
		last := k.added
		for _, p := range k.policies {
			if p != nil {
				last = max(last, p.Height)
			}
		}
		if last+StaleAfter < now {
			stale = append(stale, id)
		}
	}
	slices.SortFunc(stale, compareIDs)
	var writes []types.Write
	for _, id := range stale {
		writes = append(writes, g.Remove(id)...)
	}
	return writes
}
