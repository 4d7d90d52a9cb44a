package esc

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

// The original's default secret of the first node and its admin.
const goldenSecret = "14B183205CA661F589AD83809952A692DFA48F5D490B10FD120DA7BF10F2F4A0"

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func decodeCommand(t testing.TB, text string) *Command {
	t.Helper()
	c, err := Decode([]byte(text))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return c
}

func TestGoldenKeyTool(t *testing.T) {
	for phrase, want := range map[string]string{
		"user-0-0": "SK: FF767FC8FAF9CFA8D2C3BD193663E8B8CAC85005AD56E085FAB179B52BD88DD6\nPK: D69BCCF69C2D0F6CED025A05FA7F3BA687D1603AC1C8D9752209AC2BBF2C4D17\nSG: 7A1CA8AF3246222C2E06D2ADE525A693FD81A2683B8A8788C32B7763DF6037A5DF3105B92FEF398AF1CDE0B92F18FE68DEF301E4BF7DB0ABC0AEA6BE24969006\n",
		"user-0-1": "SK: 5BF11F5D0130EC994F04B6C5321566A853B7393C33F12E162A6D765ADCCCB45C\nPK: C9965A1417F52B22514559B7608E4E2C1238FCA3602382C535D42D1759A2F196\nSG: ED8479C0EDA3BB02B5B355E05F66F8161811F5AD9AE9473AA91E2DA32457EAB850BC6A04D6D4D5DDFAB4B192D2516D266A38CEA4251B16ABA1DF1B91558A4A05\n",
	} {
		if got := KeyText(phrase); got != want {
			t.Errorf("%s:\n got %s\nwant %s", phrase, got, want)
		}
	}
}

// The seed's get_me: the same bytes, and the members in the same order.
func TestGoldenGetMe(t *testing.T) {
	secret := Secret(goldenSecret)
	me := types.AccountID{Node: 1}
	data := ledger.GetMe{From: me, Target: me, Time: 1499371333}.Sign(secret)
	var o Object
	o.Add("tx", ShowRequest(data, State{Account: me}))
	want := `{
    "tx": {
        "data": "1001000000000001000000000045975E5960A14655AC8341861CECEAB040054058CC3EF62708565B75C4173FB80D60BD74D7DFCFE3EC3C441A95B48D703E6578BFBC161AF3CC1A0F118B32D278336C5704",
        "account_msid": "0"
    }
}
`
	if got := string(o.Text(true)); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
}

// The seed's account, member by member; date is UTC here (the seed's machine stood in CEST).
func TestGoldenAccount(t *testing.T) {
	r := &ledger.Record{Msid: 1, Time: 1499368832, PairedNode: 1, LocalChange: 1499368832, RemoteChange: 1499371296, Balance: 4611617760_726175776,
		PublicKey: types.Hash(unhex(t, "7D21F4EE7DE72EEDDC2EBFFEC5E7F33F140A975A629EE312075BB04610A9CFFF"))}
	got := string(ShowAccount(types.AccountID{Node: 1}, r).Text(true))
	want := `{
    "address": "0001-00000000-9B6F",
    "node": "1",
    "id": "0",
    "msid": "1",
    "time": "1499368832",
    "date": "2017-07-06 19:20:32",
    "status": "0",
    "paired_node": "1",
    "paired_id": "0",
    "local_change": "1499368832",
    "remote_change": "1499371296",
    "balance": "4611617760.726175776",
    "public_key": "7D21F4EE7DE72EEDDC2EBFFEC5E7F33F140A975A629EE312075BB04610A9CFFF",
`
	if !strings.HasPrefix(got, want) {
		t.Errorf("got %s\nwant %s", got, want)
	}
}

