package escd

import (
	"testing"
	"time"

	"github.com/cometbft/cometbft/config"
)

func TestPaceBeginsABlockEachBlockTimeWhereTheyAreFull(t *testing.T) {
	c := config.DefaultConsensusConfig()
	c.TimeoutCommit = time.Second
	p := newPace(c)
	begun := time.Unix(1000, 0)
	for i, agreeing := range []time.Duration{50, 250, 20, 700, 0, 50} {
		agreeing *= time.Millisecond
		p.finalized(begun.Add(agreeing), fullBlock)
		next := begun.Add(agreeing + c.TimeoutCommit)
		want := begun.Add(time.Second)
		if i == 0 { // nothing tells when the first was begun
			want = begun.Add(agreeing + time.Second)
		}
		if !next.Equal(want) {
			t.Errorf("block %d, on which %s were spent, is followed after %s, want %s", i, agreeing, next.Sub(begun), want.Sub(begun))
		}
		begun = next
	}
}

func TestPaceKeepsAPause(t *testing.T) {
	c := config.DefaultConsensusConfig()
	c.TimeoutCommit = time.Second
	p := newPace(c)
	at := time.Unix(1000, 0)
	p.finalized(at, fullBlock)
	for range 3 { // a machine that is too slow for the block time
		at = at.Add(c.TimeoutCommit + 3*time.Second)
		p.finalized(at, fullBlock)
		if c.TimeoutCommit != time.Second/leastPause {
			t.Fatalf("a pause of %s, want a quarter of the block time", c.TimeoutCommit)
		}
	}
	p.finalized(at.Add(time.Millisecond), fullBlock) // blocks that are replayed come at once
	if c.TimeoutCommit != time.Second {
		t.Fatalf("a pause of %s after a block that took no time", c.TimeoutCommit)
	}
	at = at.Add(3 * time.Second)
	p.finalized(at, fullBlock-1)
	if c.TimeoutCommit != time.Second {
		t.Fatalf("a pause of %s after a block that is not full", c.TimeoutCommit)
	}
}
