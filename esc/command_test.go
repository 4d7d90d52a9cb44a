package esc

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

const (
	hex32Text = "000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F"
	hex64Text = hex32Text + hex32Text
)

// Every command of the original, under the names of both eras.
func TestCommands(t *testing.T) {
	a := &types.AccountID{Node: 1, User: 1}
	h := types.Hash{}
	for i := range h {
		h[i] = byte(i)
	}
	var sig [64]byte
	copy(sig[:], h[:])
	copy(sig[32:], h[:])
	n16 := func(v uint16) *uint16 { return &v }
	n32 := func(v uint32) *uint32 { return &v }
	at := func(v types.Height) *types.Height { return &v }
	for text, want := range map[string]Command{
		`{"run":"get_me"}`: {Run: GetMe},
		`{"run":"get_account","address":"0001-00000001-XXXX"}`:                                        {Run: GetAccount, Address: a},
		`{"run":"get_account","node":"0001","id":"00000001"}`:                                         {Run: GetAccount, Address: a, Node: n16(1), User: n32(1)},
		`{"run":"get_accounts","node":"0010"}`:                                                        {Run: GetAccounts, Node: n16(16)},
		`{"run":"get_accounts","node":10,"block":"1F"}`:                                               {Run: GetAccounts, Node: n16(10), Block: at(31)},
		`{"run":"get_accounts","node":"10","block":31}`:                                               {Run: GetAccounts, Node: n16(10), Block: at(31)},
		`{"run":"get_block"}`:                                                                         {Run: GetBlock},
		`{"run":"get_block","block":"595EA9C0"}`:                                                      {Run: GetBlock, Block: at(0x595EA9C0)},
		`{"run":"get_blocks","from":"1","to":"A"}`:                                                    {Run: GetBlocks, From: n32(1), To: n32(10)},
		`{"run":"get_signatures","block":"2"}`:                                                        {Run: GetSignatures, Block: at(2)},
		`{"run":"get_message_list","block":"2"}`:                                                      {Run: GetMessageList, Block: at(2)},
		`{"run":"get_message","message_id":"0001:0000002E"}`:                                          {Run: GetMessage, MessageID: &ledger.Place{Node: 1, Msid: 46}},
		`{"run":"get_message","node":1,"node_msid":46,"block":"5"}`:                                   {Run: GetMessage, MessageID: &ledger.Place{Node: 1, Msid: 46}, Node: n16(1), NodeMsid: n32(46), Block: at(5)},
		`{"run":"get_transaction","txid":"0001:00000EA0:0001"}`:                                       {Run: GetTransaction, Tx: &ledger.Place{Node: 1, Msid: 0xEA0, Position: 1}},
		`{"run":"get_transaction","txid":"0001-00000EA0-0001"}`:                                       {Run: GetTransaction, Tx: &ledger.Place{Node: 1, Msid: 0xEA0, Position: 1}},
		`{"run":"get_transaction","txid":"000100000EA00001"}`:                                         {Run: GetTransaction, Tx: &ledger.Place{Node: 1, Msid: 0xEA0, Position: 1}},
		`{"run":"get_vipkeys","viphash":"` + hex32Text + `"}`:                                         {Run: GetVIPKeys, VIPHash: &h},
		`{"run":"get_broadcast","from":"5"}`:                                                          {Run: GetBroadcast, From: n32(5)},
		`{"run":"get_log","from":"1499371333","type":"send_one","full":true}`:                         {Run: GetLog, From: n32(1499371333), Type: "send_one", Full: true},
		`{"run":"get_fields","type":"send_one"}`:                                                      {Run: GetFields, Type: "send_one"},
		`{"run":"send_one","address":"0001-00000001-8B4E","amount":0.1}`:                              {Run: "send_one", Address: a, Amount: types.Coin / 10},
		`{"amount":"70.0","address":"0001-00000001-8B4E","run":"send_one"}`:                           {Run: "send_one", Address: a, Amount: 70 * types.Coin},
		`{"run":"send_many","wires":{"0001-00000001-8B4E":"1","0001-00000000-9B6F":2}}`:               {Run: "send_many", Wires: []ledger.Wire{{To: *a, Amount: types.Coin}, {To: types.AccountID{Node: 1}, Amount: 2 * types.Coin}}},
		`{"run":"broadcast","message":"68656C6C6F"}`:                                                  {Run: "broadcast", Data: []byte("hello")},
		`{"run":"broadcast","message_ascii":"hello"}`:                                                 {Run: "broadcast", Data: []byte("hello")},
		`{"run":"create_account","node":"0001"}`:                                                      {Run: "create_account", Node: n16(1)},
		`{"run":"create_account","public_key":"` + hex32Text + `","confirm":"` + hex64Text + `"}`:     {Run: "create_account", Key: &h, Proof: &sig},
		`{"run":"create_node"}`:                                                                       {Run: "create_node"},
		`{"run":"log_account"}`:                                                                       {Run: "log_account"},
		`{"run":"retrieve_funds","address":"0001-00000001-8B4E"}`:                                     {Run: "retrieve_funds", Address: a},
		`{"run":"change_account_key","pkey":"` + hex32Text + `","signature":"` + hex64Text + `"}`:     {Run: "change_account_key", Key: &h, Proof: &sig},
		`{"run":"change_account_key","public_key":"` + hex32Text + `","confirm":"` + hex64Text + `"}`: {Run: "change_account_key", Key: &h, Proof: &sig},
		`{"run":"change_account_key","public_key":"` + hex32Text + `","signature":"` + hex64Text + `","confirm":"` + hex64Text + `"}`: {Run: "change_account_key", Key: &h, Proof: &sig, Signature: &sig},
		`{"run":"change_node_key","pkey":"` + hex32Text + `"}`:                                                                        {Run: "change_node_key", Key: &h},
		`{"run":"change_node_key","public_key":"` + hex32Text + `","node":"0002"}`:                                                    {Run: "change_node_key", Key: &h, Node: n16(2)},
		`{"run":"set_account_status","address":"0001-00000001-8B4E","status":"16"}`:                                                   {Run: "set_account_status", Address: a, Status: n32(16)},
		`{"run":"unset_account_status","address":"0001-00000001-8B4E","status":16}`:                                                   {Run: "unset_account_status", Address: a, Status: n32(16)},
		`{"run":"set_node_status","node":2,"status":4294967295}`:                                                                      {Run: "set_node_status", Node: n16(2), Status: n32(1<<32 - 1)},
		`{"run":"unset_node_status","node":2,"status":8}`:                                                                             {Run: "unset_node_status", Node: n16(2), Status: n32(8)},
		`{"run":"send_again","data":"0401"}`:                                                                                          {Run: SendAgain, Data: []byte{4, 1}},
		`{"run":"send_raw","data":"0401","signature":"` + hex64Text + `"}`:                                                            {Run: SendAgain, Data: []byte{4, 1}, Signature: &sig},
		`{"run":"decode_raw","data":"0401"}`:                                                                                          {Run: DecodeRaw, Data: []byte{4, 1}},
	} {
		got, err := Decode([]byte(text))
		if err != nil {
			t.Errorf("%s: %v", text, err)
		} else if !reflect.DeepEqual(*got, want) {
			t.Errorf("%s:\n got %+v\nwant %+v", text, *got, want)
		}
	}
	got := decodeCommand(t, `{"run":"send_one","address":"0001-00000001-8B4E","amount":1,"sender":"0001-00000000-9B6F","msid":"7","hash":"`+hex32Text+`","time":"12","signature":"`+hex64Text+`","extra_data":""}`)
	if *got.Sender != (types.AccountID{Node: 1}) || *got.Msid != 7 || *got.Hash != h || *got.Time != 12 || *got.Signature != sig {
		t.Errorf("%+v", got)
	}
}

