package ledger

import (
	"fmt"
	"math"
	"testing"

	"github.com/eschaton-network/chand/types"
)

// The original's list of what its testers try, and where each entry is tried here.
//
//	send_one: smallest, 100, over balance, negative, 2^31; local, remote    TestQASendOne; below 9 decimals: esc.TestCommandsRefused
//	send_many: none, duplicates, zero, sum over balance                    TestQASendMany
//	all funds with and without fee                                         TestQAAllFunds
//	messages of wrong length                                               TestQALengths (blocks), esc.TestCommandsRefused (send_one's text)
//	accounts with a key of their own, remote, in a dividend block          TestQAAccountsInDividendBlock; TestRemoteAccount
//	the old key is refused after a change                                  TestQAOldKey; itest.TestOriginalWalkThrough
//	marked deleted, then reused, with a log of its own                     TestDeletion, TestNotDeleted, TestReuse, TestQAReusedLog
//	create_node, keys of nodes and validators                              TestCreateNode, TestDeadNode, TestChangeNodeKey, TestElection
//	retrieve_funds: normal, admin, local refused                           TestRetrieveFunds, TestQARetrieveAdmin
//	matrix of status bits                                                  TestAccountStatus, TestNodeStatus, TestNodeVotes
//	broadcast of 1, 2, 32, 32,000 bytes; 0 and 32,001 refused              TestQABroadcast
//	targets that do not exist                                              TestQATargets, TestRefusals
//	fees shared by groups: separate, overlapping, included                 TestQAFeeGroups, TestFeeShares
//	a dry run shows what is sent, ids of the log, the last 10 blocks       itest.TestOriginalQA, itest.TestOriginalCommands
//	codes of misspelt commands and fields                                  esc.TestCommandsRefused

func qaWorld(t *testing.T) (w *world, local, remote types.AccountID) {
	w = newWorld(t, 2)
	return w, w.user("local", 1, 1000*coin), w.user("remote", 2, 1000*coin)
}

// booked is what the last block's profit has changed account 0 of a node by.
func (w *world) booked(node uint16) (sum types.Amount) {
	for _, e := range find[NodeProfit](w.events) {
		if e.Node == node {
			sum += e.Booked
		}
	}
	return sum
}

func TestQASendOne(t *testing.T) {
	w, from, remote := qaWorld(t)
	local := w.user("neighbour", 1, coin)
	for _, to := range []types.AccountID{local, remote, from} {
		for _, c := range []struct {
			amount, moved types.Amount
			code          uint32
		}{
			{1, 1, CodeOK}, {100, 100, CodeOK}, {1 << 31, 1 << 31, CodeOK}, {0, 0, CodeOK}, {-1, 0, CodeOK}, {math.MinInt64, 0, CodeOK},
			{1000 * coin, 0, CodeBalance}, {Supply, 0, CodeBalance},
		} {
			mine, theirs := w.balance(from), w.balance(to)
			fee := feeBase + transferFee(from, to, max(c.amount, 0))
			raw := w.sign(from, SendOne{To: to, Amount: c.amount})
			if mine < fee { // the fee of what it does not have
				fee = 0
			}
			w.queued = append(w.queued, raw)
			if done := w.mine()[0]; done.Code != c.code {
				t.Errorf("%d to %s: %d %s, want %d", c.amount, to, done.Code, done.Text, c.code)
			}
			if to == from {
				if got := w.balance(from); got != mine-fee {
					t.Errorf("%d to itself costs %d, want %d", c.amount, mine-got, fee)
				}
			} else if a, b := mine-w.balance(from), w.balance(to)-theirs; a != c.moved+fee || b != c.moved {
				t.Errorf("%d to %s: %d left, %d came, want %d and %d", c.amount, to, a, b, c.moved+fee, c.moved)
			}
		}
	}
	// What exceeds all money there is can't be signed, nor is it executed when somebody does.
	if _, _, err := Sign(w.secrets[from], types.Hash{}, Head{From: from}, SendOne{To: local, Amount: math.MaxInt64}); err == nil {
		t.Error("more than the supply was signed")
	}
}

