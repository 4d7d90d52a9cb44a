package main

import (
	"context"
	"math"
	"time"

	"github.com/eschaton-network/chand/chain/escd"
	"github.com/eschaton-network/chand/internal/bigledger"
	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

// verifyGroup is how many transactions an office verifies together when it is busy.
const verifyGroup = 2048

// besideVerification runs a load, and finds how many transactions a second could be verified on the cores that it left if nothing else
// were to be done. That is measured on all cores right before the load and right after it, because machines do other things meanwhile.
func (b *bench) besideVerification(ctx context.Context, run func() (*traffic, error)) (f *traffic, limit float64, err error) {
	before, err := b.verifyRate(ctx)
	if err != nil {
		return nil, 0, err
	}
	if f, err = run(); err != nil {
		return nil, 0, err
	}
	after, err := b.verifyRate(ctx)
	return f, (before + after) / 2 * math.Max(f.left(), 0) / cores(), err
}

// verifyRate is how many transactions a second are verified on all cores: by as many senders as pay, in batches as the office makes them.
func (b *bench) verifyRate(ctx context.Context) (float64, error) {
	c := escd.Config{BlockMillis: 1000, LedgerNodeSecret: types.SHA256([]byte("chanbench node")), AccountSecret: types.SHA256([]byte("chanbench admin"))}
	s, err := bigledger.State(c, b.sizes.senders, b.sizes.senders)
	if err != nil {
		return 0, err
	}
	senders, err := plantedSenders(s, b.sizes.senders)
	if err != nil {
		return 0, err
	}
	lanes := min(laneCount, len(senders))
	share := len(senders) / lanes
	var txs []signedTx
	for i := range lanes { // as the load's requests stand one after the other
		request, err := signRounds(senders[i*share:(i+1)*share], max(oneBatch/share, 1), s.Time(), payOne(1, b.sizes.senders))
		if err != nil {
			return 0, err
		}
		txs = append(txs, request...)
	}
	var took, cpu time.Duration
	n := 0
	for took < probeTime && ctx.Err() == nil {
		pool, err := ledger.NewPool(s, 1)
		if err != nil {
			return 0, err
		}
		for at := 0; at < len(txs); at += verifyGroup {
			batch := ledger.DecodeBatch(raws(txs[at:min(at+verifyGroup, len(txs))]), parallel)
			pool.Prepare(batch)
			start, used := time.Now(), cpuTime()
			batch.Verify(parallel)
			took, cpu = took+time.Since(start), cpu+cpuTime()-used
			pool.Admit(batch)
			for i := range batch.Len() {
				if r := batch.Refused(i); r != nil {
					return 0, r
				}
				n++
			}
		}
	}
	b.say("  verification alone takes %.1f us of CPU", cpu.Seconds()*1e6/float64(n))
	return float64(n) / took.Seconds(), ctx.Err()
}
