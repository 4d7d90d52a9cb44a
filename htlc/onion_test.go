package htlc

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/btcsuite/btcd/btcec/v2"
	"pgregory.net/rapid"

	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/wire"
)

// onionKey gives the same key for the same number.
func onionKey(i int) *btcec.PrivateKey {
	h := types.SHA256(fmt.Appendf(nil, "onion test key %d", i))
	k, _ := btcec.PrivKeyFromBytes(h[:])
	return k
}

func nodeOf(k *btcec.PrivateKey) types.NodeID { return types.NodeID(k.PubKey().SerializeCompressed()) }

// onionRoute makes a route of n hops with distinct payloads.
func onionRoute(n int, final Payload) (keys []*btcec.PrivateKey, hops []OnionHop) {
	for i := range n {
		keys = append(keys, onionKey(i))
		p := final
		if i < n-1 {
			p = Payload{Kind: Forward, Next: Short(types.SHA256([]byte{byte(i)})), Amount: types.Amount(1000 - i), Expiry: types.Height(9000 - i)}
		}
		hops = append(hops, OnionHop{nodeOf(keys[i]), p})
	}
	return keys, hops
}

func nodesOf(hops []OnionHop) (nodes []types.NodeID) {
	for _, h := range hops {
		nodes = append(nodes, h.Node)
	}
	return nodes
}

func drawFinal(t *rapid.T, hops int) Payload {
	p := Payload{Kind: rapid.SampledFrom([]PayloadKind{Invoice, Keysend, Escrow}).Draw(t, "kind"),
		Amount: types.Amount(rapid.Int64Range(1, int64(types.MaxAmount)).Draw(t, "amount")),
		Expiry: types.Height(rapid.Uint32().Draw(t, "expiry")), Secret: [32]byte{1, 2, 3}}
	p.Total = p.Amount
	p.Memo = strings.Repeat("m", rapid.IntRange(0, MemoRoom(hops)).Draw(t, "memo"))
	return p
}

// Every node of a route of any length reads its own payload and nobody else's, in order.
func TestOnionRoutes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, MaxHops).Draw(t, "hops")
		keys, hops := onionRoute(n, drawFinal(t, n))
		session := types.SHA256([]byte("session"))
		assoc := types.SHA256([]byte("payment"))
		packet, err := BuildOnion(hops, session, assoc[:])
		if err != nil {
			t.Fatal(err)
		}
		for i, hop := range hops {
			if other := (i + 1) % n; other != i {
				if _, err := PeelOnion(keys[other], packet[:], assoc[:]); err == nil {
					t.Fatalf("node %d opened the layer of node %d", other, i)
				}
			}
			got, err := PeelOnion(keys[i], packet[:], assoc[:])
			if err != nil {
				t.Fatalf("node %d of %d: %v", i, n, err)
			}
			if got.Payload != hop.Payload || got.IsFinal != (i == n-1) {
				t.Fatalf("node %d of %d got %+v", i, n, got)
			}
			packet = got.Next
		}
	})
}

// A middle hop sees its neighbours alone: neither the packet that it gets nor the one it passes on holds, in any position,
// a later hop's channel, key, secret or memo, and packets of different hops share no run of bytes.
func TestOnionHidesTheRest(t *testing.T) {
	memo := "a memo that only the payee may read"
	final := Payload{Kind: Invoice, Amount: 5, Total: 5, Expiry: 7, Secret: types.SHA256([]byte("secret")), Memo: memo}
	keys, hops := onionRoute(6, final)
	assoc := types.SHA256([]byte("payment"))
	packet, err := BuildOnion(hops, types.SHA256([]byte("s")), assoc[:])
	if err != nil {
		t.Fatal(err)
	}
	seen := map[[8]byte]int{}
	for i := range hops {
		for j, hop := range hops {
			for _, hidden := range [][]byte{hop.Payload.Next[:8], hop.Node[1:9], final.Secret[:8], []byte(memo[:8])} {
				if !bytes.Equal(hidden, make([]byte, 8)) && bytes.Contains(packet[:], hidden) {
					t.Fatalf("packet to node %d shows %x of node %d", i, hidden, j)
				}
			}
		}
		for o := 0; o+8 <= len(packet); o++ {
			k := [8]byte(packet[o:])
			if at, dup := seen[k]; dup && at != i {
				t.Fatalf("packets to nodes %d and %d share bytes %x", at, i, k)
			}
			seen[k] = i
		}
		got, err := PeelOnion(keys[i], packet[:], assoc[:])
		if err != nil {
			t.Fatal(err)
		}
		packet = got.Next
	}
}