func TestQASendMany(t *testing.T) {
	w, from, remote := qaWorld(t)
	for name, wires := range map[string][]Wire{
		"none": {}, "twice": {{remote, 1}, {admin(1), 2}, {remote, 3}}, "zero": {{remote, 0}}, "negative": {{remote, -1}},
		"overflow": {{remote, Supply}, {admin(1), Supply}, {admin(2), Supply}, {from, Supply}},
	} {
		if _, _, err := Sign(w.secrets[from], types.Hash{}, Head{From: from}, SendMany{wires}); err == nil {
			t.Errorf("%s: signed", name)
		}
	}
	before := w.balance(remote)
	w.refuse(CodeBalance, from, SendMany{[]Wire{{remote, 600 * coin}, {admin(1), 600 * coin}}}) // each alone could be paid
	w.refuse(CodeTargetAccount, from, SendMany{[]Wire{{remote, coin}, {types.AccountID{Node: 2, User: 77}, coin}}})
	if w.balance(remote) != before {
		t.Error("a part of a refused send_many was paid")
	}
	w.do(from, SendMany{[]Wire{{remote, coin}, {admin(1), 1}}})
	if w.balance(remote) != before+coin {
		t.Error("not paid")
	}
}

func TestQAAllFunds(t *testing.T) {
	w, from, remote := qaWorld(t)
	// All without the fee: a unit too much and only the fee goes.
	all := func(to types.AccountID) types.Amount {
		have := spendable(from, w.balance(from))
		a := have - feeBase
		for a+feeBase+transferFee(from, to, a) > have {
			a -= max((a+feeBase+transferFee(from, to, a)-have)/2, 1)
		}
		for a+1+feeBase+transferFee(from, to, a+1) <= have {
			a++
		}
		return a
	}
	w.refuse(CodeBalance, from, SendOne{To: remote, Amount: w.balance(from)})
	w.refuse(CodeBalance, from, SendOne{To: remote, Amount: all(remote) + 1})
	w.do(from, SendOne{To: remote, Amount: all(remote)})
	if left := w.balance(from); left > 1 { // the fee moves by two units at a step
		t.Errorf("%d units are left of all funds", left)
	}
	w.refuse(CodeBalance, from, SendOne{To: remote, Amount: 0}) // not even the fee
	// An admin keeps its minimum.
	from = admin(1)
	w.refuse(CodeBalance, from, SendOne{To: remote, Amount: all(remote) + 1})
	w.do(from, SendOne{To: remote, Amount: all(remote)})
	if left := w.balance(from) - w.booked(1); left < AdminMinimum || left > AdminMinimum+1 {
		t.Errorf("the admin has %d units left, want %d", left, AdminMinimum)
	}
}

// Any number of bytes more or less than a transaction has is refused, in a block as at a node's door.
func TestQALengths(t *testing.T) {
	w, from, remote := qaWorld(t)
	secret := secretOf("new")
	for _, b := range []Body{
		SendOne{To: remote, Amount: 1}, SendMany{[]Wire{{remote, 1}, {admin(1), 1}}}, Broadcast{[]byte("text")}, LogAccount{}, CreateNode{},
		CreateAccount{Node: 1, PublicKey: PublicKey(secret), Proof: KeyProof(secret)}, RetrieveFunds{remote}, SetNodeStatus{1, 8},
		ChangeAccountKey{PublicKey(secret), KeyProof(secret)}, AnchorPairs{make([]Pair, 2)}, Lease{1, MinLease}, Enrol{Roles: 1},
	} {
		raw := w.sign(from, b)
		clear(w.ahead)
		before := contents(w.s)
		for cut := range raw {
			if w.s.Check(raw[:cut]) == nil {
				t.Fatalf("%T: %d of %d bytes are accepted", b, cut, len(raw))
			}
		}
		short, long := Direct(raw[:len(raw)-1]), Direct(append(raw[:len(raw):len(raw)], 0))
		for i, r := range w.s.Apply(w.s.Height()+1, w.s.Time(), [][]byte{short, long, Direct(nil)}).Block {
			if r.Code != CodeLength {
				t.Errorf("%T, case %d: %v", b, i, r)
			}
		}
		if contents(w.s) != before {
			t.Errorf("%T: refused bytes changed the state", b)
		}
	}
}

// Accounts made in the first block of a period, here and elsewhere, with a key of their own: they have their deposit to the unit, no
// dividend for a period that they did not see, and act at once.
func TestQAAccountsInDividendBlock(t *testing.T) {
	g := testGenesis(2)
	g.DividendBlocks = 4
	w := worldOf(t, g)
	secret := secretOf("own")
	own := CreateAccount{Node: 1, PublicKey: PublicKey(secret), Proof: KeyProof(secret)}
	elsewhere := own
	elsewhere.Node = 2
	w.blocks(3)
	accept := AcceptAccount{Requester: admin(1), PublicKey: own.PublicKey}.Bytes(2, w.s.Time())
	txs := [][]byte{w.message(1, w.sign(admin(1), own), w.sign(admin(1), elsewhere)), w.message(2, accept)}
	clear(w.ahead)
	out := w.s.Apply(4, w.s.Time()+1, txs)
	for _, d := range out.Results {
		if d.Code != CodeOK {
			t.Fatalf("%+v", d)
		}
	}
	for node := uint16(1); node <= 2; node++ {
		id := types.AccountID{Node: node, User: 1}
		w.secrets[id] = secret
		if got := w.balance(id); got != NewAccountDeposit {
			t.Errorf("%s has %d units, want %d", id, got, NewAccountDeposit)
		}
		w.do(id, SendOne{To: id})
	}
	for range 4 {
		w.mine()
	}
	w.refuse(CodeOK, types.AccountID{Node: 2, User: 1}, SendOne{To: admin(1), Amount: 1})
}

