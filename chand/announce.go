package chand

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/eschaton-network/chand/channel"
	"github.com/eschaton-network/chand/htlc"
	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/route"
	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/wire"
)

const (
	// republishEvery is how often our channels and their policies are gossiped again, for those who joined since.
	republishEvery = 5 * time.Minute
	// newcomerChannels is how many channels of the graph are gossiped again when a peer connects, so that a late joiner learns
	// the network from its first link. Who knows them already does not pass them on.
	newcomerChannels = 2048
	// newcomerPause is the least time between two such rounds.
	newcomerPause = 2 * time.Second
	// gossipQueue bounds announcements that wait for a place in the graph; more are dropped, and come again.
	gossipQueue = 4096
	// policyMin is the smallest payment that we forward.
	policyMin types.Amount = 1
	// freshPause is longer than two heartbeats of gossipsub, which is how long a mesh takes to form.
	freshPause = 2500 * time.Millisecond
	// maxEarly is how much gossip about contracts that this daemon's view of the ledger does not hold yet is kept for the next
	// blocks, and earlyBlocks how many: a peer may be a block or two ahead.
	maxEarly    = 256
	earlyBlocks = 8
	// pruneEvery is how many blocks pass between two searches for channels that nobody speaks of.
	pruneEvery = 4096
)

// announcer is the one goroutine that changes the channel graph: from gossip, from the ledger, and for our own channels.
type announcer struct {
	d      *Daemon
	box    *mailbox[any]
	blocks chan ledger.BlockEvents

	mu    sync.RWMutex // searches read the graph, run changes it
	graph *route.Graph // guarded by mu
	// terms are what our peers ask in channels that are not public.
	terms     map[types.ChannelID]route.Policy // guarded by mu
	memory    sync.Mutex
	penalties *route.Penalties // guarded by memory

	sent  map[types.ChannelID]uint64 // owned by run; numbers of the policies that peers were sent
	last  time.Time                  // owned by run; of the newest newcomer round
	later *time.Timer                // owned by run; the next newcomer round
	early []mailEarly                // owned by run; judged again at each block
	// fresh are channels that something new was learnt of. Each is told to our neighbours once more after freshPause: the first
	// telling may have come while the mesh of gossip was still forming, and a message that a mesh loses is never repeated.
	fresh map[types.ChannelID]bool // owned by run
	again *time.Timer              // owned by run; when fresh is told
}

type (
	mailGossip struct{ data []byte }
	// mailEarly is gossip about something that is not known here yet.
	mailEarly struct {
		data  []byte
		until types.Height
	}
	mailPeerUp struct{}
	mailSigs   struct {
		r    *runner
		sigs wire.AnnounceSigs
	}
	// mailPolicy is a policy that a payer learnt from a failure and waits for.
	mailPolicy struct {
		data []byte
		done chan struct{}
	}
	// mailTerms tells that the owner has changed what a channel asks.
	mailTerms struct{ r *runner }
	// mailOpened tells of an own channel whose link is ready: it can be announced.
	mailOpened struct{ r *runner }
)

func newAnnouncer(d *Daemon) (*announcer, error) {
	a := &announcer{d: d, box: newMailbox[any](gossipQueue), blocks: make(chan ledger.BlockEvents, blockQueue),
		graph: route.NewGraph(), penalties: loadScores(d),
		terms: make(map[types.ChannelID]route.Policy), sent: make(map[types.ChannelID]uint64)}
	return a, d.Store.Scan(route.Bucket, "", a.graph.Load)
}

// join subscribes to the topic. Validation happens on the gossip's own goroutines; nothing there waits.
func (a *announcer) join() error {
	return a.d.Gossip.Join(route.Topic, a.validate, func(from types.NodeID, data []byte) {
		if from != a.d.ID() {
			a.box.put(mailGossip{data}) // full: it comes again
		}
	})
}

func (a *announcer) validate(from types.NodeID, data []byte) types.Verdict {
	if from == a.d.ID() {
		return types.Accept
	}
	a.mu.RLock()
	defer a.mu.RUnlock()
	_, err := a.graph.CheckGossip(data, a.d.Height(), a.d.Chain.Contract)
	if errors.Is(err, route.ErrUnknown) {
		a.box.put(mailEarly{bytes.Clone(data), a.d.Height() + earlyBlocks}) // full: it comes again
	}
	return route.Verdict(err)
}

