// Package offline checks timestamps with nothing but a genesis document: no daemon, no network. It ties the one verifier
// (package timestamp) to the one check of headers (package chain/escd/light).
package offline

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/eschaton-network/chand/chain/escd/light"
	"github.com/eschaton-network/chand/timestamp"
	"github.com/eschaton-network/chand/types"
)

// Headers takes ledger headers from the bundles inside the proofs, after checking the signatures of the validators that
// Trust names.
type Headers struct{ Trust light.Trust }

// FromHome trusts the genesis document that a daemon's home has pinned.
func FromHome(home string) (Headers, error) {
	path := filepath.Join(home, "ledger", "genesis.json")
	doc, err := os.ReadFile(path)
	if err != nil {
		return Headers{}, fmt.Errorf("no genesis document to check against: %w", err)
	}
	trust, err := light.ParseGenesis(doc)
	if err != nil {
		return Headers{}, fmt.Errorf("%s: %w", path, err)
	}
	return Headers{trust}, nil
}

// LedgerHeader verifies the bundle. A proof of another ledger, or without a bundle, can't be judged here.
func (h Headers) LedgerHeader(genesis types.Hash, height types.Height, bundle []byte) (timestamp.Header, error) {
	if genesis != h.Trust.Genesis {
		return timestamp.Header{}, fmt.Errorf("%w: it is of the ledger with genesis %s, this home follows %s", timestamp.ErrNoHeader, genesis, h.Trust.Genesis)
	}
	if len(bundle) == 0 {
		return timestamp.Header{}, fmt.Errorf("%w: the proof carries no header: upgrade it", timestamp.ErrNoHeader)
	}
	chain, err := light.ParseChain(bundle)
	if err != nil {
		return timestamp.Header{}, err
	}
	v, err := h.Trust.Verify(chain)
	if err != nil {
		return timestamp.Header{}, err
	}
	if v.Height == 0 || v.Height-1 != height {
		return timestamp.Header{}, fmt.Errorf("the header is of block %d, the attestation of block %d; want the header of the next block", v.Height, height)
	}
	return timestamp.Header{Root: v.AppHash, Time: v.Time}, nil
}

// BitcoinHeader has none to offer.
func (Headers) BitcoinHeader(height uint32) (timestamp.Header, error) {
	return timestamp.Header{}, fmt.Errorf("%w: Bitcoin block %d: ask a Bitcoin node", timestamp.ErrNoHeader, height)
}

// Verify judges a proof file for a file's SHA-256 digest.
func (h Headers) Verify(digest [32]byte, proof []byte) (timestamp.Result, error) {
	file, err := timestamp.DecodeDetached(proof)
	if err != nil {
		return timestamp.Result{}, err
	}
	return timestamp.Verify(file, digest[:], h)
}
