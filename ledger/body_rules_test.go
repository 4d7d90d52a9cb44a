package ledger

import (
	"reflect"
	"testing"

	"github.com/eschaton-network/chand/merkle"
	"github.com/eschaton-network/chand/types"
)

// The parts of fees, to the unit: of a message with payments here and there, of a direct transaction, of the end of a period.
func TestFeeShares(t *testing.T) {
	w := newWorld(t, 3)
	a, b := w.user("a", 1, 900_000*coin), w.user("b", 2, coin)
	local, remote := SendOne{To: admin(1), Amount: 65536 * 1000}, SendOne{To: b, Amount: 100_000 * coin}
	toAdmin := SendOne{To: admin(2), Amount: 100_000 * coin}
	many := SendMany{[]Wire{{b, 8192 * 16}, {a, 8192 * 32}}}
	bad := SendOne{To: types.AccountID{Node: 2, User: 99}, Amount: 8192 * 160}
	var txs [][]byte
	for _, body := range []Body{local, remote, toAdmin, many, bad} {
		txs = append(txs, w.sign(a, body))
	}
	before := [3]types.Amount{w.balance(admin(1)), w.balance(admin(2)), w.balance(admin(3))}
	raw := w.message(1, txs...)
	w.speak(1, txs...)
	fee := func(body Body) types.Amount { return Fee(a, body) }
	half := types.Amount(100_000*coin) >> 13
	income := [2]types.Amount{
		fee(local)/16 + (4096+half)/16 + (4096+half)/16 + (4096+2*256+32+16)/16 + (4096+160)/16 - 4096 - types.Amount(len(raw)),
		half/16 + 1, // nothing for the deposit to its own account, nor for the payment that was refused
	}
	pooled := income[0]/5*2 + income[1]/5*2
	part := pooled / 5 // two that earned, three validators
	want := [3]types.Amount{65536*1000 + income[0] - income[0]/5*2 + 2*part, 100_000*coin + income[1] - income[1]/5*2 + 2*part, part}
	for i := range want {
		if got := w.balance(admin(uint16(i+1))) - before[i]; got != want[i] {
			t.Errorf("admin %d: %d units, want %d", i+1, got, want[i])
		}
	}
	got := find[NodeProfit](w.events)
	shared := -income[0]/5*2 + 2*part
	if len(got) != 3 || got[0] != (NodeProfit{Node: 1, Income: income[0], Shared: shared, Booked: income[0] + shared}) {
		t.Errorf("%+v", got)
	}

	// A direct transaction: the sender's node has done nothing.
	w.do(a, remote)
	if got := find[NodeProfit](w.events); len(got) != 3 || got[1].Income != half/16 || got[0].Income != 0 {
		t.Errorf("%+v", got)
	}
	// A loss takes no more than there is.
	w.s.pool += w.balance(admin(3)) - 10
	w.s.addBalance(admin(3), 10-w.balance(admin(3)))
	w.speak(3)
	if got := w.balance(admin(3)); got != 0 {
		t.Errorf("%d units are left", got)
	}
	// A closed node shares nothing but what it earned.
	w.s.touchNode(2).Status |= NodeDoubleSpend
	w.do(a, remote)
	if got := find[NodeProfit](w.events); got[1].Node != 2 || got[1].Shared != -(half/16)/5*2 {
		t.Errorf("%+v", got)
	}
}

func TestPeriodCharge(t *testing.T) {
	w := quick(t, 1)
	for range 100 {
		w.s.addAccount(types.AccountID{Node: 1, User: uint32(w.s.Accounts(1))}, PublicKey(secretOf("x")), 0)
	}
	if got := w.s.periodCharge(101); got != 4*(4096+101*(1<<20/4)/16/4) {
		t.Fatal(got)
	}
	g := testGenesis(1)
	g.DividendBlocks = 1 << 30 // longer than the fee has units
	if got := worldOf(t, g).s.periodCharge(101); got != 4096<<30 {
		t.Fatal(got)
	}
}

