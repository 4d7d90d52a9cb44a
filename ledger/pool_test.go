package ledger

import (
	"errors"
	"slices"
	"testing"

	"github.com/eschaton-network/chand/types"
)

// admit passes transactions through a pool and returns what became of each.
func admit(p *Pool, w Workers, raws ...[]byte) []*Refusal {
	b := DecodeBatch(raws, w)
	p.Prepare(b)
	b.Verify(w)
	p.Admit(b)
	return b.refused
}

// What an office admits gets places, is signed into messages and executed in that order.
func TestPool(t *testing.T) {
	w := newWorld(t, 2)
	a := w.user("a", 1, 100*coin)
	p, err := NewPool(w.s, 1)
	if err != nil {
		t.Fatal(err)
	}
	txs := [][]byte{w.sign(a, SendOne{To: admin(2), Amount: coin}), w.sign(a, SendOne{To: admin(2), Amount: 2 * coin}),
		w.sign(admin(2), SendOne{To: a, Amount: 1}), w.sign(a, SendOne{To: admin(1), Amount: 99 * coin}), {9}}
	bad := w.sign(admin(1), SendOne{To: a, Amount: 1})
	bad[len(bad)-1] ^= 1
	b := DecodeBatch(append(txs, bad), nil)
	p.Prepare(b)
	b.Verify(nil)
	p.Admit(b)
	for i, want := range []uint32{CodeOK, CodeOK, CodeBadNode, CodeBalance, CodeLength, CodeSignature} {
		switch r := b.Refused(i); {
		case want == CodeOK && (r != nil || b.Place(i) != Place{1, 1, uint32(i + 1)}):
			t.Errorf("transaction %d: %v at %s", i, r, b.Place(i))
		case want != CodeOK && (r == nil || r.Code != want):
			t.Errorf("transaction %d: %v, want code %d", i, r, want)
		}
	}
	before := w.balance(a)
	view, err := p.Account(a)
	if err != nil || view.Msid != 3 || before-view.Balance < 3*coin {
		t.Fatalf("the office's view is %+v, %v", view, err)
	}
	sent, err := p.Cut(nodeSecret(1), w.s.Time())
	if err != nil || sent.Txs != 2 || sent.Msid != 1 {
		t.Fatalf("%+v, %v", sent, err)
	}
	out := w.s.Apply(w.s.Height()+1, w.s.Time()+1, [][]byte{sent.Raw})
	if len(out.Results) != 2 || out.Results[0].Code != CodeOK || out.Results[1].Code != CodeOK {
		t.Fatalf("%+v", out)
	}
	if err := p.Applied(); err != nil {
		t.Fatal(err)
	}
	if got, err := p.Account(a); err != nil || got.Balance != w.balance(a) || got.Balance != view.Balance || got.Hash != view.Hash {
		t.Fatalf("after the block the view is %+v, %v; it was %+v", got, err, view)
	}
	if all, unsigned, size := p.Waiting(); all+unsigned+size+len(p.senders) != 0 {
		t.Fatal("the pool is not empty")
	}
	w.s.Apply(w.s.Height()+1, w.s.Time()+1, [][]byte{w.message(1)})
	if err := p.Applied(); !errors.Is(err, ErrForeignMessage) {
		t.Fatalf("a message of another office: %v", err)
	}
}

// A direct transaction that takes an admitted one's number: the admitted keep their places and are refused, and the next one is
// signed after what the ledger has.
func TestPoolDiverges(t *testing.T) {
	w := newWorld(t, 1)
	a := w.user("a", 1, 100*coin)
	p, err := NewPool(w.s, 1)
	if err != nil {
		t.Fatal(err)
	}
	rival := w.sign(a, SendOne{To: a, Amount: 7})
	clear(w.ahead)
	for _, r := range admit(p, nil, w.sign(a, SendOne{To: a, Amount: 1}), w.sign(a, SendOne{To: a, Amount: 2})) {
		if r != nil {
			t.Fatal(r)
		}
	}
	w.s.Apply(w.s.Height()+1, w.s.Time()+1, direct([][]byte{rival}))
	if err := p.Applied(); err != nil {
		t.Fatal(err)
	}
	clear(w.ahead)
	if r := admit(p, nil, w.sign(a, SendOne{To: a, Amount: 3})); r[0] != nil {
		t.Fatal(r[0])
	}
	sent, err := p.Cut(nodeSecret(1), w.s.Time())
	if err != nil {
		t.Fatal(err)
	}
	out := w.s.Apply(w.s.Height()+1, w.s.Time()+1, [][]byte{sent.Raw})
	for i, want := range []uint32{CodeMsid, CodeSignature, CodeOK} {
		if out.Results[i].Code != want {
			t.Errorf("transaction %d: %+v, want code %d", i, out.Results[i], want)
		}
	}
	if err := p.Applied(); err != nil || len(p.senders) != 0 {
		t.Fatal(err, len(p.senders))
	}
}

