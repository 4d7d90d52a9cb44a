package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/eschaton-network/chand/ledger"
)

func options(validators int, given ...string) netOptions {
	return netOptions{validators: validators, blockTime: time.Second, given: func(flag string) bool { return strings.Contains(strings.Join(given, " "), flag) }}
}

func readNet(t *testing.T, dir string) ledger.Genesis {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, netGenesis))
	if err != nil {
		t.Fatal(err)
	}
	g, err := ledger.ParseGenesis(raw)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// A network's document holds the homes' own keys; an operator's parameters are kept; each home knows the others and has ports of its own.
func TestMakeNetwork(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	dir := t.TempDir()
	template := filepath.Join(t.TempDir(), "params.json")
	if err := os.WriteFile(template, []byte(`{"block_millis": 500, "vip_max": 7, "chain_id": "mine"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	o := options(3)
	o.genesis, o.settings = template, []string{"--log-level", "warn"}
	if err := makeNetwork(dir, o); err != nil {
		t.Fatal(err)
	}
	g := readNet(t, dir)
	if g.BlockMillis != 500 || g.VIPMax != 7 || g.ChainID != "mine" || len(g.Nodes) != 3 || g.Time == 0 {
		t.Errorf("document %+v", g)
	}
	names, err := nodeNames(dir)
	if err != nil || len(names) != 3 {
		t.Fatalf("nodes %q, %v", names, err)
	}
	offices, ports := map[string]bool{}, map[string]bool{}
	var all []*Config
	for i, name := range names {
		home := filepath.Join(dir, name)
		seed, created, err := loadSeed(home)
		if err != nil || created {
			t.Fatal(created, err)
		}
		if n := g.Nodes[i]; n.PublicKey != ledger.PublicKey(seed.LedgerNodeSecret()) || n.Account0 != ledger.PublicKey(seed.AccountSecret()) {
			t.Errorf("%s: node %+v is not that of its seed", name, n)
		}
		c, err := load(t, home, nil)
		if err != nil {
			t.Fatal(err)
		}
		if c.LogLevel != "warn" || c.LedgerGenesis != filepath.Join(dir, netGenesis) || len(c.LedgerPeers) != 2 {
			t.Errorf("%s: %+v", name, c)
		}
		for _, p := range []string{c.RPCListen, c.PeerListen, c.GatewayListen, c.LedgerOffice, c.LedgerP2P} {
			if ports[p] {
				t.Errorf("%s: %s is given twice", name, p)
			}
			ports[p] = true
		}
		offices[c.LedgerOffice] = true
		all = append(all, c)
	}
	for _, c := range all {
		for _, p := range c.LedgerPeers {
			if !offices[p] || p == c.LedgerOffice {
				t.Errorf("%s has the peer %s, which is no other node's office", c.Home, p)
			}
		}
	}

	// Interrupted before the document was there: the seeds stay, and the rest is made again.
	if err := os.Remove(filepath.Join(dir, netGenesis)); err != nil {
		t.Fatal(err)
	}
	if err := makeNetwork(dir, o); err != nil {
		t.Fatal(err)
	}
	if again := readNet(t, dir); again.Nodes[2] != g.Nodes[2] {
		t.Error("the keys have changed")
	}
	if err := options(3, "validators").checkAgain(dir); err != nil {
		t.Error(err)
	}
	for _, given := range []string{"genesis", "block-time"} {
		if err := options(3, given).checkAgain(dir); err == nil {
			t.Errorf("--%s was taken for a network that exists", given)
		}
	}
	if err := options(4, "validators").checkAgain(dir); err == nil {
		t.Error("another number of validators was taken for a network that exists")
	}
}

func TestMakeNetworkRefused(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	foreign := filepath.Join(t.TempDir(), "foreign.json")
	other := t.TempDir()
	if err := makeNetwork(other, options(1)); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(other, netGenesis))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(foreign, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	used := t.TempDir()
	if err := os.MkdirAll(filepath.Join(used, "node1", "ledger"), 0o700); err != nil {
		t.Fatal(err)
	}
	for want, c := range map[string]struct {
		dir     string
		options func(*netOptions)
	}{
		"want 1 to 64":               {t.TempDir(), func(o *netOptions) { o.validators = 65 }},
		"no such file":               {t.TempDir(), func(o *netOptions) { o.genesis = foreign + ".not" }},
		"none of the homes":          {t.TempDir(), func(o *netOptions) { o.genesis = foreign }},
		"want 50ms or more":          {t.TempDir(), func(o *netOptions) { o.blockTime = time.Millisecond }},
		"unknown flag":               {t.TempDir(), func(o *netOptions) { o.settings = []string{"--nonsense"} }},
		"is no flag of chand":        {t.TempDir(), func(o *netOptions) { o.settings = []string{"nonsense"} }},
		"is not for all nodes alike": {t.TempDir(), func(o *netOptions) { o.settings = []string{"--ledger-block-time", "2s"} }},
		"is in use, but":             {used, func(*netOptions) {}},
	} {
		o := options(1)
		c.options(&o)
		if err := makeNetwork(c.dir, o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want a refusal with %q: %v", want, err)
		}
		if _, err := os.Stat(filepath.Join(c.dir, netGenesis)); err == nil {
			t.Errorf("%q: a network was made all the same", want)
		}
	}
}
