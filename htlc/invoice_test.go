package htlc

import (
	"bytes"
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/btcsuite/btcd/address/v2/bech32"
	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/btcec/v2/ecdsa"
	"pgregory.net/rapid"

	"github.com/eschaton-network/chand/types"
)

func testKey(b byte) *btcec.PrivateKey {
	h := types.SHA256([]byte{b})
	k, _ := btcec.PrivKeyFromBytes(h[:])
	return k
}

func testNode(b byte) types.NodeID { return types.NodeID(testKey(b).PubKey().SerializeCompressed()) }

func request() PaymentRequest {
	return PaymentRequest{Payee: testNode(1), Amount: 2_500_000, Hash: types.SHA256([]byte("p")), Secret: types.SHA256([]byte("s")), Created: 1_800_000_000,
		Seconds: 3600, Description: "two coffees ☕", FinalDelta: 144, MultiPart: true, OnionKey: onionSecret(1).Key()}
}

func hint(b byte) RouteHint {
	return RouteHint{Node: testNode(b), Channel: ShortID{b, 2}, Base: 1000, PPM: 100, Delta: 9000, Reserve: 7, Max: types.MaxAmount, OnionKey: onionSecret(int(b)).Key()}
}

// requests are one of each form.
func requests(t testing.TB) []PaymentRequest {
	hashed, hinted, hidden := request(), request(), request()
	hashed.Amount, hashed.Description, hashed.DescriptionHash, hashed.MultiPart = 0, "", types.SHA256([]byte("a long description")), false
	hinted.Hints = [][]RouteHint{{hint(2)}, {hint(3), hint(4)}}
	path, _ := blindedPath(t, 3, 1)
	hidden.OnionKey, hidden.Paths = types.OnionKey{}, []BlindedPath{*path, *path}
	return []PaymentRequest{request(), hashed, hinted, hidden}
}

