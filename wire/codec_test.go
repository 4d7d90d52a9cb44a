package wire

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/eschaton-network/chand/types"
)

var rewrite = flag.Bool("rewrite", false, "write testdata/messages.txt and the fuzz corpus, to be reviewed as a diff")

func h(b byte) (out types.Hash) {
	for i := range out {
		out[i] = b
	}
	return out
}

func key(b byte) (out types.PubKey) {
	out[0] = 2
	out[32] = b
	return out
}

func sig(b byte) (out Sig) { out[0], out[63] = b, b; return out }

// examples has one message of every type, every field set, and the extremes of lists.
func examples() []Message {
	keys := PartyKeys{Fund: key(1), Close: key(2), Lock: key(3), Account: types.AccountID{Node: 1, User: 2}}
	rules := Rules{Dust: 1, MaxPayment: 2, MaxInFlight: 3, MinLock: 6, MaxLocks: 4, MaxOps: 7, Deposit: 5}
	state := VersionState{Epoch: 9, Version: 8, Balance: [2]types.Amount{7, types.MaxAmount},
		Locks: []LockState{{ID: 1, Funder: 0, Amount: 2, Hash: h(3), Expiry: 4}, {ID: 1, Funder: 1, Amount: 2, Hash: h(3), Expiry: 4}}}
	pre := []types.Preimage{types.Preimage(h(1)), types.Preimage(h(2))}
	return []Message{
		&Open{Temp: h(1), ChainGenesis: h(2), Mine: 3, Theirs: 4, Timing: types.Timing{Inclusion: 5, Downtime: 6, Window: 7}, Rules: rules, Keys: keys,
			ValidUntil: 8, Salt: h(9), Epoch: 10},
		&Accept{Temp: h(1), Rules: rules, Keys: keys, RefundSig: sig(2)},
		&Refuse{ID: h(1), Text: "no"},
		&OpenRefund{Temp: h(1), ID: h(2), RefundSig: sig(3)},
		&OpenFund{ID: h(1), FundSig: sig(2)},
		&Update{ID: h(1), Version: 2, Yield: true, Sig: sig(3), Ops: []Op{
			Pay{Amount: 1, Hash: h(2), Refund: true}, AddLock{ID: 1, Amount: 2, Reserve: 9, Hash: h(3), Expiry: 4, Memo: "bike"},
			AddLock{ID: 2, Amount: 2, Hash: h(3), Expiry: 4, Onion: bytes.Repeat([]byte{7}, OnionSize)},
			PayStream{Stream: h(8), First: 9, Amounts: []types.Amount{1, 127, 128, types.MaxAmount - 256}},
			Settle{ID: 5, Preimage: types.Preimage(h(6))}, GiveBack{ID: 7, Reason: []byte("why")}, GiveBack{ID: 8}}},
		&Ack{ID: h(1), Version: 2},
		&TurnRequest{ID: h(1)},
		&Yield{ID: h(1), Version: 2, Turn: 3},
		&Reveal{ID: h(1), Preimages: pre},
		&Receipt{ID: h(1), Preimages: pre},
		&Reestablish{ID: h(1), Epoch: 2, Version: 3, Acked: 4, Turn: 5, StateHash: h(6), Offered: 7, Restored: true, Answer: true},
		&Resync{ID: h(1), Base: state, BaseSig: sig(2), State: state, Sig: sig(3), Turn: 4, NextLock: [2]uint64{5, 6}},
		&Agree{ID: h(1), Epoch: 2, Sig: sig(4)},
		&CloseRequest{ID: h(1)},
		&CloseSign{ID: h(1), Version: 2, Sig: sig(3)},
		&Fault{ID: h(1), Text: "version 3: the signature does not fit"},
		&AnnounceSigs{ID: h(1), NodeSig: sig(2), CloseSig: sig(3)},
		&PeerPolicy{ID: h(1), Policy: []byte("signed terms")},
		&TwinAsk{Nonce: h(1)}, &TwinProof{Nonce: h(1), Instance: h(2), Sig: sig(3)},
	}
}

