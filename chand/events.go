package chand

import (
	"sync"

	"github.com/eschaton-network/chand/types"
)

// Event is something that happened, for `watch`. Item is a value of this package's view types, or nil.
type Event struct {
	// Seq counts from 1 at the daemon's start; a gap in a subscription means that its reader was too slow.
	Seq  uint64
	Type string // "channel.open", "payment.succeeded", "block", "peer.up", …
	Time types.Time
	Text string
	Item any
}

const (
	// eventBacklog is how many events a slow reader may lag behind before it misses some.
	eventBacklog = 1024
	// maxSubscribers bounds the readers; each costs a backlog.
	maxSubscribers = 64
)

// bus spreads events. Publishing never waits: a reader whose backlog is full misses the event and sees the gap in Seq.
type bus struct {
	mu   sync.Mutex
	seq  uint64             // guarded by mu
	subs map[int]chan Event // guarded by mu
	next int                // guarded by mu
}

func (b *bus) publish(e Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.seq++
	e.Seq = b.seq
	for _, c := range b.subs {
		select {
		case c <- e:
		default:
		}
	}
}

// Subscribe starts a stream of events; the first has type "subscribed" and everything after it is in the stream or is a gap in
// Seq. cancel ends it and must be called once.
func (d *Daemon) Subscribe() (events <-chan Event, cancel func(), err error) {
	b := &d.events
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.subs) >= maxSubscribers {
		return nil, nil, refuse(CodeBusy, "end another watch first", "%d readers watch events already", len(b.subs))
	}
	if b.subs == nil {
		b.subs = make(map[int]chan Event)
	}
	b.next++
	n, c := b.next, make(chan Event, eventBacklog)
	c <- Event{Seq: b.seq, Type: "subscribed", Time: d.now(), Text: "events from now on follow"}
	b.subs[n] = c
	return c, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.subs, n)
	}, nil
}

// watched tells whether anybody reads events.
func (b *bus) watched() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.subs) > 0
}

func (d *Daemon) emit(kind, text string, item any) {
	d.events.publish(Event{Type: kind, Time: d.now(), Text: text, Item: item})
}