// A send_one of the original, from its command to its bytes, hashes, fee and amount.
func TestGoldenSendOne(t *testing.T) {
	const signed = "04010000000000800000006708016B01004000000000407A10F35A0000000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F"
	const sig = "2FC6F161A87A901F6F92FC087C17C948E6C6624448E80FBD72E8CE4D91D25CD3E1AAC0E3344FD5839A51678EFA11DED3434279A7E81BF651029253A236B40D03"
	const in = "CA119B55354CD4BF0726C96325A04DD896E20D306E3DE02A1FB7BF0FE8C34E1F"
	const out = "D1A31F75D37016BED1BABFCFAA07FA3D707F140CD3B5C954B4FCFCE7F5217BF4"
	secret := Secret(goldenSecret)
	s := State{Account: types.AccountID{Node: 1}, Msid: 0x80, Hash: types.Hash(unhex(t, in)), Known: true, Secret: &secret}
	c := decodeCommand(t, `{"run":"send_one","address":"0001-00000040-XXXX","amount":100000.0,"message":"000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F"}`)
	tx, err := Build(c, s, 0x6B010867)
	if err != nil {
		t.Fatal(err)
	}
	o := ShowTx(tx)
	for name, want := range map[string]string{"data": signed + sig, "signature": sig, "account_msid": "128", "account_hashin": in, "account_hashout": out,
		"deduct": "100000.000000000", "fee": "12.207035346"} {
		if got := o.Get(name); got != want {
			t.Errorf("%s: got %v, want %s", name, got, want)
		}
	}
	if next := s.Next(tx); next.Msid != 0x81 || Hex(next.Hash[:]) != out {
		t.Errorf("the next state is %+v", next)
	}
	// The same transaction from its bytes, whole or with the signature beside them.
	for _, text := range []string{
		`{"run":"decode_raw","data":"` + signed + sig + `"}`,
		`{"run":"send_raw","data":"` + signed + `","signature":"` + sig + `"}`,
		`{"run":"send_again","data":"` + signed + `","signature":"` + sig + `","hash":"` + in + `"}`,
	} {
		again, err := decodeCommand(t, text).Raw(State{})
		if err != nil || !bytes.Equal(again.Raw, tx.Raw) {
			t.Errorf("%s: %v", text, err)
			continue
		}
		txn := ShowTxn(again.Tx, again.Raw[0])
		for name, want := range map[string]string{"type": "send_one", "sender_address": "0001-00000000-9B6F", "target_address": "0001-00000040-" + again.Tx.Body.(ledger.SendOne).To.String()[14:],
			"amount": "100000.000000000", "msg_id": "128", "sender_fee": "12.207035346", "signature": sig} {
			if got := txn.Get(name); got != want {
				t.Errorf("%s: %s: got %v, want %s", text, name, got, want)
			}
		}
	}
}

// A signature that was made elsewhere gives the bytes that the secret would have given.
func TestOfflineSignature(t *testing.T) {
	secret := Secret("user-0-0")
	s := State{Account: types.AccountID{Node: 1, User: 7}, Msid: 3, Hash: types.SHA256([]byte("h")), Known: true, Secret: &secret}
	for _, text := range []string{
		`{"run":"send_one","address":"0001-00000001-8B4E","amount":"0.1"}`,
		`{"run":"create_account","node":"0001"}`,
		`{"run":"broadcast","message_ascii":"hello"}`,
	} {
		want, err := Build(decodeCommand(t, text), s, 1700000000)
		if err != nil {
			t.Fatal(text, err)
		}
		offline := strings.TrimSuffix(text, "}") + `,"signature":"` + Hex(want.Tx.Signature[:]) + `","time":1700000000`
		blind := s
		blind.Secret = nil
		got, err := Build(decodeCommand(t, offline+"}"), blind, 5)
		if err != nil || !bytes.Equal(got.Raw, want.Raw) || got.HashOut != want.HashOut {
			t.Errorf("%s: %v", text, err)
		}
	}
	if _, err := Build(decodeCommand(t, `{"run":"broadcast","message_ascii":"hello"}`), State{Known: true}, 1); err == nil || err.Code != CodeNoKey {
		t.Errorf("signed without a secret: %v", err)
	}
}

func TestSignAndCheckTools(t *testing.T) {
	pk := ledger.PublicKey(Secret(goldenSecret))
	sg, err := SignText(goldenSecret, Hex(pk[:]), nil)
	const want = "C42B0C170A78C9985319B7A2E17D44E4BD88845FCE21C3FCC00A496AAAB6E8F84AD54E06F0D5FDDE98D370462C4EFAA52A38C8BCB513B7DF597315835244D10A"
	if err != nil || sg != "SG: "+want+"\n" {
		t.Errorf("%s %v", sg, err)
	}
	if ok, err := CheckText(want, Hex(pk[:]), nil); !ok || err != nil {
		t.Error(ok, err)
	}
	if ok, err := CheckText(want, Hex(pk[:]), []byte("x")); ok || err != nil {
		t.Error(ok, err)
	}
	other := ledger.PublicKey(Secret("other"))
	if _, err := SignText(goldenSecret, Hex(other[:]), nil); err == nil {
		t.Error("signed under another public key")
	}
	for _, bad := range [][3]string{{"12", Hex(pk[:]), "SK"}, {goldenSecret, "zz", "PK"}} {
		if _, err := SignText(bad[0], bad[1], nil); err == nil || !strings.Contains(err.Error(), bad[2]) {
			t.Errorf("%v: %v", bad, err)
		}
	}
}

