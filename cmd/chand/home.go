package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/tyler-smith/go-bip39"

	"github.com/eschaton-network/chand/internal/homelock"
	"github.com/eschaton-network/chand/internal/seedfile"
	"github.com/eschaton-network/chand/types"
)

// Files of a home, beside those of rpc (certificate, macaroons, run.json).
const (
	storeName = "store"
)

// lockHome makes this process the only daemon on the home until it exits.
func lockHome(home string) (*os.File, error) {
	f, err := homelock.Take(home)
	var held *homelock.HeldError
	if errors.As(err, &held) {
		return nil, fmt.Errorf("another chand (process %d) already runs on %s: use it with `chancli --home %s status`, stop it with `chancli --home %s stop`, or choose another --home",
			held.PID, home, home, home)
	}
	return f, err
}

// loadSeed reads the seed phrase, or draws one on the first run.
func loadSeed(home string) (seed types.Seed, created bool, err error) {
	path := filepath.Join(home, seedfile.Name)
	if seed, err = seedfile.Read(path); !errors.Is(err, os.ErrNotExist) {
		return seed, false, err
	}
	entropy := make([]byte, 32)
	if _, err := rand.Read(entropy); err != nil {
		return seed, false, err
	}
	phrase, err := bip39.NewMnemonic(entropy)
	if err != nil {
		return seed, false, err
	}
	if err := writeSynced(path, []byte(phrase+"\n")); err != nil {
		return seed, false, err
	}
	seed, err = seedfile.Read(path)
	return seed, true, err
}

// writeSynced creates a secret file that is on disk, whole, when it returns.
func writeSynced(path string, data []byte) error {
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if _, err = f.Write(data); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(path))
}
