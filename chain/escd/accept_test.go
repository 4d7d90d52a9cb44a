package escd

import (
	"fmt"
	"testing"

	"github.com/eschaton-network/chand/esc"
	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

// createOn asks on n, with the admin's account, for an account on a node, and returns the transaction's id.
func createOn(t *testing.T, n *Node, key [32]byte, node uint16, names ...string) (ids []types.Hash) {
	t.Helper()
	a, err := n.Account(admin)
	if err != nil {
		t.Fatal(err)
	}
	prev := a.Hash
	for i, name := range names {
		raw, next, err := ledger.Sign(key, prev, ledger.Head{From: admin, Msid: a.Msid + uint32(i), Time: types.Time(0)},
			ledger.CreateAccount{Node: node, PublicKey: ledger.PublicKey(secret(name)), Proof: ledger.KeyProof(secret(name))})
		if err != nil {
			t.Fatal(err)
		}
		prev, ids = next, append(ids, submit(t, n, raw))
	}
	return ids
}

// awaitAccountOf waits on n for the account of a name, which must be on a node, with the deposit.
func awaitAccountOf(t *testing.T, n *Node, name string, node uint16) types.AccountID {
	t.Helper()
	var id types.AccountID
	await(t, n, "account of "+name, func() (ok bool) {
		var err error
		if id, ok, err = n.AccountOf(ledger.PublicKey(secret(name))); err != nil {
			t.Fatal(err)
		}
		return ok
	})
	if a, err := n.Account(id); err != nil || id.Node != node || a.Balance != ledger.NewAccountDeposit {
		t.Errorf("%s has %s: %+v, %v; want an account of node %d with %d units", name, id, a, err, node, ledger.NewAccountDeposit)
	}
	return id
}

// acceptances counts what became of a node's acceptances, by their state.
func acceptances(t *testing.T, n *Node) map[ledger.RequestState]int {
	t.Helper()
	head, _ := n.Head()
	count := map[ledger.RequestState]int{}
	for _, b := range events(t, n, 1, head.Height) {
		for _, e := range b.Events {
			if e, ok := e.(ledger.AccountRequested); ok {
				count[e.State]++
			}
		}
	}
	return count
}

// TestRemoteAccounts: the office of a node accepts what accounts of other nodes ask for, each once.
func TestRemoteAccounts(t *testing.T) {
	confs := several(t, "a", "b")
	a, b := start(t, confs[0]), start(t, confs[1])
	awaitHeight(t, a, 2)
	var names []string
	for i := range 5 {
		names = append(names, fmt.Sprint("remote ", i))
	}
	ids := createOn(t, a, confs[0].AccountSecret, 2, names...)
	// The client of the original chain gets an answer with the request's block, without an account.
	v := view[esc.OutcomeView](t, a, "/v1/esc/outcomes/"+ids[0].String()+"?wait=1&created=1")
	if v.Height == 0 || v.Code != ledger.CodeOK || v.Created != nil {
		t.Errorf("outcome %+v", v)
	}
	for _, name := range names {
		id := awaitAccountOf(t, a, name, 2)
		awaitAccountOf(t, b, name, 2)
		pay := submit(t, a, sendOne(t, a, id, secret(name), admin, 1)) // by way of the office of b
		if done := result(t, b, pay); done.Code != ledger.CodeOK || done.Place.Node != 2 {
			t.Errorf("the new account's first transaction: %+v", done)
		}
	}
	if got := acceptances(t, a); got[ledger.RequestAccepted] != len(names) || got[ledger.RequestLate] != 0 || got[ledger.RequestFailed] != 0 {
		t.Errorf("acceptances by their state: %v", got)
	}
}

// TestAcceptRestart: what an office has accepted in a message that no block has is not accepted once more after a restart.
func TestAcceptRestart(t *testing.T) {
	confs := severalEvery(t, 1500, "a", "b")
	a, b := start(t, confs[0]), start(t, confs[1])
	awaitHeight(t, a, 1)
	createOn(t, a, confs[0].AccountSecret, 2, "remote")
	// open is what waits on the ledger, left what of it is in no message.
	count := func(n *Node) (open, left int) {
		d := n.desk()
		d.app.mu.Lock()
		defer d.app.mu.Unlock()
		return len(d.app.state.Requests(2)), len(d.pool.Requests(maxAccepts))
	}
	await(t, b, "request", func() bool {
		_, got, err := b.AccountOf(ledger.PublicKey(secret("remote"))) // on a machine that stood still it may be accepted by now
		open, _ := count(b)
		return open == 1 || got && err == nil
	})
	b.desk().accept()
	if open, left := count(b); left != 0 {
		t.Fatalf("%d of %d requests are in no message", left, open)
	}
	stop(t, b)
	b = start(t, confs[1])
	awaitAccountOf(t, b, "remote", 2)
	head, _ := b.Head()
	awaitHeight(t, b, head.Height+2)
	if got := acceptances(t, b); got[ledger.RequestAccepted] != 1 || got[ledger.RequestLate] != 0 {
		t.Errorf("acceptances by their state: %v", got)
	}
}

// TestNodeWhileRunning: a daemon whose key becomes that of a new node opens its office then.
func TestNodeWhileRunning(t *testing.T) {
	a := start(t, testConfig(t, t.TempDir(), "a"))
	conf := testConfig(t, t.TempDir(), "b")
	conf.Join, conf.LedgerNodeSecret = a.JoinAddr(), conf.AccountSecret // a node gets the key of the account that makes it
	b := start(t, conf)
	own, err := b.WaitOwnAccount(bounded(t))
	if err != nil {
		t.Fatal(err)
	}
	if b.desk() != nil {
		t.Fatal("an office without a node")
	}
	id := submit(t, a, sendOne(t, a, admin, a.cfg.AccountSecret, own, 2*ledger.NewNodeDeposit))
	if done := result(t, b, id); done.Code != ledger.CodeOK {
		t.Fatalf("%+v", done)
	}
	acc, err := b.Account(own)
	if err != nil {
		t.Fatal(err)
	}
	raw, _, err := ledger.Sign(conf.AccountSecret, acc.Hash, ledger.Head{From: own, Msid: acc.Msid}, ledger.CreateNode{})
	if err != nil {
		t.Fatal(err)
	}
	if done := result(t, b, submit(t, b, raw)); done.Code != ledger.CodeOK {
		t.Fatalf("%+v", done)
	}
	await(t, b, "office", func() bool { return b.desk() != nil })
	account0 := types.AccountID{Node: 2}
	id = submit(t, b, sendOne(t, b, account0, conf.AccountSecret, admin, 1))
	if done := result(t, a, id); done.Code != ledger.CodeOK || done.Place.Node != 2 {
		t.Errorf("a transaction of the new node: %+v", done)
	}
	createOn(t, a, a.cfg.AccountSecret, 2, "remote")
	awaitAccountOf(t, a, "remote", 2)
}
