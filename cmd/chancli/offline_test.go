package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cometbft/cometbft/crypto/ed25519"
	cmtproto "github.com/cometbft/cometbft/proto/tendermint/types"
	cmtversion "github.com/cometbft/cometbft/proto/tendermint/version"
	cmt "github.com/cometbft/cometbft/types"
	cmtconst "github.com/cometbft/cometbft/version"

	"github.com/eschaton-network/chand/chain/escd/light"
	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/timestamp"
	"github.com/eschaton-network/chand/types"
)

// signedBlock makes a bundle of a header with this state root, signed by the key.
func signedBlock(t *testing.T, chainID string, key ed25519.PrivKey, height int64, root []byte) []byte {
	t.Helper()
	vals := cmt.NewValidatorSet([]*cmt.Validator{cmt.NewValidator(key.PubKey(), 10)})
	zero := types.SHA256(nil)
	at := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	h := &cmt.Header{Version: cmtversion.Consensus{Block: cmtconst.BlockProtocol}, ChainID: chainID, Height: height, Time: at,
		LastBlockID: cmt.BlockID{Hash: zero[:], PartSetHeader: cmt.PartSetHeader{Total: 1, Hash: zero[:]}}, LastCommitHash: zero[:], DataHash: zero[:],
		ValidatorsHash: vals.Hash(), NextValidatorsHash: vals.Hash(), ConsensusHash: zero[:], AppHash: root, LastResultsHash: zero[:], EvidenceHash: zero[:],
		ProposerAddress: key.PubKey().Address()}
	id := cmt.BlockID{Hash: h.Hash(), PartSetHeader: cmt.PartSetHeader{Total: 1, Hash: zero[:]}}
	v := &cmt.Vote{Type: cmtproto.PrecommitType, Height: height, BlockID: id, Timestamp: at, ValidatorAddress: key.PubKey().Address()}
	sig, err := key.Sign(cmt.VoteSignBytes(chainID, v.ToProto()))
	if err != nil {
		t.Fatal(err)
	}
	v.Signature = sig
	b, err := light.Encode(&cmt.SignedHeader{Header: h, Commit: &cmt.Commit{Height: height, BlockID: id, Signatures: []cmt.CommitSig{v.CommitSig()}}}, vals)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A whole proof is verified with nothing but the file, the proof and the genesis document.
func TestVerifyOffline(t *testing.T) {
	dir := t.TempDir()
	key, mallory := ed25519.GenPrivKeyFromSecret([]byte("validator")), ed25519.GenPrivKeyFromSecret([]byte("mallory"))
	pub := types.Hash(key.PubKey().Bytes())
	g := ledger.Genesis{ChainID: "esc-offline", Time: 1, Nodes: []ledger.GenesisNode{{PublicKey: pub, Account0: pub}}}
	doc, err := g.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	hash, err := g.Hash()
	if err != nil {
		t.Fatal(err)
	}
	write := func(name string, b []byte) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	file := write("contract.txt", []byte("we agree"))
	write("ledger/genesis.json", doc)
	digest := sha256.Sum256([]byte("we agree"))
	proof := func(genesis types.Hash, height types.Height, root []byte, bundle func(data []byte) []byte) {
		t.Helper()
		value := sha256.Sum256(digest[:]) // a round of one: the commitment is the digest itself
		p := timestamp.AnchorPath{Tx: append([]byte("an anchor of "), value[:]...), Offset: len("an anchor of ")}
		id := types.SHA256(p.Tx)
		path, err := ledger.BlockTxs{Roots: []types.Hash{{1}, id, {2}}, Parts: ledger.Parts{{1}}}.ProveDirect(id, height)
		if err != nil {
			t.Fatal(err)
		}
		leads, err := path.Root(id)
		if err != nil {
			t.Fatal(err)
		}
		enc, err := path.AppendBinary(nil)
		if err != nil {
			t.Fatal(err)
		}
		if root == nil {
			root = leads[:]
		}
		p.Ledger = timestamp.Ledger{Genesis: genesis, Height: height, Proof: string(enc), Bundle: string(bundle(root))}
		st := timestamp.New(digest[:])
		more, err := p.Timestamp(digest[:])
		if err != nil {
			t.Fatal(err)
		}
		if err := st.Merge(more); err != nil {
			t.Fatal(err)
		}
		b, err := timestamp.NewDetached(st).Encode()
		if err != nil {
			t.Fatal(err)
		}
		write("contract.txt.ots", b)
	}
	verify := func() (int, string, string) {
		var out, errs bytes.Buffer
		code := run(context.Background(), []string{"--home", dir, "timestamp", "verify", file, "--offline"}, strings.NewReader(""), &out, &errs, false)
		return code, out.String(), errs.String()
	}
	signed := func(k ed25519.PrivKey, chain string, height int64) func([]byte) []byte {
		return func(root []byte) []byte { return light.Chain{signedBlock(t, chain, k, height+1, root)}.Encode() }
	}

	proof(hash, 12, nil, signed(key, g.ChainID, 12))
	code, out, errs := verify()
	var v struct {
		Valid        bool
		Text         string
		Attestations []struct {
			Kind, ChainID string
			Block         int
			Time          time.Time
		}
	}
	if err := json.Unmarshal([]byte(out), &v); err != nil || code != 0 || !v.Valid || len(v.Attestations) != 1 {
		t.Fatalf("%d %s %s %v", code, out, errs, err)
	}
	if a := v.Attestations[0]; a.Kind != "chand-ledger" || a.Block != 12 || !a.Time.Equal(time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)) {
		t.Errorf("%+v", a)
	}
	other := types.SHA256([]byte("another block"))
	for what, forge := range map[string]func(){
		"another signer":        func() { proof(hash, 12, nil, signed(mallory, g.ChainID, 12)) },
		"another chain":         func() { proof(hash, 12, nil, signed(key, "esc-other", 12)) },
		"another height":        func() { proof(hash, 13, nil, signed(key, g.ChainID, 12)) },
		"another block's state": func() { proof(hash, 12, other[:], signed(key, g.ChainID, 12)) },
		"another ledger":        func() { proof(types.SHA256([]byte("g")), 12, nil, signed(key, g.ChainID, 12)) },
		"no signatures":         func() { proof(hash, 12, nil, func([]byte) []byte { return nil }) },
	} {
		forge()
		if code, out, errs := verify(); code != exitFailed || !strings.Contains(out, `"valid":false`) || !strings.Contains(errs, "not_proven") {
			t.Errorf("%s: %d %s %s", what, code, out, errs)
		}
	}
	proof(hash, 12, nil, signed(key, g.ChainID, 12))
	write("contract.txt", []byte("we do not agree"))
	if code, _, errs := verify(); code != exitFailed || !strings.Contains(errs, "other_file") {
		t.Errorf("changed file: %d %s", code, errs)
	}
}
