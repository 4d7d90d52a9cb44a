package ledger

import (
	"errors"
	"testing"

	"github.com/eschaton-network/chand/types"
)

func TestRefusals(t *testing.T) {
	other := secretOf("other")
	for name, c := range map[string]struct {
		code uint32
		body func(w *world, a types.AccountID) Body
	}{
		"unknown node":     {CodeTargetNode, func(*world, types.AccountID) Body { return SendOne{To: types.AccountID{Node: 7}, Amount: 1} }},
		"node zero":        {CodeTargetNode, func(*world, types.AccountID) Body { return SendOne{Amount: 1} }},
		"unknown account":  {CodeTargetAccount, func(*world, types.AccountID) Body { return SendOne{To: types.AccountID{Node: 1, User: 99}, Amount: 1} }},
		"too poor":         {CodeBalance, func(*world, types.AccountID) Body { return SendOne{To: admin(1), Amount: 11 * coin} }},
		"too poor for fee": {CodeBalance, func(w *world, a types.AccountID) Body { return SendOne{To: admin(1), Amount: w.balance(a)} }},
		"many too poor": {CodeBalance, func(*world, types.AccountID) Body {
			return SendMany{[]Wire{{admin(1), 6 * coin}, {admin(2), 6 * coin}}}
		}},
		"many unknown": {CodeTargetAccount, func(*world, types.AccountID) Body {
			return SendMany{[]Wire{{admin(1), coin}, {types.AccountID{Node: 1, User: 99}, coin}}}
		}},
		"create elsewhere": {CodeTargetNode, func(*world, types.AccountID) Body {
			return CreateAccount{Node: 7, PublicKey: PublicKey(other), Proof: KeyProof(other)}
		}},
		"create, bad proof": {CodeKeyProof, func(*world, types.AccountID) Body { return CreateAccount{Node: 1, PublicKey: PublicKey(other)} }},
		"new key, bad proof": {CodeKeyProof, func(*world, types.AccountID) Body {
			return ChangeAccountKey{PublicKey: PublicKey(other), Proof: KeyProof(secretOf("else"))}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 2)
			a := w.user("a", 1, 10*coin)
			w.refuse(c.code, a, c.body(w, a))
		})
	}
}

func TestBodyRefusals(t *testing.T) {
	wires := func(n int) SendMany {
		s := SendMany{Wires: make([]Wire, n)}
		for i := range s.Wires {
			s.Wires[i] = Wire{types.AccountID{Node: 1, User: uint32(i)}, 1}
		}
		return s
	}
	for name, c := range map[string]struct {
		code uint32
		body Body
	}{
		"more than there is": {CodeBalance, SendOne{Amount: Supply + 1}},
		"no targets":         {CodeLength, SendMany{}},
		"too many targets":   {CodeLength, wires(MaxWires + 1)},
		"same target":        {CodeDuplicate, SendMany{[]Wire{{admin(1), 1}, {admin(1), 1}}}},
		"zero in many":       {CodeNotPositive, SendMany{[]Wire{{admin(1), 0}}}},
		"negative in many":   {CodeNotPositive, SendMany{[]Wire{{admin(1), -1}}}},
		"overflow in many":   {CodeBalance, SendMany{[]Wire{{admin(1), Supply}, {admin(2), Supply}}}},
		"empty broadcast":    {CodeLength, Broadcast{}},
		"long broadcast":     {CodeLength, Broadcast{make([]byte, MaxBroadcast+1)}},
		"no anchors":         {CodeLength, Anchor{}},
		"too many anchors":   {CodeLength, Anchor{make([]types.Hash, MaxAnchors+1)}},
	} {
		_, _, err := Sign(secretOf("x"), types.Hash{}, Head{From: admin(1), Msid: 1}, c.body)
		var r *Refusal
		if !errors.As(err, &r) || r.Code != c.code {
			t.Errorf("%s: %v, want code %d", name, err, c.code)
		}
	}
	if raw, _, err := Sign(secretOf("x"), types.Hash{}, Head{From: admin(1), Msid: 1}, wires(MaxWires)); err != nil || len(raw) > MaxTx {
		t.Error("the largest send_many does not fit:", len(raw), err)
	}
	if _, _, err := Sign(secretOf("x"), types.Hash{}, Head{From: admin(1), Time: maxTime + 1}, SendOne{}); err == nil {
		t.Error("a time beyond 32 bits was signed")
	}
}

func TestBroadcastAnchorSendMany(t *testing.T) {
	w := newWorld(t, 2)
	a := w.user("a", 1, 50*coin)
	for _, n := range []int{1, 2, 32, MaxBroadcast} {
		w.do(admin(1), Broadcast{make([]byte, n)})
		if got := find[Broadcasted](w.events); len(got) != 1 || len(got[0].Data) != n {
			t.Fatalf("%d bytes: %d events", n, len(got))
		}
	}
	hashes := []types.Hash{{1}, {2}, {1}}
	w.queue(a, Anchor{hashes})
	id := types.SHA256(w.queued[0])
	if d := w.mine()[0]; d.Code != CodeOK || d.ID != id {
		t.Fatal(d)
	}
	if got := find[Anchored](w.events); len(got) != 1 || got[0].TxID != id || len(got[0].Hashes) != 3 || got[0].Hashes[1] != hashes[1] {
		t.Fatalf("%+v", w.events)
	}
	many := SendMany{[]Wire{{admin(1), coin}, {admin(2), 2 * coin}}}
	before := w.balance(a)
	w.do(a, many)
	if got := before - w.balance(a); got != 3*coin+4096+2*256+coin>>13+2*(2*coin>>13) {
		t.Fatalf("send_many cost %s", got)
	}
}

