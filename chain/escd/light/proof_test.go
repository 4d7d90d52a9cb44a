package light_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/cometbft/cometbft/crypto/ed25519"

	. "github.com/eschaton-network/chand/chain/escd/light"
	"github.com/eschaton-network/chand/chain/escd/light/lighttest"
	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

// sampleProofs are proofs of every kind against one block, over a change of validators, with the trust that they need.
func sampleProofs(t testing.TB) (Trust, map[string]Proof) {
	t.Helper()
	first, second := lighttest.Of("abcd"), lighttest.Of("efgh")
	g := ledger.Genesis{ChainID: "proofs", Time: 1}
	for _, v := range first.Set.Validators {
		key := types.Hash(v.PubKey.(ed25519.PubKey))
		g.Nodes = append(g.Nodes, ledger.GenesisNode{PublicKey: key, Account0: ledger.PublicKey(ledger.BrainKey("admin"))})
	}
	trust, err := TrustOf(g)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ledger.NewState(g)
	if err != nil {
		t.Fatal(err)
	}
	admin := types.AccountID{Node: 1}
	a, err := s.Account(admin)
	if err != nil {
		t.Fatal(err)
	}
	raw, _, err := ledger.Sign(ledger.BrainKey("admin"), a.Hash, ledger.Head{From: admin, Msid: a.Msid}, ledger.Anchor{Hashes: []types.Hash{{1}, {2}}})
	if err != nil {
		t.Fatal(err)
	}
	out := s.Apply(1, 2, [][]byte{ledger.Direct(raw)})
	root := s.Root()
	txProof, err := ledger.BlockTxs{Roots: out.Roots, Parts: s.Parts()}.ProveDirect(types.SHA256(raw), 1)
	if err != nil {
		t.Fatal(err)
	}
	record, err := s.Record(admin)
	if err != nil {
		t.Fatal(err)
	}
	account, err := s.AccountProof(admin)
	if err != nil {
		t.Fatal(err)
	}
	// The validators change in block 1, so that the header of block 2 is signed by others.
	chain := Chain{lighttest.Bundle(t, g.ChainID, 1, first, second, lighttest.All), lighttest.BundleOf(t, g.ChainID, 2, second, second, lighttest.All, root[:])}
	marshalled := record.Marshal(admin)
	base := Proof{Format: Format, ChainID: g.ChainID, Genesis: trust.Genesis, Height: 1, Chain: chain}
	all := map[string]Proof{"account": base, "transaction": base, "anchor": base, "contract": base}
	set := func(kind string, f func(p *Proof)) {
		p := all[kind]
		f(&p)
		all[kind] = p
	}
	set("account", func(p *Proof) { p.Account = &AccountFact{Record: marshalled[:], Proof: account} })
	set("transaction", func(p *Proof) { p.Transaction = &TransactionFact{Raw: raw, Proof: txProof} })
	set("anchor", func(p *Proof) { p.Transaction = &TransactionFact{Raw: raw, Proof: txProof, Anchor: &types.Hash{2}} })
	set("contract", func(p *Proof) {
		p.Contract = &ContractFact{ID: types.ChannelID{7}, Proof: s.ContractProof(types.ChannelID{7})}
	})
	return trust, all
}

func TestProofFiles(t *testing.T) {
	trust, all := sampleProofs(t)
	says := map[string]string{"account": "had 1141392289", "transaction": "by itself in block 1", "anchor": "existed by", "contract": "never been a contract"}
	for kind, p := range all {
		file, err := EncodeProof(p)
		if err != nil {
			t.Fatal(err)
		}
		back, err := DecodeProof(file)
		if err != nil {
			t.Fatal(err)
		}
		out, err := trust.VerifyProof(back)
		if err != nil || out.Height != 1 || !strings.Contains(out.Sentence(), says[kind]) {
			t.Errorf("%s: %s, %v", kind, out.Sentence(), err)
		}
		var compact bytes.Buffer
		if err := json.Compact(&compact, file); err != nil {
			t.Fatal(err)
		}
		if _, err := DecodeProof(compact.Bytes()); err != nil {
			t.Errorf("%s without white space: %v", kind, err)
		}
		refuseFiles(t, kind, string(file))
		refuseChanges(t, kind, trust, out, file)
	}
}

