package escd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

// testMillis is the block time in tests.
const testMillis = 60

// limit is how long a test waits for anything before it gives up; nothing takes that long.
const limit = 30 * time.Second

func secret(name string) [32]byte { return types.SHA256([]byte("escd test " + name)) }

func testConfig(t testing.TB, home, name string) Config {
	return Config{Home: home, Moniker: name, BlockMillis: testMillis,
		LedgerNodeSecret: secret("node " + name), AccountSecret: secret("account " + name),
		OpenAccounts: OpenPolicy{Enabled: true}, Logger: slog.New(slog.NewTextHandler(testLog{t}, &slog.HandlerOptions{Level: slog.LevelWarn}))}
}

type testLog struct{ t testing.TB }

func (l testLog) Write(b []byte) (int, error) {
	defer func() { _ = recover() }() // the test has ended
	l.t.Logf("%s", b)
	return len(b), nil
}

func bounded(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	t.Cleanup(cancel)
	return ctx
}

// start runs a node until the test ends.
func start(t testing.TB, c Config) *Node {
	t.Helper()
	n, err := Start(bounded(t), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Stop(); err != nil {
			t.Error("stop:", err)
		}
	})
	return n
}

// await waits at block after block until ok holds.
func await(t testing.TB, n *Node, what string, ok func() bool) {
	t.Helper()
	ctx := bounded(t)
	for {
		_, next := n.app.wait()
		if ok() {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("no %s within %s", what, limit)
		case <-next:
		}
	}
}

func awaitHeight(t testing.TB, n *Node, h types.Height) {
	t.Helper()
	await(t, n, fmt.Sprint("block ", h), func() bool { head, _ := n.Head(); return head.Height >= h })
}

// sendOne signs a transfer from the state as it is now.
func sendOne(t testing.TB, n *Node, from types.AccountID, key [32]byte, to types.AccountID, amount types.Amount) []byte {
	t.Helper()
	a, err := n.Account(from)
	if err != nil {
		t.Fatal(err)
	}
	raw, _ := signSend(t, key, a.Msid, a.Hash, from, to, amount)
	return raw
}

func signSend(t testing.TB, key [32]byte, msid uint32, prev types.Hash, from, to types.AccountID, amount types.Amount) ([]byte, types.Hash) {
	t.Helper()
	raw, next, err := ledger.Sign(key, prev, ledger.Head{From: from, Msid: msid, Time: types.Time(time.Now().Unix())}, ledger.SendOne{To: to, Amount: amount})
	if err != nil {
		t.Fatal(err)
	}
	return raw, next
}

func submit(t testing.TB, n *Node, raw []byte) types.Hash {
	t.Helper()
	if err := n.Submit(bounded(t), raw); err != nil {
		t.Fatal(err)
	}
	return types.SHA256(raw)
}

// result waits for a transaction and returns its TxDone as Blocks reports it.
func result(t testing.TB, n *Node, id types.Hash) ledger.TxDone {
	t.Helper()
	await(t, n, "transaction "+id.String(), func() bool { _, _, err := n.FindTx(id); return err == nil })
	h, _, err := n.FindTx(id)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events(t, n, h, h)[0].Events {
		if done, ok := e.(ledger.TxDone); ok && done.ID == id {
			return done
		}
	}
	t.Fatalf("block %d has no result of %s", h, id)
	return ledger.TxDone{}
}

var errEnough = errors.New("enough")

// events collects what Blocks reports from..to.
func events(t testing.TB, n *Node, from, to types.Height) []ledger.BlockEvents {
	t.Helper()
	var out []ledger.BlockEvents
	err := n.Blocks(bounded(t), from, func(b ledger.BlockEvents) error {
		if want := from + types.Height(len(out)); b.Height != want {
			t.Fatalf("Blocks reported block %d, want %d", b.Height, want)
		}
		out = append(out, b)
		if b.Height >= to {
			return errEnough
		}
		return nil
	})
	if !errors.Is(err, errEnough) {
		t.Fatal(err)
	}
	return out
}

var admin = types.AccountID{Node: 1}
