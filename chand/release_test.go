package chand

import (
	"context"
	"testing"
	"time"

	"github.com/eschaton-network/chand/types"
)

// TestFaultsOfReleasedEscrows fails every commit and send of each daemon on the way of an escrow that its payer releases at once, which a
// hop may hear of before it has passed the lock on, and restarts that daemon. Whatever is interrupted: no hop has less, or more than its
// fee, and the payer's record says whether the money has left.
func TestFaultsOfReleasedEscrows(t *testing.T) {
	for _, line := range [][]string{{"alice", "bob", "carol"}, {"alice", "bob", "carol", "dave"}} {
		for _, victim := range line[1:] {
			forEachFault(t, victim, func(t *testing.T, f *fault) {
				inWorld(t, line, func(w *world) {
					bad := w.nodes[victim]
					bad.stop()
					bad.wrap = f.wrap
					bad.start()
					var ids []types.ChannelID
					for i := range len(line) - 1 {
						ids = append(ids, w.open(line[i], line[i+1], 100*types.Coin, 50*types.Coin))
					}
					for _, name := range line {
						w.nodes[name].known(len(ids))
					}
					f.arm(true)
					w.releaseAtOnce(line)
					w.blocks(1)
					bad.revive(f)
					w.settled(line, ids)
					w.wantReleased(line, ids)
				})
			})
		}
	}
}

// TestReleaseBeforePassedOn: the peer behind a hop is gone when the payer releases an escrow, so the hop, or the one behind it, can't pass
// it on, is restarted or not, and gives the money back all the way.
func TestReleaseBeforePassedOn(t *testing.T) {
	for _, line := range [][]string{{"alice", "bob", "carol"}, {"alice", "bob", "carol", "dave"}} {
		for _, restarted := range []string{"", "bob", "carol", "both"} {
			t.Run(line[len(line)-1]+"/"+restarted, func(t *testing.T) {
				inWorld(t, line, func(w *world) {
					var ids []types.ChannelID
					for i := range len(line) - 1 {
						ids = append(ids, w.open(line[i], line[i+1], 100*types.Coin, 50*types.Coin))
					}
					for _, name := range line {
						w.nodes[name].known(len(ids))
					}
					w.nodes[line[len(line)-1]].crash()
					w.releaseAtOnce(line)
					for _, name := range line[1 : len(line)-1] {
						if restarted == name || restarted == "both" {
							w.nodes[name].crash()
							w.nodes[name].start()
						}
					}
					w.nodes[line[len(line)-1]].start()
					w.settled(line, ids)
					w.wantReleased(line, ids)
				})
			})
		}
	}
}

const releasedAmount = 10 * types.Coin

// releaseAtOnce locks money of the first for the last one and releases it as soon as it is signed.
func (w *world) releaseAtOnce(line []string) {
	ctx, cancel := context.WithTimeout(w.ctx, 2*time.Second)
	defer cancel()
	alice := w.nodes[line[0]]
	if e, err := alice.OpenEscrow(ctx, EscrowRequest{To: w.nodes[line[len(line)-1]].seed.NodeID(), Amount: releasedAmount, Lifetime: 60}); err == nil {
		_, _ = alice.ReleaseEscrow(ctx, e.ID)
	}
}

// wantReleased waits until every escrow is over and compares what each has with what the payer's record says.
func (w *world) wantReleased(line []string, ids []types.ChannelID) {
	w.t.Helper()
	alice := w.nodes[line[0]]
	var gone, least types.Amount
	w.until("the escrow's end", func() bool {
		gone, least = 0, 0
		list, _, _ := alice.Escrows("", 10)
		for _, e := range list {
			switch {
			case !e.final():
				return false
			case e.State == EscrowReleased:
				gone, least = e.Amount+e.Fee+e.Reserve, e.Amount+e.Fee
			default:
				gone = e.Reserve
			}
		}
		sent := 100*types.Coin - alice.mine(ids[0])
		return sent >= least && sent <= gone
	})
	for i, name := range line[1:] {
		have := w.nodes[name].mine(ids[i])
		if i+1 < len(ids) {
			have += w.nodes[name].mine(ids[i+1])
		}
		want, room := 150*types.Coin, types.Coin/10
		if i+1 == len(ids) {
			if want = 50 * types.Coin; least > 0 {
				want += releasedAmount
			}
			room = 0
		}
		if have < want || have > want+room {
			w.t.Errorf("%s has %s, want %s", name, have, want)
		}
	}
}