func TestRetrieveFunds(t *testing.T) {
	key := "owner"
	setup := func(t *testing.T) (w *world, by, from types.AccountID) {
		w = quick(t, 2)
		by, from = w.user(key, 1, 10*coin), w.user(key, 2, 1000*coin)
		w.pass(4)
		return w, by, from
	}
	t.Run("both calls", func(t *testing.T) {
		w, by, from := setup(t)
		w.do(by, RetrieveFunds{from})
		if r, _ := w.s.Record(from); pairedWith(&r) != by || types.Time(r.Time) != w.s.Time() {
			t.Fatalf("%+v", r)
		}
		before := w.balance(by)
		w.refuse(CodeLocked, by, RetrieveFunds{from}) // too early: the fee and nothing else
		if before-w.balance(by) > feeRetrieve+maintenanceFee {
			t.Fatal("more than the fee was charged")
		}
		for types.Time(w.s.peek(from).Time)+4 > w.s.Time() {
			w.mine()
		}
		w.refuse(CodeLocked, from, SendOne{To: admin(2), Amount: 1})
		w.refuse(CodeLocked, from, SendOne{To: from, Amount: 1})
		p := newPair(w, "pair", by, from, coin, coin, 2)
		w.refuse(CodeLocked, by, p.open())
		w.s.touchNode(2).Status |= NodeDoubleSpend // closed nodes' users get out so
		all, had := w.s.available(from, w.s.peek(from)), w.s.available(by, w.s.peek(by))
		w.do(by, RetrieveFunds{from})
		fee := all>>12 + all>>13
		if w.balance(from) != 0 || w.balance(by)-had != all-fee-feeRetrieve {
			t.Fatalf("%s left, %s arrived of %s", w.balance(from), w.balance(by)-had, all)
		}
		got := find[Retrieval](w.events)
		if len(got) != 1 || got[0] != (Retrieval{By: by, Account: from, Phase: RetrievalPaid, Amount: all - fee, Fee: fee}) {
			t.Fatalf("%+v", got)
		}
		w.pass(2)
	})
	t.Run("by account 0", func(t *testing.T) { // the original's lock did not bind then
		w, _, _ := setup(t)
		from := w.user("admin 1", 2, 100*coin)
		w.pass(4)
		w.do(admin(1), RetrieveFunds{from})
		for types.Time(w.s.peek(from).Time)+4 > w.s.Time() {
			w.mine()
		}
		w.refuse(CodeLocked, from, SendOne{To: admin(2), Amount: 1})
		w.do(from, SendOne{To: from}) // the only way to end it
		w.refuse(CodeLocked, admin(1), RetrieveFunds{from})
		w.do(from, SendOne{To: admin(2), Amount: 1})
	})
	t.Run("of account 0", func(t *testing.T) {
		w, _, _ := setup(t)
		by := w.user("admin 2", 1, 10*coin)
		w.pass(4)
		w.do(by, RetrieveFunds{admin(2)})
		w.pass(4)
		w.do(by, RetrieveFunds{admin(2)})
		got := find[Retrieval](w.events) // what is left is the minimum, and the node's part of the fee
		if left := w.balance(admin(2)); got[0].Phase != RetrievalPaid || left < AdminMinimum || left > AdminMinimum+got[0].Fee/16 {
			t.Fatalf("%s left, %+v", left, got)
		}
	})
	t.Run("the owner uses it", func(t *testing.T) {
		w, by, from := setup(t)
		w.do(by, RetrieveFunds{from})
		w.do(from, Broadcast{[]byte("here")})
		w.refuse(CodeLocked, by, RetrieveFunds{from})
		w.pass(4)
		w.do(by, RetrieveFunds{from})
		w.pass(4)
		w.queue(by, RetrieveFunds{from})
		w.queue(from, SendOne{To: from}) // in the block of the second call
		w.mine()
		if got := find[Retrieval](w.events); got[0].Phase != RetrievalEnded || w.balance(from) < 900*coin {
			t.Fatalf("%+v", got)
		}
	})
	t.Run("refused", func(t *testing.T) {
		w, by, from := setup(t)
		w.refuse(CodeTargetNode, by, RetrieveFunds{admin(1)})
		w.refuse(CodeTargetNode, by, RetrieveFunds{types.AccountID{Node: 9}})
		w.refuse(CodeTargetAccount, by, RetrieveFunds{types.AccountID{Node: 2, User: 9}})
		w.refuse(CodeKeyDiffers, by, RetrieveFunds{admin(2)})
		w.do(from, SendOne{To: from})
		w.refuse(CodeLocked, by, RetrieveFunds{from}) // in use
	})
}

