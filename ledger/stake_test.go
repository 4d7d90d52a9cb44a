package ledger

import (
	"errors"
	"reflect"
	"testing"

	"github.com/eschaton-network/chand/types"
)

// blocks applies empty blocks, with a message of each of these nodes in each (a node that is silent for a period loses its seat).
func (w *world) blocks(n int, alive ...uint16) (changes []Validator) {
	w.t.Helper()
	for range n {
		var txs [][]byte
		for _, id := range alive {
			txs = append(txs, w.message(id))
		}
		out := w.s.Apply(w.s.Height()+1, w.s.Time()+1, txs)
		changes = append(changes, out.Validators...)
		if err := w.s.Verify(); err != nil {
			w.t.Fatal(err)
		}
		restore(w.t, snapshot(w.t, w.s))
	}
	return changes
}

func nodesOf(vals []Validator) (ids []uint16) {
	for _, v := range vals {
		ids = append(ids, v.Node)
	}
	return ids
}

func TestElection(t *testing.T) {
	g := testGenesis(4)
	g.DividendBlocks, g.VIPMax = 4, 2
	w := worldOf(t, g)
	if got := nodesOf(w.s.Validators()); !reflect.DeepEqual(got, []uint16{1, 2}) {
		t.Fatalf("at genesis %v validate, want 1 and 2", got)
	}
	// Node 3 gets a lease; at the end of the period it is first, then the first admin with the least fees paid.
	w.do(admin(4), Lease{Node: 3, Amount: 1000 * types.Coin})
	changes := w.blocks(3, 1, 2, 3, 4)
	if got := nodesOf(w.s.Validators()); !reflect.DeepEqual(got, []uint16{3, 1}) {
		t.Fatalf("after the period %v validate, want 3 and 1", got)
	}
	powers := map[types.Hash]int64{}
	for _, c := range changes {
		powers[c.PublicKey] = c.Power
	}
	if n := w.s.node(2); powers[n.PublicKey] != 0 || len(changes) != 3 || n.Status != 0 {
		t.Errorf("changes %v, status of node 2 %d: it must leave", changes, n.Status)
	}
	if n := w.s.node(3); n.Status != NodeVIP|NodeMaster || powers[n.PublicKey] != int64((n.Weight+1000*types.Coin)>>powerShift) {
		t.Errorf("node 3 has status %d and power %d", n.Status, powers[n.PublicKey])
	}
	// A silent node loses its seat at the end of the period after.
	w.blocks(8, 1, 2, 4)
	if got := nodesOf(w.s.Validators()); got[0] == 3 || got[1] == 3 {
		t.Errorf("%v validate although 3 is silent", got)
	}
	// When all are silent nothing changes: a ledger without validators could not go on.
	before := w.s.Validators()
	w.blocks(8)
	if !reflect.DeepEqual(w.s.Validators(), before) {
		t.Error("an election without candidates changed the validators")
	}
}

func TestAuthorities(t *testing.T) {
	g := testGenesis(3)
	g.DividendBlocks, g.Authorities = 4, []uint16{2, 3}
	w := worldOf(t, g)
	w.do(admin(1), Lease{Node: 1, Amount: 1000 * types.Coin})
	if changes := w.blocks(7, 1); len(changes) != 0 {
		t.Errorf("fixed validators changed: %v", changes)
	}
}

func TestLease(t *testing.T) {
	g := testGenesis(2)
	g.UnbondingBlocks = 3
	w := worldOf(t, g)
	from := admin(1)
	w.refuse(CodeTargetNode, from, Lease{Node: 9, Amount: MinLease})
	w.refuse(CodeBalance, from, Lease{Node: 2, Amount: Supply})
	w.refuse(CodeNoLease, from, CancelLease{Node: 2, Amount: 1})
	for _, c := range []struct {
		body Body
		code uint32
	}{
		{Lease{Node: 2}, CodeNotPositive}, {Lease{Node: 2, Amount: -1}, CodeNotPositive}, {Lease{Node: 2, Amount: Supply + 1}, CodeNotPositive},
		{Lease{Node: 2, Amount: 1}, CodeSmallLease}, {Lease{Node: 2, Amount: MinLease - 1}, CodeSmallLease},
		{CancelLease{Node: 2}, CodeNotPositive}, {CancelLease{Node: 2, Amount: -1}, CodeNotPositive}, {CancelLease{Node: 2, Amount: Supply + 1}, CodeNotPositive},
	} {
		var r *Refusal
		if _, _, err := Sign([32]byte{}, types.Hash{}, Head{}, c.body); !errors.As(err, &r) || r.Code != c.code {
			t.Errorf("%T %+v: %v, want code %d", c.body, c.body, err, c.code)
		}
	}
	w.do(from, Lease{Node: 2, Amount: 5 * MinLease})
	w.do(from, Lease{Node: 2, Amount: 3 * MinLease})
	w.refuse(CodeNoLease, from, CancelLease{Node: 2, Amount: 8*MinLease + 1})
	for _, bad := range []types.Amount{1, MinLease - 1, 7*MinLease + 1, 8*MinLease - 1} { // too little released, too little left
		w.refuse(CodeSmallLease, from, CancelLease{Node: 2, Amount: bad})
	}
	before, _ := w.s.Account(from)
	w.do(from, CancelLease{Node: 2, Amount: 6 * MinLease})
	if n, _ := w.s.Node(2); n.Leased != 2*MinLease {
		t.Errorf("node 2 has %d units of stake, want %d", n.Leased, 2*MinLease)
	}
	w.blocks(2)
	if a, _ := w.s.Account(from); a.Balance != before.Balance-feeLease {
		t.Error("the stake came back too early")
	}
	w.blocks(1)
	if a, _ := w.s.Account(from); a.Balance != before.Balance-feeLease+6*MinLease {
		t.Errorf("the stake did not come back: %d", a.Balance-before.Balance)
	}
	w.do(from, CancelLease{Node: 2, Amount: MinLease})
	w.do(from, CancelLease{Node: 2, Amount: MinLease})
	if n, _ := w.s.Node(2); n.Leased != 0 {
		t.Errorf("node 2 has %d units of stake after all was released", n.Leased)
	}
}

