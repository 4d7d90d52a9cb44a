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

// payments measures A-B and A-B-C: one payment at a time (median time), and 50 at once (rate).
func payments(ctx context.Context, b *bench) error {
	setup, cancel := context.WithTimeout(ctx, setupLimit)
	defer cancel()
	b.say("starting a ledger and three daemons")
	nodes, err := b.line(setup, "alice", "bob", "carol")
	if err != nil {
		return err
	}
	window := b.window(4)
	step := millis(b.limits.roundTrip + b.limits.signOnce + 2*b.limits.sync)
	for _, f := range []struct {
		name   string
		payee  *devnet.Node
		hops   float64
		atOnce int
	}{{"direct.seq.p50_ms", nodes[1], 1, 1}, {"direct.c50.per_s", nodes[1], 1, manyConns}, {"hop.seq.p50_ms", nodes[2], 2, 1}, {"hop.c50.per_s", nodes[2], 2, manyConns}} {
		b.say("%s: invoices, then payments for %s", f.name, window)
		p50, rate, err := payFor(ctx, nodes[0], f.payee, f.atOnce, window)
		if err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
		if f.atOnce == 1 {
			// On the way of each hop's update: made and checked once, on disk at both ends, acknowledged.
			b.cost(f.name, millis(p50), "ms", limit{step * f.hops, fmt.Sprintf("round trip, signature and two flushes, for %.0f", f.hops)})
			continue
		}
		b.rate(f.name, rate, least(
			limit{b.limits.signVerify / f.hops, "one signature a payment and hop, all cores"},
			limit{b.limits.trips, "loopback round trips with 50 connections"}))
	}
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
			if nodes[i], err = b.net.Start(gctx, name, "--ledger-join", status.Ledger.Join); err != nil {
				return err
			}
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

// payFor makes invoices before the clock starts, then pays them, so many at once, until the window ends. Every payment must succeed.
func payFor(ctx context.Context, from, to *devnet.Node, atOnce int, window time.Duration) (p50 time.Duration, perSecond float64, err error) {
	if err := warmUp(ctx, from, to); err != nil {
		return 0, 0, err
	}
	invoices, err := makeInvoices(ctx, to, atOnce, window)
	if err != nil {
		return 0, 0, err
	}
	var next atomic.Int64
	var mu sync.Mutex
	var took []time.Duration
	g, gctx := errgroup.WithContext(ctx)
	start := time.Now()
	end := start.Add(window)
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
	err = g.Wait()
	elapsed := time.Since(start)
	if err == nil && len(took) == 0 {
		err = errors.New("no payment was made in the time: give more --seconds")
	}
	return median(took), float64(len(took)) / elapsed.Seconds(), err
}

func pay(ctx context.Context, from *devnet.Node, invoice string) error {
	p, err := from.Payments.Pay(ctx, &chandv1.PayRequest{Invoice: invoice, TimeoutSeconds: payLimit})
	if err != nil {
		return err
	}
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
