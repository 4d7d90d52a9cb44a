package light

import (
	"bytes"
	"errors"
	"fmt"

	cmtmath "github.com/cometbft/cometbft/libs/math"
	cmt "github.com/cometbft/cometbft/types"

	"github.com/eschaton-network/chand/types"
)

// skipLevel is the part of the trusted voting power that must have signed a header which another validator set signed: as much as
// signs a block, so that skipping headers trusts nobody more than reading each of them does. (CometBFT's own default is a third.)
var skipLevel = cmtmath.Fraction{Numerator: 2, Denominator: 3}

// TrustIn is the trust of one who has verified the ledger up to a height: validators sign the block after it, next the one after
// that.
func TrustIn(chainID string, genesis types.Hash, height int64, validators, next *cmt.ValidatorSet) Trust {
	return Trust{ChainID: chainID, Genesis: genesis, height: height, validators: validators, next: next.Hash()}
}

// Height is that of the newest header verified, 0 before the first.
func (t Trust) Height() int64 { return t.height }

// Advance verifies the bundle of a later header, whose validators may be others than those trusted, and returns the trust that it
// leads to. A validator set is accepted when it is the one trusted, when the newest header verified names it as the next, or
// when more than two thirds of the trusted voting power signed its header; in each case more than two thirds of its own power
// must have signed. Whoever can't be led that far in one step is led over the headers at which the set changed. The error
// wraps ErrBundle.
func (t Trust) Advance(bundle []byte) (Trust, *cmt.LightBlock, error) {
	lb, err := decode(bundle)
	if err != nil {
		return t, nil, err
	}
	if err := t.follow(lb); err != nil {
		return t, nil, fmt.Errorf("%w: %v", ErrBundle, err)
	}
	t.height, t.validators, t.next = lb.Height, lb.ValidatorSet, lb.NextValidatorsHash
	return t, lb, nil
}

func (t Trust) follow(lb *cmt.LightBlock) error {
	switch {
	case t.validators == nil:
		return errors.New("no trusted validators given: read the genesis document first")
	case lb.ChainID != t.ChainID:
		return fmt.Errorf("it is of chain %q, want %q", lb.ChainID, t.ChainID)
	case lb.Height <= t.height:
		return fmt.Errorf("it is of block %d, block %d is verified already", lb.Height, t.height)
	}
	if err := lb.ValidateBasic(t.ChainID); err != nil { // binds commit and validator set to the header
		return err
	}
	if !bytes.Equal(lb.ValidatorsHash, t.validators.Hash()) && !bytes.Equal(lb.ValidatorsHash, t.next) {
		if err := t.validators.VerifyCommitLightTrusting(t.ChainID, lb.Commit, skipLevel); err != nil {
			return fmt.Errorf("its validators are not known here after block %d: %w", t.height, err)
		}
	}
	return lb.ValidatorSet.VerifyCommitLight(t.ChainID, lb.Commit.BlockID, lb.Height, lb.Commit)
}

// Changed tells whether a header names other validators for the next block than its own: the headers over which Advance is led.
func Changed(h *cmt.Header) bool { return !bytes.Equal(h.ValidatorsHash, h.NextValidatorsHash) }
