package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"github.com/eschaton-network/chand/merkle"
	"github.com/eschaton-network/chand/types"
)

// TestTreePath compares with TreeHash for every leaf of trees of every shape.
func TestTreePath(t *testing.T) {
	var leaves []types.Hash
	for n := 1; n <= 70; n++ {
		leaves = append(leaves, types.SHA256([]byte{byte(n)}))
		for i := range leaves {
			root, path := treePath(leaves, i)
			h := leaves[i]
			for _, p := range path {
				h = PairHash(h, p)
			}
			if want := TreeHash(leaves); root != want || h != want || len(path) > maxMessagePath {
				t.Fatalf("leaf %d of %d: root %s, the path leads to %s, want %s", i, n, root, h, want)
			}
		}
	}
	if root, path := treePath(nil, 0); !root.IsZero() || path != nil {
		t.Errorf("no leaves: %s, %v", root, path)
	}
}

// TestLongestPath: the longest path of the largest message fits the limit.
func TestLongestPath(t *testing.T) {
	longest := 0
	for _, n := range []int{MaxMessageTxs + 1, 1<<15 + 1, 1<<16 - 1} {
		leaves := make([]types.Hash, n)
		for _, i := range []int{0, 1, n / 2, n - 2, n - 1} {
			_, path := treePath(leaves, i)
			longest = max(longest, len(path))
		}
	}
	if longest != maxMessagePath {
		t.Errorf("the longest path has %d hashes, the limit is %d", longest, maxMessagePath)
	}
}

// proofBlock is a block with two messages and three direct transactions, and the raw transactions of messages and direct ones.
func proofBlock(t testing.TB) (b BlockTxs, root types.Hash, height types.Height, messages [][]byte, directs [][]byte) {
	w := newWorld(t, 3)
	for node := uint16(1); node <= 2; node++ {
		var txs [][]byte
		for i := range 5 + 4*int(node) {
			txs = append(txs, w.sign(admin(node), SendOne{To: admin(3), Amount: types.Amount(i)}))
		}
		txs = append(txs, Connection{Port: 1, IPv4: 2}.Bytes(), AcceptAccount{Requester: admin(3)}.Bytes(node, 4))
		messages = append(messages, w.message(node, txs...))
	}
	for i := range 3 {
		directs = append(directs, w.sign(admin(3), Anchor{Hashes: []types.Hash{{byte(i)}}}))
	}
	refused := append(bytes.Clone(messages[0]), 0)
	out := w.s.Apply(1, w.s.Time()+1, [][]byte{messages[0], refused, Direct(directs[0]), Direct(directs[1]), messages[1], Direct(directs[2])})
	for i, r := range out.Block {
		if (r.Code != CodeOK) != (i == 1) {
			t.Fatalf("transaction %d of the block: %v", i, r)
		}
	}
	b = BlockTxs{Roots: out.Roots, Parts: w.s.Parts()}
	return b, w.s.Root(), 1, messages, directs
}

func TestTxProof(t *testing.T) {
	b, root, height, messages, directs := proofBlock(t)
	check := func(raw []byte, p TxProof) {
		t.Helper()
		tx, err := VerifyTxProof(root, height, raw, p)
		if err != nil || tx.ID != types.SHA256(raw) {
			t.Fatalf("%s: %v", p.Place, err)
		}
		enc, err := p.AppendBinary(nil)
		if err != nil {
			t.Fatal(err)
		}
		back, err := ParseTxProof(enc)
		if err != nil || len(back.Path) != len(p.Path) || len(enc) > MaxTxProof {
			t.Fatalf("%+v, %v", back, err)
		}
		if _, err := VerifyTxProof(root, height, raw, back); err != nil {
			t.Fatal(err)
		}
		tamper(t, root, height, raw, p)
	}
	for _, m := range messages {
		d, _, r := readMessage(m)
		if r != nil {
			t.Fatal(r)
		}
		for i, tx := range d.Txs {
			raw, p, err := b.ProveMessageTx(m, uint32(i+1))
			if err != nil || !bytes.Equal(raw, tx) || p.Place != (Place{d.Node, 1, uint32(i + 1)}) {
				t.Fatalf("%+v, %v", p, err)
			}
			check(raw, p)
		}
		for _, none := range []uint32{0, uint32(len(d.Txs) + 1), 1 << 31} {
			if _, _, err := b.ProveMessageTx(m, none); !errors.Is(err, ErrNotFound) {
				t.Errorf("position %d: %v", none, err)
			}
		}
	}
	for _, raw := range directs {
		p, err := b.ProveDirect(types.SHA256(raw), height)
		if err != nil {
			t.Fatal(err)
		}
		check(raw, p)
	}
	if _, err := b.ProveDirect(types.SHA256([]byte("another")), height); !errors.Is(err, ErrNotFound) {
		t.Errorf("a transaction of another block: %v", err)
	}
	if _, _, err := (BlockTxs{}).ProveMessageTx(messages[0], 1); !errors.Is(err, ErrNotFound) {
		t.Errorf("a message of another block: %v", err)
	}
}

