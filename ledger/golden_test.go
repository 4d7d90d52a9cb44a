package ledger

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/eschaton-network/chand/types"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func unhash(t testing.TB, s string) types.Hash {
	t.Helper()
	h, err := types.ParseHash(s)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func same(t testing.TB, what string, got []byte, want string) {
	t.Helper()
	if g := strings.ToUpper(hex.EncodeToString(got)); g != want {
		t.Errorf("%s:\n got %s\nwant %s", what, g, want)
	}
}

// The default secret of the original's first node and admin, and its public key.
const (
	goldenSecret = "14B183205CA661F589AD83809952A692DFA48F5D490B10FD120DA7BF10F2F4A0"
	goldenKey    = "7D21F4EE7DE72EEDDC2EBFFEC5E7F33F140A975A629EE312075BB04610A9CFFF"
)

func TestGoldenKeys(t *testing.T) {
	for _, v := range []struct{ phrase, sk, pk, sg string }{
		{"user-0-0", "FF767FC8FAF9CFA8D2C3BD193663E8B8CAC85005AD56E085FAB179B52BD88DD6", "D69BCCF69C2D0F6CED025A05FA7F3BA687D1603AC1C8D9752209AC2BBF2C4D17", "7A1CA8AF3246222C2E06D2ADE525A693FD81A2683B8A8788C32B7763DF6037A5DF3105B92FEF398AF1CDE0B92F18FE68DEF301E4BF7DB0ABC0AEA6BE24969006"},
		{"user-0-1", "5BF11F5D0130EC994F04B6C5321566A853B7393C33F12E162A6D765ADCCCB45C", "C9965A1417F52B22514559B7608E4E2C1238FCA3602382C535D42D1759A2F196", "ED8479C0EDA3BB02B5B355E05F66F8161811F5AD9AE9473AA91E2DA32457EAB850BC6A04D6D4D5DDFAB4B192D2516D266A38CEA4251B16ABA1DF1B91558A4A05"},
		{"", goldenSecret, goldenKey, "C42B0C170A78C9985319B7A2E17D44E4BD88845FCE21C3FCC00A496AAAB6E8F84AD54E06F0D5FDDE98D370462C4EFAA52A38C8BCB513B7DF597315835244D10A"},
	} {
		sk := types.Hash(unhex(t, v.sk))
		if v.phrase != "" {
			sk = BrainKey(v.phrase)
			same(t, "secret", sk[:], v.sk)
		}
		pk, sg := PublicKey(sk), KeyProof(sk)
		same(t, "public key", pk[:], v.pk)
		same(t, "proof", sg[:], v.sg)
	}
	pk := PublicKey(BrainKey("server-1"))
	same(t, "server-1", pk[:], "F83AAABE8B1A7931647DBFFAB15C7376B29F8F5779128FF50A3D1ACB673B9968")
}

func TestGoldenAddresses(t *testing.T) {
	for _, s := range []string{"0001-00000000-9B6F", "0001-00000001-8B4E", "0002-00000000-75BD", "0000-00000000-313E", "0001-00000005-CBCA", "0002-00000001-659C", "0001-000000F1-6451"} {
		id, err := types.ParseAccountID(s)
		if err != nil || id.String() != s {
			t.Errorf("%s: %s %v", s, id, err)
		}
	}
}

func TestGoldenGetMe(t *testing.T) {
	const data = "1001000000000001000000000045975E5960A14655AC8341861CECEAB040054058CC3EF62708565B75C4173FB80D60BD74D7DFCFE3EC3C441A95B48D703E6578BFBC161AF3CC1A0F118B32D278336C5704"
	g := GetMe{From: admin(1), Target: admin(1), Time: 1499371333}
	same(t, "get_me", g.Sign(types.Hash(unhex(t, goldenSecret))), data)
	back, valid, err := DecodeGetMe(unhex(t, data), types.Hash(unhex(t, goldenKey)))
	if err != nil || !valid || back != g {
		t.Fatal(back, valid, err)
	}
	bad := unhex(t, data)
	bad[5] ^= 1
	if _, valid, _ := DecodeGetMe(bad, types.Hash(unhex(t, goldenKey))); valid {
		t.Fatal("a changed request is valid")
	}
}

