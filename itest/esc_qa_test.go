package itest

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestOriginalQA is the part of the original's list of tests that needs a running node and its client; ledger/qa_test.go has the list.
func TestOriginalQA(t *testing.T) {
	_, user := startOriginal(t)
	user.settings("0001-00000000-XXXX", escSecret)
	user.esc(true, `{"run":"create_account","node":"0001"}`)
	user.want(user.esc(true, `{"run":"get_account","address":"0001-00000001-8B4E"}`), "account.balance", "0.268435456")

	// A dry run shows the bytes that are sent, whatever is sent.
	commands := []string{
		`"run":"send_one","address":"0001-00000001-8B4E","amount":"0.000000001"`,
		`"run":"send_one","address":"0001-00000001-8B4E","amount":100`,
		`"run":"send_many","wires":{"0001-00000001-8B4E":"1","0001-00000000-9B6F":"2.147483648"}`,
		`"run":"broadcast","message":"` + strings.Repeat("5A", 32000) + `"`,
		`"run":"set_account_status","address":"0001-00000001-8B4E","status":"2"`,
		`"run":"unset_account_status","address":"0001-00000001-8B4E","status":"2"`,
		`"run":"set_node_status","node":"1","status":"8"`,
		`"run":"log_account"`,
		`"run":"change_account_key","pkey":"` + escKey0 + `","signature":"` + escSign0 + `"`,
	}
	var lines []string
	for i, c := range commands {
		lines = append(lines, "{"+c+`,"time":`+fmt.Sprint(1700000000+i)+"}")
	}
	dry, sent := user.session(true, lines, "--dry-run"), user.session(true, lines)
	for i, c := range commands {
		for _, member := range []string{"tx.data", "tx.account_hashout", "tx.account_msid"} {
			if want, _ := escMember(dry[i], member).(string); want == "" || escMember(sent[i], member) != want {
				t.Errorf("%.60s: %s is %.80q in the dry run, %.80v when it was sent", c, member, want, escMember(sent[i], member))
			}
		}
	}
	user.settings("0001-00000000-XXXX", "user-0-0") // the key that the last command has set

	var codes []string
	lines = nil
	for c, code := range map[string]string{
		`"run":"send_one","address":"0001-00000001-8B4E","amount":"0.00000000001"`:                       "50",
		`"run":"send_many","wires":{}`:                                                                   "32",
		`"run":"send_many","wires":{"0001-00000001-8B4E":"0"}`:                                           "18",
		`"run":"send_many","wires":{"0001-00000001-8B4E":"-1"}`:                                          "18",
		`"run":"send_many","wires":{"0001-00000001-8B4E":"4000000000","0001-00000000-9B6F":"600000000"}`: "9",
		`"run":"broadcast","message":"` + strings.Repeat("5A", 32001) + `"`:                              "32",
		`"run":"retrieve_funds","address":"0001-00000001-8B4E"`:                                          "20",
		`"run":"set_account_status","address":"0001-00000001-8B4E","status":"1"`:                         "45",
		`"run":"set_node_status","node":"1","status":"2"`:                                                "48",
	} {
		lines, codes = append(lines, "{"+c+"}"), append(codes, code)
	}
	for i, a := range user.session(false, lines) {
		if got := escMember(a, "error_code"); got != codes[i] {
			t.Errorf("%.70s: code %v, want %s: %.300v", lines[i], got, codes[i], a)
		}
	}

	// Every id of the account's log is that of a transaction which can be read.
	log, _ := user.esc(true, `{"run":"get_log"}`)[0]["log"].([]any)
	log = slices.DeleteFunc(log, func(e any) bool { return escMember(e, "id") == nil || escMember(e, "id") == "" }) // a dividend or a node's profit
	lines = nil
	for _, e := range log {
		lines = append(lines, fmt.Sprintf(`{"run":"get_transaction","txid":"%v"}`, escMember(e, "id")))
	}
	if len(log) < 1+len(commands) {
		t.Fatalf("%d ids in the log, want %d and more: %v", len(log), 1+len(commands), log)
	}
	for i, a := range user.session(true, lines) {
		if id := escMember(log[i], "id"); escMember(a, "network_tx.id") != id {
			t.Errorf("asked for transaction %v, got %v", id, a)
		}
		if name := escMember(log[i], "type"); escMember(log[i], "inout") == "out" && escMember(a, "txn.type") != name {
			t.Errorf("%v is a %v in the log and a %v on the ledger", escMember(log[i], "id"), name, escMember(a, "txn.type"))
		}
	}
	readMessages(user)
}

// readMessages reads each message of the last ten blocks, and each transaction in it.
func readMessages(u escUser) {
	u.t.Helper()
	u.esc(true, `{"run":"send_one","address":"0001-00000001-8B4E","amount":1}`) // so that there is one
	id, _ := escMember(u.esc(true, `{"run":"get_block"}`)[0], "block.id").(string)
	newest, err := strconv.ParseUint(id, 16, 32)
	if err != nil {
		u.t.Fatal(err)
	}
	var lists, messages, txs []string
	for block := newest; block > newest-min(newest, 10); block-- {
		lists = append(lists, fmt.Sprintf(`{"run":"get_message_list","block":"%08X"}`, block))
	}
	for i, a := range u.session(true, lists) {
		list, _ := a["messages"].([]any)
		for _, m := range list {
			messages = append(messages, fmt.Sprintf(`{"run":"get_message","message_id":"%v","block":"%08X"}`, m, newest-uint64(i)))
		}
	}
	for _, a := range u.session(true, messages) {
		inside, _ := a["transactions"].([]any)
		for _, tx := range inside {
			txs = append(txs, fmt.Sprintf(`{"run":"get_transaction","txid":"%v"}`, escMember(tx, "id")))
		}
	}
	for i, a := range u.session(true, txs) {
		if name, _ := escMember(a, "txn.type").(string); name == "" {
			u.t.Errorf("%s cannot be read: %v", txs[i], a)
		}
	}
	if len(txs) == 0 {
		u.t.Error("the last ten blocks have no transaction")
	}
}
