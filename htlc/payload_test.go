package htlc

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/eschaton-network/chand/types"
)

// Bytes that must not change: other daemons read them.
func TestPayloadVectors(t *testing.T) {
	zeros := func(n int) string { return strings.Repeat("00", n) }
	for _, c := range []struct {
		p    Payload
		want string
	}{
		{Payload{Kind: Forward, Next: ShortID{0xaa, 15: 0xbb}, Amount: 258, Expiry: 3}, "0202010204010306" + "10aa" + zeros(14) + "bb"},
		{Payload{Kind: Forward, Next: ShortID{0xaa}, Amount: 1, Reserve: 256}, "0201010400" + "0610aa" + zeros(15) + "14020100"},
		{Payload{Kind: Invoice, Amount: 1, Expiry: 2, Secret: [32]byte{0xcc}, Total: 3, Memo: "hi"}, "0201010401020821cc" + zeros(31) + "0318026869"},
		{Payload{Kind: Keysend, Amount: 1, Total: 1}, "02010104000821" + zeros(32) + "01160103"},
		{Payload{Kind: Escrow, Amount: types.MaxAmount, Total: types.MaxAmount}, "02084000000000000000" + "0400" + "0828" + zeros(32) + "4000000000000000" + "160104"},
		{Payload{Kind: Blinded, Blinded: BlindedData{1}, proof: [proofSize]byte{2}}, "0a7d01" + zeros(BlindedSize-1) + "0c1002" + zeros(proofSize-1)},
		{Payload{Kind: Invoice, Amount: 1, Total: 1, Blinded: BlindedData{1}}, "02010104000821" + zeros(32) + "010a7d01" + zeros(BlindedSize-1) + "0c10" + zeros(proofSize)},
	} {
		b, err := c.p.Encode()
		if got := fmt.Sprintf("%x", b); err != nil || got != c.want {
			t.Errorf("%+v encodes as %s, %v; want %s", c.p, got, err, c.want)
		}
		if p, err := DecodePayload(b); err != nil || p != c.p {
			t.Errorf("%s decodes as %+v, %v", c.want, p, err)
		}
	}
}

func TestPayloadRefusals(t *testing.T) {
	for _, p := range []Payload{{}, {Kind: 9, Amount: 1}, {Kind: Forward}, {Kind: Forward, Amount: -1}, {Kind: Forward, Amount: 1, Memo: "x"},
		{Kind: Forward, Amount: 1, Secret: [32]byte{1}}, {Kind: Forward, Amount: 1, Reserve: -1}, {Kind: Forward, Amount: 1, Blinded: BlindedData{1}},
		{Kind: Invoice, Amount: 2, Total: 1}, {Kind: Invoice, Amount: 1, Total: 1, Next: ShortID{1}}, {Kind: Invoice, Amount: 1, Total: 1, Reserve: 1},
		{Kind: Escrow, Amount: 1, Total: 1, Memo: "\xff"}, {Kind: Escrow, Amount: 1, Total: types.MaxAmount + 1}, {Kind: Keysend, Amount: 1, Total: 1, Blinded: BlindedData{1}},
		{Kind: Blinded}, {Kind: Blinded, Blinded: BlindedData{1}, Amount: 1}, {Kind: Blinded, Blinded: BlindedData{1}, Secret: [32]byte{1}}} {
		if _, err := p.Encode(); !errors.Is(err, ErrPayload) {
			t.Errorf("%+v: %v", p, err)
		}
	}
	secret := append([]byte{8, 33}, append(make([]byte, 32), 1)...)
	next := append([]byte{6, 16}, make([]byte, 16)...)
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	for name, b := range map[string][]byte{
		"empty": {}, "amount alone": {2, 1, 1, 4, 0}, "cut": {2, 2, 1}, "no length": {2}, "out of order": join([]byte{4, 0, 2, 1, 1}, next), "twice": join([]byte{2, 1, 1, 2, 1, 1, 4, 0}, next),
		"leading zero": join([]byte{2, 2, 0, 1, 4, 0}, next), "nine bytes": join([]byte{2, 9, 1, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0}, next), "expiry of five bytes": join([]byte{2, 1, 1, 4, 5, 1, 0, 0, 0, 0}, next),
		"unknown": join([]byte{2, 1, 1, 4, 0}, next, []byte{7, 0}), "large unknown": join([]byte{2, 1, 1, 4, 0}, next, []byte{0xfe, 0, 1, 0, 1, 0}), "next of 8": {2, 1, 1, 4, 0, 6, 8, 0, 0, 0, 0, 0, 0, 0, 0},
		"forward with secret": join([]byte{2, 1, 1, 4, 0}, next, secret), "zero reserve": join([]byte{2, 1, 1, 4, 0}, next, []byte{20, 0}), "short secret": {2, 1, 1, 4, 0, 8, 1, 1},
		"kind of an invoice": join([]byte{2, 1, 1, 4, 0}, secret, []byte{22, 1, 2}), "empty memo": join([]byte{2, 1, 1, 4, 0}, secret, []byte{24, 0}),
		"type in a long form": join([]byte{0xfd, 0, 2, 1, 1, 4, 0}, next), "blinded without proof": append([]byte{10, BlindedSize, 1}, make([]byte, BlindedSize-1)...),
	} {
		if p, err := DecodePayload(b); !errors.Is(err, ErrPayload) {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
	}
	good := join([]byte{2, 1, 1, 4, 0}, next)
	if _, err := DecodePayload(good); err != nil {
		t.Error(err)
	}
}

func TestBigSize(t *testing.T) {
	for n, want := range map[uint64]string{0: "00", 252: "fc", 253: "fd00fd", 65535: "fdffff", 65536: "fe00010000", 1<<32 - 1: "feffffffff", 1 << 32: "ff0000000100000000"} {
		b := appendBigSize(nil, n)
		if got, rest, err := readBigSize(append(b, 9)); fmt.Sprintf("%x", b) != want || got != n || len(rest) != 1 || err != nil {
			t.Errorf("%d: %x, read as %d, %v", n, b, got, err)
		}
	}
	for _, b := range [][]byte{{}, {0xfd}, {0xfd, 1}, {0xfd, 0, 252}, {0xfe, 0, 0, 255, 255}, {0xff, 0, 0, 0, 0, 255, 255, 255, 255}} {
		if n, _, err := readBigSize(b); err == nil {
			t.Errorf("%x was read as %d", b, n)
		}
	}
}

func FuzzDecodePayload(f *testing.F) {
	f.Add([]byte{})
	for _, p := range []Payload{{Kind: Forward, Amount: 1}, {Kind: Keysend, Amount: 1, Total: 1, Memo: "x"}, {Kind: Blinded, Blinded: BlindedData{1}}, invoice} {
		b, _ := p.Encode()
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := DecodePayload(b)
		if err != nil {
			return
		}
		if again, err := p.Encode(); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%x decodes to %+v, which encodes to %x, %v", b, p, again, err)
		}
	})
}