func TestQAOldKey(t *testing.T) {
	w, from, remote := qaWorld(t)
	old, fresh := w.secrets[from], secretOf("fresh")
	w.do(from, ChangeAccountKey{PublicKey(fresh), KeyProof(fresh)})
	w.refuse(CodeSignature, from, SendOne{To: remote, Amount: 1})
	w.secrets[from] = fresh
	w.do(from, SendOne{To: remote, Amount: 1})
	w.do(from, ChangeAccountKey{PublicKey(fresh), KeyProof(fresh)}) // to the same key: allowed, as later in the original
	// In one block, what is signed with the old key after the change is refused, with the new one not.
	w.queue(from, ChangeAccountKey{PublicKey(old), KeyProof(old)})
	w.queue(from, SendOne{To: remote, Amount: 1})
	if done := w.mine(); done[0].Code != CodeOK || done[1].Code != CodeSignature {
		t.Errorf("%+v", done)
	}
}

// What was signed for a number's former owner, with the same key even, does not fit the next one: their histories are apart.
func TestQAReusedLog(t *testing.T) {
	g := testGenesis(1)
	g.DividendBlocks = 4
	w := worldOf(t, g)
	id := w.user("one", 1, coin)
	hash := w.s.peek(id).Hash
	signed := w.sign(id, SendOne{To: admin(1), Amount: 1})
	clear(w.ahead)
	w.setBalance(id, 1000)
	w.blocks(10)
	if w.s.peek(id).Status&StatusDeleted == 0 {
		t.Fatal("not deleted")
	}
	w.refuse(CodeBadUser, id, SendOne{To: admin(1)})
	w.blocks(reusePeriods * 4)
	secret := secretOf("one")
	w.do(admin(1), CreateAccount{Node: 1, PublicKey: PublicKey(secret), Proof: KeyProof(secret)})
	r := w.s.peek(id)
	if w.s.Accounts(1) != 2 || r.Msid != 1 || r.Hash == hash || r.Balance != NewAccountDeposit {
		t.Fatalf("%d accounts, %+v", w.s.Accounts(1), *r)
	}
	if out := w.s.Apply(w.s.Height()+1, w.s.Time()+1, [][]byte{Direct(signed)}); out.Results[0].Code != CodeSignature {
		t.Errorf("a transaction of the former owner: %+v", out.Results[0])
	}
	w.do(id, SendOne{To: admin(1), Amount: 1})
}

// An admin's funds are retrieved but for the minimum that it keeps; those of its own node are not.
func TestQARetrieveAdmin(t *testing.T) {
	g := testGenesis(2)
	g.DividendBlocks = 4
	w := worldOf(t, g)
	shared := secretOf("shared")
	by := w.user("by", 1, 10*coin)
	for _, id := range []types.AccountID{by, admin(2)} {
		w.do(id, ChangeAccountKey{PublicKey(shared), KeyProof(shared)})
		w.secrets[id] = shared
	}
	w.refuse(CodeTargetNode, by, RetrieveFunds{admin(1)})
	w.refuse(CodeLocked, by, RetrieveFunds{admin(2)})
	w.blocks(4)
	w.do(by, RetrieveFunds{admin(2)})
	w.refuse(CodeLocked, by, RetrieveFunds{admin(2)})
	w.blocks(4)
	w.refuse(CodeLocked, admin(2), SendOne{To: by, Amount: 1})
	before := w.balance(by)
	w.do(by, RetrieveFunds{admin(2)})
	if got := w.balance(by); got < before+2_000_000_000*coin {
		t.Errorf("%d units came", got-before)
	}
	if left := w.balance(admin(2)) - w.booked(2); left != AdminMinimum {
		t.Errorf("%d units are left on the admin's account", left)
	}
}

