package light_test

import (
	"errors"
	"testing"

	. "github.com/eschaton-network/chand/chain/escd/light"
	"github.com/eschaton-network/chand/chain/escd/light/lighttest"
)

// FuzzBundle reads bundles as they come from strangers. Nobody but the fuzzer's own validator can have signed another header than its own.
func FuzzBundle(f *testing.F) {
	g := lighttest.Of("a")
	good := lighttest.Bundle(f, "fuzz", 7, g, g, lighttest.All)
	trust := trustIn("fuzz", g)
	want, err := trust.Verify(Chain{good})
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte{})
	f.Add(good)
	f.Add(good[:len(good)-1])
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := trust.Verify(Chain{b})
		if err == nil && h != want || err != nil && !errors.Is(err, ErrBundle) {
			t.Errorf("%+v, %v", h, err)
		}
	})
}
