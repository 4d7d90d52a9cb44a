package htlc

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/wire"
)

// testSecrets are what the payer shares with the hops of a route.
func testSecrets(n int) (secrets [][32]byte) {
	for i := range n {
		secrets = append(secrets, types.SHA256([]byte{byte(i)}))
	}
	return secrets
}

func drawFailure(t *rapid.T) Failure {
	f := Failure{Code: rapid.SampledFrom([]Code{TemporaryChannelFailure, FeeInsufficient, IncorrectOrUnknownPaymentDetails, Code(0x1234)}).Draw(t, "code"),
		Channel: types.SHA256([]byte{rapid.Byte().Draw(t, "channel")}),
		Amount:  types.Amount(rapid.Int64Range(0, int64(types.MaxAmount)).Draw(t, "amount")),
		Height:  types.Height(rapid.Uint32().Draw(t, "height")),
		Text:    clipText(rapid.StringN(0, 400, 700).Draw(t, "text"))}
	if p := rapid.SliceOfN(rapid.Byte(), 0, MaxFailurePolicy).Draw(t, "policy"); len(p) > 0 {
		f.Policy = p
	}
	return f
}

func sameFailure(a, b Failure) bool {
	p, q := a.Policy, b.Policy
	a.Policy, b.Policy = nil, nil
	return bytes.Equal(p, q) && a.Code == b.Code && a.Channel == b.Channel && a.Amount == b.Amount && a.Height == b.Height && a.Text == b.Text
}

// Whatever the route's length and whichever hop fails, the payer reads its failure and its position, and every hop on the way back sees a
// message of the same size that differs from all others.
func TestFailingHopIsNamed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, MaxHops).Draw(t, "hops")
		failing := rapid.IntRange(0, n-1).Draw(t, "failing")
		f := drawFailure(t)
		secrets := testSecrets(n)
		reason := EncryptFailure(secrets[failing], &f)
		for i := failing - 1; i >= 0; i-- {
			if len(reason) != FailureSize || bytes.Contains(reason, f.Channel[:8]) {
				t.Fatalf("hop %d sees a reason of %d bytes, or the failing channel", i, len(reason))
			}
			before := reason
			if reason = WrapFailure(secrets[i], types.SHA256([]byte("out")), reason); bytes.Equal(before, reason) {
				t.Fatalf("hop %d added nothing", i)
			}
		}
		at, got, err := DecryptFailure(secrets, types.ChannelID{}, reason)
		if err != nil || at != failing || !sameFailure(got, f) {
			t.Fatalf("hop %d of %d failed with %+v; the payer reads hop %d, %+v, %v", failing, n, f, at, got, err)
		}
	})
}

// A hop that returns garbage is named by the hop before it, or by nobody: never an innocent one further down.
func TestGarbledFailures(t *testing.T) {
	secrets := testSecrets(4)
	out := types.SHA256([]byte("channel between 1 and 2"))
	first := types.SHA256([]byte("first"))
	for _, c := range []struct {
		name   string
		reason []byte
		want   Code
	}{
		{"none", nil, TemporaryChannelFailure},
		{"short", []byte("no"), TemporaryChannelFailure},
		{"long", make([]byte, FailureSize+1), TemporaryChannelFailure},
		{"onion not authentic", MalformedReason(&OnionError{Code: InvalidOnionHMAC}), InvalidOnionHMAC},
		{"blinded path", MalformedReason(&OnionError{Code: InvalidOnionBlinding}), InvalidOnionBlinding},
	} {
		reason := WrapFailure(secrets[1], out, c.reason)
		at, f, err := DecryptFailure(secrets, first, WrapFailure(secrets[0], first, reason))
		if err != nil || at != 1 || f.Code != c.want || f.Channel != out {
			t.Errorf("%s: hop %d, %+v, %v", c.name, at, f, err)
		}
		at, f, err = DecryptFailure(secrets, first, c.reason)
		if err != nil || at != 0 || f.Code != c.want || f.Channel != first {
			t.Errorf("%s from the first peer: hop %d, %+v, %v", c.name, at, f, err)
		}
	}
	garbled := WrapFailure(secrets[0], first, bytes.Repeat([]byte{7}, FailureSize))
	if at, _, err := DecryptFailure(secrets, first, garbled); !errors.Is(err, ErrUnattributed) || at != -1 {
		t.Errorf("garbled: hop %d, %v", at, err)
	}
	keys := newFailureKeys(secrets[0])
	bad := bytes.Repeat([]byte{0xff}, FailureSize)
	copy(bad, keys.sum(bad[failureMAC:]))
	keyStream(keys.stream).XORKeyStream(bad, bad)
	if at, _, err := DecryptFailure(secrets, first, bad); !errors.Is(err, ErrFailure) || at != 0 {
		t.Errorf("authentic nonsense: hop %d, %v", at, err)
	}
}

