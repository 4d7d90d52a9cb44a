package escd

import (
	"time"

	"github.com/cometbft/cometbft/config"
)

// leastPause is the part of the block time, one in so many, that a node waits at least after a block before it begins the next: time for
// what others have still to do for the block before, and for transactions to gather.
const leastPause = 4

// pace makes consensus begin a block a block time after it has begun the one before. CometBFT waits for a fixed time after a block
// instead, to which the time for agreeing on it comes: some hundredths of a second on an idle ledger, a quarter of one with full blocks. Each
// node waits for itself, so nothing depends on it but when blocks come.
type pace struct {
	consensus *config.ConsensusConfig // CometBFT's own: it reads the pause after each block, on the goroutine that calls finalized
	block     time.Duration
	last      time.Time // when the block before was decided; zero: none here yet
}

func newPace(c *config.ConsensusConfig) *pace { return &pace{consensus: c, block: c.TimeoutCommit} }

// finalized sets the pause after a block that was decided now.
func (p *pace) finalized(now time.Time) {
	if !p.last.IsZero() {
		agreeing := max(now.Sub(p.last)-p.consensus.TimeoutCommit, 0)
		p.consensus.TimeoutCommit = max(p.block-agreeing, p.block/leastPause)
	}
	p.last = now
}
