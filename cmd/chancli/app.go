package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"github.com/eschaton-network/chand/rpc"
	"github.com/eschaton-network/chand/types"
)

// app is one run of the command line.
type app struct {
	in        io.Reader
	out, errs io.Writer
	home      string
	json      bool
	// field is what of the answer to print alone, like channels.0.id.
	field  string
	client *rpc.Client
	// began is set when a command itself runs: errors before that are wrong use.
	began bool
}

// version is set by the linker in releases.
var version = "dev"

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "chancli",
		Short: "command line of the daemon chand",
		Long: "chancli talks to the daemon that runs on --home. Amounts are decimal coins, like 12 or 0.5.\n" +
			"On a terminal it prints tables; piped, or with --json, one JSON object. Errors are one object with code, message and next then.\n" +
			"--field prints one field of that object by its path: chancli peer id --field addresses.0. Ids may be cut where they stay unique.",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { a.began = true; return cmd.Help() },
		Version:       version,
	}
	home := os.Getenv("CHAND_HOME")
	if home == "" {
		user, err := os.UserHomeDir()
		if err == nil {
			home = filepath.Join(user, ".chand")
		}
	}
	root.PersistentFlags().StringVar(&a.home, "home", home, "home of the daemon (environment: CHAND_HOME)")
	root.PersistentFlags().BoolVar(&a.json, "json", a.json, "print JSON, also on a terminal")
	root.PersistentFlags().Lookup("json").DefValue = "false" // what it is elsewhere is said above
	root.PersistentFlags().StringVar(&a.field, "field", "", "print this field of the answer alone, by its `PATH` like ledger.join or channels.0.id")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usage("%v", err) })
	root.AddCommand(a.statusCommand(), a.accountCommand(), a.peerCommand(), a.towerCommand(), a.backupCommand(), a.channelCommand(), a.routeCommand(), a.invoiceCommand(), a.payCommand(),
		a.paymentCommand(), a.rebalanceCommand(), a.streamCommand(), a.escrowCommand(), a.statementCommand(), a.serviceCommand(), a.fetchCommand(), a.timestampCommand(),
		a.deadlinesCommand(), a.liquidityCommand(), a.reportCommand(), a.exportCommand(),
		a.ledgerCommand(), a.proofCommand(), a.verifyCommand(),
		a.watchCommand(), a.checkCommand(), a.stopCommand(), a.macaroonCommand(), a.escCommand(), a.versionCommand())
	for _, c := range root.Commands() {
		a.strict(c)
	}
	return root
}

// strict marks where a command begins, and makes groups refuse words that are not commands.
func (a *app) strict(c *cobra.Command) {
	if check := c.Args; check != nil {
		c.Args = func(cmd *cobra.Command, args []string) error {
			if check(cmd, args) != nil {
				return usage("%d arguments given: want `%s`", len(args), strings.TrimSuffix(cmd.UseLine(), " [flags]"))
			}
			return nil
		}
	}
	switch run := c.RunE; {
	case run != nil:
		c.RunE = func(cmd *cobra.Command, args []string) error {
			a.began = true
			return run(cmd, args)
		}
	case c.Run == nil:
		c.RunE = func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usage("unknown command %.40q for %s", args[0], cmd.CommandPath())
			}
			return usage("%s needs a command", cmd.CommandPath())
		}
	}
	for _, sub := range c.Commands() {
		a.strict(sub)
	}
}

// daemon returns the client of the running daemon.
func (a *app) daemon() (*rpc.Client, error) {
	if a.client == nil {
		c, err := rpc.Dial(a.home)
		if err != nil {
			return nil, err
		}
		a.client = c
	}
	return a.client, nil
}

// usageError is a wrong command line.
type usageError struct{ text string }

func (e usageError) Error() string { return e.text }

func usage(format string, args ...any) error { return usageError{fmt.Sprintf(format, args...)} }

// fail is an error of the command line itself.
func fail(code, next, format string, args ...any) error {
	return rpc.Error(code, connect.CodeUnknown, fmt.Sprintf(format, args...), next, "")
}

// amounts refuses what is not an amount before anything is sent.
func amounts(texts ...string) error {
	for _, s := range texts {
		if _, err := types.ParseAmount(s); err != nil {
			return usage("%v, of at most %s", err, types.Amount(types.MaxAmount))
		}
	}
	return nil
}

// keyed runs a call that moves money. When it can't be known how the call ended, the error says how to ask without paying twice.
func keyed[T any](key *string, call func(key string) (T, error)) (T, error) {
	if *key == "" {
		var b [16]byte
		rand.Read(b[:]) // never fails
		*key = hex.EncodeToString(b[:])
	}
	res, err := call(*key)
	switch connect.CodeOf(err) {
	case connect.CodeUnavailable, connect.CodeDeadlineExceeded, connect.CodeCanceled, connect.CodeUnknown:
		if d := rpc.Detail(err); err != nil && d.Code != "no_daemon" && d.Money == "" {
			return res, rpc.Error(d.Code, connect.CodeOf(err), d.Message,
				"repeat the command with --idempotency-key "+*key+": it does not pay twice", "not known: the call may have reached the daemon")
		}
	}
	return res, err
}

func keyFlag(c *cobra.Command, key *string) {
	c.Flags().StringVar(key, "idempotency-key", "", "with the same key the daemon does it once, however often it is asked (default: a new one)")
}

// pollEvery is how often --wait looks.
const pollEvery = 200 * time.Millisecond

// until asks until done says so.
func until[T any](ctx context.Context, first T, ask func() (T, error), done func(T) (bool, error)) (T, error) {
	t := time.NewTicker(pollEvery)
	defer t.Stop()
	for v := first; ; {
		if ok, err := done(v); ok || err != nil {
			return v, err
		}
		select {
		case <-ctx.Done():
			return v, fail("interrupted", "it goes on in the daemon: look again later", "stopped waiting: %v", context.Cause(ctx))
		case <-t.C:
		}
		next, err := ask()
		if err != nil {
			return v, err
		}
		v = next
	}
}

// report prints an error and returns the exit code.
func (a *app) report(err error) int {
	if err == nil {
		return exitOK
	}
	var u usageError
	if errors.As(err, &u) || !a.began {
		a.printError(&errorObject{Code: "usage", Message: err.Error(), Next: "see `chancli help`, or any command with --help"})
		return exitUsage
	}
	d := rpc.Detail(err)
	a.printError(&errorObject{d.Code, d.Message, d.Next, d.Money})
	return exitFailed
}
