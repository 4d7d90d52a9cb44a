package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/eschaton-network/chand/internal/devnet"
	"github.com/eschaton-network/chand/internal/homelock"
)

// defaultNetDir is the network's folder when no --dir is given.
const defaultNetDir = "chand-net"

// blocksWait ends the wait for a new block after a start. A machine that is busy starting many daemons may take some seconds.
const blocksWait = 60 * time.Second

// network is a ledger of several validators in one folder: genesis.json, bin/chand, and a home for each node.
type network struct {
	*devnet.Net
	out  io.Writer
	lock *os.File
}

func netCommand() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "net",
		Short: "run a ledger of several validators on this machine",
		Long: `Each validator is a chand daemon of its own that runs in the background, also after this command has ended.
The network lives in one folder, --dir, by default ./chand-net: the genesis document DIR/genesis.json, and the homes
DIR/node1, DIR/node2, ... with their settings (ports stay the same), keys, state and log (DIR/node1/log).
Blocks are made while more than two thirds of the validators run: of 4, one may be down.`,
		Example: `  chand net up --validators 4            # make the network in ./chand-net, or start what of it is down
  chand net status                       # who runs, at which block
  chancli --home chand-net/node1 status  # each node is a daemon like any other
  chand net kill node2                   # kill -9; the other three go on
  chand net stop node3                   # now two are down: no new block
  chand net start node2 node3            # it goes on where it was
  chand net down                         # stop all; "up" starts them again

  chand net up --dir /tmp/n --validators 7 --block-time 500ms
  chand net up --dir /tmp/g --genesis params.json -- --log-level debug    # own ledger parameters; settings for every node`,
	}
	cmd.PersistentFlags().StringVar(&dir, "dir", defaultNetDir, "folder of the network")
	cmd.AddCommand(netUp(&dir), netStatus(&dir),
		netNames(&dir, "start", "start nodes that are down", (*network).start),
		netNames(&dir, "stop", "stop nodes (SIGTERM) and wait until they have ended", (*network).stop),
		netNames(&dir, "kill", "kill nodes without warning (SIGKILL)", (*network).kill),
		netDown(&dir))
	return cmd
}

// openNetwork finds the network in a folder and keeps other `chand net` commands from changing it meanwhile.
func openNetwork(dir string, out io.Writer) (*network, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(dir, netGenesis)); err != nil {
		return nil, fmt.Errorf("there is no network in %s (%w): make one with `chand net up --dir %s`, or name another folder with --dir", dir, err, dir)
	}
	return lockNetwork(dir, out)
}

func lockNetwork(dir string, out io.Writer) (*network, error) {
	lock, err := homelock.Take(dir)
	var held *homelock.HeldError
	if errors.As(err, &held) {
		return nil, fmt.Errorf("another chand net command (process %d) works on %s: wait until it has ended", held.PID, dir)
	}
	if err != nil {
		return nil, err
	}
	return &network{Net: &devnet.Net{Dir: dir, Binary: filepath.Join(dir, "bin", "chand")}, out: out, lock: lock}, nil
}

func (n *network) close() {
	n.Release() // the daemons go on
	n.lock.Close()
}

// names lists the nodes in the order of their numbers.
func (n *network) names() ([]string, error) { return nodeNames(n.Dir) }

func nodeNames(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var numbers []int
	for _, e := range entries {
		text, ok := strings.CutPrefix(e.Name(), "node")
		i, err := strconv.Atoi(text)
		if !ok || err != nil || nodeName(i) != e.Name() {
			continue
		}
		if _, err := os.Stat(filepath.Join(dir, e.Name(), configName)); err == nil {
			numbers = append(numbers, i)
		}
	}
	sort.Ints(numbers)
	var names []string
	for _, i := range numbers {
		names = append(names, nodeName(i))
	}
	return names, nil
}

func nodeName(i int) string { return "node" + strconv.Itoa(i) }

