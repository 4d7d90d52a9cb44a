// Package lighttest makes validator sets and what they sign, for tests of whoever is led by signed headers.
package lighttest

import (
	"fmt"
	"testing"
	"time"

	"github.com/cometbft/cometbft/crypto/ed25519"
	"github.com/cometbft/cometbft/crypto/tmhash"
	cmtversion "github.com/cometbft/cometbft/proto/tendermint/version"
	cmt "github.com/cometbft/cometbft/types"
	"github.com/cometbft/cometbft/version"

	"github.com/eschaton-network/chand/chain/escd/light"
)

// Group is a validator set and its keys.
type Group struct {
	Set  *cmt.ValidatorSet
	keys map[string]ed25519.PrivKey
}

// Of makes validators of equal power of the letters of names; the same letter is the same validator.
func Of(names string) Group {
	g := Group{keys: map[string]ed25519.PrivKey{}}
	var vals []*cmt.Validator
	for _, n := range names {
		key := ed25519.GenPrivKeyFromSecret([]byte(fmt.Sprint("validator ", n)))
		g.keys[string(key.PubKey().Address())] = key
		vals = append(vals, cmt.NewValidator(key.PubKey(), 10))
	}
	g.Set = cmt.NewValidatorSet(vals)
	return g
}

// All lets all of a group sign.
const All = -1

// Bundle is the bundle of a header of a height that the first sign of the group have signed and that names the next group.
func Bundle(t testing.TB, chain string, height int64, g, next Group, sign int) []byte {
	t.Helper()
	return BundleOf(t, chain, height, g, next, sign, tmhash.Sum([]byte("app")))
}

// BundleOf is Bundle for a header with this state root.
func BundleOf(t testing.TB, chain string, height int64, g, next Group, sign int, root []byte) []byte {
	t.Helper()
	hash := func(s string) []byte { return tmhash.Sum([]byte(s)) }
	h := &cmt.Header{Version: cmtversion.Consensus{Block: version.BlockProtocol}, ChainID: chain, Height: height, Time: time.Unix(1e9+height, 0).UTC(),
		LastBlockID: cmt.BlockID{Hash: hash("last"), PartSetHeader: cmt.PartSetHeader{Total: 1, Hash: hash("parts")}}, LastCommitHash: hash("commit"),
		DataHash: hash("data"), ValidatorsHash: g.Set.Hash(), NextValidatorsHash: next.Set.Hash(), ConsensusHash: hash("params"),
		AppHash: root, LastResultsHash: hash("results"), EvidenceHash: hash("evidence"), ProposerAddress: g.Set.Validators[0].Address}
	id := cmt.BlockID{Hash: h.Hash(), PartSetHeader: cmt.PartSetHeader{Total: 1, Hash: hash("parts")}}
	c := &cmt.Commit{Height: height, BlockID: id}
	for i, v := range g.Set.Validators {
		if sign != All && i >= sign {
			c.Signatures = append(c.Signatures, cmt.NewCommitSigAbsent())
			continue
		}
		c.Signatures = append(c.Signatures, cmt.CommitSig{BlockIDFlag: cmt.BlockIDFlagCommit, ValidatorAddress: v.Address, Timestamp: h.Time})
		sig, err := g.keys[string(v.Address)].Sign(c.VoteSignBytes(chain, int32(i)))
		if err != nil {
			t.Fatal(err)
		}
		c.Signatures[i].Signature = sig
	}
	b, err := light.Encode(&cmt.SignedHeader{Header: h, Commit: c}, g.Set)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
