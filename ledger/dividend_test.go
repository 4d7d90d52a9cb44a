package ledger

import (
	"testing"

	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/eschaton-network/chand/types"
)

// One node, periods of four blocks, nothing happens: every number is worked out by hand.
func TestDividendByHand(t *testing.T) {
	w := quick(t, 1)
	for _, c := range []struct {
		height  types.Height
		balance types.Amount
		events  int
		factor  types.Amount
	}{
		{2, 4565569158243113983, 0, 0},
		// At the end of a period: 4 blocks * (4096 + a quarter of a sixteenth of 2^20/4 for one account).
		{3, 4565569158243113983 - 4*(4096+4096), 1, 0},
		// 46116860184306689 are in the pool: 661 for each 65536 of 4565569158243081215.
		{4, 4565569158243081215, 0, 661},
		{6, 4565569158243081215, 0, 661}, // accounts 32 to 63 have their turn
		// 69665057956589*661 less 2^20; the node keeps 2^20/16 and pays 32768; it shares with itself.
		{7, 4565569158243081215 + 46048602501372070 + 65536 - 32768, 2, 661},
		{8, 4611617760744486053, 0, 0}, // less than a 65536th is left
	} {
		for w.s.Height() < c.height {
			w.pass(1)
		}
		if got := w.balance(admin(1)); got != c.balance || len(w.events) != c.events || w.s.period.factor != c.factor {
			t.Errorf("block %d: %d units, factor %d, events %+v", c.height, int64(got), w.s.period.factor, w.events)
		}
	}
	if w.s.Pool() != 68257682901851 {
		t.Errorf("the pool has %d", int64(w.s.Pool()))
	}
	if r, _ := w.s.Record(admin(1)); types.Time(r.RemoteChange) != start+7 {
		t.Errorf("settled at %d", r.RemoteChange-uint32(start))
	}
}

// until goes on to the next block whose height is this modulo the period of 4.
func (w *world) until(mod uint32) {
	for uint32(w.s.Height())%4 != mod {
		w.pass(1)
	}
}

// Whatever touches an account first settles its dividend on what it held before, and only once a period.
func TestDividendOnTouch(t *testing.T) {
	w := quick(t, 2)
	a, b := w.user("a", 1, 1000*coin), w.user("b", 2, 1000*coin)
	w.until(3)
	w.s.addBalance(admin(1), -1e6*coin) // something for a dividend
	w.s.pool += 1e6 * coin
	held := [2]types.Amount{w.balance(a), w.balance(b)}
	factor := w.s.pool / ((Supply - w.s.pool) >> 16) // nothing is in contracts
	w.queue(a, SendOne{To: b, Amount: coin})         // in the first block of the period
	w.mine()
	if w.s.period.factor != factor || factor == 0 {
		t.Fatalf("factor %d, want %d", w.s.period.factor, factor)
	}
	wantA := held[0] + held[0]>>16*factor - maintenanceFee - coin - Fee(a, SendOne{To: b, Amount: coin})
	wantB := held[1] + held[1]>>16*factor - maintenanceFee + coin
	if w.balance(a) != wantA || w.balance(b) != wantB {
		t.Fatalf("%d and %d, want %d and %d", w.balance(a), w.balance(b), wantA, wantB)
	}
	if got := find[Dividend](w.events); len(got) < 2 || got[0] != (Dividend{a, held[0]>>16*factor - maintenanceFee}) || got[1].To != b {
		t.Fatalf("%+v", got)
	}
	w.until(3) // the sweep finds nothing to do with them
	if w.balance(a) != wantA || w.balance(b) != wantB {
		t.Fatal("settled twice")
	}
}

