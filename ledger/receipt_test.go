package ledger

import (
	"bytes"
	"errors"
	"testing"

	"github.com/eschaton-network/chand/merkle"
	"github.com/eschaton-network/chand/types"
)

func testReceipt(n int) (Receipt, []types.Hash, types.Hash, [32]byte) {
	ids := make([]types.Hash, n)
	for i := range ids {
		ids[i] = types.SHA256([]byte{byte(i), byte(i >> 8)})
	}
	genesis, secret := types.SHA256([]byte("a ledger")), types.SHA256([]byte("a node"))
	r := NewReceipt(Place{Node: 3, Msid: 7, Position: 11}, 99, ids)
	r.Sign(secret, genesis)
	return r, ids, genesis, secret
}

func TestReceipt(t *testing.T) {
	for _, n := range []int{1, 2, 3, 100, 1000} {
		r, ids, genesis, secret := testReceipt(n)
		key := PublicKey(secret)
		if !r.Verify(key, genesis) || !r.Covers(ids) || r.Covers(ids[1:]) || r.Covers(append(ids, ids[0])) {
			t.Fatalf("%d: the receipt does not fit its transactions, or fits others", n)
		}
		if r.Verify(key, types.SHA256(genesis[:])) || r.Verify(PublicKey(genesis), genesis) {
			t.Errorf("%d: valid on another ledger or for another node", n)
		}
		for i := range ids {
			path := ReceiptPath(ids, i)
			if err := r.Promised(11+uint32(i), ids[i], path); err != nil {
				t.Fatal(n, i, err)
			}
			if err := r.Promised(11+uint32(i), types.SHA256(ids[i][:]), path); !errors.Is(err, merkle.ErrProof) {
				t.Fatalf("%d: another transaction at %d: %v", n, i, err)
			}
			if err := r.Promised(10, ids[i], path); !errors.Is(err, merkle.ErrProof) {
				t.Fatalf("%d: a position before the first: %v", n, err)
			}
		}
		for _, change := range []func(*Receipt){
			func(r *Receipt) { r.Node++ }, func(r *Receipt) { r.Msid++ }, func(r *Receipt) { r.First++ }, func(r *Receipt) { r.Count++ },
			func(r *Receipt) { r.Deadline++ }, func(r *Receipt) { r.Root[5] ^= 1 }, func(r *Receipt) { r.Signature[0] ^= 1 },
		} {
			c := r
			if change(&c); c.Verify(key, genesis) {
				t.Errorf("%d: %+v is not what was signed", n, c)
			}
		}
	}
}

func FuzzReceipt(f *testing.F) {
	for _, n := range []int{1, 1000} {
		r, _, _, _ := testReceipt(n)
		f.Add(r.Bytes())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseReceipt(b)
		if err != nil {
			return
		}
		if !bytes.Equal(r.Bytes(), b) {
			t.Fatalf("%x is %x again", b, r.Bytes())
		}
		r.Verify(PublicKey([32]byte{}), types.Hash{})
	})
}
