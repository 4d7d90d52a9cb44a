package ledger

import (
	"testing"

	"github.com/eschaton-network/chand/types"
)

func created(name string, node uint16) CreateAccount {
	return CreateAccount{Node: node, PublicKey: PublicKey(secretOf(name)), Proof: KeyProof(secretOf(name))}
}

// Without a key the new account has the creator's, as in the original.
func TestCreateAccountCreatorsKey(t *testing.T) {
	w := newWorld(t, 1)
	a := w.user("a", 1, 10*coin)
	w.do(a, CreateAccount{Node: 1})
	id := types.AccountID{Node: 1, User: 2}
	r, err := w.s.Record(id)
	if err != nil || r.PublicKey != PublicKey(secretOf("a")) || pairedWith(&r) != a || r.Balance != NewAccountDeposit {
		t.Fatalf("%+v %v", r, err)
	}
	if r, _ := w.s.Record(a); r.PairedNode != 0 || r.PairedID != id.User {
		t.Fatalf("the creator does not learn the number: %+v", r)
	}
	if (CreateAccount{Node: 1, Proof: [64]byte{1}}).check() == nil {
		t.Error("a second encoding of the same")
	}
}

func TestRemoteAccount(t *testing.T) {
	w := newWorld(t, 3)
	a := w.user("a", 1, 10*coin)
	before, pool := w.balance(a), w.s.Pool()
	w.do(a, created("new", 2))
	if got := before - w.balance(a); got != 1<<20+1<<28 || w.s.Pool() != pool+1<<20 {
		t.Fatalf("a request cost %s", got)
	}
	w.refuse(CodeCreateAccount, a, created("new", 2)) // one at a time
	w.refuse(CodeTargetNode, a, created("new", 9))
	w.refuse(CodeKeyProof, a, CreateAccount{Node: 3, PublicKey: PublicKey(secretOf("new"))})
	w.pass(1)
	want := AcceptAccount{Requester: a, PublicKey: PublicKey(secretOf("new"))}
	if got := w.s.Requests(2); len(got) != 1 || got[0] != want {
		t.Fatalf("%+v", got)
	}
	late := AcceptAccount{Requester: a, PublicKey: PublicKey(secretOf("other"))}
	out := w.speak(2, late.Bytes(2, w.s.Time()), want.Bytes(2, w.s.Time()), want.Bytes(3, w.s.Time()), AcceptAccount{Requester: admin(2)}.Bytes(2, 0))
	for i, code := range []uint32{CodeOK, CodeOK, CodeBadNode, CodeCreateAccount} {
		if out.Results[i].Code != code {
			t.Errorf("record %d: %+v, want code %d", i, out.Results[i], code)
		}
	}
	id := types.AccountID{Node: 2, User: 1}
	events := find[AccountRequested](w.events)
	if len(events) != 2 || events[0].State != RequestLate || events[1] != (AccountRequested{a, 2, want.PublicKey, RequestAccepted, id}) {
		t.Fatalf("%+v", events)
	}
	r, err := w.s.Record(id)
	if err != nil || r.Balance != NewAccountDeposit || r.PublicKey != PublicKey(secretOf("new")) || r.PairedNode != 0 || len(w.s.Requests(2)) != 0 {
		t.Fatalf("%+v %v", r, err)
	}
	if w.s.Accounts(2) != 2 {
		t.Fatal("a late acceptance made an account that nobody paid for")
	}

	// The acceptance may stand before the request in the same block.
	accept := AcceptAccount{Requester: a, PublicKey: PublicKey(secretOf("third"))}
	m := w.message(2, accept.Bytes(2, w.s.Time()))
	w.s.Apply(w.s.Height()+1, w.s.Time(), [][]byte{m, Direct(w.sign(a, created("third", 2)))})
	clear(w.ahead)
	if w.s.Accounts(2) != 3 {
		t.Fatal("not matched within the block")
	}

	// Nobody accepts: the deposit returns after RequestBlocks.
	before = w.balance(a)
	w.do(a, created("lost", 3))
	w.pass(RequestBlocks - 1)
	if before-w.balance(a) != 1<<20+1<<28 {
		t.Fatal("the deposit returned too early")
	}
	w.pass(1)
	if got := find[AccountRequested](w.events); before-w.balance(a) != 1<<20 || len(got) != 1 || got[0].State != RequestFailed || len(w.s.Requests(3)) != 0 {
		t.Fatalf("%s, %+v", before-w.balance(a), got)
	}

	// What waits is bounded.
	for i := range uint32(MaxRequests) {
		w.s.requests.add(requestKey{node: 2, requester: types.AccountID{Node: 1, User: 1000 + i}}, w.s.Height())
	}
	h := Head{From: a}
	x := &exec{s: w.s, from: h.From, height: w.s.Height(), time: w.s.Time()}
	if r := created("more", 2).verify(x); r == nil || r.Code != CodeBusy {
		t.Fatal(r)
	}
}

// A node's own records stand in messages only.
func TestConnection(t *testing.T) {
	w := newWorld(t, 2)
	c := Connection{Port: 6511, IPv4: 0x0100007f}
	out := w.speak(1, w.sign(admin(1), SendOne{To: admin(2), Amount: 1}), c.Bytes())
	if d := out.Results[1]; d.Code != CodeOK || d.Place.Position != 2 || d.Sender != admin(1) {
		t.Fatalf("%+v", d)
	}
	if n, _ := w.s.Node(1); n.Port != 6511 || n.IPv4 != 0x0100007f || len(find[NodeConnected](w.events)) != 1 {
		t.Fatalf("%+v", n)
	}
	w.speak(1, c.Bytes())
	if len(find[NodeConnected](w.events)) != 0 {
		t.Error("nothing changed, and it was said so")
	}
	for _, raw := range [][]byte{c.Bytes(), AcceptAccount{Requester: admin(2)}.Bytes(1, 0), {0, 4, 0, 0}} {
		if _, err := DecodeTx(raw); err == nil {
			t.Errorf("%x was taken for a user's transaction", raw)
		}
	}
	m := NodeMessage{Node: 1, Msid: 3, Time: w.s.Time(), Txs: [][]byte{{0, 4, 0, 0}}}
	m.Sign(nodeSecret(1), w.s.node(1).MessageHash)
	raw, _ := m.Encode()
	if out := w.s.Apply(w.s.Height()+1, w.s.Time(), [][]byte{raw}); out.Block[0].Code != CodeLength {
		t.Errorf("filler: %v", out.Block[0])
	}
	m.Txs = [][]byte{c.Bytes()[:5]}
	m.Sign(nodeSecret(1), w.s.node(1).MessageHash)
	raw, _ = m.Encode()
	if out := w.s.Apply(w.s.Height()+1, w.s.Time(), [][]byte{raw}); out.Block[0].Code != CodeLength {
		t.Errorf("cut off: %v", out.Block[0])
	}
}
