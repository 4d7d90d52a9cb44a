package ledger

import (
	"math"
	"slices"
	"testing"

	"github.com/eschaton-network/chand/types"
)

// Attempts to break the ledger by transactions that are allowed one by one: to make money, to escape punishment, to make a block cost more
// than it pays for.

// setBalance moves what an account has to the pool or from it, so that tests need not wait for years of fees.
func (w *world) setBalance(id types.AccountID, balance types.Amount) {
	change := balance - w.s.peek(id).Balance
	w.s.addBalance(id, change)
	w.s.pool -= change
}

// The bond of a node is an eighth of what its account 0 has after the period's maintenance fee, which comes first: a poor account never
// falls below zero.
func TestCutAfterMaintenance(t *testing.T) {
	g := testGenesis(3)
	g.DividendBlocks = 8
	for _, balance := range []types.Amount{0, 7, 8, maintenanceFee / 2, maintenanceFee, maintenanceFee + 7} {
		w := worldOf(t, g)
		w.blocks(6, 1, 2, 3)
		e := w.double(2, admin(3))
		w.s.Apply(w.s.Height()+1, w.s.Time()+1, nil)
		w.setBalance(admin(2), balance)
		w.s.Apply(w.s.Height()+1, w.s.Time()+1, [][]byte{e.Encode()}) // the first block of a period
		if n, _ := w.s.Node(2); n.Status&NodeDoubleSpend == 0 {
			t.Fatal("the evidence closed nothing")
		}
		if err := w.s.Verify(); err != nil {
			t.Errorf("bond of %d: %v", balance, err)
		}
		if a := w.balance(admin(2)); a < 0 {
			t.Errorf("bond of %d: %d units left", balance, a)
		}
	}
}

// A node that changes its key in the block that closes it stays closed: only the first validator opens nodes.
func TestKeyChangeDoesNotReopen(t *testing.T) {
	w := newWorld(t, 3)
	e := w.double(2, admin(3))
	fresh := secretOf("fresh")
	change := w.sign(admin(2), ChangeNodeKey{PublicKey: PublicKey(fresh), Proof: KeyProof(fresh)})
	out := w.s.Apply(w.s.Height()+1, w.s.Time()+1, [][]byte{w.message(2, change), e.Encode()})
	if out.Block[0].Code != CodeOK || out.Block[1].Code != CodeOK || out.Results[0].Code != CodeOK {
		t.Fatalf("%v %v", out.Block, out.Results)
	}
	n, _ := w.s.Node(2)
	if n.Status&NodeDoubleSpend == 0 {
		t.Error("the node has opened itself")
	}
	if n.PublicKey != types.Hash(PublicKey(nodeSecret(2))) {
		t.Error("a closed node has changed its key")
	}
}

// Accounts with the same key (the creator's, when none is given) must not make each other dear.
func TestManyAccountsOfOneKey(t *testing.T) {
	w := newWorld(t, 1)
	key := PublicKey(secretOf("shared"))
	const many = 300_000
	for range many {
		w.s.pool -= NewAccountDeposit
		w.s.newAccount(1, key, NewAccountDeposit)
	}
	probes := 0
	w.s.keys.find(&key, func(types.AccountID) { probes++ })
	if probes > maxSameKey {
		t.Errorf("finding a key tries %d accounts, at most %d should be tried", probes, maxSameKey)
	}
	if id, err := w.s.AccountOf(key); err != nil || id != (types.AccountID{Node: 1, User: 1}) {
		t.Errorf("the first account with the key is %v, %v", id, err)
	}
}

// Accounts that were deleted and revived cost the next new account nothing.
func TestRevivedAccountsAreForgotten(t *testing.T) {
	w := newWorld(t, 1)
	n := w.s.node(1)
	for i := range 1000 {
		w.s.pool -= NewAccountDeposit
		id := w.s.newAccount(1, PublicKey(secretOf("x")), NewAccountDeposit)
		r := w.s.record(id)
		r.Status |= StatusDeleted
		r.PairedID = 1
		n.freed = append(n.freed, freed{id.User, 1})
		n.deleted++
		if i > 0 {
			w.s.revive(id)
		}
	}
	w.s.revive(types.AccountID{Node: 1, User: 1})
	w.s.reusable(n)
	if len(n.freed) != 0 {
		t.Errorf("%d entries of revived accounts would be visited again", len(n.freed))
	}
}

