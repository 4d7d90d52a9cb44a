package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/eschaton-network/chand/chain/escd"
	"github.com/eschaton-network/chand/internal/bigledger"
	"github.com/eschaton-network/chand/internal/devnet"
	"github.com/eschaton-network/chand/ledger"
	chandv1 "github.com/eschaton-network/chand/rpc/gen/chand/v1"
	"github.com/eschaton-network/chand/types"
)

// town is a daemon that is the only validator of a ledger with many accounts.
type town struct {
	node    *devnet.Node
	join    string // HOST:PORT/GENESIS of its office
	office  *escd.Client
	senders []*sender
	nodeKey [32]byte
	genesis types.Hash
	debug   string // where it serves profiles of itself; empty: nowhere
}

// plant starts a daemon on a ledger with so many accounts, of which the first `senders` can sign.
func (b *bench) plant(ctx context.Context, name string, accounts, senders int, args ...string) (*town, error) {
	home := filepath.Join(b.net.Dir, name)
	if err := os.MkdirAll(home, 0o700); err != nil {
		return nil, err
	}
	c := escd.Config{Home: filepath.Join(home, "ledger"), BlockMillis: uint32(b.blockTime.Milliseconds()),
		LedgerNodeSecret: types.SHA256([]byte("chanbench node of " + name)), AccountSecret: types.SHA256([]byte("chanbench admin of " + name))}
	for _, key := range []struct {
		name   string
		secret [32]byte
	}{{"node-key", c.LedgerNodeSecret}, {"account-key", c.AccountSecret}} {
		path, err := writeKey(filepath.Join(home, key.name), key.secret)
		if err != nil {
			return nil, err
		}
		args = append(args, "--ledger-"+key.name, path)
	}
	b.say("  making a ledger of %d accounts", accounts)
	s, err := bigledger.State(c, accounts, senders)
	if err != nil {
		return nil, err
	}
	if err := escd.Plant(c, s); err != nil {
		return nil, err
	}
	t := &town{nodeKey: ledger.PublicKey(c.LedgerNodeSecret), genesis: s.Params().Genesis}
	if t.senders, err = plantedSenders(s, senders); err != nil {
		return nil, err
	}
	if t.node, err = b.net.Start(ctx, name, args...); err != nil {
		return nil, err
	}
	if err := t.connect(ctx); err != nil {
		return nil, err
	}
	return t, until(ctx, "a block of our time", func() (bool, error) { // the ledger was made somewhat in the past
		info, err := t.office.Info(ctx)
		return err == nil && info.Height > 1 && info.Time > now()-ledger.MaxTimeAhead/2, err
	})
}

// writeKey makes a key file for a daemon and returns its path.
func writeKey(path string, secret [32]byte) (string, error) {
	return path, os.WriteFile(path, []byte(hex.EncodeToString(secret[:])+"\n"), 0o600)
}

// connect asks the daemon where its office is.
func (t *town) connect(ctx context.Context) error {
	status, err := t.node.Status.Get(ctx, &chandv1.GetStatusRequest{})
	if err != nil {
		return err
	}
	t.join = status.Ledger.Join
	addr, _, _ := strings.Cut(t.join, "/")
	t.office = escd.NewClient(addr)
	return nil
}

// close stops the daemon and makes room for the next.
func (t *town) close() error {
	t.office.Close()
	return errors.Join(t.node.Stop(), os.RemoveAll(t.node.Home))
}

// underLoad is the town of the figures of one validator; one serves them all.
func (l *ledgerBench) underLoad(ctx context.Context) (*town, error) {
	if l.town != nil {
		return l.town, nil
	}
	debug, err := l.profileAddr()
	if err != nil {
		return nil, err
	}
	if l.town, err = l.plant(ctx, "town", l.sizes.town, l.sizes.senders, "--debug-listen", debug); err != nil {
		return nil, err
	}
	l.town.debug = debug
	return l.town, nil
}

func now() types.Time { return types.Time(time.Now().Unix()) }