// Texts that must not change: they are printed, and other programs read them.
func TestInvoiceGolden(t *testing.T) {
	var texts []string
	for _, p := range requests(t) {
		text, err := EncodeInvoice(p, testKey(1))
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range []string{text, strings.ToUpper(text)} {
			if got, err := DecodeInvoice(s); err != nil || !reflect.DeepEqual(got, p) {
				t.Errorf("got %+v, %v\nwant %+v", got, err, p)
			}
		}
		texts = append(texts, text)
	}
	all := strings.Join(texts, "\n") + "\n"
	if *rewrite {
		if err := os.WriteFile("testdata/invoice.txt", []byte(all), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want, err := os.ReadFile("testdata/invoice.txt"); err != nil || string(want) != all {
		t.Errorf("testdata/invoice.txt (%v) differs: got\n%s", err, all)
	}
	if !strings.HasPrefix(texts[0], "lnesc2500u1") || !strings.HasPrefix(texts[1], "lnesc1") {
		t.Errorf("prefixes of %s", all)
	}
}

func TestInvoiceRoundTrip(t *testing.T) {
	path, _ := blindedPath(t, MaxBlindedHops, 0)
	rapid.Check(t, func(t *rapid.T) {
		p := request()
		p.Amount = types.Amount(rapid.Int64Range(0, int64(types.MaxAmount)).Draw(t, "amount"))
		if rapid.Bool().Draw(t, "round") {
			p.Amount -= p.Amount % types.Coin
		}
		p.Seconds = rapid.Uint32Range(1, maxInvoiceSeconds).Draw(t, "seconds")
		p.FinalDelta = rapid.Uint32Range(0, maxFinalDelta).Draw(t, "delta")
		p.Description = rapid.StringN(0, 80, MaxDescription).Draw(t, "text")
		if rapid.Bool().Draw(t, "hashed") {
			p.Description, p.DescriptionHash = "", types.SHA256([]byte(p.Description))
		}
		p.MultiPart = rapid.Bool().Draw(t, "parts")
		if n := rapid.IntRange(0, MaxPaths).Draw(t, "paths"); n > 0 {
			p.OnionKey = types.OnionKey{}
			for range n {
				q := *path
				q.Hops = q.Hops[:rapid.IntRange(1, MaxBlindedHops).Draw(t, "hops")]
				p.Paths = append(p.Paths, q)
			}
		} else {
			for range rapid.IntRange(0, MaxHints).Draw(t, "hints") {
				var way []RouteHint
				for range rapid.IntRange(1, MaxHintHops).Draw(t, "hops") {
					h := hint(3)
					h.Base, h.PPM = types.Amount(rapid.Int64Range(0, int64(types.MaxAmount)).Draw(t, "base")), rapid.Uint32().Draw(t, "ppm")
					way = append(way, h)
				}
				p.Hints = append(p.Hints, way)
			}
		}
		text, err := EncodeInvoice(p, testKey(1))
		if err != nil || len(text) > MaxInvoice {
			t.Fatal(len(text), err)
		}
		if got, err := DecodeInvoice(text); err != nil || !reflect.DeepEqual(got, p) {
			t.Fatalf("%s: got %+v, %v", text, got, err)
		}
	})
}

// The largest of each form is taken by the reader.
func TestInvoiceLargest(t *testing.T) {
	p, q := request(), request()
	p.Amount, p.Description = types.MaxAmount, strings.Repeat("x", MaxDescription)
	q = p
	for range MaxHints {
		p.Hints = append(p.Hints, []RouteHint{hint(1), hint(2), hint(3), hint(4)})
	}
	path, _ := blindedPath(t, MaxBlindedHops, 0)
	q.OnionKey, q.Paths = types.OnionKey{}, []BlindedPath{*path, *path, *path}
	for _, p := range []PaymentRequest{p, q} {
		text, err := EncodeInvoice(p, testKey(1))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := DecodeInvoice(text); err != nil {
			t.Errorf("%d characters: %v", len(text), err)
		}
	}
}

// signWords makes the text of any data part, as a payee who writes other fields than we do would.
func signWords(hrp string, words []byte, key *btcec.PrivateKey) string {
	sig := ecdsa.SignCompact(key, signedHash(hrp, words), true)
	text, err := bech32.Encode(hrp, append(words, toWords(append(append([]byte{}, sig[1:]...), sig[0]-31))...))
	if err != nil {
		panic(err)
	}
	return text
}

// split cuts the data part of an invoice into its fields.
func split(p PaymentRequest) (head []byte, fields [][]byte) {
	w := p.words()
	head, w = w[:timeWords], w[timeWords:]
	for len(w) > 0 {
		n := 3 + (int(w[1])<<5 | int(w[2]))
		fields, w = append(fields, w[:n]), w[n:]
	}
	return head, fields
}

// Fields may come in any order, those that nobody here knows are skipped, and what has a default may be left out.
func TestInvoiceForeignForms(t *testing.T) {
	p := request()
	head, fields := split(p)
	const hrp = "lnesc2500u"
	unknown := []byte{27, 0, 3, 1, 2, 3}
	backwards := bytes.Clone(head)
	for i := len(fields) - 1; i >= 0; i-- {
		backwards = append(append(backwards, fields[i]...), unknown...)
	}
	if got, err := DecodeInvoice(signWords(hrp, backwards, testKey(1))); err != nil || !reflect.DeepEqual(got, p) {
		t.Errorf("backwards, with unknown fields: %+v, %v", got, err)
	}
	short := bytes.Clone(head)
	for _, f := range fields {
		if f[0] != tagExpiry && f[0] != tagFinalDelta && f[0] != tagPayee {
			short = append(short, f...)
		}
	}
	want := p
	want.Seconds, want.FinalDelta = 3600, 18
	if got, err := DecodeInvoice(signWords(hrp, short, testKey(1))); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("with defaults, payee recovered: %+v, %v", got, err)
	}
	for name, change := range map[string]func(tag byte, f []byte) []byte{
		"no hash": drop(tagHash), "no secret": drop(tagSecret), "no features": drop(tagFeatures), "no description": drop(tagDescription), "no onion key": drop(tagOnionKey),
		"hash twice": twice(tagHash), "description twice": twice(tagDescription), "payee twice": twice(tagPayee),
		"secret too short":      replace(tagSecret, append([]byte{tagSecret, 1, 19}, make([]byte, 51)...)),
		"spare bits not zero":   replace(tagSecret, append(append([]byte{tagSecret, 1, 20}, make([]byte, 51)...), 1)),
		"expiry with zero":      replace(tagExpiry, []byte{tagExpiry, 0, 2, 0, 9}),
		"expiry of 35 bits":     replace(tagExpiry, []byte{tagExpiry, 0, 7, 31, 31, 31, 31, 31, 31, 31}),
		"unknown even feature":  replace(tagFeatures, []byte{tagFeatures, 0, 5, 1, 0, 16, 8, 0}),
		"features without zero": replace(tagFeatures, []byte{tagFeatures, 0, 4, 0, 16, 8, 0}),
		"no secret feature":     replace(tagFeatures, []byte{tagFeatures, 0, 2, 8, 0}),
		"two descriptions":      replace(tagExpiry, append([]byte{tagDescHash, 1, 20, 1}, make([]byte, 51)...)),
		"odd hint":              replace(tagExpiry, []byte{tagHints, 0, 2, 1, 0}),
		"empty hint":            replace(tagExpiry, []byte{tagHints, 0, 0}),
		"path cut off":          replace(tagExpiry, []byte{tagPaths, 0, 2, 1, 0}),
		"field cut off":         replace(tagFeatures, []byte{tagFeatures, 31, 31}),
	} {
		words := bytes.Clone(head)
		for _, f := range fields {
			words = append(words, change(f[0], f)...)
		}
		if got, err := DecodeInvoice(signWords(hrp, words, testKey(1))); !errors.Is(err, ErrInvoice) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

func drop(tag byte) func(byte, []byte) []byte { return replace(tag, nil) }

func replace(tag byte, by []byte) func(byte, []byte) []byte {
	return func(t byte, f []byte) []byte {
		if t == tag {
			return by
		}
		return f
	}
}

func twice(tag byte) func(byte, []byte) []byte {
	return func(t byte, f []byte) []byte {
		if t == tag {
			return append(bytes.Clone(f), f...)
		}
		return f
	}
}

func TestInvoiceRefusals(t *testing.T) {
	good, err := EncodeInvoice(request(), testKey(1))
	if err != nil {
		t.Fatal(err)
	}
	_, data, ok := strings.Cut(good, "1")
	if !ok {
		t.Fatal(good)
	}
	p := request()
	for name, s := range map[string]string{
		"empty": "", "long": strings.Repeat("q", MaxInvoice+1), "mixed case": "L" + good[1:], "changed": good[:20] + flip(good[20:21]) + good[21:],
		"other network": strings.Replace(good, "lnesc", "lnbc", 1), "cut": good[:len(good)-7], "amount": "lnesc0" + data,
		"signed by another": signWords("lnesc2500u", p.words(), testKey(2)),
	} {
		if _, err := DecodeInvoice(s); !errors.Is(err, ErrInvoice) {
			t.Errorf("%s: %v", name, err)
		}
	}
	path, _ := blindedPath(t, 2, 0)
	for i, change := range []func(*PaymentRequest){
		func(p *PaymentRequest) { p.Amount = -1 }, func(p *PaymentRequest) { p.Seconds = 0 }, func(p *PaymentRequest) { p.Description = "\xff" },
		func(p *PaymentRequest) { p.DescriptionHash = types.Hash{1} }, func(p *PaymentRequest) { p.Hints = make([][]RouteHint, MaxHints+1) },
		func(p *PaymentRequest) { p.FinalDelta = maxFinalDelta + 1 }, func(p *PaymentRequest) { p.Created = 1 << 35 },
		func(p *PaymentRequest) { p.OnionKey = types.OnionKey{} }, func(p *PaymentRequest) { p.Paths = []BlindedPath{*path} },
		func(p *PaymentRequest) { p.Hints = [][]RouteHint{{}} }, func(p *PaymentRequest) { p.Hints = [][]RouteHint{make([]RouteHint, MaxHintHops+1)} },
		func(p *PaymentRequest) { p.OnionKey, p.Paths = types.OnionKey{}, []BlindedPath{{}} },
		func(p *PaymentRequest) {
			p.OnionKey, p.Paths, p.Hints = types.OnionKey{}, []BlindedPath{*path}, [][]RouteHint{{hint(2)}}
		},
	} {
		p := request()
		change(&p)
		if s, err := EncodeInvoice(p, testKey(1)); !errors.Is(err, ErrInvoice) {
			t.Errorf("%d: accepted %+v: %s", i, p, s)
		}
	}
	if err := p.verify("lnesc", p.words(), make([]byte, sigWords), nil); err == nil {
		t.Error("a signature of zeros was accepted")
	}
}

func flip(s string) string {
	if s == "q" {
		return "p"
	}
	return "q"
}

func TestAmountText(t *testing.T) {
	for a, want := range map[types.Amount]string{0: "", 1: "1n", 1000: "1u", 1e6: "1m", 1e9: "1", 1_500_000_000: "1500m", types.MaxAmount: "4611686018427387904n"} {
		if got := amountText(a); got != want {
			t.Errorf("%d: %q, want %q", a, got, want)
		}
		if got, err := parseAmountText(want); err != nil || got != a {
			t.Errorf("%q: %d, %v", want, got, err)
		}
	}
	for _, s := range []string{"0", "0n", "01", "1000n", "1000000u", "-1", "+1", "n", "1p", "1nn", "99999999999999999999", "1 "} {
		if a, err := parseAmountText(s); err == nil {
			t.Errorf("%q was read as %d", s, a)
		}
	}
}

func FuzzInvoice(f *testing.F) {
	for _, p := range requests(f) {
		text, _ := EncodeInvoice(p, testKey(1))
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := DecodeInvoice(s)
		if err != nil {
			return
		}
		again, err := EncodeInvoice(p, testKey(1))
		if err != nil {
			t.Fatal(err)
		}
		q, err := DecodeInvoice(again)
		if q.Payee = p.Payee; err != nil || !reflect.DeepEqual(p, q) {
			t.Fatalf("%q read again as %+v: %v", s, q, err)
		}
	})
}

// FuzzInvoiceFields reaches the fields, which the checksum and the signature guard.
func FuzzInvoiceFields(f *testing.F) {
	for _, p := range requests(f) {
		f.Add(p.words()[timeWords:])
	}
	f.Fuzz(func(t *testing.T, w []byte) {
		for i := range w {
			w[i] &= 31
		}
		var p PaymentRequest
		if p.readFields(w) != nil || p.check() != nil {
			return
		}
		p.Payee = testNode(1)
		text, err := EncodeInvoice(p, testKey(1))
		if err != nil {
			t.Fatal(err)
		}
		if q, err := DecodeInvoice(text); err != nil || !reflect.DeepEqual(p, q) {
			t.Fatalf("read again as %+v: %v, was %+v", q, err, p)
		}
	})
}