// TestGolden holds the bytes of every message, for other implementations too.
func TestGolden(t *testing.T) {
	var got strings.Builder
	seen := map[uint16]bool{}
	for _, m := range examples() {
		frame := Encode(m)
		seen[m.MessageType()] = true
		fmt.Fprintf(&got, "%T %x\n", m, frame)
		if len(frame) != Size(m) {
			t.Errorf("%T: Size %d, encoded %d", m, Size(m), len(frame))
		}
		again, err := Decode(frame)
		if err != nil || !reflect.DeepEqual(again, m) {
			t.Errorf("%T: decoded %+v, %v", m, again, err)
		}
		for i := range frame { // any cut is refused
			if _, err := Decode(frame[:i]); !errors.Is(err, ErrMalformed) {
				t.Fatalf("%T cut to %d bytes: %v", m, i, err)
			}
		}
		if _, err := Decode(append(frame, 0)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%T with a byte behind: %v", m, err)
		}
		if *rewrite {
			writeCorpus(t, m, frame)
		}
	}
	for typ := range uint16(1000) {
		if (newMessage(typ) != nil) != seen[typ] {
			t.Errorf("type %d has no example", typ)
		}
	}
	if *rewrite {
		if err := os.WriteFile("testdata/messages.txt", []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("testdata/messages.txt")
	if err != nil || string(want) != got.String() {
		t.Errorf("the bytes differ from testdata/messages.txt (%v); review with -rewrite", err)
	}
}

func writeCorpus(t *testing.T, m Message, frame []byte) {
	name := strings.TrimPrefix(fmt.Sprintf("%T", m), "*wire.")
	text := fmt.Sprintf("go test fuzz v1\n[]byte(%q)\n", frame)
	if err := os.WriteFile(filepath.Join("testdata/fuzz/FuzzMessage", name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestRefusals(t *testing.T) {
	id := strings.Repeat("11", 32)
	sig := strings.Repeat("00", 64)
	stream := "0010" + id + "00000002" + "00" + "0001" + "05" + id
	for name, frame := range map[string]string{
		"unknown type":       "ffff" + id,
		"yield not boolean":  "0010" + id + "00000002" + "02" + "0000" + sig,
		"too many ops":       "0010" + id + "00000002" + "00" + "ffff" + sig,
		"unknown op":         "0010" + id + "00000002" + "00" + "0001" + "09" + strings.Repeat("00", 60) + sig,
		"amount":             "0010" + id + "00000002" + "00" + "0001" + "01" + "4000000000000001" + id + "00" + sig,
		"short onion":        "0010" + id + "00000002" + "00" + "0001" + "02" + strings.Repeat("0000000000000001", 3) + id + "00000001" + "0001aa" + "0000" + sig,
		"no stream":          stream + "0000000000000001" + "0000" + sig,
		"stream number 0":    stream + "0000000000000000" + "0001" + "01" + sig,
		"stream number last": stream + "7fffffffffffffff" + "0001" + "01" + sig,
		"stream too long":    stream + "0000000000000001" + "1001" + strings.Repeat("01", 0x1001) + sig,
		"stream of nothing":  stream + "0000000000000001" + "0001" + "00" + sig,
		"stream, long form":  stream + "0000000000000001" + "0001" + "8100" + sig,
		"stream of too much": stream + "0000000000000001" + "0002" + "ffffffffffffffff3f" + "02" + sig,
		"stream beyond":      stream + "0000000000000001" + "0001" + "818080808080808040" + sig,
		"long text":          "0032" + id + "0201" + strings.Repeat("41", 0x201),
		"too many preimages": "0014" + id + "03c7" + strings.Repeat(id, 0x3c7),
		"funder":             "0021" + id + "0000000100000001" + strings.Repeat("00", 16) + "0001" + "0000000000000001" + "02" + strings.Repeat("00", 44) + sig,
	} {
		b, err := hex.DecodeString(frame)
		if err != nil {
			t.Fatal(name, err)
		}
		if m, err := Decode(b); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
	}
	if _, err := Decode(make([]byte, MaxFrame+1)); !errors.Is(err, ErrMalformed) {
		t.Error("an oversized frame was read")
	}
}

// TestLargest wants the largest update to fit a frame, as MaxFrame promises.
func TestLargest(t *testing.T) {
	u := &Update{Ops: make([]Op, MaxOps)}
	for i := range u.Ops {
		u.Ops[i] = AddLock{Onion: make([]byte, OnionSize)}
	}
	locks := make([]LockState, MaxLocks)
	for _, m := range []Message{u, &Resync{Base: VersionState{Locks: locks}, State: VersionState{Locks: locks}}} {
		if n := Size(m); n > MaxFrame {
			t.Errorf("%T of %d bytes exceeds the frame", m, n)
		}
		if again, err := Decode(Encode(m)); err != nil || !reflect.DeepEqual(again, m) {
			t.Errorf("%T: %v", m, err)
		}
	}
}

// FuzzMessage: what is decoded encodes to the same bytes, and nothing panics or allocates beyond a small factor of its size.
func FuzzMessage(f *testing.F) {
	for _, m := range examples() {
		f.Add(Encode(m))
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		m, err := Decode(frame)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		if again := Encode(m); !bytes.Equal(again, frame) || len(again) != Size(m) {
			t.Fatalf("%T: %x encodes as %x", m, frame, again)
		}
	})
}

func BenchmarkDecodeUpdate(b *testing.B) {
	frame := Encode(&Update{Ops: []Op{Pay{Amount: 1}}})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Decode(frame); err != nil {
			b.Fatal(err)
		}
	}
}