// run signs a load ahead and puts it on the town's office for a window. perSecond is a guess at the rate, of which half as much again
// is signed.
func (t *town) run(ctx context.Context, b *bench, window time.Duration, perSecond float64, l load) (*traffic, error) {
	lanes, err := signLanes(t.senders, int(1.5*perSecond*window.Seconds()), window, l)
	if err != nil {
		return nil, err
	}
	for i := range lanes {
		lanes[i].office = t.office
	}
	b.say("  %s of load", window)
	profiled := b.profile(ctx, t.debug, l.profile, window.Seconds())
	f, err := drive(ctx, []*town{t}, lanes, window, l)
	if err := errors.Join(err, profiled()); err != nil {
		return nil, err
	}
	return f, f.checkReceipts(map[uint16][32]byte{1: t.nodeKey}, t.genesis)
}

// onePerSecond and manyPerSecond are guesses at what a daemon takes at most, a core: so much is signed ahead.
const onePerSecond, manyPerSecond = 50_000, 1000

// oneToOne measures transfers to one account each, and beside them what verification alone would allow.
func oneToOne(ctx context.Context, l *ledgerBench) error {
	t, err := l.underLoad(ctx)
	if err != nil {
		return err
	}
	f, verify, err := l.besideVerification(ctx, func() (*traffic, error) {
		return t.run(ctx, l.bench, l.window(loads), onePerSecond*cores(), load{batch: oneBatch, body: payOne(1, l.sizes.town), profile: "one_to_one"})
	})
	if err != nil {
		return err
	}
	l.oneToOne = f.rate
	l.say("  the daemon used %.1f us of CPU a transfer", f.perTransfer())
	l.rate("one_to_one.per_s", f.rate, limit{verify, "verify_limit"})
	l.rate("verify_limit.per_s", verify, limit{verify / f.left() * cores(),
		fmt.Sprintf("the ledger's batches on all cores; the load itself took %.2f of %.0f", cores()-f.left(), cores())})
	return nil
}

// oneToMany measures transfers of which a thousand share a signature.
func oneToMany(ctx context.Context, l *ledgerBench) error {
	t, err := l.underLoad(ctx)
	if err != nil {
		return err
	}
	wires := l.sizes.wires
	f, err := t.run(ctx, l.bench, l.window(loads), manyPerSecond*cores(), load{batch: 64, body: payMany(wires, l.sizes.town), profile: "one_to_many"})
	if err != nil {
		return err
	}
	l.say("  the daemon used %.3f us of CPU a transfer", f.perTransfer()/float64(wires))
	l.rate("one_to_many.per_s", f.rate*float64(wires), least(
		limit{l.limits.batchVerify * float64(wires), fmt.Sprintf("one ed25519 signature for %d transfers", wires)},
		limit{l.limits.bandwidth / (logs * wireSize), "synced bytes of the disk"}))
	return nil
}

const (
	// wireSize is what a transfer of a send_many takes on the wire (docs/ledger.md).
	wireSize = 14
	// logs is how often a transaction is written at least: the office's log of what it promised, CometBFT's log, the block.
	logs = 3
)

// commitShare is the share of the highest rate at which the latency is measured.
const commitShare = 0.8

// commitLatency measures how long transfers take from when they are due at the office until their block is committed.
func commitLatency(ctx context.Context, l *ledgerBench) error {
	if l.oneToOne == 0 {
		if err := oneToOne(ctx, l); err != nil {
			return err
		}
	}
	rate := commitShare * l.oneToOne
	// At least so many blocks that a hundredth of the transactions is not just one unlucky block.
	window := max(l.window(loads), 5*l.blockTime)
	f, err := l.town.run(ctx, l.bench, window, rate, load{batch: 256, body: payOne(1, l.sizes.town), perSecond: rate})
	if err != nil {
		return err
	}
	p99, err := f.latency(0.99)
	if err != nil {
		return err
	}
	// A transaction that comes just after a proposal waits for the next one.
	l.cost("commit.p99_blocks", float64(p99)/float64(l.blockTime), "blocks", limit{1, fmt.Sprintf("the time between two blocks, at %.0f transfers a second", rate)})
	return nil
}
