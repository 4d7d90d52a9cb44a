package htlc

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/eschaton-network/chand/types"
)

// pathHops is a path of n hops, the last of which before the payee are dummies. Secrets 10, 11, ... are those of the nodes; the payee's, also
// at dummies, is 50.
func pathHops(n, dummies int) (hops []PathHop, secrets []*OnionSecret) {
	for i := range n {
		d, s := HopData{Kind: HopForward, Next: ShortID{byte(i), 9}, Terms: Terms{Base: types.Amount(100 * i), Millionths: uint32(1000 * i), Delta: 40}, MaxExpiry: 5000}, onionSecret(10+i)
		if i >= n-1-dummies {
			d, s = HopData{Kind: HopDummy, MaxExpiry: 5000}, onionSecret(50)
		}
		if i == n-1 {
			d = HopData{Kind: HopFinal, PathID: types.SHA256([]byte("path")), MaxExpiry: 4000, Min: 2}
		}
		hops, secrets = append(hops, PathHop{Key: s.Key(), Data: d, Reserve: 1000, Max: 1e12}), append(secrets, s)
	}
	return hops, secrets
}

func blindedPath(t testing.TB, n, dummies int) (*BlindedPath, []*OnionSecret) {
	t.Helper()
	hops, secrets := pathHops(n, dummies)
	path, err := NewBlindedPath(testNode(7), hops, session, 1, types.MaxAmount)
	if err != nil {
		t.Fatal(err)
	}
	return path, secrets
}

// A payment over any route and any path: every node before the entry sees an ordinary packet, every hop of the path is told what the payee
// wrote for it, the amounts suffice, and the payer's keys belong to none of the nodes but the entry.
func TestBlindedPaths(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, MaxBlindedHops).Draw(t, "path")
		hops, secrets := pathHops(n, rapid.IntRange(0, n-1).Draw(t, "dummies"))
		for i := range hops {
			if d := &hops[i].Data; d.Kind == HopForward {
				d.Terms = Terms{Base: types.Amount(rapid.Int64Range(0, 1e9).Draw(t, "base")), Millionths: rapid.Uint32Range(0, 100_000).Draw(t, "millionths"), Delta: rapid.Uint32Range(0, 1000).Draw(t, "delta")}
			}
			hops[i].Data.MaxExpiry = 1 << 20
		}
		path, err := NewBlindedPath(testNode(7), hops, session, 1, types.MaxAmount)
		if err != nil {
			t.Fatal(err)
		}
		amount, expiry := types.Amount(rapid.Int64Range(2, 1e15).Draw(t, "amount")), types.Height(rapid.Uint32Range(1, 1000).Draw(t, "expiry"))
		in, inExpiry, err := path.In(amount, expiry)
		if err != nil {
			t.Fatal(err)
		}
		before := rapid.IntRange(0, 3).Draw(t, "before")
		nodes, route := onionRoute(before+1, invoice)
		final := invoice
		final.Amount, final.Total, final.Expiry = amount, amount, expiry
		route = append(route[:before], path.Onion(final)...)
		onion, err := BuildOnion(route, session, assoc)
		if err != nil {
			t.Fatal(err)
		}
		packet := onion.Packet
		for i := range before {
			got, err := PeelOnion(nodes[i], packet[:], assoc)
			if err != nil || got.Blinded != nil || got.Payload != route[i].Payload {
				t.Fatalf("hop %d before the entry: %+v, %v", i, got, err)
			}
			packet = got.Next
		}
		for i, s := range secrets {
			if (path.Hops[i].Key == s.Key()) != (i == 0) {
				t.Fatalf("hop %d: the payer's key is the node's: %v", i, i != 0)
			}
			got, err := PeelOnion(s, packet[:], assoc)
			if err != nil {
				t.Fatalf("hop %d of the path: %v", i, err)
			}
			want := hops[i].Data
			if want.untweak = got.Blinded.untweak; *got.Blinded != want || got.SharedSecret != onion.Secrets[before+i] || got.IsFinal != (i == n-1) {
				t.Fatalf("hop %d of the path is told %+v, want %+v", i, got.Blinded, want)
			}
			if err := got.Blinded.Admit(in, inExpiry); err != nil {
				t.Fatalf("hop %d: %d units until %d: %v", i, in, inExpiry, err)
			}
			if want.Kind == HopForward {
				p, err := got.Blinded.Forward(in, inExpiry)
				if err != nil || p.Check() != nil {
					t.Fatalf("hop %d: %v", i, err)
				}
				fee, err := want.Terms.Fee(p.Amount)
				if more, _ := want.Terms.Fee(p.Amount + 1); err != nil || in-p.Amount < fee || in-p.Amount-1 >= more {
					t.Fatalf("hop %d passes %d of %d on for a fee of %d", i, p.Amount, in, fee)
				}
				in, inExpiry = p.Amount, p.Expiry
			}
			if got.IsFinal && (got.Payload.Secret != invoice.Secret || in < amount || inExpiry < expiry) {
				t.Fatalf("the payee gets %d until %d, wants %d until %d", in, inExpiry, amount, expiry)
			}
			packet = got.Next
		}
	})
}