// Every transaction of the original's is made of its command, and shown again with its name.
func TestEveryTransaction(t *testing.T) {
	secret := Secret("user-0-1")
	s := State{Account: types.AccountID{Node: 1}, Msid: 5, Known: true, Secret: &secret}
	const other = `"public_key":"D69BCCF69C2D0F6CED025A05FA7F3BA687D1603AC1C8D9752209AC2BBF2C4D17"`
	const otherProof = `,"confirm":"7A1CA8AF3246222C2E06D2ADE525A693FD81A2683B8A8788C32B7763DF6037A5DF3105B92FEF398AF1CDE0B92F18FE68DEF301E4BF7DB0ABC0AEA6BE24969006"`
	made := map[string]bool{}
	for _, c := range []struct {
		text      string
		size      int
		fee, cost types.Amount
	}{
		{`{"run":"broadcast","message":"00"}`, 82, 4096 + 65536, 0},
		{`{"run":"send_one","address":"0001-00000001-8B4E","amount":"0.1"}`, 125, 4096 + 12207, 100_000_000},
		{`{"run":"send_one","address":"0002-00000001-659C","amount":"0.1"}`, 125, 4096 + 2*12207, 100_000_000},
		{`{"run":"send_many","wires":{"0001-00000001-8B4E":"0.1"}}`, 95, 4096 + 256 + 12207, 100_000_000},
		{`{"run":"create_account"}`, 177, 4096, 1 << 28},
		{`{"run":"create_account",` + other + otherProof + `}`, 177, 4096, 1 << 28},
		{`{"run":"create_node"}`, 79, 1 << 28, 1 << 36},
		{`{"run":"retrieve_funds","address":"0002-00000001-659C"}`, 85, 1 << 20, 0},
		{`{"run":"change_account_key",` + other + otherProof + `}`, 175, 4096, 0},
		{`{"run":"change_node_key",` + other + otherProof + `}`, 177, 1 << 28, 0},
		{`{"run":"change_node_key","node":"0002","pkey":"C9965A1417F52B22514559B7608E4E2C1238FCA3602382C535D42D1759A2F196"}`, 177, 1 << 28, 0},
		{`{"run":"set_account_status","address":"0001-00000001-8B4E","status":16}`, 87, 65536, 0},
		{`{"run":"unset_account_status","address":"0001-00000001-8B4E","status":16}`, 87, 65536, 0},
		{`{"run":"set_node_status","node":1,"status":8}`, 85, 65536, 0},
		{`{"run":"unset_node_status","node":1,"status":8}`, 85, 65536, 0},
		{`{"run":"log_account"}`, 79, 1 << 20, 0},
	} {
		cmd := decodeCommand(t, c.text)
		tx, err := Build(cmd, s, 1700000000)
		if err != nil {
			t.Errorf("%s: %v", c.text, err)
			continue
		}
		if len(tx.Raw) != c.size || tx.Fee != c.fee || tx.Deduct != c.cost {
			t.Errorf("%s: %d bytes, fee %s, deduct %s; want %d, %s, %s", c.text, len(tx.Raw), tx.Fee, tx.Deduct, c.size, c.fee, c.cost)
		}
		if got := ShowTxn(tx.Tx, tx.Raw[0]).Get("type"); got != cmd.Run {
			t.Errorf("%s is shown as %v", c.text, got)
		}
		made[cmd.Run] = true
	}
	for run := range bodies {
		if !made[run] {
			t.Errorf("%s is not tested", run)
		}
	}
	_, err := Build(decodeCommand(t, `{"run":"change_node_key",`+other+`}`), s, 1)
	if err == nil || err.Code != CodeParse || !strings.Contains(err.Info, "confirm") {
		t.Errorf("a node key without its proof: %v", err)
	}
}
