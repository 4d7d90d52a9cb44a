// Command chancli is the command line of the daemon chand: it shows what there is and asks for what should happen. On a
// terminal it prints tables and sentences, elsewhere (or with --json) one JSON object; it exits with 0, 1, or 2 for wrong use.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/mattn/go-isatty"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr, isatty.IsTerminal(os.Stdout.Fd()))
	stop()
	os.Exit(code)
}

// Exit codes.
const (
	exitOK = iota
	exitFailed
	exitUsage
)

// run is main with everything of the process handed in.
func run(ctx context.Context, args []string, in io.Reader, out, errs io.Writer, terminal bool) int {
	a := &app{in: in, out: out, errs: errs, json: !terminal}
	root := a.root()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errs)
	err := root.ExecuteContext(ctx)
	if a.client != nil {
		a.client.Close()
	}
	return a.report(err)
}
