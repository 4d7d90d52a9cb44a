package light

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/cometbft/cometbft/crypto/ed25519"
	"github.com/cometbft/cometbft/crypto/tmhash"
	cmtversion "github.com/cometbft/cometbft/proto/tendermint/version"
	cmt "github.com/cometbft/cometbft/types"
	"github.com/cometbft/cometbft/version"

	"github.com/eschaton-network/chand/types"
)

// group is a validator set and its keys.
type group struct {
	set  *cmt.ValidatorSet
	keys map[string]ed25519.PrivKey
}

// groupOf makes equal validators of names.
func groupOf(names string) group {
	g := group{keys: map[string]ed25519.PrivKey{}}
	var vals []*cmt.Validator
	for _, n := range names {
		key := ed25519.GenPrivKeyFromSecret([]byte(fmt.Sprint("advance test ", n)))
		g.keys[string(key.PubKey().Address())] = key
		vals = append(vals, cmt.NewValidator(key.PubKey(), 10))
	}
	g.set = cmt.NewValidatorSet(vals)
	return g
}

// bundleAt signs a header of a height with as many of the group as sign says (all: -1).
func bundleAt(t *testing.T, chain string, height int64, g, next group, sign int) []byte {
	t.Helper()
	hash := func(s string) []byte { return tmhash.Sum([]byte(s)) }
	h := &cmt.Header{Version: cmtversion.Consensus{Block: version.BlockProtocol}, ChainID: chain, Height: height, Time: time.Unix(1e9+height, 0).UTC(),
		LastBlockID: cmt.BlockID{Hash: hash("last"), PartSetHeader: cmt.PartSetHeader{Total: 1, Hash: hash("parts")}}, LastCommitHash: hash("commit"),
		DataHash: hash("data"), ValidatorsHash: g.set.Hash(), NextValidatorsHash: next.set.Hash(), ConsensusHash: hash("params"),
		AppHash: hash("app"), LastResultsHash: hash("results"), EvidenceHash: hash("evidence"), ProposerAddress: g.set.Validators[0].Address}
	id := cmt.BlockID{Hash: h.Hash(), PartSetHeader: cmt.PartSetHeader{Total: 1, Hash: hash("parts")}}
	c := &cmt.Commit{Height: height, BlockID: id}
	for i, v := range g.set.Validators {
		if sign >= 0 && i >= sign {
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
	b, err := Encode(&cmt.SignedHeader{Header: h, Commit: c}, g.set)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestAdvance(t *testing.T) {
	const chain = "advance"
	first, second, third, far := groupOf("abcd"), groupOf("abef"), groupOf("abeg"), groupOf("wxyz")
	start := TrustIn(chain, types.Hash{}, 0, first.set, first.set)
	step := func(from Trust, b []byte) Trust {
		t.Helper()
		to, lb, err := from.Advance(b)
		if err != nil {
			t.Fatal(err)
		}
		if to.Height() != lb.Height {
			t.Fatalf("height %d after block %d", to.Height(), lb.Height)
		}
		return to
	}
	refuse := func(why string, from Trust, b []byte) {
		t.Helper()
		to, _, err := from.Advance(b)
		if !errors.Is(err, ErrBundle) || to.Height() != from.Height() {
			t.Errorf("%s: %v, height %d", why, err, to.Height())
		}
	}
	// The same validators, any distance away.
	step(start, bundleAt(t, chain, 1000, first, first, -1))
	// Half of them went: not in one step, but over the header that names the next ones.
	refuse("half of the power", start, bundleAt(t, chain, 101, second, second, -1))
	change := step(start, bundleAt(t, chain, 100, first, second, 3))
	now := step(change, bundleAt(t, chain, 200, second, second, 3))
	// One of four went: three quarters of those trusted signed.
	step(now, bundleAt(t, chain, 300, third, third, -1))
	refuse("the three quarters that stayed did not all sign", now, bundleAt(t, chain, 300, third, third, 2))
	// A chain of changes in which all went.
	step(step(now, bundleAt(t, chain, 250, second, far, -1)), bundleAt(t, chain, 260, far, far, -1))

	refuse("strangers", now, bundleAt(t, chain, 300, far, far, -1))
	refuse("two of four signed", now, bundleAt(t, chain, 300, second, second, 2))
	refuse("an earlier block", now, bundleAt(t, chain, 200, second, second, -1))
	refuse("another chain", now, bundleAt(t, "other", 300, second, second, -1))
	refuse("no trust", Trust{ChainID: chain}, bundleAt(t, chain, 300, second, second, -1))
	refuse("no bundle", now, nil)
	good := bundleAt(t, chain, 300, second, second, -1)
	good[len(good)/3] ^= 1
	refuse("a flipped bit", now, good)
}