// Blocks within one second do not make an account miss a period.
func TestDividendWithoutTime(t *testing.T) {
	w := quick(t, 1)
	a := w.user("a", 1, 1000*coin)
	periods := 0
	for range 40 {
		h := w.s.Height() + 1
		out := w.s.Apply(h, w.s.Time(), nil)
		if err := w.s.Verify(); err != nil {
			t.Fatal(err)
		}
		for _, e := range find[Dividend](out.Events) {
			if e.To == a {
				periods++
			}
		}
		if uint32(h)%4 == 3 && periods != int(h)/4 {
			t.Fatalf("block %d: settled %d times", h, periods)
		}
	}
}

func TestDormancy(t *testing.T) {
	for name, c := range map[string]struct {
		idle types.Time
		want func(balance, factor types.Amount) types.Amount
	}{
		"a year": {dormantAfter, func(b, f types.Amount) types.Amount { return b>>16*f - maintenanceFee }},
		"more":   {dormantAfter + 1, func(b, f types.Amount) types.Amount { return -maintenanceFee }},
		"two":    {wastingAfter, func(b, f types.Amount) types.Amount { return -maintenanceFee }},
		"longer": {wastingAfter + 1, func(b, f types.Amount) types.Amount { return -b/1000 - maintenanceFee }},
	} {
		t.Run(name, func(t *testing.T) {
			w := quick(t, 1)
			a := w.user("a", 1, 1000*coin)
			w.until(3)
			r, _ := w.s.Record(a)
			w.s.Apply(w.s.Height()+1, types.Time(r.LocalChange)+c.idle, nil)
			if w.s.period.factor == 0 {
				t.Fatal("no dividend to miss")
			}
			w.pass(3)
			if got := w.balance(a) - r.Balance; got != c.want(r.Balance, w.s.period.factor) {
				t.Fatalf("changed by %d, want %d", got, c.want(r.Balance, w.s.period.factor))
			}
		})
	}
}

// drain leaves an account with what the next periods take.
func (w *world) drain(id types.AccountID) {
	w.t.Helper()
	all := SendOne{To: admin(id.Node), Amount: w.balance(id) - 2*maintenanceFee}
	all.Amount -= Fee(id, all)
	w.do(id, all)
}

// gone makes an account that is used up and deleted.
func (w *world) gone(name string, node uint16) types.AccountID {
	w.t.Helper()
	id := w.user(name, node, coin)
	w.drain(id)
	for range 24 {
		w.pass(1)
		if len(find[AccountDeleted](w.events)) > 0 {
			return id
		}
	}
	w.t.Fatalf("%s was not deleted: %s left", id, w.balance(id))
	return id
}

func TestDeletion(t *testing.T) {
	w := quick(t, 1)
	g := w.gone("gone", 1)
	if r, _ := w.s.Record(g); r.Status != StatusDeleted || r.deletedAt() != w.s.Height() {
		t.Fatalf("%+v", r)
	}
	w.refuse(CodeBadUser, g, SendOne{To: admin(1)})
	w.refuse(CodeTargetAccount, admin(1), SetAccountStatus{g, 2})
	w.do(admin(1), SendOne{To: g}) // nothing revives nothing
	if r, _ := w.s.Record(g); r.Status != StatusDeleted {
		t.Fatal("revived by no money")
	}
	w.do(admin(1), SendOne{To: g, Amount: coin})
	if r, _ := w.s.Record(g); r.Status != 0 || r.Balance < coin || r.PairedID != 0 {
		t.Fatalf("%+v", r)
	}
	w.do(g, SendOne{To: admin(1), Amount: coin / 2})
	if _, ok := w.s.reusable(w.s.node(1)); ok {
		t.Fatal("a revived account can be given away")
	}
	w.pass(20)
	if r, _ := w.s.Record(g); r.Status != 0 {
		t.Fatal("deleted although it has money")
	}
}

