package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/eschaton-network/chand/chain/escd"
	"github.com/eschaton-network/chand/internal/bigledger"
	"github.com/eschaton-network/chand/ledger"
	chandv1 "github.com/eschaton-network/chand/rpc/gen/chand/v1"
	"github.com/eschaton-network/chand/types"
)

// million measures a daemon on a large ledger: how long it takes to be ready again after SIGTERM and after SIGKILL, and how long a new
// daemon takes that joins.
func million(ctx context.Context, l *ledgerBench) error {
	t, err := l.plant(ctx, "million", l.sizes.million, 2)
	if err != nil {
		return err
	}
	if err := t.makeBlocks(ctx, l.sizes.million); err != nil {
		return err
	}
	// What no start can avoid: the accounts are hashed, a leaf and an inner node for each.
	reading := limit{seconds(l.hashing(float64(l.sizes.million)*accountHashes)) / cores(), "the hashes of the accounts' tree, on all cores"}
	if l.wanted["restart_1m.s"] {
		start := time.Now()
		if err := t.node.Stop(); err != nil {
			return err
		}
		stopped := time.Since(start)
		if err := t.node.Restart(ctx); err != nil {
			return err
		}
		clean := time.Since(start)
		if err := t.connect(ctx); err != nil {
			return err
		}
		if err := t.makeBlocks(ctx, l.sizes.million); err != nil {
			return err
		}
		if err := t.node.Kill(); err != nil {
			return err
		}
		start = time.Now()
		if err := t.node.Restart(ctx); err != nil {
			return err
		}
		killed := time.Since(start)
		if err := t.connect(ctx); err != nil {
			return err
		}
		l.say("  stop %.2f s, start %.2f s; start after SIGKILL %.2f s", seconds(stopped), seconds(clean-stopped), seconds(killed))
		l.cost("restart_1m.s", seconds(max(clean, killed)), "s", reading)
	}
	if l.wanted["fresh_node_1m.s"] {
		// An office with so many accounts opens no more, and a daemon is ready only with one: it gets the first sender's key.
		key, err := writeKey(filepath.Join(l.net.Dir, "fresh-key"), bigledger.Secret(0))
		if err != nil {
			return err
		}
		start := time.Now()
		node, err := l.net.Start(ctx, "fresh", "--ledger-join", t.join, "--ledger-account-key", key)
		if err != nil {
			return err
		}
		if err := until(ctx, "the new daemon's view of the ledger is fresh", func() (bool, error) {
			status, err := node.Status.Get(ctx, &chandv1.GetStatusRequest{})
			return err == nil && status.Ledger.Synced, err
		}); err != nil {
			return err
		}
		took := time.Since(start)
		if err := node.Stop(); err != nil {
			return err
		}
		l.cost("fresh_node_1m.s", seconds(took), "s", reading)
	}
	return t.close()
}

// accountHashes is how many SHA-256 compressions one account costs in its tree: two for the 103 bytes of the leaf, two for the 65 of an
// inner node.
const accountHashes = 4

// hashing is the CPU time that so many compressions take.
func (l *ledgerBench) hashing(compressions float64) time.Duration {
	return time.Duration(compressions / 1000 * float64(l.limits.hash))
}

// blocksMade is how many blocks with transfers a daemon makes before its memory is looked at or it is stopped, and transfersMade how
// many transfers each has.
const blocksMade, transfersMade = 3, 2000

// makeBlocks has the daemon make some blocks with transfers, to accounts all over the ledger.
func (t *town) makeBlocks(ctx context.Context, accounts int) error {
	for range blocksMade {
		txs, err := signRounds(t.senders, transfersMade/len(t.senders), now(), payOne(1, accounts))
		if err != nil {
			return err
		}
		before, err := t.office.Info(ctx)
		if err != nil {
			return err
		}
		one := lane{office: t.office, txs: txs}
		w := watchBlocks(ctx, t.office, before.Height)
		if err := one.send(ctx, time.Now(), time.Now().Add(drainLimit), len(txs), 0); err != nil {
			w.stop()
			return err
		}
		if _, err := w.drained(len(txs)); err != nil {
			return err
		}
	}
	return nil
}

// residentSet measures the memory of a daemon with very many accounts.
func residentSet(ctx context.Context, l *ledgerBench) error {
	t, err := l.plant(ctx, "tenmillion", l.sizes.tenMillion, 2)
	if err != nil {
		return err
	}
	if err := t.makeBlocks(ctx, l.sizes.tenMillion); err != nil {
		return err
	}
	rss, err := residentBytes(t.node.PID())
	if err != nil {
		return err
	}
	l.cost("rss_10m.gib", gib(float64(rss)), "GiB", limit{gib(float64(l.sizes.tenMillion) * accountBytes), "a record and two hashes for each account"})
	return t.close()
}

