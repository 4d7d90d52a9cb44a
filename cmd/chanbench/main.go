// Command chanbench measures real daemons in processes of their own, and beside each figure the physical limit of the machine that
// binds it, measured in the same run: signatures, disk flushes, round trips.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/eschaton-network/chand/internal/devnet"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := command().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "chanbench:", err)
		stop()
		os.Exit(1)
	}
}

// options are common to all benchmarks.
type options struct {
	seconds   int
	json      bool
	dir       string
	blockTime time.Duration
	// binary is the daemon to measure, empty: built from the sources.
	binary string
	// only are the figures to measure, empty: all; profiles is the folder for processor profiles of the daemons, empty: none.
	only     []string
	profiles string
	sizes    sizes
	quiet    idleSizes
}

// bench is one benchmark under way.
type bench struct {
	options
	net    *devnet.Net
	limits limits
	rows   []row
	// say shows progress to a person; it goes to stderr.
	say func(format string, args ...any)

	idle float64 // cores that a daemon uses without load

	mu    sync.Mutex
	debug map[string]string // guarded by mu; where daemons serve profiles, by name
}

func command() *cobra.Command {
	o := options{sizes: realSizes, quiet: realIdle}
	root := &cobra.Command{
		Use:           "chanbench",
		Short:         "measure chand and the limits of this machine in one run",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.PersistentFlags().IntVar(&o.seconds, "seconds", 20, "how long to measure, all figures together; setting up comes on top")
	root.PersistentFlags().BoolVar(&o.json, "json", false, "one JSON object a line instead of a table")
	root.PersistentFlags().StringVar(&o.dir, "dir", "", "where the daemons' homes go, so which disk is measured; empty: a temporary folder")
	root.PersistentFlags().StringVar(&o.binary, "chand", "", "the daemon to measure, an absolute path; empty: built from the sources")
	root.PersistentFlags().DurationVar(&o.blockTime, "block-time", time.Second, "time between blocks of the ledger")
	for _, sub := range []struct {
		name, short string
		run         func(context.Context, *bench) error
	}{
		{"payments", "instant payments over one channel and over a hop", payments},
		{"open", "channels opened between two daemons", openings},
		{"ledger", "the ledger: transfers, starts, memory, the cost of a block", ledgerRun},
		{"idle", "daemons that do nothing: memory, the size of the store, the time to be ready", idle},
		{"stamp", "timestamp requests sealed by a daemon", stamps},
	} {
		cmd := &cobra.Command{Use: sub.name, Short: sub.short, Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error { return run(cmd, o, sub.run) }}
		if sub.name == "ledger" {
			cmd.Flags().StringSliceVar(&o.only, "only", nil, "figures to measure, between commas; empty: all")
		}
		if sub.name == "idle" {
			cmd.Flags().StringSliceVar(&o.only, "only", nil, "of idle, start and history, between commas; empty: all")
		}
		if sub.name == "ledger" || sub.name == "payments" {
			cmd.Flags().StringVar(&o.profiles, "profile", "", "folder for processor profiles of the daemons under load; empty: none")
		}
		root.AddCommand(cmd)
	}
	root.AddCommand(&cobra.Command{Use: "route", Short: "path finding on a network of 50,000 channels, without daemons", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runRoute(cmd, o) }})
	return root
}

// run builds the daemon, measures the machine, runs one benchmark, and stops what it started.
func run(cmd *cobra.Command, o options, measure func(context.Context, *bench) error) (err error) {
	if o.seconds < 1 {
		return fmt.Errorf("--seconds %d: want at least 1", o.seconds)
	}
	ctx := cmd.Context()
	dir, err := workFolder(o.dir)
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b := &bench{options: o, say: func(format string, args ...any) { fmt.Fprintf(cmd.ErrOrStderr(), format+"\n", args...) }}
	binary := o.binary
	if binary == "" {
		b.say("building chand")
		if binary, err = devnet.Build(ctx, dir); err != nil {
			return err
		}
	}
	b.say("measuring this machine")
	if b.limits, err = measureLimits(ctx, dir); err != nil {
		return err
	}
	b.net = &devnet.Net{Dir: dir, Binary: binary, Args: []string{"--log-level", "warn"}}
	defer func() {
		if stop := b.net.Close(); err == nil {
			err = stop
		}
	}()
	if err := measure(ctx, b); err != nil {
		return err
	}
	if o.json {
		return writeJSON(cmd.OutOrStdout(), b.rows)
	}
	return writeTable(cmd.OutOrStdout(), b.rows)
}

// workFolder makes a new folder, below the given one if any.
func workFolder(below string) (string, error) {
	if below != "" {
		if err := os.MkdirAll(below, 0o700); err != nil {
			return "", err
		}
	}
	dir, err := os.MkdirTemp(below, "chanbench-")
	if err != nil {
		return "", err
	}
	return filepath.Abs(dir)
}

// window is the share of the measuring time for one of so many figures.
func (o options) window(figures int) time.Duration {
	return time.Duration(o.seconds) * time.Second / time.Duration(figures)
}
