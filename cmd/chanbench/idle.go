package main

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/eschaton-network/chand/chand"
	"github.com/eschaton-network/chand/internal/devnet"
	"github.com/eschaton-network/chand/internal/seedfile"
	chandv1 "github.com/eschaton-network/chand/rpc/gen/chand/v1"
	"github.com/eschaton-network/chand/store"
	"github.com/eschaton-network/chand/types"
)

// idleSizes are of the daemons that are measured without a load; tests take smaller ones.
type idleSizes struct {
	channels, idleChannels, payments, rounds, history int
	settle                                            time.Duration
}

var realIdle = idleSizes{channels: 10_000, idleChannels: 1000, payments: 1_000_000, rounds: 4, history: 100_000, settle: time.Minute}

// Goals of a daemon that does nothing.
const (
	startGoal = 3.0   // seconds to ready
	idleGoal  = 120.0 // MiB resident
)

// idle measures daemons that do nothing: what one with many channels holds in memory, what its store grows to when payments are
// forgotten, and how long a large one takes to be ready.
func idle(ctx context.Context, b *bench) error {
	setup, cancel := context.WithTimeout(ctx, setupLimit)
	defer cancel()
	bank, err := b.net.Start(setup, "ledger", "--ledger-block-time", b.blockTime.String())
	if err != nil {
		return err
	}
	status, err := bank.Status.Get(ctx, &chandv1.GetStatusRequest{})
	if err != nil {
		return err
	}
	_, text, _ := strings.Cut(status.Ledger.Join, "/")
	genesis, err := types.ParseHash(text)
	if err != nil {
		return fmt.Errorf("the ledger's address %q: %w", status.Ledger.Join, err)
	}
	daemon := func(name string) (*devnet.Node, error) {
		return b.net.Start(setup, name, "--ledger-join", status.Ledger.Join, "--history-payments", fmt.Sprint(b.quiet.history))
	}
	for _, f := range []struct {
		name    string
		measure func(context.Context, *devnet.Node, types.Hash) error
	}{{"idle", b.resident}, {"start", b.start}, {"history", b.grow}} {
		if len(b.only) > 0 && !slices.Contains(b.only, f.name) {
			continue
		}
		d, err := daemon(f.name)
		if err != nil {
			return err
		}
		if err := f.measure(ctx, d, genesis); err != nil {
			return err
		}
	}
	return nil
}

// plantStore stops a daemon and gives it channels and payments; its store is checked. It is left stopped.
func (b *bench) plantStore(ctx context.Context, d *devnet.Node, genesis types.Hash, channels, payments int) (err error) {
	if d.Running() {
		if err := d.Stop(); err != nil {
			return err
		}
	}
	seed, err := seedfile.Read(filepath.Join(d.Home, seedfile.Name))
	if err != nil {
		return err
	}
	s, err := store.Open(filepath.Join(d.Home, "store"), store.Options{})
	if err != nil {
		return err
	}
	err = chand.Plant(ctx, s, chand.Planting{Seed: seed, Genesis: genesis, Account: types.AccountID{Node: 1, User: 1}, Channels: channels, Payments: payments,
		Now: types.Time(time.Now().Unix())})
	if e := s.Close(); err == nil {
		err = e
	}
	return err
}

// resident measures an idle follower of the ledger with channels whose peers are not there.
func (b *bench) resident(ctx context.Context, d *devnet.Node, genesis types.Hash) error {
	b.say("idle: %d channels, %s of nothing", b.quiet.idleChannels, b.quiet.settle)
	if err := b.plantStore(ctx, d, genesis, b.quiet.idleChannels, 0); err != nil {
		return err
	}
	if err := d.Restart(ctx); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(b.quiet.settle):
	}
	n, err := residentBytes(d.PID())
	if err != nil {
		return err
	}
	b.say("  %.1f MiB", float64(n)/(1<<20))
	b.cost("idle.rss_mib", float64(n)/(1<<20), "MiB", limit{idleGoal, fmt.Sprintf("what one with %d channels may hold", b.quiet.idleChannels)})
	return d.Stop()
}

// grow gives a daemon more payments than it remembers, again and again, and measures its store when the old ones are forgotten.
func (b *bench) grow(ctx context.Context, d *devnet.Node, genesis types.Hash) error {
	first := 0.0
	for round := 1; round <= b.quiet.rounds; round++ {
		n := b.quiet.payments / b.quiet.rounds
		b.say("history: payments to %d, of which %d are remembered", round*n, b.quiet.history)
		if err := b.plantStore(ctx, d, genesis, 0, n); err != nil {
			return err
		}
		if err := d.Restart(ctx); err != nil {
			return err
		}
		oldest := fmt.Sprintf("%016x", round*n-b.quiet.history+1)
		if err := until(ctx, "old payments are forgotten", func() (bool, error) {
			list, err := d.Payments.List(ctx, &chandv1.ListPaymentsRequest{PageToken: oldest, Limit: 1})
			return err == nil && len(list.Payments) == 0, err
		}); err != nil {
			return err
		}
		if err := d.Stop(); err != nil {
			return err
		}
		size, err := storeBytes(d)
		if err != nil {
			return err
		}
		b.say("  %d bytes", size)
		if first == 0 {
			first = float64(size)
		}
		b.cost(fmt.Sprintf("history.%d.bytes", round*n), float64(size), "B", limit{first, "the size after the first round"})
	}
	return nil
}

func storeBytes(d *devnet.Node) (int64, error) {
	s, err := store.Open(filepath.Join(d.Home, "store"), store.Options{ReadOnly: true})
	if err != nil {
		return 0, err
	}
	size := s.Stats().FileBytes
	return size, s.Close()
}

// start measures how long a daemon with many channels and payments takes to be ready.
func (b *bench) start(ctx context.Context, d *devnet.Node, genesis types.Hash) error {
	b.say("start: %d channels and %d payments", b.quiet.channels, b.quiet.payments)
	if err := b.plantStore(ctx, d, genesis, b.quiet.channels, b.quiet.payments); err != nil {
		return err
	}
	var took time.Duration
	for range 2 { // the first time what the planting left in the log is put into tables
		began := time.Now()
		if err := d.Restart(ctx); err != nil {
			return err
		}
		took = time.Since(began)
		b.say("  ready in %.2f s", seconds(took))
		if err := d.Stop(); err != nil {
			return err
		}
	}
	b.cost("start.s", seconds(took), "s", limit{startGoal, "what it may take"})
	return nil
}