func TestAccountStatus(t *testing.T) {
	w := newWorld(t, 2)
	a, b, far := w.user("a", 1, 100*coin), w.user("b", 1, 100*coin), w.user("far", 2, 100*coin)
	for name, c := range map[string]struct {
		code   uint32
		from   types.AccountID
		target types.AccountID
		bits   uint16
	}{
		"owner":            {CodeOK, a, a, 0xFFFE},
		"admin":            {CodeOK, admin(1), a, 0xFFFE},
		"neighbour":        {CodeOK, b, a, 0x000E},
		"neighbour's high": {CodeAccountStatus, b, a, 0x0010},
		"neighbour's most": {CodeAccountStatus, b, a, 0x8002},
		"remote":           {CodeRemoteStatus, far, a, 2},
		"remote admin":     {CodeRemoteStatus, admin(2), a, 2},
		"unknown":          {CodeTargetAccount, a, types.AccountID{Node: 1, User: 99}, 2},
		"unknown node":     {CodeTargetNode, a, types.AccountID{Node: 9}, 2},
	} {
		w.refuse(c.code, c.from, SetAccountStatus{c.target, c.bits})
		if got, _ := w.s.Record(a); (got.Status == c.bits) != (c.code == CodeOK) {
			t.Errorf("%s: status %#x", name, got.Status)
		}
		w.refuse(c.code, c.from, UnsetAccountStatus{c.target, c.bits})
		if got, _ := w.s.Record(a); got.Status != 0 {
			t.Errorf("%s: status %#x", name, got.Status)
		}
	}
	for _, bits := range []uint16{0, 1, 0xFFFF} {
		if (SetAccountStatus{a, bits}).check() == nil || (UnsetAccountStatus{a, bits}).check() == nil {
			t.Errorf("bits %#x may be asked for", bits)
		}
	}
}

func TestLogAccountAndPairs(t *testing.T) {
	w := newWorld(t, 1)
	a := w.user("a", 1, 10*coin)
	w.do(a, LogAccount{})
	got := find[AccountLogged](w.events)
	now, _ := w.s.Record(a)
	if r, valid, err := ParseRecord(got[0].Record[:], a); err != nil || !valid || r != now || got[0].ID != a {
		t.Fatalf("%+v %v %v", r, valid, err)
	}
	pairs := []Pair{{types.Hash{1}, types.Hash{2}}, {types.Hash{1}, types.Hash{3}}}
	w.do(a, AnchorPairs{pairs})
	if got := find[PairsAnchored](w.events); len(got) != 1 || !reflect.DeepEqual(got[0].Pairs, pairs) || got[0].From != a {
		t.Fatalf("%+v", got)
	}
	for _, n := range []int{0, MaxPairs + 1} {
		if (AnchorPairs{make([]Pair, n)}).check() == nil {
			t.Errorf("%d pairs", n)
		}
	}
}

