package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/eschaton-network/chand/internal/devnet"
	chandv1 "github.com/eschaton-network/chand/rpc/gen/chand/v1"
)

// sampleStamps is how many of the proofs are followed until a block attests them.
const sampleStamps = 50

// stampsAtOnce is how many requests wait for their round at any time. A round takes as long as it takes, whatever it holds, so that
// fewer would measure the round's length and not the daemon.
const stampsAtOnce = 1000

// stamps measures digests sealed a second: each request returns when its round is sealed and saved. A sample is followed
// until it is anchored, and verified.
func stamps(ctx context.Context, b *bench) error {
	setup, cancel := context.WithTimeout(ctx, setupLimit)
	defer cancel()
	b.say("starting a daemon with its ledger")
	node, err := b.net.Start(setup, "stamper", "--ledger-block-time", b.blockTime.String(), "--timestamp-round", "100ms")
	if err != nil {
		return err
	}
	window := b.window(1)
	b.say("seal.per_s: requests for %s", window)
	rate, sample, err := stampFor(ctx, node, window)
	if err != nil {
		return err
	}
	b.say("verifying %d of the proofs", len(sample))
	if err := verifySample(ctx, node, sample); err != nil {
		return err
	}
	b.rate("seal.per_s", rate, limit{b.limits.trips, "loopback round trips with 50 connections"})
	return nil
}

// stamped is a digest and its pending proof.
type stamped struct {
	digest string
	ots    []byte
}

func stampFor(ctx context.Context, node *devnet.Node, window time.Duration) (perSecond float64, sample []stamped, err error) {
	var done atomic.Int64
	kept := make([]stamped, stampsAtOnce)
	g, gctx := errgroup.WithContext(ctx)
	start := time.Now()
	for i := range stampsAtOnce {
		g.Go(func() error {
			for n := 0; time.Since(start) < window; n++ {
				h := sha256.Sum256(fmt.Appendf(nil, "chanbench document %d of client %d at %d", n, i, start.UnixNano()))
				digest := hex.EncodeToString(h[:])
				res, err := node.Timestamps.Stamp(gctx, &chandv1.StampRequest{Digest: digest})
				if err != nil {
					return err
				}
				done.Add(1)
				kept[i] = stamped{digest, res.Ots}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return 0, nil, err
	}
	elapsed := time.Since(start)
	for _, s := range kept {
		if s.ots != nil && len(sample) < sampleStamps {
			sample = append(sample, s)
		}
	}
	if len(sample) == 0 {
		return 0, nil, errors.New("no request was answered in the time: give more --seconds")
	}
	return float64(done.Load()) / elapsed.Seconds(), sample, nil
}

// verifySample upgrades proofs until a block attests them, and verifies them.
func verifySample(ctx context.Context, node *devnet.Node, sample []stamped) error {
	ctx, cancel := context.WithTimeout(ctx, drainLimit)
	defer cancel()
	for _, s := range sample {
		var ots []byte
		if err := until(ctx, "proof of "+s.digest, func() (bool, error) {
			up, err := node.Timestamps.Upgrade(ctx, &chandv1.UpgradeRequest{Ots: s.ots})
			if err != nil {
				return false, err
			}
			ots = up.Ots
			return up.Complete, nil
		}); err != nil {
			return err
		}
		v, err := node.Timestamps.Verify(ctx, &chandv1.VerifyRequest{Digest: s.digest, Ots: ots})
		if err != nil {
			return err
		}
		if !v.Valid {
			return fmt.Errorf("proof of %s does not verify: %s", s.digest, v.Text)
		}
	}
	return nil
}