// refuseFiles are files that must not be read.
func refuseFiles(t *testing.T, kind, file string) {
	t.Helper()
	for what, bad := range map[string]string{
		"nothing": "", "null": "null", "a list": "[]", "cut off": file[:len(file)-3], "twice": file + file,
		"an unknown field":   strings.Replace(file, `"format"`, `"more": 1, "format"`, 1),
		"a field twice":      strings.Replace(file, `"chain_id"`, `"chain_id": "x", "chain_id"`, 1),
		"a field's case":     strings.Replace(file, `"height"`, `"Height"`, 1),
		"another format":     strings.Replace(file, Format, "chand-proof-2", 1),
		"a float":            strings.Replace(file, `"height": 1`, `"height": 1.0`, 1),
		"a negative height":  strings.Replace(file, `"height": 1`, `"height": -1`, 1),
		"a huge height":      strings.Replace(file, `"height": 1`, `"height": 4294967297`, 1),
		"upper-case hex":     strings.Replace(file, `"genesis": "`, `"genesis": "AB`, 1),
		"too long":           file + strings.Repeat(" ", MaxProof),
		"an escaped letter":  strings.Replace(file, `"proofs"`, `"\u0070roofs"`, 1),
		"null in the chain":  strings.Replace(file, `"chain": [`, `"chain": [null, `, 1),
		"bytes as a number":  strings.Replace(file, `"chain": [`, `"chain": [1, `, 1),
		"format as a number": strings.Replace(file, `"`+Format+`"`, "1", 1),
	} {
		if bad == file {
			t.Fatalf("%s: nothing was changed", what)
		}
		if _, err := DecodeProof([]byte(bad)); !errors.Is(err, ErrProof) && what != "null in the chain" {
			t.Errorf("%s with %s: %v", kind, what, err)
		}
	}
}

// refuseChanges changes every character that means something, and wants the file to be refused or to prove the same.
func refuseChanges(t *testing.T, kind string, trust Trust, want Proven, file []byte) {
	t.Helper()
	chain := bytes.Index(file, []byte(`"chain"`)) // TestChainRefuses changes what follows
	for i, c := range file {
		if c == ' ' || c == '\n' || i%4 != 0 || i > chain && i%29 != 0 {
			continue
		}
		bad := slices.Clone(file)
		switch bad[i] {
		case '0':
			bad[i] = '1'
		default:
			bad[i] = '0'
		}
		p, err := DecodeProof(bad)
		if err != nil {
			continue
		}
		out, err := trust.VerifyProof(p)
		if out.ContractID != want.ContractID { // no other contract was there either
			continue
		}
		if err == nil && (out.Sentence() != want.Sentence() || out.Next != want.Next) {
			t.Errorf("%s with character %d changed proves: %s", kind, i, out.Sentence())
		}
	}
}

func FuzzProof(f *testing.F) {
	trust, all := sampleProofs(f)
	var sentences []string
	for _, p := range all {
		file, err := json.Marshal(p)
		if err != nil {
			f.Fatal(err)
		}
		out, err := trust.VerifyProof(p)
		if err != nil {
			f.Fatal(err)
		}
		sentences = append(sentences, out.Sentence())
		f.Add(file)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := DecodeProof(b)
		if err != nil {
			return
		}
		again, err := EncodeProof(p)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := DecodeProof(again); err != nil {
			t.Errorf("%s is written %s, which is refused: %v", b, again, err)
		}
		// A hash of the anchor may be left out or asked for, and no contract was there; all else must be what one of the samples says.
		if out, err := trust.VerifyProof(p); err == nil && out.Anchor == nil && out.ContractID.IsZero() && !slices.Contains(sentences, out.Sentence()) {
			t.Errorf("it proves: %s", out.Sentence())
		}
	})
}