// With a delay, a direct transaction can't be put into the queue of every block until it is executed once.
func TestQueueHoldsATurnOnce(t *testing.T) {
	g := testGenesis(1)
	g.DirectDelay = 3
	w := worldOf(t, g)
	raw := Direct(w.sign(admin(1), SendOne{To: admin(1), Amount: 1}))
	other := Direct(w.sign(admin(1), Broadcast{[]byte("its successor, too early")}))
	var codes []uint32
	for range 3 {
		for _, r := range w.s.Apply(w.s.Height()+1, w.s.Time()+1, [][]byte{raw, raw, other}).Block {
			codes = append(codes, r.Code)
		}
		w.s = restore(t, snapshot(t, w.s))
	}
	if want := []uint32{CodeOK, CodePending, CodeMsid, CodePending, CodePending, CodeMsid, CodePending, CodePending, CodeMsid}; !slices.Equal(codes, want) {
		t.Errorf("codes %v, want %v", codes, want)
	}
	if done := w.s.Apply(w.s.Height()+1, w.s.Time()+1, nil).Results; len(done) != 1 || done[0].Code != CodeOK || len(w.s.queuedBy) != 0 {
		t.Errorf("%v, %d turns wait", done, len(w.s.queuedBy))
	}
}

// Heights and numbers of validators that do not fit are refused before there is a ledger.
func TestGenesisBounds(t *testing.T) {
	for name, change := range map[string]func(g *Genesis){
		"more authorities than validators": func(g *Genesis) { g.Authorities, g.VIPMax = []uint16{1, 2}, 1 },
		"period":                           func(g *Genesis) { g.DividendBlocks = maxPeriodBlocks + 2 },
		"unbonding":                        func(g *Genesis) { g.UnbondingBlocks = math.MaxUint32 },
	} {
		g := testGenesis(2)
		change(&g)
		if _, err := NewState(g); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// Closing a node takes from its own bonds alone, and none of them is forgotten in the index by node.
func TestBondsOfNode(t *testing.T) {
	g := testGenesis(3)
	g.UnbondingBlocks = 2
	w := worldOf(t, g)
	w.do(admin(1), Lease{Node: 2, Amount: 800 * MinLease})
	w.do(admin(1), Lease{Node: 3, Amount: 80 * MinLease})
	w.do(admin(1), CancelLease{Node: 2, Amount: 80 * MinLease})
	w.s = restore(t, snapshot(t, w.s))
	if len(w.s.stake.ofNode[2]) != 2 || len(w.s.stake.ofNode[3]) != 1 {
		t.Fatalf("bonds by node: %v", w.s.stake.ofNode)
	}
	w.s.Apply(w.s.Height()+1, w.s.Time()+1, [][]byte{w.double(2, admin(3)).Encode()})
	if a, b := w.s.Bond(BondKey{Node: 2, From: admin(1)}), w.s.Bond(BondKey{Node: 3, From: admin(1)}); a != 630*MinLease || b != 80*MinLease {
		t.Errorf("bonds of %d and %d units left, want 630 and 80 times the least", a, b)
	}
	w.do(admin(1), CancelLease{Node: 2, Amount: 630 * MinLease})
	w.blocks(3)
	if len(w.s.stake.ofNode[2]) != 0 || len(w.s.stake.ofNode) != 1 {
		t.Errorf("bonds by node: %v", w.s.stake.ofNode)
	}
}

// Two changes of key in a row would make a node's receipts and messages void as evidence: there is time to use them.
func TestKeyChangesDoNotEscape(t *testing.T) {
	g := testGenesis(3)
	g.UnbondingBlocks = 5
	w := worldOf(t, g)
	e := w.double(2, admin(3))
	change := func(name string) Body {
		k := secretOf(name)
		return ChangeNodeKey{PublicKey: PublicKey(k), Proof: KeyProof(k)}
	}
	w.queue(admin(2), change("one"))
	w.queue(admin(2), change("two")) // in the same block: the first one counts
	w.mine()
	changed := w.s.Height()
	if n, _ := w.s.Node(2); n.PublicKey != types.Hash(PublicKey(secretOf("one"))) || n.KeySince != changed {
		t.Fatalf("%+v", n)
	}
	w.refuse(CodeNodeKey, admin(2), change("three"))
	if err := w.s.CheckEvidence(e.Encode()); err != nil {
		t.Errorf("the evidence is void: %v", err)
	}
	w.s = restore(t, snapshot(t, w.s))
	for w.s.Height()+1 < changed+5 {
		w.refuse(CodeNodeKey, admin(2), change("three"))
	}
	w.do(admin(2), change("three"))
}
