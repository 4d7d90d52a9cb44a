package escd

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	cmt "github.com/cometbft/cometbft/types"

	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

// awaitFresh waits until a follower says that it is up to date.
func awaitFresh(t testing.TB, n *Node) {
	t.Helper()
	await(t, n, "fresh view", func() bool { _, ok := n.Head(); return ok })
}

func TestFollower(t *testing.T) {
	a := start(t, testConfig(t, t.TempDir(), "a"))
	awaitHeight(t, a, 20)
	conf := testConfig(t, t.TempDir(), "b")
	conf.Join = a.JoinAddr()
	began := time.Now()
	b := start(t, conf)
	ready := time.Since(began)
	awaitFresh(t, b)
	head, _ := b.Head()
	if head.Height < 20 {
		t.Errorf("fresh at block %d, the ledger is at 20 at least", head.Height)
	}
	awaitHeight(t, b, head.Height+1)
	first := time.Since(began)
	awaitHeight(t, b, head.Height+3)
	t.Logf("joined with %d blocks in %s; next block seen after %s", head.Height, ready, first)

	own, err := b.WaitOwnAccount(bounded(t))
	if err != nil || own != (types.AccountID{Node: 1, User: 1}) {
		t.Fatalf("own account %s, %v", own, err)
	}
	id := submit(t, a, sendOne(t, a, admin, a.cfg.AccountSecret, own, 10*types.Coin))
	if done := result(t, b, id); done.Code != ledger.CodeOK {
		t.Fatalf("%+v", done)
	}
	id = submit(t, b, sendOne(t, b, own, b.cfg.AccountSecret, admin, types.Coin))
	if done := result(t, a, id); done.Code != ledger.CodeOK {
		t.Errorf("the follower's transaction: %+v", done)
	}
	h, _, err := a.FindTx(id)
	if err != nil {
		t.Fatal(err)
	}
	awaitHeight(t, b, h)
	theirs, ours := events(t, a, 1, h), events(t, b, 1, h)
	for i := range theirs {
		if theirs[i].BlockInfo != ours[i].BlockInfo || len(theirs[i].Events) != len(ours[i].Events) {
			t.Fatalf("block %d differs: %+v and %+v", i+1, theirs[i], ours[i])
		}
	}
	if p, q := a.Params(), b.Params(); p != q {
		t.Errorf("params %+v and %+v", p, q)
	}
}

// TestReconnect: the ledger's daemon goes away and comes back with another p2p port; the follower says so and follows again.
func TestReconnect(t *testing.T) {
	home := t.TempDir()
	a := start(t, testConfig(t, home, "a"))
	conf := testConfig(t, t.TempDir(), "b")
	conf.Join = a.JoinAddr()
	b := start(t, conf)
	if _, err := b.WaitOwnAccount(bounded(t)); err != nil {
		t.Fatal(err)
	}
	awaitFresh(t, b)
	office := a.OfficeAddr()
	if err := a.Stop(); err != nil {
		t.Fatal(err)
	}
	for ctx := bounded(t); ; { // staleness is a matter of time: no event announces it
		if _, ok := b.Head(); !ok {
			break
		}
		select {
		case <-ctx.Done():
			t.Fatal("the view stays fresh without a ledger")
		case <-time.After(20 * time.Millisecond):
		}
	}
	// What is submitted now arrives when the ledger is back.
	own := b.OwnAccount()
	id := submit(t, b, sendOne(t, b, own, b.cfg.AccountSecret, admin, 1))
	again := testConfig(t, home, "a")
	again.ListenOffice = office
	a = start(t, again)
	if done := result(t, b, id); done.Code != ledger.CodeOK {
		t.Errorf("%+v", done)
	}
	if err := a.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := b.Stop(); err != nil {
		t.Fatal(err)
	}
	b = start(t, conf) // starts while the ledger is down
	if _, ok := b.Head(); ok {
		t.Error("fresh without a ledger")
	}
	if b.OwnAccount().IsZero() {
		t.Error("the account was forgotten")
	}
	a = start(t, again)
	head, _ := a.Head()
	awaitHeight(t, b, head.Height+2)
	awaitFresh(t, b)
}

