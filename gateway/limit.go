package gateway

import (
	"net/http"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Challenges cost an invoice each, so they are limited: by client, and in all.
const (
	clientRate  = rate.Limit(5) // a second
	clientBurst = 30
	totalRate   = rate.Limit(500)
	totalBurst  = 1000
	// maxClients bounds the table. When it is full of clients that are not idle, new ones share the limit in all.
	maxClients = 10_000
)

// limiter is a token bucket for each client address: an IPv4 address, or an IPv6 /64, which is what one customer gets.
type limiter struct {
	total *rate.Limiter
	now   func() time.Time

	mu      sync.Mutex
	clients map[netip.Prefix]*rate.Limiter // guarded by mu
}

func newLimiter(now func() time.Time) *limiter {
	return &limiter{total: rate.NewLimiter(totalRate, totalBurst), now: now, clients: map[netip.Prefix]*rate.Limiter{}}
}

// allow takes a token of the client's bucket, or says how long to wait for one.
func (l *limiter) allow(r *http.Request) (wait time.Duration, ok bool) {
	now := l.now()
	for _, b := range []*rate.Limiter{l.client(r, now), l.total} {
		if b == nil {
			continue
		}
		res := b.ReserveN(now, 1)
		if d := res.DelayFrom(now); d > 0 {
			res.CancelAt(now)
			return d, false
		}
	}
	return 0, true
}

func (l *limiter) client(r *http.Request, now time.Time) *rate.Limiter {
	a, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return nil
	}
	bits := 32
	if !a.Addr().Unmap().Is4() {
		bits = 64
	}
	key, err := a.Addr().Unmap().WithZone("").Prefix(bits)
	if err != nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.clients[key]
	if b == nil {
		if len(l.clients) >= maxClients {
			return nil
		}
		b = rate.NewLimiter(clientRate, clientBurst)
		l.clients[key] = b
	}
	return b
}

// forget drops clients whose bucket is full again: they are as good as new.
func (l *limiter) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for key, b := range l.clients {
		if b.TokensAt(l.now()) >= clientBurst {
			delete(l.clients, key)
		}
	}
}