// TestOutOfTurn: wrong number, signature, time, sender and bytes change nothing at all.
func TestOutOfTurn(t *testing.T) {
	w := newWorld(t, 1)
	a := w.user("a", 1, 10*coin)
	h, prev := w.head(a)
	good := SendOne{To: admin(1), Amount: coin}
	make := func(h Head, secret [32]byte, prev types.Hash) []byte {
		raw, _, err := Sign(secret, prev, h, good)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	ahead, late, stranger := h, h, h
	ahead.Msid++
	late.Time += MaxTimeAhead + 100 // blocks go by below
	stranger.From.User = 55
	valid := make(h, w.secrets[a], prev)
	longer := append(append([]byte{}, valid...), 0)
	unknown := append([]byte{}, valid...)
	unknown[0] = 200
	for name, c := range map[string]struct {
		code uint32
		raw  []byte
	}{
		"number ahead":  {CodeMsid, make(ahead, w.secrets[a], prev)},
		"future":        {CodeFuture, make(late, w.secrets[a], prev)},
		"stranger":      {CodeBadUser, make(stranger, w.secrets[a], prev)},
		"wrong key":     {CodeSignature, make(h, secretOf("b"), prev)},
		"wrong hash":    {CodeSignature, make(h, w.secrets[a], types.Hash{})},
		"trailing byte": {CodeLength, longer},
		"short":         {CodeLength, valid[:100]},
		"empty":         {CodeLength, nil},
		"unknown type":  {CodeType, unknown},
		"huge":          {CodeLength, append(valid, zeros(MaxTx)...)},
	} {
		root := contents(w.s)
		var r *Refusal
		if err := w.s.Check(c.raw); !errors.As(err, &r) || r.Code != c.code || r.Text == "" {
			t.Errorf("%s: Check says %v, want %d", name, err, c.code)
		}
		w.queued = [][]byte{c.raw}
		if d := w.mine()[0]; d.Code != c.code {
			t.Errorf("%s: Apply says %d %s", name, d.Code, d.Text)
		}
		if contents(w.s) != root {
			t.Errorf("%s: the state changed", name)
		}
	}
	w.queued = [][]byte{valid}
	if d := w.mine()[0]; d.Code != CodeOK {
		t.Fatal(d.Text)
	}
}

func zeros(n int) []byte { return make([]byte, n) }

// TestBatchFindsTheBadOne: results are the same whether signatures are verified together or one by one.
func TestBatchFindsTheBadOne(t *testing.T) {
	build := func() (*world, [][]byte) {
		w := newWorld(t, 1)
		var txs [][]byte
		for _, name := range []string{"a", "b", "c"} {
			id := w.user(name, 1, 50*coin)
			for range 5 {
				txs = append(txs, w.sign(id, SendOne{To: admin(1), Amount: coin}))
			}
			clear(w.ahead)
		}
		txs[7][110] ^= 1 // b's third signature: its later ones are void too
		return w, txs
	}
	together, txs := build()
	together.queued = txs
	got := together.mine()
	single, _ := build()
	single.s.verifier = verifier{}
	for i, d := range got {
		want := CodeOK
		switch {
		case i == 7:
			want = CodeSignature
		case i > 7 && i < 10:
			want = CodeMsid
		}
		if d.Code != want {
			t.Errorf("%d: code %d, want %d", i, d.Code, want)
		}
		tx, r := decodeTx(txs[i])
		if r != nil {
			t.Fatal(r)
		}
		var code uint32
		single.s.height, single.s.time = together.s.height, together.s.time
		if r := single.s.execute(&eventLog{}, tx, Place{}); r != nil {
			code = r.Code
		}
		if code != want {
			t.Errorf("%d alone: code %d, want %d", i, code, want)
		}
	}
	if contents(single.s) != contents(together.s) {
		t.Error("batch and single verification give different states")
	}
}

// TestZIP215 fixes the rule on a signature that implementations disagree about: a small-order key and R of small order hold
// under the cofactored equation, alone and in a batch.
func TestZIP215(t *testing.T) {
	small := [32]byte{0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a}
	c := sigCheck{key: small, msg: []byte("anything")}
	copy(c.sig[:], small[:])
	if !c.verify() {
		t.Fatal("ZIP-215 accepts small-order points")
	}
	checks := []sigCheck{c}
	for i := range 20 {
		secret := secretOf(string(rune('a' + i)))
		checks = append(checks, sigCheck{PublicKey(secret), []byte{byte(i)}, signBytes(secret, []byte{byte(i)})})
	}
	bad := checks[3]
	bad.sig[63] |= 0x80 // S not canonical
	checks = append(checks, bad)
	items := make([]sigItem, len(checks))
	for i := range checks {
		items[i] = sigItem{&checks[i].key, nil, nil, checks[i].msg, &checks[i].sig, new(bool)}
	}
	verifySigs(items, nil)
	for i, c := range checks {
		if *items[i].holds != c.verify() || c.verify() != (i != len(checks)-1) {
			t.Errorf("%d: batch %v, alone %v", i, *items[i].holds, c.verify())
		}
	}
}

func TestPendingPool(t *testing.T) {
	w := newWorld(t, 1)
	a := w.user("a", 1, 10*coin)
	first := w.sign(a, SendOne{To: admin(1), Amount: 6 * coin})
	second := w.sign(a, SendOne{To: admin(1), Amount: 6 * coin})
	clear(w.ahead)
	rival := w.sign(a, SendOne{To: admin(1), Amount: coin})
	code := func(raw []byte) uint32 {
		var r *Refusal
		if err := w.s.Check(raw); errors.As(err, &r) {
			return r.Code
		}
		return CodeOK
	}
	root := w.s.Root()
	for i, c := range []struct {
		raw  []byte
		code uint32
	}{{second, CodeMsid}, {first, CodeOK}, {first, CodeOK}, {second, CodeBalance}, {rival, CodePending}} {
		if got := code(c.raw); got != c.code {
			t.Errorf("%d: code %d, want %d", i, got, c.code)
		}
	}
	if w.s.Root() != root {
		t.Error("Check changed the state")
	}
	w.mine() // empty: what waited is forgotten
	if code(rival) != CodeOK {
		t.Error("still taken after the block")
	}
	w.s.waiting.total = MaxWaiting
	if got := code(w.sign(admin(1), SendOne{To: a, Amount: 1})); got != CodeBusy {
		t.Errorf("code %d, want %d", got, CodeBusy)
	}
}

func TestRefusedPaysFee(t *testing.T) {
	w := newWorld(t, 1)
	a := w.user("a", 1, 10*coin)
	before, pool := w.balance(a), w.s.Pool()
	bad := SendOne{To: types.AccountID{Node: 1, User: 99}, Amount: coin}
	w.refuse(CodeTargetAccount, a, bad)
	if fee := before - w.balance(a); fee != Fee(a, bad) || w.s.Pool()-pool != fee {
		t.Fatal("fee", fee)
	}
	// An account that can't pay the fee keeps what it has, and its number.
	w.do(a, SendOne{To: admin(1), Amount: w.balance(a) - 2_000_000})
	poor, err := w.s.Account(a)
	if err != nil {
		t.Fatal(err)
	}
	w.refuse(CodeBalance, a, Broadcast{make([]byte, 1000)})
	if now, _ := w.s.Account(a); now != poor {
		t.Fatalf("%+v became %+v", poor, now)
	}
}

func TestAdminMinimum(t *testing.T) {
	w := newWorld(t, 2)
	b := w.user("b", 2, coin)
	all := w.balance(admin(2)) - AdminMinimum
	fee := Fee(admin(2), SendOne{To: b, Amount: all})
	w.refuse(CodeBalance, admin(2), SendOne{To: b, Amount: all})
	all = w.balance(admin(2)) - AdminMinimum
	w.do(admin(2), SendOne{To: b, Amount: all - fee})
	if left := w.balance(admin(2)); left < AdminMinimum {
		t.Fatal("admin has", left)
	}
}

func TestGenesisRefused(t *testing.T) {
	for name, change := range map[string]func(g *Genesis){
		"no id":      func(g *Genesis) { g.ChainID = "" },
		"long id":    func(g *Genesis) { g.ChainID = string(make([]byte, 51)) },
		"no nodes":   func(g *Genesis) { g.Nodes = nil },
		"time":       func(g *Genesis) { g.Time = -1 },
		"block time": func(g *Genesis) { g.BlockMillis = maxBlockMillis + 1 },
		"bad key":    func(g *Genesis) { g.Nodes[0].Account0 = types.Hash{2} },
		"same key":   func(g *Genesis) { g.Nodes[1].PublicKey = g.Nodes[0].PublicKey },
	} {
		g := testGenesis(2)
		change(&g)
		if _, err := NewState(g); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	b, err := testGenesis(2).Bytes()
	if err != nil {
		t.Fatal(err)
	}
	g, err := ParseGenesis(b)
	if err != nil || g.BlockMillis != defaultBlockMillis {
		t.Fatal(g, err)
	}
	for _, bad := range []string{string(b) + "{}", `{"chain_id":"x","extra":1}`, ""} {
		if _, err := ParseGenesis([]byte(bad)); err == nil {
			t.Errorf("%.40q accepted", bad)
		}
	}
	one, _ := testGenesis(1).Hash()
	two, _ := testGenesis(2).Hash()
	if one == two {
		t.Error("different documents, same hash")
	}
}