// Who is relied on stays: admins of nodes and of the policy, whoever has leased, issuers and subjects of certificates.
func TestNotDeleted(t *testing.T) {
	g := testGenesis(1)
	g.DividendBlocks, g.Admins = 4, []types.AccountID{admin(1)}
	w := worldOf(t, g)
	issuer, subject, lessor, ruler := w.user("i", 1, coin), w.user("s", 1, coin), w.user("l", 1, coin), w.user("p", 1, coin)
	w.do(issuer, IssueCertificate{Subject: subject, Type: 1, Expires: w.s.Time() + 3})
	w.do(lessor, Lease{Node: 1, Amount: MinLease})
	w.do(admin(1), SetPolicy{Policy: Policy{Version: 1, Admins: []types.AccountID{admin(1), ruler}}})
	for _, id := range []types.AccountID{issuer, subject, lessor, ruler} {
		w.drain(id)
	}
	w.pass(24)
	for _, id := range []types.AccountID{issuer, subject, lessor, ruler} {
		if r, _ := w.s.Record(id); r.Status != 0 {
			t.Errorf("%s was deleted", id)
		}
	}
}

// A number is given away only after its time, and only when nothing is open that may pay there: neither a contract that is older than the
// deletion nor an output that comes from one.
func TestReuse(t *testing.T) {
	w := quick(t, 1)
	a, b := w.user("a", 1, 1000*coin), w.user("b", 1, 1000*coin)
	p := newPair(w, "pair", a, b, 30*coin, 20*coin, 2)
	p.body.ValidUntil += 1000
	p.id = p.body.ID(w.s.Params().Genesis)
	w.do(a, p.open())
	g := w.gone("gone", 1)
	since := w.s.Height()
	left, pool := w.balance(g), types.Amount(0)
	old, _ := w.s.Record(g)
	n := w.s.Accounts(1)
	w.do(admin(1), created("early", 1))
	if w.s.Accounts(1) != n+1 {
		t.Fatal("the number was given away at once")
	}
	for w.s.Height() < since+reusePeriods*4+4 {
		w.mine()
	}
	w.do(a, CreateAccount{Node: 1})
	if w.s.Accounts(1) != n+2 {
		t.Fatal("the number was given away while a contract was open")
	}
	// The contract settles into an output, which is spent into another one: both go back to the contract.
	script := cltvScript(t, secp("owner"), 1)
	w.do(a, p.spend(p.final(toScript(script, 50*coin)), nil))
	c, _ := w.s.Contract(p.id)
	op := OutPoint{c.Settled.TxID, 0}
	tx := claim(t, wirePoint(op), script, 50*coin, toScript(script, 50*coin), 0xfffffffe, 1)
	w.do(a, rawSpend(t, tx, p.id, nil))
	w.do(a, CreateAccount{Node: 1})
	if o, err := w.s.Output(txID(tx), 0); w.s.Accounts(1) != n+3 || err != nil || o.Origin != c.OpenedAt {
		t.Fatalf("the number was given away while an output of the contract was unspent: %+v %v", o, err)
	}
	last := claim(t, wirePoint(OutPoint{txID(tx), 0}), script, 50*coin, toAccount(b, 50*coin), 0xfffffffe, 1)
	w.do(a, rawSpend(t, last, p.id, nil))
	w.pass(1)
	pool = w.s.Pool()
	w.queue(admin(1), CreateAccount{Node: 1, PublicKey: old.PublicKey, Proof: KeyProof(secretOf("gone"))})
	w.mine()
	r, _ := w.s.Record(g)
	if w.s.Accounts(1) != n+3 || r.Status != 0 || r.Msid != 1 || r.Balance != NewAccountDeposit || r.PublicKey != old.PublicKey {
		t.Fatalf("%d accounts, %+v", w.s.Accounts(1), r)
	}
	if r.Hash == old.Hash || r.Hash == initialHash(w.s.Params().Genesis, g, r.PublicKey) {
		t.Fatal("what the old owner signed would fit again")
	}
	if left == 0 || w.s.Pool()-pool < left {
		t.Fatalf("the %d units that were left are not in the pool", left)
	}
	w.pass(1)
}

func wirePoint(p OutPoint) btcwire.OutPoint {
	return btcwire.OutPoint{Hash: [32]byte(p.TxID), Index: p.Index}
}
