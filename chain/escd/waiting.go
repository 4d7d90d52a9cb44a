package escd

import (
	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

// waiting remembers, in order, the transactions that the rules accepted for a block and that were in none yet. Between the
// application of a block and CometBFT's recheck of its mempool new transactions keep coming in; the rules forget at each
// block what waits, so without this an account's next transaction would be refused in that gap as out of order. It
// belongs to app's mutex.
type waiting struct {
	// blocks counts reapply calls; order and txs hold the same transactions.
	blocks uint64
	order  []types.Hash
	txs    map[types.Hash]waitingTx
}

type waitingTx struct {
	raw []byte
	// seen is the number of blocks at the last check. The mempool checks all it holds after each block, so one that
	// was not seen for a whole block has left it.
	seen uint64
}

func (w *waiting) add(raw []byte) {
	id := types.SHA256(raw)
	if w.txs == nil {
		w.txs = make(map[types.Hash]waitingTx)
	}
	if _, known := w.txs[id]; !known {
		w.order = append(w.order, id)
	}
	w.txs[id] = waitingTx{raw, w.blocks}
}

// reapply has the rules check again, in order, what still waits after a block with these transactions.
func (w *waiting) reapply(s *ledger.State, inBlock []types.Hash) {
	for _, id := range inBlock {
		delete(w.txs, id)
	}
	kept := w.order[:0]
	for _, id := range w.order {
		tx, ok := w.txs[id]
		if !ok {
			continue
		}
		if tx.seen+1 < w.blocks || s.Check(tx.raw) != nil {
			delete(w.txs, id)
			continue
		}
		kept = append(kept, id)
	}
	w.order = kept
	w.blocks++
}