func TestCertificates(t *testing.T) {
	w := newWorld(t, 2)
	root, school, pupil := w.user("root", 1, 10*coin), w.user("school", 2, 10*coin), w.user("pupil", 2, 10*coin)
	issue := IssueCertificate{Subject: school, Type: 7, Expires: w.s.Time() + 20, Content: types.Hash{1}}
	key := CertificateKey{Issuer: root, Subject: school, Type: 7}
	if err := VerifyCertificateProof(w.s.Root(), key, nil, w.s.CertificateProof(key)); err != nil {
		t.Fatal(err)
	}
	w.refuse(CodeCertificate, root, UpdateCertificate(issue))
	w.refuse(CodeCertificate, root, RevokeCertificate{school, 7})
	w.refuse(CodeTargetAccount, root, IssueCertificate{Subject: types.AccountID{Node: 2, User: 99}, Type: 7, Expires: maxTime})
	w.refuse(CodeCertificate, root, IssueCertificate{Subject: school, Type: 7, Expires: w.s.Time()})
	w.do(root, issue)
	w.refuse(CodeCertificate, root, issue)
	w.refuse(CodeCertificate, school, UpdateCertificate(issue)) // only its issuer may
	w.do(school, IssueCertificate{Subject: pupil, Type: 8, Expires: maxTime})
	c, err := w.s.Certificate(key)
	if err != nil || !c.Holds(w.s.Time()) || c.Content != issue.Content || c.Issued != w.s.Height()-3 {
		t.Fatalf("%+v %v", c, err)
	}
	stateRoot, proof := w.s.Root(), w.s.CertificateProof(key)
	if err := VerifyCertificateProof(stateRoot, key, &c, proof); err != nil {
		t.Fatal(err)
	}
	for name, lie := range map[string]func(c *Certificate){
		"expiry": func(c *Certificate) { c.Expires++ }, "content": func(c *Certificate) { c.Content[0]++ },
		"revoked": func(c *Certificate) { c.Revoked = true }, "issuer": func(c *Certificate) { c.Issuer.User++ },
	} {
		f := c
		lie(&f)
		if VerifyCertificateProof(stateRoot, key, &f, proof) == nil {
			t.Errorf("another %s is proven", name)
		}
	}
	if VerifyCertificateProof(stateRoot, key, nil, proof) == nil || VerifyCertificateProof(types.Hash{}, key, &c, proof) == nil {
		t.Error("a lie is proven")
	}
	w.do(root, UpdateCertificate{Subject: school, Type: 7, Expires: w.s.Time() + 3, Content: types.Hash{2}})
	w.pass(3)
	if c, _ := w.s.Certificate(key); c.Holds(w.s.Time()) || c.Revoked || c.Content != (types.Hash{2}) {
		t.Fatalf("it holds beyond its time: %+v", c)
	}
	w.refuse(CodeCertificate, root, RevokeCertificate{school, 7}) // it has ended
	issue.Expires = maxTime
	w.do(root, issue) // again
	w.do(root, RevokeCertificate{school, 7})
	c, _ = w.s.Certificate(key)
	if got := find[CertificateChanged](w.events); !c.Revoked || c.Holds(0) || len(got) != 1 || got[0].Certificate != c {
		t.Fatalf("%+v %+v", c, got)
	}
	if err := VerifyCertificateProof(w.s.Root(), key, &c, w.s.CertificateProof(key)); err != nil {
		t.Fatal(err) // the end is proven too
	}
	w.pass(1)
}

func enrolledWorld(t tb) *world {
	g := testGenesis(3)
	g.Admission, g.Admins = AdmissionEnrolled, []types.AccountID{admin(1), admin(2), admin(3)}
	return worldOf(t, g)
}

func TestEnrolment(t *testing.T) {
	w := enrolledWorld(t)
	new := created("new", 1)
	w.refuse(CodeNotEnrolled, admin(1), new)
	w.refuse(CodeNotEnrolled, admin(1), created("new", 2))
	w.refuse(CodeNotEnrolled, admin(1), CreateNode{})
	w.refuse(CodeNotEnrolled, admin(1), ChangeAccountKey{PublicKey: new.PublicKey, Proof: new.Proof})
	w.refuse(CodeNotEnrolled, admin(1), ChangeNodeKey{PublicKey: new.PublicKey, Proof: new.Proof})
	w.do(admin(2), Enrol{PublicKey: new.PublicKey, Roles: RoleAccount})
	w.do(admin(1), new)
	a := types.AccountID{Node: 1, User: 1}
	w.secrets[a] = secretOf("new")
	w.do(admin(1), SendOne{To: a, Amount: 200 * coin})
	w.refuse(CodePolicy, a, Enrol{PublicKey: new.PublicKey, Roles: RoleNode})
	w.refuse(CodeNotEnrolled, a, CreateNode{}) // an account's key is not a node's
	w.do(admin(3), Enrol{PublicKey: new.PublicKey, Roles: RoleAccount | RoleNode})
	root, key := w.s.Root(), types.Hash(new.PublicKey)
	p := w.s.EnrolmentProof(key)
	if err := VerifyEnrolmentProof(root, key, RoleAccount|RoleNode, p); err != nil {
		t.Fatal(err)
	}
	if VerifyEnrolmentProof(root, key, RoleNode, p) == nil || VerifyEnrolmentProof(root, key, 0, p) == nil {
		t.Error("a lie is proven")
	}
	w.do(a, CreateNode{})
	w.do(admin(1), Enrol{PublicKey: key})
	if err := VerifyEnrolmentProof(w.s.Root(), key, 0, w.s.EnrolmentProof(key)); err != nil || w.s.EnrolledKey(key) != 0 {
		t.Fatal(err)
	}
	w.refuse(CodeNotEnrolled, a, CreateAccount{Node: 1})
	if (Enrol{Roles: 4}).check() == nil {
		t.Error("an unknown role")
	}
	w.pass(1)
}