func (a *announcer) run(ctx context.Context) error {
	tick := time.NewTicker(republishEvery)
	defer tick.Stop()
	a.later = time.NewTimer(newcomerPause)
	defer a.later.Stop()
	a.fresh, a.again = make(map[types.ChannelID]bool), time.NewTimer(freshPause)
	defer a.again.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			a.republish(ctx)
			err = a.saveScores(ctx)
		case <-a.later.C:
			a.welcome(ctx)
		case <-a.again.C:
			a.tellAgain(ctx)
		case b := <-a.blocks:
			err = a.block(ctx, b)
		case <-a.box.wake:
			for _, m := range a.box.take(maxDrain) {
				if err == nil {
					err = a.mail(ctx, m)
				}
			}
		}
		if err != nil {
			return err
		}
	}
}

func (a *announcer) mail(ctx context.Context, m any) error {
	switch v := m.(type) {
	case mailGossip:
		return a.take(ctx, v.data)
	case mailPolicy:
		defer close(v.done)
		return a.take(ctx, v.data)
	case mailEarly:
		if len(a.early) < maxEarly {
			a.early = append(a.early, v)
		}
	case mailPeerUp:
		a.welcome(ctx)
	case mailOpened:
		a.sign(v.r)
		a.sendTerms(v.r)
	case mailTerms:
		a.sendTerms(v.r)
		return a.renew(ctx, v.r)
	case mailPeerPolicy:
		a.peerPolicy(v)
	case mailSigs:
		return a.announce(ctx, v.r, v.sigs)
	}
	return nil
}

// take puts valid gossip into the graph and stores it.
func (a *announcer) take(ctx context.Context, data []byte) error {
	h := a.d.Height()
	a.mu.Lock()
	m, err := a.graph.CheckGossip(data, h, a.d.Chain.Contract)
	var writes []types.Write
	if err == nil {
		writes = a.graph.Apply(&m, h)
	}
	a.mu.Unlock()
	a.learnt(&m, writes)
	return a.save(ctx, writes)
}

// learnt remembers what to tell again.
func (a *announcer) learnt(m *route.Gossip, writes []types.Write) {
	if len(writes) == 0 || len(a.fresh) >= gossipQueue {
		return
	}
	if len(a.fresh) == 0 {
		a.again.Reset(freshPause)
	}
	a.fresh[m.Channel()] = true
}

func (a *announcer) tellAgain(ctx context.Context) {
	for id := range a.fresh {
		a.mu.RLock()
		m, ok := a.graph.Channel(id)
		a.mu.RUnlock()
		if !ok {
			continue
		}
		if err := a.d.Gossip.Publish(ctx, route.Topic, m.Encode()); err != nil {
			a.d.Log.Info("an announcement was not told again", "channel", id, "err", err)
		}
	}
	clear(a.fresh)
}

func (a *announcer) save(ctx context.Context, writes []types.Write) error {
	if len(writes) == 0 {
		return nil
	}
	if err := a.d.Store.Commit(ctx, writes...); err != nil {
		return fmt.Errorf("saving the channel graph: %w", err)
	}
	return nil
}

// block removes channels whose contracts end.
func (a *announcer) block(ctx context.Context, b ledger.BlockEvents) error {
	var writes []types.Write
	var over []types.ChannelID
	for _, e := range b.Events {
		switch v := e.(type) {
		case ledger.ContractPosted:
			over = append(over, v.ID)
		case ledger.ContractSettled:
			over = append(over, v.ID)
		}
	}
	for _, id := range over {
		a.forget(id)
	}
	a.mu.Lock()
	for _, id := range over {
		writes = append(writes, a.graph.Remove(id)...)
	}
	if b.Height%pruneEvery == 0 {
		writes = append(writes, a.graph.Prune(b.Height)...)
	}
	a.mu.Unlock()
	return a.save(ctx, writes)
}

// announcement of an own channel, without signatures.
func (a *announcer) announcement(s *channel.State) route.Announcement {
	me, peer := s.Side, s.Side.Other()
	return route.NewAnnouncement(s.ID, [2]types.NodeID{a.d.ID(), s.Peer}, [2]types.PubKey{s.Keys[me].Close, s.Keys[peer].Close}, s.Capacity(), s.Timing)
}

