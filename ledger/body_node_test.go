package ledger

import (
	"testing"

	"github.com/eschaton-network/chand/types"
)

// quick is a ledger with dividend periods of four blocks of a second each.
func quick(t tb, nodes int) *world {
	g := testGenesis(nodes)
	g.DividendBlocks = 4
	return worldOf(t, g)
}

// pass applies empty blocks, each of which must leave a sound state that a snapshot holds.
func (w *world) pass(n int) {
	w.t.Helper()
	for range n {
		w.mine()
		if back := restore(w.t, snapshot(w.t, w.s)); back.Root() != w.s.Root() {
			w.t.Fatal("a snapshot holds another state")
		}
	}
}

// speak applies a block with a message of this node.
func (w *world) speak(node uint16, txs ...[]byte) Outcome {
	w.t.Helper()
	out := w.s.Apply(w.s.Height()+1, w.s.Time()+1, [][]byte{w.message(node, txs...)})
	clear(w.ahead)
	w.events = out.Events
	if out.Block[0].Code != CodeOK {
		w.t.Fatal(out.Block[0])
	}
	if err := w.s.Verify(); err != nil {
		w.t.Fatal(err)
	}
	return out
}

func TestCreateNode(t *testing.T) {
	w := newWorld(t, 1)
	a := w.user("a", 1, 200*coin)
	before := w.balance(a)
	w.do(a, CreateNode{})
	if got := before - w.balance(a); got != 1<<28+1<<36 {
		t.Fatalf("a node cost %s", got)
	}
	n, err := w.s.Node(2)
	if err != nil || n.PublicKey != PublicKey(secretOf("a")) || n.Weight != 1<<36 || w.balance(admin(2)) != 1<<36 {
		t.Fatalf("%+v %v", n, err)
	}
	if got := find[NodeCreated](w.events); len(got) != 1 || got[0] != (NodeCreated{Node: 2, By: a, PublicKey: n.PublicKey}) {
		t.Fatalf("%+v", w.events)
	}
	w.secrets[admin(2)] = secretOf("a")
	w.do(admin(2), SendOne{To: a, Amount: coin})
	w.refuse(CodeNodeKey, a, CreateNode{}) // no two nodes have one key
	poor := w.user("poor", 1, 68*coin)
	w.refuse(CodeBalance, poor, CreateNode{})

	// Two accounts of one key in one block: the second gets its deposit back.
	b, c := w.user("b", 1, 100*coin), w.user("b", 1, 100*coin)
	w.queue(b, CreateNode{})
	w.queue(c, CreateNode{})
	before = w.balance(c)
	w.mine()
	if got := before - w.balance(c); w.s.Nodes() != 3 || got != feeNode {
		t.Fatalf("%d nodes, the second asker paid %s", w.s.Nodes(), got)
	}
	// No number left.
	d := w.user("d", 1, 100*coin)
	for range MaxNodes - 3 {
		w.s.nodes = append(w.s.nodes, w.s.nodes[2])
	}
	w.s.end.nodes = []newNode{{by: d, key: PublicKey(secretOf("d"))}}
	before = w.balance(d)
	var log eventLog
	w.s.pool -= NewNodeDeposit
	w.s.createNodes(&log)
	if got := find[NodeCreated](log.events); w.balance(d)-before != NewNodeDeposit || got[0].Node != 0 {
		t.Fatalf("%+v", log.events)
	}
}

