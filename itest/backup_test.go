package itest

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/eschaton-network/chand/internal/devnet"
	chandv1 "github.com/eschaton-network/chand/rpc/gen/chand/v1"
)

// TestRestore takes bob's disk away. All that is left are his seed phrase, and either the file that his daemon wrote, or one peer. The channels go
// on without being closed, with everything that was paid.
func TestRestore(t *testing.T) {
	for _, from := range []string{"file", "peer"} {
		t.Run(from, func(t *testing.T) {
			n := newNetwork(t)
			d := n.joined("alice", "carol")
			alice, carol := d[0], d[1]
			file := filepath.Join(t.TempDir(), "backup")
			bob := n.start("bob", "--ledger-join", n.join, "--backup-file", file)
			ab := n.open(alice, bob, "50", "0")
			n.pay(alice, bob, "10")
			bc := n.open(carol, bob, "20", "0")
			n.pay(alice, bob, "5")
			n.until("bob's copies are there", func() bool {
				s := must(bob.Backups.Status(n.ctx(), &chandv1.BackupStatusRequest{}))
				return len(s.Keepers) == 2 && s.Keepers[0].Problem == "" && s.Keepers[1].Problem == "" && s.FileBehind == 0 && s.FileProblem == ""
			})
			n.pay(carol, bob, "1") // after the peers' copies
			n.pay(bob, alice, "2")
			seed, err := os.ReadFile(filepath.Join(bob.Home, "seed.txt"))
			if err != nil {
				t.Fatal(err)
			}
			if err := bob.Kill(); err != nil {
				t.Fatal(err)
			}
			if err := os.RemoveAll(bob.Home); err != nil {
				t.Fatal(err)
			}
			words := filepath.Join(t.TempDir(), "words")
			if err := os.WriteFile(words, seed, 0o600); err != nil {
				t.Fatal(err)
			}
			args := []string{"backup", "restore", "--seed-file", words, "--to", filepath.Join(n.Dir, "bob2")}
			if from == "peer" {
				args = append(args, "--peer", must(carol.Peers.Self(n.ctx(), &chandv1.SelfRequest{})).Addresses[0])
			} else {
				out := n.cli(t, "backup", "verify", file, "--seed-file", words)
				var sum struct{ Channels int }
				if err := json.Unmarshal(out, &sum); err != nil || sum.Channels != 2 {
					t.Errorf("verify says %s: %v", out, err)
				}
				args = append(args, file)
			}
			n.cli(t, args...)
			bob = n.start("bob2", "--ledger-join", n.join)
			for _, peer := range []*devnet.Node{alice, carol} {
				must(bob.Peers.Connect(n.ctx(), &chandv1.ConnectRequest{Address: must(peer.Peers.Self(n.ctx(), &chandv1.SelfRequest{})).Addresses[0]}))
			}
			n.state(bob, ab, "open")
			n.until("bob's channels are ready", func() bool {
				return n.channel(bob, ab).CanSend != "0" && n.channel(bob, bc).PeerConnected && n.channel(bob, ab).PeerConnected
			})
			n.until("bob has what he was paid", func() bool { return n.channel(bob, ab).Mine == "13" && n.channel(bob, bc).Mine == "1" })
			n.pay(alice, bob, "1")
			n.pay(bob, carol, "0.5")
			if c := n.channel(bob, ab); c.State != "open" || c.Mine != "14" {
				t.Errorf("bob has %s in a channel that is %s, want 14", c.Mine, c.State)
			}
		})
	}
}

// cli runs chancli and wants it to succeed.
func (n *network) cli(t *testing.T, args ...string) []byte {
	t.Helper()
	out, err := exec.CommandContext(n.ctx(), filepath.Join(filepath.Dir(program), "chancli"), args...).CombinedOutput()
	if err != nil {
		t.Fatalf("chancli %q: %v\n%s", args, err, out)
	}
	return out
}