// sign sends our announcement signatures to the peer; it is called when a channel opens and on every new link until it is public.
func (a *announcer) sign(r *runner) {
	v := r.view.Load()
	if v.State.Phase != channel.PhaseOpen || v.Info.Private {
		return
	}
	ann := a.announcement(&v.State)
	sigs := ann.Sign(a.d.nodeKey, channelKeys(a.d.cfg.Seed, v.State.KeyIndex).Close)
	r.box.force(mailAnnounce{channel.Announce{NodeSig: sigs.NodeSig, CloseSig: sigs.CloseSig}})
}

// announce publishes an own channel once both sides' signatures are here, with our policy.
func (a *announcer) announce(ctx context.Context, r *runner, peer wire.AnnounceSigs) error {
	v := r.view.Load()
	if v.State.Phase != channel.PhaseOpen || v.Info.Private {
		return nil
	}
	ann := a.announcement(&v.State)
	mine := ann.Sign(a.d.nodeKey, channelKeys(a.d.cfg.Seed, v.State.KeyIndex).Close)
	if err := ann.SetSigs(a.d.ID(), mine); err != nil {
		return fmt.Errorf("own announcement: %w", err)
	}
	if err := ann.SetSigs(v.State.Peer, peer); err != nil {
		a.d.Log.Warn("the peer's announcement signatures don't verify; the channel stays private", "channel", v.State.ID, "err", err)
		return nil
	}
	return a.publish(ctx, &route.Gossip{Announcement: &ann, Policies: []route.Policy{a.policy(&v.State, &ann)}})
}

// policy is what we ask for forwarding over an own channel, with the next number.
func (a *announcer) policy(s *channel.State, ann *route.Announcement) route.Policy {
	p := a.d.ownTerms(s)
	p.Direction, _ = ann.Direction(a.d.ID())
	p.Seq = uint64(a.d.now())
	a.mu.RLock()
	known, _ := a.graph.Channel(s.ID)
	a.mu.RUnlock()
	for _, old := range known.Policies {
		if old.Direction == p.Direction {
			p.Seq = max(p.Seq, old.Seq+1)
		}
	}
	p.Height = a.d.Height()
	p.Sign(a.d.nodeKey)
	return p
}

func (a *announcer) publish(ctx context.Context, m *route.Gossip) error {
	h := a.d.Height()
	a.mu.Lock()
	err := a.graph.Check(m, h, a.d.Chain.Contract)
	var writes []types.Write
	if err == nil {
		writes = a.graph.Apply(m, h)
	}
	a.mu.Unlock()
	a.learnt(m, writes)
	if err != nil && !errors.Is(err, route.ErrStale) {
		a.d.Log.Info("an own channel is not announced yet", "channel", m.Channel(), "why", err)
		return nil
	}
	if err := a.save(ctx, writes); err != nil {
		return err
	}
	if err := a.d.Gossip.Publish(ctx, route.Topic, m.Encode()); err != nil {
		a.d.Log.Info("an announcement was not gossiped; it is repeated", "err", err)
	}
	return nil
}

// republish repeats our own channels; a policy gets a new height before it grows stale.
func (a *announcer) republish(ctx context.Context) {
	for _, r := range a.d.allRunners() {
		v := r.view.Load()
		if v == nil || v.State.Phase != channel.PhaseOpen {
			continue
		}
		a.mu.RLock()
		m, ok := a.graph.Channel(v.State.ID)
		a.mu.RUnlock()
		if !ok {
			a.sign(r)
			continue
		}
		if dir, _ := m.Announcement.Direction(a.d.ID()); a.due(&v.State, m, dir) {
			m.Policies = []route.Policy{a.policy(&v.State, m.Announcement)}
			if err := a.publish(ctx, &m); err != nil {
				a.d.Log.Warn("republishing", "err", err)
			}
			continue
		}
		if err := a.d.Gossip.Publish(ctx, route.Topic, m.Encode()); err != nil {
			a.d.Log.Info("an announcement was not gossiped; it is repeated", "err", err)
		}
	}
}

// due tells whether our policy of a channel needs a new one: none yet, other terms, or soon stale.
func (a *announcer) due(s *channel.State, m route.Gossip, dir uint8) bool {
	for _, p := range m.Policies {
		if p.Direction == dir {
			if p.Height+route.RefreshAfter < a.d.Height() {
				return true
			}
			now := a.d.ownTerms(s)
			now.Direction, now.Seq, now.Height, now.Sig = p.Direction, p.Seq, p.Height, p.Sig
			return now != p
		}
	}
	return true
}