// tamper changes a proof that holds in every way, and wants every change to be refused.
func tamper(t *testing.T, root types.Hash, height types.Height, raw []byte, good TxProof) {
	t.Helper()
	refuse := func(what string, root types.Hash, height types.Height, raw []byte, change func(p *TxProof)) {
		t.Helper()
		p := good
		p.Path, p.RootPath = append([]types.Hash(nil), p.Path...), append([]types.Hash(nil), p.RootPath...)
		if change != nil {
			change(&p)
		}
		if _, err := VerifyTxProof(root, height, raw, p); !errors.Is(err, merkle.ErrProof) {
			t.Fatalf("%s of %s: %v", what, good.Place, err)
		}
	}
	direct := good.Place.Node == 0
	refuse("another root", types.Hash{1}, height, raw, nil)
	for i := range raw {
		bad := bytes.Clone(raw)
		bad[i] ^= 1
		refuse(fmt.Sprint("byte ", i), root, height, bad, nil)
	}
	refuse("cut transaction", root, height, raw[:len(raw)-1], nil)
	refuse("no transaction", root, height, nil, nil)
	refuse("an inner node as transaction", root, height, append(good.Parts[0][:], good.Parts[1][:]...), nil)
	if direct {
		refuse("another height", root, height+1, raw, nil)
		refuse("a position", root, height, raw, func(p *TxProof) { p.Place.Position = 1 })
		refuse("another height in the place", root, height, raw, func(p *TxProof) { p.Place.Msid++ })
	} else {
		refuse("another message number", root, height, raw, func(p *TxProof) { p.Place.Msid++ })
		refuse("another position", root, height, raw, func(p *TxProof) { p.Place.Position++ })
		refuse("position 0", root, height, raw, func(p *TxProof) { p.Place.Position = 0 })
		refuse("a position beyond the end", root, height, raw, func(p *TxProof) { p.Place.Position = 1 << 31 })
		refuse("a direct one", root, height, raw, func(p *TxProof) { p.Place = Place{Msid: uint32(height)} })
		refuse("no path", root, height, raw, func(p *TxProof) { p.Path = nil })
		refuse("shorter path", root, height, raw, func(p *TxProof) { p.Path = p.Path[1:] })
	}
	refuse("another node", root, height, raw, func(p *TxProof) { p.Place.Node++ })
	refuse("longer path", root, height, raw, func(p *TxProof) { p.Path = append(p.Path, types.Hash{}) })
	refuse("endless path", root, height, raw, func(p *TxProof) { p.Path = make([]types.Hash, 1000) })
	refuse("endless path to the part", root, height, raw, func(p *TxProof) { p.RootPath = make([]types.Hash, 1000) })
	refuse("longer path to the part", root, height, raw, func(p *TxProof) { p.RootPath = append(p.RootPath, types.Hash{}) })
	refuse("shorter path to the part", root, height, raw, func(p *TxProof) { p.RootPath = p.RootPath[1:] })
	refuse("another index", root, height, raw, func(p *TxProof) { p.Index ^= 1 })
	refuse("an index beyond the end", root, height, raw, func(p *TxProof) { p.Index = p.Roots })
	refuse("no roots", root, height, raw, func(p *TxProof) { p.Roots = 0 })
	for i := range good.Path {
		refuse("a hash of the path", root, height, raw, func(p *TxProof) { p.Path[i][31] ^= 1 })
	}
	for i := range good.RootPath {
		refuse("a hash of the path to the part", root, height, raw, func(p *TxProof) { p.RootPath[i][0] ^= 1 })
	}
	for i := range good.Parts {
		refuse(fmt.Sprint("part ", i), root, height, raw, func(p *TxProof) { p.Parts[i][5] ^= 1 })
	}
}