// Restore gives back every place, whether the message was signed or not.
func TestPoolRestore(t *testing.T) {
	w := newWorld(t, 1)
	a := w.user("a", 1, 100*coin)
	p, err := NewPool(w.s, 1)
	if err != nil {
		t.Fatal(err)
	}
	var signed [][]byte
	var logged []Logged
	for k := range 3 {
		raws := [][]byte{w.sign(a, SendOne{To: a, Amount: 1}), w.sign(admin(1), SendOne{To: a, Amount: types.Amount(k)})}
		b := DecodeBatch(raws, nil)
		p.Prepare(b)
		b.Verify(nil)
		p.Admit(b)
		for i := range raws {
			if r := b.Refused(i); r != nil {
				t.Fatal(r)
			}
			logged = append(logged, Logged{b.Place(i), raws[i]})
		}
		if k < 2 {
			sent, err := p.Cut(nodeSecret(1), w.s.Time())
			if err != nil {
				t.Fatal(err)
			}
			signed = append(signed, sent.Raw)
		}
	}
	w.s.Apply(w.s.Height()+1, w.s.Time()+1, signed[:1])
	if err := p.Applied(); err != nil {
		t.Fatal(err)
	}
	again, err := NewPool(w.s, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Restore(signed, logged); err != nil {
		t.Fatal(err)
	}
	x, err := p.Cut(nodeSecret(1), w.s.Time())
	if err != nil {
		t.Fatal(err)
	}
	y, err := again.Cut(nodeSecret(1), w.s.Time())
	if err != nil || string(x.Raw) != string(y.Raw) || len(again.Sent()) != 2 {
		t.Fatalf("the restored pool signs another message: %v", err)
	}
	for _, id := range []types.AccountID{a, admin(1)} {
		was, err1 := p.Account(id)
		is, err2 := again.Account(id)
		if was != is || err1 != nil || err2 != nil {
			t.Fatalf("the view of %s is %+v, was %+v", id, is, was)
		}
	}
	third, err := NewPool(w.s, 1)
	if err != nil {
		t.Fatal(err)
	}
	if third.Restore(signed[:1], logged[5:]) == nil {
		t.Fatal("restored with a hole")
	}
}

// Requests lists what is still to be accepted: neither what stands in a message, also after a restart, nor what can't be accepted any more.
func TestPoolRequests(t *testing.T) {
	w := newWorld(t, 2)
	a := w.user("a", 1, 100*coin)
	p, err := NewPool(w.s, 2)
	if err != nil {
		t.Fatal(err)
	}
	var want []AcceptAccount
	for _, name := range []string{"x", "y", "z"} {
		w.do(a, CreateAccount{Node: 2, PublicKey: PublicKey(secretOf(name)), Proof: KeyProof(secretOf(name))})
		want = append(want, AcceptAccount{Requester: a, PublicKey: PublicKey(secretOf(name))})
	}
	lists := func(p *Pool, limit int, want ...AcceptAccount) {
		t.Helper()
		if got := p.Requests(limit); !slices.Equal(got, want) {
			t.Fatalf("%+v, want %+v", got, want)
		}
	}
	lists(p, 10, want...)
	lists(p, 2, want[:2]...)
	var logged []Logged
	speak := func(a AcceptAccount) {
		t.Helper()
		place, err := p.Speak(a.Bytes(2, w.s.Time()))
		if err != nil {
			t.Fatal(err)
		}
		logged = append(logged, Logged{place, a.Bytes(2, w.s.Time())})
	}
	speak(want[0])
	sent, err := p.Cut(nodeSecret(2), w.s.Time())
	if err != nil {
		t.Fatal(err)
	}
	speak(want[1])
	lists(p, 10, want[2])
	again, err := NewPool(w.s, 2)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Restore([][]byte{sent.Raw}, logged[1:]); err != nil {
		t.Fatal(err)
	}
	lists(again, 10, want[2])
	w.s.Apply(w.s.Height()+1, w.s.Time()+1, [][]byte{sent.Raw})
	if err := again.Applied(); err != nil || w.s.Accounts(2) != 2 {
		t.Fatalf("%d accounts, %v", w.s.Accounts(2), err)
	}
	lists(again, 10, want[2])

	// The same request once more, after the first was accepted and done with.
	w.do(a, CreateAccount{Node: 2, PublicKey: want[0].PublicKey, Proof: KeyProof(secretOf("x"))})
	lists(again, 10, want[2], want[0])

	w.s.touchNode(2).Status |= NodeDoubleSpend
	lists(again, 10)
}
