package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/eschaton-network/chand/route"
	"github.com/eschaton-network/chand/types"
)

const (
	// routeNodes and routeChannels are the size of the largest payment network there is.
	routeNodes, routeChannels = 12_500, 50_000
	// routePays is the payment of the figures for one route, in coins; flowPays needs several parts in most cases.
	routePays, flowPays = types.Coin / 10, 50 * types.Coin
)

// runRoute measures path finding alone: no daemon, no disk, no peers.
func runRoute(cmd *cobra.Command, o options) error {
	if o.seconds < 1 {
		return fmt.Errorf("--seconds %d: want at least 1", o.seconds)
	}
	b := &bench{options: o, say: func(format string, args ...any) { fmt.Fprintf(cmd.ErrOrStderr(), format+"\n", args...) }}
	b.say("building a network of %d nodes and %d channels", routeNodes, routeChannels)
	if err := routes(cmd.Context(), b, routeNodes, routeChannels); err != nil {
		return err
	}
	if o.json {
		return writeJSON(cmd.OutOrStdout(), b.rows)
	}
	return writeTable(cmd.OutOrStdout(), b.rows)
}

// routes measures one graph. Times are processor time of the searching thread, so that other work on the machine does not count.
func routes(ctx context.Context, b *bench, nodes, channels int) error {
	before := liveHeap()
	net, err := madeNetwork(nodes, channels)
	if err != nil {
		return err
	}
	perChannel := float64(liveHeap()-before) / float64(channels)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	touch := net.touchAll()
	rng := rand.New(rand.NewPCG(1, 1))
	single, err := net.measure(ctx, b.window(2), rng, routePays, func(r route.Request, s *route.Scratch) (int, error) {
		_, err := net.graph.FindRoute(r, s)
		return 1, err
	})
	if err != nil {
		return err
	}
	split, err := net.measure(ctx, b.window(2), rng, flowPays, func(r route.Request, s *route.Scratch) (int, error) {
		f, err := net.graph.FindFlow(r, s)
		return len(f.Parts), err
	})
	if err != nil {
		return err
	}
	millis := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e6 }
	pass := limit{millis(touch), "each channel read once, in no order"}
	b.cost("route.p50_ms", millis(single.at(50)), "ms", pass)
	b.cost("route.p99_ms", millis(single.at(99)), "ms", pass)
	b.cost("route.flow_p50_ms", millis(split.at(50)), "ms", pass)
	b.cost("route.flow_p99_ms", millis(split.at(99)), "ms", pass)
	b.cost("route.channel_bytes", perChannel, "B", limit{float64(signedSize()), "what was signed and must be told to newcomers"})
	b.say("%d searches for one route, %d found; %d for parts, %d found with %.1f parts on average", len(single.took), single.found, len(split.took), split.found,
		float64(split.parts)/float64(max(1, split.found)))
	return nil
}

// madeNetwork is a graph as payment networks are: who has many channels gets more of them, capacities are spread over five orders of
// magnitude, and so are fees. The same at every run. Signatures are left out: searches don't look at them.
type network struct {
	graph *route.Graph
	nodes []types.NodeID
}

func madeNetwork(nodes, channels int) (*network, error) {
	if channels < nodes {
		return nil, fmt.Errorf("%d channels for %d nodes: want at least one each", channels, nodes)
	}
	rng := rand.New(rand.NewPCG(7, 7))
	n := &network{graph: route.NewGraph()}
	for i := range nodes {
		h := types.SHA256(binary.BigEndian.AppendUint64([]byte("node"), uint64(i)))
		n.nodes = append(n.nodes, types.NodeID(append([]byte{2}, h[:]...)))
	}
	ends := []int{0} // every end of a channel, so that a draw prefers who has many
	for c := range channels {
		i := rng.IntN(nodes)
		if c < nodes-1 {
			i = c + 1
		}
		j := ends[rng.IntN(len(ends))]
		for j == i {
			j = rng.IntN(min(nodes, c+1))
		}
		m := channelOf(c, n.nodes[i], n.nodes[j], rng)
		if len(n.graph.Apply(&m, 1)) != 3 {
			continue // a node has all it may have
		}
		ends = append(ends, i, j)
	}
	return n, nil
}

