package chand

import (
	"context"
	"math"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/eschaton-network/chand/chain/sim"
	"github.com/eschaton-network/chand/channel"
	"github.com/eschaton-network/chand/dht/memdht"
	"github.com/eschaton-network/chand/peer/mempipe"
	"github.com/eschaton-network/chand/pubsub/memgossip"
	"github.com/eschaton-network/chand/types"
)

// TestPlanted loads what was planted: the check holds, and channels and payments are there.
func TestPlanted(t *testing.T) {
	inWorld(t, []string{"alice"}, func(w *world) {
		alice := w.nodes["alice"]
		alice.stop()
		p := Planting{Seed: alice.seed, Genesis: alice.view.Params().Genesis, Account: alice.account, Channels: 20, Payments: 300, Now: types.Time(time.Now().Unix())}
		for range 2 { // more payments, the same channels
			if err := Plant(w.ctx, alice.store, p); err != nil {
				t.Fatal(err)
			}
		}
		alice.check()
		alice.cfg.Redial = false
		alice.start()
		list, err := alice.Channels(false)
		if err != nil || len(list) != 20 || list[0].Phase != channel.PhaseOpen {
			t.Errorf("%d channels, %v", len(list), err)
		}
		if got, _, err := alice.Payments("", math.MaxInt); err != nil || len(got) != 600 {
			t.Errorf("%d payments, %v", len(got), err)
		}
		if _, err := alice.Payment(types.Hash{}, "order 600"); err != nil {
			t.Error(err)
		}
	})
}

// BenchmarkStart loads a daemon with 10,000 channels (or CHANNELS) from memory, up to the moment before it runs.
func BenchmarkStart(b *testing.B) {
	n, err := strconv.Atoi(os.Getenv("CHANNELS"))
	if err != nil {
		n = 10_000
	}
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	chain, err := sim.New("bench", time.Second)
	if err != nil {
		b.Fatal(err)
	}
	w := &world{t: new(testing.T), chain: chain, pipes: mempipe.New(), gossip: memgossip.New(), dht: memdht.New(), ctx: ctx, nodes: map[string]*node{}}
	a := w.add("alice")
	if err := Plant(ctx, a.store, Planting{Seed: a.seed, Genesis: a.view.Params().Genesis, Account: a.account, Channels: n, Now: types.Time(time.Now().Unix())}); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		a.load()
		a.gone()
	}
}
