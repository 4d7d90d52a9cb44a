package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/eschaton-network/chand/chain/escd"
	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

const (
	// laneCount is how many connections carry a load: enough that one is always being verified while others are read and answered.
	laneCount = 8
	// maxSigned bounds the bytes that are signed ahead.
	maxSigned = 1 << 30
	// oneBatch is how many transactions of one target a request carries when the office is to take as many as it can.
	oneBatch = 1024
	// signAhead is for how much of the window's length transactions are signed at most.
	signAhead = 1.5
	// watchEvery is how often the newest block is asked for: an error of a hundredth of a block time.
	watchEvery = 10 * time.Millisecond
	// busyPause is how long a lane waits when the office has no room.
	busyPause = 20 * time.Millisecond
	// drainLimit ends the wait for what was accepted to come into blocks.
	drainLimit = time.Minute
)

// load says what is sent.
type load struct {
	// batch is how many transactions a request carries.
	batch int
	body  func(*rand.Rand) ledger.Body
	// perSecond is the pace of all lanes together; 0: as fast as the office takes them.
	perSecond float64
	// profile names the daemon's profile meanwhile; empty: none.
	profile string
}

// lane is one connection with senders of its own, whose transactions go in order.
type lane struct {
	office *escd.Client
	txs    []signedTx
	taken  []taken
}

// taken is an answer of the office: a row of transactions with their places, due at a time.
type taken struct {
	due time.Time
	escd.Promise
	txs []signedTx
}

// traffic is what a load did.
type traffic struct {
	lanes []lane
	// blocks are those from the load's first moment on, each with the time at which it was seen.
	blocks []seenBlock
	start  time.Time
	took   time.Duration // of the sending
	busy   time.Duration // CPU time of this process meanwhile
	used   time.Duration // CPU time of the daemons until everything was in blocks
	total  int           // accepted
	// rate is how many were executed a second.
	rate float64
}

type seenBlock struct {
	escd.BlockCount
	at time.Time
}

// cores is how many cores the processes share.
func cores() float64 { return float64(runtime.NumCPU()) }

// left is how many cores the load left to the daemons.
func (f *traffic) left() float64 { return cores() - f.busy.Seconds()/f.took.Seconds() }

// perTransfer is what a transaction cost the daemons, in microseconds on one core. Unlike the rate it hardly depends on what else the
// machine does.
func (f *traffic) perTransfer() float64 { return f.used.Seconds() * 1e6 / float64(f.total) }

// signLanes signs n transactions for a window, or fewer where that would take much longer than the window: to sign costs about what
// it costs to verify, so what can be signed in that time is more than a daemon takes.
func signLanes(senders []*sender, n int, window time.Duration, l load) ([]lane, error) {
	start := time.Now()
	samples, err := signRounds(senders, 1, now(), l.body) // never sent
	if err != nil {
		return nil, err
	}
	per := float64(time.Since(start)) / float64(len(samples))
	n = int(min(float64(n), signAhead*float64(window)/per, float64(maxSigned/len(samples[0].raw))))
	lanes := make([]lane, min(laneCount, len(senders)))
	share := len(senders) / len(lanes)
	each := max(n/len(senders), l.batch/share+1)
	for i := range lanes {
		if lanes[i].txs, err = signRounds(senders[i*share:(i+1)*share], each, now(), l.body); err != nil {
			return nil, err
		}
	}
	return lanes, nil
}

// drive sends for a window to daemons, waits until everything accepted is in blocks, and counts.
func drive(ctx context.Context, towns []*town, lanes []lane, window time.Duration, l load) (*traffic, error) {
	watch := towns[0].office
	before, err := watch.Info(ctx)
	if err != nil {
		return nil, err
	}
	f := &traffic{lanes: lanes}
	used, err := processTimes(towns)
	if err != nil {
		return nil, err
	}
	blocks := watchBlocks(ctx, watch, before.Height)
	cpu := cpuTime()
	f.start = time.Now()
	g, gctx := errgroup.WithContext(ctx)
	for i := range lanes {
		pace := time.Duration(0)
		if l.perSecond > 0 {
			pace = time.Duration(float64(l.batch*len(lanes)) / l.perSecond * float64(time.Second))
		}
		first := f.start.Add(pace * time.Duration(i) / time.Duration(len(lanes)))
		g.Go(func() error { return lanes[i].send(gctx, first, f.start.Add(window), l.batch, pace) })
	}
	err = g.Wait()
	f.took, f.busy = time.Since(f.start), cpuTime()-cpu
	if err != nil {
		blocks.stop()
		return nil, err
	}
	for _, lane := range lanes {
		for _, t := range lane.taken {
			f.total += t.Count
		}
	}
	if f.blocks, err = blocks.drained(f.total); err != nil {
		return nil, err
	}
	if f.used, err = processTimes(towns); err != nil {
		return nil, err
	}
	f.used -= used
	return f, f.count()
}