// A node that its owner left is given to another one: its number, not one beside it, and not while anybody may be paid there.
func TestDeadNode(t *testing.T) {
	w := quick(t, 1)
	a, b, c := w.user("a", 1, 500*coin), w.user("b", 1, 500*coin), w.user("c", 1, 500*coin)
	w.do(a, CreateNode{}) // node 2
	w.do(b, CreateNode{}) // node 3
	w.secrets[admin(2)], w.secrets[admin(3)] = secretOf("a"), secretOf("b")
	w.do(admin(2), SendOne{To: c, Amount: w.balance(admin(2)) - AdminMinimum - coin})
	w.do(admin(3), ChangeNodeKey{PublicKey: PublicKey(nodeSecret(3)), Proof: KeyProof(nodeSecret(3))})
	p := newPair(w, "pair", a, c, coin, coin, 1)
	w.s.node(2).accounts.change(0).Balance -= w.balance(admin(2)) // as charges would have, in time
	w.s.pool += w.s.node(2).Weight
	w.s.node(2).Weight = 0
	w.s.touch(admin(2))
	w.do(a, p.open())
	for range reusePeriods*4 + 8 {
		w.speak(3)
	}
	old, _ := w.s.Node(2)
	if w.s.deadNode() != 0 {
		t.Fatal("a number was given away while a contract is open that may pay there")
	}
	w.do(a, p.spend(p.final(toAccount(a, 2*coin)), nil))
	if got := w.s.deadNode(); got != 2 {
		t.Fatalf("node %d is dead, want 2", got)
	}
	w.do(c, CreateNode{})
	n, _ := w.s.Node(2)
	if w.s.Nodes() != 3 || n.PublicKey != PublicKey(secretOf("c")) || n.Msid != old.Msid || n.MessageHash == old.MessageHash || w.balance(admin(2)) != NewNodeDeposit {
		t.Fatalf("%d nodes, node 2 is %+v", w.s.Nodes(), n)
	}
	if o := w.s.node(3).PublicKey; o != PublicKey(nodeSecret(3)) {
		t.Fatal("the wrong node was overwritten")
	}
	w.pass(1)
}

func TestChangeNodeKey(t *testing.T) {
	w := newWorld(t, 3)
	user := w.user("user", 1, 10*coin)
	key, proof := PublicKey(secretOf("new")), KeyProof(secretOf("new"))
	w.refuse(CodeNodeKey, user, ChangeNodeKey{PublicKey: key, Proof: proof})
	w.refuse(CodeNodeKey, admin(1), ChangeNodeKey{Node: 2, PublicKey: key, Proof: proof})
	w.refuse(CodeTargetNode, admin(1), ChangeNodeKey{Node: 9, PublicKey: key, Proof: proof})
	w.refuse(CodeKeyProof, admin(1), ChangeNodeKey{PublicKey: key})
	w.refuse(CodeNodeKey, admin(1), ChangeNodeKey{PublicKey: PublicKey(nodeSecret(2)), Proof: KeyProof(nodeSecret(2))})
	// Two nodes ask for one key: the first gets it.
	w.queue(admin(1), ChangeNodeKey{PublicKey: key, Proof: proof})
	w.queue(admin(2), ChangeNodeKey{Node: 2, PublicKey: key, Proof: proof})
	w.mine()
	if got := find[NodeKeyChanged](w.events); len(got) != 1 || got[0] != (NodeKeyChanged{Node: 1, PublicKey: key}) || w.s.nodeOf(key) != 1 {
		t.Fatalf("%+v", w.events)
	}
	if v := w.s.Validators(); v[0].PublicKey != key {
		t.Error("the validator kept its old key")
	}
	old := NodeMessage{Node: 1, Msid: 1, Time: w.s.Time()}
	old.Sign(nodeSecret(1), w.s.node(1).MessageHash)
	raw, _ := old.Encode()
	if out := w.s.Apply(w.s.Height()+1, w.s.Time(), [][]byte{raw}); out.Block[0].Code != CodeSignature {
		t.Errorf("a message with the old key: %v", out.Block[0])
	}
	// A closed node is opened by the first validator's node only; what closed it does not close it again.
	evidence := w.double(3, admin(2)).Encode()
	if out := w.s.Apply(w.s.Height()+1, w.s.Time(), [][]byte{evidence}); out.Block[0].Code != CodeOK {
		t.Fatal(out.Block[0])
	}
	next, nextProof := PublicKey(secretOf("again")), KeyProof(secretOf("again"))
	master := w.s.Validators()[0].Node // the others have paid more fees
	for _, by := range []uint16{3 - master, 3} {
		w.refuse(CodeNodeKey, admin(by), ChangeNodeKey{Node: 3, PublicKey: next, Proof: nextProof})
	}
	w.do(admin(master), ChangeNodeKey{Node: 3, PublicKey: next, Proof: nextProof})
	if n, _ := w.s.Node(3); n.Status&NodeDoubleSpend != 0 || n.PublicKey != next || !find[NodeKeyChanged](w.events)[0].Opened {
		t.Fatalf("%+v", n)
	}
	if out := w.s.Apply(w.s.Height()+1, w.s.Time(), [][]byte{evidence}); out.Block[0].Code == CodeOK {
		t.Error("the same evidence closed the node again")
	}
	w.pass(1)
}