func TestSetPolicy(t *testing.T) {
	w := enrolledWorld(t)
	user := types.AccountID{Node: 1}
	next := Policy{Version: 1, Admins: []types.AccountID{admin(1), admin(2)}}
	consent := func(p Policy, who string) [64]byte { return p.SignAsAdmin(secretOf(who), w.s.Params().Genesis) }
	good := SetPolicy{next, 1 << 2, [][64]byte{consent(next, "admin 3")}}
	late := next
	late.Version = 2
	unknown := next
	unknown.Admins = []types.AccountID{{Node: 1, User: 77}}
	for name, c := range map[string]struct {
		code uint32
		from types.AccountID
		body SetPolicy
	}{
		"alone":           {CodePolicy, user, SetPolicy{Policy: next}},
		"forged":          {CodePolicy, user, SetPolicy{next, 1 << 2, [][64]byte{consent(next, "admin 2")}}},
		"another policy":  {CodePolicy, user, SetPolicy{next, 1 << 2, [][64]byte{consent(late, "admin 3")}}},
		"version":         {CodePolicy, user, SetPolicy{late, 1 << 2, [][64]byte{consent(late, "admin 3")}}},
		"the sender":      {CodePolicy, user, SetPolicy{next, 1 << 0, [][64]byte{consent(next, "admin 1")}}},
		"no such admin":   {CodePolicy, user, SetPolicy{next, 1 << 3, [][64]byte{consent(next, "admin 3")}}},
		"unknown account": {CodeTargetAccount, user, SetPolicy{unknown, 1 << 2, [][64]byte{consent(unknown, "admin 3")}}},
		"good":            {CodeOK, user, good},
	} {
		if name != "good" {
			w.refuse(c.code, c.from, c.body)
		}
	}
	w.do(user, good)
	if got := w.s.Policy(); !reflect.DeepEqual(got, next) || !reflect.DeepEqual(find[PolicyChanged](w.events)[0].Policy, next) {
		t.Fatalf("%+v", got)
	}
	w.do(user, created("anybody", 1)) // open now
	w.refuse(CodePolicy, admin(3), Enrol{Roles: RoleNode})
	w.refuse(CodePolicy, user, good) // once
	for name, p := range map[string]SetPolicy{
		"nobody could join": {Policy: Policy{Enrolled: true}},
		"twice":             {Policy: Policy{Admins: []types.AccountID{user, user}}},
		"many":              {Policy: Policy{Admins: make([]types.AccountID, MaxAdmins+1)}},
		"signers":           {Policy: next, Signers: 3},
	} {
		if p.check() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	w.pass(1)
}

// Damage of what the rules rely on is found.
func TestVerifyFindsRuleDamage(t *testing.T) {
	for name, damage := range map[string]func(s *State){
		"dividends": func(s *State) { s.period.factor, s.period.start = 1<<40, s.time+1 },
		"pins":      func(s *State) { s.pins[admin(1)]++ },
		"origins":   func(s *State) { s.origins.add(1) },
		"admins":    func(s *State) { s.registry.policy.Admins = []types.AccountID{{Node: 9}} },
		"deleted":   func(s *State) { s.record(admin(1)).Status |= StatusDeleted; s.touch(admin(1)) },
		"request":   func(s *State) { s.requests.add(requestKey{node: 1}, 1) },
		"certificate": func(s *State) {
			s.registry.certificateTree.Set(types.Hash{1}, merkle.EmptyRoot)
		},
	} {
		s := busy(t).s
		s.Root()
		damage(s)
		if s.Verify() == nil {
			t.Errorf("%s: not found", name)
		}
	}
}
