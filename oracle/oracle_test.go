package oracle_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/eschaton-network/chand/oracle"
	"github.com/eschaton-network/chand/statement"
	"github.com/eschaton-network/chand/types"
)

var (
	ledger = types.Hash{0x1e, 0xd9}
	secret = [32]byte{1}
	other  = [32]byte{2}
)

type fataler interface{ Fatal(...any) }

// announce makes an announcement with n outcomes and returns it with their preimages.
func announce(t fataler, n int) (oracle.Announcement, []types.Preimage) {
	pre := oracle.Preimages(secret, [32]byte{9}, n)
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("outcome %d", i)
	}
	outcomes, err := oracle.Outcomes(names, pre)
	if err != nil {
		t.Fatal(err)
	}
	a, err := oracle.Announce(body(), event(outcomes), secret)
	if err != nil {
		t.Fatal(err)
	}
	return a, pre
}

func body() statement.Body { return statement.Body{Ledger: ledger, From: 5, Until: 500, Issued: 7} }

func event(outcomes []oracle.Outcome) oracle.Event {
	return oracle.Event{Text: "Who wins the final? As the federation publishes it.", Outcomes: outcomes, AnswerBy: 400, AnswerTime: 1_900_000_000, Default: outcomes[0].Name}
}

func TestAnnounceAttest(t *testing.T) {
	for _, n := range []int{2, 3, oracle.MaxOutcomes} {
		a, pre := announce(t, n)
		s, err := statement.Open(a.Statement.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		b, err := oracle.ParseAnnouncement(s)
		if err != nil || fmt.Sprint(b.Event) != fmt.Sprint(a.Event) || b.Outcomes[n-1].Hash != pre[n-1].Hash() {
			t.Fatalf("%+v, %v", b, err)
		}
		for i, p := range pre {
			att, err := oracle.Attest(body(), a, p, secret)
			if err != nil {
				t.Fatal(err)
			}
			s, err := statement.Open(att.Statement.Bytes())
			if err != nil {
				t.Fatal(err)
			}
			if att, err = oracle.ParseAttestation(s); err != nil {
				t.Fatal(err)
			}
			if got, err := att.Check(b); got != i || err != nil || att.Outcome != a.Outcomes[i].Name {
				t.Fatalf("outcome %d attested as %d, %v", i, got, err)
			}
		}
	}
}

func TestAnnounceRefuses(t *testing.T) {
	pre := oracle.Preimages(secret, [32]byte{1}, oracle.MaxOutcomes+1)
	names := make([]string, len(pre))
	for i := range names {
		names[i] = fmt.Sprint(i)
	}
	all, err := oracle.Outcomes(names, pre)
	if err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string]func(e *oracle.Event, b *statement.Body){
		"one outcome":     func(e *oracle.Event, _ *statement.Body) { e.Outcomes = all[:1] },
		"too many":        func(e *oracle.Event, _ *statement.Body) { e.Outcomes = all },
		"same name":       func(e *oracle.Event, _ *statement.Body) { e.Outcomes[1].Name = e.Outcomes[0].Name },
		"same hash":       func(e *oracle.Event, _ *statement.Body) { e.Outcomes[1].Hash = e.Outcomes[0].Hash },
		"no hash":         func(e *oracle.Event, _ *statement.Body) { e.Outcomes[1].Hash = types.Hash{} },
		"blank name":      func(e *oracle.Event, _ *statement.Body) { e.Outcomes[1].Name = " x" },
		"no name":         func(e *oracle.Event, _ *statement.Body) { e.Outcomes[1].Name = "" },
		"no text":         func(e *oracle.Event, _ *statement.Body) { e.Text = "" },
		"long text":       func(e *oracle.Event, _ *statement.Body) { e.Text = strings.Repeat("x", oracle.MaxEventText+1) },
		"no block":        func(e *oracle.Event, _ *statement.Body) { e.AnswerBy = 0 },
		"negative time":   func(e *oracle.Event, _ *statement.Body) { e.AnswerTime = -1 },
		"unknown default": func(e *oracle.Event, _ *statement.Body) { e.Default = "nobody" },
		"ends before":     func(_ *oracle.Event, b *statement.Body) { b.Until = 399 },
		"no ledger":       func(_ *oracle.Event, b *statement.Body) { b.Ledger = types.Hash{} },
	} {
		e, b := event(append([]oracle.Outcome{}, all[:3]...)), body()
		f(&e, &b)
		if _, err := oracle.Announce(b, e, secret); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := oracle.Outcomes([]string{"a"}, pre); err == nil {
		t.Error("names and preimages of different number accepted")
	}
}

// Whatever is added to, taken from or changed in the attributes of an announcement or attestation is refused.
func TestParseIsStrict(t *testing.T) {
	a, pre := announce(t, 3)
	att, err := oracle.Attest(body(), a, pre[1], secret)
	if err != nil {
		t.Fatal(err)
	}
	reparse := func(s *statement.Statement, change func(b *statement.Body, m map[string]any)) error {
		copied, err := statement.Decode(s.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		b := copied.Body
		m, ok := b.Attributes["event"].(map[string]any)
		if !ok {
			m = b.Attributes["attestation"].(map[string]any)
		}
		change(&b, m)
		signed, err := statement.Sign(b, secret)
		if err != nil {
			t.Fatal(err)
		}
		if _, err1 := oracle.ParseAnnouncement(signed); err1 == nil {
			return nil
		}
		_, err2 := oracle.ParseAttestation(signed)
		return err2
	}
	nothing := func(*statement.Body, map[string]any) {}
	if reparse(a.Statement, nothing) != nil || reparse(att.Statement, nothing) != nil {
		t.Fatal("unchanged statements refused")
	}
	outcome := func(m map[string]any) map[string]any { return m["outcomes"].([]any)[0].(map[string]any) }
	for name, c := range map[string]func(b *statement.Body, m map[string]any){
		"field added":    func(_ *statement.Body, m map[string]any) { m["more"] = true },
		"field beside":   func(b *statement.Body, _ map[string]any) { b.Attributes["more"] = true },
		"no text":        func(_ *statement.Body, m map[string]any) { delete(m, "text") },
		"text changed":   func(_ *statement.Body, m map[string]any) { m["text"] = "other" },
		"height as text": func(_ *statement.Body, m map[string]any) { m["answer_by"] = "400" },
		"height too big": func(_ *statement.Body, m map[string]any) { m["answer_by"] = int64(1 << 40) },
		"time zero":      func(_ *statement.Body, m map[string]any) { m["answer_time"] = int64(0) },
		"default empty":  func(_ *statement.Body, m map[string]any) { m["default"] = "" },
		"no outcomes":    func(_ *statement.Body, m map[string]any) { delete(m, "outcomes") },
		"outcome text":   func(_ *statement.Body, m map[string]any) { m["outcomes"] = []any{"a", "b"} },
		"upper case": func(_ *statement.Body, m map[string]any) {
			o := outcome(m)
			o["hash"] = strings.ToUpper(o["hash"].(string))
		},
		"outcome field": func(_ *statement.Body, m map[string]any) { outcome(m)["more"] = true },
		"schema":        func(b *statement.Body, _ map[string]any) { b.Schema = oracle.AttestationSchema },
		"subject":       func(b *statement.Body, _ map[string]any) { b.Subjects = []string{"x:y"} },
	} {
		if reparse(a.Statement, c) == nil {
			t.Errorf("announcement, %s: accepted", name)
		}
	}
	for name, c := range map[string]func(b *statement.Body, m map[string]any){
		"field added":  func(_ *statement.Body, m map[string]any) { m["more"] = true },
		"no preimage":  func(_ *statement.Body, m map[string]any) { delete(m, "preimage") },
		"short":        func(_ *statement.Body, m map[string]any) { m["preimage"] = "00" },
		"announcement": func(_ *statement.Body, m map[string]any) { m["announcement"] = "bafy" },
		"other id":     func(_ *statement.Body, m map[string]any) { m["announcement"] = statement.ID{1}.String() },
		"subject":      func(b *statement.Body, _ map[string]any) { b.Subjects = []string{"x:y"} },
	} {
		if reparse(att.Statement, c) == nil {
			t.Errorf("attestation, %s: accepted", name)
		}
	}
}

func TestAttestRefuses(t *testing.T) {
	a, pre := announce(t, 3)
	if _, err := oracle.Attest(body(), a, types.Preimage{1}, secret); !errors.Is(err, oracle.ErrAttestation) {
		t.Errorf("foreign preimage: %v", err)
	}
	if _, err := oracle.Attest(body(), a, pre[0], other); !errors.Is(err, oracle.ErrAttestation) {
		t.Errorf("another oracle: %v", err)
	}
	good, err := oracle.Attest(body(), a, pre[1], secret)
	if err != nil {
		t.Fatal(err)
	}
	wrong := good
	wrong.Outcome = a.Outcomes[0].Name
	if _, err := wrong.Check(a); !errors.Is(err, oracle.ErrAttestation) {
		t.Errorf("wrong name: %v", err)
	}
	b, err := oracle.Announce(statement.Body{Ledger: ledger}, a.Event, secret)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := good.Check(b); !errors.Is(err, oracle.ErrAttestation) {
		t.Errorf("another announcement: %v", err)
	}
}

// Two preimages of different outcomes prove fraud, in whatever order; anything else proves nothing.
func TestFraudProof(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(2, 6).Draw(t, "outcomes")
		a, pre := announce(t, n)
		pick := rapid.IntRange(-1, n-1)
		i, j := pick.Draw(t, "first"), pick.Draw(t, "second")
		at := func(i int, salt byte) types.Preimage {
			if i < 0 {
				return types.Preimage{salt}
			}
			return pre[i]
		}
		proof, err := oracle.ProveFraud(a, at(i, 1), at(j, 2))
		fraud := i >= 0 && j >= 0 && i != j
		if fraud != (err == nil) {
			t.Fatalf("outcomes %d and %d: %v", i, j, err)
		}
		if !fraud {
			if !errors.Is(err, oracle.ErrFraudProof) {
				t.Fatal(err)
			}
			raw, err := (oracle.FraudProof{Announcement: a.Statement.Bytes(), First: at(i, 1), Second: at(j, 2)}).Encode()
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := oracle.DecodeFraudProof(raw); !errors.Is(err, oracle.ErrFraudProof) {
				t.Fatalf("false proof of %d and %d: %v", i, j, err)
			}
			return
		}
		raw, err := proof.Encode()
		if err != nil || len(raw) > oracle.MaxFraudProof {
			t.Fatalf("%d bytes, %v", len(raw), err)
		}
		_, f, err := oracle.DecodeFraudProof(raw)
		if err != nil || f.Oracle() != statement.KeyOf(secret) || f.First != min(i, j) || f.Second != max(i, j) {
			t.Fatalf("%+v, %v", f, err)
		}
		k := rapid.IntRange(0, len(raw)-1).Draw(t, "byte")
		raw[k] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		if _, _, err := oracle.DecodeFraudProof(raw); err == nil {
			t.Fatalf("byte %d changed and still a proof", k)
		}
		if _, _, err := oracle.DecodeFraudProof(append(raw, 0)); err == nil {
			t.Fatal("trailing byte accepted")
		}
	})
}