// accountBytes is an account's fields, which its checksum covers, and two hashes of the tree.
const accountBytes = ledger.RecordSize - 32 + 2*32

func gib(bytes float64) float64 { return bytes / (1 << 30) }

// residentBytes reads a process's resident set.
func residentBytes(pid int) (int64, error) {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "statm"))
	if err != nil {
		return 0, err
	}
	fields := bytes.Fields(b)
	if len(fields) < 2 {
		return 0, errors.New("/proc/PID/statm has another form than expected")
	}
	pages, err := strconv.ParseInt(string(fields[1]), 10, 64)
	return pages * int64(os.Getpagesize()), err
}

// costTxs is how many transactions the blocks of block_cost have; costBlocks how many blocks are measured.
const costTxs, costBlocks = 1000, 20

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// blockCost measures, in this process, the CPU time of a block by the number of accounts on the ledger. Its signatures were verified before,
// as they are in a daemon that took the transactions in.
func blockCost(ctx context.Context, l *ledgerBench) error {
	for _, accounts := range l.sizes.curve {
		name := fmt.Sprintf("block_cost.%d.us", accounts)
		if !l.wanted[name] {
			continue
		}
		c, err := costOn(ctx, accounts, min(l.sizes.senders, accounts))
		if err != nil {
			return err
		}
		hashing := micros(l.hashing(c.hashes))
		l.say("  %d accounts: executing %.0f us, the root %.0f us, of which the hashes that changed are %.0f at least", accounts, micros(c.apply), micros(c.root), hashing)
		l.cost(name, micros(c.block), "us", limit{hashing, "CPU time of hashing the changed leaves and what is above them"})
	}
	return nil
}

// blockCosts are medians of the CPU time of a block: executing its transactions, the root after them, and both.
type blockCosts struct {
	apply, root, block time.Duration
	// hashes is how many SHA-256 compressions the changes need at least.
	hashes float64
}

func costOn(ctx context.Context, accounts, payers int) (costs blockCosts, err error) {
	c := escd.Config{BlockMillis: 1000, LedgerNodeSecret: types.SHA256([]byte("chanbench node")), AccountSecret: types.SHA256([]byte("chanbench admin"))}
	s, err := bigledger.State(c, accounts, payers)
	if err != nil {
		return costs, err
	}
	s.SetWorkers(parallel)
	s.Root()
	senders, err := plantedSenders(s, payers)
	if err != nil {
		return costs, err
	}
	pool, err := ledger.NewPool(s, 1)
	if err != nil {
		return costs, err
	}
	var apply, root, block []time.Duration
	for i := range costBlocks {
		var some []*sender
		for k := range min(costTxs, payers) {
			some = append(some, senders[(i*costTxs+k)%payers])
		}
		txs, err := signRounds(some, costTxs/len(some), s.Time(), payOne(1, accounts))
		if err != nil {
			return costs, err
		}
		batch := ledger.DecodeBatch(raws(txs), parallel)
		pool.Prepare(batch)
		batch.Verify(parallel)
		pool.Admit(batch)
		for k := range txs {
			txs[k].accepted()
		}
		m, err := pool.Cut(c.LedgerNodeSecret, s.Time())
		if err != nil {
			return costs, err
		}
		used := cpuTime()
		done := s.Apply(s.Height()+1, s.Time()+1, [][]byte{m.Raw})
		applied := cpuTime()
		s.Root()
		rehashed := cpuTime()
		apply, root, block = append(apply, applied-used), append(root, rehashed-applied), append(block, rehashed-used)
		for k := range done.Results {
			if r := done.Results[k]; r.Code != ledger.CodeOK {
				return costs, fmt.Errorf("transaction refused: %s", r.Text)
			}
		}
		if len(done.Results) != len(txs) {
			return costs, fmt.Errorf("%d of %d transactions executed", len(done.Results), len(txs))
		}
		if err := errors.Join(pool.Applied(), ctx.Err()); err != nil {
			return costs, err
		}
		costs.hashes = leastHashes(batch, accounts)
	}
	costs.apply, costs.root, costs.block = median(apply), median(root), median(block)
	return costs, nil
}

// leastHashes counts the compressions for the accounts that a batch of send_one changes: their leaves and every node above them once.
func leastHashes(b *ledger.Batch, accounts int) float64 {
	changed := map[uint32]bool{}
	for i := range b.Len() {
		changed[b.Head(i).From.User] = true
		tx, err := ledger.DecodeTx(b.Raw(i))
		if err != nil {
			panic(err) // it was executed
		}
		changed[tx.Body.(ledger.SendOne).To.User] = true
	}
	n := 2 * len(changed)
	for width := accounts; width > 1; width = (width + 1) / 2 {
		above := map[uint32]bool{}
		for i := range changed {
			above[i/2] = true
		}
		n, changed = n+2*len(above), above
	}
	return float64(n)
}
