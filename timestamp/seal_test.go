package timestamp_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/timestamp"
	"github.com/eschaton-network/chand/types"
)

const calendar = "http://127.0.0.1:14788"

var entropy = [32]byte{1, 2, 3}

func digests(n int) [][]byte {
	out := make([][]byte, n)
	for i := range out {
		d := sha256.Sum256(binary.BigEndian.AppendUint32(nil, uint32(i)))
		out[i] = d[:]
	}
	return out
}

func seal(t testing.TB, prev timestamp.Checkpoint, ds [][]byte, now types.Time) *timestamp.Batch {
	t.Helper()
	b, err := timestamp.Seal(prev, ds, now, entropy)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// block puts an anchor of the value at a place of a node's message of n transactions, and returns the path and the state root after
// the block as the ledger's own rules compute it.
func block(t testing.TB, value types.Hash, n, index int, bundle []byte) (timestamp.AnchorPath, timestamp.Header) {
	t.Helper()
	key := func(name string) types.Hash { return ledger.PublicKey(ledger.BrainKey(name)) }
	s, err := ledger.NewState(ledger.Genesis{ChainID: "test", Nodes: []ledger.GenesisNode{{PublicKey: key("node"), Account0: key("admin")}}})
	if err != nil {
		t.Fatal(err)
	}
	admin := types.AccountID{Node: 1}
	a, err := s.Account(admin)
	if err != nil {
		t.Fatal(err)
	}
	m := ledger.NodeMessage{Node: 1, Msid: 1}
	prev := a.Hash
	for i := range n {
		hash := types.Hash{byte(i), byte(i >> 8)}
		if i == index {
			hash = value
		}
		var raw []byte
		raw, prev, err = ledger.Sign(ledger.BrainKey("admin"), prev, ledger.Head{From: admin, Msid: a.Msid + uint32(i)}, ledger.Anchor{Hashes: []types.Hash{{1}, hash}})
		if err != nil {
			t.Fatal(err)
		}
		m.Txs = append(m.Txs, raw)
	}
	node, err := s.Node(1)
	if err != nil {
		t.Fatal(err)
	}
	m.Sign(ledger.BrainKey("node"), node.MessageHash)
	message, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	out := s.Apply(1, 1, [][]byte{message})
	tx, proof, err := ledger.BlockTxs{Roots: out.Roots, Parts: s.Parts()}.ProveMessageTx(message, uint32(index+1))
	if err != nil {
		t.Fatal(err, out.Block)
	}
	enc, err := proof.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	p := timestamp.AnchorPath{Tx: tx, Offset: timestamp.FindValue(tx, value),
		Ledger: timestamp.Ledger{Genesis: types.Hash{7}, Height: 42, Proof: string(enc), Bundle: string(bundle)}}
	return p, timestamp.Header{Root: s.Root(), Time: 1_800_000_000}
}

// headers knows one ledger block and one Bitcoin block.
type headers struct {
	ledger  timestamp.Header
	bitcoin timestamp.Header
	err     error
}

func (h headers) LedgerHeader(genesis types.Hash, height types.Height, _ []byte) (timestamp.Header, error) {
	if genesis != (types.Hash{7}) || height != 42 {
		return timestamp.Header{}, timestamp.ErrNoHeader
	}
	return h.ledger, h.err
}

func (h headers) BitcoinHeader(height uint32) (timestamp.Header, error) {
	if height != 358391 {
		return timestamp.Header{}, timestamp.ErrNoHeader
	}
	return h.bitcoin, nil
}

func TestRoundToVerifiedFile(t *testing.T) {
	prev := seal(t, timestamp.Checkpoint{}, digests(3), 1000).Checkpoint
	for _, n := range []int{1, 2, 3, 4, 5, 7, 8, 9, 31, 33} {
		b := seal(t, prev, digests(n), 1001)
		path, head := block(t, b.Checkpoint.Value(), n, n/2, []byte("signed header"))
		upgrade, err := path.Timestamp(b.Checkpoint.Commitment())
		if err != nil {
			t.Fatal(err)
		}
		for i := range n {
			stamp, err := b.Proof(i, calendar)
			if err != nil {
				t.Fatal(err)
			}
			msgs, uris := stamp.PendingAt()
			if len(msgs) != 1 || !bytes.Equal(msgs[0], b.Checkpoint.Commitment()) || uris[0] != calendar {
				t.Fatalf("request %d/%d waits for %x at %v", i, n, msgs, uris)
			}
			r, err := timestamp.Verify(timestamp.NewDetached(stamp), b.Digest(i), headers{ledger: head})
			if err != nil || r.Proven || r.Findings[0].Status != timestamp.IsPending {
				t.Fatalf("pending proof: %+v, %v", r, err)
			}
			if k, err := stamp.Upgrade(upgrade); k != 1 || err != nil {
				t.Fatalf("upgrade joined at %d nodes: %v", k, err)
			}
			raw, err := timestamp.NewDetached(stamp).Encode()
			if err != nil {
				t.Fatal(err)
			}
			file, err := timestamp.DecodeDetached(raw)
			if err != nil {
				t.Fatal(err)
			}
			r, err = timestamp.Verify(file, b.Digest(i), headers{ledger: head})
			if err != nil || !r.Proven || r.By.Header.Time != head.Time || len(r.Findings) != 2 {
				t.Fatalf("request %d/%d: %+v, %v", i, n, r, err)
			}
		}
	}
}

// A calendar's answer stays under the 10,000 bytes that clients read, even for a full round, and under their depth limit.
func TestFullProofFitsClients(t *testing.T) {
	b := seal(t, seal(t, timestamp.Checkpoint{}, digests(1), 1).Checkpoint, digests(1<<16), 2)
	stamp, err := b.Proof(12345, calendar)
	if err != nil {
		t.Fatal(err)
	}
	path, _ := block(t, b.Checkpoint.Value(), 1000, 999, nil)
	path.Ledger.Bundle = string(bytes.Repeat([]byte{1}, timestamp.MaxPayload-1-len(path.Ledger.Proof)-40))
	if !path.Ledger.Fits() {
		t.Fatal("a bundle that leaves room for the rest does not fit")
	}
	path.Tx = append(path.Tx, bytes.Repeat([]byte{0}, timestamp.MaxMessage-len(path.Tx))...)
	up, err := path.Timestamp(b.Checkpoint.Commitment())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stamp.Upgrade(up); err != nil {
		t.Fatal(err)
	}
	raw, err := timestamp.NewDetached(stamp).Encode()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := timestamp.DecodeDetached(raw); err != nil {
		t.Fatal(err)
	}
	pending, _ := b.Proof(1, calendar)
	if raw, _ := pending.Encode(); len(raw) > 1000 {
		t.Errorf("answer to a submission has %d bytes", len(raw))
	}
	path.Ledger.Bundle = ""
	up, _ = path.Timestamp(b.Checkpoint.Commitment())
	if raw, _ := up.Encode(); len(raw) > 10_000 {
		t.Errorf("answer to an upgrade has %d bytes, clients read 10,000", len(raw))
	}
}

// An anchor that was lost is made good by the anchor of a later round.
func TestLinkProvesEarlierRounds(t *testing.T) {
	first := seal(t, timestamp.Checkpoint{}, digests(5), 1000)
	stamp, _ := first.Proof(3, calendar)
	prev := first
	for range 3 {
		next := seal(t, prev.Checkpoint, digests(4), 1000)
		link, err := next.Link(calendar)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := stamp.Upgrade(link); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		prev = next
	}
	path, head := block(t, prev.Checkpoint.Value(), 3, 1, nil)
	up, _ := path.Timestamp(prev.Checkpoint.Commitment())
	if n, err := stamp.Upgrade(up); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	r, err := timestamp.Verify(timestamp.NewDetached(stamp), first.Digest(3), headers{ledger: head})
	if err != nil || !r.Proven {
		t.Fatalf("%+v, %v", r, err)
	}
	if l, err := first.Link(calendar); l != nil || err != nil {
		t.Fatalf("the first round links to %v, %v", l, err)
	}
}

func TestSealRefuses(t *testing.T) {
	ok := digests(2)
	for name, f := range map[string]func() (*timestamp.Batch, error){
		"nothing":         func() (*timestamp.Batch, error) { return timestamp.Seal(timestamp.Checkpoint{}, nil, 1, entropy) },
		"no entropy":      func() (*timestamp.Batch, error) { return timestamp.Seal(timestamp.Checkpoint{}, ok, 1, [32]byte{}) },
		"time after 2106": func() (*timestamp.Batch, error) { return timestamp.Seal(timestamp.Checkpoint{}, ok, 1<<32, entropy) },
		"empty digest": func() (*timestamp.Batch, error) {
			return timestamp.Seal(timestamp.Checkpoint{}, [][]byte{{}}, 1, entropy)
		},
		"long digest": func() (*timestamp.Batch, error) {
			return timestamp.Seal(timestamp.Checkpoint{}, [][]byte{make([]byte, 65)}, 1, entropy)
		},
	} {
		if b, err := f(); !errors.Is(err, timestamp.ErrSeal) || b != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	late := seal(t, timestamp.Checkpoint{}, ok, 5000)
	if again := seal(t, late.Checkpoint, ok, 4000); again.Checkpoint.Time != 5000 {
		t.Errorf("clock that went back gives time %d", again.Checkpoint.Time)
	}
	if _, err := late.Proof(2, calendar); err == nil {
		t.Error("proof of a request that is not there")
	}
	if _, err := late.Proof(0, "http://h/?q"); err == nil {
		t.Error("address with a query accepted")
	}
}

func TestBatchStored(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		prev := timestamp.Checkpoint{}
		if rapid.Bool().Draw(t, "later") {
			prev = timestamp.Checkpoint{Round: rapid.Uint64Range(1, 1<<40).Draw(t, "round"), Time: types.Time(rapid.Uint32().Draw(t, "time")), Root: types.Hash{9}}
		}
		ds := rapid.SliceOfN(rapid.SliceOfN(rapid.Byte(), 1, timestamp.MaxDigest), 1, 20).Draw(t, "digests")
		b, err := timestamp.Seal(prev, ds, types.Time(rapid.Uint32().Draw(t, "now")), entropy)
		if err != nil {
			t.Fatal(err)
		}
		raw := b.Encode()
		c, err := timestamp.DecodeBatch(raw)
		if err != nil || c.Checkpoint != b.Checkpoint || !bytes.Equal(c.Encode(), raw) {
			t.Fatalf("stored round reads as %+v: %v", c, err)
		}
		back, err := timestamp.ParseCommitment(b.Checkpoint.Commitment())
		if err != nil || back != b.Checkpoint {
			t.Fatalf("%+v, %v", back, err)
		}
		if _, err := timestamp.DecodeBatch(append(raw, 0)); err == nil {
			t.Fatal("trailing byte accepted")
		}
		if _, err := timestamp.DecodeBatch(raw[:len(raw)-1]); err == nil {
			t.Fatal("truncation accepted")
		}
	})
}