// What the original's tests want refused, and more: all of it is error 50.
func TestCommandsRefused(t *testing.T) {
	for text, want := range map[string]string{
		`{"rum":"get_me"}`:                                                            `no field "run"`, // misspelt key
		`{"Run":"get_me"}`:                                                            `no field "run"`,
		`{"run":"get_mee"}`:                                                           `"get_mee" is not known`,
		`{"run":"get_me","address":"x"}`:                                              `"address" is none of get_me`,
		`{"run":"send_one","amount":1}`:                                               `needs the field "address"`,
		`{"run":"send_one","address":"0001-00000001-8B4E"}`:                           `needs the field "amount"`,
		`{"run":"send_one","address":"0001-00000001-8B4F","amount":1}`:                "wrong checksum",
		`{"run":"send_one","address":"0001-00000001-8B4E","amount":1e3}`:              "not a decimal number",
		`{"run":"send_one","address":"0001-00000001-8B4E","amount":0.0000000001}`:     "at most 9 digits",
		`{"run":"send_one","address":"0001-00000001-8B4E","amount":true}`:             "want a string or a number",
		`{"run":"send_one","address":"0001-00000001-8B4E","amount":"--1"}`:            "not a decimal number",
		`{"run":"send_one","address":"0001-00000001-8B4E","amount":1,"message":"00"}`: "want 64 hex digits",
		`{"run":"send_one","address":"0001-00000001-8B4E","amount":1,"amount":2}`:     "there twice",
		`{"run":"broadcast","message":"00","message_ascii":"x"}`:                      "both there",
		`{"run":"broadcast"}`:                                                         `needs the field "message"`,
		`{"run":"broadcast","message":"0"}`:                                           "want hex digits",
		`{"run":"get_account"}`:                                                       `needs the field "address"`,
		`{"run":"get_account","node":"0001"}`:                                         `needs the field "address"`,
		`{"run":"get_account","address":"0001-00000001-8B4E","node":"0001"}`:          "not both",
		`{"run":"get_message"}`:                                                       `needs the field "message_id"`,
		`{"run":"get_message","message_id":"0001:1"}`:                                 "want NNNN:MMMMMMMM in hex",
		`{"run":"get_transaction","txid":"0001:00000EA0"}`:                            "want NNNN:MMMMMMMM:PPPP in hex",
		`{"run":"get_transaction","txid":"0001:+0000EA0:0001"}`:                       "want NNNN:MMMMMMMM:PPPP in hex",
		`{"run":"get_block","block":"123456789"}`:                                     "up to 8 hex digits",
		`{"run":"get_accounts","node":"65536"}`:                                       "a node's number",
		`{"run":"create_account","public_key":"` + hex32Text + `"}`:                   "together",
		`{"run":"change_account_key","pkey":"` + hex32Text + `"}`:                     `needs the field "confirm" or "signature"`,
		`{"run":"change_account_key","pkey":"` + hex32Text + `","public_key":"` + hex32Text + `","confirm":"` + hex64Text + `"}`: `"pkey" is none of`,
		`{"run":"set_account_status","address":"0001-00000001-8B4E","status":65536}`:                                             "16 bits",
		`{"run":"get_fields","type":"nothing"}`:                                                                                  `"nothing" is not known`,
		`{"run":"send_many","wires":["x"]}`:                                                                                      "want an object",
		`{"run":"send_many","wires":{"x":1}}`:                                                                                    "not a ledger address",
		`{"run":"get_log","full":"perhaps"}`:                                                                                     "want true or false",
		`{"run":"get_me"} {"run":"get_me"}`:                                                                                      "follows the command",
		`{"run":"get_me"`:                                                                                                        "not a JSON object",
		`["run","get_me"]`:                                                                                                       "not a JSON object",
		`{"run":"change_account_key",` + "\n" + `":"7A1C"}`:                                                                      "not a JSON object", // as a web page broke the seed's line
		``:                                      "not a JSON object",
		`{"run":` + strings.Repeat("[", 100000): "not a JSON object",
		strings.Repeat(" ", MaxCommand+1):       "at most 1048576",
		manyFields():                            "no command has more than",
	} {
		c, err := Decode([]byte(text))
		if err == nil || err.Code != CodeParse || !strings.Contains(err.Error(), want) {
			t.Errorf("%.100s: %+v, %v; want 50 and %q", text, c, err, want)
		}
	}
	if _, err := Decode([]byte(`{"run":"get_me","extra_data":"00"}`)); err == nil || err.Code != CodeExtraData {
		t.Errorf("extra data: %v", err)
	}
}