// Nobody can make an oracle look fraudulent by an announcement that it has not signed.
func TestNoFraudByForgedAnnouncement(t *testing.T) {
	a, _ := announce(t, 2)
	mine := oracle.Preimages(other, [32]byte{}, 2)
	outcomes, _ := oracle.Outcomes([]string{"yes", "no"}, mine)
	forged, err := oracle.Announce(body(), event(outcomes), other)
	if err != nil {
		t.Fatal(err)
	}
	key := a.Statement.Issuer
	was := forged.Statement.Issuer
	raw := bytes.Replace(forged.Statement.Bytes(), was[:], key[:], 1)
	if _, err := (oracle.FraudProof{Announcement: raw, First: mine[0], Second: mine[1]}).Verify(); !errors.Is(err, statement.ErrSignature) {
		t.Errorf("forged announcement: %v", err)
	}
}

func TestPreimagesAreStable(t *testing.T) {
	p := oracle.Preimages(secret, [32]byte{9}, 300)
	seen := map[types.Preimage]bool{}
	for i, x := range p {
		if seen[x] || x != oracle.Preimages(secret, [32]byte{9}, i+1)[i] {
			t.Fatalf("preimage %d", i)
		}
		seen[x] = true
	}
	if oracle.Preimages(secret, [32]byte{8}, 1)[0] == p[0] || oracle.Preimages(other, [32]byte{9}, 1)[0] == p[0] {
		t.Error("another event or oracle has the same preimage")
	}
}

