package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/eschaton-network/chand/internal/devnet"
	"github.com/eschaton-network/chand/internal/offline"
	chandv1 "github.com/eschaton-network/chand/rpc/gen/chand/v1"
	"github.com/eschaton-network/chand/types"
)

// holding is what one daemon owns.
type holding struct{ account, channels types.Amount }

func (h holding) total() types.Amount { return h.account + h.channels }

func (d *demo) everybody() []*devnet.Node {
	return append([]*devnet.Node{d.ledger}, append(d.people(), d.mallory)...)
}

// name is the person behind a daemon: mallory's old copy is mallory.
func name(n *devnet.Node) string { return strings.TrimSuffix(n.Name, "-old") }

func (d *demo) holdings(ctx context.Context) (map[string]holding, error) {
	all := map[string]holding{}
	for _, n := range d.everybody() {
		a, err := n.Account.Get(ctx, &chandv1.GetAccountRequest{})
		if err != nil {
			return nil, err
		}
		h := holding{account: mustAmount(a.Balance)}
		list, err := n.Channels.List(ctx, &chandv1.ListChannelsRequest{})
		if err != nil {
			return nil, err
		}
		for _, ch := range list.Channels {
			h.channels += mustAmount(ch.Mine)
			if mustAmount(ch.Locked) != 0 {
				return nil, fmt.Errorf("%s: channel %.8s still has %s in locks", n.Name, ch.Id, ch.Locked)
			}
		}
		all[name(n)] = h
	}
	return all, nil
}

// table prints who owned what before and after. Coins move, none appear: what is missing from the sum must be in the ledger's
// fee pool to the unit.
func (d *demo) table(ctx context.Context) (string, error) {
	var after map[string]holding
	var sumBefore, sumAfter, pool types.Amount
	// A block may lie between two answers: take the figures until two rounds agree.
	err := until(ctx, "the balances are still", func() (bool, error) {
		first, err := d.holdings(ctx)
		if err != nil {
			return false, err
		}
		p1, err := d.pool(ctx)
		if err != nil {
			return false, err
		}
		if after, err = d.holdings(ctx); err != nil {
			return false, err
		}
		if pool, err = d.pool(ctx); err != nil {
			return false, err
		}
		for k, h := range first {
			if after[k] != h {
				return false, nil
			}
		}
		return p1 == pool, nil
	})
	if err != nil {
		return "", err
	}
	var b strings.Builder
	row := func(cells ...any) { fmt.Fprintf(&b, "%-10s %22s %22s %22s %18s\n", cells...) }
	row("who", "account before", "account after", "in channels after", "change")
	for _, n := range d.everybody() {
		was, is := d.before[name(n)], after[name(n)]
		row(name(n), was.account, is.account, is.channels, is.total()-was.total())
		sumBefore += was.total()
		sumAfter += is.total()
	}
	fees := pool - d.poolBefore
	row("fee pool", "", "", "", fees)
	row("sum", sumBefore, "", sumAfter, sumAfter+fees-sumBefore)
	if sumAfter+fees != sumBefore {
		return "", errors.New("the table does not add up:\n" + b.String())
	}
	b.WriteString("It adds up: what the accounts lost in sum is what the ledger took in fees, to the unit.")
	return b.String(), nil
}

// goOn prints what to do next.
func (d *demo) goOn(keep bool) {
	if !keep {
		fmt.Fprintf(d.out, "Run it with --keep to go on by hand:\n\n    go run ./cmd/chand demo --keep --dir /tmp/net\n")
		return
	}
	fmt.Fprintln(d.out, "The network runs on. The homes, and some commands to go on with:")
	for _, n := range append([]*devnet.Node{d.ledger}, d.people()...) {
		fmt.Fprintf(d.out, "    %-7s %s\n", n.Name, n.Home)
	}
	fmt.Fprintf(d.out, `
    go build -o %[1]s/bin/ ./cmd/chancli && export PATH=%[1]s/bin:$PATH
    chancli --home %[1]s/alice status
    chancli --home %[1]s/alice channel list
    chancli --home %[1]s/alice pay $(chancli --home %[1]s/dave invoice create 1 --field invoice)
    chancli --home %[1]s/alice watch
    for n in alice bob carol dave ledger; do chancli --home %[1]s/$n stop; done     # the end
`, d.net.Dir)
}

// pool is what the ledger holds of fees.
func (d *demo) pool(ctx context.Context) (types.Amount, error) {
	s, err := d.ledger.Status.Get(ctx, &chandv1.GetStatusRequest{})
	if err != nil {
		return 0, err
	}
	return types.ParseAmount(s.Ledger.FeePool)
}

// verifyOffline checks a proof with the genesis document of a home and nothing else.
func verifyOffline(home string, digest [32]byte, proof []byte) (string, error) {
	headers, err := offline.FromHome(home)
	if err != nil {
		return "", err
	}
	r, err := headers.Verify(digest, proof)
	if err != nil {
		return "", err
	}
	if !r.Proven {
		return "", errors.New(r.Sentence)
	}
	return r.Sentence, nil
}
