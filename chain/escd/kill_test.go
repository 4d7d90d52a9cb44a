package escd

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

// What the process that is killed gets: its home, and what it joins (empty: a ledger of its own).
const (
	childHome = "ESCD_TEST_CHILD_HOME"
	childJoin = "ESCD_TEST_CHILD_JOIN"
	childKeep = "ESCD_TEST_CHILD_KEEP" // blocks
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childOpens); dir != "" {
		fmt.Println("FAILED", openMany(dir))
		os.Exit(1)
	}
	if home := os.Getenv(childHome); home != "" && os.Getenv(childLoad) != "" {
		fmt.Println("FAILED", load(home))
		os.Exit(1)
	} else if home != "" {
		fmt.Println("FAILED", child(home, os.Getenv(childJoin)))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// victim is the configuration of the process that is killed.
func victim(t testing.TB, home string) Config {
	c := testConfig(t, home, "victim")
	c.BlockMillis = minBlockMillis
	c.snapshotBlocks = 15
	return c
}

// child runs a node that sends one unit after the other to itself, and prints each block as it was reported.
func child(home, join string) error {
	c := victim(nil, home)
	c.Join = join
	c.Logger = nil
	if keep, err := strconv.Atoi(os.Getenv(childKeep)); err == nil {
		c.KeepBlocks = types.Height(keep)
	}
	n, err := Start(context.Background(), c)
	if err != nil {
		return err
	}
	if join == "" {
		if err := childSend(n); err != nil {
			return err
		}
	}
	from := types.Height(1)
	if c.KeepBlocks > 0 { // the first ones are not there
		from = 0
	}
	return n.Blocks(context.Background(), from, func(b ledger.BlockEvents) error {
		fmt.Println(line(b))
		if join == "" && b.Height > 1 && len(b.Events) > 0 {
			return childSend(n)
		}
		return nil
	})
}

func childSend(n *Node) error {
	a, err := n.Account(admin)
	if err != nil {
		return err
	}
	raw, _, err := ledger.Sign(n.cfg.AccountSecret, a.Hash, ledger.Head{From: admin, Msid: a.Msid}, ledger.SendOne{To: admin, Amount: 1})
	if err != nil {
		return err
	}
	err = n.Submit(context.Background(), raw)
	if r, ok := err.(*ledger.Refusal); ok && (r.Code == ledger.CodePending || r.Code == ledger.CodeMsid) {
		return nil // an old block is being reported; a later one sends on
	}
	return err
}

func line(b ledger.BlockEvents) string {
	return fmt.Sprintf("BLOCK %d %d %s %s %+v", b.Height, b.Time, b.Hash, b.AppHash, b.Events)
}

// TestKill kills the process at a block, several times: before the first snapshot, at one, between two.
func TestKill(t *testing.T) {
	home := t.TempDir()
	printed := map[types.Height]string{}
	var highest types.Height
	for _, until := range []types.Height{4, 15, 37, 46} {
		highest = killAt(t, home, "", until, printed)
	}
	n := start(t, victim(t, home))
	if head, _ := n.Head(); head.Height < highest {
		t.Fatalf("block %d is gone, the state is at %d", highest, head.Height)
	}
	for _, b := range events(t, n, 1, highest) {
		if was := printed[b.Height]; was != "" && was != line(b) {
			t.Errorf("before: %s\nafter:  %s", was, line(b))
		}
	}
	a, err := n.Account(admin)
	if err != nil || a.Msid < 10 {
		t.Errorf("account %+v, %v: want some transactions", a, err)
	}
	n.app.mu.Lock()
	err = n.app.state.Verify()
	n.app.mu.Unlock()
	if err != nil {
		t.Error(err)
	}
	head, _ := n.Head()
	awaitHeight(t, n, head.Height+2) // CometBFT compares its AppHash with ours at each
	if err := n.Stop(); err != nil {
		t.Fatal(err)
	}
	snaps, err := filepath.Glob(filepath.Join(home, dataDir, snapshotDir, "*"+snapshotExt))
	if err != nil || len(snaps) == 0 {
		t.Fatal("no snapshots", err)
	}
	for _, s := range snaps { // all blocks again from the genesis
		if err := os.Truncate(s, 100); err != nil {
			t.Fatal(err)
		}
	}
	m := start(t, victim(t, home))
	again, err := m.Account(admin)
	if err != nil || again.Msid < a.Msid {
		t.Errorf("account after a full replay %+v, %v", again, err)
	}
	for _, b := range events(t, m, 1, highest) {
		if was := printed[b.Height]; was != "" && was != line(b) {
			t.Errorf("before: %s\nafter a full replay: %s", was, line(b))
		}
	}
}

// killAt runs the child until it reports a block at or beyond until, kills it and returns the highest it reported.
func killAt(t *testing.T, home, join string, until types.Height, printed map[types.Height]string) (highest types.Height) {
	t.Helper()
	cmd := exec.CommandContext(bounded(t), os.Args[0])
	cmd.Env = append(os.Environ(), childHome+"="+home, childJoin+"="+join)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	killed := false
	for lines.Scan() {
		text := lines.Text()
		var h types.Height
		if _, err := fmt.Sscanf(text, "BLOCK %d", &h); err != nil || strings.HasPrefix(text, "FAILED") {
			t.Fatalf("child: %s", text)
		}
		if was, ok := printed[h]; ok && was != text {
			t.Errorf("before: %s\nafter:  %s", was, text)
		}
		printed[h], highest = text, max(highest, h)
		if h >= until && !killed {
			killed = true
			cmd.Process.Kill() // what it printed meanwhile is read on
		}
	}
	cmd.Wait()
	if !killed {
		t.Fatalf("the child ended by itself at block %d", highest)
	}
	return highest
}

func TestKillFollower(t *testing.T) {
	a := start(t, testConfig(t, t.TempDir(), "a"))
	home := t.TempDir()
	printed := map[types.Height]string{}
	var highest types.Height
	for range 3 {
		head, _ := a.Head()
		highest = killAt(t, home, a.JoinAddr(), head.Height+7, printed)
		user := openAccount(t, a, fmt.Sprint("user ", highest)) // something happens while it is dead
		result(t, a, submit(t, a, sendOne(t, a, admin, a.cfg.AccountSecret, user, types.Coin)))
	}
	conf := victim(t, home)
	conf.Join = a.JoinAddr()
	b := start(t, conf)
	head, _ := a.Head()
	awaitHeight(t, b, head.Height)
	theirs, ours := events(t, a, 1, head.Height), events(t, b, 1, head.Height)
	for i := range theirs {
		if was := printed[theirs[i].Height]; was != "" && was != line(theirs[i]) || line(ours[i]) != line(theirs[i]) {
			t.Errorf("validator: %s\nfollower:  %s\nbefore:    %s", line(theirs[i]), line(ours[i]), was)
		}
	}
}
