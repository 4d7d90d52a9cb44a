package escd

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	dbm "github.com/cometbft/cometbft-db"

	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

const (
	// nextDir is where a state sync makes the data that will take the place of dataDir; oldDir is the latter on its way out.
	nextDir = "data.next"
	oldDir  = "data.old"
	// syncedFile in dataDir says from which block a state sync started it. In nextDir it is written last: with it the new
	// data is whole.
	syncedFile = "synced.json"
	// maxSynced bounds it: a chain of bundles and some fields.
	maxSynced = 3 * maxChanges
)

// synced is what a state sync leaves for the journal: the block that the state is of, and the bundles that led to it, which
// lead others as well.
type synced struct {
	Height  types.Height `json:"height"`
	Nanos   int64        `json:"nanos"`
	Hash    types.Hash   `json:"hash"`
	AppHash types.Hash   `json:"app_hash"` // of its header: the state root before it
	Bundles []keptBundle `json:"bundles"`
}

// keptBundle is the bundle of a block.
type keptBundle struct {
	Height types.Height `json:"height"`
	Bundle []byte       `json:"bundle"`
}

func readSynced(dir string) (*synced, error) {
	path := filepath.Join(dir, syncedFile)
	if st, err := os.Stat(path); err != nil {
		return nil, err
	} else if st.Size() > maxSynced {
		return nil, fmt.Errorf("%s: %d bytes", path, st.Size())
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	s := &synced{}
	if err := strict(b, s); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}

// finish makes the data in nextDir whole. What the validator signed last goes with it: it must not forget that.
func (s *synced) finish(home string) error {
	from, to := filepath.Join(home, dataDir, signFile), filepath.Join(home, nextDir, signFile)
	switch b, err := os.ReadFile(from); {
	case err == nil:
		if err := writeBytes(to, b); err != nil {
			return err
		}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return writeBytes(filepath.Join(home, nextDir, syncedFile), b)
}

// settle puts new data that is whole in the place of the old, and removes what is not whole or not needed. Nothing uses the
// data meanwhile. It may be interrupted at any moment and called again.
func settle(home string) error {
	data, next, old := filepath.Join(home, dataDir), filepath.Join(home, nextDir), filepath.Join(home, oldDir)
	switch _, err := os.Stat(filepath.Join(next, syncedFile)); {
	case errors.Is(err, fs.ErrNotExist):
		if err := os.RemoveAll(next); err != nil {
			return err
		}
	case err != nil:
		return err
	default:
		if err := os.RemoveAll(old); err != nil {
			return err
		}
		if err := os.Rename(data, old); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := os.Rename(next, data); err != nil {
			return err
		}
		if err := syncDir(home); err != nil {
			return err
		}
	}
	return os.RemoveAll(old)
}

// adopt lets the journal start where a state sync did, unless it is beyond already.
func (j journal) adopt(home string) error {
	s, err := readSynced(filepath.Join(home, dataDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if first, err := j.first(); err != nil || first > s.Height {
		return err
	}
	err = j.write(false, func(b dbm.Batch) error {
		for _, k := range s.Bundles {
			if err := b.Set(bundleKey(k.Height), k.Bundle); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return j.startAt(&blockRecord{nanos: s.Nanos, BlockInfo: ledger.BlockInfo{
		Height: s.Height, Time: types.Time(floorDiv(s.Nanos, 1e9)), Hash: s.Hash, AppHash: s.AppHash}})
}
