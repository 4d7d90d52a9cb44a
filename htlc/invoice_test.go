package htlc

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/btcsuite/btcd/address/v2/bech32"
	"github.com/btcsuite/btcd/btcec/v2"
	"pgregory.net/rapid"

	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/types/keytable"
)

func testKey(b byte) *btcec.PrivateKey {
	h := types.SHA256([]byte{b})
	k, _ := btcec.PrivKeyFromBytes(h[:])
	return k
}

func request() PaymentRequest {
	return PaymentRequest{Payee: types.NodeID(testKey(1).PubKey().SerializeCompressed()), Amount: 2_500_000, Hash: types.SHA256([]byte("p")),
		Secret: types.SHA256([]byte("s")), Created: 1_800_000_000, Seconds: 3600, Description: "two coffees ☕", FinalDelta: 144}
}

func TestInvoiceGolden(t *testing.T) {
	p := request()
	text, err := EncodeInvoice(p, testKey(1))
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("testdata/invoice.txt")
	if err != nil || strings.TrimSpace(string(want)) != text {
		t.Errorf("got\n%s\nwant (testdata/invoice.txt, %v)\n%s", text, err, want)
	}
	if !strings.HasPrefix(text, "lnesc2500u1") {
		t.Errorf("prefix of %s", text)
	}
	for _, s := range []string{text, strings.ToUpper(text)} {
		if got, err := DecodeInvoice(s); err != nil || !equalRequests(got, p) {
			t.Errorf("got %+v, %v", got, err)
		}
	}
}

func equalRequests(a, b PaymentRequest) bool {
	if len(a.Hints) != len(b.Hints) {
		return false
	}
	for i := range a.Hints {
		if a.Hints[i] != b.Hints[i] {
			return false
		}
	}
	a.Hints, b.Hints = nil, nil
	return string(a.words()) == string(b.words()) && a.Amount == b.Amount && a.Payee == b.Payee
}

func TestInvoiceRoundTrip(t *testing.T) {
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
		for range rapid.IntRange(0, MaxHints).Draw(t, "hints") {
			p.Hints = append(p.Hints, RouteHint{Node: types.NodeID(testKey(2).PubKey().SerializeCompressed()), Channel: ShortID{1, 2},
				Base: types.Amount(rapid.Int64Range(0, 1<<40).Draw(t, "base")), PPM: rapid.Uint32().Draw(t, "ppm"), Delta: rapid.Uint32().Draw(t, "d")})
		}
		text, err := EncodeInvoice(p, testKey(1))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := DecodeInvoice(text); err != nil || !equalRequests(got, p) {
			t.Fatalf("%s: got %+v, %v", text, got, err)
		}
	})
}

func TestInvoiceRefusals(t *testing.T) {
	good, err := EncodeInvoice(request(), testKey(1))
	if err != nil {
		t.Fatal(err)
	}
	forged := request()
	text, _ := EncodeInvoice(forged, testKey(2))
	_, data, ok := strings.Cut(text, "1")
	if !ok {
		t.Fatal(text)
	}
	for name, s := range map[string]string{
		"empty": "", "long": strings.Repeat("q", MaxInvoice+1), "mixed case": "L" + good[1:], "changed": good[:20] + flip(good[20:21]) + good[21:],
		"other network": strings.Replace(good, "lnesc", "lnbc", 1), "cut": good[:len(good)-7], "amount": "lnesc0" + data,
	} {
		if _, err := DecodeInvoice(s); !errors.Is(err, ErrInvoice) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, change := range []func(*PaymentRequest){
		func(p *PaymentRequest) { p.Amount = -1 }, func(p *PaymentRequest) { p.Seconds = 0 }, func(p *PaymentRequest) { p.Description = "\xff" },
		func(p *PaymentRequest) { p.DescriptionHash = types.Hash{1} }, func(p *PaymentRequest) { p.Hints = make([]RouteHint, MaxHints+1) },
		func(p *PaymentRequest) { p.FinalDelta = maxFinalDelta + 1 }, func(p *PaymentRequest) { p.Created = 1 << 35 },
	} {
		p := request()
		change(&p)
		if s, err := EncodeInvoice(p, testKey(1)); !errors.Is(err, ErrInvoice) {
			t.Errorf("accepted %+v: %s", p, s)
		}
	}
	// One signed by somebody else than the payee that it names.
	p := request()
	p.Payee = types.NodeID(testKey(2).PubKey().SerializeCompressed())
	if err := p.verify("lnesc", p.words(), make([]byte, sigWords), nil); err == nil {
		t.Error("a signature of zeros was accepted")
	}
}

// With the table of the payee's key every verdict is the one without it, whatever part of the signature is changed.
func TestInvoiceWithTable(t *testing.T) {
	p, key := request(), testKey(1)
	table := keytable.New(key.PubKey())
	tables := func(k types.PubKey) *keytable.Table {
		if k == types.PubKey(p.Payee) {
			return table
		}
		return nil
	}
	for n := range 40 {
		p.Amount = types.Amount(n + 1)
		text, err := EncodeInvoice(p, key)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := DecodeInvoiceWith(text, tables); err != nil || !equalRequests(got, p) {
			t.Fatalf("%s: %+v, %v", text, got, err)
		}
		hrp := InvoicePrefix + amountText(p.Amount)
		_, words, err := bech32.DecodeNoLimit(text)
		if err != nil {
			t.Fatal(err)
		}
		signed, sig := words[:len(words)-sigWords], words[len(words)-sigWords:]
		for at := range sig {
			changed := append([]byte{}, sig...)
			changed[at] ^= byte(1 << (n % 5))
			without, with := p.verify(hrp, signed, changed, nil), p.verify(hrp, signed, changed, tables)
			if without == nil || with == nil {
				t.Fatalf("word %d of the signature changed: %v, with the table %v", at, without, with)
			}
		}
	}
	forged := p
	forged.Payee = types.NodeID(testKey(2).PubKey().SerializeCompressed())
	text, err := EncodeInvoice(p, key)
	if err != nil {
		t.Fatal(err)
	}
	_, words, _ := bech32.DecodeNoLimit(text)
	if err := forged.verify(InvoicePrefix+amountText(p.Amount), forged.words(), words[len(words)-sigWords:], tables); err == nil {
		t.Error("a signature by somebody else than the payee is taken")
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
	text, _ := EncodeInvoice(request(), testKey(1))
	f.Add(text)
	f.Fuzz(func(t *testing.T, s string) {
		p, err := DecodeInvoice(s)
		if err != nil {
			return
		}
		again, err := EncodeInvoice(p, testKey(1))
		if err != nil {
			t.Fatal(err)
		}
		if q, err := DecodeInvoice(again); err != nil || p.Payee == q.Payee && strings.ToLower(s) != again {
			t.Fatalf("%q read again as %+v: %v", s, q, err)
		}
	})
}
