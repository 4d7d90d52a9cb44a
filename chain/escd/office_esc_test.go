package escd

import (
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/eschaton-network/chand/esc"
	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

// view asks the office and decodes its answer.
func view[V any](t *testing.T, n *Node, path string) (v V) {
	t.Helper()
	res, err := http.Get("http://" + n.OfficeAddr() + path)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s %v %s", path, res.Status, err, b)
	}
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatalf("%s: %v in %s", path, err, b)
	}
	return v
}

func TestEscInput(t *testing.T) {
	n := start(t, testConfig(t, t.TempDir(), "a"))
	awaitHeight(t, n, 1)
	stranger := hex.EncodeToString(ledger.GetMe{From: admin, Target: admin, Time: 1}.Sign(secret("somebody else")))
	absent := hex.EncodeToString(ledger.GetMe{From: types.AccountID{Node: 9}, Target: admin, Time: 1}.Sign(secret("account a")))
	other := hex.EncodeToString(ledger.GetMe{From: admin, Target: types.AccountID{Node: 1, User: 1}, Time: 1}.Sign(secret("account a")))
	me := "/v1/esc/accounts/0001-00000000-9B6F"
	cc := "/cc/0001-00000000-9B6F/"
	for name, c := range map[string]struct {
		method, path, kind string
		body               []byte
		status             int
		code               string
	}{
		"bad address":             {"GET", "/v1/esc/accounts/0001-00000000-0000", "", nil, 400, "bad_request"},
		"no account":              {"GET", "/v1/esc/accounts/0009-00000000-XXXX", "", nil, 404, "not_found"},
		"request not hex":         {"GET", me + "?request=zz", "", nil, 400, "bad_request"},
		"request too short":       {"GET", me + "?request=10", "", nil, 422, "refused"},
		"request of a stranger":   {"GET", me + "?request=" + stranger, "", nil, 422, "refused"},
		"request of nobody":       {"GET", me + "?request=" + absent, "", nil, 422, "refused"},
		"request for another":     {"GET", me + "?request=" + other, "", nil, 422, "refused"},
		"accounts of no node":     {"GET", "/v1/esc/accounts?node=9", "", nil, 404, "not_found"},
		"accounts, bad node":      {"GET", "/v1/esc/accounts?node=x", "", nil, 400, "bad_request"},
		"accounts, bad from":      {"GET", "/v1/esc/accounts?node=1&from=-1", "", nil, 400, "bad_request"},
		"bad height":              {"GET", "/v1/esc/block?height=x", "", nil, 400, "bad_request"},
		"block to come":           {"GET", "/v1/esc/block?height=4294967295", "", nil, 404, "not_found"},
		"no signatures":           {"GET", "/v1/esc/signatures?height=4294967295", "", nil, 404, "not_found"},
		"no messages":             {"GET", "/v1/esc/messages?height=4294967295", "", nil, 404, "not_found"},
		"no broadcasts":           {"GET", "/v1/esc/broadcasts?height=4294967295", "", nil, 404, "not_found"},
		"bad message":             {"GET", "/v1/esc/messages/1/x", "", nil, 400, "bad_request"},
		"no message":              {"GET", "/v1/esc/messages/1/4294967295", "", nil, 404, "not_found"},
		"no direct transactions":  {"GET", "/v1/esc/messages/0/1", "", nil, 404, "not_found"},
		"bad place":               {"GET", "/v1/esc/transactions/1", "", nil, 400, "bad_request"},
		"no transaction":          {"GET", "/v1/esc/transactions/0001:FFFFFFFF:0001", "", nil, 404, "not_found"},
		"bad outcome":             {"GET", "/v1/esc/outcomes/1", "", nil, 400, "bad_request"},
		"bad validators":          {"GET", "/v1/esc/validators/1", "", nil, 400, "bad_request"},
		"no validators":           {"GET", "/v1/esc/validators/" + strings.Repeat("0", 64), "", nil, 404, "not_found"},
		"log of nobody":           {"GET", "/v1/esc/log/0009-00000000-XXXX", "", nil, 404, "not_found"},
		"log since never":         {"GET", "/v1/esc/log/0001-00000000-9B6F?from=x", "", nil, 400, "bad_request"},
		"garbage transaction":     {"POST", "/v1/esc/transactions", typeRaw, []byte("garbage"), 422, "refused"},
		"transaction as JSON":     {"POST", "/v1/esc/transactions", typeJSON, []byte("{}"), 415, "content_type"},
		"oversized transaction":   {"POST", "/v1/esc/transactions", typeRaw, make([]byte, ledger.MaxTx+1), 413, "too_large"},
		"wrong signature":         {"POST", "/v1/esc/transactions", typeRaw, sendOne(t, n, admin, secret("somebody else"), admin, 1), 422, "refused"},
		"ccoin, no account":       {"GET", "/cc/0009-00000000-XXXX/blk/cnt/", "", nil, 404, "not_found"},
		"ccoin, bad account":      {"GET", "/cc/968414e683062785/blk/cnt/", "", nil, 400, "bad_request"},
		"ccoin, bad block":        {"GET", cc + "blk/x/", "", nil, 400, "bad_request"},
		"ccoin, bad id":           {"POST", cc + "txn/12/", "", []byte(`{"block_number":1}`), 400, "bad_request"},
		"ccoin, no block number":  {"POST", cc + "txn/" + strings.Repeat("0", 64) + "/", "", []byte(`{}`), 400, "bad_request"},
		"ccoin, no transaction":   {"POST", cc + "txn/" + strings.Repeat("0", 64) + "/", "", []byte(`{"block_number":1}`), 404, "not_found"},
		"ccoin, nobody's account": {"POST", cc + "txn/", "", []byte(`{}`), 403, "not_ours"}, // this node has no wallet
	} {
		status, p := ask(t, n, c.method, c.path, c.kind, c.body)
		if status != c.status || p.Code != c.code || p.Message == "" || p.Next == "" {
			t.Errorf("%s: %d %+v, want %d %s", name, status, p, c.status, c.code)
		}
	}
	good := hex.EncodeToString(ledger.GetMe{From: admin, Target: admin, Time: 1}.Sign(secret("account a")))
	v := view[esc.AccountView](t, n, me+"?request="+good)
	if r, ok, err := ledger.ParseRecord(v.Network, admin); err != nil || !ok || r.Msid != 1 {
		t.Errorf("%+v %v %v", r, ok, err)
	}
}

