package mallory

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/eschaton-network/chand/peer"
	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/wire"
)

// Rule says what becomes of a message: the messages that go instead of it, in order; none to drop it.
type Rule func(m wire.Message) []wire.Message

// Link is her transport: what her daemon says and what it hears goes through rules. Safe for concurrent use.
type Link struct {
	*peer.Node
	mu      sync.Mutex
	out, in []Rule // guarded by mu
	heard   []wire.Message
	handler types.LinkHandler
	links   atomic.Int32
	puppets map[types.ChannelID]*Puppet // guarded by mu
}

func newLink(n *peer.Node) *Link {
	return &Link{Node: n, puppets: make(map[types.ChannelID]*Puppet)}
}

// Out adds a rule for what she says, In for what she hears. Rules apply in the order in which they were added.
func (l *Link) Out(r Rule) { l.mu.Lock(); defer l.mu.Unlock(); l.out = append(l.out, r) }

// In adds a rule for what she hears.
func (l *Link) In(r Rule) { l.mu.Lock(); defer l.mu.Unlock(); l.in = append(l.in, r) }

// Behave removes all rules.
func (l *Link) Behave() { l.mu.Lock(); defer l.mu.Unlock(); l.out, l.in = nil, nil }

func apply(rules []Rule, m wire.Message) []wire.Message {
	list := []wire.Message{m}
	for _, r := range rules {
		var next []wire.Message
		for _, m := range list {
			next = append(next, r(m)...)
		}
		list = next
	}
	return list
}

// Send is her daemon's.
func (l *Link) Send(to types.NodeID, frame []byte) error {
	m, err := wire.Decode(frame)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if c, ok := m.(wire.ChannelMessage); ok && l.puppets[c.Channel()] != nil {
		return nil // the daemon no longer speaks for this channel
	}
	for _, m := range apply(l.out, m) {
		if err := l.Node.Send(to, wire.Encode(m)); err != nil {
			return err
		}
	}
	return nil
}

// Say sends a message as it is.
func (l *Link) Say(to types.NodeID, m wire.Message) error { return l.Node.Send(to, wire.Encode(m)) }

// Handle puts the rules before her daemon.
func (l *Link) Handle(h types.LinkHandler) {
	l.handler = h
	up := func(id types.NodeID) {
		l.links.Add(1)
		h.OnUp(id)
	}
	l.Node.Handle(types.LinkHandler{OnUp: up, OnDown: h.OnDown, OnFrame: l.onFrame})
}

// Links counts the links that came up.
func (l *Link) Links() int { return int(l.links.Load()) }

func (l *Link) onFrame(from types.NodeID, frame []byte) {
	m, err := wire.Decode(frame)
	if err != nil {
		l.handler.OnFrame(from, frame)
		return
	}
	l.mu.Lock()
	l.heard = append(l.heard, m)
	var puppet *Puppet
	if c, ok := m.(wire.ChannelMessage); ok {
		puppet = l.puppets[c.Channel()]
	}
	list := apply(l.in, m)
	l.mu.Unlock()
	for _, m := range list {
		if puppet != nil {
			puppet.hear(m)
		} else {
			l.handler.OnFrame(from, wire.Encode(m))
		}
	}
}

// Heard are the messages about a channel that came, before any rule.
func (l *Link) Heard(id types.ChannelID) (list []wire.Message) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, m := range l.heard {
		if c, ok := m.(wire.ChannelMessage); ok && c.Channel() == id {
			list = append(list, m)
		}
	}
	return list
}

// Drop is a rule that withholds messages of these types.
func Drop(kinds ...uint16) Rule {
	return func(m wire.Message) []wire.Message {
		if slices.Contains(kinds, m.MessageType()) {
			return nil
		}
		return []wire.Message{m}
	}
}

// Twice is a rule that says everything about channels twice.
func Twice(m wire.Message) []wire.Message {
	if _, ok := m.(wire.ChannelMessage); !ok {
		return []wire.Message{m}
	}
	return []wire.Message{m, m}
}

// Replay is a rule that says with every message also one of those before, in turns.
func Replay() Rule {
	var said []wire.Message
	next := 0
	return func(m wire.Message) []wire.Message {
		if _, ok := m.(wire.ChannelMessage); !ok {
			return []wire.Message{m}
		}
		said = append(said, m)
		next = (next*7 + 3) % len(said)
		return []wire.Message{said[next], m}
	}
}

// Swap is a rule that says an update after the message that comes after it, so many times: for ever would only keep a channel from going on.
func Swap(times int) Rule {
	var held wire.Message
	return func(m wire.Message) []wire.Message {
		if held != nil {
			list := []wire.Message{m, held}
			held = nil
			return list
		}
		if _, ok := m.(*wire.Update); ok && times > 0 {
			times--
			held = m
			return nil
		}
		return []wire.Message{m}
	}
}