func TestGoldenSendOne(t *testing.T) {
	const data = "04010000000000800000006708016B01004000000000407A10F35A0000000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F"
	const sig = "2FC6F161A87A901F6F92FC087C17C948E6C6624448E80FBD72E8CE4D91D25CD3E1AAC0E3344FD5839A51678EFA11DED3434279A7E81BF651029253A236B40D03"
	var message types.Hash
	for i := range message {
		message[i] = byte(i)
	}
	b := SendOne{To: types.AccountID{Node: 1, User: 0x40}, Amount: 100_000 * coin, Message: message}
	h := Head{From: admin(1), Msid: 0x80, Time: 0x6B010867}
	hashin := unhash(t, "CA119B55354CD4BF0726C96325A04DD896E20D306E3DE02A1FB7BF0FE8C34E1F")
	raw, hashout, err := Sign(types.Hash(unhex(t, goldenSecret)), hashin, h, b)
	if err != nil {
		t.Fatal(err)
	}
	if len(raw) != 125 {
		t.Errorf("%d bytes, want 125", len(raw))
	}
	same(t, "send_one", raw, data+sig)
	same(t, "hashout", hashout[:], "D1A31F75D37016BED1BABFCFAA07FA3D707F140CD3B5C954B4FCFCE7F5217BF4")
	tx, err := DecodeTx(raw)
	if err != nil || tx.Head != h || tx.Body != b {
		t.Fatalf("%+v %v", tx, err)
	}
}

func TestGoldenTxLeaf(t *testing.T) {
	const tx = "040100040000000B000000C118FC5B02000400000000E8764817000000000000000000000000000000000000002A3DBD3F9B1A4E41AED0A3C0732BC7291515D72AF2D0041D8F41727740F8B40A662BC1D7691A00E9B85FE8B15DC5A6C0B08AB898569F432531D89FC762B128962EABD895B3F1D41FB12851B15860E908"
	leaf := TxLeaf(unhex(t, tx), 1, 0xEA0, 1)
	same(t, "leaf", leaf[:], "D35C5C427D59F0F461CAAE33D941CFF01A3A0F2BFB4A86E349408F45BB48AEBA")
	zero := types.SHA256((&NodeMessage{Node: 1, Msid: 0xEA0, Time: 1543248065}).id())
	same(t, "leaf 0", zero[:], "807C957C867CA1FA190E1FCDD22A626685E9C554E2235B699142932DE96CE089")
}

const goldenMessage = "03A400005DB554ABCB7D7112B54383577DC7DDF3D8BFC1592135D0C9E7E322E4C0D6A065918FFD120EBA375A92F701546BC1456A0530193CAE9AC9A637E533AD2A87B10B01002E0000005F09016B07010001000000592E01005E09016B87FD072A15EE598C44813ED14A776B103E7A84234B4F41B31363CCF5EB6BF1CCB3E99D69F040F2C0F7C1A8A3B9E2DF1870317E79DFA3DD2A2E496828760FAE0801E7237F000001"

func TestGoldenNodeMessage(t *testing.T) {
	raw := unhex(t, goldenMessage)
	m, _, r := readMessage(raw)
	if r != nil {
		t.Fatal(r)
	}
	if m.Node != 1 || m.Msid != 0x2E || len(m.Txs) != 2 || m.Txs[0][0] != 7 || m.Txs[1][0] != 1 {
		t.Fatalf("%+v", m)
	}
	root := m.Root()
	same(t, "root", root[:], "1CD47DAB2D0888305081DB03A815D14EEEC5709D4D9789FAA15F2B8F2DB323F5")
	previous := unhash(t, "DF27001A677514F4E5A442B49781EB55E352A4F5972788B4E60F0B9FC8A475E3")
	if !m.Verify(types.Hash(unhex(t, goldenKey)), previous) {
		t.Error("signature does not hold")
	}
	if m.Verify(types.Hash(unhex(t, goldenKey)), root) {
		t.Error("signature holds for another predecessor")
	}
	again, err := m.Encode()
	if err != nil || !bytes.Equal(again, raw) {
		t.Errorf("encoded again: %x %v", again, err)
	}
	m.Signature = [64]byte{}
	m.Sign(types.Hash(unhex(t, goldenSecret)), previous)
	if signed, _ := m.Encode(); !bytes.Equal(signed, raw) {
		t.Error("signing again gives another signature")
	}
}

func TestGoldenChecksum(t *testing.T) {
	id := types.AccountID{Node: 2}
	const record = "010000004009016B" + goldenKey + "000000000200" + "FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF" + "4009016B0100000001000000400A016B00E0E0FF0F000000"
	r := parseHashed((*[recordHashed]byte)(unhex(t, record)))
	sum := r.Checksum(id)
	const want = "A4AEE8E8D6307AE4A2CF28DFC3C74401332B2B4BF4BE5138DAEF0E135E82D67E"
	same(t, "csum", sum[:], want)
	b := r.Marshal(id)
	same(t, "record", b[:], record+want)
}

