// Package itest runs whole daemons as processes of their own and checks what their users are promised.
package itest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/eschaton-network/chand/chand"
	"github.com/eschaton-network/chand/htlc"
	"github.com/eschaton-network/chand/internal/devnet"
	"github.com/eschaton-network/chand/rpc"
	chandv1 "github.com/eschaton-network/chand/rpc/gen/chand/v1"
	"github.com/eschaton-network/chand/types"
)

// program is chand, built once for all tests of the package.
var program string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "chand-itest-")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(dir)
		if program, err = devnet.Build(context.Background(), dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return m.Run()
	}())
}

// network is a ledger with fast blocks and daemons that follow it.
type network struct {
	*devnet.Net
	t      *testing.T
	ledger *devnet.Node
	join   string
}

// blockTime is short so that tests are quick; the block counts below are chosen with it.
const blockTime = "250ms"

// Ten minutes and a little more: on a machine that is too slow to restart a killed daemon within the downtime, locks would
// rightly be taken to the ledger. A test that wants to see a window end says its own.
const downtime, window = "2400", "2420"

func newNetwork(t *testing.T, args ...string) *network {
	t.Helper()
	if testing.Short() {
		t.Skip("SKIPPED: -short leaves out the tests with real processes")
	}
	t.Parallel() // daemons mostly wait for blocks
	n := &network{Net: &devnet.Net{Dir: t.TempDir(), Binary: program, Args: append([]string{
		"--channel-inclusion", "4", "--channel-downtime", downtime, "--channel-window", window, "--log-level", "debug"}, args...)}, t: t}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			n.keepLogs()
		}
	})
	n.ledger = n.start("ledger", "--ledger-block-time", blockTime)
	n.join = must(n.ledger.Status.Get(n.ctx(), &chandv1.GetStatusRequest{})).Ledger.Join
	return n
}

// keepLogs prints the end of every daemon's log: the folder is gone when somebody reads the failure.
func (n *network) keepLogs() {
	entries, _ := os.ReadDir(n.Dir)
	for _, e := range entries {
		if b, err := os.ReadFile(filepath.Join(n.Dir, e.Name(), devnet.LogFile)); err == nil {
			if len(b) > 6000 {
				b = b[len(b)-6000:]
			}
			n.t.Logf("--- %s\n%s", e.Name(), b)
		}
	}
}

// patience ends what hangs; nothing waits this long when all is well, however busy the machine.
const patience = 4 * time.Minute

func (n *network) ctx() context.Context {
	ctx, cancel := context.WithTimeout(n.t.Context(), patience)
	n.t.Cleanup(cancel)
	return ctx
}

func (n *network) start(name string, args ...string) *devnet.Node {
	n.t.Helper()
	d, err := n.Start(n.ctx(), name, args...)
	if err != nil {
		n.t.Fatal(err)
	}
	return d
}

// joined starts daemons that follow the ledger, and funds each with 1000 coins.
func (n *network) joined(names ...string) []*devnet.Node {
	n.t.Helper()
	var all []*devnet.Node
	for _, name := range names {
		d := n.start(name, "--ledger-join", n.join)
		own := must(d.Account.Get(n.ctx(), &chandv1.GetAccountRequest{}))
		sent := patiently(n, "funding "+name, func() (*chandv1.SendResponse, error) {
			return n.ledger.Account.Send(n.ctx(), &chandv1.SendRequest{To: own.Address, Amount: "1000", IdempotencyKey: "fund " + name})
		})
		if sent.State != "confirmed" {
			n.t.Fatalf("funding %s: %v", name, sent)
		}
		n.until(name+" is funded", func() bool { return n.account(d) >= 1000*types.Coin })
		all = append(all, d)
	}
	return all
}

func (n *network) until(what string, ok func() bool) {
	n.t.Helper()
	ctx := n.ctx()
	for !ok() {
		select {
		case <-ctx.Done():
			n.t.Fatalf("waited %s in vain until %s", patience, what)
		case <-time.After(20 * time.Millisecond): // polls; nothing is concluded from how long it took
		}
	}
}

func (n *network) account(d *devnet.Node) types.Amount {
	return coins(must(d.Account.Get(n.ctx(), &chandv1.GetAccountRequest{})).Balance)
}

func (n *network) open(from, to *devnet.Node, mine, theirs string) string {
	n.t.Helper()
	self := must(to.Peers.Self(n.ctx(), &chandv1.SelfRequest{}))
	must(from.Peers.Connect(n.ctx(), &chandv1.ConnectRequest{Address: self.Addresses[0]}))
	ch := patiently(n, "opening a channel", func() (*chandv1.Channel, error) {
		return from.Channels.Open(n.ctx(), &chandv1.OpenChannelRequest{Peer: self.Id, Mine: mine, Theirs: theirs})
	})
	for _, d := range []*devnet.Node{from, to} {
		n.state(d, ch.Id, "open")
	}
	return ch.Id
}

func (n *network) state(d *devnet.Node, id, want string) {
	n.t.Helper()
	n.until(fmt.Sprintf("%s's channel %.8s is %s", d.Name, id, want), func() bool { return n.channel(d, id).State == want })
}

func (n *network) channel(d *devnet.Node, id string) *chandv1.Channel {
	return must(d.Channels.Get(n.ctx(), &chandv1.GetChannelRequest{Id: id}))
}

// patiently repeats a command that is refused because a daemon saw no block for two seconds, as it must be: that happens
// when the machine is busy, and nothing was done then. Any other error ends the test.
func patiently[T any](n *network, what string, call func() (T, error)) (v T) {
	n.t.Helper()
	n.until(what+" is not refused for want of blocks", func() bool {
		var err error
		v, err = call()
		if err != nil && (rpc.Detail(err).Code == chand.CodeStale || strings.Contains(err.Error(), chand.NotFresh)) {
			return false
		}
		v = must(v, err)
		return true
	})
	return v
}

// passing are the rules by which a payment fails that may be tried again: gossip has not told the route yet, or a daemon
// on the way has seen no block for two seconds.
var passing = []string{chand.CodeNoRoute, chand.CodeStale, htlc.TemporaryNodeFailure.String()}

// pay pays an invoice and wants success.
func (n *network) pay(from, to *devnet.Node, amount string) *chandv1.Payment {
	n.t.Helper()
	var p *chandv1.Payment
	n.until(fmt.Sprintf("%s paid %s", from.Name, to.Name), func() bool {
		inv := must(to.Payments.CreateInvoice(n.ctx(), &chandv1.CreateInvoiceRequest{Amount: amount}))
		p = must(from.Payments.Pay(n.ctx(), &chandv1.PayRequest{Invoice: inv.Invoice}))
		if p.State == "failed" && slices.Contains(passing, p.Failure.GetRule()) {
			return false
		}
		if p.State != "succeeded" {
			n.t.Fatalf("%s pays %s %s: %v", from.Name, to.Name, amount, p)
		}
		return true
	})
	return p
}

// must ends the test's goroutine by a panic, which testing reports with its place.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func coins(s string) types.Amount { return must(types.ParseAmount(s)) }
