package escd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"

	"github.com/eschaton-network/chand/chain/escd/light"
	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

func TestOfficeInput(t *testing.T) {
	n := start(t, testConfig(t, t.TempDir(), "a"))
	key := secret("account x")
	good := fmt.Sprintf(`{"public_key":"%x","confirm":"%x"}`, ledger.PublicKey(key), ledger.KeyProof(key))
	tx := sendOne(t, n, admin, secret("somebody else"), admin, 1)
	for name, c := range map[string]struct {
		method, path, kind string
		body               []byte
		status             int
		code               string
	}{
		"unknown path":         {"GET", "/v2/nothing", "", nil, 404, "not_found"},
		"wrong method":         {"DELETE", "/v1/accounts", "", nil, 404, "not_found"},
		"unknown field":        {"POST", "/v1/accounts", typeJSON, []byte(strings.Replace(good, "{", `{"x":1,`, 1)), 400, "bad_request"},
		"trailing value":       {"POST", "/v1/accounts", typeJSON, []byte(good + "{}"), 400, "bad_request"},
		"not JSON":             {"POST", "/v1/accounts", typeJSON, []byte("\x00\xff"), 400, "bad_request"},
		"empty":                {"POST", "/v1/accounts", typeJSON, nil, 400, "bad_request"},
		"wrong proof":          {"POST", "/v1/accounts", typeJSON, []byte(strings.Replace(good, `"confirm":"`, `"confirm":"00`, 1)), 400, "bad_request"},
		"no content type":      {"POST", "/v1/accounts", "", []byte(good), 415, "content_type"},
		"oversized account":    {"POST", "/v1/accounts", typeJSON, make([]byte, maxSmallBody+1), 413, "too_large"},
		"oversized tx":         {"POST", "/v1/transactions", typeRaw, make([]byte, ledger.MaxTx+1), 413, "too_large"},
		"oversized batch":      {"POST", "/v1/transactions", typeBatch, make([]byte, MaxBatch+1), 413, "too_large"},
		"cut batch":            {"POST", "/v1/transactions", typeBatch, []byte{0, 0, 0, 9, 1}, 400, "bad_request"},
		"empty tx in batch":    {"POST", "/v1/transactions", typeBatch, make([]byte, 8), 400, "bad_request"},
		"garbage tx":           {"POST", "/v1/transactions", typeRaw, []byte("garbage"), 422, "refused"},
		"empty tx":             {"POST", "/v1/transactions", typeRaw, nil, 422, "refused"},
		"wrong signature":      {"POST", "/v1/transactions", typeRaw, tx, 422, "refused"},
		"bad address":          {"GET", "/v1/accounts/0001-00000000-0000", "", nil, 400, "bad_request"},
		"no account":           {"GET", "/v1/accounts/0009-00000000-XXXX", "", nil, 404, "not_found"},
		"bad height":           {"GET", "/v1/blocks/-1/bundle", "", nil, 400, "bad_request"},
		"no block":             {"GET", "/v1/blocks/4294967295/bundle", "", nil, 404, "not_found"},
		"bad from":             {"GET", "/v1/blocks?from=x", "", nil, 400, "bad_request"},
		"bad transaction id":   {"GET", "/v1/transactions/12", "", nil, 400, "bad_request"},
		"unknown transaction":  {"GET", "/v1/transactions/" + strings.Repeat("0", 64), "", nil, 404, "not_found"},
		"counts without range": {"GET", "/v1/counts", "", nil, 400, "bad_request"},
	} {
		status, p := ask(t, n, c.method, c.path, c.kind, c.body)
		if status != c.status || p.Code != c.code || p.Message == "" || p.Next == "" {
			t.Errorf("%s: %d %+v, want %d %s", name, status, p, c.status, c.code)
		}
	}
	if status, p := ask(t, n, "POST", "/v1/transactions", typeRaw, tx); p.LedgerCode != ledger.CodeSignature {
		t.Errorf("wrong signature: %d %+v", status, p)
	}
	rawGarbage(t, n)
	if id := openAccount(t, n, "x"); id.IsZero() { // it still serves
		t.Error("no account")
	}
}

