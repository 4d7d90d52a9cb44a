package ledger

import (
	"testing"

	"github.com/eschaton-network/chand/types"
)

const coin = types.Coin

func TestGenesisMoney(t *testing.T) {
	w := newWorld(t, 1)
	if got := w.balance(admin(1)).String(); got != "4565569158.243113983" {
		t.Fatalf("node 1's admin has %s", got)
	}
	if err := w.s.Verify(); err != nil {
		t.Fatal(err)
	}
}

func TestSendOne(t *testing.T) {
	w := newWorld(t, 2)
	a, b := w.user("a", 1, 200_000*coin), w.user("b", 2, coin)
	before := w.balance(a)
	w.do(a, SendOne{To: admin(1), Amount: 100_000 * coin})
	if got := (before - w.balance(a) - 100_000*coin).String(); got != "12.207035346" {
		t.Fatalf("local fee %s", got) // docs: E17 check
	}
	before = w.balance(b)
	w.do(a, SendOne{To: b, Amount: 70 * coin, Message: types.Hash{1}})
	if w.balance(b)-before != 70*coin {
		t.Fatal("not credited")
	}
	want := Deposited{From: a, To: b, Amount: 70 * coin, Message: types.Hash{1}}
	if got := find[Deposited](w.events); len(got) != 1 || got[0] != want {
		t.Fatalf("events %+v", w.events)
	}
	w.do(a, SendOne{To: a, Amount: coin})
	w.do(a, SendOne{To: b, Amount: 0})
	w.do(a, SendOne{To: b, Amount: -5})
}

func TestPipelineInOneBlock(t *testing.T) {
	w := newWorld(t, 1)
	a := w.user("a", 1, 100*coin)
	for range 20 { // enough for a batch
		w.queue(a, SendOne{To: admin(1), Amount: coin})
	}
	w.queue(a, SendOne{To: types.AccountID{Node: 9}, Amount: coin}) // refused, takes its place
	next := secretOf("a, second key")
	w.queue(a, ChangeAccountKey{PublicKey: PublicKey(next), Proof: KeyProof(next)})
	w.secrets[a] = next
	w.queue(a, SendOne{To: admin(1), Amount: coin})
	for i, raw := range w.queued {
		err := w.s.Check(raw)
		if (err == nil) != (i < 20) {
			t.Fatalf("Check %d: %v", i, err)
		}
	}
	queued := w.queued
	for i, d := range w.mine() {
		want := CodeOK
		if i == 20 {
			want = CodeTargetNode
		}
		if d.Code != want {
			t.Fatalf("%d: %d %s", i, d.Code, d.Text)
		}
	}
	w.queued = queued
	for i, d := range w.mine() {
		if d.Code != CodeMsid {
			t.Fatalf("replay %d: %d %s", i, d.Code, d.Text)
		}
	}
}
