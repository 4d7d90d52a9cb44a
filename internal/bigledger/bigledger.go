// Package bigledger makes ledgers with many accounts, for measurements and tests.
package bigledger

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/eschaton-network/chand/chain/escd"
	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

// Balance is what each account holds.
const Balance = 10 * types.Coin

// Secret is the ed25519 seed of the i-th account with a key, which is account i+1 of node 1.
func Secret(i int) [32]byte {
	return types.SHA256(fmt.Appendf(nil, "account %d of a large ledger", i))
}

// State is a ledger after block 1 with so many accounts besides the admin, whose keys are those of a node with this configuration.
// The first keyed of them can sign; the keys of the others are nobody's, which saves the time to make them.
func State(c escd.Config, accounts, keyed int) (*ledger.State, error) {
	s, err := ledger.NewState(ledger.Genesis{ChainID: "large", Time: types.Time(time.Now().Unix() - 60), BlockMillis: c.BlockMillis,
		Nodes: []ledger.GenesisNode{{PublicKey: ledger.PublicKey(c.LedgerNodeSecret), Account0: ledger.PublicKey(c.AccountSecret)}}})
	if err != nil {
		return nil, err
	}
	s.Apply(1, s.Time(), nil)
	err = s.Populate(accounts, Balance, func(i int) [32]byte {
		if i < keyed {
			return ledger.PublicKey(Secret(i))
		}
		var b [8]byte
		binary.LittleEndian.PutUint64(b[:], uint64(i))
		return sha256.Sum256(b[:])
	}, nil)
	return s, err
}