func TestOnionRefusals(t *testing.T) {
	final := Payload{Kind: Invoice, Amount: 5, Total: 5, Expiry: 7}
	keys, hops := onionRoute(3, final)
	session, assoc := types.SHA256([]byte("s")), types.SHA256([]byte("payment"))
	packet, err := BuildOnion(hops, session, assoc[:])
	if err != nil {
		t.Fatal(err)
	}
	changed := func(at int) []byte { b := bytes.Clone(packet[:]); b[at] ^= 1; return b }
	other := types.SHA256([]byte("another payment"))
	for _, c := range []struct {
		name   string
		packet []byte
		assoc  []byte
		want   Code
	}{
		{"version", changed(0), assoc[:], InvalidOnionVersion},
		{"key is no point", append(append([]byte{0}, bytes.Repeat([]byte{0xff}, 33)...), packet[34:]...), assoc[:], InvalidOnionKey},
		{"body", changed(100), assoc[:], InvalidOnionHMAC},
		{"tail", changed(1333), assoc[:], InvalidOnionHMAC},
		{"mac", changed(1365), assoc[:], InvalidOnionHMAC},
		{"another lock", packet[:], other[:], InvalidOnionHMAC},
		{"short", packet[:1365], assoc[:], InvalidOnionVersion},
		{"long", append(bytes.Clone(packet[:]), 0), assoc[:], InvalidOnionVersion},
	} {
		var e *OnionError
		if _, err := PeelOnion(keys[0], c.packet, c.assoc); !errors.As(err, &e) || e.Code != c.want || len(MalformedReason(e)) != 2 {
			t.Errorf("%s: %v, want %s and a plain reason", c.name, err, c.want)
		}
	}
	long := append([]OnionHop{}, hops...)
	for len(long) <= MaxHops {
		long = append([]OnionHop{hops[0]}, long...)
	}
	early := []OnionHop{hops[2], hops[2]}
	noFinal := hops[:2]
	badNode := []OnionHop{{types.NodeID{2}, final}}
	for name, h := range map[string][]OnionHop{"none": nil, "too long": long, "final before the end": early, "no final": noFinal, "no curve point": badNode} {
		if _, err := BuildOnion(h, session, assoc[:]); err == nil {
			t.Errorf("%s: built", name)
		}
	}
	for _, key := range [][32]byte{{}, [32]byte(bytes.Repeat([]byte{0xff}, 32))} {
		if _, err := BuildOnion(hops, key, assoc[:]); err == nil {
			t.Errorf("session key %x: built", key)
		}
	}
}

// The longest memo fits each route length, one byte more does not.
func TestMemoRoom(t *testing.T) {
	assoc := types.SHA256([]byte("payment"))
	for n := 1; n <= MaxHops; n++ {
		room := MemoRoom(n)
		final := Payload{Kind: Escrow, Amount: 5, Total: 5, Memo: strings.Repeat("x", room)}
		_, hops := onionRoute(n, final)
		if _, err := BuildOnion(hops, types.SHA256([]byte("s")), assoc[:]); err != nil {
			t.Errorf("%d hops, memo of %d: %v", n, room, err)
		}
		hops[n-1].Payload.Memo += "x"
		if _, err := BuildOnion(hops, types.SHA256([]byte("s")), assoc[:]); err == nil {
			t.Errorf("%d hops, memo of %d: built", n, room+1)
		}
	}
	if MemoRoom(MaxHops) < 16 {
		t.Errorf("a route of %d hops leaves %d bytes for a memo", MaxHops, MemoRoom(MaxHops))
	}
}

