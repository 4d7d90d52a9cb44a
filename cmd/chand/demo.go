package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/eschaton-network/chand/chand"
	"github.com/eschaton-network/chand/htlc"
	"github.com/eschaton-network/chand/internal/devnet"
	"github.com/eschaton-network/chand/rpc"
	chandv1 "github.com/eschaton-network/chand/rpc/gen/chand/v1"
	"github.com/eschaton-network/chand/types"
)

// demoArgs make a network whose disputes end within seconds. See types.DemoTiming.
var demoArgs = []string{"--log-level", "info",
	"--channel-inclusion", fmt.Sprint(types.DemoTiming.Inclusion), "--channel-downtime", fmt.Sprint(types.DemoTiming.Downtime),
	"--channel-window", fmt.Sprint(types.DemoTiming.Window), "--timestamp-round", "200ms"}

// demoPoll is how often the demo looks whether something has happened yet; events would do too, but a reader follows this more easily.
const demoPoll = 100 * time.Millisecond

// demoLimit ends a step that hangs.
const demoLimit = 45 * time.Second

func demoCommand() *cobra.Command {
	var dir string
	var keep bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "run the main job: a ledger and four daemons trade, on this machine, in about a minute",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runDemo(cmd.Context(), cmd.OutOrStdout(), dir, keep)
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "put the homes at DIR/alice, DIR/bob, …; empty: a temporary folder")
	cmd.Flags().BoolVar(&keep, "keep", false, "leave the network running")
	return cmd
}

// demo is one run: the daemons and what was measured before.
type demo struct {
	out                       io.Writer
	started                   time.Time
	net                       *devnet.Net
	ledger, alice, bob, carol *devnet.Node
	dave, mallory             *devnet.Node
	join                      string
	before                    map[string]holding
	second, malloryBob        string // channel ids
	website                   *http.Server
	step                      int
	poolBefore                types.Amount
}

func runDemo(ctx context.Context, out io.Writer, dir string, keep bool) (err error) {
	d := &demo{out: out, started: time.Now()}
	if dir == "" {
		if dir, err = os.MkdirTemp("", "chand-demo-"); err != nil {
			return err
		}
		if !keep {
			defer os.RemoveAll(dir)
		}
	} else if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		return fmt.Errorf("%s is not empty: choose a new folder, so that no older home is touched", dir)
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return err
	}
	binary, err := copySelf(dir)
	if err != nil {
		return err
	}
	d.net = &devnet.Net{Dir: dir, Binary: binary, Args: demoArgs}
	defer func() {
		if keep && err == nil {
			err = d.mallory.Stop() // her part is over
			d.net.Release()
			return
		}
		err = errors.Join(err, d.net.Close())
	}()
	for _, s := range []struct {
		title string
		run   func(context.Context) (string, error)
	}{
		{"start a ledger and four daemons", d.start},
		{"fund them", d.fund},
		{"open channels in a line", d.open},
		{"pay directly, both ways", d.payDirect},
		{"pay over two intermediaries", d.payOverHops},
		{"escrow that is released", d.escrowReleased},
		{"escrow that is given back", d.escrowRefunded},
		{"sell a service, buy ten requests", d.service},
		{"publish a rating, find it elsewhere", d.statement},
		{"stamp a file, verify offline", d.stamp},
		{"close a channel in agreement", d.closeAgreed},
		{"close by force: a cheater publishes an old version", d.cheat},
		{"add everything up", d.table},
	} {
		d.step++
		fmt.Fprintf(out, "[%2d/13 %5.1fs] %s\n", d.step, time.Since(d.started).Seconds(), s.title)
		stepCtx, cancel := context.WithTimeout(ctx, demoLimit)
		sentence, err := s.run(stepCtx)
		cancel()
		if err != nil {
			return fmt.Errorf("step %d (%s): %w", d.step, s.title, err)
		}
		fmt.Fprintf(out, "               %s\n", strings.ReplaceAll(sentence, "\n", "\n               "))
	}
	fmt.Fprintf(out, "\nEvery step held. %.1f s.\n\n", time.Since(d.started).Seconds())
	d.goOn(keep)
	return nil
}

// copySelf keeps the running program at dir/bin/chand: `go run` deletes its own copy when it ends.
func copySelf(dir string) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	raw, err := os.ReadFile(self)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Join(dir, "bin"), 0o700); err != nil {
		return "", err
	}
	path := filepath.Join(dir, "bin", "chand")
	if err := os.WriteFile(path+".new", raw, 0o700); err != nil {
		return "", err
	}
	return path, os.Rename(path+".new", path) // an older copy may be running
}

func (d *demo) people() []*devnet.Node { return []*devnet.Node{d.alice, d.bob, d.carol, d.dave} }

