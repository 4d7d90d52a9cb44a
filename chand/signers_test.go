package chand

import (
	"fmt"
	"sync"
	"testing"

	"github.com/btcsuite/btcd/btcec/v2"

	"github.com/eschaton-network/chand/types"
)

// A key gets a table when it has signed often, those that came first make room, and nothing grows without bound.
func TestSigners(t *testing.T) {
	key := func(i int) types.PubKey {
		h := types.SHA256(fmt.Append(nil, i))
		k, _ := btcec.PrivKeyFromBytes(h[:])
		return types.PubKey(k.PubKey().SerializeCompressed())
	}
	var s signers
	first := key(0)
	for range tableAfter - 1 {
		s.met(first)
	}
	if s.table(first) != nil {
		t.Fatal("a table before it pays")
	}
	s.met(first)
	made := s.table(first)
	if made == nil {
		t.Fatal("no table for a key that signs often")
	}
	for range 3 * tableAfter {
		s.met(first)
	}
	if s.table(first) != made {
		t.Error("the table was made again")
	}
	var all sync.WaitGroup
	for w := range 4 {
		all.Go(func() {
			for i := range maxTables/4 + 5 {
				for range tableAfter {
					s.met(key(1 + w*1000 + i))
				}
			}
		})
	}
	all.Wait()
	if len(s.tables) != maxTables || len(s.order) != maxTables {
		t.Errorf("%d tables, %d in order, want %d", len(s.tables), len(s.order), maxTables)
	}
	if s.table(first) != nil {
		t.Error("the oldest table is still there")
	}
	for i := range maxMet + 10 {
		s.met(types.PubKey{byte(i), byte(i >> 8)})
	}
	if len(s.count) > maxMet {
		t.Errorf("%d keys are counted", len(s.count))
	}
}