// Whatever single byte of a proof is changed, it is either refused or no longer proves the digest by that block.
func TestNoChangedProofHolds(t *testing.T) {
	b := seal(t, timestamp.Checkpoint{}, digests(3), 1000)
	path, head := block(t, b.Checkpoint.Value(), 3, 1, nil)
	up, _ := path.Timestamp(b.Checkpoint.Commitment())
	stamp, _ := b.Proof(1, calendar)
	if _, err := stamp.Upgrade(up); err != nil {
		t.Fatal(err)
	}
	good, _ := timestamp.NewDetached(stamp).Encode()
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1
		f, err := timestamp.DecodeDetached(bad)
		if err != nil {
			continue
		}
		r, err := timestamp.Verify(f, b.Digest(1), headers{ledger: head})
		if err != nil || !r.Proven {
			continue
		}
		// Only the address of the pending attestation may differ: nothing rests on it.
		if _, uris := f.Stamp.PendingAt(); len(uris) == 1 && uris[0] == calendar {
			t.Fatalf("byte %d changed and still proven", i)
		}
	}
}

func TestVerdicts(t *testing.T) {
	b := seal(t, timestamp.Checkpoint{}, digests(2), 1000)
	path, head := block(t, b.Checkpoint.Value(), 2, 1, nil)
	up, _ := path.Timestamp(b.Checkpoint.Commitment())
	file := func(more ...timestamp.Attestation) timestamp.Detached {
		s, _ := b.Proof(0, calendar)
		if _, err := s.Upgrade(up); err != nil {
			t.Fatal(err)
		}
		for _, a := range more {
			if err := s.Attest(a); err != nil {
				t.Fatal(err)
			}
		}
		return timestamp.NewDetached(s)
	}
	other := head
	other.Root[0] ^= 1
	var root types.Hash
	copy(root[:], b.Digest(0))
	for _, c := range []struct {
		name   string
		file   timestamp.Detached
		src    timestamp.HeaderSource
		proven bool
		want   map[timestamp.Status]int
	}{
		{"good", file(), headers{ledger: head}, true, map[timestamp.Status]int{timestamp.Proven: 1, timestamp.IsPending: 1}},
		{"other root", file(), headers{ledger: other}, false, map[timestamp.Status]int{timestamp.Wrong: 1, timestamp.IsPending: 1}},
		{"forged bundle", file(), headers{err: errors.New("signatures do not reach two thirds")}, false, map[timestamp.Status]int{timestamp.Wrong: 1, timestamp.IsPending: 1}},
		{"no source", file(), nil, false, map[timestamp.Status]int{timestamp.Unchecked: 1, timestamp.IsPending: 1}},
		{"unknown kind beside", file(timestamp.Unknown{Kind: timestamp.Tag{1}, Payload: "x"}), headers{ledger: head}, true, map[timestamp.Status]int{timestamp.Proven: 1, timestamp.IsPending: 1, timestamp.IsUnknown: 1}},
		{"earlier Bitcoin block", file(timestamp.Bitcoin{Height: 358391}), headers{ledger: head, bitcoin: timestamp.Header{Root: root, Time: 5}}, true, map[timestamp.Status]int{timestamp.Proven: 2, timestamp.IsPending: 1}},
		{"wrong Bitcoin block beside", file(timestamp.Bitcoin{Height: 358391}), headers{ledger: head}, true, map[timestamp.Status]int{timestamp.Proven: 1, timestamp.Wrong: 1, timestamp.IsPending: 1}},
		{"Bitcoin block not at hand", file(timestamp.Bitcoin{Height: 1}), headers{ledger: other}, false, map[timestamp.Status]int{timestamp.Unchecked: 1, timestamp.Wrong: 1, timestamp.IsPending: 1}},
	} {
		r, err := timestamp.Verify(c.file, b.Digest(0), c.src)
		if err != nil {
			t.Fatal(err)
		}
		got := map[timestamp.Status]int{}
		for _, f := range r.Findings {
			got[f.Status]++
		}
		if r.Proven != c.proven || fmt.Sprint(got) != fmt.Sprint(c.want) || r.Sentence == "" {
			t.Errorf("%s: proven %v, %v, %q; want %v, %v", c.name, r.Proven, got, r.Sentence, c.proven, c.want)
		}
		if c.name == "earlier Bitcoin block" && r.By.Header.Time != 5 {
			t.Errorf("earliest time is %d", r.By.Header.Time)
		}
	}
	if _, err := timestamp.Verify(file(), b.Digest(1), headers{}); !errors.Is(err, timestamp.ErrOtherFile) {
		t.Errorf("other file: %v", err)
	}
}

