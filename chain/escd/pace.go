package escd

import (
	"time"

	"github.com/cometbft/cometbft/config"
)

const (
	// fullBlock is from how many bytes on a block counts as full: more waits, or soon will.
	fullBlock = maxBlockBytes / 2
	// leastPause is the part of the block time, one in so many, that a node waits at least after a full block: time for what others have
	// still to do for it, and for transactions to gather.
	leastPause = 4
)

// pace makes consensus begin the block after a full one a block time after it has begun that one. CometBFT waits for a fixed time after each
// block instead, to which the time for agreeing on it comes: a quarter of a second with a full block. Where blocks are not full the fixed
// pause stays: nobody waits for more of them, and followers on slow machines have the time. Each node waits for itself, so nothing depends
// on it but when blocks come.
type pace struct {
	consensus *config.ConsensusConfig // CometBFT's own: it reads the pause after each block, on the goroutine that calls finalized
	block     time.Duration
	last      time.Time // when the block before was decided; zero: none here yet
}

func newPace(c *config.ConsensusConfig) *pace { return &pace{consensus: c, block: c.TimeoutCommit} }

// finalized sets the pause after a block of so many bytes that was decided now.
func (p *pace) finalized(now time.Time, bytes int) {
	pause := p.block
	if bytes >= fullBlock && !p.last.IsZero() {
		agreeing := max(now.Sub(p.last)-p.consensus.TimeoutCommit, 0)
		pause = max(p.block-agreeing, p.block/leastPause)
	}
	p.consensus.TimeoutCommit, p.last = pause, now
}