// The office's view runs ahead of the last block's by what waits, and a transaction that the office took ends up where it said.
func TestEscView(t *testing.T) {
	n := start(t, testConfig(t, t.TempDir(), "a"))
	awaitHeight(t, n, 1)
	raw := sendOne(t, n, admin, secret("account a"), admin, 5)
	res, err := http.Post("http://"+n.OfficeAddr()+"/v1/esc/transactions", typeRaw, strings.NewReader(string(raw)))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var v esc.SubmitView
	if err := json.NewDecoder(res.Body).Decode(&v); err != nil || v.Place == nil {
		t.Fatal(res.Status, v, err)
	}
	r, _, err := ledger.ParseRecord(v.Account, admin)
	if tx, _ := ledger.DecodeTx(raw); err != nil || r.Msid != 2 || r.Hash == (types.Hash{}) || tx.Msid != 1 {
		t.Errorf("%+v %v", r, err)
	}
	done := view[esc.OutcomeView](t, n, "/v1/esc/outcomes/"+types.SHA256(raw).String()+"?wait=1")
	if done.Code != 0 || done.Height == 0 || *done.Place != *v.Place {
		t.Errorf("%+v, promised was %s", done, v.Place)
	}
	tx := view[esc.TransactionView](t, n, "/v1/esc/transactions/"+done.Place.String())
	if _, err := ledger.VerifyTxProof(tx.StateRoot, tx.Height, tx.Raw, tx.Proof); err != nil || tx.Height != done.Height {
		t.Errorf("%+v %v", tx, err)
	}
	if l := view[esc.LogView](t, n, "/v1/esc/log/0001-00000000-9B6F"); len(l.Entries) == 0 || l.Entries[0].Place == nil || *l.Entries[0].Place != *done.Place {
		t.Errorf("%+v", l)
	}
}
