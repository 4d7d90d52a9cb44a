package itest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/eschaton-network/chand/internal/devnet"
	chandv1 "github.com/eschaton-network/chand/rpc/gen/chand/v1"
	"github.com/eschaton-network/chand/types"
)

// The original's default secret of the first node and its admin, and the keys that its instruction makes.
const (
	escSecret = "14B183205CA661F589AD83809952A692DFA48F5D490B10FD120DA7BF10F2F4A0"
	escKey0   = "D69BCCF69C2D0F6CED025A05FA7F3BA687D1603AC1C8D9752209AC2BBF2C4D17"
	escSign0  = "7A1CA8AF3246222C2E06D2ADE525A693FD81A2683B8A8788C32B7763DF6037A5DF3105B92FEF398AF1CDE0B92F18FE68DEF301E4BF7DB0ABC0AEA6BE24969006"
	escKey1   = "C9965A1417F52B22514559B7608E4E2C1238FCA3602382C535D42D1759A2F196"
	escSign1  = "ED8479C0EDA3BB02B5B355E05F66F8161811F5AD9AE9473AA91E2DA32457EAB850BC6A04D6D4D5DDFAB4B192D2516D266A38CEA4251B16ABA1DF1B91558A4A05"
	escPay    = `{"run":"send_one","address":"0001-00000001-8B4E","amount":%s,"message":"000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F"}`
)

// escUser is a directory in which a user of the original works.
type escUser struct {
	t      *testing.T
	dir    string
	office string
}

// settings writes settings.cfg as the instruction does.
func (u escUser) settings(address, secret string) {
	u.t.Helper()
	_, port, _ := strings.Cut(u.office, ":")
	text := fmt.Sprintf("port=%s\nhost=\naddress=%s\nsecret=%s\n", port, address, secret)
	if err := os.MkdirAll(u.dir, 0o700); err != nil {
		u.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(u.dir, "settings.cfg"), []byte(text), 0o600); err != nil {
		u.t.Fatal(err)
	}
}

// esc runs the client and returns its answers; ok says whether its exit code is wanted to be 0.
func (u escUser) esc(ok bool, input string, args ...string) []map[string]any {
	u.t.Helper()
	ctx, cancel := context.WithTimeout(u.t.Context(), patience)
	defer cancel()
	c := exec.CommandContext(ctx, filepath.Join(filepath.Dir(program), "chancli"), append([]string{"esc"}, args...)...)
	c.Dir, c.Stdin = u.dir, strings.NewReader(input)
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	if err := c.Run(); (err == nil) != ok {
		u.t.Fatalf("%s %v: %v\n%s\n%s", input, args, err, out.String(), errs.String())
	}
	var all []map[string]any
	for d := json.NewDecoder(&out); ; {
		var v map[string]any
		if err := d.Decode(&v); err == io.EOF {
			return all
		} else if err != nil {
			u.t.Fatalf("%s: %v", input, err)
		}
		all = append(all, v)
	}
}

// session gives the client many commands at once and returns an answer for each.
func (u escUser) session(ok bool, commands []string, args ...string) []map[string]any {
	u.t.Helper()
	all := u.esc(ok, strings.Join(commands, "\n"), args...)
	if len(all) != len(commands) {
		u.t.Fatalf("%d answers to %d commands: %.1000v", len(all), len(commands), all)
	}
	return all
}

// want compares one member, named by its path, of the last answer.
func (u escUser) want(answers []map[string]any, path, want string) {
	u.t.Helper()
	if len(answers) == 0 {
		u.t.Fatalf("no answer, want %s = %s", path, want)
	}
	if got := escMember(answers[len(answers)-1], path); got != want {
		u.t.Errorf("%s = %v, want %s", path, got, want)
	}
}

func escMember(v any, path string) any {
	for part := range strings.SplitSeq(path, ".") {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[part]
	}
	return v
}

