package chand

import (
	"context"
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/eschaton-network/chand/chain/sim"
	"github.com/eschaton-network/chand/dht/memdht"
	"github.com/eschaton-network/chand/peer/mempipe"
	"github.com/eschaton-network/chand/pubsub/memgossip"
	"github.com/eschaton-network/chand/types"
)

// BenchmarkPay measures what payments cost in processor time, without disk and network: direct and over one hop, one after the other and
// fifty at once. cmd/chanbench measures real daemons.
func BenchmarkPay(b *testing.B) {
	for _, line := range [][]string{{"alice", "bob"}, {"alice", "bob", "carol"}} {
		for _, at := range []int{1, 50} {
			b.Run(fmt.Sprintf("nodes=%d/c=%d", len(line), at), func(b *testing.B) { benchmarkPay(b, line, at) })
		}
	}
}

func benchmarkPay(b *testing.B, line []string, at int) {
	ctx, cancel := context.WithCancel(b.Context())
	chain, err := sim.New("bench", 50*time.Millisecond)
	if err != nil {
		b.Fatal(err)
	}
	t := new(testing.T)
	var what written
	what.reset()
	w := &world{t: t, chain: chain, pipes: mempipe.New(), gossip: memgossip.New(), dht: memdht.New(), ctx: ctx, nodes: map[string]*node{}}
	for _, name := range line {
		n := w.add(name)
		n.cfg.Timing = types.DefaultTiming
		n.cfg.Rules.MaxPayment = funding
		n.wrap = func(d *Deps) { d.Store = &counted{Store: d.Store, what: &what} }
		n.start()
	}
	defer cancel()
	for i := range len(line) - 1 {
		x, y := w.nodes[line[i]], w.nodes[line[i+1]]
		if err := x.Connect(ctx, y.ID(), "memory"); err != nil {
			b.Fatal(err)
		}
		c, err := x.Open(ctx, OpenRequest{Peer: y.ID(), Mine: 300 * types.Coin, Theirs: 10 * types.Coin})
		if err != nil {
			b.Fatal(err)
		}
		for !x.ready(c.ID) || !y.ready(c.ID) {
			chain.Mine(1)
			<-time.After(10 * time.Millisecond)
		}
	}
	payer, payee := w.nodes[line[0]], w.nodes[line[len(line)-1]]
	for public := 0; public < len(line)-1; {
		chain.Mine(1)
		<-time.After(50 * time.Millisecond)
		public = 0
		for _, g := range payer.Graph(types.ChannelID{}, 10) {
			public += len(g.Policies) / 2
		}
	}
	b.ReportAllocs()
	work := make(chan struct{})
	done := make(chan error)
	for range at {
		go func() {
			for range work {
				inv, err := payee.CreateInvoice(ctx, InvoiceRequest{Amount: 2000})
				var p Payment
				if err == nil {
					p, err = payer.Pay(ctx, PayRequest{Invoice: inv.Text})
				}
				if err == nil && p.State != PaymentSucceeded {
					err = fmt.Errorf("%s: %+v", p.State, p.Failure)
				}
				done <- err
			}
		}()
	}
	b.ResetTimer()
	used := cpuTime(b)
	what.reset()
	defer what.report(b)
	defer func() { b.ReportMetric(float64(cpuTime(b)-used)/float64(b.N)/float64(time.Microsecond), "cpu-us/op") }()
	go func() {
		for range b.N {
			work <- struct{}{}
		}
		close(work)
	}()
	for range b.N {
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	}
}

// written counts what payments save, on all nodes.
type written struct {
	mu                     sync.Mutex
	commits, writes, bytes int
	byBucket               map[string]int
}

func (w *written) reset() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.commits, w.writes, w.bytes, w.byBucket = 0, 0, 0, map[string]int{}
}

func (w *written) report(b *testing.B) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for unit, n := range map[string]int{"commits/op": w.commits, "writes/op": w.writes, "saved-B/op": w.bytes} {
		b.ReportMetric(float64(n)/float64(b.N), unit)
	}
	if testing.Verbose() {
		for bucket, n := range w.byBucket {
			b.Logf("%s: %d bytes a payment", bucket, n/b.N)
		}
	}
}

type counted struct {
	Store
	what *written
}

func (c *counted) Commit(ctx context.Context, writes ...types.Write) error {
	c.what.mu.Lock()
	c.what.commits++
	c.what.writes += len(writes)
	for _, w := range writes {
		n := len(w.Bucket) + len(w.Key) + len(w.Value)
		c.what.bytes += n
		c.what.byBucket[w.Bucket] += n
	}
	c.what.mu.Unlock()
	return c.Store.Commit(ctx, writes...)
}

// cpuTime is what this process has used of the processors: unlike the time that passes it hardly depends on what else the machine does.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
