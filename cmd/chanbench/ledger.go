package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/eschaton-network/chand/chain/escd"
	"github.com/eschaton-network/chand/internal/devnet"
	"github.com/eschaton-network/chand/ledger"
	chandv1 "github.com/eschaton-network/chand/rpc/gen/chand/v1"
	"github.com/eschaton-network/chand/types"
)

const (
	// senders is how many accounts pay at once; each is a hash chain of its own.
	senders = 16
	// targets is how many accounts one transaction of the one-to-many figure pays.
	targets = 1000
	// sendOneSize and wireSize are what a payment takes on the wire (docs/ledger.md).
	sendOneSize, wireSize = 125, 14
	// logs is how often CometBFT and the state write a transaction at least: write-ahead log and block store.
	logs = 2
	// batchTxs is how many transactions one request carries.
	batchTxs = 1000
	// drainLimit ends the wait for what was accepted to come into blocks.
	drainLimit = time.Minute
)

// sender is an account of the benchmark's own; one goroutine at a time uses it.
type sender struct {
	secret [32]byte
	id     types.AccountID
	msid   uint32
	prev   types.Hash
}

// sign makes the sender's next transaction.
func (s *sender) sign(body ledger.Body, now types.Time) ([]byte, error) {
	raw, next, err := ledger.Sign(s.secret, s.prev, ledger.Head{From: s.id, Msid: s.msid, Time: now}, body)
	if err != nil {
		return nil, err
	}
	s.msid++
	s.prev = next
	return raw, nil
}

// town is a ledger with accounts on it.
type town struct {
	node    *devnet.Node
	office  *escd.Client
	senders []*sender
	targets []types.AccountID
}

// ledgerTransfers measures signed transfers from submission to their blocks: one recipient a transaction, and 1000.
func ledgerTransfers(ctx context.Context, b *bench) error {
	setup, cancel := context.WithTimeout(ctx, setupLimit)
	defer cancel()
	b.say("starting a ledger; opening %d accounts that pay and %d that are paid", senders, targets)
	t, err := b.settle(setup)
	if err != nil {
		return err
	}
	defer t.office.Close()
	window := b.window(2)

	b.say("one_to_one.per_s: signing ahead, then sending for %s", window)
	n := 0
	one, err := t.transfers(ctx, window, func() ledger.Body {
		n++
		return ledger.SendOne{To: t.targets[n%len(t.targets)], Amount: 1}
	})
	if err != nil {
		return fmt.Errorf("one_to_one: %w", err)
	}
	b.rate("one_to_one.per_s", one, least(
		limit{b.limits.batchVerify, "one ed25519 signature a payment, in batches, all cores"},
		limit{b.limits.bandwidth / (logs * sendOneSize), "synced bytes of the disk"}))

	b.say("one_to_many.per_s: %d recipients a transaction, for %s", targets, window)
	wires := make([]ledger.Wire, len(t.targets))
	for i, id := range t.targets {
		wires[i] = ledger.Wire{To: id, Amount: 1}
	}
	many, err := t.transfers(ctx, window, func() ledger.Body { return ledger.SendMany{Wires: wires} })
	if err != nil {
		return fmt.Errorf("one_to_many: %w", err)
	}
	b.rate("one_to_many.per_s", many*targets, least(
		limit{b.limits.batchVerify * targets, "one ed25519 signature for 1000 payments"},
		limit{b.limits.bandwidth / (logs * wireSize), "synced bytes of the disk"}))
	return nil
}