// startOriginal starts a daemon whose ledger node and admin have the original's default secret.
func startOriginal(t *testing.T) (*network, escUser) {
	if testing.Short() {
		t.Skip("SKIPPED: -short leaves out the tests with real processes")
	}
	n := &network{Net: &devnet.Net{Dir: t.TempDir(), Binary: program, Args: []string{"--log-level", "debug"}}, t: t}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			n.keepLogs()
		}
	})
	key := keyText(t, n.Dir, "node1.txt", escSecret)
	n.ledger = n.start("node1", "--ledger-block-time", blockTime, "--ledger-node-key", key, "--ledger-account-key", key)
	n.join = must(n.ledger.Status.Get(n.ctx(), &chandv1.GetStatusRequest{})).Ledger.Join
	office, _, _ := strings.Cut(n.join, "/")
	return n, escUser{t: t, dir: filepath.Join(n.Dir, "user0"), office: office}
}

func keyText(t *testing.T, dir, name, secret string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestOriginalWalkThrough follows the original's instruction for its users line by line.
func TestOriginalWalkThrough(t *testing.T) {
	n, user0 := startOriginal(t)
	user0.settings("0001-00000000-XXXX", escSecret)
	a := user0.esc(true, `{"run":"get_me"}`)
	user0.want(a, "account.address", "0001-00000000-9B6F")
	user0.want(a, "account.msid", "1")
	user0.want(a, "account.balance", "4565569158.243113983")
	user0.want(a, "account.public_key", "7D21F4EE7DE72EEDDC2EBFFEC5E7F33F140A975A629EE312075BB04610A9CFFF")
	user0.want(a, "network_account.checksum", "true")

	// The new key; the second command goes over two lines.
	user0.esc(true, `{"run":"get_me"}`+"\n"+`{"run":"change_account_key",`+"\n"+`"pkey":"`+escKey0+`","signature":"`+escSign0+`"}`)
	user0.want(user0.esc(false, `{"run":"get_me"}`), "error_code", "15") // the old key
	user0.settings("0001-00000000-9B6F", " FF767FC8FAF9CFA8D2C3BD193663E8B8CAC85005AD56E085FAB179B52BD88DD6")
	user0.want(user0.esc(true, `{"run":"get_me"}`), "account.msid", "2")

	a = user0.esc(true, `{"run":"get_me"}`+"\n"+`{"run":"create_account","node":"0001"}`)
	user0.want(a, "account.paired_id", "1")
	user0.want(a, "new_account", "0001-00000001-8B4E")
	a = user0.esc(true, `{"run":"get_account","address":"0001-00000001-XXXX"}`)
	user0.want(a, "account.address", "0001-00000001-8B4E")
	user0.want(a, "account.public_key", escKey0)
	user0.want(a, "account.balance", "0.268435456")
	user0.esc(true, `{"run":"get_me"}`+"\n"+fmt.Sprintf(escPay, "0.1"))
	user0.want(user0.esc(true, `{"run":"get_account","address":"0001-00000001-8B4E"}`), "account.balance", "0.368435456") // and 6 dividend fees less in the original

	a = user0.esc(true, `{"run":"get_me"}`+"\n"+`{"run":"change_account_key","pkey":"`+escKey1+`","signature":"`+escSign1+`"}`, "--address", "0001-00000001-8B4E")
	user0.want(a, "account.public_key", escKey1)
	user1 := user0
	user1.dir = filepath.Join(n.Dir, "user1")
	user1.settings("0001-00000001-8B4E ", " 5BF11F5D0130EC994F04B6C5321566A853B7393C33F12E162A6D765ADCCCB45C ")
	a = user1.esc(true, `{"run":"get_me"}`)
	user1.want(a, "account.address", "0001-00000001-8B4E")
	user1.want(a, "account.msid", "2")

	user1.want(user1.esc(false, `{"run":"get_me"}`+"\n"+`{"run":"create_node"}`), "error_code", "9") // not enough funds
	user0.esc(true, `{"run":"get_me"}`+"\n"+fmt.Sprintf(escPay, "70.0"))
	user1.esc(true, `{"run":"get_me"}`+"\n"+`{"run":"create_node"}`)
	a = user1.esc(true, `{"run":"get_block"}`)
	nodes, _ := escMember(a[0], "block.nodes").([]any)
	if len(nodes) != 3 {
		t.Fatalf("%d rows of nodes, want 3 with node 0: %v", len(nodes), a)
	}
	if got := escMember(nodes[2], "public_key"); got != escKey1 {
		t.Errorf("node 2 has the key %v", got)
	}
	user1.want(user1.esc(true, `{"run":"get_account","address":"0002-00000000-XXXX"}`), "account.address", "0002-00000000-75BD")

	// The second node, with the key in a file and the first one as its peer.
	key := keyText(t, n.Dir, "node2.txt", "5BF11F5D0130EC994F04B6C5321566A853B7393C33F12E162A6D765ADCCCB45C")
	node2 := n.start("node2", "--ledger-join", n.join, "--ledger-node-key", key, "--ledger-account-key", key)
	join2 := must(node2.Status.Get(n.ctx(), &chandv1.GetStatusRequest{})).Ledger.Join
	user2 := user1
	user2.office, _, _ = strings.Cut(join2, "/")
	user2.settings("0001-00000001-8B4E", "user-0-1")
	n.until("node 2 follows the ledger", func() bool {
		a := user2.esc(true, `{"run":"get_block"}`)
		nodes, _ := escMember(a[0], "block.nodes").([]any)
		return len(nodes) == 3
	})
	user2.want(user2.esc(true, `{"run":"get_me"}`), "account.msid", "3")

	// An account on the second node, asked for and paid by one of the first. It has no number before its node has accepted it.
	if a = user1.esc(true, `{"run":"create_account","node":"0002"}`); a[0]["new_account"] != nil {
		t.Errorf("the new account has a number already: %v", a)
	}
	for _, u := range []escUser{user1, user2} {
		n.until("both offices know the account", func() bool {
			list, _ := u.esc(true, `{"run":"get_accounts","node":"0002"}`)[0]["accounts"].([]any)
			return len(list) == 2 && escMember(list[1], "public_key") == escKey1
		})
	}
	made := types.AccountID{Node: 2, User: 1}.String()
	user2.settings(made, "user-0-1")
	a = user2.esc(true, `{"run":"get_me"}`)
	user2.want(a, "account.address", made)
	user2.want(a, "network_account.balance", "0.268435456")
	user2.esc(true, `{"run":"send_one","address":"0001-00000001-8B4E","amount":0.1}`) // its own node's office takes what it signs
	user2.want(user2.esc(true, `{"run":"get_me"}`), "network_account.msid", "2")
}

// Every command that reads, and what the client makes of many transactions at once.
func TestOriginalCommands(t *testing.T) {
	_, user := startOriginal(t)
	user.settings("0001-00000000-XXXX", escSecret)
	var many strings.Builder
	for range 50 {
		many.WriteString(`{"run":"broadcast","message_ascii":"hello"}` + "\n")
	}
	all := user.esc(true, many.String(), "--nice=0")
	if len(all) != 50 {
		t.Fatalf("%d answers to 50 commands", len(all))
	}
	last, _ := escMember(all[49], "tx.id").(string)
	if got := escMember(all[49], "account.msid"); got != "51" || last == "" {
		t.Errorf("after 50 transactions the number is %v, the last id %q", got, last)
	}
	a := user.esc(true, `{"run":"get_transaction","txid":"`+last+`"}`)
	user.want(a, "txn.type", "broadcast")
	user.want(a, "network_tx.id", last)
	block, _ := escMember(a[0], "network_tx.block_id").(string)
	a = user.esc(true, `{"run":"get_broadcast","from":"`+block+`"}`)
	list, _ := a[0]["broadcast"].([]any)
	if len(list) == 0 || escMember(list[len(list)-1], "message") != "68656C6C6F" || escMember(list[len(list)-1], "id") != last {
		t.Errorf("broadcasts of block %s: %v", block, a)
	}
	a = user.esc(true, `{"run":"get_message_list","block":"`+block+`"}`)
	if ids, _ := a[0]["messages"].([]any); len(ids) == 0 || ids[len(ids)-1] != last[:13] {
		t.Errorf("messages of block %s: %v, want %s last", block, a, last[:13])
	}
	a = user.esc(true, `{"run":"get_message","message_id":"`+last[:13]+`","block":"`+block+`"}`)
	user.want(a, "block_id", block)
	a = user.esc(true, `{"run":"get_block","block":"`+block+`"}`)
	user.want(a, "block.id", block)
	vip, _ := escMember(a[0], "block.viphash").(string)
	a = user.esc(true, `{"run":"get_vipkeys","viphash":"`+vip+`"}`)
	if keys, _ := a[0]["vipkeys"].([]any); len(keys) != 1 || keys[0] != "7D21F4EE7DE72EEDDC2EBFFEC5E7F33F140A975A629EE312075BB04610A9CFFF" {
		t.Errorf("validators: %v", a)
	}
	a = user.esc(true, `{"run":"get_signatures","block":"`+block+`"}`)
	if sigs, _ := a[0]["signatures"].([]any); len(sigs) != 1 {
		t.Errorf("signatures: %v", a)
	}
	user.want(user.esc(true, `{"run":"get_blocks","from":"1","to":"1"}`), "updated_blocks", "1")
	if list, _ := user.esc(true, `{"run":"get_accounts","node":"0001"}`)[0]["accounts"].([]any); len(list) != 1 {
		t.Errorf("accounts: %v", list)
	}

	if list, _ := user.esc(true, `{"run":"get_log","type":"broadcast"}`)[0]["log"].([]any); len(list) != 50 || escMember(list[49], "id") != last ||
		escMember(list[49], "account_msid") != "50" || escMember(list[49], "inout") != "out" {
		t.Errorf("%d entries of the log, want 50 that end with %s: %v", len(list), last, list)
	}

	// A dry run shows the bytes that are sent.
	at := `,"time":1700000000}`
	dry := user.esc(true, `{"run":"send_one","address":"0001-00000000-9B6F","amount":1`+at, "--dry-run")
	sent := user.esc(true, `{"run":"send_one","address":"0001-00000000-9B6F","amount":1`+at)
	data, _ := escMember(dry[0], "tx.data").(string)
	user.want(sent, "tx.data", data)
	user.want(user.esc(true, `{"run":"send_again","data":"`+data+`"}`), "tx.data", data) // harmless: it is not executed again
	user.want(user.esc(true, `{"run":"decode_raw","data":"`+data+`"}`), "txn.type", "send_one")
	user.want(user.esc(true, `{"run":"get_me"}`), "account.msid", "52")

	// Refusals: each with its number, on stdout, and the exit code says so.
	for input, code := range map[string]string{
		`{"run":"get_mee"}`: "50",
		`{"run":"send_one","address":"0001-00000000-9B6F","amount":5000000000}`:          "50",
		`{"run":"send_one","address":"0001-00000000-9B6F","amount":4611686018}`:          "9",
		`{"run":"send_one","address":"0001-00000009-XXXX","amount":1}`:                   "19",
		`{"run":"send_one","address":"0009-00000000-XXXX","amount":1}`:                   "20",
		`{"run":"send_one","address":"0001-00000000-9B6F","amount":1,"msid":7}`:          "11",
		`{"run":"send_one","address":"0001-00000000-9B6F","amount":1,"time":4294967295}`: "21",
		`{"run":"broadcast","message":""}`:                                               "32",
		`{"run":"get_block","block":"FFFFFFFF"}`:                                         "29",
		`{"run":"get_transaction","txid":"0001:FFFFFFFF:0001"}`:                          "42",
		`{"run":"get_account","address":"0009-00000000-XXXX"}`:                           "7",
	} {
		a := user.esc(false, input)
		user.want(a, "error_code", code)
	}
	if out := user.esc(false, `{"run":"get_me"}`, "--port", "1"); escMember(out[0], "error_code") != "28" {
		t.Errorf("nobody listens on port 1: %v", out)
	}
}

// ccoin's documented calls.
func TestCCoinCalls(t *testing.T) {
	n, user := startOriginal(t)
	base := "http://" + user.office + "/cc/0001-00000000-9B6F/"
	ask := func(method, path, body, token string) (int, []byte) {
		req := must(http.NewRequestWithContext(n.ctx(), method, base+path, strings.NewReader(body)))
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		res := must(http.DefaultClient.Do(req))
		defer res.Body.Close()
		return res.StatusCode, must(io.ReadAll(res.Body))
	}
	call := func(method, path, body, token string, want int) []byte {
		t.Helper()
		status, b := ask(method, path, body, token)
		if status != want {
			t.Fatalf("%s %s: %d %s", method, path, status, b)
		}
		return b
	}
	const pay = `{"sendto_address":"0001-00000000-9B6F","amount":200,"data":"hello world!"}`
	call("POST", "txn/", pay, "", http.StatusUnauthorized)
	call("POST", "txn/", pay, "00", http.StatusUnauthorized)
	token := fmt.Sprintf("%x", must(os.ReadFile(filepath.Join(n.ledger.Home, "admin.macaroon"))))
	call("POST", "txn/", `{"sendto_address":"0001-00000000-9B6F","amount":-1}`, token, http.StatusBadRequest)
	var tx struct {
		ID, From, To, Data, Signature string
		Number, Amount                int
		Time                          float64
	}
	var paid []byte
	n.until("the payment is taken", func() bool { // nothing is sent while the daemon's view of the ledger is not fresh
		status, b := ask("POST", "txn/", pay, token)
		if status == http.StatusServiceUnavailable && strings.Contains(string(b), `"not_sent"`) {
			return false
		}
		if paid = b; status != http.StatusOK {
			t.Fatalf("%d %s", status, b)
		}
		return true
	})
	if err := json.Unmarshal(paid, &tx); err != nil || tx.Amount != 200 || tx.Data != "hello world!" || tx.Number != 1 {
		t.Fatalf("%+v %v", tx, err)
	}
	var count int
	if err := json.Unmarshal(call("GET", "blk/cnt/", "", "", http.StatusOK), &count); err != nil || count < 1 {
		t.Fatal(count, err)
	}
	found := 0
	for h := 1; h <= count; h++ {
		var b struct {
			Number int
			Body   []struct{ ID string }
			State  map[string]struct{ Nonce int }
		}
		if err := json.Unmarshal(call("GET", fmt.Sprintf("blk/%d/", h), "", "", http.StatusOK), &b); err != nil || b.Number != h {
			t.Fatalf("block %d: %+v %v", h, b, err)
		}
		if len(b.Body) == 1 && b.Body[0].ID == tx.ID && b.State["0001-00000000-9B6F"].Nonce == 1 {
			found = h
		}
	}
	if found == 0 {
		t.Fatalf("transaction %s is in none of %d blocks", tx.ID, count)
	}
	call("POST", "txn/"+tx.ID+"/", fmt.Sprintf(`{"block_number":%d}`, found), "", http.StatusOK)
	call("POST", "txn/"+tx.ID+"/", fmt.Sprintf(`{"block_number":%d}`, found+1), "", http.StatusNotFound)
	if b := call("GET", "", "", "", http.StatusOK); !strings.Contains(string(b), `"peers"`) {
		t.Errorf("%s", b)
	}
}