// TestTxProofModel proves random transactions of random messages.
func TestTxProofModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := NodeMessage{Node: uint16(rapid.IntRange(1, 0xFFFF).Draw(t, "node")), Msid: rapid.Uint32().Draw(t, "msid")}
		for i := range rapid.IntRange(1, 300).Draw(t, "transactions") {
			raw, _, err := Sign(secretOf("x"), types.Hash{}, Head{From: admin(m.Node), Msid: uint32(i)}, Broadcast{Data: []byte{byte(i)}})
			if err != nil {
				t.Fatal(err)
			}
			m.Txs = append(m.Txs, raw)
		}
		message, err := m.Encode()
		if err != nil {
			t.Fatal(err)
		}
		b := BlockTxs{}
		at := rapid.IntRange(0, 20).Draw(t, "message")
		for i := range rapid.IntRange(at+1, 30).Draw(t, "roots") {
			if i == at {
				b.Roots = append(b.Roots, m.Root())
			} else {
				b.Roots = append(b.Roots, types.SHA256([]byte{byte(i)}))
			}
		}
		b.Parts[partTransactions] = merkle.RootOf(b.Roots)
		i := rapid.IntRange(1, len(m.Txs)).Draw(t, "position")
		raw, p, err := b.ProveMessageTx(message, uint32(i))
		if err != nil {
			t.Fatal(err)
		}
		if tx, err := VerifyTxProof(b.Parts.Root(), 9, raw, p); err != nil || tx.Msid != uint32(i-1) {
			t.Fatal(err)
		}
	})
}

func TestPlaceText(t *testing.T) {
	for text, want := range map[string]Place{
		"0001:0000000A:0003":     {1, 10, 3},
		"0001:0000000a:0003":     {1, 10, 3},
		"FFFF:FFFFFFFF:FFFF":     {0xFFFF, 0xFFFFFFFF, 0xFFFF},
		"0000:00000102:00012345": {0, 0x102, 0x12345},
		"0001-00000EA0-0001":     {1, 0xEA0, 1},
		"000100000EA00001":       {1, 0xEA0, 1},
	} {
		p, err := ParsePlace(text)
		if err != nil || p != want {
			t.Errorf("%s: %+v, %v", text, p, err)
		}
		if again, err := ParsePlace(p.String()); err != nil || again != want {
			t.Errorf("%s is written %s: %v", text, p, err)
		}
	}
	for _, bad := range []string{"", "0001", "0001:0000000A", "1:0000000A:0003", "0001:000000A:0003", "0001:0000000A:003", "0001:0000000A:0000",
		"0001:0000000A:0003:", "0001:0000000A-0003", "0001:0000000A0003", "000100000EA000012", "000G:0000000A:0003", "0001:0000000A:+003", "0001:0000000A:123456789", " 0001:0000000A:0003"} {
		if p, err := ParsePlace(bad); err == nil {
			t.Errorf("%q was read as %+v", bad, p)
		}
	}
}

func FuzzTxProof(f *testing.F) {
	b, root, height, messages, directs := proofBlock(f)
	raw, p, err := b.ProveMessageTx(messages[1], 3)
	if err != nil {
		f.Fatal(err)
	}
	d, err := b.ProveDirect(types.SHA256(directs[0]), height)
	if err != nil {
		f.Fatal(err)
	}
	for _, p := range []TxProof{p, d} {
		enc, err := p.AppendBinary(nil)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(enc)
		f.Add(enc[:len(enc)-7])
	}
	f.Fuzz(func(t *testing.T, enc []byte) {
		got, err := ParseTxProof(enc)
		if err != nil {
			if !reflect.DeepEqual(got, TxProof{}) {
				t.Error("half a proof beside an error")
			}
			return
		}
		if again, err := got.AppendBinary(nil); err != nil || !bytes.Equal(again, enc) {
			t.Errorf("%x is written %x, %v", enc, again, err)
		}
		// A proof that leads to the root says the same as the one that was made.
		if _, err := VerifyTxProof(root, height, raw, got); err == nil && got.Place != p.Place {
			t.Errorf("the transaction at %s was proven to be at %s", p.Place, got.Place)
		}
	})
}
