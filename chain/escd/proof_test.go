package escd

import (
	"bytes"
	"errors"
	"testing"

	"github.com/eschaton-network/chand/chain/escd/light"
	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

func TestProofs(t *testing.T) {
	n := start(t, testConfig(t, t.TempDir(), "a"))
	doc, err := n.GenesisDoc().Bytes()
	if err != nil {
		t.Fatal(err)
	}
	trust, err := light.ParseGenesis(doc) // all that a verifier has
	if err != nil {
		t.Fatal(err)
	}
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
		path, err := n.TxProof(id)
		if err != nil {
			t.Fatal(err)
		}
		bundle, err := n.Bundle(path.Height)
		if err != nil {
			t.Fatal(err)
		}
		h, err := light.VerifyBundle(trust, bundle)
		if err != nil {
			t.Fatal(err)
		}
		if path.TxID != id || h.Height != path.Height || path.Root() != h.DataHash {
			t.Errorf("the path of %s leads to %s, the header has %s", id, path.Root(), h.DataHash)
		}
		b := events(t, n, h.Height, h.Height)[0]
		if b.Hash != h.Hash || b.AppHash != h.AppHash || b.Time != h.Time {
			t.Errorf("block %+v, header %+v", b.BlockInfo, h)
		}
	}
	if _, err := n.TxProof(types.SHA256([]byte("nothing"))); !errors.Is(err, ledger.ErrNotFound) {
		t.Errorf("proof of an unknown transaction: %v", err)
	}
	head, _ := n.Head()
	for _, h := range []types.Height{0, head.Height + 1000} {
		if _, err := n.Bundle(h); !errors.Is(err, ledger.ErrNotFound) {
			t.Errorf("bundle of block %d: %v", h, err)
		}
	}
	refuseBundles(t, n, trust)
	proveAccount(t, n, trust)
}

// refuseBundles changes a good bundle in every byte, and asks with the wrong trust.
func refuseBundles(t *testing.T, n *Node, trust light.Trust) {
	awaitHeight(t, n, 2)
	good, err := n.Bundle(2)
	if err != nil {
		t.Fatal(err)
	}
	want, err := light.VerifyBundle(trust, good)
	if err != nil {
		t.Fatal(err)
	}
	for i := range good {
		b := bytes.Clone(good)
		b[i] ^= 1
		h, err := light.VerifyBundle(trust, b)
		if err == nil && h != want {
			t.Errorf("byte %d changed: accepted as %+v", i, h)
		}
		if err != nil && !errors.Is(err, light.ErrBundle) {
			t.Errorf("byte %d changed: %v does not wrap ErrBundle", i, err)
		}
	}
	for name, b := range map[string][]byte{"empty": nil, "cut": good[:len(good)-1], "longer": append(bytes.Clone(good), 0), "huge": make([]byte, light.MaxBundle+1)} {
		if _, err := light.VerifyBundle(trust, b); !errors.Is(err, light.ErrBundle) {
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
		if _, err := light.VerifyBundle(trust, good); !errors.Is(err, light.ErrBundle) {
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
	user := openAccount(t, n, "user")
	a, err := n.ProveAccount(bounded(t), user)
	if err != nil {
		t.Fatal(err)
	}
	r, h, err := light.VerifyAccount(trust, a)
	if err != nil {
		t.Fatal(err)
	}
	if r.PublicKey != ledger.PublicKey(secret("account user")) || h.Height == 0 {
		t.Errorf("record %+v at block %d", r, h.Height)
	}
	richer := a
	richer.Record = a.Record[:176] + "0000000000000040" + a.Record[192:]
	if _, _, err := light.VerifyAccount(trust, richer); err == nil {
		t.Error("a record with another balance was accepted")
	}
	other := a
	other.Proof.ID = admin
	if _, _, err := light.VerifyAccount(trust, other); err == nil {
		t.Error("a record was accepted as that of another account")
	}
	if other.Bundle, err = n.Bundle(1); err != nil {
		t.Fatal(err)
	}
	other.Proof.ID = user
	if _, _, err := light.VerifyAccount(trust, other); err == nil {
		t.Error("a record was accepted against an older state root")
	}
	if _, err := n.ProveAccount(bounded(t), types.AccountID{Node: 7}); !errors.Is(err, ledger.ErrNotFound) {
		t.Errorf("proof of an account that is not there: %v", err)
	}
}
