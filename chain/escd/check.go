package escd

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
)

// Check verifies the snapshots in the home of a stopped node: every chunk's hash, all money together against the supply, and the
// trees against the state root. It changes nothing but what an interruption left. A home without any is in order: the
// blocks are replayed. The error joins all that is found.
func Check(home string) error {
	g, err := readGenesis(filepath.Join(home, genesisFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	genesis, err := g.Hash()
	if err != nil {
		return err
	}
	dir := filepath.Join(home, dataDir, snapshotDir)
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	kept, err := openSnapshots(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	var found []error
	for _, m := range kept.all() {
		if _, err := kept.load(m, genesis); err != nil {
			found = append(found, fmt.Errorf("the ledger's snapshot %d: %w; remove it, or restore the home: blocks are replayed from the one before", m.Height, err))
		}
	}
	return errors.Join(found...)
}
