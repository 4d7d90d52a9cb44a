package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/multiformats/go-multiaddr"
	"github.com/spf13/cobra"

	"github.com/eschaton-network/chand/chand"
	"github.com/eschaton-network/chand/chand/backup"
	"github.com/eschaton-network/chand/dht"
	"github.com/eschaton-network/chand/internal/homelock"
	"github.com/eschaton-network/chand/internal/seedfile"
	"github.com/eschaton-network/chand/peer"
	chandv1 "github.com/eschaton-network/chand/rpc/gen/chand/v1"
	"github.com/eschaton-network/chand/store"
	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/wire"
)

func (a *app) backupCommand() *cobra.Command {
	c := &cobra.Command{Use: "backup", Short: "copies of the channels, and the way back from them",
		Long: "A daemon with backup.file set follows every commit into that file, sealed with a key of the seed phrase; and the peers of its channels always keep a\n" +
			"sealed copy of what can't be had otherwise. `backup restore` makes a new home of either and the seed phrase. No copy is dangerous, however old:\n" +
			"the restored daemon signs nothing in a channel before it has agreed with the peer where they are."}
	c.AddCommand(a.backupStatus(), a.backupVerify(), a.backupRestore())
	return c
}

func (a *app) backupStatus() *cobra.Command {
	return &cobra.Command{Use: "status", Short: "where copies are and how old", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		d, err := a.daemon()
		if err != nil {
			return err
		}
		v, err := d.Backups.Status(cmd.Context(), &chandv1.BackupStatusRequest{})
		if err != nil {
			return err
		}
		return a.show(v, func() {
			if v.File == "" {
				fmt.Fprintln(a.out, "no backup in a file: set backup.file")
			} else {
				a.pairs("file", v.File, "bytes", fmt.Sprint(v.FileBytes), "newest commit", clock(v.FileTime), "commits behind", fmt.Sprint(v.FileBehind), "problem", v.FileProblem)
			}
			var rows [][]string
			for _, k := range v.Keepers {
				rows = append(rows, []string{k.Peer, clock(k.Time), fmt.Sprint(k.Bytes), k.Problem})
			}
			a.table("no peer keeps a copy: one does as soon as there is a channel with it", []string{"PEER", "COPY OF", "BYTES", "PROBLEM"}, rows)
			if v.Omitted > 0 {
				fmt.Fprintf(a.out, "%d values had no room in the peers' copies: set backup.file\n", v.Omitted)
			}
		})
	}}
}

// backupSummary is the answer of verify and restore.
type backupSummary struct {
	Channels int    `json:"channels"`
	Writes   int    `json:"writes"`
	Time     string `json:"time"`
	Torn     bool   `json:"torn"`
	Home     string `json:"home,omitempty"`
}

// seedFlag adds --seed-file and returns what reads it; the home's own is the default.
func (a *app) seedFlag(c *cobra.Command) func() (types.Seed, error) {
	path := c.Flags().String("seed-file", "", "the `FILE` with the seed phrase (default: seed.txt in the home)")
	return func() (types.Seed, error) {
		if *path == "" {
			*path = filepath.Join(a.home, seedfile.Name)
		}
		seed, err := seedfile.Read(*path)
		if err != nil {
			return seed, fail("no_seed", "give the file with the 24 words: --seed-file FILE", "%v", err)
		}
		return seed, nil
	}
}

func (a *app) backupVerify() *cobra.Command {
	c := &cobra.Command{Use: "verify FILE", Short: "open a backup, check every record and every invariant of what it would restore; no daemon is needed", Args: cobra.ExactArgs(1)}
	seed := a.seedFlag(c)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		s, err := seed()
		if err != nil {
			return err
		}
		dir, err := os.MkdirTemp("", "chand-verify-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		sum, err := restoreFile(cmd.Context(), args[0], s, filepath.Join(dir, storeFile))
		if err != nil {
			return err
		}
		return a.showValue(sum, func() { fmt.Fprintf(a.out, "whole, and every invariant holds: %s\n", sum.text()) })
	}
	return c
}

func (s backupSummary) text() string {
	torn := ""
	if s.Torn {
		torn = "; its last record is cut off, as after a crash, and left out"
	}
	return fmt.Sprintf("%d channels as of %s%s", s.Channels, s.Time, torn)
}