// An authentic packet whose payload is bad is answered in secret.
func TestBadPayloadReason(t *testing.T) {
	secrets := testSecrets(2)
	e := &OnionError{InvalidOnionPayload, "odd payload", &secrets[1]}
	at, f, err := DecryptFailure(secrets, types.ChannelID{}, WrapFailure(secrets[0], types.ChannelID{}, MalformedReason(e)))
	if err != nil || at != 1 || f.Code != InvalidOnionPayload || f.Text != "odd payload" {
		t.Errorf("hop %d, %+v, %v", at, f, err)
	}
}

func TestFailureTexts(t *testing.T) {
	f := NewFailure(FeeInsufficient, types.ChannelID{}, "fee %d, want %d", 1, 2)
	if got := f.Error(); got != "fee_insufficient: fee 1, want 2" {
		t.Error(got)
	}
	if got := Code(0x0999).String(); got != "failure_0x0999" {
		t.Error(got)
	}
	if got := NewFailure(MPPTimeout, types.ChannelID{}, "%s", strings.Repeat("é", 400)).Text; len(got) != wire.MaxText {
		t.Errorf("text of %d bytes", len(got))
	}
	if got := NewFailure(MPPTimeout, types.ChannelID{}, "%s", "x"+strings.Repeat("é", 400)).Text; len(got) != wire.MaxText-1 {
		t.Errorf("text of %d bytes: a character was cut", len(got))
	}
	// The numbers are BOLT 4's.
	for code, want := range map[Code]uint16{TemporaryNodeFailure: 0x2002, InvalidOnionHMAC: 0xc005, TemporaryChannelFailure: 0x1007, PermanentChannelFailure: 0x4008,
		UnknownNextPeer: 0x400a, FeeInsufficient: 0x100c, IncorrectExpiry: 0x100d, IncorrectOrUnknownPaymentDetails: 0x400f, ChannelDisabled: 0x1014, ExpiryTooFar: 21} {
		if uint16(code) != want {
			t.Errorf("%s is %#x, want %#x", code, uint16(code), want)
		}
	}
	if !IncorrectOrUnknownPaymentDetails.Permanent() || !PermanentNodeFailure.OfNode() || !FeeInsufficient.Update() || ExpiryTooFar.Update() {
		t.Error("flags")
	}
}

func FuzzDecodeFailure(f *testing.F) {
	f.Add((&Failure{Code: FeeInsufficient, Policy: []byte{1}, Text: "x"}).encode())
	b, _ := hex.DecodeString(strings.Repeat("00", 50))
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := decodeFailure(b)
		if err != nil {
			return
		}
		if again := got.encode(); !bytes.Equal(again, b) {
			t.Fatalf("%x decodes to %+v, which encodes to %x", b, got, again)
		}
	})
}

func FuzzDecryptFailure(f *testing.F) {
	secrets := testSecrets(3)
	f.Add(EncryptFailure(secrets[0], NewFailure(FeeInsufficient, types.ChannelID{1}, "x")))
	f.Add([]byte{0xc0, 5})
	f.Fuzz(func(t *testing.T, b []byte) {
		at, _, err := DecryptFailure(secrets, types.ChannelID{}, b)
		if at < -1 || at >= len(secrets) || at == -1 && err == nil {
			t.Fatalf("hop %d, %v", at, err)
		}
	})
}
