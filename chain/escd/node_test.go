package escd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

func TestOwnLedger(t *testing.T) {
	began := time.Now()
	conf := testConfig(t, t.TempDir(), "a")
	var err error
	if conf.ListenRPC, err = freePort("127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	n := start(t, conf)
	ready := time.Since(began)
	if ready > 3*time.Second { // 30-100 ms on a quiet machine
		t.Errorf("ready after %s, want less than a second", ready)
	}
	if head, ok := n.Head(); !ok {
		t.Errorf("head %+v is not fresh right after the start", head)
	}
	if got := n.OwnAccount(); got != admin || got.String() != "0001-00000000-9B6F" {
		t.Errorf("own account %s, want %s", got, admin)
	}
	user := openAccount(t, n, "user")
	before, err := n.Account(user)
	if err != nil {
		t.Fatal(err)
	}
	raw := sendOne(t, n, admin, n.cfg.AccountSecret, user, 5*types.Coin)
	id := submit(t, n, raw)
	submit(t, n, raw) // the same bytes again are harmless
	if done := result(t, n, id); done.Code != ledger.CodeOK || done.Sender != admin {
		t.Errorf("send_one: %+v", done)
	}
	after, err := n.Account(user)
	if err != nil || after.Balance != before.Balance+5*types.Coin {
		t.Errorf("balance %s after %s: %v", after.Balance, before.Balance, err)
	}
	h, _ := n.Head()
	awaitHeight(t, n, h.Height+5)
	blocks := events(t, n, 1, h.Height+5)
	for i, b := range blocks[1:] {
		took := blocks[i+1].Time - blocks[i].Time
		if took < 0 || took > 2 {
			t.Errorf("block %d came %d s after the one before", b.Height, took)
		}
	}
	t.Logf("ready after %s", ready)
	res, err := http.Get("http://" + conf.ListenRPC + fmt.Sprintf("/block?height=%d", h.Height))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if b, err := io.ReadAll(res.Body); err != nil || !bytes.Contains(bytes.ToLower(b), []byte(h.Hash.String())) {
		t.Errorf("CometBFT's RPC: %s, %v", b, err)
	}
}

// TestStop stops both ends of a connection while everything is being asked of them.
func TestStop(t *testing.T) {
	a := start(t, testConfig(t, t.TempDir(), "a"))
	conf := testConfig(t, t.TempDir(), "b")
	conf.Join = a.JoinAddr()
	b := start(t, conf)
	head, _ := b.Head()
	awaitHeight(t, b, head.Height+2)
	for _, n := range []*Node{a, b} {
		var users sync.WaitGroup
		ended := make(chan error, 1)
		users.Go(func() { ended <- n.Blocks(context.Background(), 0, func(ledger.BlockEvents) error { return nil }) })
		for range 4 {
			users.Go(func() {
				for h := types.Height(1); ; h++ {
					if _, err := n.Bundle(h%3 + 1); errors.Is(err, errStopped) {
						return
					}
					n.Submit(context.Background(), []byte{byte(h)})
					n.Head()
				}
			})
		}
		began := time.Now()
		if err := n.Stop(); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("stopped after %s", took)
		}
		users.Wait()
		if err := <-ended; !errors.Is(err, errStopped) {
			t.Errorf("Blocks ended with %v", err)
		}
		if err := n.Submit(context.Background(), []byte{1}); !errors.Is(err, errStopped) {
			t.Errorf("Submit after Stop: %v", err)
		}
		if _, ok := n.Head(); ok {
			t.Error("the view of a stopped node is fresh")
		}
	}
}

func TestConfig(t *testing.T) {
	good := testConfig(t, t.TempDir(), "a")
	for name, change := range map[string]func(*Config){
		"no home":        func(c *Config) { c.Home = "" },
		"no node key":    func(c *Config) { c.LedgerNodeSecret = [32]byte{} },
		"no account key": func(c *Config) { c.AccountSecret = [32]byte{} },
		"block time":     func(c *Config) { c.BlockMillis = 1 },
		"address":        func(c *Config) { c.ListenOffice = "nowhere" },
		"join":           func(c *Config) { c.Join = "nowhere" },
		"join hash":      func(c *Config) { c.Join = "127.0.0.1:1/12" },
		"open":           func(c *Config) { c.OpenAccounts.Total = -1 },
	} {
		c := good
		change(&c)
		if n, err := Start(bounded(t), c); err == nil {
			n.Stop()
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := os.Stat(filepath.Join(good.Home, genesisFile)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a refused configuration left a ledger behind: %v", err)
	}
}

// openAccount has the office create an account for a key named after the user.
func openAccount(t testing.TB, n *Node, name string) types.AccountID {
	t.Helper()
	c := NewClient(n.OfficeAddr())
	defer c.Close()
	key := secret("account " + name)
	id, err := c.CreateAccount(bounded(t), ledger.PublicKey(key), ledger.KeyProof(key))
	if err != nil {
		t.Fatal(err)
	}
	return id
}