func TestQABroadcast(t *testing.T) {
	w, from, _ := qaWorld(t)
	for _, n := range []int{1, 2, 32, 32_000} {
		before := w.balance(from)
		w.do(from, Broadcast{make([]byte, n)})
		if got, want := before-w.balance(from), 4096+65536*types.Amount(n); got != want {
			t.Errorf("%d bytes cost %d, want %d", n, got, want)
		}
		if e := find[Broadcasted](w.events); len(e) != 1 || len(e[0].Data) != n {
			t.Errorf("%d bytes: %d events", n, len(e))
		}
	}
	for _, n := range []int{0, 32_001} {
		b := Broadcast{make([]byte, n)}
		if _, _, err := Sign(w.secrets[from], types.Hash{}, Head{From: from}, b); err == nil {
			t.Errorf("%d bytes: signed", n)
		}
		h, prev := w.head(from)
		raw := b.signed(h.marshal(b.kind()))
		sig := signBytes(w.secrets[from], append(prev[:], raw...))
		if out := w.s.Apply(w.s.Height()+1, w.s.Time(), [][]byte{Direct(append(raw, sig[:]...))}); out.Block[0].Code != CodeLength {
			t.Errorf("%d bytes: %v", n, out.Block[0])
		}
	}
}

func TestQATargets(t *testing.T) {
	w, from, _ := qaWorld(t)
	for to, code := range map[types.AccountID]uint32{
		{}: CodeTargetNode, {Node: 3}: CodeTargetNode, {Node: 0xFFFF}: CodeTargetNode,
		{Node: 1, User: 2}: CodeTargetAccount, {Node: 2, User: math.MaxUint32}: CodeTargetAccount,
	} {
		w.refuse(code, from, SendOne{To: to, Amount: 1})
		w.refuse(code, from, SendMany{[]Wire{{to, 1}}})
		w.refuse(code, from, RetrieveFunds{to})
		w.refuse(code, admin(1), SetAccountStatus{to, 2})
		w.refuse(code, from, IssueCertificate{Subject: to, Expires: maxTime})
	}
	for _, node := range []uint16{0, 3, 0xFFFF} {
		w.refuse(CodeTargetNode, from, CreateAccount{Node: node})
		w.refuse(CodeTargetNode, from, Lease{node, MinLease})
		w.refuse(CodeTargetNode, admin(1), SetNodeStatus{node, 8})
		if node != 0 {
			w.refuse(CodeTargetNode, admin(1), ChangeNodeKey{Node: node})
		}
	}
}

// Two fifths of what the nodes earn is shared by those that earn and those that validate: groups that are apart, that overlap, one within
// the other.
func TestQAFeeGroups(t *testing.T) {
	for _, c := range []struct {
		name     string
		earn     []uint16
		validate []uint16
		parts    [4]types.Amount // of what is shared, in shares
	}{
		{"separate", []uint16{1}, []uint16{3, 4}, [4]types.Amount{1, 0, 1, 1}},
		{"overlapping", []uint16{1, 2}, []uint16{2, 3}, [4]types.Amount{1, 2, 1, 0}},
		{"included", []uint16{1, 2, 3}, []uint16{2}, [4]types.Amount{1, 2, 1, 0}},
		{"the same", []uint16{1, 2}, []uint16{1, 2}, [4]types.Amount{2, 2, 0, 0}},
	} {
		g := testGenesis(4)
		g.Authorities = c.validate
		w := worldOf(t, g)
		var txs [][]byte
		income := map[uint16]types.Amount{}
		total := types.Amount(0)
		for _, node := range c.earn {
			raw := w.message(node, w.sign(admin(node), Broadcast{make([]byte, 1000*int(node))}))
			txs = append(txs, raw)
			income[node] = (4096+65536*1000*types.Amount(node))/16 - 4096 - types.Amount(len(raw))
			total += income[node] / 5 * 2
		}
		clear(w.ahead)
		share := total / types.Amount(len(c.earn)+len(c.validate))
		got := map[uint16]NodeProfit{}
		for _, e := range find[NodeProfit](w.s.Apply(1, w.s.Time()+1, txs).Events) {
			got[e.Node] = e
		}
		for i, parts := range c.parts {
			node := uint16(i + 1)
			want := parts*share - income[node]/5*2
			if e := got[node]; e.Income != income[node] || e.Shared != want {
				t.Errorf("%s: node %d earns %d and is given %d, want %d and %d", c.name, node, e.Income, e.Shared, income[node], want)
			}
		}
		if err := w.s.Verify(); err != nil {
			t.Error(fmt.Errorf("%s: %w", c.name, err))
		}
	}
}