func netUp(dir *string) *cobra.Command {
	o := netOptions{validators: 4}
	cmd := &cobra.Command{
		Use:   "up [-- SETTINGS]",
		Short: "make a network, or start what of it is down",
		Long: `The first time, up makes DIR/genesis.json and a home for each validator, with keys and settings. What follows "--" are
settings for every node, as flags of chand (see chand --help); they are written into each chand.toml.
Later it starts the nodes that are down. It returns when all nodes answer and a new block has been made.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 && cmd.ArgsLenAtDash() != 0 {
				return fmt.Errorf("unknown argument %q: settings for the nodes stand behind \"--\"", args[0])
			}
			o.settings, o.given = args, cmd.Flags().Changed
			return runNetUp(cmd.Context(), cmd.OutOrStdout(), *dir, o)
		},
	}
	cmd.Flags().IntVar(&o.validators, "validators", o.validators, "number of validators of a new network")
	cmd.Flags().StringVar(&o.genesis, "genesis", "", "genesis document of a new network; its nodes may be left out, then the new homes' keys are filled in")
	cmd.Flags().DurationVar(&o.blockTime, "block-time", time.Second, "time between blocks of a new network, unless --genesis says it")
	return cmd
}

func runNetUp(ctx context.Context, out io.Writer, dir string, o netOptions) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	n, err := lockNetwork(dir, out)
	if err != nil {
		return err
	}
	defer n.close()
	if _, err := os.Stat(filepath.Join(dir, netGenesis)); errors.Is(err, fs.ErrNotExist) {
		if err := makeNetwork(dir, o); err != nil {
			return err
		}
	} else if err := o.checkAgain(dir); err != nil {
		return err
	}
	names, err := n.names()
	if err != nil {
		return err
	}
	if err := n.startAll(ctx, names); err != nil {
		return fmt.Errorf("%w\nWhat has started goes on; `chand net down --dir %s` stops it", err, dir)
	}
	if err := n.awaitBlock(ctx, names); err != nil {
		return err
	}
	if err := n.print(ctx); err != nil {
		return err
	}
	fmt.Fprintf(out, "Try: chancli --home %s status\n", filepath.Join(dir, names[0]))
	return nil
}

// startAll starts what is down and waits for the rest.
func (n *network) startAll(ctx context.Context, names []string) error {
	var err error
	if n.Binary, err = copySelf(n.Dir); err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	for _, name := range names {
		g.Go(func() error {
			d, err := n.Attach(gctx, name)
			if d == nil && err == nil {
				_, err = n.Start(gctx, name)
			}
			return err
		})
	}
	return g.Wait()
}

// awaitBlock waits until every node has a block that none had when it was called.
func (n *network) awaitBlock(ctx context.Context, names []string) error {
	ctx, cancel := context.WithTimeout(ctx, blocksWait)
	defer cancel()
	before := slices.MaxFunc(n.states(ctx, names), func(a, b nodeState) int { return int(a.Height) - int(b.Height) }).Height
	err := until(ctx, fmt.Sprintf("every node has a block after %d", before), func() (bool, error) {
		for _, s := range n.states(ctx, names) {
			if s.Height <= before {
				return false, nil
			}
		}
		return true, nil
	})
	if err != nil {
		return fmt.Errorf("%w: see `chand net status --dir %s` and the logs in %s", err, n.Dir, filepath.Join(n.Dir, "node*", devnet.LogFile))
	}
	return nil
}

// netNames is a command that does something with the nodes named.
func netNames(dir *string, use, short string, do func(*network, context.Context, []string) error) *cobra.Command {
	return &cobra.Command{Use: use + " NAME...", Short: short, Args: cobra.MinimumNArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		n, err := openNetwork(*dir, cmd.OutOrStdout())
		if err != nil {
			return err
		}
		defer n.close()
		names, err := n.names()
		if err != nil {
			return err
		}
		for _, name := range args {
			if !slices.Contains(names, name) {
				return fmt.Errorf("%s has no node %q: it has %s", n.Dir, name, strings.Join(names, ", "))
			}
		}
		slices.Sort(args)
		return do(n, cmd.Context(), slices.Compact(args))
	}}
}

func netDown(dir *string) *cobra.Command {
	return &cobra.Command{Use: "down", Short: "stop all nodes", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		n, err := openNetwork(*dir, cmd.OutOrStdout())
		if err != nil {
			return err
		}
		defer n.close()
		names, err := n.names()
		if err != nil {
			return err
		}
		return n.stop(cmd.Context(), names)
	}}
}

func (n *network) start(ctx context.Context, names []string) error {
	if err := n.startAll(ctx, names); err != nil {
		return err
	}
	for _, s := range n.states(ctx, names) {
		fmt.Fprintf(n.out, "%s runs: process %d, block %d%s\n", s.Name, s.PID, s.Height, s.note())
	}
	return nil
}

func (n *network) stop(_ context.Context, names []string) error {
	return n.end(names, (*devnet.Node).Stop)
}
func (n *network) kill(_ context.Context, names []string) error {
	return n.end(names, (*devnet.Node).Kill)
}

// end stops or kills the nodes that run, all at a time. One that fails to stop is no reason to leave another one running.
func (n *network) end(names []string, how func(*devnet.Node) error) error {
	said, errs := make([]string, len(names)), make([]error, len(names))
	var wg sync.WaitGroup
	for i, name := range names {
		wg.Go(func() {
			d, err := n.Find(name)
			switch {
			case err != nil:
				errs[i] = err
			case d == nil:
				said[i] = name + " was not running\n"
			default:
				errs[i] = how(d)
				said[i] = fmt.Sprintf("%s has ended: process %d\n", name, d.PID())
			}
		})
	}
	wg.Wait()
	fmt.Fprint(n.out, strings.Join(said, ""))
	return errors.Join(errs...)
}
