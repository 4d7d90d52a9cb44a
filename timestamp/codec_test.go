package timestamp_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/timestamp"
	"github.com/eschaton-network/chand/types"
)

var update = flag.Bool("update", false, "write the golden files that this package makes")

func fixture(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name+".hex"))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := hex.DecodeString(strings.TrimSpace(string(b)))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// The files were written by python-opentimestamps 0.4.2; ours must write the very same bytes again.
func TestReferenceFiles(t *testing.T) {
	for name, want := range map[string]struct{ attestations, pending int }{
		"every_op":        {21, 9},
		"sha1_file":       {1, 0},
		"round_of_five_0": {1, 1},
		"round_of_five_4": {1, 1},
	} {
		raw := fixture(t, name)
		f, err := timestamp.DecodeDetached(raw)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		n := 0
		f.Stamp.Walk(func([]byte, timestamp.Attestation) { n++ })
		msgs, _ := f.Stamp.PendingAt()
		if n != want.attestations || len(msgs) != want.pending {
			t.Errorf("%s: %d attestations, %d pending, want %+v", name, n, len(msgs), want)
		}
		if out, err := f.Encode(); err != nil || !bytes.Equal(out, raw) {
			t.Errorf("%s: encodes to %x, want %x (%v)", name, out, raw, err)
		}
	}
	// Both proofs of the reference's round of five meet in one commitment.
	a, _ := timestamp.DecodeDetached(fixture(t, "round_of_five_0"))
	b, _ := timestamp.DecodeDetached(fixture(t, "round_of_five_4"))
	ma, _ := a.Stamp.PendingAt()
	mb, _ := b.Stamp.PendingAt()
	if !bytes.Equal(ma[0], mb[0]) || len(ma[0]) != timestamp.CommitmentSize {
		t.Errorf("commitments %x and %x", ma[0], mb[0])
	}
}