func (a *app) backupRestore() *cobra.Command {
	var from, to string
	c := &cobra.Command{Use: "restore [FILE]", Short: "make a new home of a backup, from a file or kept by a peer, and the seed phrase", Args: cobra.MaximumNArgs(1),
		Long: "restore makes a new home; start it with `chand --home DIR` and the ledger that it belongs to (--ledger-join). Stop the old daemon for good first."}
	c.Flags().StringVar(&from, "peer", "", "fetch the copy that the daemon at this `MULTIADDR` keeps, instead of a file")
	c.Flags().StringVar(&to, "to", "", "the new home, a `DIR` that does not exist yet (required)")
	seed := a.seedFlag(c)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if to == "" || (from == "") == (len(args) == 0) {
			return usage("give --to DIR, and either a FILE or --peer MULTIADDR")
		}
		s, err := seed()
		if err != nil {
			return err
		}
		if _, err := os.Stat(filepath.Join(to, storeFile)); err == nil {
			return fail("home_exists", "give a folder that does not exist yet", "%s is a daemon's home already", to)
		}
		lock, err := homelock.Take(to)
		if err != nil {
			return fail("home_in_use", "give another folder", "%v", err)
		}
		defer lock.Close()
		// The home is one when the store gets its name: after a kill before that a daemon must not find half of one.
		path := filepath.Join(to, storeFile+".restoring")
		if err := os.RemoveAll(path); err != nil {
			return err
		}
		var sum backupSummary
		if from != "" {
			sum, err = restorePeer(cmd.Context(), from, s, path)
		} else {
			sum, err = restoreFile(cmd.Context(), args[0], s, path)
		}
		if err == nil {
			err = keepSeed(to, c.Flags().Lookup("seed-file").Value.String(), s)
		}
		if err != nil {
			return errors.Join(err, os.RemoveAll(path))
		}
		if err := errors.Join(os.Rename(path, filepath.Join(to, storeFile)), syncFolder(to)); err != nil {
			return err
		}
		sum.Home = to
		return a.showValue(sum, func() {
			fmt.Fprintf(a.out, "%s holds %s. Start it with the ledger it belongs to: chand --home %s --ledger-join HOST:PORT/GENESIS\n", to, sum.text(), to)
		})
	}
	return c
}

// keepSeed puts the phrase into the new home. One that is there already stays: nothing else may be left of it.
func keepSeed(home, file string, seed types.Seed) error {
	path := filepath.Join(home, seedfile.Name)
	there, err := seedfile.Read(path)
	switch {
	case err == nil && there == seed:
		return nil
	case !errors.Is(err, os.ErrNotExist):
		return fail("home_exists", "give a folder that does not exist yet", "%s holds something else than the phrase of --seed-file, and is left as it is", path)
	}
	phrase, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(phrase)
	return errors.Join(err, f.Sync(), f.Close(), os.Rename(path+".new", path), syncFolder(home))
}

// syncFolder makes the names in a folder durable.
func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func restoreFile(ctx context.Context, file string, seed types.Seed, path string) (backupSummary, error) {
	f, err := os.Open(file)
	if err != nil {
		return backupSummary{}, fail("no_backup", "give the file of backup.file", "%v", err)
	}
	defer f.Close()
	return restoreStore(ctx, f, seed, path)
}

// restoreStore makes a store of an archive and checks it.
func restoreStore(ctx context.Context, r io.Reader, seed types.Seed, path string) (sum backupSummary, err error) {
	s, err := store.Open(path, store.Options{})
	if err != nil {
		return sum, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	got, err := backup.Read(r, seed.Secret(chand.BackupSecret), func(w []types.Write) error { return s.Commit(ctx, w...) })
	if err == nil {
		err = chand.PrepareRestored(ctx, s)
	}
	if err == nil {
		err = chand.Check(s)
	}
	switch {
	case errors.Is(err, backup.ErrKey):
		return sum, fail("wrong_seed", "give the seed phrase of the daemon that made it", "%v", err)
	case err != nil:
		return sum, fail("backup_damaged", "use another copy: a peer's (--peer), or an older file", "%v", err)
	}
	sum = backupSummary{Writes: got.Writes, Time: got.Time.Std().UTC().Format("2006-01-02 15:04:05 MST"), Torn: got.Torn}
	sum.Channels, err = chand.CountChannels(s)
	return sum, err
}

// restorePeer fetches what a peer keeps for this seed's node. It speaks with the identity of the lost daemon.
func restorePeer(ctx context.Context, addr string, seed types.Seed, path string) (sum backupSummary, err error) {
	m, err := multiaddr.NewMultiaddr(addr)
	if err != nil {
		return sum, usage("--peer %s: %v", addr, err)
	}
	text, err := m.ValueForProtocol(multiaddr.P_P2P)
	if err != nil {
		return sum, usage("--peer %s does not end in /p2p/ID", addr)
	}
	id, err := types.ParseNodeID(text)
	if err != nil {
		return sum, usage("--peer %s: %v", addr, err)
	}
	node, err := peer.New(peer.Options{Key: seed.NodeKey(), Listen: []string{}})
	if err != nil {
		return sum, err
	}
	defer node.Close()
	node.Handle(types.LinkHandler{})
	directory, err := dht.New(node.Host())
	if err != nil {
		return sum, err
	}
	defer directory.Close()
	if err := node.Reach(ctx, id, addr); err != nil {
		return sum, fail("peer_offline", "see that it runs, or ask another peer", "%v", err)
	}
	answer, err := backup.Ask(ctx, directory.Ask, id, wire.StorageRequest{})
	if err != nil {
		return sum, fail("peer_offline", "see that it runs, or ask another peer", "%v", err)
	}
	if len(answer.Blob) == 0 {
		return sum, fail("no_backup", "ask another peer with which this seed had a channel", "%s keeps nothing for %s", id, seed.NodeID())
	}
	return restoreStore(ctx, bytes.NewReader(answer.Blob), seed, path)
}