// Bytes that must not change: other daemons read them.
func TestPayloadVectors(t *testing.T) {
	for _, c := range []struct {
		p    Payload
		want string
	}{
		{Payload{Kind: Forward, Next: ShortID{0xaa, 15: 0xbb}, Amount: 258, Expiry: 3}, "01aa0000000000000000000000000000bb000000000000010200000003"},
		{Payload{Kind: Invoice, Amount: 1, Expiry: 2, Secret: [32]byte{0xcc}, Total: 3, Memo: "hi"},
			"02000000000000000100000002cc" + strings.Repeat("00", 31) + "00000000000000036869"},
	} {
		b, err := c.p.Encode()
		if got := fmt.Sprintf("%x", b); err != nil || got != c.want {
			t.Errorf("%+v encodes as %s, %v; want %s", c.p, got, err, c.want)
		}
		if p, err := DecodePayload(b); err != nil || p != c.p {
			t.Errorf("%s decodes as %+v, %v", c.want, p, err)
		}
	}
	for _, p := range []Payload{{}, {Kind: 9, Amount: 1}, {Kind: Forward}, {Kind: Forward, Amount: -1}, {Kind: Forward, Amount: 1, Memo: "x"},
		{Kind: Forward, Amount: 1, Secret: [32]byte{1}}, {Kind: Invoice, Amount: 2, Total: 1}, {Kind: Invoice, Amount: 1, Total: 1, Next: ShortID{1}},
		{Kind: Escrow, Amount: 1, Total: 1, Memo: "\xff"}, {Kind: Escrow, Amount: 1, Total: types.MaxAmount + 1}} {
		if _, err := p.Encode(); !errors.Is(err, ErrPayload) {
			t.Errorf("%+v: %v", p, err)
		}
	}
}

func FuzzDecodePayload(f *testing.F) {
	f.Add([]byte{})
	for _, p := range []Payload{{Kind: Forward, Amount: 1}, {Kind: Keysend, Amount: 1, Total: 1, Memo: "x"}} {
		b, _ := p.Encode()
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := DecodePayload(b)
		if err != nil {
			return
		}
		if again, err := p.Encode(); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%x decodes to %+v, which encodes to %x, %v", b, p, again, err)
		}
	})
}

func FuzzPeelOnion(f *testing.F) {
	_, hops := onionRoute(3, Payload{Kind: Invoice, Amount: 5, Total: 5})
	assoc := types.SHA256([]byte("payment"))
	packet, _ := BuildOnion(hops, types.SHA256([]byte("s")), assoc[:])
	f.Add(packet[:])
	f.Add(packet[:40])
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := PeelOnion(onionKey(0), b, assoc[:])
		var e *OnionError
		if err != nil && !errors.As(err, &e) {
			t.Fatalf("error %T", err)
		}
		if err == nil && got.Payload.Check() != nil {
			t.Fatalf("accepted %+v", got.Payload)
		}
	})
}

func BenchmarkPeelOnion(b *testing.B) {
	keys, hops := onionRoute(3, Payload{Kind: Invoice, Amount: 5, Total: 5})
	assoc := types.SHA256([]byte("payment"))
	packet, _ := BuildOnion(hops, types.SHA256([]byte("s")), assoc[:])
	for b.Loop() {
		if _, err := PeelOnion(keys[0], packet[:], assoc[:]); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkBuildOnion(b *testing.B) {
	_, hops := onionRoute(3, Payload{Kind: Invoice, Amount: 5, Total: 5})
	assoc := types.SHA256([]byte("payment"))
	for b.Loop() {
		if _, err := BuildOnion(hops, types.SHA256([]byte("s")), assoc[:]); err != nil {
			b.Fatal(err)
		}
	}
}

var _ = [1]struct{}{}[wire.OnionSize-1366] // the packet is BOLT 4's