func manyFields() string {
	var b strings.Builder
	b.WriteString(`{"run":"get_me"`)
	for i := range 100 {
		fmt.Fprintf(&b, `,"f%d":1`, i)
	}
	return b.String() + "}"
}

// What reads well but no ledger could accept is refused with the ledger's code before anything is sent.
func TestCommandsNobodyAccepts(t *testing.T) {
	secret := Secret("k")
	s := State{Account: types.AccountID{Node: 1}, Known: true, Secret: &secret}
	for text, code := range map[string]uint32{
		`{"run":"send_one","address":"0001-00000001-8B4E","amount":-1}`:                                 17,
		`{"run":"send_many","wires":{"0001-00000001-8B4E":0}}`:                                          ledger.CodeNotPositive,
		`{"run":"send_many","wires":{"0001-00000001-8B4E":-1}}`:                                         ledger.CodeNotPositive,
		`{"run":"send_many","wires":{"0001-00000001-8B4E":1,"0001-00000001-XXXX":2}}`:                   ledger.CodeDuplicate,
		`{"run":"send_many","wires":{"0001-00000001-8B4E":1,"0001-00000001-8B4E":2}}`:                   ledger.CodeDuplicate,
		`{"run":"send_many","wires":{"0001-00000001-8B4E":4611686018,"0001-00000000-9B6F":4611686018}}`: ledger.CodeBalance,
		`{"run":"send_many","wires":{}}`:                                                                ledger.CodeLength,
		`{"run":"broadcast","message":""}`:                                                              ledger.CodeLength,
		`{"run":"broadcast","message_ascii":"` + strings.Repeat("x", ledger.MaxBroadcast+1) + `"}`:      ledger.CodeLength,
	} {
		c := decodeCommand(t, text)
		if _, err := Build(c, s, 1); err == nil || err.Code != code {
			t.Errorf("%.100s: %v, want code %d", text, err, code)
		}
	}
	for text, ok := range map[string]bool{"x": true, strings.Repeat("x", ledger.MaxBroadcast): true} {
		c := decodeCommand(t, `{"run":"broadcast","message_ascii":"`+text+`"}`)
		if _, err := Build(c, s, 1); (err == nil) != ok {
			t.Errorf("broadcast of %d bytes: %v", len(text), err)
		}
	}
}

