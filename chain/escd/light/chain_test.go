package light_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

	. "github.com/eschaton-network/chand/chain/escd/light"
	"github.com/eschaton-network/chand/chain/escd/light/lighttest"
	"github.com/eschaton-network/chand/types"
)

func trustIn(chain string, g lighttest.Group) Trust {
	return TrustIn(chain, types.Hash{}, 0, g.Set, g.Set)
}

// history makes the bundles at which the validators change: names[i] are those from block 100*i+1 on, and block 100*i is the last of
// those before.
func history(t testing.TB, chain string, names ...string) (changes Chain, last lighttest.Group) {
	t.Helper()
	for i := 1; i < len(names); i++ {
		changes = append(changes, lighttest.Bundle(t, chain, int64(100*i), lighttest.Of(names[i-1]), lighttest.Of(names[i]), lighttest.All))
	}
	return changes, lighttest.Of(names[len(names)-1])
}

func TestChain(t *testing.T) {
	const chain = "changes"
	for name, c := range map[string]struct {
		names []string
		want  int // bundles of the chain
	}{
		"no change":            {[]string{"abcd"}, 1},
		"one of four":          {[]string{"abcd", "abce"}, 1},
		"there and back":       {[]string{"abcd", "wxyz", "abcd"}, 1},
		"all at once":          {[]string{"abcd", "wxyz"}, 2},
		"one after the other":  {[]string{"abcd", "abce", "abfe", "agfe", "hgfe"}, 4},
		"all, three times":     {[]string{"abcd", "efgh", "ijkl", "mnop"}, 4},
		"many small, then all": {[]string{"abcdefg", "abcdefh", "abcdeih", "wxyz"}, 2},
		"single validators":    {[]string{"a", "b", "c"}, 3},
	} {
		first := lighttest.Of(c.names[0])
		trust := trustIn(chain, first)
		changes, last := history(t, chain, c.names...)
		target := lighttest.Bundle(t, chain, 1000, last, last, lighttest.All)
		got, err := trust.Lead(changes, target)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if len(got) != c.want {
			t.Errorf("%s: a chain of %d bundles, want %d", name, len(got), c.want)
		}
		h, err := trust.Verify(got)
		if err != nil || h.Height != 1000 {
			t.Errorf("%s: %+v, %v", name, h, err)
		}
		back, err := ParseChain(got.Encode())
		if err != nil || !slices.EqualFunc(back, got, bytes.Equal) {
			t.Errorf("%s: the chain became another, %v", name, err)
		}
		// Bundles after the target do not lead astray.
		later := append(slices.Clone(changes), lighttest.Bundle(t, chain, 2000, last, first, lighttest.All))
		if again, err := trust.Lead(later, target); err != nil || len(again) != c.want {
			t.Errorf("%s, with later changes: %d bundles, %v", name, len(again), err)
		}
		for i := range got {
			refuseChain(t, fmt.Sprintf("%s, without bundle %d", name, i), trust, slices.Delete(slices.Clone(got), i, i+1), len(got) > 1 && i == len(got)-1)
		}
	}
}

// refuseChain wants no header of block 1000; a chain without its last bundle may end sooner.
func refuseChain(t *testing.T, what string, trust Trust, c Chain, mayEnd bool) {
	t.Helper()
	h, err := trust.Verify(c)
	if err == nil && mayEnd && h.Height < 1000 {
		return
	}
	if !errors.Is(err, ErrBundle) {
		t.Errorf("%s: %+v, %v", what, h, err)
	}
}

func TestChainRefuses(t *testing.T) {
	const chain = "changes"
	trust := trustIn(chain, lighttest.Of("abcd"))
	changes, last := history(t, chain, "abcd", "efgh", "ijkl")
	at := func(chain string, height int64, g, next lighttest.Group, sign int) []byte {
		return lighttest.Bundle(t, chain, height, g, next, sign)
	}
	target := at(chain, 1000, last, last, lighttest.All)
	good, err := trust.Lead(changes, target)
	if err != nil || len(good) != 3 {
		t.Fatal(len(good), err)
	}
	want, err := trust.Verify(good)
	if err != nil {
		t.Fatal(err)
	}
	first, strangers := lighttest.Of("abcd"), lighttest.Of("wxyz")
	for what, c := range map[string]Chain{
		"none":                     {},
		"nil bundle":               {good[0], nil, good[2]},
		"swapped":                  {good[1], good[0], good[2]},
		"twice":                    {good[0], good[0], good[1], good[2]},
		"strangers at the end":     {good[0], good[1], at(chain, 1000, strangers, strangers, lighttest.All)},
		"strangers in between":     {good[0], at(chain, 200, strangers, last, lighttest.All), good[2]},
		"half of them signed":      {good[0], good[1], at(chain, 1000, last, last, 2)},
		"another chain's last":     {good[0], good[1], at("other", 1000, last, last, lighttest.All)},
		"too many":                 slices.Repeat(Chain{good[0]}, MaxChain+1),
		"too large":                {make([]byte, MaxChainBytes+1)},
		"a fork by those who left": {good[0], good[1], at(chain, 1000, first, last, lighttest.All)},
		"a vote of a minority":     {at(chain, 100, first, strangers, 2), at(chain, 1000, strangers, strangers, lighttest.All)},
		"a vote of strangers":      {at(chain, 100, strangers, strangers, lighttest.All)},
	} {
		if h, err := trust.Verify(c); !errors.Is(err, ErrBundle) {
			t.Errorf("%s: %+v, %v", what, h, err)
		}
	}
	for i := range good {
		for k := 0; k < len(good[i]); k += 3 {
			bad := slices.Clone(good)
			bad[i] = bytes.Clone(good[i])
			bad[i][k] ^= 1
			if h, err := trust.Verify(bad); err == nil && h != want {
				t.Errorf("byte %d of bundle %d changed: %+v", k, i, h)
			}
		}
	}
	if _, err := trust.Lead(changes[:1], target); err == nil {
		t.Error("a change is missing, and a chain was found")
	}
	if _, err := trust.Lead(Chain{{1}}, target); !errors.Is(err, ErrBundle) {
		t.Errorf("a damaged change: %v", err)
	}
	if _, err := trust.Lead(nil, nil); !errors.Is(err, ErrBundle) {
		t.Errorf("no target: %v", err)
	}
	enc := good.Encode()
	for n := range enc {
		if c, err := ParseChain(enc[:n]); err == nil && len(c) == len(good) {
			t.Fatalf("%d of %d bytes were read as the whole", n, len(enc))
		}
	}
}

func FuzzChain(f *testing.F) {
	trust := trustIn("fuzz", lighttest.Of("a"))
	changes, last := history(f, "fuzz", "a", "b")
	good, err := trust.Lead(changes, lighttest.Bundle(f, "fuzz", 1000, last, last, lighttest.All))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good.Encode())
	f.Add([]byte{1, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ParseChain(b)
		if err != nil {
			return
		}
		if !bytes.Equal(c.Encode(), b) {
			t.Errorf("%x is written %x", b, c.Encode())
		}
		if h, err := trust.Verify(c); err == nil && h.Height > 1000 {
			t.Errorf("nobody signed %+v", h)
		}
	})
}
