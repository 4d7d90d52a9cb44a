package itest

import (
	"fmt"
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
	for i, c := range commands {
		line := "{" + c + `,"time":` + fmt.Sprint(1700000000+i) + "}"
		dry, sent := user.esc(true, line, "--dry-run"), user.esc(true, line)
		for _, member := range []string{"tx.data", "tx.account_hashout", "tx.account_msid"} {
			if want, _ := escMember(dry[len(dry)-1], member).(string); want == "" || escMember(sent[len(sent)-1], member) != want {
				t.Errorf("%.60s: %s is %.80q in the dry run, %.80v when it was sent", c, member, want, escMember(sent[len(sent)-1], member))
			}
		}
	}
	user.settings("0001-00000000-XXXX", "user-0-0") // the key that the last command has set

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
		a := user.esc(false, "{"+c+"}")
		if got := escMember(a[len(a)-1], "error_code"); got != code {
			t.Errorf("%.70s: code %v, want %s: %.300v", c, got, code, a)
		}
	}

	// Every id of the account's log is that of a transaction which can be read.
	resolved := 0
	log, _ := user.esc(true, `{"run":"get_log"}`)[0]["log"].([]any)
	for _, e := range log {
		id, _ := escMember(e, "id").(string)
		if id == "" { // a dividend or a node's profit
			continue
		}
		resolved++
		a := user.esc(true, `{"run":"get_transaction","txid":"`+id+`"}`)
		user.want(a, "network_tx.id", id)
		if name := escMember(e, "type"); escMember(e, "inout") == "out" && escMember(a[0], "txn.type") != name {
			t.Errorf("%s is a %v in the log and a %v on the ledger", id, name, escMember(a[0], "txn.type"))
		}
	}
	if resolved < 1+len(commands) {
		t.Errorf("%d ids in a log of %d entries, want %d and more", resolved, len(log), 1+len(commands))
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
	txs := 0
	for block := newest; block > newest-min(newest, 10); block-- {
		list, _ := u.esc(true, fmt.Sprintf(`{"run":"get_message_list","block":"%08X"}`, block))[0]["messages"].([]any)
		for _, m := range list {
			a := u.esc(true, fmt.Sprintf(`{"run":"get_message","message_id":"%v","block":"%08X"}`, m, block))
			inside, _ := a[0]["transactions"].([]any)
			for _, tx := range inside {
				id, _ := escMember(tx, "id").(string)
				if name, _ := escMember(u.esc(true, `{"run":"get_transaction","txid":"`+id+`"}`)[0], "txn.type").(string); name == "" {
					u.t.Errorf("transaction %s of message %v cannot be read", id, m)
				}
				txs++
			}
		}
	}
	if txs == 0 {
		u.t.Error("the last ten blocks have no transaction")
	}
}
