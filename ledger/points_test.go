package ledger

import (
	"fmt"
	"testing"

	"github.com/eschaton-network/chand/types"
)

// The points of those who signed are remembered whichever way their transactions come, those of signatures that do not hold are not, and
// what is remembered leads to the same answers.
func TestPointsRemembered(t *testing.T) {
	office := func(w *world, raws [][]byte) {
		p, err := NewPool(w.s, 1)
		if err != nil {
			t.Fatal(err)
		}
		for i, r := range admit(p, nil, raws...) {
			if (r != nil) != (i == len(raws)/2) {
				t.Errorf("transaction %d: %v", i, r)
			}
		}
	}
	message := func(w *world, raws [][]byte) {
		if err := w.s.CheckMessage(w.message(1, raws...)); err != nil {
			t.Fatal(err)
		}
	}
	block := func(w *world, raws [][]byte) {
		out := w.s.Apply(w.s.Height()+1, w.s.Time()+1, [][]byte{w.message(1, raws...)})
		for i, d := range out.Results {
			if (d.Code != CodeOK) != (i == len(raws)/2) {
				t.Errorf("transaction %d: %d %s", i, d.Code, d.Text)
			}
		}
	}
	for name, pass := range map[string]func(*world, [][]byte){"office": office, "message": message, "block": block} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 2)
			ids := make([]types.AccountID, 2*batchMin)
			for i := range ids {
				ids[i] = w.user(fmt.Sprint("point ", i), 1, 100*coin)
			}
			bad := len(ids) / 2
			w.s.points = pointTable{}
			pass(w, oneBad(w, ids, bad))
			for i, id := range ids {
				key := [32]byte(w.s.peek(id).PublicKey)
				p := w.s.points.get(&key)
				if (p == nil) != (i == bad) || p != nil && p.point.Equal(&newKeyPoint(&key).point) != 1 {
					t.Errorf("sender %d of %d, the signature of %d is bad: %+v is remembered", i, len(ids), bad, p)
				}
			}
			office(w, oneBad(w, ids, bad)) // with points
		})
	}
}

// oneBad are the next transactions of accounts, one with a bad signature.
func oneBad(w *world, ids []types.AccountID, bad int) [][]byte {
	clear(w.ahead)
	raws := make([][]byte, len(ids))
	for i, id := range ids {
		raws[i] = w.sign(id, SendOne{To: admin(2), Amount: 2})
	}
	raws[bad][len(raws[bad])-1] ^= 1
	return raws
}

// Of keys that share a place the last is remembered, and none is taken for another.
func TestPointsShareAPlace(t *testing.T) {
	places := make(map[int][32]byte)
	for i := 0; ; i++ {
		b := PublicKey(secretOf(fmt.Sprint("place ", i)))
		a, ok := places[pointPlace(&b)]
		if places[pointPlace(&b)] = b; !ok {
			continue
		}
		var table pointTable
		if table.get(&a) != nil {
			t.Fatal("an empty table knows a key")
		}
		pa, pb := newKeyPoint(&a), newKeyPoint(&b)
		table.put(pa)
		if table.get(&a) != pa || table.get(&b) != nil {
			t.Fatal("one of two is known, and not as the other")
		}
		table.put(pb)
		if table.get(&a) != nil || table.get(&b) != pb {
			t.Fatal("the last of two is known, and not as the other")
		}
		return
	}
}
