package escd

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/eschaton-network/chand/chain/escd/light"
	"github.com/eschaton-network/chand/chain/escd/light/lighttest"
	"github.com/eschaton-network/chand/types"
)

// changesOffice answers with bundles after a height, a few at a time.
func changesOffice(t *testing.T, bundles map[int64][]byte, most int) *Client {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		after, err := strconv.ParseInt(r.FormValue("after"), 10, 64)
		if err != nil || r.URL.Path != "/v1/changes" {
			t.Errorf("asked for %s", r.URL)
		}
		var out writer
		n := 0
		for h := after + 1; h < 10_000 && n < most; h++ {
			if b := bundles[h]; b != nil {
				out.blob(b)
				n++
			}
		}
		w.Write(out.b)
	}))
	t.Cleanup(s.Close)
	c := NewClient(strings.TrimPrefix(s.URL, "http://"))
	t.Cleanup(c.Close)
	return c
}

// TestLead: a verifier is led from the first validators to others of whom it knows none, over the headers in which they changed.
func TestLead(t *testing.T) {
	const chain = "lead"
	sets := []string{"abcd", "abce", "abef", "aefg", "efgh", "fghi", "wxyz", "wxyv"}
	bundles := map[int64][]byte{}
	for i := range len(sets) - 1 {
		bundles[int64(100*(i+1))] = lighttest.Bundle(t, chain, int64(100*(i+1)), lighttest.Of(sets[i]), lighttest.Of(sets[i+1]), lighttest.All)
	}
	last := lighttest.Of(sets[len(sets)-1])
	first := lighttest.Of(sets[0])
	trust := func() light.Trust { return light.TrustIn(chain, types.Hash{}, 0, first.Set, first.Set) }
	target := lighttest.Bundle(t, chain, 5000, last, last, 3)

	for most := 1; most < 9; most++ {
		l := leader{trust: trust(), c: changesOffice(t, bundles, most)}
		lb, err := l.to(bounded(t), 5000, target)
		if err != nil || lb.Height != 5000 || l.trust.Height() != 5000 {
			t.Fatalf("%d at a time: %v", most, err)
		}
		// What it keeps leads others the same way.
		if len(l.bundles) != len(bundles) {
			t.Fatalf("%d at a time: %d changes kept, there are %d", most, len(l.bundles), len(bundles))
		}
		kept := map[int64][]byte{}
		for _, b := range l.bundles {
			kept[int64(b.Height)] = b.Bundle
		}
		again := leader{trust: trust(), c: changesOffice(t, kept, 3)}
		if _, err := again.to(bounded(t), 5000, target); err != nil {
			t.Fatalf("%d at a time, over the %d bundles kept: %v", most, len(kept), err)
		}
	}
	for name, change := range map[string]func(map[int64][]byte){
		"one is missing": func(b map[int64][]byte) { delete(b, 600) },
		"one is forged by its successors": func(b map[int64][]byte) {
			b[600] = lighttest.Bundle(t, chain, 600, lighttest.Of("wxyz"), lighttest.Of("wxyz"), lighttest.All)
		},
		"one is signed by half": func(b map[int64][]byte) {
			b[600] = lighttest.Bundle(t, chain, 600, lighttest.Of("fghi"), lighttest.Of("wxyz"), 2)
		},
		"none": func(b map[int64][]byte) { clear(b) },
	} {
		bad := map[int64][]byte{}
		for h, b := range bundles {
			bad[h] = b
		}
		change(bad)
		l := leader{trust: trust(), c: changesOffice(t, bad, 2)}
		if _, err := l.to(bounded(t), 5000, target); !errors.Is(err, errSnapshotOffered) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
