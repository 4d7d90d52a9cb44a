package escd

import (
	stded25519 "crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/cometbft/cometbft/crypto/ed25519"
	cmtjson "github.com/cometbft/cometbft/libs/json"
	"github.com/cometbft/cometbft/p2p"
	"github.com/cometbft/cometbft/privval"

	"github.com/eschaton-network/chand/types"
)

const (
	genesisFile = "genesis.json"
	peersFile   = "peers.json"
	// dataDir is everything that belongs to one stretch of blocks: CometBFT's stores, its log, snapshots of the state, what was
	// signed last. A state sync makes a new one beside it and puts it in its place.
	dataDir     = "data"
	snapshotDir = "snapshots"      // in dataDir
	signFile    = "validator.json" // what the validator signed last, so that it never signs twice
)

// writeFile replaces a file atomically and durably.
func writeFile(path string, fill func(*os.File) error) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.tmp") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	if err = fill(f); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// syncDir makes the names in a directory durable.
func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

func writeBytes(path string, b []byte) error {
	return writeFile(path, func(f *os.File) error { _, err := f.Write(b); return err })
}

// prepareHome creates the directories and finishes or removes what was interrupted.
func prepareHome(home string) error {
	if err := settle(home); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(home, dataDir), 0o700); err != nil {
		return err
	}
	left, _ := filepath.Glob(filepath.Join(home, "*.tmp"))
	for _, f := range left {
		os.Remove(f)
	}
	return nil
}

// validator is the signer of blocks. Its key is derived anew at each start and never written; what it signed last is.
func validator(home string, secret [32]byte) (*privval.FilePV, error) {
	path := filepath.Join(home, dataDir, signFile)
	pv := privval.NewFilePV(privKey(secret), "", path)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return pv, nil
	}
	if err != nil {
		return nil, err
	}
	if err := cmtjson.Unmarshal(b, &pv.LastSignState); err != nil {
		return nil, fmt.Errorf("%s, which says what this validator signed last, is damaged: %w; without it the node might sign "+
			"two different blocks at one height; restore it, or delete it if you are sure that this key signs nowhere else", path, err)
	}
	return pv, nil
}

// nodeKey is the p2p identity: a key of its own, so that no handshake can be made to look like a vote.
func nodeKey(secret [32]byte) *p2p.NodeKey {
	return &p2p.NodeKey{PrivKey: privKey(types.TaggedHash("chand/ledger p2p", secret[:]))}
}

func privKey(secret [32]byte) ed25519.PrivKey {
	return ed25519.PrivKey(stded25519.NewKeyFromSeed(secret[:]))
}