func (d *demo) start(ctx context.Context) (string, error) {
	var err error
	if d.ledger, err = d.net.Start(ctx, "ledger", "--ledger-block-time", "1s"); err != nil {
		return "", err
	}
	status, err := d.ledger.Status.Get(ctx, &chandv1.GetStatusRequest{})
	if err != nil {
		return "", err
	}
	d.join = status.Ledger.Join
	nodes := []**devnet.Node{&d.alice, &d.bob, &d.carol, &d.dave, &d.mallory}
	g, gctx := errgroup.WithContext(ctx)
	for i, name := range []string{"alice", "bob", "carol", "dave", "mallory"} {
		g.Go(func() (err error) {
			*nodes[i], err = d.net.Start(gctx, name, "--ledger-join", d.join)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return "", err
	}
	return fmt.Sprintf("Ledger %s makes a block a second; alice, bob, carol and dave (and mallory, for later) each verify every one.", status.Ledger.ChainId), nil
}

func (d *demo) fund(ctx context.Context) (string, error) {
	var err error
	if d.before, err = d.holdings(ctx); err != nil {
		return "", err
	}
	if d.poolBefore, err = d.pool(ctx); err != nil {
		return "", err
	}
	g, gctx := errgroup.WithContext(ctx)
	for _, n := range append(d.people(), d.mallory) {
		g.Go(func() error {
			own, err := n.Account.Get(gctx, &chandv1.GetAccountRequest{})
			if err != nil {
				return err
			}
			sent, err := patiently(gctx, "sending to "+n.Name, func() (*chandv1.SendResponse, error) {
				return d.ledger.Account.Send(gctx, &chandv1.SendRequest{To: own.Address, Amount: "1000", IdempotencyKey: "fund " + n.Name})
			})
			if err != nil {
				return err
			}
			if sent.State != "confirmed" {
				return fmt.Errorf("sending to %s is %s", n.Name, sent.State)
			}
			return until(gctx, n.Name+" sees its money", func() (bool, error) {
				a, err := n.Account.Get(gctx, &chandv1.GetAccountRequest{})
				return err == nil && mustAmount(a.Balance) >= 1000*types.Coin, err
			})
		})
	}
	return "The ledger's own account sent 1000 coins to each of the five.", g.Wait()
}

func (d *demo) open(ctx context.Context) (string, error) {
	g, gctx := errgroup.WithContext(ctx)
	link := func(id *string, from, to *devnet.Node, mine, theirs string) {
		g.Go(func() error {
			ch, err := openChannel(gctx, from, to, mine, theirs)
			*id = ch
			return err
		})
	}
	var line [3]string
	link(&line[0], d.alice, d.bob, "200", "100")
	link(&line[1], d.bob, d.carol, "200", "100")
	link(&line[2], d.carol, d.dave, "200", "100")
	link(&d.second, d.alice, d.bob, "50", "0")
	link(&d.malloryBob, d.mallory, d.bob, "50", "10")
	return "alice-bob, bob-carol and carol-dave: 300 coins each, funded by both sides in one transaction.\nTwo more to be closed at the end: a second one of alice and bob, and mallory-bob.", g.Wait()
}

// openChannel connects two daemons, opens a channel and waits until both can use it.
func openChannel(ctx context.Context, from, to *devnet.Node, mine, theirs string) (string, error) {
	self, err := to.Peers.Self(ctx, &chandv1.SelfRequest{})
	if err != nil {
		return "", err
	}
	if len(self.Addresses) == 0 {
		return "", fmt.Errorf("%s has no address", to.Name)
	}
	if _, err := from.Peers.Connect(ctx, &chandv1.ConnectRequest{Address: self.Addresses[0]}); err != nil {
		return "", err
	}
	ch, err := patiently(ctx, "a channel of "+from.Name+" and "+to.Name, func() (*chandv1.Channel, error) {
		return from.Channels.Open(ctx, &chandv1.OpenChannelRequest{Peer: self.Id, Mine: mine, Theirs: theirs})
	})
	if err != nil {
		return "", err
	}
	for _, n := range []*devnet.Node{from, to} {
		if err := channelState(ctx, n, ch.Id, "open"); err != nil {
			return "", err
		}
	}
	return ch.Id, nil
}

// channelState waits until the channel is in the state wanted.
func channelState(ctx context.Context, n *devnet.Node, id, want string) error {
	last := ""
	err := until(ctx, fmt.Sprintf("%s: channel %.8s is %s", n.Name, id, want), func() (bool, error) {
		ch, err := n.Channels.Get(ctx, &chandv1.GetChannelRequest{Id: id})
		if err != nil {
			return false, err
		}
		last = ch.State + ": " + ch.StateText
		return ch.State == want, nil
	})
	if err != nil {
		return fmt.Errorf("%w (it is %s)", err, last)
	}
	return nil
}

// passing are the rules by which a payment fails that may be tried again: gossip has not told the route yet, or a daemon on the way has
// seen no block for some seconds.
var passing = []string{chand.CodeNoRoute, chand.CodeStale, htlc.TemporaryNodeFailure.String()}

// stale tells whether a command was refused because a daemon, or its peer, has seen no block for some seconds, as happens on a busy
// machine. Nothing was done then.
func stale(err error) bool {
	return err != nil && (rpc.Detail(err).Code == chand.CodeStale || strings.Contains(err.Error(), chand.NotFresh))
}

// patiently repeats a command as long as it is refused for want of blocks.
func patiently[T any](ctx context.Context, what string, call func() (T, error)) (v T, err error) {
	err = until(ctx, what+" is not refused for want of blocks", func() (bool, error) {
		var err error
		if v, err = call(); stale(err) {
			return false, nil
		}
		return err == nil, err
	})
	return v, err
}

// until polls until ok, an error or the end of ctx.
func until(ctx context.Context, what string, ok func() (bool, error)) error {
	for {
		done, err := ok()
		if err != nil || done {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting until %s: %w", what, context.Cause(ctx))
		case <-time.After(demoPoll):
		}
	}
}

func mustAmount(s string) types.Amount {
	a, err := types.ParseAmount(s)
	if err != nil {
		return 0
	}
	return a
}