// send sends the lane's transactions in order until they or the time are used up.
func (l *lane) send(ctx context.Context, due, end time.Time, batch int, pace time.Duration) error {
	txs := l.txs
	for len(txs) > 0 && due.Before(end) {
		if err := pause(ctx, time.Until(due)); err != nil {
			return err
		}
		n, size := 0, 0
		for n < min(batch, len(txs)) && size+len(txs[n].raw)+4 <= escd.MaxBatch {
			size += len(txs[n].raw) + 4
			n++
		}
		for rest := txs[:n]; len(rest) > 0; {
			var err error
			if rest, err = l.post(ctx, rest, due); err != nil {
				return err
			}
			if len(rest) > 0 {
				if time.Now().After(end) {
					return nil
				}
				if err := pause(ctx, busyPause); err != nil {
					return err
				}
			}
		}
		txs = txs[n:]
		if due = due.Add(pace); pace == 0 {
			due = time.Now()
		}
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// post sends some transactions and returns those for which there was no room, in order.
func (l *lane) post(ctx context.Context, txs []signedTx, due time.Time) (rest []signedTx, err error) {
	res, err := l.office.SubmitMany(ctx, raws(txs))
	var p *escd.Problem
	if errors.As(err, &p) && p.Code == "busy" {
		return txs, nil
	}
	if err != nil {
		return nil, err
	}
	refused := make([]bool, len(txs))
	for _, r := range res.Refused {
		if r.LedgerCode != ledger.CodeBusy {
			return nil, fmt.Errorf("transaction refused: %s", r.Message)
		}
		rest, refused[r.Index] = append(rest, txs[r.Index]), true
	}
	for _, r := range res.Promises {
		row := taken{due: due, Promise: r}
		for i := r.Index; len(row.txs) < r.Count; i++ {
			if i >= len(txs) {
				return nil, fmt.Errorf("a promise for %d transactions from %d of a batch of %d", r.Count, r.Index, len(txs))
			}
			if !refused[i] {
				txs[i].accepted()
				row.txs = append(row.txs, txs[i])
			}
		}
		l.taken = append(l.taken, row)
	}
	return rest, nil
}

// checkReceipts verifies that all that was accepted was promised by the nodes' signatures, for these very transactions.
func (f *traffic) checkReceipts(keys map[uint16][32]byte, genesis types.Hash) error {
	for _, lane := range f.lanes {
		errs := make([]error, len(lane.taken))
		parallel(len(lane.taken), func(i int) { errs[i] = lane.taken[i].check(keys, genesis) })
		if err := errors.Join(errs...); err != nil {
			return err
		}
	}
	return nil
}

func (t *taken) check(keys map[uint16][32]byte, genesis types.Hash) error {
	raw, err := hex.DecodeString(t.Receipt)
	if err != nil {
		return err
	}
	r, err := ledger.ParseReceipt(raw)
	if err != nil {
		return err
	}
	ids := make([]types.Hash, len(t.txs))
	for i, tx := range t.txs {
		ids[i] = types.SHA256(tx.raw)
	}
	if key, ok := keys[r.Node]; !ok || !r.Verify(key, genesis) || !r.Covers(ids) || r.Msid != t.Place.Msid || r.First != t.Place.Position {
		return fmt.Errorf("the receipt for %d transactions at %s does not hold", t.Count, t.Place)
	}
	return nil
}

// count finds the rate between the first and the last block with transactions that was committed while the load ran: each holds what came
// since the one before. Without two of them it is counted from the start until everything was in blocks.
func (f *traffic) count() error {
	if f.total == 0 {
		return errors.New("no transaction was accepted in the time: give more --seconds")
	}
	from, some := f.start, f.blocks
	first, last := -1, -1
	for i, b := range f.blocks {
		switch {
		case b.Executed == 0 || b.at.After(f.start.Add(f.took)):
		case first < 0:
			first = i
		case b.at.After(f.blocks[first].at):
			last = i
		}
	}
	if last > 0 {
		from, some = f.blocks[first].at, f.blocks[first+1:last+1]
	}
	n := 0
	for _, b := range some {
		n += int(b.Executed)
	}
	f.rate = float64(n) / some[len(some)-1].at.Sub(from).Seconds()
	return nil
}

// latency is the time that this share of the transactions took at most, from when they were due until their block was seen. All are of
// one node, so they stand in the blocks in the order of their places.
func (f *traffic) latency(share float64) (time.Duration, error) {
	var rows []taken
	for _, lane := range f.lanes {
		rows = append(rows, lane.taken...)
	}
	slices.SortFunc(rows, func(a, b taken) int {
		if a.Place.Msid != b.Place.Msid {
			return int(a.Place.Msid) - int(b.Place.Msid)
		}
		return int(a.Place.Position) - int(b.Place.Position)
	})
	var all []time.Duration
	block, room := -1, 0
	for _, r := range rows {
		for range r.Count {
			for room == 0 {
				if block++; block == len(f.blocks) {
					return 0, fmt.Errorf("%d transactions are in no block", f.total-len(all))
				}
				room = int(f.blocks[block].Executed)
			}
			room--
			all = append(all, f.blocks[block].at.Sub(r.due))
		}
	}
	if len(all) == 0 {
		return 0, errors.New("no transaction was accepted: give more --seconds")
	}
	slices.Sort(all)
	return all[min(int(share*float64(len(all))), len(all)-1)], nil
}

// cpuTime is what this process has used of the cores.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err) // only for a wrong argument
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// processTimes is what the daemons have used of the cores.
func processTimes(towns []*town) (all time.Duration, err error) {
	for _, t := range towns {
		one, err := processTime(t.node.PID())
		if err != nil {
			return 0, err
		}
		all += one
	}
	return all, nil
}

// processTime is what a process has used of the cores, in steps of a hundredth of a second.
func processTime(pid int) (all time.Duration, err error) {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return 0, err
	}
	fields := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:]) // the name before it may have spaces
	if len(fields) < 13 {
		return 0, errors.New("/proc/PID/stat has another form than expected")
	}
	for _, ticks := range fields[11:13] { // in user and in system mode, in hundredths of a second
		n, err := strconv.ParseInt(string(ticks), 10, 64)
		if err != nil {
			return 0, err
		}
		all += time.Duration(n) * 10 * time.Millisecond
	}
	return all, nil
}