// ledger_proof.hex is a proof on the ledger as it is written now (see docs/timestamps.md).
func TestLedgerProofGolden(t *testing.T) {
	prev := seal(t, timestamp.Checkpoint{}, digests(2), 1_700_000_000)
	b := seal(t, prev.Checkpoint, digests(5), 1_700_000_001)
	path, head := block(t, b.Checkpoint.Value(), 5, 4, []byte("header and signatures"))
	up, err := path.Timestamp(b.Checkpoint.Commitment())
	if err != nil {
		t.Fatal(err)
	}
	stamp, _ := b.Proof(3, calendar)
	if _, err := stamp.Upgrade(up); err != nil {
		t.Fatal(err)
	}
	raw, err := timestamp.NewDetached(stamp).Encode()
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile("testdata/ledger_proof.hex", []byte(hex.EncodeToString(raw)+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want := fixture(t, "ledger_proof"); !bytes.Equal(raw, want) {
		t.Errorf("golden proof is now\n%x, was\n%x", raw, want)
	}
	f, _ := timestamp.DecodeDetached(raw)
	if r, err := timestamp.Verify(f, b.Digest(3), headers{ledger: head}); err != nil || !r.Proven {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestDecodeRefuses(t *testing.T) {
	digest := bytes.Repeat([]byte{0xaa}, 32)
	head := append(append([]byte(timestamp.Magic), 1, timestamp.OpSHA256), digest...)
	att := func(tag timestamp.Tag, payload string) []byte {
		b := append([]byte{0}, tag[:]...)
		return append(append(b, byte(len(payload))), payload...)
	}
	btc := att(timestamp.TagBitcoin, "\x05")
	cat := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	if _, err := timestamp.DecodeDetached(cat(head, btc)); err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{
		"empty":                  {},
		"magic":                  append([]byte("x"), head[1:]...),
		"version":                cat([]byte(timestamp.Magic), []byte{2, timestamp.OpSHA256}, digest, btc),
		"file hash":              cat([]byte(timestamp.Magic), []byte{1, timestamp.OpKeccak256}, digest, btc),
		"no tree":                head,
		"trailing":               cat(head, btc, []byte{0}),
		"unknown op":             cat(head, []byte{0x09}, btc),
		"empty argument":         cat(head, []byte{timestamp.OpAppend, 0}, btc),
		"long argument":          cat(head, []byte{timestamp.OpAppend, 0x81, 0x20}, make([]byte, 4097), btc),
		"long result":            cat(head, []byte{timestamp.OpAppend, 0x80, 0x20}, make([]byte, 4096), btc),
		"fork at the end":        cat(head, []byte{0xff}, btc),
		"padded integer":         cat(head, att(timestamp.TagBitcoin, "\x85\x00")),
		"height beyond 32 bits":  cat(head, att(timestamp.TagBitcoin, "\x80\x80\x80\x80\x10")),
		"trailing in attesation": cat(head, att(timestamp.TagBitcoin, "\x05\x05")),
		"pending with query":     cat(head, att(timestamp.TagPending, "\x03a?b")),
		"pending too short":      cat(head, att(timestamp.TagPending, "\x09a")),
		"ledger too short":       cat(head, att(timestamp.TagLedger, "abc")),
		"payload too long":       cat(head, []byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 0x81, 0x40}, make([]byte, 8193)),
		"too deep":               cat(head, bytes.Repeat([]byte{timestamp.OpSHA256}, 256), btc),
		"too much work":          cat(head, []byte{timestamp.OpAppend, 0xe0, 0x1f}, make([]byte, 4064), bytes.Repeat(cat([]byte{0xff}, bytes.Repeat([]byte{timestamp.OpReverse}, 200), btc), 20), btc),
		"too many items":         cat(head, bytes.Repeat(cat([]byte{0xff}, btc), 2000), btc),
		"too large":              make([]byte, timestamp.MaxFile+1),
	} {
		if _, err := timestamp.DecodeDetached(b); !errors.Is(err, timestamp.ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := timestamp.DecodeDetached(cat(head, bytes.Repeat([]byte{timestamp.OpSHA256}, 255), btc)); err != nil {
		t.Errorf("the deepest path allowed: %v", err)
	}
}

func TestTree(t *testing.T) {
	a, b := timestamp.New([]byte("message")), timestamp.New([]byte("message"))
	end := func(s *timestamp.Timestamp, ops ...timestamp.Op) *timestamp.Timestamp {
		n, err := s.Then(ops...)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if err := end(a, timestamp.Op{Tag: timestamp.OpSHA256}).Attest(timestamp.Bitcoin{Height: 1}); err != nil {
		t.Fatal(err)
	}
	if err := end(b, timestamp.Op{Tag: timestamp.OpSHA256}).Attest(timestamp.Bitcoin{Height: 2}); err != nil {
		t.Fatal(err)
	}
	if err := end(b, timestamp.Op{Tag: timestamp.OpSHA1}).Attest(timestamp.Bitcoin{Height: 3}); err != nil {
		t.Fatal(err)
	}
	if err := a.Merge(b); err != nil {
		t.Fatal(err)
	}
	n := 0
	a.Walk(func([]byte, timestamp.Attestation) { n++ })
	if n != 3 || len(a.Branches) != 2 {
		t.Errorf("%d attestations on %d branches after the merge", n, len(a.Branches))
	}
	if err := a.Merge(timestamp.New([]byte("other"))); err == nil {
		t.Error("another message merged")
	}
	if k, err := a.Upgrade(end(timestamp.New([]byte("foreign")), timestamp.Op{Tag: timestamp.OpSHA1})); k != 0 || err != nil {
		t.Errorf("foreign continuation joined at %d nodes, %v", k, err)
	}
	if _, err := timestamp.New([]byte("x")).Encode(); err == nil {
		t.Error("a path without attestation encoded")
	}
	if err := a.Attest(timestamp.Unknown{Kind: timestamp.TagLedger}); err == nil {
		t.Error("known tag passed as unknown")
	}
	proof, err := (&ledger.TxProof{}).AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	most := timestamp.MaxPayload - 32 - 5 - 2 - len(proof) - 2
	l := timestamp.Ledger{Genesis: types.Hash{1}, Height: 1 << 31, Proof: string(proof), Bundle: string(make([]byte, most+1))}
	if err := a.Attest(l); err == nil {
		t.Error("bundle too large accepted")
	}
	l.Bundle = l.Bundle[1:]
	if err := a.Attest(l); err != nil {
		t.Error(err)
	}
}

// FuzzDecodeDetached: what is read is written in one canonical form, which reads as the same.
func FuzzDecodeDetached(f *testing.F) {
	for _, name := range []string{"every_op", "sha1_file", "round_of_five_0", "round_of_five_4", "ledger_proof"} {
		f.Add(fixture(f, name))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		file, err := timestamp.DecodeDetached(b)
		if err != nil {
			return
		}
		out, err := file.Encode()
		if err != nil {
			t.Fatalf("decoded but not encodable: %v", err)
		}
		again, err := timestamp.DecodeDetached(out)
		if err != nil {
			t.Fatalf("own encoding refused: %v", err)
		}
		if second, err := again.Encode(); err != nil || !bytes.Equal(out, second) {
			t.Fatalf("encoding changes: %x, %x", out, second)
		}
		if r, err := timestamp.Verify(file, file.Digest(), nil); err != nil || r.Proven {
			t.Fatalf("proven without a header: %+v, %v", r, err)
		}
	})
}

func FuzzDecodeBatch(f *testing.F) {
	f.Add(seal(f, timestamp.Checkpoint{}, digests(3), 7).Encode())
	f.Add(seal(f, timestamp.Checkpoint{Round: 3, Time: 4, Root: types.Hash{5}}, digests(1), 7).Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		batch, err := timestamp.DecodeBatch(b)
		if err != nil {
			return
		}
		if !bytes.Equal(batch.Encode(), b) {
			t.Fatalf("%x encodes to %x", b, batch.Encode())
		}
	})
}
