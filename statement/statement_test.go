package statement_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"
	"pgregory.net/rapid"

	"github.com/eschaton-network/chand/statement"
	"github.com/eschaton-network/chand/types"
)

var update = flag.Bool("update", false, "write the golden files that this package makes")

var (
	ledger = types.Hash{0x1e, 0xd9}
	alice  = [32]byte{1}
	bob    = [32]byte{2}
	nodeC  = types.Seed{3}.NodeKey()
	carol  = "peer:" + types.Seed{3}.NodeID().String()
)

func body(attrs ...string) statement.Body {
	b := statement.Body{Ledger: ledger, Subjects: []string{carol}, Issued: 1_800_000_000, From: 10, Until: 100,
		Attributes: statement.Attributes{}, NotBefore: []types.BlockRef{{Height: 9, Hash: types.Hash{9}}}}
	for _, a := range attrs {
		if err := b.Attributes.Assign(a); err != nil {
			panic(err)
		}
	}
	return b
}

func sign(t testing.TB, b statement.Body, secret [32]byte) *statement.Statement {
	t.Helper()
	s, err := statement.Sign(b, secret)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// full uses every field.
func full(t testing.TB) *statement.Statement {
	old := sign(t, body("rating.quality=1"), alice)
	b := body("rating.quality=5", "rating.text=fast and honest", "price=0.25", `tags=["a","b"]`, "verified=true", "delta=-3")
	b.Subjects = append(b.Subjects, "0001-00000003-XXXX", "https://example.com/x?y=1", "cid:"+old.ID.String())
	b.Supersedes = []statement.ID{old.ID}
	b.Schema = statement.SchemaID("chand/rating/v1")
	b.Extensions = statement.Attributes{"note": "of a later version"}
	pre := types.Preimage{7}
	r, err := statement.NewReceipt(nodeC, ledger, statement.KeyOf(alice), pre.Hash(), types.Coin/2, 8, pre[:])
	if err != nil {
		t.Fatal(err)
	}
	b.Receipt = r
	return sign(t, b, alice)
}

func TestSignOpen(t *testing.T) {
	s := full(t)
	again, err := statement.Open(s.Bytes())
	if err != nil || again.ID != s.ID || again.Subject() != carol || !again.PaidFor() || !again.Receipt.ShowsPreimage() {
		t.Fatalf("%+v, %v", again, err)
	}
	if again.Attributes.Get("rating.quality") != int64(5) || again.Attributes.Get("price") != "0.25" || again.Attributes.Get("no.such") != nil {
		t.Errorf("attributes %v", again.Attributes)
	}
	// The id is the CID that any IPLD tool computes for the block.
	c, err := cid.V1Builder{Codec: cid.DagCBOR, MhType: multihash.SHA2_256}.Sum(s.Bytes())
	if err != nil || c.String() != s.ID.String() {
		t.Errorf("CID %s, want %s", s.ID, c)
	}
	if id, err := statement.ParseID(s.ID.String()); err != nil || id != s.ID {
		t.Errorf("%s, %v", id, err)
	}
}

func TestGolden(t *testing.T) {
	s := full(t)
	if *update {
		if err := os.WriteFile("testdata/full.hex", []byte(hex.EncodeToString(s.Bytes())+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("testdata/full.hex")
	if err != nil {
		t.Fatal(err)
	}
	if got := hex.EncodeToString(s.Bytes()); got != strings.TrimSpace(string(want)) {
		t.Errorf("golden statement is now\n%s", got)
	}
}

// Every changed bit is refused: the encoding is strict and the signatures cover all of it.
func TestNoChangedBitOpens(t *testing.T) {
	good := full(t).Bytes()
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1 << (i % 8)
		if _, err := statement.Open(bad); err == nil {
			t.Fatalf("byte %d changed and still accepted", i)
		}
	}
	for _, bad := range [][]byte{append(bytes.Clone(good), 0), good[:len(good)-1], nil, make([]byte, statement.MaxSize+1)} {
		if _, err := statement.Open(bad); !errors.Is(err, statement.ErrFormat) {
			t.Errorf("%d bytes: %v", len(bad), err)
		}
	}
}

func TestSignRefuses(t *testing.T) {
	for name, f := range map[string]func(b *statement.Body){
		"no ledger":         func(b *statement.Body) { b.Ledger = types.Hash{} },
		"no subject":        func(b *statement.Body) { b.Subjects = nil },
		"subject twice":     func(b *statement.Body) { b.Subjects = []string{carol, strings.TrimPrefix(carol, "peer:")} },
		"too many subjects": func(b *statement.Body) { b.Subjects = strings.Split(strings.Repeat("x:y,", 17)+"x:z", ",") },
		"bad subject":       func(b *statement.Body) { b.Subjects = []string{"no type"} },
		"ends before":       func(b *statement.Body) { b.Until = 9 },
		"revokes, ends":     func(b *statement.Body) { b.Revokes = []statement.ID{{1}} },
		"float":             func(b *statement.Body) { b.Attributes["x"] = 1.5 },
		"bytes":             func(b *statement.Body) { b.Attributes["x"] = []byte("x") },
		"null":              func(b *statement.Body) { b.Attributes["x"] = nil },
		"big":               func(b *statement.Body) { b.Attributes["x"] = int64(statement.MaxInt + 1) },
		"small":             func(b *statement.Body) { b.Attributes["x"] = int64(-statement.MaxInt - 1) },
		"huge":              func(b *statement.Body) { b.Attributes["x"] = uint64(1 << 63) },
		"name":              func(b *statement.Body) { b.Attributes["a.b"] = int64(1) },
		"deep": func(b *statement.Body) {
			var v any = int64(1)
			for range 8 {
				v = map[string]any{"a": v}
			}
			b.Attributes["x"] = v
		},
		"many": func(b *statement.Body) {
			for i := range 65 {
				b.Attributes["x"+strings.Repeat("y", i%60)+strings.Repeat("z", i/60)] = true
			}
		},
		"many in a list": func(b *statement.Body) { b.Attributes["x"] = slices.Repeat([]any{true}, 513) },
		"long text":      func(b *statement.Body) { b.Attributes["x"] = strings.Repeat("x", statement.MaxText+1) },
		"no UTF-8":       func(b *statement.Body) { b.Attributes["x"] = "\xff" },
		"critical":       func(b *statement.Body) { b.Extensions, b.Critical = statement.Attributes{"x": true}, []string{"x"} },
		"critical lost":  func(b *statement.Body) { b.Critical = []string{"x"} },
		"blocks":         func(b *statement.Body) { b.NotBefore = make([]types.BlockRef, 9) },
		"issued":         func(b *statement.Body) { b.Issued = -1 },
		"size": func(b *statement.Body) {
			for _, n := range []string{"a", "b", "c", "d"} {
				b.Attributes[n] = strings.Repeat("x", 4096)
			}
		},
		"receipt of another": func(b *statement.Body) {
			b.Receipt, _ = statement.NewReceipt(nodeC, ledger, statement.KeyOf(bob), types.Hash{1}, 1, 1, nil)
		},
		"receipt of another ledger": func(b *statement.Body) {
			b.Receipt, _ = statement.NewReceipt(nodeC, types.Hash{1}, statement.KeyOf(alice), types.Hash{1}, 1, 1, nil)
		},
		"receipt changed": func(b *statement.Body) {
			b.Receipt, _ = statement.NewReceipt(nodeC, ledger, statement.KeyOf(alice), types.Hash{1}, 1, 1, nil)
			b.Receipt.Amount = "5"
		},
	} {
		b := body("rating.quality=5")
		f(&b)
		if s, err := statement.Sign(b, alice); err == nil {
			t.Errorf("%s: accepted as %s", name, s.ID)
		}
	}
	b := body()
	b.Extensions, b.Critical = statement.Attributes{"x": true}, []string{"x"}
	if _, err := statement.Sign(b, alice); !errors.Is(err, statement.ErrCritical) {
		t.Errorf("critical extension: %v", err)
	}
	if _, err := statement.NewReceipt(nodeC, ledger, statement.KeyOf(alice), types.Hash{1}, 0, 1, nil); err == nil {
		t.Error("receipt over nothing")
	}
}

// Bytes that mean the same but are encoded otherwise are refused.
func TestOnlyOneEncoding(t *testing.T) {
	s := sign(t, body("a=1"), alice)
	var m map[string]any
	if err := cbor.Unmarshal(s.Bytes(), &m); err != nil {
		t.Fatal(err)
	}
	reencode := func(o cbor.EncOptions, m map[string]any) []byte {
		mode, err := o.EncMode()
		if err != nil {
			t.Fatal(err)
		}
		b, err := mode.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	if b := reencode(cbor.CoreDetEncOptions(), m); !bytes.Equal(b, s.Bytes()) {
		t.Fatalf("the deterministic encoding differs: %x", b)
	}
	m["more"] = 1
	if _, err := statement.Decode(reencode(cbor.CoreDetEncOptions(), m)); !errors.Is(err, statement.ErrFormat) {
		t.Errorf("unknown field: %v", err)
	}
	// {"sig": …, "body": …} with the map's length in two bytes, then as an indefinite map, then with the fields swapped.
	raw := s.Bytes()
	i := bytes.Index(raw, []byte("\x64body"))
	for name, b := range map[string][]byte{
		"long head":   append([]byte{0xb8, 2}, raw[1:]...),
		"indefinite":  append(append([]byte{0xbf}, raw[1:]...), 0xff),
		"order":       append(append([]byte{0xa2}, raw[i:]...), raw[1:i]...),
		"twice":       append(append([]byte{0xa3}, raw[1:]...), raw[i:]...),
		"tagged":      append([]byte{0xd9, 0xd9, 0xf7}, raw...),
		"not a map":   {0x01},
		"nested deep": bytes.Repeat([]byte{0x81}, 1000),
	} {
		if _, err := statement.Decode(b); !errors.Is(err, statement.ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestJSONView(t *testing.T) {
	s := full(t)
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	back, err := statement.ParseJSON(b)
	if err != nil || !bytes.Equal(back.Bytes(), s.Bytes()) {
		t.Fatalf("%v\n%s", err, b)
	}
	for name, bad := range map[string]string{
		"unknown field": strings.Replace(string(b), `"v":1`, `"v":1,"w":1`, 1),
		"float":         strings.Replace(string(b), `"quality":5`, `"quality":5.5`, 1),
		"null":          strings.Replace(string(b), `"quality":5`, `"quality":null`, 1),
		"changed":       strings.Replace(string(b), `"quality":5`, `"quality":6`, 1),
		"trailing":      string(b) + "{}",
	} {
		if bad == string(b) {
			t.Fatalf("%s: nothing changed in %s", name, b)
		}
		if _, err := statement.ParseJSON([]byte(bad)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	draft, err := statement.ParseBodyJSON([]byte(`{"ledger":"` + ledger.String() + `","subjects":["` + carol + `"],"attributes":{"a":{"b":7}},"issued":5}`))
	if err != nil {
		t.Fatal(err)
	}
	if d := sign(t, draft, bob); d.Attributes.Get("a.b") != int64(7) || d.Issuer != statement.KeyOf(bob) {
		t.Errorf("%+v", d.Body)
	}
}

func TestAssign(t *testing.T) {
	a := statement.Attributes{}
	for _, e := range []string{"rating.quality=5", "rating.text=a=b", "ok=true", "off=false", "price=1.50", "zip=007", `quoted="12"`, "empty=", `list=[1,"x"]`, "neg=-4", "big=9007199254740992", `map={"k":1}`} {
		if err := a.Assign(e); err != nil {
			t.Errorf("%s: %v", e, err)
		}
	}
	for path, want := range map[string]any{"rating.quality": int64(5), "rating.text": "a=b", "ok": true, "off": false, "price": "1.50", "zip": "007",
		"quoted": "12", "empty": "", "neg": int64(-4), "big": "9007199254740992", "map.k": int64(1)} {
		if got := a.Get(path); got != want {
			t.Errorf("%s is %#v, want %#v", path, got, want)
		}
	}
	for _, e := range []string{"rating.quality=6", "rating.quality.x=1", "noequals", "=x", "a..b=1", "1a=2", "x=[1.5]", "x=[null]", `x={"a b":1}`, "x=[1", "a.b.c.d.e.f.g=1"} {
		if err := a.Assign(e); err == nil {
			t.Errorf("%s: accepted", e)
		}
	}
}

func TestSubjects(t *testing.T) {
	node := types.Seed{3}.NodeID()
	account := types.AccountID{Node: 1, User: 3}
	key := statement.KeyOf(alice)
	for in, want := range map[string]string{
		node.String(): "peer:" + node.String(), "peer:" + node.String(): "peer:" + node.String(),
		account.String(): "account:" + account.String(), "account:0001-00000003-XXXX": "account:" + account.String(),
		key.String(): key.String(), strings.ToUpper(key.String()[8:]): "", "https://a.b/c": "https://a.b/c",
		"isbn:12": "isbn:12", "": "", "plain": "", "two words:x": "", "x:two words": "", "X:y": "", "x:": "", "peer:nonsense": "",
		"account:0001-00000003-0000": "", "cid:xyz": "", "ed25519:00": "", "https://a\x00": "",
	} {
		got, err := statement.ParseSubject(in)
		if (err != nil) != (want == "") || err == nil && got != want {
			t.Errorf("%q reads as %q, %v; want %q", in, got, err, want)
		}
	}
}

func TestLink(t *testing.T) {
	node := types.Seed{5}.NodeKey()
	keys := statement.LinkKeys{Statement: alice, Node: node, Account: types.AccountID{Node: 1, User: 7}, AccountSecret: bob}
	s, err := statement.NewLink(statement.Body{Ledger: ledger, From: 1}, keys)
	if err != nil {
		t.Fatal(err)
	}
	l, err := statement.ParseLink(s)
	if err != nil || l.Node != types.NodeID(node.PubKey().SerializeCompressed()) || l.Account != keys.Account || l.AccountKey != [32]byte(statement.KeyOf(bob)) || l.Issuer != statement.KeyOf(alice) {
		t.Fatalf("%+v, %v", l, err)
	}
	// Another issuer can't take the same proofs.
	if stolen := sign(t, s.Body, bob); stolen != nil {
		if _, err := statement.ParseLink(stolen); !errors.Is(err, statement.ErrSignature) {
			t.Errorf("stolen link: %v", err)
		}
	}
	b := s.Body
	b.Attributes = statement.Attributes{"link": map[string]any{"node": l.Node.String(), "node_proof": strings.Repeat("00", 64)}}
	if _, err := statement.ParseLink(sign(t, b, alice)); !errors.Is(err, statement.ErrSignature) {
		t.Errorf("empty proof: %v", err)
	}
	if _, err := statement.ParseLink(full(t)); !errors.Is(err, statement.ErrFormat) {
		t.Errorf("no link: %v", err)
	}
	keys.Account = types.AccountID{}
	if s, err = statement.NewLink(statement.Body{Ledger: ledger}, keys); err != nil {
		t.Fatal(err)
	}
	if l, err := statement.ParseLink(s); err != nil || !l.Account.IsZero() {
		t.Errorf("%+v, %v", l, err)
	}
}

func TestIndexKeys(t *testing.T) {
	s := sign(t, body("rating.quality=5"), alice)
	got := strings.Join(s.IndexKeys(), " ")
	want := strings.Join([]string{statement.IssuerKey(statement.KeyOf(alice)), statement.SubjectKey(carol), statement.AttributeKey("rating"), statement.AttributeKey("rating.quality")}, " ")
	if got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if statement.DHTKey("a/x") == statement.DHTKey("a/y") || statement.DHTKey("a/x").IsZero() {
		t.Error("DHT keys collide")
	}
}

func drawBody(t *rapid.T) statement.Body {
	b := body()
	name := rapid.StringMatching(`[a-z]{1,3}`)
	value := rapid.OneOf(rapid.Map(rapid.Int64Range(-statement.MaxInt, statement.MaxInt), func(n int64) any { return n }),
		rapid.Map(rapid.String(), func(s string) any { return strings.ToValidUTF8(s, "") }), rapid.Map(rapid.Bool(), func(b bool) any { return b }))
	b.Attributes["m"] = rapid.MapOfN(name, value, 0, 5).Draw(t, "map")
	b.Attributes["l"] = rapid.SliceOfN(value, 0, 5).Draw(t, "list")
	b.From = types.Height(rapid.Uint32Range(0, 50).Draw(t, "from"))
	b.Issued = types.Time(rapid.Int64Range(0, statement.MaxInt).Draw(t, "issued"))
	return b
}

// What was signed opens, and every view of it gives the same bytes.
func TestRoundTrips(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, err := statement.Sign(drawBody(t), alice)
		if err != nil {
			t.Fatal(err)
		}
		b, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		j, err := statement.ParseJSON(b)
		if err != nil || !bytes.Equal(j.Bytes(), s.Bytes()) {
			t.Fatalf("%v: %s", err, b)
		}
	})
}

func FuzzOpen(f *testing.F) {
	f.Add(full(f).Bytes())
	f.Add(sign(f, body("a=1"), bob).Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := statement.Decode(b)
		if err != nil {
			return
		}
		if !bytes.Equal(s.Bytes(), b) || s.ID != statement.IDOf(b) || len(s.Subjects) == 0 {
			t.Fatalf("decoded as %+v", s)
		}
		j, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := statement.ParseJSON(j); err != nil && !errors.Is(err, statement.ErrSignature) {
			t.Fatalf("JSON view of a well-formed statement: %v", err)
		}
	})
}

func FuzzParseJSON(f *testing.F) {
	b, err := json.Marshal(full(f))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := statement.ParseJSON(b); err == nil && s.Verify() != nil {
			t.Fatal("unsigned statement accepted")
		}
	})
}

func BenchmarkOpen(b *testing.B) {
	raw := sign(b, body("rating.quality=5"), alice).Bytes()
	for b.Loop() {
		if _, err := statement.Open(raw); err != nil {
			b.Fatal(err)
		}
	}
}
