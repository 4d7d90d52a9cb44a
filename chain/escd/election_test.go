package escd

import (
	"slices"
	"testing"
	"time"

	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

// TestSyncOverElections: stake makes other nodes the validators, so that in the end none of the genesis is left. A fresh node that finds
// the first blocks nowhere is led from the genesis over those elections to a snapshot.
func TestSyncOverElections(t *testing.T) {
	confs := severalBy(t, func(g *ledger.Genesis) { g.BlockMillis, g.DividendBlocks, g.VIPMax = testMillis, 20, 1 }, "a", "b", "c")
	var nodes []*Node
	for i := range confs {
		confs[i].snapshotBlocks, confs[i].KeepBlocks = 10, 20
		nodes = append(nodes, start(t, confs[i]))
	}
	a := nodes[0]
	elected := func(n *Node) []uint16 {
		n.app.mu.RLock()
		defer n.app.mu.RUnlock()
		var ids []uint16
		for _, v := range n.app.state.Validators() {
			ids = append(ids, v.Node)
		}
		return ids
	}
	if got := elected(a); !slices.Equal(got, []uint16{1}) {
		t.Fatalf("%v validate at genesis, want node 1", got)
	}
	var last types.Height
	for k, node := range []uint16{2, 3} {
		from := types.AccountID{Node: 1}
		acc, err := a.Account(from)
		if err != nil {
			t.Fatal(err)
		}
		raw, _, err := ledger.Sign(confs[0].AccountSecret, acc.Hash, ledger.Head{From: from, Msid: acc.Msid, Time: types.Time(time.Now().Unix())},
			ledger.Lease{Node: node, Amount: types.Amount(1000*(k+1)) * types.Coin})
		if err != nil {
			t.Fatal(err)
		}
		if done := result(t, a, submit(t, a, raw)); done.Code != ledger.CodeOK {
			t.Fatalf("%+v", done)
		}
		for _, n := range nodes {
			await(t, n, "election", func() bool { return slices.Equal(elected(n), []uint16{node}) })
		}
		head, _ := a.app.wait()
		last = head.Height
	}
	await(t, a, "pruned block", func() bool {
		first, err := a.app.journal.first()
		return err == nil && first > last+2
	})
	conf := testConfig(t, t.TempDir(), "d")
	conf.Join, conf.KeepBlocks = a.JoinAddr(), 10_000
	d := start(t, conf)
	awaitFresh(t, d)
	sameStates(t, a, d)
	if first, err := d.app.journal.first(); err != nil || first <= last {
		t.Errorf("the first block kept is %d, %v; the last election was before block %d", first, err, last)
	}
	if got := elected(d); slices.Contains(got, 1) {
		t.Errorf("%v validate, want others than those of the genesis", got)
	}
}