// settle starts a ledger and opens the accounts.
func (b *bench) settle(ctx context.Context) (*town, error) {
	node, err := b.net.Start(ctx, "ledger", "--ledger-block-time", b.blockTime.String())
	if err != nil {
		return nil, err
	}
	status, err := node.Status.Get(ctx, &chandv1.GetStatusRequest{})
	if err != nil {
		return nil, err
	}
	addr, _, _ := strings.Cut(status.Ledger.Join, "/")
	t := &town{node: node, office: escd.NewClient(addr)}
	for i := range senders {
		s := &sender{secret: sha256.Sum256(fmt.Appendf(nil, "chanbench sender %d", i))}
		if err := t.openAccount(ctx, s); err != nil {
			return nil, fmt.Errorf("account of sender %d: %w", i, err)
		}
		t.senders = append(t.senders, s)
	}
	g, gctx := errgroup.WithContext(ctx)
	for i, s := range t.senders {
		g.Go(func() error {
			sent, err := node.Account.Send(gctx, &chandv1.SendRequest{To: s.id.String(), Amount: fundAmount, IdempotencyKey: fmt.Sprint("sender ", i)})
			if err == nil && sent.State != "confirmed" {
				err = fmt.Errorf("money for sender %d is %s", i, sent.State)
			}
			if err != nil {
				return err
			}
			return t.read(gctx, s)
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return t, t.openTargets(ctx)
}

// openAccount asks the office, which opens a few a second.
func (t *town) openAccount(ctx context.Context, s *sender) error {
	return until(ctx, "an account", func() (bool, error) {
		id, err := t.office.CreateAccount(ctx, ledger.PublicKey(s.secret), ledger.KeyProof(s.secret))
		var p *escd.Problem
		if errors.As(err, &p) && p.Code == "busy" {
			return false, nil
		}
		s.id = id
		return err == nil, err
	})
}

// read fetches where the account's chain stands.
func (t *town) read(ctx context.Context, s *sender) error {
	a, err := t.node.Account.Get(ctx, &chandv1.GetAccountRequest{Address: s.id.String()})
	if err != nil {
		return err
	}
	s.msid = a.Msid
	s.prev, err = types.ParseHash(a.Hash)
	return err
}

// openTargets creates accounts by transactions of the first sender. Numbers on a node follow one another, and nobody else creates any.
func (t *town) openTargets(ctx context.Context) error {
	first := t.senders[0]
	next := types.AccountID{Node: first.id.Node}
	for _, s := range t.senders {
		next.User = max(next.User, s.id.User)
	}
	var txs [][]byte
	for i := range targets {
		secret := sha256.Sum256(fmt.Appendf(nil, "chanbench target %d", i))
		raw, err := first.sign(ledger.CreateAccount{Node: first.id.Node, PublicKey: ledger.PublicKey(secret), Proof: ledger.KeyProof(secret)}, now())
		if err != nil {
			return err
		}
		txs = append(txs, raw)
		next.User++
		t.targets = append(t.targets, next)
	}
	if _, err := t.submit(ctx, txs, time.Time{}); err != nil {
		return err
	}
	last := sha256.Sum256(fmt.Appendf(nil, "chanbench target %d", targets-1))
	want := ledger.PublicKey(last)
	return until(ctx, "the last account", func() (bool, error) {
		a, err := t.node.Account.Get(ctx, &chandv1.GetAccountRequest{Address: next.String()})
		if err != nil {
			return false, nil // not there yet
		}
		if a.PublicKey != hex.EncodeToString(want[:]) {
			return false, fmt.Errorf("account %s has another key than expected: somebody else opens accounts on this ledger", next)
		}
		return true, nil
	})
}

func now() types.Time { return types.Time(time.Now().Unix()) }

// transfers signs ahead for as long as the window, then submits from all senders for the window, waits until everything accepted is in
// blocks, and returns how many were executed a second between the blocks before the first and of the last.
func (t *town) transfers(ctx context.Context, window time.Duration, body func() ledger.Body) (float64, error) {
	pools, err := t.signAhead(window, body)
	if err != nil {
		return 0, err
	}
	before, err := t.office.Info(ctx)
	if err != nil {
		return 0, err
	}
	start := time.Now()
	accepted := make([]int, len(pools))
	g, gctx := errgroup.WithContext(ctx)
	for i, txs := range pools {
		g.Go(func() (err error) {
			accepted[i], err = t.submit(gctx, txs, start.Add(window))
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return 0, err
	}
	total := 0
	for _, n := range accepted {
		total += n
	}
	took, err := t.drain(ctx, before.Height, total, start)
	if err != nil {
		return 0, err
	}
	for _, s := range t.senders { // what was signed ahead and not sent is gone
		if err := t.read(ctx, s); err != nil {
			return 0, err
		}
	}
	return float64(total) / took.Seconds(), nil
}

// signAhead makes every sender's transactions before the clock starts. Time and bytes bound it.
func (t *town) signAhead(window time.Duration, body func() ledger.Body) ([][][]byte, error) {
	const maxBytes = 512 << 20
	pools := make([][][]byte, len(t.senders))
	size := 0
	for end := time.Now().Add(window); time.Now().Before(end) && size < maxBytes; {
		for i, s := range t.senders {
			raw, err := s.sign(body(), now())
			if err != nil {
				return nil, err
			}
			pools[i] = append(pools[i], raw)
			size += len(raw)
		}
	}
	return pools, nil
}

// submit sends one sender's transactions in order until they or the time are used up (zero: no end), and returns how many were accepted.
func (t *town) submit(ctx context.Context, txs [][]byte, end time.Time) (accepted int, err error) {
	for len(txs) > 0 && (end.IsZero() || time.Now().Before(end)) {
		n, size := 0, 0
		for n < min(batchTxs, len(txs)) && size+len(txs[n])+4 <= escd.MaxBatch {
			size += len(txs[n]) + 4
			n++
		}
		res, err := t.office.SubmitMany(ctx, txs[:n])
		var p *escd.Problem
		busy := errors.As(err, &p) && p.Code == "busy"
		if err != nil && !busy {
			return accepted, err
		}
		for _, r := range res.Refused {
			if r.LedgerCode != ledger.CodeBusy {
				return accepted, fmt.Errorf("transaction refused: %s", r.Message)
			}
			busy = true
		}
		accepted += res.Accepted
		txs = txs[res.Accepted:]
		if busy {
			select {
			case <-ctx.Done():
				return accepted, ctx.Err()
			case <-time.After(pollTime / 5):
			}
		}
	}
	return accepted, nil
}

// drain waits until so many transactions are in blocks after the given one, and returns the time since start then.
func (t *town) drain(ctx context.Context, from types.Height, total int, start time.Time) (took time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, drainLimit)
	defer cancel()
	seen, next := 0, from+1
	err = until(ctx, "everything accepted comes into blocks", func() (bool, error) {
		counts, err := t.office.Counts(ctx, next, next+escd.MaxCounts-1)
		if err != nil {
			return false, err
		}
		for _, c := range counts {
			if c.Refused > 0 {
				return false, fmt.Errorf("block %d refused %d transactions", c.Height, c.Refused)
			}
			seen += int(c.Executed)
			next = c.Height + 1
		}
		return seen >= total, nil
	})
	return time.Since(start), err
}
