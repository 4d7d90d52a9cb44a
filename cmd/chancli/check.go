package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/eschaton-network/chand/chand"
	"github.com/eschaton-network/chand/store"
)

// storeFile is the daemon's store in its home.
const storeFile = "store"

// checked is the answer of check.
type checked struct {
	Store string `json:"store"`
	OK    bool   `json:"ok"`
}

func (a *app) checkCommand() *cobra.Command {
	return &cobra.Command{Use: "check", Short: "verify every invariant of a stopped daemon's store; changes nothing", Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error {
		path := filepath.Join(a.home, storeFile)
		if _, err := os.Stat(path); err != nil {
			return fail("no_store", "give the home of a daemon with --home", "%s is no home of a daemon: %v", a.home, err)
		}
		s, err := store.Open(path, store.Options{ReadOnly: true})
		if errors.Is(err, store.ErrLocked) {
			return fail("daemon_running", "stop it first: chancli stop", "the daemon is running: %v", err)
		} else if err != nil {
			return fail("store_unreadable", "restore a backup of it", "%v", err)
		}
		defer s.Close() // nothing was written
		if err := errors.Join(s.Check(), chand.Check(s)); err != nil {
			return fail("check_failed", "keep a copy of the home and report it; do not start the daemon on it", "%v", err)
		}
		return a.showValue(checked{path, true}, func() { fmt.Fprintln(a.out, "every invariant holds in", path) })
	}}
}
