package chand

import "sync"

// mailbox hands values from many goroutines to the one that owns what they concern. Neither side ever waits inside it, so two
// owners that write to each other can't block each other. put is for what outsiders ask for and is bounded; force is for
// what other owners must deliver, whose number is bounded by the locks that are open.
type mailbox[T any] struct {
	limit int
	wake  chan struct{} // holds one token while there may be something to take

	mu    sync.Mutex
	items []T // guarded by mu
}

func newMailbox[T any](limit int) *mailbox[T] {
	return &mailbox[T]{limit: limit, wake: make(chan struct{}, 1)}
}

// put fails when the mailbox is full: the caller answers "busy".
func (m *mailbox[T]) put(v T) bool {
	m.mu.Lock()
	full := len(m.items) >= m.limit
	if !full {
		m.items = append(m.items, v)
	}
	m.mu.Unlock()
	if !full {
		m.signal()
	}
	return !full
}

func (m *mailbox[T]) force(v T) {
	m.mu.Lock()
	m.items = append(m.items, v)
	m.mu.Unlock()
	m.signal()
}

// take removes up to n values. When some are left the token is put back.
func (m *mailbox[T]) take(n int) []T {
	m.mu.Lock()
	n = min(n, len(m.items))
	out := m.items[:n:n]
	m.items = m.items[n:]
	rest := len(m.items) > 0
	if !rest {
		m.items = nil
	}
	m.mu.Unlock()
	if rest {
		m.signal()
	}
	return out
}

func (m *mailbox[T]) signal() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}