func TestNodeStatus(t *testing.T) {
	const own, vip, voted = 1 << 15, 1 << 16, 1 << 24
	for name, c := range map[string]struct {
		code uint32
		from func(w *world) types.AccountID
		node uint16
		bits uint32
	}{
		"own":              {CodeOK, func(*world) types.AccountID { return admin(4) }, 4, own | 8},
		"own, by a user":   {CodeNodeStatus, func(w *world) types.AccountID { return w.user("u", 4, 10*coin) }, 4, own},
		"another's":        {CodeNodeStatus, func(*world) types.AccountID { return admin(1) }, 4, own},
		"by a validator":   {CodeOK, func(*world) types.AccountID { return admin(1) }, 4, vip | 1<<23},
		"by none":          {CodeNodeStatus, func(*world) types.AccountID { return admin(4) }, 4, vip},
		"vote by none":     {CodeNodeStatus, func(*world) types.AccountID { return admin(4) }, 4, voted},
		"unknown node":     {CodeTargetNode, func(*world) types.AccountID { return admin(1) }, 9, vip},
		"validator's user": {CodeNodeStatus, func(w *world) types.AccountID { return w.user("u", 1, 10*coin) }, 4, vip},
	} {
		t.Run(name, func(t *testing.T) {
			g := testGenesis(4)
			g.VIPMax = 3
			w := worldOf(t, g)
			from := c.from(w)
			w.refuse(c.code, from, SetNodeStatus{c.node, c.bits})
			if n, _ := w.s.Node(4); (n.Status == c.bits) != (c.code == CodeOK) {
				t.Fatalf("status %#x", n.Status)
			}
			w.refuse(c.code, from, UnsetNodeStatus{c.node, c.bits})
			if n, _ := w.s.Node(4); n.Status != 0 {
				t.Fatalf("status %#x", n.Status)
			}
		})
	}
	for _, bits := range []uint32{0, 1, 2, 4, 1<<31>>31 | 1<<20} {
		if (SetNodeStatus{1, bits}).check() == nil || (UnsetNodeStatus{1, bits}).check() == nil {
			t.Errorf("bits %#x may be asked for", bits)
		}
	}
}

// More than half of the validators decide on bits 24 to 31, in one block; the original applied the last unset vote as a set.
func TestNodeVotes(t *testing.T) {
	g := testGenesis(5)
	g.VIPMax = 4
	w := worldOf(t, g)
	const a, b uint32 = 1 << 24, 1 << 31
	vote := func(node uint16, body Body) { w.queue(admin(node), body) }
	status := func() uint32 { n, _ := w.s.Node(5); return n.Status }
	vote(1, SetNodeStatus{5, a | b})
	vote(2, SetNodeStatus{5, a | b})
	w.mine()
	if status() != 0 {
		t.Fatalf("half of the validators decided: %#x", status())
	}
	vote(1, SetNodeStatus{5, a | b})
	vote(2, SetNodeStatus{5, a | b})
	vote(3, SetNodeStatus{5, a})
	vote(4, UnsetNodeStatus{5, a})
	w.mine()
	if status() != a {
		t.Fatalf("status %#x, want %#x", status(), a)
	}
	for node := uint16(1); node <= 3; node++ {
		vote(node, SetNodeStatus{5, b})
		vote(node, UnsetNodeStatus{5, a | b}) // the last vote counts
	}
	w.mine()
	if status() != 0 {
		t.Fatalf("status %#x, want 0", status())
	}
	w.pass(1)
}
