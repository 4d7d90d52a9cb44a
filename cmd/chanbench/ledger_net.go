package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/oasisprotocol/curve25519-voi/primitives/ed25519"
	"golang.org/x/sync/errgroup"

	"github.com/eschaton-network/chand/internal/devnet"
	"github.com/eschaton-network/chand/ledger"
	chandv1 "github.com/eschaton-network/chand/rpc/gen/chand/v1"
	"github.com/eschaton-network/chand/types"
)

// validators is how many daemons agree on each block in four_validators.
const validators = 4

// quarterRate is a guess at the highest rate of a network of validators that share a core.
const quarterRate = 15_000

// fourValidators measures transfers between accounts of four nodes, each of which takes its own in and verifies those of all. The
// daemons share the machine's cores.
func fourValidators(ctx context.Context, l *ledgerBench) (err error) {
	dir := filepath.Join(l.net.Dir, "four")
	chand := func(args ...string) error {
		cmd := exec.CommandContext(ctx, l.net.Binary, append([]string{"net", "--dir", dir}, args...)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("chand net: %w\n%s", err, out)
		}
		return nil
	}
	defer func() {
		ctx = context.WithoutCancel(ctx) // what was started is stopped
		err = errors.Join(err, chand("down"), os.RemoveAll(dir))
	}()
	if err := chand("up", "--validators", fmt.Sprint(validators), "--block-time", l.blockTime.String(), "--", "--log-level", "warn"); err != nil {
		return err
	}
	net := &devnet.Net{Dir: dir, Binary: l.net.Binary}
	defer net.Release()
	towns := make([]*town, validators)
	g, gctx := errgroup.WithContext(ctx)
	for i := range towns {
		g.Go(func() (err error) {
			towns[i], err = l.settle(gctx, net, fmt.Sprintf("node%d", i+1))
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	load := load{batch: oneBatch, body: payOne(validators, l.sizes.senders/validators)}
	window := l.window(loads)
	var lanes []lane
	for _, t := range towns {
		mine, err := signLanes(t.senders, int(1.5*quarterRate*cores()*window.Seconds()/validators), window/validators, load)
		if err != nil {
			return err
		}
		for i := range mine {
			mine[i].office = t.office
		}
		lanes = append(lanes, mine...)
	}
	l.say("  %s of load", window)
	f, verify, err := l.besideVerification(ctx, func() (*traffic, error) { return drive(ctx, towns, lanes, window, load) })
	if err != nil {
		return err
	}
	l.say("  the daemons used %.1f us of CPU a transfer, all together", f.perTransfer())
	l.rate("four_validators.per_s", f.rate, limit{verify / validators, "verify_limit / 4: every daemon verifies every signature, on the same cores"})
	return nil
}

// settle opens the accounts of one node's share of the load: the daemon pays for one, and that one for the others.
func (b *bench) settle(ctx context.Context, net *devnet.Net, name string) (*town, error) {
	node, err := net.Attach(ctx, name)
	if err != nil {
		return nil, err
	}
	if node == nil {
		return nil, fmt.Errorf("%s does not run", name)
	}
	t := &town{node: node}
	if err := t.connect(ctx); err != nil {
		return nil, err
	}
	secret := func(i int) [32]byte { return types.SHA256(fmt.Appendf(nil, "chanbench sender %d of %s", i, name)) }
	first := &sender{key: privateKey(secret(0))}
	if first.id, err = t.office.CreateAccount(ctx, ledger.PublicKey(secret(0)), ledger.KeyProof(secret(0))); err != nil {
		return nil, err
	}
	sent, err := node.Account.Send(ctx, &chandv1.SendRequest{To: first.id.String(), Amount: fundAmount, IdempotencyKey: "chanbench"})
	if err == nil && sent.State != "confirmed" {
		err = fmt.Errorf("money for %s is %s", name, sent.State)
	}
	if err == nil {
		err = t.read(ctx, first)
	}
	if err != nil {
		return nil, err
	}
	t.senders = append(t.senders, first)
	ahead := *first
	var open []signedTx
	var wires []ledger.Wire
	for i := 1; i < b.sizes.senders/validators; i++ {
		s := &sender{key: privateKey(secret(i)), id: types.AccountID{Node: first.id.Node, User: first.id.User + uint32(i)}} // nobody else opens any
		tx, err := first.sign(&ahead, ledger.CreateAccount{Node: first.id.Node, PublicKey: ledger.PublicKey(secret(i)), Proof: ledger.KeyProof(secret(i))}, now())
		if err != nil {
			return nil, err
		}
		open, t.senders = append(open, tx), append(t.senders, s)
		wires = append(wires, ledger.Wire{To: s.id, Amount: senderMoney})
	}
	if err := t.execute(ctx, open); err != nil {
		return nil, err
	}
	pay, err := first.sign(&ahead, ledger.SendMany{Wires: wires}, now())
	if err != nil {
		return nil, err
	}
	if err := t.execute(ctx, []signedTx{pay}); err != nil {
		return nil, err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(laneCount)
	for _, s := range t.senders {
		g.Go(func() error { return t.read(gctx, s) })
	}
	return t, g.Wait()
}

// senderMoney is more than a sender's fees in any run.
const senderMoney = 10 * types.Coin

func privateKey(secret [32]byte) ed25519.PrivateKey { return ed25519.NewKeyFromSeed(secret[:]) }

// read fetches where a sender's chain stands.
func (t *town) read(ctx context.Context, s *sender) error {
	a, err := t.node.Account.Get(ctx, &chandv1.GetAccountRequest{Address: s.id.String()})
	if err != nil {
		return err
	}
	s.msid = a.Msid
	s.prev, err = types.ParseHash(a.Hash)
	return err
}

// execute submits transactions of the first sender and waits until its number says that all are in blocks.
func (t *town) execute(ctx context.Context, txs []signedTx) error {
	one := lane{office: t.office, txs: txs}
	if err := one.send(ctx, time.Now(), time.Now().Add(drainLimit), len(txs), 0); err != nil {
		return err
	}
	seen := sender{id: t.senders[0].id}
	return until(ctx, "transactions come into a block", func() (bool, error) {
		err := t.read(ctx, &seen)
		return err == nil && seen.msid == t.senders[0].msid, err
	})
}
