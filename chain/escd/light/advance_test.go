package light_test

import (
	"errors"
	"testing"

	. "github.com/eschaton-network/chand/chain/escd/light"
	"github.com/eschaton-network/chand/chain/escd/light/lighttest"
	"github.com/eschaton-network/chand/types"
)

func TestAdvance(t *testing.T) {
	const chain = "advance"
	first, second, third, far := lighttest.Of("abcd"), lighttest.Of("abef"), lighttest.Of("abeg"), lighttest.Of("wxyz")
	start := TrustIn(chain, types.Hash{}, 0, first.Set, first.Set)
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
	step(start, lighttest.Bundle(t, chain, 1000, first, first, -1))
	// Half of them went: not in one step, but over the header that names the next ones.
	refuse("half of the power", start, lighttest.Bundle(t, chain, 101, second, second, -1))
	change := step(start, lighttest.Bundle(t, chain, 100, first, second, 3))
	now := step(change, lighttest.Bundle(t, chain, 200, second, second, 3))
	// One of four went: three quarters of those trusted signed.
	step(now, lighttest.Bundle(t, chain, 300, third, third, -1))
	refuse("the three quarters that stayed did not all sign", now, lighttest.Bundle(t, chain, 300, third, third, 2))
	// A chain of changes in which all went.
	step(step(now, lighttest.Bundle(t, chain, 250, second, far, -1)), lighttest.Bundle(t, chain, 260, far, far, -1))

	refuse("strangers", now, lighttest.Bundle(t, chain, 300, far, far, -1))
	refuse("two of four signed", now, lighttest.Bundle(t, chain, 300, second, second, 2))
	refuse("an earlier block", now, lighttest.Bundle(t, chain, 200, second, second, -1))
	refuse("another chain", now, lighttest.Bundle(t, "other", 300, second, second, -1))
	refuse("no trust", Trust{ChainID: chain}, lighttest.Bundle(t, chain, 300, second, second, -1))
	refuse("no bundle", now, nil)
	good := lighttest.Bundle(t, chain, 300, second, second, -1)
	good[len(good)/3] ^= 1
	refuse("a flipped bit", now, good)
}
