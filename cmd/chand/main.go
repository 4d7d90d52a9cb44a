// Command chand is the daemon. Without a subcommand it runs one; demo runs a whole network, net a ledger of several validators; check
// looks at a stopped one.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/eschaton-network/chand/chain/escd"
	"github.com/eschaton-network/chand/chand"
	"github.com/eschaton-network/chand/store"
)

// version is set by release builds; others tell their commit.
var version = ""

func versionText() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" && len(s.Value) >= 12 {
				return "dev-" + s.Value[:12]
			}
		}
	}
	return "dev"
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := rootCommand().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "chand:", err)
		os.Exit(1)
	}
}

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "chand",
		Short: "trade channels, payments, escrow, services, statements and timestamps in one daemon",
		Long: `Without a subcommand chand starts a daemon on --home. The first run creates keys, certificate, macaroons and settings there.
Settings are read from HOME/chand.toml, the environment (CHAND_LEDGER_JOIN) and flags; flags win over the environment,
the environment over the file. Talk to it with chancli.`,
		Args:          cobra.NoArgs,
		Version:       versionText(),
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			home, err := homeDir(cmd)
			if err != nil {
				return err
			}
			return run(cmd.Context(), home, cmd.Flags(), cmd.OutOrStdout())
		},
	}
	root.PersistentFlags().String("home", "", "folder of keys, settings and state (default ~/.chand, or $CHAND_HOME)")
	addFlags(root.Flags())
	root.AddCommand(demoCommand(), netCommand(), checkCommand())
	return root
}

func homeDir(cmd *cobra.Command) (string, error) {
	home, err := cmd.Flags().GetString("home")
	if err != nil {
		return "", err
	}
	if home == "" {
		home = os.Getenv("CHAND_HOME")
	}
	if home == "" {
		user, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("no --home given: %w", err)
		}
		home = filepath.Join(user, ".chand")
	}
	return filepath.Abs(home)
}

func checkCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check",
		Short: "verify every invariant of a stopped daemon's store and of its ledger's snapshots; changes nothing",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			home, err := homeDir(cmd)
			if err != nil {
				return err
			}
			path := filepath.Join(home, storeName)
			if _, err := os.Stat(path); err != nil {
				return fmt.Errorf("%s is no home of a daemon: %w", home, err)
			}
			lock, err := lockHome(home)
			if err != nil {
				return err
			}
			defer lock.Close()
			s, err := store.Open(path, store.Options{ReadOnly: true})
			if err != nil {
				return err
			}
			defer s.Close()
			ledgerHome := filepath.Join(home, "ledger")
			if err := errors.Join(s.Check(), chand.Check(s), escd.Check(ledgerHome)); err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), "every invariant holds in", path, "and", ledgerHome)
			return nil
		},
	}
}