// channelOf is one channel with both policies.
func channelOf(c int, a, b types.NodeID, rng *rand.Rand) route.Gossip {
	id := types.SHA256(binary.BigEndian.AppendUint64([]byte("channel"), uint64(c)))
	capacity := types.Amount(math.Exp(rng.NormFloat64()*1.5+3) * float64(types.Coin)) // median 20 coins
	ann := route.NewAnnouncement(id, [2]types.NodeID{a, b}, [2]types.PubKey{{2, 1}, {2, 2}}, capacity, types.DefaultTiming)
	m := route.Gossip{Announcement: &ann}
	for dir := range uint8(2) {
		m.Policies = append(m.Policies, route.Policy{Channel: id, Direction: dir, Seq: 1, Height: 1, Base: types.Amount(rng.IntN(2000)),
			Millionths: uint32(math.Exp(rng.NormFloat64()*1.5 + 5)), Reserve: 30, Delta: types.DefaultTiming.ForwardDelta(), Min: 1, Max: capacity,
			Disabled: rng.IntN(20) == 0, OnionKey: types.OnionKey(id)})
	}
	return m
}

// found is how searches went.
type found struct {
	took         []time.Duration
	found, parts int
}

func (f *found) at(percent int) time.Duration {
	slices.Sort(f.took)
	return f.took[(len(f.took)-1)*percent/100]
}

// measure searches between nodes drawn at random until the time is over, on what a thousand payments have taught.
func (n *network) measure(ctx context.Context, window time.Duration, rng *rand.Rand, amount types.Amount, search func(route.Request, *route.Scratch) (int, error)) (out found, err error) {
	var s route.Scratch
	learnt := route.NewPenalties()
	end := time.Now().Add(window)
	for len(out.took) < 20 || time.Now().Before(end) {
		if err := ctx.Err(); err != nil {
			return out, err
		}
		from, to := n.nodes[rng.IntN(len(n.nodes))], n.nodes[rng.IntN(len(n.nodes))]
		q := route.Request{Source: from, Target: to, Amount: amount, Height: 1000, FinalDelta: 100, Locals: n.graph.Outgoing(from), MaxFee: amount / 20,
			Penalties: learnt, Now: 1_000_000}
		if from == to || len(q.Locals) == 0 {
			continue
		}
		if len(out.took) < 1000 {
			if r, err := n.graph.FindRoute(q, &s); err == nil {
				learnt.Succeeded(&r, q.Now)
			}
		}
		start := threadTime()
		parts, err := search(q, &s)
		out.took = append(out.took, threadTime()-start)
		var none *route.NoRouteError
		switch {
		case err == nil:
			out.found++
			out.parts += parts
		case !errors.As(err, &none):
			return out, err
		}
	}
	return out, nil
}

// touchAll is the processor time to read as much as the graph has for each channel, in no order: less no search can take that must look
// at every channel.
func (n *network) touchAll() time.Duration {
	_, channels := n.graph.Len()
	type line [2]uint64
	const words = 8 // of 16 bytes: what a search reads of a channel is about 128
	list, order := make([][words]line, channels), rand.New(rand.NewPCG(3, 3)).Perm(channels)
	best, sum := time.Duration(math.MaxInt64), uint64(0)
	for range 9 {
		start := threadTime()
		for _, i := range order {
			for k := range list[i] {
				sum += list[i][k][0]
			}
		}
		best = min(best, threadTime()-start)
	}
	runtime.KeepAlive(sum)
	return max(best, time.Microsecond)
}

// signedSize is the size of a channel's announcement and two policies.
func signedSize() int {
	m := channelOf(0, types.NodeID{2}, types.NodeID{3}, rand.New(rand.NewPCG(1, 1)))
	return len(m.Encode())
}

func liveHeap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// threadTime is the processor time of this thread, which must be locked to its goroutine.
func threadTime() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		panic(err) // only for a wrong argument
	}
	return time.Duration(t.Nano())
}
