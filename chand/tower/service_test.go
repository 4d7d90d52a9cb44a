package tower

import (
	"testing"

	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/store/memstore"
	"github.com/eschaton-network/chand/types"
)

// emptyChain is a ledger up to some height that has no contracts.
type emptyChain struct{ height types.Height }

func (c *emptyChain) Head() (ledger.BlockInfo, bool) { return ledger.BlockInfo{Height: c.height}, true }
func (c *emptyChain) Account(types.AccountID) (ledger.Account, error) {
	return ledger.Account{}, ledger.ErrNotFound
}
func (c *emptyChain) Contract(types.ChannelID) (ledger.Contract, error) {
	return ledger.Contract{}, ledger.ErrNotFound
}

// While a tower's node reads the ledger from its beginning, contracts that are not there yet are not over.
func TestTowerKeepsWhatTheLedgerDoesNotHaveYet(t *testing.T) {
	store, chain, id := memstore.New(), &emptyChain{height: 50}, types.Hash{1}
	if err := store.Commit(t.Context(), put(BucketWatched, id.String(), watched{Until: forever, Epoch: 1, Version: 7, Refund: []byte{1}, Seen: 100})); err != nil {
		t.Fatal(err)
	}
	s, err := NewService(ServiceConfig{Store: store, Chain: chain, Now: func() types.Time { return 1 }})
	if err != nil {
		t.Fatal(err)
	}
	for ; chain.height < 103; chain.height++ {
		if err := s.Block(t.Context(), ledger.BlockEvents{BlockInfo: ledger.BlockInfo{Height: chain.height}}); err != nil {
			t.Fatal(err)
		}
		if kept := len(s.List()) == 1; kept != (chain.height < 100) {
			t.Fatalf("at block %d the contract that was seen at block 100 is watched: %v", chain.height, kept)
		}
	}
}