// What a cut leaves of a small lease can be released.
func TestCancelCutLease(t *testing.T) {
	w := worldOf(t, testGenesis(3))
	w.do(admin(1), Lease{Node: 2, Amount: MinLease})
	w.s.Apply(w.s.Height()+1, w.s.Time()+1, [][]byte{w.double(2, admin(3)).Encode()})
	left := w.s.Bond(BondKey{Node: 2, From: admin(1)})
	if left != MinLease-MinLease/8 {
		t.Fatalf("%s are left of %s", left, MinLease)
	}
	w.refuse(CodeSmallLease, admin(1), CancelLease{Node: 2, Amount: left - 1})
	w.do(admin(1), CancelLease{Node: 2, Amount: left})
}

// double makes evidence of two messages with one number.
func (w *world) double(node uint16, reporter types.AccountID) Evidence {
	n, _ := w.s.Node(node)
	a := SignedMessage{n.MessageHash, w.message(node, w.sign(admin(node), SendOne{To: admin(node), Amount: 1}))}
	clear(w.ahead)
	return Evidence{Offence: OffenceMessages, Reporter: reporter, Messages: []SignedMessage{a, {n.MessageHash, w.message(node)}}}
}

func TestDoubleMessage(t *testing.T) {
	g := testGenesis(3)
	w := worldOf(t, g)
	w.do(admin(1), Lease{Node: 2, Amount: 800 * MinLease})
	w.do(admin(1), Lease{Node: 2, Amount: 160 * MinLease})
	w.do(admin(1), CancelLease{Node: 2, Amount: 160 * MinLease})
	e := w.double(2, admin(3))
	same := e
	same.Messages = []SignedMessage{e.Messages[0], e.Messages[0]}
	forged := w.double(2, admin(3))
	forged.Messages[0].Raw[10] ^= 1
	other := e
	other.Messages = []SignedMessage{{e.Messages[0].Previous, w.message(1)}, e.Messages[1]}
	for name, raw := range map[string][]byte{
		"empty": {blockEvidence}, "same": same.Encode(), "forged": forged.Encode(), "two nodes": other.Encode(),
		"cut off": e.Encode()[:100], "trailing": append(e.Encode(), 0),
	} {
		if out := w.s.Apply(w.s.Height()+1, w.s.Time()+1, [][]byte{raw}); out.Block[0].Code != CodeEvidence || w.s.CheckEvidence(raw) == nil {
			t.Errorf("%s: %v", name, out.Block[0])
		}
	}
	pool, bond := w.s.Pool(), w.s.record(admin(2)).Balance
	reporter := w.s.record(admin(3)).Balance
	out := w.s.Apply(w.s.Height()+1, w.s.Time()+1, [][]byte{e.Encode(), e.Encode(), w.message(2)})
	if out.Block[0].Code != CodeOK || out.Block[1].Code != CodeEvidence || out.Block[2].Code != CodeBadNode {
		t.Fatalf("evidence, it again, and a message of the closed node: %v", out.Block)
	}
	cut := bond/8 + (100+20)*MinLease
	if got := bond - w.s.record(admin(2)).Balance; got != bond/8 {
		t.Errorf("the admin lost %d, want %d", got, bond/8)
	}
	if w.s.Pool()-pool != cut-cut/16 || w.s.record(admin(3)).Balance-reporter != cut/16 {
		t.Errorf("the pool got %d, the reporter %d of %d", w.s.Pool()-pool, w.s.record(admin(3)).Balance-reporter, cut)
	}
	if got := nodesOf(w.s.Validators()); !reflect.DeepEqual(got, []uint16{3, 1}) || len(out.Validators) == 0 {
		t.Errorf("%v validate, want 3 and 1", got)
	}
	if err := w.s.Verify(); err != nil {
		t.Fatal(err)
	}
	w.refuse(CodeTargetNode, admin(1), Lease{Node: 2, Amount: MinLease})
	restore(t, snapshot(t, w.s))
}