// A command's own sender, number and hash stand in for the client's.
func TestStateFor(t *testing.T) {
	own := State{Account: types.AccountID{Node: 1}, Msid: 3, Hash: types.SHA256(nil), Known: true}
	if s := own.For(decodeCommand(t, `{"run":"create_node"}`)); s != own {
		t.Errorf("%+v", s)
	}
	if s := own.For(decodeCommand(t, `{"run":"create_node","msid":9}`)); s.Msid != 9 || !s.Known || s.Hash != own.Hash {
		t.Errorf("%+v", s)
	}
	if s := own.For(decodeCommand(t, `{"run":"create_node","sender":"0001-00000001-8B4E"}`)); s.Known || s.Account.User != 1 {
		t.Errorf("another sender has another number: %+v", s)
	}
	if s := own.For(decodeCommand(t, `{"run":"create_node","sender":"0001-00000001-8B4E","msid":1,"hash":"`+hex32Text+`"}`)); !s.Known || s.Msid != 1 {
		t.Errorf("%+v", s)
	}
}

func FuzzDecode(f *testing.F) {
	for name := range specs {
		f.Add([]byte(`{"run":"` + name + `","address":"0001-00000001-8B4E","amount":"0.1","node":"0001","data":"04"}`))
	}
	f.Add([]byte(`{"run":"send_many","wires":{"0001-00000001-8B4E":1}}`))
	f.Add([]byte(`{"run":"change_account_key","pkey":"` + hex32Text + `","signature":"` + hex64Text + `"}`))
	f.Add([]byte(`{"run":"get_transaction","txid":"000100000EA00001"}`))
	secret := Secret("fuzz")
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := Decode(text)
		if err != nil {
			if err.Code != CodeParse && err.Code != CodeExtraData {
				t.Fatalf("code %d: %v", err.Code, err)
			}
			return
		}
		if _, ok := specs[c.Run]; !ok {
			t.Fatalf("unknown command %q", c.Run)
		}
		s := State{Account: types.AccountID{Node: 1}, Known: true, Secret: &secret}.For(c)
		if tx, err := Build(c, s, 1); err == nil {
			again, err := decode(tx.Raw)
			if err != nil || again.Tx.ID != tx.Tx.ID {
				t.Fatalf("what was built can't be read: %v", err)
			}
			_ = ShowTx(tx).Text(true)
			_ = ShowTxn(tx.Tx, tx.Raw[0]).Text(false)
		}
		if tx, err := c.Raw(s); err == nil {
			_ = ShowTxn(tx.Tx, tx.Raw[0]).Text(false)
		}
	})
}
