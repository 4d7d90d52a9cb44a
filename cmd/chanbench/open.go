package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/eschaton-network/chand/internal/devnet"
	chandv1 "github.com/eschaton-network/chand/rpc/gen/chand/v1"
)

const (
	// openAtOnce is how many openings are under way for the rate: below what a daemon lets one peer have, and the next block takes all of them.
	openAtOnce = 10
	// smallSide is what each side puts into a channel here, so that the money lasts for many.
	smallSide = "10"
)

// openings measures how long a channel takes from the command until both ends can pay over it, one at a time, and how many are opened a
// second with some at once. Both wait for blocks of the ledger.
func openings(ctx context.Context, b *bench) error {
	setup, cancel := context.WithTimeout(ctx, setupLimit)
	defer cancel()
	b.say("starting a ledger and two daemons")
	nodes, err := b.line(setup, "alice", "bob")
	if err != nil {
		return err
	}
	self, err := nodes[1].Peers.Self(ctx, &chandv1.SelfRequest{})
	if err != nil {
		return err
	}
	window := b.window(2)
	for _, f := range []struct {
		name   string
		atOnce int
	}{{"open.seq.p50_ms", 1}, {"open.c10.per_s", openAtOnce}} {
		b.say("%s: for %s", f.name, window)
		took, perSecond, err := openFor(ctx, nodes[0], nodes[1], self.Id, f.atOnce, window)
		if err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
		if f.atOnce == 1 {
			b.cost(f.name, millis(median(took)), "ms", limit{millis(b.blockTime), "one block: the contract is in it"})
		} else {
			b.rate(f.name, perSecond, limit{openAtOnce / b.blockTime.Seconds(), fmt.Sprintf("%d in each block", openAtOnce)})
		}
	}
	return nil
}

// openFor opens channels, so many at once, until the window ends.
func openFor(ctx context.Context, from, to *devnet.Node, peer string, atOnce int, window time.Duration) (took []time.Duration, perSecond float64, err error) {
	var mu sync.Mutex
	g, gctx := errgroup.WithContext(ctx)
	start := time.Now()
	for range atOnce {
		g.Go(func() error {
			for first := true; first || time.Since(start) < window; first = false {
				at := time.Now()
				ch, err := from.Channels.Open(gctx, &chandv1.OpenChannelRequest{Peer: peer, Mine: smallSide, Theirs: smallSide})
				if err != nil {
					return err
				}
				for _, n := range []*devnet.Node{from, to} {
					if err := until(gctx, n.Name+" has the channel open", func() (bool, error) {
						c, err := n.Channels.Get(gctx, &chandv1.GetChannelRequest{Id: ch.Id})
						return err == nil && c.State == "open", err
					}); err != nil {
						return err
					}
				}
				mu.Lock()
				took = append(took, time.Since(at))
				mu.Unlock()
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, 0, err
	}
	if len(took) == 0 {
		return nil, 0, errors.New("no channel was opened")
	}
	return took, float64(len(took)) / time.Since(start).Seconds(), nil
}
