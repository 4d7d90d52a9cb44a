package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/eschaton-network/chand/esc"
)

func (a *app) escCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "esc",
		Short: "client of the original Enterprise Service Chain: JSON commands on stdin, one a line",
		Long: "esc reads commands like {\"run\":\"get_me\"} from stdin, one a line, signs them with the key of settings.cfg in the working\n" +
			"directory, asks the ledger's office, and prints one JSON object for each. docs/esc.md lists them all. What goes wrong is in the\n" +
			"object's error, error_code and error_info and on stderr, and makes the exit code 1.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := escSettings(cmd.Flags())
			if err != nil {
				return usage("%v", err)
			}
			return a.esc(cmd.Context(), s)
		},
	}
	for _, o := range esc.Options {
		c.Flags().VarP(&escFlag{form: o.Form}, o.Name, o.Short, o.Doc)
		if o.Form == "BOOL" {
			c.Flags().Lookup(o.Name).NoOptDefVal = "1"
		}
	}
	c.AddCommand(a.escKeyCommand(), a.escSignCommand(), a.escCheckCommand())
	return c
}

// escFlag is a flag whose value is read later, after the settings of the file.
type escFlag struct{ value, form string }

func (f *escFlag) String() string     { return f.value }
func (f *escFlag) Set(s string) error { f.value = s; return nil }
func (f *escFlag) Type() string       { return f.form }

// escSettings reads the file in the working directory, then the flags.
func escSettings(flags *pflag.FlagSet) (esc.Settings, error) {
	s := esc.DefaultSettings()
	if w := flags.Lookup("work-dir"); w.Changed {
		s.WorkDir = w.Value.String()
	}
	path := filepath.Join(s.WorkDir, esc.SettingsName)
	f, err := os.Open(path)
	if err == nil {
		defer f.Close()
		var file []byte
		if file, err = io.ReadAll(io.LimitReader(f, esc.MaxSettings+1)); err == nil {
			err = s.Read(file)
		}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return s, fmt.Errorf("%s: %w", path, err)
	}
	for _, o := range esc.Options { // in the order of the table: address before bank and user, which change a part of it
		if f := flags.Lookup(o.Name); f.Changed {
			if err := s.Set(o.Name, f.Value.String()); err != nil {
				return s, fmt.Errorf("--%w", err)
			}
		}
	}
	return s, nil
}

func (a *app) escKeyCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "key BRAIN-KEY",
		Short:   "print the secret, the public key and the signature of the empty message that belong to a brain key",
		Example: `  chancli esc key "user-0-0"`,
		Args:    cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			_, err := io.WriteString(a.out, esc.KeyText(args[0]))
			return err
		},
	}
}

func (a *app) escSignCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "sign SK PK MESSAGE",
		Short: "sign a text with a secret",
		Args:  cobra.ExactArgs(3),
		RunE: func(_ *cobra.Command, args []string) error {
			sg, err := esc.SignText(args[0], args[1], []byte(args[2]))
			if err != nil {
				return usage("%v", err)
			}
			_, err = io.WriteString(a.out, sg)
			return err
		},
	}
}

func (a *app) escCheckCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check SG PK MESSAGE",
		Short: "tell whether a signature of a text is good: OK! or WRONG!",
		Args:  cobra.ExactArgs(3),
		RunE: func(_ *cobra.Command, args []string) error {
			ok, err := esc.CheckText(args[0], args[1], []byte(args[2]))
			switch {
			case err != nil:
				return usage("%v", err)
			case ok:
				fmt.Fprintln(a.out, "OK!")
				return nil
			}
			fmt.Fprintln(a.out, "WRONG!")
			return fail("wrong_signature", "check that signature, public key and message belong together", "the signature is not good")
		},
	}
}

// esc runs the commands of stdin in order.
func (a *app) esc(ctx context.Context, s esc.Settings) error {
	in := escInput{from: a.in}
	c, err := newEscSession(a, s, &in)
	if err != nil {
		return err
	}
	defer c.office.close()
	err = in.commands(func(text []byte) error {
		if ctx.Err() != nil {
			return fail("interrupted", "the commands before were done; see get_log", "stopped: %v", context.Cause(ctx))
		}
		return c.run(ctx, text)
	})
	c.settle(ctx)
	if err != nil {
		return err
	}
	if len(c.failed) > 0 {
		return fail("esc", "see error_info in its answer", "%d of %d commands failed, the first: %s", len(c.failed), c.count, c.failed[0])
	}
	return nil
}
