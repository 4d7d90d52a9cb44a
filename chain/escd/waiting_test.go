package escd

import (
	"errors"
	"testing"

	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

// TestWaiting: between a block and the mempool's recheck the next of an account's waiting transactions is accepted, and what
// the mempool has dropped does not wait for ever.
func TestWaiting(t *testing.T) {
	key := secret("account a")
	s, err := ledger.NewState(ledger.Genesis{ChainID: "test", Nodes: []ledger.GenesisNode{{PublicKey: ledger.PublicKey(secret("node a")), Account0: ledger.PublicKey(key)}}})
	if err != nil {
		t.Fatal(err)
	}
	var w waiting
	a, err := s.Account(admin)
	if err != nil {
		t.Fatal(err)
	}
	var txs [][]byte
	for k, prev := uint32(0), a.Hash; k < 4; k++ {
		raw, next, err := ledger.Sign(key, prev, ledger.Head{From: admin, Msid: a.Msid + k}, ledger.SendOne{To: admin})
		if err != nil {
			t.Fatal(err)
		}
		txs, prev = append(txs, raw), next
	}
	check := func(k int) error {
		err := s.Check(txs[k])
		if err == nil {
			w.add(txs[k])
		}
		return err
	}
	block := func(txs ...[]byte) {
		var direct [][]byte
		for _, tx := range txs {
			direct = append(direct, ledger.Direct(tx))
		}
		done := s.Apply(s.Height()+1, 0, direct)
		var ids []types.Hash
		for _, r := range done.Results {
			if r.Code != ledger.CodeOK {
				t.Fatalf("%+v", r)
			}
			ids = append(ids, r.ID)
		}
		w.reapply(s, ids)
	}
	for k := range 2 {
		if err := check(k); err != nil {
			t.Fatal(err)
		}
	}
	block(txs[0])
	if err := check(2); err != nil { // txs[1] still waits
		t.Error(err)
	}
	block()
	block() // nobody asked for them during a whole block: the mempool has dropped them
	var r *ledger.Refusal
	if err := check(3); !errors.As(err, &r) || r.Code != ledger.CodeMsid || len(w.order) != 0 || len(w.txs) != 0 {
		t.Errorf("after the mempool has dropped what came before: %v, %d still wait", err, len(w.order))
	}
	if err := check(1); err != nil {
		t.Error(err)
	}
}
