package escd

import (
	"bytes"
	"errors"
	"testing"

	"github.com/eschaton-network/chand/chain/escd/light"
	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

// genesisTrust is all that a verifier has.
func genesisTrust(t *testing.T, n *Node) light.Trust {
	t.Helper()
	doc, err := n.GenesisDoc().Bytes()
	if err != nil {
		t.Fatal(err)
	}
	trust, err := light.ParseGenesis(doc)
	if err != nil {
		t.Fatal(err)
	}
	return trust
}

// verified sends a proof through its file and checks it.
func verified(t *testing.T, trust light.Trust, p light.Proof, err error) light.Proven {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	file, err := light.EncodeProof(p)
	if err != nil {
		t.Fatal(err)
	}
	back, err := light.DecodeProof(file)
	if err != nil {
		t.Fatal(err)
	}
	out, err := trust.VerifyProof(back)
	if err != nil || out.Sentence() == "" {
		t.Fatalf("%s\n%v", file, err)
	}
	return out
}

func TestProofs(t *testing.T) {
	n := start(t, testConfig(t, t.TempDir(), "a"))
	trust := genesisTrust(t, n)
	a, err := n.Account(admin)
	if err != nil {
		t.Fatal(err)
	}
	var ids []types.Hash
	for prev := a.Hash; len(ids) < 9; { // several in a block
		var raw []byte
		raw, prev = signSend(t, n.cfg.AccountSecret, a.Msid+uint32(len(ids)), prev, admin, admin, types.Amount(len(ids)))
		ids = append(ids, submit(t, n, raw))
	}
	for _, id := range ids {
		result(t, n, id)
	}
	around := sendOne(t, n, admin, n.cfg.AccountSecret, admin, 1) // without the office
	if err := n.direct(around); err != nil {
		t.Fatal(err)
	}
	ids = append(ids, types.SHA256(around))
	if done := result(t, n, ids[9]); done.Place.Node != 0 {
		t.Errorf("the transaction beside the office has place %s", done.Place)
	}
	for _, id := range ids {
		done := result(t, n, id)
		p, err := n.ProveTx(bounded(t), id)
		out := verified(t, trust, p, err)
		if out.Tx.ID != id || out.Place.Node != done.Place.Node || out.Place.Msid != done.Place.Msid || out.Place.Node != 0 && out.Place != done.Place {
			t.Errorf("%+v is not %+v", out, done)
		}
		b := events(t, n, out.Height, out.Height+1)
		if b[1].Time != out.Time {
			t.Errorf("block %+v, proven %+v", b[1].BlockInfo, out)
		}
		p, err = n.ProvePlace(bounded(t), done.Place)
		if again := verified(t, trust, p, err); again.Tx.ID != id {
			t.Errorf("%s is %s", done.Place, again.Tx.ID)
		}
	}
	unknown := types.SHA256([]byte("nothing"))
	if _, err := n.ProveTx(bounded(t), unknown); !errors.Is(err, ledger.ErrNotFound) {
		t.Errorf("proof of an unknown transaction: %v", err)
	}
	for _, place := range []ledger.Place{{}, {Msid: 1, Position: 77}, {Msid: 1 << 30, Position: 1}, {Node: 1, Msid: 99, Position: 1}, {Node: 9, Msid: 1, Position: 1}} {
		if _, err := n.ProvePlace(bounded(t), place); !errors.Is(err, ledger.ErrNotFound) && !errors.As(err, new(*ledger.Pruned)) {
			t.Errorf("proof of %s: %v", place, err)
		}
	}
	head, _ := n.Head()
	for _, h := range []types.Height{0, head.Height + 1000} {
		if _, err := n.Bundle(h); !errors.Is(err, ledger.ErrNotFound) {
			t.Errorf("bundle of block %d: %v", h, err)
		}
	}
	refuseBundles(t, n, trust)
	proveAccount(t, n, trust)
	proveAnchor(t, n, trust)
	proveContract(t, n, trust)
}

func proveAnchor(t *testing.T, n *Node, trust light.Trust) {
	t.Helper()
	hashes := []types.Hash{{1}, {2}, {3}}
	a, err := n.Account(admin)
	if err != nil {
		t.Fatal(err)
	}
	raw, _, err := ledger.Sign(n.cfg.AccountSecret, a.Hash, ledger.Head{From: admin, Msid: a.Msid}, ledger.Anchor{Hashes: hashes})
	if err != nil {
		t.Fatal(err)
	}
	id := submit(t, n, raw)
	result(t, n, id)
	for _, h := range hashes {
		p, err := n.ProveAnchor(bounded(t), h)
		if out := verified(t, trust, p, err); *out.Anchor != h || out.Tx.ID != id {
			t.Errorf("%+v", out)
		}
		p.Transaction.Anchor = &types.Hash{9}
		if _, err := trust.VerifyProof(p); !errors.Is(err, light.ErrProof) {
			t.Errorf("a hash that is not anchored: %v", err)
		}
	}
	if _, err := n.ProveAnchor(bounded(t), types.Hash{9}); !errors.Is(err, ledger.ErrNotFound) {
		t.Errorf("proof of an unknown anchor: %v", err)
	}
}

func proveContract(t *testing.T, n *Node, trust light.Trust) {
	t.Helper()
	p, err := n.ProveContract(bounded(t), types.ChannelID{5})
	if out := verified(t, trust, p, err); out.Contract != nil || out.ContractID != (types.ChannelID{5}) {
		t.Errorf("%+v", out)
	}
}

// refuseBundles changes a good bundle in every byte, and asks with the wrong trust.
func refuseBundles(t *testing.T, n *Node, trust light.Trust) {
	awaitHeight(t, n, 2)
	good, err := n.Bundle(2)
	if err != nil {
		t.Fatal(err)
	}
	want, err := trust.Verify(light.Chain{good})
	if err != nil {
		t.Fatal(err)
	}
	for i := range good {
		b := bytes.Clone(good)
		b[i] ^= 1
		h, err := trust.Verify(light.Chain{b})
		if err == nil && h != want {
			t.Errorf("byte %d changed: accepted as %+v", i, h)
		}
		if err != nil && !errors.Is(err, light.ErrBundle) {
			t.Errorf("byte %d changed: %v does not wrap ErrBundle", i, err)
		}
	}
	for name, b := range map[string][]byte{"empty": nil, "cut": good[:len(good)-1], "longer": append(bytes.Clone(good), 0), "huge": make([]byte, light.MaxBundle+1)} {
		if _, err := trust.Verify(light.Chain{b}); !errors.Is(err, light.ErrBundle) {
			t.Errorf("%s bundle: %v", name, err)
		}
	}
	g := n.GenesisDoc()
	g.Nodes = []ledger.GenesisNode{{PublicKey: ledger.PublicKey(secret("mallory")), Account0: g.Nodes[0].Account0}}
	mallory, err := light.TrustOf(g)
	if err != nil {
		t.Fatal(err)
	}
	other := n.GenesisDoc()
	other.ChainID = "other"
	foreign, err := light.TrustOf(other)
	if err != nil {
		t.Fatal(err)
	}
	for name, trust := range map[string]light.Trust{"other validators": mallory, "other chain": foreign, "none": {}} {
		if _, err := trust.Verify(light.Chain{good}); !errors.Is(err, light.ErrBundle) {
			t.Errorf("trust in %s: %v", name, err)
		}
	}
	g = n.GenesisDoc()
	g.Nodes = append(g.Nodes, g.Nodes[0])
	if _, err := light.TrustOf(g); err == nil {
		t.Error("a genesis document that names one validator twice was accepted")
	}
}

func proveAccount(t *testing.T, n *Node, trust light.Trust) {
	t.Helper()
	user := openAccount(t, n, "user")
	a, err := n.ProveAccount(bounded(t), user)
	out := verified(t, trust, a, err)
	if out.Account != user || out.Record.PublicKey != ledger.PublicKey(secret("account user")) || out.Height == 0 {
		t.Errorf("%+v", out)
	}
	change := func(what string, f func(p *light.Proof)) {
		t.Helper()
		p := a
		fact := *a.Account
		p.Account = &fact
		f(&p)
		if _, err := trust.VerifyProof(p); err == nil {
			t.Errorf("%s was accepted", what)
		}
	}
	change("a record with another balance", func(p *light.Proof) {
		r, id := out.Record, user
		r.Balance++
		raw := r.Marshal(id)
		p.Account.Record = raw[:]
	})
	change("a record as that of another account", func(p *light.Proof) { p.Account.Proof.ID = admin })
	change("a record whose checksum does not fit", func(p *light.Proof) {
		p.Account.Record = append(bytes.Clone(a.Account.Record[:127]), a.Account.Record[127]^1)
	})
	change("a record against an older state root", func(p *light.Proof) {
		old, err := n.Bundle(1)
		if err != nil {
			t.Fatal(err)
		}
		p.Chain, p.Height = light.Chain{old}, 0
	})
	change("a proof of another block", func(p *light.Proof) { p.Height++ })
	change("a proof of another chain", func(p *light.Proof) { p.ChainID = "x" })
	change("a proof of another ledger", func(p *light.Proof) { p.Genesis[0] ^= 1 })
	change("a proof without header", func(p *light.Proof) { p.Chain = nil })
	change("a proof of two things", func(p *light.Proof) { p.Contract = &light.ContractFact{} })
	change("a proof of nothing", func(p *light.Proof) { p.Account = nil })
	if _, err := n.ProveAccount(bounded(t), types.AccountID{Node: 7}); !errors.Is(err, ledger.ErrNotFound) {
		t.Errorf("proof of an account that is not there: %v", err)
	}
}
