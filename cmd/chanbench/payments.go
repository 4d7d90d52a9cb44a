package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/eschaton-network/chand/internal/devnet"
	chandv1 "github.com/eschaton-network/chand/rpc/gen/chand/v1"
	"github.com/eschaton-network/chand/types"
)

const (
	// payAmount is far above dust, so every lock is an output of its own.
	payAmount = "0.001"
	// fundAmount and sideAmount are what a daemon gets and what each side puts into a channel: no run empties it.
	fundAmount = "100000"
	sideAmount = "20000"
	// setupLimit ends a network that does not come up; payLimit a payment that hangs.
	setupLimit = 2 * time.Minute
	payLimit   = 30
)

// figure is one load of payments: how many payers pay whom at once, and what is reported of it.
type figure struct {
	name   string
	to     int // index of the payee in the line of daemons, so also the number of channels on the way
	atOnce int
	// pay pays invoices, so many at once, until the time is over or none is left, and tells how long each took.
	pay func(ctx context.Context, from *devnet.Node, invoices []string, atOnce int, end time.Time) ([]time.Duration, error)
}

// payments measures A-B and A-B-C: one payment at a time (median time), and 50 at once (rate), and what each payment costs all processes
// on its way in processor time, which hardly depends on what else the machine does.
func payments(ctx context.Context, b *bench) error {
	setup, cancel := context.WithTimeout(ctx, setupLimit)
	defer cancel()
	b.say("starting a ledger and three daemons")
	nodes, err := b.line(setup, "alice", "bob", "carol")
	if err != nil {
		return err
	}
	figures := []figure{{"direct.seq", 1, 1, payUnary}, {"direct.c50", 1, manyConns, payStreamed}, {"direct.unary.c50", 1, manyConns, payUnary},
		{"hop.seq", 2, 1, payUnary}, {"hop.c50", 2, manyConns, payStreamed}, {"hop.unary.c50", 2, manyConns, payUnary}}
	if b.idle, err = idling(nodes); err != nil {
		return err
	}
	b.say("the daemons use %.3f of a core while idle: it is left out of what payments cost", b.idle)
	window := b.window(len(figures) + 1)
	for _, f := range figures {
		if err := b.measure(ctx, f, nodes[:f.to+1], window); err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
	}
	return b.streamed(ctx, nodes[0], nodes[1], window)
}

// measure runs one load from the first node to the last one.
func (b *bench) measure(ctx context.Context, f figure, nodes []*devnet.Node, window time.Duration) error {
	b.say("%s: invoices, then payments for %s", f.name, window)
	r, err := b.payFor(ctx, f, nodes, window)
	if err != nil {
		return err
	}
	hops := float64(f.to)
	if f.atOnce == 1 {
		// On the way of each hop's update: made and checked once, on disk at both ends, acknowledged.
		step := millis(b.limits.roundTrip + b.limits.signOnce + 2*b.limits.sync)
		b.cost(f.name+".p50_ms", millis(r.p50), "ms", limit{step * hops, fmt.Sprintf("round trip, signature and two flushes, for %.0f", hops)})
	} else {
		b.rate(f.name+".per_s", r.perSecond, least(
			limit{b.limits.signVerify / hops, "one signature a payment and hop, all cores"},
			limit{b.limits.trips, "loopback round trips with 50 connections"}))
	}
	if f.name == "direct.c50" {
		b.cost("sender.bytes_per_payment", r.bytes, "B", limit{2 * recordSize, "a record of 256 bytes on each side"})
		b.cost("sender.syncs_per_payment", r.syncs, "", limit{2.0 / manyConns, "all payments that are open in one flush on each side"})
	}
	b.cost(f.name+".cpu_us", micros(r.cpu), "us", limit{micros(b.limits.signOnce) * hops, "one signature made and verified a hop"})
	return nil
}