// Who knows a path but does not use it learns nothing: what was written for a hop opens only in a packet that came over the path, and
// whatever is wrong is answered with the same words.
func TestBlindedProbing(t *testing.T) {
	path, secrets := blindedPath(t, 4, 1)
	other, _ := blindedPath(t, 3, 0)
	refused := func(name string, s *OnionSecret, hops []OnionHop) {
		t.Helper()
		onion, err := BuildOnion(hops, session, assoc)
		if err != nil {
			t.Fatal(name, err)
		}
		_, err = PeelOnion(s, onion.Packet[:], assoc)
		var e *OnionError
		if !errors.As(err, &e) || e.Code != InvalidOnionBlinding || e.Text != errBlindedHop.Error() {
			t.Errorf("%s: %v", name, err)
			return
		}
		_, f, err := DecryptFailure(onion.Secrets, types.ChannelID{}, MalformedReason(e))
		if _, same, _ := DecryptFailure(onion.Secrets, types.ChannelID{}, BlindFailure(onion.Secrets[0])); err != nil || !sameFailure(f, same) {
			t.Errorf("%s: answered with %+v", name, f)
		}
	}
	to := func(s *OnionSecret, p Payload) []OnionHop { return []OnionHop{{s.Key(), p}} }
	final := invoice
	for i := 1; i < 4; i++ {
		final.Blinded = path.Hops[i].Data
		refused(fmt.Sprintf("hop %d directly, as the payee", i), secrets[i], to(secrets[i], final))
		refused(fmt.Sprintf("hop %d directly", i), secrets[i], append(to(secrets[i], Payload{Kind: Blinded, Blinded: path.Hops[i].Data}), path.Hops[3].onion(final)))
	}
	final.Blinded = other.Hops[0].Data // of the same node, but it is told to forward
	refused("a hop as the payee", secrets[0], to(secrets[0], final))
	final.Blinded = path.Hops[3].Data
	refused("somebody who is not on the path", onionSecret(77), to(onionSecret(77), final))
	final.Blinded[40]++
	refused("changed", secrets[3], to(secrets[3], final))
	final.Blinded = BlindedData{}
	final.Blinded[50] = 1
	refused("no point", secrets[3], to(secrets[3], final))
}

func (h BlindedHop) onion(p Payload) OnionHop { p.Blinded = h.Data; return OnionHop{h.Key, p} }

// A path can't be cut, extended or reordered by the payer.
func TestBlindedOrder(t *testing.T) {
	path, secrets := blindedPath(t, 4, 0)
	for name, order := range map[string][]int{"without the second": {0, 2, 3}, "without the third": {0, 1, 3}, "swapped": {0, 2, 1, 3}, "twice": {0, 1, 1, 2, 3}} {
		var hops []OnionHop
		for _, i := range order {
			p := Payload{Kind: Blinded}
			if i == 3 {
				p = invoice
			}
			hops = append(hops, path.Hops[i].onion(p))
		}
		packet, refused := mustOnion(t, hops).Packet, false
		for _, i := range order {
			got, err := PeelOnion(secrets[i], packet[:], assoc)
			if refused = err != nil; refused {
				break
			}
			packet = got.Next
		}
		if !refused {
			t.Errorf("%s: it arrived", name)
		}
	}
}

// The hops of a path all look the same to the payer, and two paths to one payee have nothing in common.
func TestBlindedHidesThePayee(t *testing.T) {
	seen := map[[8]byte]bool{}
	for i, dummies := range []int{0, 0, 3} {
		hops, _ := pathHops(4, dummies)
		p, err := NewBlindedPath(testNode(7), hops, types.SHA256([]byte{byte(i)}), 1, types.MaxAmount)
		if err != nil {
			t.Fatal(err)
		}
		var all []byte
		for i, h := range p.Hops {
			if i > 0 {
				all = append(all, h.Key[:]...)
			}
			all = append(all, h.Data[32:]...)
		}
		for o := 0; o+8 <= len(all); o++ {
			k := [8]byte(all[o:])
			if seen[k] {
				t.Fatalf("bytes %x come twice", k)
			}
			seen[k] = true
		}
		hops, _ = pathHops(4, 0)
		for _, hidden := range [][]byte{hops[1].Data.Next[:], hops[3].Data.PathID[:8], hops[1].Key[:8], hops[3].Key[:8]} {
			if bytes.Contains(all, hidden) {
				t.Fatalf("the path shows %x", hidden)
			}
		}
	}
}

