package itest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/eschaton-network/chand/internal/devnet"
)

// TestCopyOfAHomeIsStopped starts a copy of alice's home while alice runs. The copy must find out from bob, sign nothing, and stop with a word
// of what is wrong; alice's channel goes on.
func TestCopyOfAHomeIsStopped(t *testing.T) {
	n := newNetwork(t)
	d := n.joined("alice", "bob")
	alice, bob := d[0], d[1]
	id := n.open(alice, bob, "50", "10")
	if err := alice.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := devnet.CopyHome(alice.Home, alice.Home+"-copy"); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(alice.Home+"-copy", "chand.toml")); err != nil { // its ports are alice's
		t.Fatal(err)
	}
	if err := alice.Restart(n.ctx()); err != nil {
		t.Fatal(err)
	}
	n.pay(alice, bob, "3")
	log := func(name string) string {
		b, err := os.ReadFile(filepath.Join(n.Dir, name, devnet.LogFile))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	copied, err := n.Start(n.ctx(), "alice-copy", "--ledger-join", n.join)
	if err == nil {
		n.until("the copy has stopped", func() bool { return !copied.Running() })
	}
	if log := log("alice-copy"); !strings.Contains(log, "another daemon runs with the seed phrase of this one") {
		t.Errorf("the copy does not say why it stopped: %v\n%s", err, log)
	}
	if log := log("alice"); !strings.Contains(log, "was a copy of its home started?") {
		t.Errorf("alice says nothing of her copy:\n%s", log)
	}
	n.pay(alice, bob, "2")
	n.pay(bob, alice, "1")
	if c := n.channel(bob, id); c.Mine != "14" || c.State != "open" {
		t.Errorf("bob has %s in a channel that is %s, want 14", c.Mine, c.State)
	}
}