// line starts a ledger and daemons with a channel from each to the next.
func (b *bench) line(ctx context.Context, names ...string) ([]*devnet.Node, error) {
	bank, err := b.net.Start(ctx, "ledger", "--ledger-block-time", b.blockTime.String())
	if err != nil {
		return nil, err
	}
	status, err := bank.Status.Get(ctx, &chandv1.GetStatusRequest{})
	if err != nil {
		return nil, err
	}
	nodes := make([]*devnet.Node, len(names))
	g, gctx := errgroup.WithContext(ctx)
	for i, name := range names {
		g.Go(func() (err error) {
			args := []string{"--ledger-join", status.Ledger.Join}
			debug, err := debugAddr()
			if err != nil {
				return err
			}
			args = append(args, "--debug-listen", debug)
			if nodes[i], err = b.net.Start(gctx, name, args...); err != nil {
				return err
			}
			b.noteDebug(name, debug)
			return fund(gctx, bank, nodes[i])
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	for i := range nodes[1:] {
		if err := openChannel(ctx, nodes[i], nodes[i+1]); err != nil {
			return nil, err
		}
	}
	return nodes, nil
}

// fund sends money from the ledger's own account and waits until the daemon sees it.
func fund(ctx context.Context, bank, to *devnet.Node) error {
	own, err := to.Account.Get(ctx, &chandv1.GetAccountRequest{})
	if err != nil {
		return err
	}
	sent, err := bank.Account.Send(ctx, &chandv1.SendRequest{To: own.Address, Amount: fundAmount, IdempotencyKey: "fund " + to.Name})
	if err != nil {
		return err
	}
	if sent.State != "confirmed" {
		return fmt.Errorf("money for %s is %s", to.Name, sent.State)
	}
	want, err := types.ParseAmount(fundAmount)
	if err != nil {
		return err
	}
	return until(ctx, to.Name+" sees its money", func() (bool, error) {
		a, err := to.Account.Get(ctx, &chandv1.GetAccountRequest{})
		if err != nil {
			return false, err
		}
		have, err := types.ParseAmount(a.Balance)
		return have >= want, err
	})
}

// openChannel opens a channel with equal sides and waits until both ends can use it.
func openChannel(ctx context.Context, from, to *devnet.Node) error {
	self, err := to.Peers.Self(ctx, &chandv1.SelfRequest{})
	if err != nil {
		return err
	}
	if len(self.Addresses) == 0 {
		return fmt.Errorf("%s has no address", to.Name)
	}
	if _, err := from.Peers.Connect(ctx, &chandv1.ConnectRequest{Address: self.Addresses[0]}); err != nil {
		return err
	}
	ch, err := from.Channels.Open(ctx, &chandv1.OpenChannelRequest{Peer: self.Id, Mine: sideAmount, Theirs: sideAmount})
	if err != nil {
		return err
	}
	for _, n := range []*devnet.Node{from, to} {
		if err := until(ctx, n.Name+" has the channel open", func() (bool, error) {
			c, err := n.Channels.Get(ctx, &chandv1.GetChannelRequest{Id: ch.Id})
			return err == nil && c.State == "open", err
		}); err != nil {
			return err
		}
	}
	return nil
}

// pollTime is how often a condition is looked at while setting up.
const pollTime = 50 * time.Millisecond

func until(ctx context.Context, what string, done func() (bool, error)) error {
	for {
		ok, err := done()
		if ok || err != nil && ctx.Err() == nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", what, ctx.Err())
		case <-time.After(pollTime):
		}
	}
}

// paid is what one load did.
type paid struct {
	p50       time.Duration
	perSecond float64
	// bytes and syncs are what their stores wrote and flushed for one payment.
	bytes, syncs float64
	cpu          time.Duration // of all daemons on the way and of this process, for one payment, beyond what they use while idle
}

// payFor makes invoices before the clock starts, then pays them, so many at once, until the window ends. Every payment must succeed.
func (b *bench) payFor(ctx context.Context, f figure, nodes []*devnet.Node, window time.Duration) (r paid, err error) {
	from, to := nodes[0], nodes[len(nodes)-1]
	if err := warmUp(ctx, from, to); err != nil {
		return r, err
	}
	invoices, err := makeInvoices(ctx, to, f.atOnce, window)
	if err != nil {
		return r, err
	}
	wait := b.profileAll(ctx, f.name, nodes, window)
	before, err := b.storedBy(ctx, nodes)
	if err != nil {
		return r, err
	}
	busy, err := usedBy(nodes)
	if err != nil {
		return r, err
	}
	start := time.Now()
	took, err := f.pay(ctx, from, invoices, f.atOnce, start.Add(window))
	elapsed := time.Since(start)
	done, statErr := usedBy(nodes)
	if err := errors.Join(err, statErr, wait()); err != nil {
		return r, err
	}
	if len(took) == 0 {
		return r, errors.New("no payment was made in the time: give more --seconds")
	}
	after, err := b.storedBy(ctx, nodes)
	if err != nil {
		return r, err
	}
	n := float64(len(took))
	return paid{p50: median(took), perSecond: n / elapsed.Seconds(), bytes: float64(after.Written-before.Written) / n,
		syncs: float64(after.Syncs-before.Syncs) / n, cpu: b.beyond(done-busy, elapsed, len(nodes)) / time.Duration(len(took))}, nil
}

// idleTime is how long the daemons are watched doing nothing.
const idleTime = 2 * time.Second

// idling is how many cores a daemon uses on average without any load: its ledger node, above all.
func idling(nodes []*devnet.Node) (cores float64, err error) {
	before, err := usedBy(nodes)
	if err != nil {
		return 0, err
	}
	time.Sleep(idleTime)
	after, err := usedBy(nodes)
	return (after - before).Seconds() / idleTime.Seconds() / float64(len(nodes)), err
}

// beyond takes out of a processor time what so many daemons would have used while idle.
func (b *bench) beyond(used, elapsed time.Duration, daemons int) time.Duration {
	return max(used-time.Duration(b.idle*float64(daemons)*float64(elapsed)), 0)
}

// usedBy is the processor time that daemons and this process have used.
func usedBy(nodes []*devnet.Node) (time.Duration, error) {
	all := cpuTime()
	for _, n := range nodes {
		used, err := processTime(n.PID())
		if err != nil {
			return 0, err
		}
		all += used
	}
	return all, nil
}

// payUnary makes a call for each payment, on so many goroutines.
func payUnary(ctx context.Context, from *devnet.Node, invoices []string, atOnce int, end time.Time) (took []time.Duration, err error) {
	var next atomic.Int64
	var mu sync.Mutex
	g, gctx := errgroup.WithContext(ctx)
	for range atOnce {
		g.Go(func() error {
			for time.Now().Before(end) {
				i := int(next.Add(1)) - 1
				if i >= len(invoices) {
					return nil
				}
				at := time.Now()
				if err := pay(gctx, from, invoices[i]); err != nil {
					return err
				}
				mu.Lock()
				took = append(took, time.Since(at))
				mu.Unlock()
			}
			return nil
		})
	}
	return took, g.Wait()
}

// payStreamed makes one call with so many payments open at any time.
func payStreamed(ctx context.Context, from *devnet.Node, invoices []string, atOnce int, end time.Time) (took []time.Duration, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := from.Streams.PayMany(ctx)
	if err != nil {
		return nil, err
	}
	sent := make([]time.Time, 0, len(invoices))
	send := func(n int) error {
		var m chandv1.PayManyRequest
		for ; n > 0 && len(sent) < len(invoices); n-- {
			m.Payments = append(m.Payments, &chandv1.TaggedPayment{Tag: uint64(len(sent)),
				Pay: &chandv1.PayRequest{Invoice: invoices[len(sent)], TimeoutSeconds: payLimit}})
			sent = append(sent, time.Now())
		}
		if len(m.Payments) == 0 {
			return nil
		}
		return s.Send(&m)
	}
	if err := send(atOnce); err != nil {
		return nil, err
	}
	for len(took) < len(sent) {
		answer, err := s.Receive()
		if err != nil {
			return took, err
		}
		for _, o := range answer.Outcomes {
			if o.Error != nil {
				return took, errors.New(o.Error.Message)
			}
			if err := succeeded(o.Payment); err != nil {
				return took, err
			}
			took = append(took, time.Since(sent[o.Tag]))
		}
		if time.Now().Before(end) {
			if err := send(len(answer.Outcomes)); err != nil {
				return took, err
			}
		}
	}
	return took, errors.Join(s.CloseRequest(), s.CloseResponse())
}

func pay(ctx context.Context, from *devnet.Node, invoice string) error {
	p, err := from.Payments.Pay(ctx, &chandv1.PayRequest{Invoice: invoice, TimeoutSeconds: payLimit})
	if err != nil {
		return err
	}
	return succeeded(p)
}

func succeeded(p *chandv1.Payment) error {
	if p.State != "succeeded" {
		return &failedPayment{p.State, p.Failure.GetRule(), p.StateText + " " + p.Failure.GetText()}
	}
	return nil
}

type failedPayment struct{ state, rule, text string }

func (f *failedPayment) Error() string {
	return fmt.Sprintf("payment %s (%s): %s", f.state, f.rule, f.text)
}

// warmUp pays until a payment arrives: the graph of a new network takes a moment to spread.
func warmUp(ctx context.Context, from, to *devnet.Node) error {
	ctx, cancel := context.WithTimeout(ctx, setupLimit)
	defer cancel()
	return until(ctx, "first payment from "+from.Name+" to "+to.Name, func() (bool, error) {
		inv, err := to.Payments.CreateInvoice(ctx, &chandv1.CreateInvoiceRequest{Amount: payAmount})
		if err != nil {
			return false, err
		}
		err = pay(ctx, from, inv.Invoice)
		var f *failedPayment
		if errors.As(err, &f) && f.rule == "no_route" {
			return false, nil
		}
		return err == nil, err
	})
}

// makeInvoices makes as many as fit the time of one window, and at least one for each payer.
func makeInvoices(ctx context.Context, to *devnet.Node, atOnce int, window time.Duration) ([]string, error) {
	var mu sync.Mutex
	var out []string
	end := time.Now().Add(window)
	g, gctx := errgroup.WithContext(ctx)
	for range max(atOnce, 8) {
		g.Go(func() error {
			for first := true; first || time.Now().Before(end); first = false {
				inv, err := to.Payments.CreateInvoice(gctx, &chandv1.CreateInvoiceRequest{Amount: payAmount})
				if err != nil {
					return err
				}
				mu.Lock()
				out = append(out, inv.Invoice)
				mu.Unlock()
			}
			return nil
		})
	}
	return out, g.Wait()
}