func TestBlindedTerms(t *testing.T) {
	path, _ := blindedPath(t, 4, 0) // bases 0, 100, 200; millionths 0, 1000, 2000; deltas 40
	if want := (Terms{Base: 304, Millionths: 3002, Delta: 120}); path.Terms != want {
		t.Errorf("%+v, want %+v", path.Terms, want)
	}
	hops, _ := pathHops(3, 0)
	wide, err := NewBlindedPath(testNode(7), hops, session, 1e6, 1e9)
	// Both hops ask for 1000 parts of at least a 483th of 1e12, which is 2,070.39 times the least amount.
	if want := uint32(2 * 2_070_394); err != nil || wide.Reserve != want {
		t.Errorf("reserve %d, want %d, %v", wide.Reserve, want, err)
	}
	for _, amount := range []types.Amount{1e6 - 1, 1e9 + 1} {
		if _, _, err := wide.In(amount, 10); !errors.Is(err, ErrBlinded) {
			t.Errorf("%d: %v", amount, err)
		}
	}
	for name, change := range map[string]func([]PathHop){
		"no final": func(h []PathHop) { h[2].Data = h[1].Data }, "final in the middle": func(h []PathHop) { h[1].Data = h[2].Data },
		"no path id": func(h []PathHop) { h[2].Data.PathID = types.Hash{} }, "dummy with terms": func(h []PathHop) { h[1].Data.Kind = HopDummy },
		"fees": func(h []PathHop) { h[0].Data.Terms.Millionths, h[1].Data.Terms.Millionths = 600_000, 600_000 }, "no key": func(h []PathHop) { h[1].Key = types.OnionKey{} },
		"delta": func(h []PathHop) { h[0].Data.Terms.Delta = maxTermsDelta + 1 }, "base": func(h []PathHop) { h[0].Data.Terms.Base = types.MaxAmount }, "kind": func(h []PathHop) { h[0].Data.Kind = 9 },
	} {
		hops, _ := pathHops(3, 0)
		change(hops)
		if p, err := NewBlindedPath(testNode(7), hops, session, 1, 2); !errors.Is(err, ErrBlinded) {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
	}
	d := hops[0].Data
	for _, c := range []struct {
		amount types.Amount
		expiry types.Height
	}{{0, 100}, {100, 5001}, {100, 39}} {
		if p, err := d.Forward(c.amount, c.expiry); !errors.Is(err, ErrBlinded) {
			t.Errorf("%d until %d: %+v", c.amount, c.expiry, p)
		}
	}
}

// What fails on a path comes back as the entry's failure, whoever failed and however.
func TestBlindedFailures(t *testing.T) {
	path, secrets := blindedPath(t, 3, 0)
	nodes, route := onionRoute(2, invoice)
	onion := mustOnion(t, append(route[:1], path.Onion(invoice)...))
	for failing := 1; failing <= 3; failing++ {
		reason := BlindFailure(onion.Secrets[failing])
		if failing == 3 {
			reason = MalformedReason(&OnionError{Code: InvalidOnionHMAC})
		}
		for i := min(failing, 3) - 1; i >= 1; i-- {
			reason = BlindFailure(onion.Secrets[i])
		}
		at, f, err := DecryptFailure(onion.Secrets, types.ChannelID{}, WrapFailure(onion.Secrets[0], types.ChannelID{}, reason))
		if err != nil || at != 1 || f.Code != InvalidOnionBlinding || !f.Channel.IsZero() || f.Policy != nil {
			t.Errorf("hop %d fails: the payer reads hop %d, %+v, %v", failing, at, f, err)
		}
	}
	_, _ = nodes, secrets
}

func TestBlindedGolden(t *testing.T) {
	path, secrets := blindedPath(t, 3, 1)
	onion := mustOnion(t, path.Onion(invoice))
	lines := [][]byte{path.append(nil)}
	packet := onion.Packet
	for _, s := range secrets {
		lines = append(lines, packet[:])
		got, err := PeelOnion(s, packet[:], assoc)
		if err != nil {
			t.Fatal(err)
		}
		plain, err := got.Blinded.encode()
		if err != nil {
			t.Fatal(err)
		}
		lines, packet = append(lines, plain), got.Next
	}
	golden(t, "testdata/blinded.txt", lines...)
}

func FuzzDecodeHopData(f *testing.F) {
	hops, _ := pathHops(3, 1)
	for _, h := range hops {
		b, _ := h.Data.encode()
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := decodeHopData(b)
		if err != nil {
			return
		}
		if again, err := d.encode(); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%x decodes to %+v, which encodes to %x, %v", b, d, again, err)
		}
		if p, err := d.Forward(1e9, 1000); err == nil && (p.Check() != nil || p.Amount > 1e9 || p.Expiry > 1000) {
			t.Fatalf("%+v forwards %+v", d, p)
		}
	})
}

// FuzzOpenBlinded is what a payer can do: any bytes for a hop.
func FuzzOpenBlinded(f *testing.F) {
	path, _ := blindedPath(f, 2, 0)
	f.Add(path.Hops[0].Data[:])
	f.Fuzz(func(t *testing.T, b []byte) {
		p := invoice
		copy(p.Blinded[:], b)
		if p.Blinded == (BlindedData{}) {
			return
		}
		onion := mustOnion(t, []OnionHop{{onionSecret(10).Key(), p}})
		_, err := PeelOnion(onionSecret(10), onion.Packet[:], assoc)
		var e *OnionError
		if !errors.As(err, &e) || e.Code != InvalidOnionBlinding {
			t.Fatalf("taken: %v", err)
		}
	})
}