// renew announces what a public channel asks now.
func (a *announcer) renew(ctx context.Context, r *runner) error {
	v := r.view.Load()
	a.mu.RLock()
	m, ok := a.graph.Channel(v.State.ID)
	a.mu.RUnlock()
	if !ok || v.State.Phase != channel.PhaseOpen {
		return nil
	}
	if dir, _ := m.Announcement.Direction(a.d.ID()); !a.due(&v.State, m, dir) {
		return nil
	}
	m.Policies = []route.Policy{a.policy(&v.State, m.Announcement)}
	return a.publish(ctx, &m)
}

// welcome tells a new peer of the network, and offers our signatures for channels that are not public yet.
func (a *announcer) welcome(ctx context.Context) {
	now := a.d.Clock()
	if now.Sub(a.last) < newcomerPause {
		a.later.Reset(newcomerPause)
		return
	}
	a.last = now
	a.republish(ctx)
	a.mu.RLock()
	all := a.graph.Channels(types.ChannelID{}, newcomerChannels)
	a.mu.RUnlock()
	for i := range all {
		if err := a.d.Gossip.Publish(ctx, route.Topic, all[i].Encode()); err != nil {
			return
		}
	}
}

// find searches a route with what was learnt.
func (a *announcer) find(q route.Request) (route.Route, error) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	a.memory.Lock()
	defer a.memory.Unlock()
	q.Penalties = a.penalties
	return a.graph.FindRoute(q, nil)
}

func (a *announcer) findFlow(q route.Request) (route.Flow, error) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	a.memory.Lock()
	defer a.memory.Unlock()
	q.Penalties = a.penalties
	return a.graph.FindFlow(q, nil)
}

// signedPolicy is our policy of a public channel as it was announced, encoded; nil for other channels.
func (a *announcer) signedPolicy(id types.ChannelID) []byte {
	a.mu.RLock()
	defer a.mu.RUnlock()
	m, ok := a.graph.Channel(id)
	if !ok {
		return nil
	}
	dir, _ := m.Announcement.Direction(a.d.ID())
	for i := range m.Policies {
		if m.Policies[i].Direction == dir {
			return m.Policies[i].Encode()
		}
	}
	return nil
}

// timing is the contract's of a public channel; otherwise what the caller supposes.
func (a *announcer) timing(id types.ChannelID, otherwise types.Timing) types.Timing {
	if r := a.d.runner(id); r != nil {
		return r.view.Load().State.Timing
	}
	a.mu.RLock()
	defer a.mu.RUnlock()
	if m, ok := a.graph.Channel(id); ok {
		return m.Announcement.Timing
	}
	return otherwise
}

func (a *announcer) succeeded(r *route.Route, now types.Time) {
	a.memory.Lock()
	defer a.memory.Unlock()
	a.penalties.Succeeded(r, now)
}

// learnPolicy takes a policy that came with a failure; it reports whether it was new and valid.
func (a *announcer) learnPolicy(b []byte) bool {
	p, err := route.DecodePolicy(b)
	if err != nil {
		return false
	}
	m := route.Gossip{Policies: []route.Policy{p}}
	a.mu.RLock()
	err = a.graph.Check(&m, a.d.Height(), a.d.Chain.Contract)
	a.mu.RUnlock()
	if err != nil {
		return false
	}
	done := make(chan struct{})
	if !a.box.put(mailPolicy{m.Encode(), done}) {
		return false
	}
	select {
	case <-done:
		return true
	case <-a.d.life.ctx.Done():
		return false
	}
}

// Graph lists up to limit public channels after the given one.
func (d *Daemon) Graph(after types.ChannelID, limit int) []route.Gossip {
	d.announcer.mu.RLock()
	defer d.announcer.mu.RUnlock()
	return d.announcer.graph.Channels(after, limit)
}

// failed records a failure of a way; it says whether another way can help.
func (a *announcer) failed(r *route.Route, hop int, f *htlc.Failure, updated bool, now types.Time) bool {
	a.memory.Lock()
	defer a.memory.Unlock()
	return a.penalties.Failed(r, hop, f, updated, now)
}