func FuzzDecodeFraudProof(f *testing.F) {
	a, pre := announce(f, 2)
	proof, err := oracle.ProveFraud(a, pre[0], pre[1])
	if err != nil {
		f.Fatal(err)
	}
	raw, _ := proof.Encode()
	f.Add(raw)
	one, _ := oracle.FraudProof{Announcement: a.Statement.Bytes(), First: pre[0]}.Encode()
	f.Add(one)
	f.Fuzz(func(t *testing.T, b []byte) {
		p, fraud, err := oracle.DecodeFraudProof(b)
		if err != nil {
			return
		}
		if out, err := p.Encode(); err != nil || !bytes.Equal(out, b) || fraud.First >= fraud.Second || p.First == p.Second {
			t.Fatalf("%+v", fraud)
		}
	})
}

func FuzzParseAnnouncement(f *testing.F) {
	a, pre := announce(f, 2)
	att, err := oracle.Attest(body(), a, pre[0], secret)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(a.Statement.Bytes())
	f.Add(att.Statement.Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := statement.Decode(b) // unsigned bytes too, so that the parser itself is reached
		if err != nil {
			return
		}
		if a, err := oracle.ParseAnnouncement(s); err == nil && len(a.Outcomes) < 2 {
			t.Fatalf("%+v", a)
		}
		_, _ = oracle.ParseAttestation(s)
	})
}