func TestAccused(t *testing.T) {
	w := newWorld(t, 3)
	old := w.s.node(2).PublicKey
	w.s.setNodeKey(2, PublicKey(secretOf("another key")))
	w.blocks(1)
	w.s.Accuse(validatorAddress(old))
	w.s.Accuse(validatorAddress(old))
	w.s.Accuse([20]byte{1})
	bond := w.s.record(admin(2)).Balance
	w.blocks(1)
	if n, _ := w.s.Node(2); n.Status&NodeDoubleSpend == 0 || w.s.record(admin(2)).Balance != bond-bond/8 {
		t.Error("an equivocating validator was not cut once")
	}
}

// receipt promises transactions a place in message 1 of a node.
func (w *world) receipt(node uint16, deadline types.Height, txs ...[]byte) Receipt {
	var ids []types.Hash
	for _, tx := range txs {
		ids = append(ids, types.SHA256(tx))
	}
	r := NewReceipt(Place{node, 1, 1}, deadline, ids)
	r.Sign(nodeSecret(node), w.s.Params().Genesis)
	return r
}

func TestBrokenReceipt(t *testing.T) {
	tx := func(w *world) []byte { return w.sign(admin(2), SendOne{To: admin(1), Amount: 1}) }
	for name, c := range map[string]struct {
		code uint32
		make func(w *world) Evidence
	}{
		"kept": {CodeEvidence, func(w *world) Evidence {
			raw, prev := tx(w), w.s.node(2).MessageHash
			return Evidence{Offence: OffenceReceipt, Receipt: w.receipt(2, 9, raw), Messages: []SignedMessage{{prev, w.message(2, raw)}}}
		}},
		"message without it": {CodeOK, func(w *world) Evidence {
			raw, prev := tx(w), w.s.node(2).MessageHash
			return Evidence{Offence: OffenceReceipt, Receipt: w.receipt(2, 9, raw), Messages: []SignedMessage{{prev, w.message(2)}}}
		}},
		"another place": {CodeOK, func(w *world) Evidence {
			raw, prev := tx(w), w.s.node(2).MessageHash
			return Evidence{Offence: OffenceReceipt, Receipt: w.receipt(2, 9, raw), Messages: []SignedMessage{{prev, w.message(2, tx(w), raw)}}}
		}},
		"another message": {CodeEvidence, func(w *world) Evidence {
			raw, prev := tx(w), w.s.node(2).MessageHash
			first := w.message(2, raw)
			w.s.Apply(w.s.Height()+1, w.s.Time(), [][]byte{first})
			return Evidence{Offence: OffenceReceipt, Receipt: w.receipt(2, 9, raw), Messages: []SignedMessage{{prev, w.message(2)}}}
		}},
		"forged receipt": {CodeEvidence, func(w *world) Evidence {
			raw, prev := tx(w), w.s.node(2).MessageHash
			r := w.receipt(2, 9, raw)
			r.Signature[3] ^= 1
			return Evidence{Offence: OffenceReceipt, Receipt: r, Messages: []SignedMessage{{prev, w.message(2)}}}
		}},
		"not yet overdue": {CodeEvidence, func(w *world) Evidence {
			return Evidence{Offence: OffenceOverdue, Receipt: w.receipt(2, w.s.Height()+1, tx(w))}
		}},
		"overdue": {CodeOK, func(w *world) Evidence {
			return Evidence{Offence: OffenceOverdue, Receipt: w.receipt(2, w.s.Height(), tx(w))}
		}},
		"carried": {CodeEvidence, func(w *world) Evidence {
			raw := tx(w)
			r := w.receipt(2, w.s.Height(), raw)
			w.s.Apply(w.s.Height()+1, w.s.Time(), [][]byte{w.message(2, raw)})
			return Evidence{Offence: OffenceOverdue, Receipt: r}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 3)
			w.blocks(2)
			e := c.make(w)
			e.Reporter = admin(3)
			out := w.s.Apply(w.s.Height()+1, w.s.Time(), [][]byte{e.Encode()})
			if out.Block[0].Code != c.code {
				t.Errorf("code %d (%s), want %d", out.Block[0].Code, out.Block[0].Text, c.code)
			}
			if n, _ := w.s.Node(2); (n.Status&NodeDoubleSpend != 0) != (c.code == CodeOK) {
				t.Errorf("status %d", n.Status)
			}
			if err := w.s.Verify(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func FuzzEvidence(f *testing.F) {
	w := newWorld(f, 2)
	f.Add(w.double(2, admin(1)).Encode())
	f.Add([]byte{blockEvidence, OffenceMessages})
	f.Add(Evidence{Offence: OffenceOverdue, Reporter: admin(1), Receipt: w.receipt(2, 0, []byte("x"))}.Encode())
	f.Fuzz(func(t *testing.T, raw []byte) {
		e, r := decodeEvidence(raw)
		if r == nil && !reflect.DeepEqual(e.Encode(), raw) {
			t.Fatal("evidence has two encodings")
		}
		_ = w.s.CheckEvidence(raw)
	})
}