func ask(t *testing.T, n *Node, method, path, kind string, body []byte) (int, Problem) {
	t.Helper()
	req, err := http.NewRequestWithContext(bounded(t), method, "http://"+n.OfficeAddr()+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if kind != "" {
		req.Header.Set("Content-Type", kind)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		t.Fatal(err)
	}
	var p Problem
	if err := strict(b, &p); err != nil && res.StatusCode != 200 {
		t.Errorf("%s %s: %s: %v", method, path, b, err)
	}
	return res.StatusCode, p
}

// rawGarbage writes bytes that are not HTTP to both ports.
func rawGarbage(t *testing.T, n *Node) {
	for _, addr := range []string{n.OfficeAddr(), n.p2pAddr} {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		c.Write(bytes.Repeat([]byte{0xff, 0, '\n'}, 40_000))
		c.Close()
	}
}

func TestOpenAccounts(t *testing.T) {
	n := start(t, testConfig(t, t.TempDir(), "a"))
	c := NewClient(n.OfficeAddr())
	defer c.Close()
	// Many at once, each key twice: one account for each key.
	const keys = 12
	var mu sync.Mutex
	got := map[string]types.AccountID{}
	var wg sync.WaitGroup
	for i := range 2 * keys {
		wg.Go(func() {
			name := fmt.Sprint("user ", i%keys)
			id, err := c.CreateAccount(bounded(t), ledger.PublicKey(secret(name)), ledger.KeyProof(secret(name)))
			mu.Lock()
			defer mu.Unlock()
			if was, ok := got[name]; err != nil || ok && was != id {
				t.Errorf("%s: %s and %s, %v", name, was, id, err)
			}
			got[name] = id
		})
	}
	wg.Wait()
	seen := map[types.AccountID]bool{}
	for name, id := range got {
		a, err := n.Account(id)
		if seen[id] || err != nil || a.PublicKey != ledger.PublicKey(secret(name)) {
			t.Errorf("%s has %s: %+v, %v", name, id, a, err)
		}
		seen[id] = true
	}
	if a := n.app.state.Accounts(1); a != keys+1 { // no block changes it any more
		t.Errorf("%d accounts, want %d", a, keys+1)
	}
	if id, err := c.CreateAccount(bounded(t), ledger.PublicKey(n.cfg.AccountSecret), ledger.KeyProof(n.cfg.AccountSecret)); err != nil || id != admin {
		t.Errorf("the admin's key has %s, %v", id, err)
	}
}

func TestOpenPolicy(t *testing.T) {
	var calls atomic.Int32
	conf := testConfig(t, t.TempDir(), "a")
	conf.OpenAccounts = OpenPolicy{Enabled: true, PerSecond: 1, Burst: 1, Total: 5}
	conf.CreateAccount = func(context.Context, [32]byte, [64]byte) (types.AccountID, error) {
		calls.Add(1)
		return types.AccountID{Node: 1, User: 77}, nil
	}
	n := start(t, conf)
	c := NewClient(n.OfficeAddr())
	defer c.Close()
	open := func() (types.AccountID, error) {
		return c.CreateAccount(bounded(t), ledger.PublicKey(secret("u")), ledger.KeyProof(secret("u")))
	}
	if id, err := open(); err != nil || id.User != 77 || calls.Load() != 1 {
		t.Errorf("the daemon's callback: %s, %v, %d calls", id, err, calls.Load())
	}
	var p *Problem
	if _, err := open(); !errors.As(err, &p) || p.Code != "busy" {
		t.Errorf("beyond the rate: %v", err)
	}
	n.office.opened.SetBurst(100)
	n.office.n.cfg.OpenAccounts.Total = 1
	if _, err := open(); !errors.As(err, &p) || p.Code != "full" {
		t.Errorf("beyond the total: %v", err)
	}
	n.office.n.cfg.OpenAccounts.Enabled = false
	if _, err := open(); !errors.As(err, &p) || p.Code != "off" || calls.Load() != 1 {
		t.Errorf("switched off: %v", err)
	}
}

// verifiedBytes checks a proof as an office sends it.
func verifiedBytes(t *testing.T, trust light.Trust, b []byte) light.Proven {
	t.Helper()
	p, err := light.DecodeProof(b)
	return verified(t, trust, p, err)
}

// TestClient walks through what a light client does, over HTTP alone.
func TestClient(t *testing.T) {
	n := start(t, testConfig(t, t.TempDir(), "a"))
	c := NewClient(n.OfficeAddr())
	defer c.Close()
	g, err := c.Genesis(bounded(t))
	if err != nil {
		t.Fatal(err)
	}
	trust, err := light.TrustOf(g)
	if err != nil {
		t.Fatal(err)
	}
	i, err := c.Info(bounded(t))
	if err != nil || i.Genesis != trust.Genesis || i.ChainID != g.ChainID || !i.Accounts || i.P2P != n.P2PAddr() {
		t.Errorf("info %+v, %v", i, err)
	}
	b, err := c.do(bounded(t), http.MethodGet, "/v1/accounts/"+admin.String(), "", nil, maxAnswer)
	if err != nil {
		t.Fatal(err)
	}
	r := verifiedBytes(t, trust, b).Record
	var txs [][]byte
	prev := r.Hash
	for k := range uint32(5) {
		var raw []byte
		raw, prev = signSend(t, n.cfg.AccountSecret, r.Msid+k, prev, admin, admin, 1)
		txs = append(txs, raw)
	}
	txs = append(txs, txs[0], []byte("garbage"))
	res, err := c.SubmitMany(bounded(t), txs)
	if err != nil || res.Accepted != 6 || res.Tried != 7 || len(res.Refused) != 1 || res.Refused[0].Index != 6 {
		t.Errorf("batch: %+v, %v", res, err)
	}
	id := types.SHA256(txs[4])
	done := result(t, n, id)
	if done.Code != ledger.CodeOK {
		t.Errorf("%+v", done)
	}
	b, err = c.do(bounded(t), http.MethodGet, "/v1/transactions/"+id.String(), "", nil, maxAnswer)
	if err != nil {
		t.Fatal(err)
	}
	p := verifiedBytes(t, trust, b)
	if p.Tx.ID != id {
		t.Errorf("%+v", p)
	}
	bundle, err := c.do(bounded(t), http.MethodGet, fmt.Sprintf("/v1/blocks/%d/bundle", p.Height+1), "", nil, light.MaxBundle)
	if err != nil {
		t.Fatal(err)
	}
	if h, err := trust.Verify(light.Chain{bundle}); err != nil || h.Time != p.Time {
		t.Errorf("header %+v, %v", h, err)
	}
	counts, err := c.Counts(bounded(t), 1, p.Height)
	sum := uint32(0)
	for _, k := range counts {
		sum += k.Executed
	}
	if err != nil || sum != 5 || len(counts) != int(p.Height) {
		t.Errorf("counts %+v, %v", counts, err)
	}
}

// oneByOne gives one byte a call, and the end by itself.
type oneByOne struct{ left int }

func (r *oneByOne) Read(b []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	r.left--
	b[0] = byte(r.left)
	return 1, nil
}

func TestReadSized(t *testing.T) {
	for _, n := range []int{0, 1, 511, 512, 513, firstRead, firstRead + 1, 3*firstRead + 7} {
		want, err := io.ReadAll(&oneByOne{n})
		if err != nil {
			t.Fatal(err)
		}
		for _, said := range []int{n, -1, 0, n / 2, n + 1, 100 * firstRead} {
			got, err := readSized(&oneByOne{n}, int64(said))
			if err != nil || !bytes.Equal(got, want) {
				t.Fatalf("%d bytes of %d that were said to be %d, %v", len(got), n, said, err)
			}
			if cap(got) > max(1024, firstRead+1, readAhead*n) {
				t.Errorf("room for %d bytes when %d came that were said to be %d", cap(got), n, said)
			}
		}
	}
	if _, err := readSized(iotest.ErrReader(errStopped), 10); !errors.Is(err, errStopped) {
		t.Errorf("%v instead of the reader's error", err)
	}
}