func TestWrongGenesis(t *testing.T) {
	a := start(t, testConfig(t, t.TempDir(), "a"))
	other := start(t, testConfig(t, t.TempDir(), "other"))
	home := t.TempDir()
	conf := testConfig(t, home, "b")

	conf.Join = a.OfficeAddr() + "/" + other.trust.Genesis.String()
	if _, err := Start(bounded(t), conf); err == nil || !strings.Contains(err.Error(), "nothing was stored") {
		t.Errorf("another hash than asked for: %v", err)
	}
	if _, err := os.Stat(filepath.Join(home, genesisFile)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a genesis document was stored: %v", err)
	}
	conf.Join = a.JoinAddr()
	b, err := Start(bounded(t), conf)
	if err != nil {
		t.Fatal(err)
	}
	b.Stop()
	var foreign *foreignLedger
	conf.Join = other.OfficeAddr()
	if _, err := Start(bounded(t), conf); !errors.As(err, &foreign) {
		t.Errorf("another ledger than pinned: %v", err)
	}
	conf.Join = other.JoinAddr()
	if _, err := Start(bounded(t), conf); err == nil || !strings.Contains(err.Error(), "use another home") {
		t.Errorf("another hash than pinned: %v", err)
	}
	conf.Join = ""
	if _, err := Start(bounded(t), conf); err == nil || !strings.Contains(err.Error(), "not this daemon's own") {
		t.Errorf("own ledger in a joined home: %v", err)
	}
}

// TestLyingOffice: blocks that were changed on the way, or that skip one, are not applied; the true ones are, later.
func TestLyingOffice(t *testing.T) {
	a := start(t, testConfig(t, t.TempDir(), "a"))
	user := openAccount(t, a, "user")
	id := submit(t, a, sendOne(t, a, admin, a.cfg.AccountSecret, user, types.Coin))
	result(t, a, id)
	at, _, err := a.FindTx(id)
	if err != nil {
		t.Fatal(err)
	}
	awaitHeight(t, a, at+2)
	to, err := url.Parse("http://" + a.OfficeAddr())
	if err != nil {
		t.Fatal(err)
	}
	var lie atomic.Pointer[func([]signedBlock) []signedBlock]
	asked := make(chan struct{}, 1000)
	proxy := httputil.NewSingleHostReverseProxy(to)
	proxy.ModifyResponse = func(r *http.Response) error {
		if change := lie.Load(); r.Request.URL.Path == "/v1/blocks" && change != nil {
			asked <- struct{}{}
			return rewrite(r, *change)
		}
		return nil
	}
	office := httptest.NewServer(proxy)
	t.Cleanup(office.Close)

	conf := testConfig(t, t.TempDir(), "b")
	conf.Join = strings.TrimPrefix(office.URL, "http://")
	tamper := func(b []signedBlock) []signedBlock { // a coin for somebody else, with hashes that fit again
		if i := int(at) - int(b[0].block.Height); i >= 0 && i < len(b) {
			other := b[i].block
			other.Txs[0][20] ^= 1
			other.Data = cmt.Data{Txs: other.Txs}
			other.DataHash = other.Data.Hash()
		}
		return b
	}
	skip := func(b []signedBlock) []signedBlock { return b[1:] }
	swap := func(b []signedBlock) []signedBlock { b[0].commit = b[1].commit; return b }
	lie.Store(&tamper)
	b := start(t, conf)
	for _, change := range []func([]signedBlock) []signedBlock{tamper, skip, swap} {
		lie.Store(&change)
		<-asked
		<-asked // the answer to the first has been looked at
		if head, ok := b.Head(); ok || head.Height >= at {
			t.Errorf("a changed block was applied: head %d, fresh %v", head.Height, ok)
		}
	}
	lie.Store(nil)
	awaitHeight(t, b, at+2)
	awaitFresh(t, b)
}

func rewrite(r *http.Response, change func([]signedBlock) []signedBlock) error {
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	blocks, err := decodeBlocks(raw)
	if err != nil || len(blocks) < 2 {
		return err
	}
	var w writer
	for _, b := range change(blocks) {
		if err := encodeBlock(&w, b.block, b.commit); err != nil {
			return err
		}
	}
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(w.b)), int64(len(w.b))
	r.Header.Set("Content-Length", strconv.Itoa(len(w.b)))
	return nil
}
