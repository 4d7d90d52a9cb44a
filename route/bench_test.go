package route

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/eschaton-network/chand/types"
)

// BenchmarkFindRoute searches between random nodes of a graph of 10,000 nodes and 50,000 channels.
func BenchmarkFindRoute(b *testing.B) {
	w := randomWorld(1, 10_000, 50_000)
	rng := rand.New(rand.NewPCG(7, 7))
	var s Scratch
	var requests []Request
	for range 200 {
		i, j := rng.IntN(10_000), rng.IntN(10_000)
		requests = append(requests, Request{Source: w.nodes[i], Target: w.nodes[j], Amount: types.Coin / 10, FinalDelta: 100, Height: 1000,
			Locals: w.locals(i), MaxFee: types.Coin, Penalties: NewPenalties()})
	}
	b.ReportAllocs()
	var took []time.Duration
	found, k := 0, 0
	for b.Loop() {
		start := time.Now()
		if _, err := w.FindRoute(requests[k%len(requests)], &s); err == nil {
			found++
		}
		took = append(took, time.Since(start))
		k++
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
	b.ReportMetric(float64(found)/float64(k), "found")
}

// BenchmarkFindFlow splits payments that no one channel of their way carries surely.
func BenchmarkFindFlow(b *testing.B) {
	w := randomWorld(1, 10_000, 50_000)
	rng := rand.New(rand.NewPCG(7, 7))
	var s Scratch
	var requests []Request
	for range 200 {
		i, j := rng.IntN(10_000), rng.IntN(10_000)
		requests = append(requests, Request{Source: w.nodes[i], Target: w.nodes[j], Amount: 300 * types.Coin, FinalDelta: 100, Height: 1000,
			Locals: w.locals(i), MaxFee: 10 * types.Coin, Penalties: NewPenalties()})
	}
	b.ReportAllocs()
	var took []time.Duration
	found, parts, k := 0, 0, 0
	for b.Loop() {
		start := time.Now()
		if f, err := w.FindFlow(requests[k%len(requests)], &s); err == nil {
			found++
			parts += len(f.Parts)
		}
		took = append(took, time.Since(start))
		k++
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
	b.ReportMetric(float64(found)/float64(k), "found")
	b.ReportMetric(float64(parts)/float64(max(1, found)), "parts")
}

func BenchmarkCheckGossip(b *testing.B) {
	a, c := signed(1, 1, 2, 1000)
	m := Gossip{Announcement: &a, Policies: []Policy{signedPolicy(&a, 1, 1, 10)}}
	data := m.Encode()
	g := NewGraph()
	for b.Loop() {
		if _, err := g.CheckGossip(data, 10, contracts(c)); err != nil {
			b.Fatal(err)
		}
	}
}
