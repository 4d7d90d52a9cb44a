package stamper

import (
	"bytes"
	"testing"

	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/timestamp"
	"github.com/eschaton-network/chand/types"
)

// FuzzRecord: whatever is read is written back as the same bytes, and what is damaged is refused without a panic.
func FuzzRecord(f *testing.F) {
	batch, err := timestamp.Seal(timestamp.Checkpoint{}, [][]byte{{1}, {2, 3}}, 1, [32]byte{1})
	if err != nil {
		f.Fatal(err)
	}
	proof, err := (&ledger.TxProof{Path: []types.Hash{{1}}}).AppendBinary(nil)
	if err != nil {
		f.Fatal(err)
	}
	c := batch.Checkpoint.Commitment()
	for _, r := range []any{
		stateRecord{Last: 3, Anchored: 1, Seq: 2, To: 3}, roundRecord{Commitment: c, Batch: batch.Encode()}, roundRecord{Commitment: c, Anchor: 1},
		anchorRecord{Tx: []byte("tx"), Height: 7, Proof: proof, Bundle: []byte("b")},
	} {
		f.Add(put("x", r).Value)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if s, ok, err := decode[stateRecord]("x", raw); err == nil && ok {
			same(t, raw, s)
			_ = s.check()
		}
		if r, ok, err := decode[roundRecord]("x", raw); err == nil && ok {
			same(t, raw, r)
			if cp, err := r.check(1); err == nil && !bytes.Equal(cp.Commitment(), r.Commitment) {
				t.Errorf("round %+v passed", r)
			}
		}
		if a, ok, err := decode[anchorRecord]("x", raw); err == nil && ok {
			same(t, raw, a)
			if p := a.path(types.Hash{1}, types.Hash{}); p.Ledger.Proof != string(a.Proof) {
				t.Error("the proof is lost")
			}
		}
	})
}

func same(t *testing.T, raw []byte, record any) {
	t.Helper()
	if got := put("x", record).Value; !bytes.Equal(got, raw) {
		t.Errorf("%T: %x became %x", record, raw, got)
	}
}
