package ledger

import (
	"testing"

	"github.com/eschaton-network/chand/types"
)

// message signs the next message of a node with these transactions.
func (w *world) message(node uint16, txs ...[]byte) []byte {
	w.t.Helper()
	n, err := w.s.Node(node)
	if err != nil {
		w.t.Fatal(err)
	}
	m := NodeMessage{Node: node, Msid: n.Msid + 1, Time: w.s.Time(), Txs: txs}
	m.Sign(nodeSecret(node), n.MessageHash)
	raw, err := m.Encode()
	if err != nil {
		w.t.Fatal(err)
	}
	return raw
}

// A message carries the transactions of its node's accounts; a bad one is skipped with its code.
func TestMessage(t *testing.T) {
	w := newWorld(t, 2)
	a, b := types.AccountID{Node: 1}, types.AccountID{Node: 2}
	good := w.sign(a, SendOne{To: b, Amount: types.Coin})
	foreign := w.sign(b, SendOne{To: a, Amount: types.Coin})
	poor := w.sign(a, SendOne{To: b, Amount: Supply / 2})
	raw := w.message(1, good, foreign, poor)
	root := contents(w.s)
	bad := append([]byte(nil), raw...)
	bad[len(bad)-1] ^= 1 // inside the last transaction
	out := w.s.Apply(w.s.Height()+1, w.s.Time()+1, [][]byte{bad, {7}, nil})
	for i, want := range []uint32{CodeSignature, CodeType, CodeLength} {
		if out.Block[i].Code != want {
			t.Errorf("transaction %d of the block: %v, want code %d", i, out.Block[i], want)
		}
	}
	if contents(w.s) != root {
		t.Error("refused messages changed the state")
	}
	out = w.s.Apply(w.s.Height()+1, w.s.Time()+1, [][]byte{raw, raw})
	if out.Block[0].Code != CodeOK || out.Block[1].Code != CodeMsid {
		t.Errorf("the message, and it again: %v", out.Block)
	}
	for i, want := range []uint32{CodeOK, CodeBadNode, CodeBalance} {
		d := out.Results[i]
		if d.Code != want || d.Place != (Place{1, 1, uint32(i + 1)}) {
			t.Errorf("transaction %d of the message: %+v, want code %d", i+1, d, want)
		}
	}
	if err := w.s.Verify(); err != nil {
		t.Fatal(err)
	}
}

// A direct transaction waits for its delay, and loses its number to one in a message.
func TestDirectDelay(t *testing.T) {
	g := testGenesis(1)
	g.DirectDelay = 2
	w := worldOf(t, g)
	a := types.AccountID{Node: 1}
	first := w.sign(a, SendOne{To: a, Amount: 1})
	clear(w.ahead)
	rival := w.sign(a, SendOne{To: a, Amount: 2})
	if out := w.s.Apply(1, w.s.Time()+1, [][]byte{Direct(first)}); len(out.Results) != 0 || out.Block[0].Code != CodeOK {
		t.Fatalf("a queued transaction ran at once: %+v", out)
	}
	if back := restore(t, snapshot(t, w.s)); back.Root() != w.s.Root() {
		t.Fatal("the queue is lost in the snapshot")
	}
	if out := w.s.Apply(2, w.s.Time()+1, [][]byte{w.message(1, rival)}); out.Results[0].Code != CodeOK {
		t.Fatalf("%+v", out.Results)
	}
	if out := w.s.Apply(3, w.s.Time()+1, nil); len(out.Results) != 1 || out.Results[0].Code != CodeMsid {
		t.Fatalf("the direct transaction went through although its number was used: %+v", out.Results)
	}
	clear(w.ahead)
	next := w.sign(a, SendOne{To: a, Amount: 3})
	w.s.Apply(4, w.s.Time()+1, [][]byte{Direct(next)})
	w.s.Apply(5, w.s.Time()+1, nil)
	if out := w.s.Apply(6, w.s.Time()+1, nil); len(out.Results) != 1 || out.Results[0].Code != CodeOK || out.Results[0].Place != (Place{0, 4, 1}) {
		t.Fatalf("the direct transaction did not run after its delay: %+v", out.Results)
	}
	if err := w.s.Verify(); err != nil {
		t.Fatal(err)
	}
}
