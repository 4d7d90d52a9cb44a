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

// verifyLimit is how many transactions a second could be verified on the cores that a load has left, if nothing else were to be done:
// the same transactions, from as many senders, in batches as the office makes them. It is measured on all cores, right after the load.
func (b *bench) verifyLimit(ctx context.Context, f *traffic) (float64, error) {
	c := escd.Config{BlockMillis: 1000, LedgerNodeSecret: types.SHA256([]byte("chanbench node")), AccountSecret: types.SHA256([]byte("chanbench admin"))}
	s, err := bigledger.State(c, b.sizes.senders, b.sizes.senders)
	if err != nil {
		return 0, err
	}
	senders, err := plantedSenders(s, b.sizes.senders)
	if err != nil {
		return 0, err
	}
	rounds := max(2*verifyGroup/len(senders), 1)
	txs, err := signRounds(senders, rounds, s.Time(), payOne(1, b.sizes.senders))
	if err != nil {
		return 0, err
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
	return float64(n) / took.Seconds() * math.Max(f.left(), 0) / cores(), ctx.Err()
}