func TestAnchorRefuses(t *testing.T) {
	b := seal(t, timestamp.Checkpoint{}, digests(2), 1000)
	good, _ := block(t, b.Checkpoint.Value(), 2, 1, nil)
	for name, f := range map[string]func(p *timestamp.AnchorPath){
		"offset":    func(p *timestamp.AnchorPath) { p.Offset++ },
		"negative":  func(p *timestamp.AnchorPath) { p.Offset = -1 },
		"beyond":    func(p *timestamp.AnchorPath) { p.Offset = len(p.Tx) },
		"too long":  func(p *timestamp.AnchorPath) { p.Tx = append(bytes.Clone(p.Tx), make([]byte, 4096)...) },
		"no proof":  func(p *timestamp.AnchorPath) { p.Ledger.Proof = "" },
		"cut proof": func(p *timestamp.AnchorPath) { p.Ledger.Proof = p.Ledger.Proof[1:] },
		"bundle":    func(p *timestamp.AnchorPath) { p.Ledger.Bundle = string(make([]byte, timestamp.MaxPayload)) },
		"not there": func(p *timestamp.AnchorPath) { p.Tx = make([]byte, len(p.Tx)) },
	} {
		p := good
		f(&p)
		if _, err := p.Timestamp(b.Checkpoint.Commitment()); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestBounds(t *testing.T) {
	blocks := func(h types.Height) (types.Hash, types.Time, error) {
		if h > 100 {
			return types.Hash{}, 0, timestamp.ErrNoHeader
		}
		return types.Hash{byte(h)}, types.Time(h) * 10, nil
	}
	ref := func(h types.Height) types.BlockRef { return types.BlockRef{Height: h, Hash: types.Hash{byte(h)}} }
	b, err := timestamp.NotBefore([]types.BlockRef{ref(5), ref(9), ref(101), ref(7)}, blocks)
	if err != nil || b == nil || b.Height != 9 || b.Time != 90 {
		t.Fatalf("%+v, %v", b, err)
	}
	if _, err := timestamp.NotBefore([]types.BlockRef{{Height: 5}}, blocks); err == nil {
		t.Error("foreign block accepted")
	}
	if none, err := timestamp.NotBefore([]types.BlockRef{ref(101)}, blocks); none != nil || err != nil {
		t.Errorf("%v, %v", none, err)
	}
	r := timestamp.Result{Proven: true, By: timestamp.Finding{Attestation: timestamp.Ledger{Height: 12}, Header: timestamp.Header{Time: 120}}}
	iv, err := timestamp.Between(b, r)
	if err != nil || iv.Before.Height != 12 || iv.String() != "made between 1970-01-01T00:01:30Z and 1970-01-01T00:02:00Z" {
		t.Errorf("%v, %v", iv, err)
	}
	r.By.Header.Time = 80
	if _, err := timestamp.Between(b, r); err == nil {
		t.Error("contradiction accepted")
	}
}

func BenchmarkSeal(b *testing.B) {
	ds := digests(1 << 20)
	for b.Loop() {
		if _, err := timestamp.Seal(timestamp.Checkpoint{}, ds, 1, entropy); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(ds))*float64(b.N)/b.Elapsed().Seconds(), "digests/s")
}

// BenchmarkHash is the limit that BenchmarkSeal stands against: SHA-256 of one tree node.
func BenchmarkHash(b *testing.B) {
	node := make([]byte, 64)
	for b.Loop() {
		h := sha256.Sum256(node)
		copy(node, h[:])
	}
}

func BenchmarkVerify(b *testing.B) {
	batch := seal(b, timestamp.Checkpoint{}, digests(1<<16), 1)
	path, head := block(b, batch.Checkpoint.Value(), 100, 50, nil)
	up, _ := path.Timestamp(batch.Checkpoint.Commitment())
	stamp, _ := batch.Proof(777, calendar)
	if _, err := stamp.Upgrade(up); err != nil {
		b.Fatal(err)
	}
	raw, _ := timestamp.NewDetached(stamp).Encode()
	for b.Loop() {
		f, err := timestamp.DecodeDetached(raw)
		if err != nil {
			b.Fatal(err)
		}
		if r, err := timestamp.Verify(f, batch.Digest(777), headers{ledger: head}); err != nil || !r.Proven {
			b.Fatal(err)
		}
	}
}
