package escd

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

// several makes the configurations of the validators of one ledger, each with the genesis document in a file and all offices as
// peers, its own among them.
func several(t testing.TB, names ...string) []Config {
	t.Helper()
	return severalEvery(t, testMillis, names...)
}

// severalEvery is several with a block time.
func severalEvery(t testing.TB, millis uint32, names ...string) []Config {
	t.Helper()
	return severalBy(t, func(g *ledger.Genesis) { g.BlockMillis = millis }, names...)
}

// severalBy is several with a change of the genesis.
func severalBy(t testing.TB, change func(g *ledger.Genesis), names ...string) []Config {
	t.Helper()
	g := ledger.Genesis{ChainID: "several", Time: types.Time(time.Now().Unix())}
	change(&g)
	var all []Config
	var offices []string
	for _, name := range names {
		c := testConfig(t, t.TempDir(), name)
		var err error
		if c.ListenOffice, err = freePort("127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		g.Nodes = append(g.Nodes, ledger.GenesisNode{PublicKey: ledger.PublicKey(c.LedgerNodeSecret), Account0: ledger.PublicKey(c.AccountSecret)})
		offices, all = append(offices, c.ListenOffice), append(all, c)
	}
	doc, err := g.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "genesis.json")
	if err := os.WriteFile(file, doc, 0o600); err != nil {
		t.Fatal(err)
	}
	for i := range all {
		all[i].GenesisFile, all[i].Peers = file, offices
	}
	return all
}

func stop(t testing.TB, n *Node) {
	t.Helper()
	if err := n.Stop(); err != nil {
		t.Fatal(err)
	}
}

func stale(t testing.TB, n *Node) {
	t.Helper()
	for ctx := bounded(t); ; { // staleness is a matter of time: no event announces it
		if _, ok := n.Head(); !ok {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatal("the view stays fresh without blocks")
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// TestValidatorsAndFreshness: a validator among several knows that its view is stale when the others are missing, and that it is behind
// when they went on without it.
func TestValidatorsAndFreshness(t *testing.T) {
	confs := several(t, "v1", "v2", "v3", "v4")
	nodes := make([]*Node, len(confs))
	for i, c := range confs[:2] {
		nodes[i] = start(t, c)
		if head, ok := nodes[i].Head(); ok || head.Height != 0 {
			t.Errorf("%s is fresh at block %d, two of four can't make one", c.Moniker, head.Height)
		}
		if nodes[i].Following() {
			t.Errorf("%s says that it follows", c.Moniker)
		}
	}
	nodes[2] = start(t, confs[2])
	for i, n := range nodes[:3] {
		awaitHeight(t, n, 5)
		awaitFresh(t, n)
		if want := (types.AccountID{Node: uint16(i + 1)}); n.OwnAccount() != want {
			t.Errorf("own account %s, want %s", n.OwnAccount(), want)
		}
	}
	id := submit(t, nodes[1], sendOne(t, nodes[1], types.AccountID{Node: 2}, confs[1].AccountSecret, admin, types.Coin))
	if done := result(t, nodes[0], id); done.Code != ledger.CodeOK {
		t.Errorf("another validator's transaction: %+v", done)
	}

	stop(t, nodes[2])
	stale(t, nodes[0])
	head, _ := nodes[0].Head()
	nodes[3] = start(t, confs[3]) // it has never seen a block: the offices have them
	awaitHeight(t, nodes[3], head.Height+3)
	awaitFresh(t, nodes[0])
	nodes[2] = start(t, confs[2])
	if got, ok := nodes[2].Head(); ok && got.Height < head.Height {
		t.Errorf("fresh at block %d, the others are beyond %d", got.Height, head.Height)
	}
	awaitFresh(t, nodes[2])
	now, _ := nodes[2].Head()
	for _, n := range nodes {
		awaitHeight(t, n, now.Height)
		ours, theirs := events(t, n, 1, now.Height), events(t, nodes[0], 1, now.Height)
		for i := range ours {
			if ours[i].BlockInfo != theirs[i].BlockInfo {
				t.Fatalf("%s has %+v, %s has %+v", n.cfg.Moniker, ours[i].BlockInfo, nodes[0].cfg.Moniker, theirs[i].BlockInfo)
			}
		}
	}
}

// TestOnlyP2PAddresses: nodes that are given no office find the blocks that they lack through consensus.
func TestOnlyP2PAddresses(t *testing.T) {
	confs := several(t, "p1", "p2", "p3", "p4")
	var addrs []string
	for i := range confs {
		var err error
		if confs[i].ListenP2P, err = freePort("127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		addrs = append(addrs, fmt.Sprintf("%s@%s", nodeKey(confs[i].LedgerNodeSecret).ID(), confs[i].ListenP2P))
	}
	var nodes []*Node
	for _, c := range confs[:3] {
		c.Peers = addrs
		nodes = append(nodes, start(t, c))
	}
	awaitHeight(t, nodes[0], 8)
	last := confs[3]
	last.Peers = addrs
	n := start(t, last)
	awaitHeight(t, n, 10)
	awaitFresh(t, n)
	if b, p := events(t, n, 1, 8)[7], events(t, nodes[0], 8, 8)[0]; b.BlockInfo != p.BlockInfo {
		t.Errorf("block 8: %+v and %+v", b.BlockInfo, p.BlockInfo)
	}
}

// TestGenesisFile: a document is pinned at the first start; another one later, or one without us and without peers, is refused.
func TestGenesisFile(t *testing.T) {
	c := several(t, "only")[0]
	n := start(t, c)
	awaitHeight(t, n, 2) // alone, with its own address as a peer
	if n.Following() {
		t.Error("the only validator says that it follows")
	}
	hash := n.trust.Genesis
	stop(t, n)
	pinned := c.GenesisFile
	other := several(t, "other")[0]
	c.GenesisFile = other.GenesisFile
	if _, err := Start(bounded(t), c); err == nil || !strings.Contains(err.Error(), "use another home") {
		t.Errorf("another document than the one pinned: %v", err)
	}
	c.GenesisFile = filepath.Join(t.TempDir(), "gone")
	n = start(t, c)
	if n.trust.Genesis != hash {
		t.Errorf("ledger %s, want %s", n.trust.Genesis, hash)
	}
	stop(t, n)

	stranger := testConfig(t, t.TempDir(), "stranger")
	stranger.GenesisFile = pinned
	if _, err := Start(bounded(t), stranger); err == nil || !strings.Contains(err.Error(), "none of its nodes has our ledger node key") {
		t.Errorf("a ledger that is not ours and no peers: %v", err)
	}
	stranger.GenesisFile, stranger.Peers = "", []string{c.ListenOffice}
	if _, err := Start(bounded(t), stranger); err == nil || !strings.Contains(err.Error(), "neither a genesis document nor a daemon to join") {
		t.Errorf("peers without a document: %v", err)
	}
	stranger.GenesisFile, stranger.Peers = filepath.Join(t.TempDir(), "gone"), nil
	if _, err := Start(bounded(t), stranger); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("a document that is not there: %v", err)
	}
	for _, bad := range []string{"nowhere", ":1", "1.2.3.4:", "xx@127.0.0.1:1", "@127.0.0.1:1"} {
		if CheckPeer(bad) == nil {
			t.Errorf("peer %q: accepted", bad)
		}
	}
}