func TestGoldenHeader(t *testing.T) {
	vip := VIPHash([][32]byte{types.Hash(unhex(t, goldenKey))})
	same(t, "viphash", vip[:], "7216B59609BD28077F08BF27EB63FD6123EB3835F27C322AF2AE5963FCD74F62")
	h := OriginalHeader{
		Now: 0x6B0109E0, Nodes: 3, VIPHash: vip,
		OldHash:  unhash(t, "5255AB46A0D7BA9ABBCD878BA91FD2871703069C737B84DEA5D8E5C8E798FF95"),
		NodeHash: unhash(t, "35A436111C33B122B9FF257E419881EBEBFECAB1F253E91C28F1231EFF980F43"),
	}
	minhash, nowhash := h.MinHash(), h.NowHash()
	same(t, "minhash", minhash[:], "6AD9D4FAD286C269E42F8B3BA0A4CA6D24F62B3E6D13D4DD82FD3EA27B6AA226")
	same(t, "nowhash", nowhash[:], "581DCDDA9ED67D984D1BD1E8DA8EE5AD97C27E56508C7C40E110458822A2AA83")
	c := sigCheck{key: types.Hash(unhex(t, goldenKey)), msg: h.SignedBytes(),
		sig: [64]byte(unhex(t, "E3959F0F1C82815473E660666D329E402A98A761D99988C4C0CD68D64C36E3EB3AEF70E82D1D573A40E2B84B226116866D2DC6E9FACD6FDA6EAB3ECAF40AA102"))}
	if !c.verify() {
		t.Error("header signature does not hold")
	}
}

func TestTreeHash(t *testing.T) {
	l := make([]types.Hash, 7)
	for i := range l {
		l[i] = types.SHA256([]byte{byte(i)})
	}
	p := PairHash
	for n, want := range map[int]types.Hash{
		0: {}, 1: l[0], 2: p(l[0], l[1]), 3: p(p(l[0], l[1]), l[2]),
		7: p(p(p(l[0], l[1]), p(l[2], l[3])), p(p(l[4], l[5]), l[6])),
	} {
		if got := TreeHash(l[:n]); got != want {
			t.Errorf("%d leaves: %s, want %s", n, got, want)
		}
	}
	if p(l[1], l[0]) != p(l[0], l[1]) {
		t.Error("pair depends on the order")
	}
}

// TestDocumentedSizes keeps the table of docs/ledger.md true.
func TestDocumentedSizes(t *testing.T) {
	w, p := opened(t)
	spend := p.spend(p.final(p.split(coin)...), nil)
	closing := p.spend(p.refund(100, 1, p.split(coin)...), p.closer[0])
	for _, c := range []struct {
		body Body
		size int
		fee  types.Amount
	}{
		{Broadcast{make([]byte, 10)}, 81 + 10, 4096 + 65536*10},
		{SendOne{To: p.a, Amount: 8192}, 125, 4096 + 1},
		{SendOne{To: p.b, Amount: 8192}, 125, 4096 + 2},
		{SendMany{[]Wire{{p.a, 8192}, {p.b, 8192}}}, 81 + 2*14, 4096 + 2*256 + 1 + 2},
		{CreateAccount{Node: 1}, 177, 4096},
		{CreateAccount{Node: 2}, 177, 1 << 20},
		{CreateNode{}, 79, 1 << 28},
		{RetrieveFunds{p.a}, 85, 1 << 20},
		{ChangeAccountKey{}, 175, 4096},
		{ChangeNodeKey{}, 177, 1 << 28},
		{SetAccountStatus{p.a, 2}, 87, 65536},
		{UnsetAccountStatus{p.a, 2}, 87, 65536},
		{SetNodeStatus{1, 8}, 85, 65536},
		{UnsetNodeStatus{1, 8}, 85, 65536},
		{LogAccount{}, 79, 1 << 20},
		{AnchorPairs{make([]Pair, 3)}, 81 + 3*64, 4096 + 3*131072},
		{IssueCertificate{Subject: p.a}, 123, 1 << 20},
		{UpdateCertificate{Subject: p.a}, 123, 65536},
		{RevokeCertificate{Subject: p.a}, 87, 65536},
		{Enrol{}, 112, 65536},
		{SetPolicy{Policy: Policy{Admins: []types.AccountID{p.a, p.b}}, Signers: 2, Signatures: make([][64]byte, 1)}, 87 + 2*6 + 64, 2 * 65536},
		{p.open(), 218 + 2*14 + 64, 1<<20 + 256*(218+2*14+64)},
		{spend, 84 + len(spend.Tx), 4096 + 256*types.Amount(84+len(spend.Tx))},
		{closing, 148 + len(closing.Tx), 4096 + 256*types.Amount(148+len(closing.Tx))},
		{Anchor{make([]types.Hash, 3)}, 81 + 3*32, 4096 + 3*65536},
	} {
		if raw := w.sign(p.a, c.body); len(raw) != c.size || Fee(p.a, c.body) != c.fee {
			t.Errorf("%T: %d bytes and a fee of %d, documented are %d and %d", c.body, len(raw), Fee(p.a, c.body), c.size, c.fee)
		}
	}
}
