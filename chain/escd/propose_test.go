package escd

import (
	"context"
	"testing"

	abci "github.com/cometbft/cometbft/abci/types"
	cmt "github.com/cometbft/cometbft/types"

	"github.com/eschaton-network/chand/ledger"
)

// A proposal fills a block to the byte, by CometBFT's own count, and is accepted; what the ledger refuses, the node refuses.
func TestProposal(t *testing.T) {
	s, err := ledger.NewState(ledger.Genesis{ChainID: "test",
		Nodes: []ledger.GenesisNode{{PublicKey: ledger.PublicKey(secret("node a")), Account0: ledger.PublicKey(secret("account a"))}}})
	if err != nil {
		t.Fatal(err)
	}
	a := &app{state: s}
	var txs [][]byte
	for k, size := range []int{1, 126, 127, 128, 129, 16382, 16383, 16384, 1<<21 - 1, 1 << 21} { // where the length takes one byte more
		txs = append(txs, ledger.Direct(make([]byte, size-1)))
		if size > 1 {
			txs[k][1] = byte(k)
		}
	}
	room := cmt.ComputeProtoSizeForTxs(cmt.ToTxs(txs))
	propose := func(room int64) [][]byte {
		p, err := a.PrepareProposal(context.Background(), &abci.RequestPrepareProposal{Txs: txs, MaxTxBytes: room})
		if err != nil {
			t.Fatal(err)
		}
		if used := cmt.ComputeProtoSizeForTxs(cmt.ToTxs(p.Txs)); used > room {
			t.Errorf("%d bytes proposed, at most %d", used, room)
		}
		if r, err := a.ProcessProposal(context.Background(), &abci.RequestProcessProposal{Txs: p.Txs}); err != nil || !r.IsAccepted() {
			t.Errorf("an own proposal is not accepted: %v, %v", r, err)
		}
		return p.Txs
	}
	if got := propose(room); len(got) != len(txs) {
		t.Errorf("%d of %d transactions proposed where all fit", len(got), len(txs))
	}
	if got := propose(room - 1); len(got) != len(txs)-1 {
		t.Errorf("%d of %d transactions proposed with a byte too few for all", len(got), len(txs))
	}
	if r, err := a.ProcessProposal(context.Background(), &abci.RequestProcessProposal{Txs: [][]byte{{7}}}); err != nil || r.IsAccepted() {
		t.Errorf("a transaction of no kind is accepted: %v, %v", r, err)
	}
}
