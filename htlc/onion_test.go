package htlc

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/wire"
)

var rewrite = flag.Bool("rewrite", false, "write golden files anew")

// golden compares with a file of hex lines, or writes it.
func golden(t *testing.T, name string, lines ...[]byte) {
	t.Helper()
	var b strings.Builder
	for _, l := range lines {
		fmt.Fprintf(&b, "%x\n", l)
	}
	if *rewrite {
		if err := os.WriteFile(name, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil || string(want) != b.String() {
		t.Errorf("%s (%v) differs: got\n%s", name, err, b.String())
	}
}

// onionSecret gives the same secret for the same number.
func onionSecret(i int) *OnionSecret {
	return NewOnionSecret([64]byte(derive(types.SHA256(fmt.Appendf(nil, "onion test key %d", i)), "test")))
}

// onionRoute makes a route of n hops with distinct payloads.
func onionRoute(n int, final Payload) (secrets []*OnionSecret, hops []OnionHop) {
	for i := range n {
		secrets = append(secrets, onionSecret(i))
		p := final
		if i < n-1 {
			p = Payload{Kind: Forward, Next: Short(types.SHA256([]byte{byte(i)})), Amount: types.Amount(1000 - i), Expiry: types.Height(9000 - i), Reserve: types.Amount(i)}
		}
		hops = append(hops, OnionHop{secrets[i].Key(), p})
	}
	return secrets, hops
}

func mustOnion(t testing.TB, hops []OnionHop) *Onion {
	t.Helper()
	onion, err := BuildOnion(hops, session, assoc)
	if err != nil {
		t.Fatal(err)
	}
	return onion
}

var (
	session = types.SHA256([]byte("session"))
	hash    = types.SHA256([]byte("payment"))
	assoc   = hash[:]
	invoice = Payload{Kind: Invoice, Amount: 5, Total: 5, Expiry: 7, Secret: types.SHA256([]byte("secret"))}
)

func drawPayload(t *rapid.T, final bool, memo int) Payload {
	amount := rapid.OneOf(rapid.Int64Range(1, 1e12), rapid.Int64Range(1, int64(types.MaxAmount)))
	p := Payload{Kind: Forward, Amount: types.Amount(amount.Draw(t, "amount")), Expiry: types.Height(rapid.Uint32().Draw(t, "expiry"))}
	secret := types.SHA256([]byte{rapid.Byte().Draw(t, "secret")})
	if !final {
		p.Next, p.Reserve = Short(secret), types.Amount(rapid.Int64Range(0, int64(types.MaxAmount)).Draw(t, "reserve"))
		return p
	}
	p.Kind, p.Secret = rapid.SampledFrom([]PayloadKind{Invoice, Keysend, Escrow}).Draw(t, "kind"), secret
	p.Total = max(p.Amount, types.Amount(amount.Draw(t, "total")))
	p.Memo = strings.Repeat("m", rapid.IntRange(0, memo).Draw(t, "memo"))
	return p
}

// Every node of a route of any length reads its own payload and nobody else's, in order, and shares the secret that the payer has; none
// opens another's layer, none takes the packet for another lock.
func TestOnionRoutes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, MaxHops).Draw(t, "hops")
		var secrets []*OnionSecret
		var hops []OnionHop
		for i := range n {
			secrets = append(secrets, onionSecret(i))
			hops = append(hops, OnionHop{secrets[i].Key(), drawPayload(t, i == n-1, MemoRoom(n))})
		}
		key := types.Hash(rapid.SliceOfN(rapid.ByteRange(1, 255), 32, 32).Draw(t, "session"))
		onion, err := BuildOnion(hops, key, assoc)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := BuildOnion(hops, key, assoc); err != nil || again.Packet != onion.Packet {
			t.Fatal("the same arguments gave another packet")
		}
		packet := onion.Packet
		for i, hop := range hops {
			if other := (i + 1) % n; other != i {
				if _, err := PeelOnion(secrets[other], packet[:], assoc); err == nil {
					t.Fatalf("node %d opened the layer of node %d", other, i)
				}
			}
			if _, err := PeelOnion(secrets[i], packet[:], append(assoc[:31:31], assoc[31]^1)); err == nil {
				t.Fatalf("node %d took the packet for another lock", i)
			}
			got, err := PeelOnion(secrets[i], packet[:], assoc)
			if err != nil {
				t.Fatalf("node %d of %d: %v", i, n, err)
			}
			if got.Payload != hop.Payload || got.IsFinal != (i == n-1) || got.SharedSecret != onion.Secrets[i] || got.Blinded != nil {
				t.Fatalf("node %d of %d got %+v", i, n, got)
			}
			packet = got.Next
		}
	})
}

// Bytes that must not change: other daemons make and read them.
func TestOnionGolden(t *testing.T) {
	final := invoice
	final.Memo = "two coffees"
	secrets, hops := onionRoute(3, final)
	onion := mustOnion(t, hops)
	lines := [][]byte{session[:], assoc}
	packet := onion.Packet
	for i, s := range secrets {
		scalar := make([]byte, 32)
		if err := s.scalar.ToBytes(scalar); err != nil {
			t.Fatal(err)
		}
		key := s.Key()
		lines = append(lines, scalar, key[:], onion.Secrets[i][:], packet[:])
		got, err := PeelOnion(s, packet[:], assoc)
		if err != nil {
			t.Fatal(err)
		}
		packet = got.Next
	}
	golden(t, "testdata/onion.txt", append(lines, EncryptFailure(onion.Secrets[2], NewFailure(FeeInsufficient, types.ChannelID{1}, "x")))...)
}

// Any bit that is changed on the way is found by the node that gets the packet, and told without a secret.
func TestOnionBitFlips(t *testing.T) {
	secrets, hops := onionRoute(3, invoice)
	packet := mustOnion(t, hops).Packet
	for i, s := range secrets {
		step := 1
		if i > 0 {
			step = 37 // all bits at the first hop, one in 37 at the others
		}
		for bit := 0; bit < len(packet)*8; bit += step {
			b := packet
			b[bit/8] ^= 1 << (bit % 8)
			_, err := PeelOnion(s, b[:], assoc)
			var e *OnionError
			ok := errors.As(err, &e) && len(MalformedReason(e)) == 2
			switch {
			case !ok:
			case bit < 8:
				ok = e.Code == InvalidOnionVersion
			case bit < hopsAt*8:
				ok = e.Code == InvalidOnionKey || e.Code == InvalidOnionHMAC
			default:
				ok = e.Code == InvalidOnionHMAC
			}
			if !ok {
				t.Fatalf("node %d, bit %d: %v", i, bit, err)
			}
		}
		got, err := PeelOnion(s, packet[:], assoc)
		if err != nil {
			t.Fatal(err)
		}
		packet = got.Next
	}
}

// A middle hop sees its neighbours alone: neither the packet that it gets nor the one it passes on holds, in any position,
// a later hop's channel, key, secret or memo, and packets of different hops share no run of bytes.
func TestOnionHidesTheRest(t *testing.T) {
	memo := "a memo that only the payee may read"
	final := invoice
	final.Memo = memo
	secrets, hops := onionRoute(6, final)
	packet := mustOnion(t, hops).Packet
	seen := map[[8]byte]int{}
	for i := range hops {
		for j, hop := range hops {
			for _, hidden := range [][]byte{hop.Payload.Next[:8], hop.Key[1:9], final.Secret[:8], []byte(memo[:8])} {
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
		got, err := PeelOnion(secrets[i], packet[:], assoc)
		if err != nil {
			t.Fatal(err)
		}
		packet = got.Next
	}
}

// What a node sees besides its own layer has the statistics of random bytes, whatever the length of the route: in the packet, and
// in what is left of it once its own layer is off (a payee could else count the hops by the padding).
func TestOnionLooksRandom(t *testing.T) {
	for _, n := range []int{1, 2, 20} {
		var counts, inside [256]int
		total, totalInside := 0, 0
		for i := range 60 {
			secrets, hops := onionRoute(n, invoice)
			onion, err := BuildOnion(hops, types.SHA256([]byte{byte(i), byte(n)}), assoc)
			if err != nil {
				t.Fatal(err)
			}
			packet := onion.Packet
			for _, s := range secrets {
				for _, b := range packet[hopsAt:] {
					counts[b]++
					total++
				}
				got, err := PeelOnion(s, packet[:], assoc)
				if err != nil {
					t.Fatal(err)
				}
				if got.IsFinal {
					plain := make([]byte, hopsSize)
					keyStream(newLayerKeys(got.SharedSecret).stream).XORKeyStream(plain, packet[hopsAt:hopsAt+hopsSize])
					_, _, size, err := unframe(plain)
					if err != nil {
						t.Fatal(err)
					}
					for _, b := range plain[size:] {
						inside[b]++
						totalInside++
					}
				}
				packet = got.Next
			}
		}
		for name, c := range map[string]struct {
			counts [256]int
			total  int
		}{"packets": {counts, total}, "padding": {inside, totalInside}} {
			chi, mean := 0.0, float64(c.total)/256
			for _, k := range c.counts {
				chi += (float64(k) - mean) * (float64(k) - mean) / mean
			}
			if chi < 160 || chi > 370 { // 255 degrees of freedom: 255 +- 5 deviations of 22.6
				t.Errorf("%s of routes of %d hops: chi squared %.0f over %d bytes", name, n, chi, c.total)
			}
		}
	}
}

func TestOnionRefusals(t *testing.T) {
	secrets, hops := onionRoute(3, invoice)
	packet := mustOnion(t, hops).Packet
	withPoint := func(p string) []byte {
		b, err := hex.DecodeString(p)
		if err != nil || len(b) != 32 {
			t.Fatal(p, err)
		}
		return append(append([]byte{onionVersion}, b...), packet[hopsAt:]...)
	}
	other := types.SHA256([]byte("another payment"))
	for _, c := range []struct {
		name   string
		packet []byte
		assoc  []byte
		want   Code
	}{
		{"BOLT 4's version", append([]byte{0}, packet[1:]...), assoc, InvalidOnionVersion},
		{"neutral element", withPoint(strings.Repeat("00", 32)), assoc, InvalidOnionKey},
		{"neutral element, not canonical", withPoint("ed" + strings.Repeat("ff", 30) + "7f"), assoc, InvalidOnionKey},
		{"field element too large", withPoint(strings.Repeat("ff", 32)), assoc, InvalidOnionKey},
		{"negative field element", withPoint("01" + strings.Repeat("00", 31)), assoc, InvalidOnionKey},
		{"not on the curve", withPoint("26948d35ca62e643e26a83177332e6b6afeb9d08e4268b650f1f5bbd8d81d371"), assoc, InvalidOnionKey}, // RFC 9496, A.2
		{"base point", withPoint("e2f2ae0a6abc4e71a884a961c500515f58e30b6aa582dd8db6a65945e08d2d76"), assoc, InvalidOnionHMAC},
		{"another lock", packet[:], other[:], InvalidOnionHMAC},
		{"no lock", packet[:], nil, InvalidOnionHMAC},
		{"short", packet[:wire.OnionSize-1], assoc, InvalidOnionVersion},
		{"empty", nil, assoc, InvalidOnionVersion},
		{"long", append(bytes.Clone(packet[:]), 0), assoc, InvalidOnionVersion},
	} {
		var e *OnionError
		if _, err := PeelOnion(secrets[0], c.packet, c.assoc); !errors.As(err, &e) || e.Code != c.want || len(MalformedReason(e)) != 2 {
			t.Errorf("%s: %v, want %s and a plain reason", c.name, err, c.want)
		}
	}
	long := append([]OnionHop{}, hops...)
	for len(long) <= MaxHops {
		long = append([]OnionHop{hops[0]}, long...)
	}
	early := []OnionHop{hops[2], hops[2]}
	for name, h := range map[string][]OnionHop{"none": nil, "too long": long, "final before the end": early, "no final": hops[:2],
		"no key": {{types.OnionKey{}, invoice}}, "no curve point": {{types.OnionKey{1}, invoice}}} {
		if _, err := BuildOnion(h, session, assoc); err == nil {
			t.Errorf("%s: built", name)
		}
	}
	if _, err := BuildOnion(hops, [32]byte{}, assoc); err == nil {
		t.Error("built without randomness")
	}
}

// authentic makes a packet for one node whose layer holds these bytes, whatever they are.
func authentic(s *OnionSecret, content []byte) [wire.OnionSize]byte {
	point := onionSecret(99)
	key, err := decodePoint(s.Key())
	if err != nil {
		panic(err)
	}
	l := layer{secret: sharedSecret(tagOnionSecret, &point.scalar, key), frame: content[:min(len(content), hopsSize-macSize)], stream: make([]byte, hopsSize)}
	l.keys = newLayerKeys(l.secret)
	keyStream(l.keys.stream).XORKeyStream(l.stream, l.stream)
	packet := [wire.OnionSize]byte{onionVersion}
	first := point.Key()
	copy(packet[1:], first[:])
	wrap(&packet, []layer{l}, [32]byte{1}, assoc)
	return packet
}

// A packet that is authentic but says nonsense is refused in secret.
func TestOnionNonsense(t *testing.T) {
	forward := Payload{Kind: Forward, Amount: 1, Next: ShortID{1}}
	plain, err := forward.Encode()
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{
		"empty": {0}, "length beyond the layer": {0xfd, 0xff, 0xff}, "huge length": append([]byte{0xff}, bytes.Repeat([]byte{0xff}, 8)...),
		"long form of a short length": append([]byte{0xfd, 0, byte(len(plain))}, plain...), "a forward at the end": frame(plain), "no payload": frame([]byte("hello")),
	} {
		packet := authentic(onionSecret(0), content)
		var e *OnionError
		if _, err := PeelOnion(onionSecret(0), packet[:], assoc); !errors.As(err, &e) || e.Code != InvalidOnionPayload || len(MalformedReason(e)) != FailureSize {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The longest memo fits each route length with the largest amounts, and what does not fit is refused.
func TestMemoRoom(t *testing.T) {
	for n := 1; n <= MaxHops; n++ {
		room := MemoRoom(n)
		final := Payload{Kind: Escrow, Amount: types.MaxAmount, Total: types.MaxAmount, Expiry: 1<<32 - 1, Memo: strings.Repeat("x", room)}
		_, hops := onionRoute(n, final)
		for i := range hops[:n-1] {
			p := &hops[i].Payload
			p.Amount, p.Reserve, p.Expiry = types.MaxAmount, types.MaxAmount, 1<<32-1
		}
		mustOnion(t, hops)
		hops[n-1].Payload.Memo = strings.Repeat("x", min(room+7, MaxMemo+1))
		if _, err := BuildOnion(hops, session, assoc); err == nil {
			t.Errorf("%d hops, memo of %d: built", n, len(hops[n-1].Payload.Memo))
		}
	}
	if MemoRoom(MaxHops) < 16 {
		t.Errorf("a route of %d hops leaves %d bytes for a memo", MaxHops, MemoRoom(MaxHops))
	}
}

func FuzzPeelOnion(f *testing.F) {
	_, hops := onionRoute(3, invoice)
	packet := mustOnion(f, hops).Packet
	f.Add(packet[:])
	f.Add(packet[:40])
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := PeelOnion(onionSecret(0), b, assoc)
		var e *OnionError
		if err != nil && !errors.As(err, &e) {
			t.Fatalf("error %T", err)
		}
		if err == nil && got.Payload.Check() != nil {
			t.Fatalf("accepted %+v", got.Payload)
		}
	})
}

// FuzzPeelLayer is what a payer can do: any content in a packet that is authentic.
func FuzzPeelLayer(f *testing.F) {
	p := invoice
	b, _ := p.Encode()
	f.Add(append(frame(b), make([]byte, macSize)...))
	q := Payload{Kind: Forward, Amount: 1, Next: ShortID{1}, Reserve: 3}
	b, _ = q.Encode()
	f.Add(append(frame(b), bytes.Repeat([]byte{1}, macSize)...))
	f.Fuzz(func(t *testing.T, content []byte) {
		packet := authentic(onionSecret(0), content)
		got, err := PeelOnion(onionSecret(0), packet[:], assoc)
		var e *OnionError
		if err != nil && (!errors.As(err, &e) || len(MalformedReason(e)) != FailureSize) {
			t.Fatalf("error %v", err)
		}
		if err == nil && got.Payload.Check() != nil {
			t.Fatalf("accepted %+v", got.Payload)
		}
	})
}

func BenchmarkBuildOnion(b *testing.B) {
	for _, n := range []int{2, 5, 20} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			_, hops := onionRoute(n, invoice)
			for b.Loop() {
				mustOnion(b, hops)
			}
		})
	}
}

func BenchmarkPeelOnion(b *testing.B) {
	secrets, hops := onionRoute(2, invoice)
	packet := mustOnion(b, hops).Packet
	for i, name := range []string{"forward", "final"} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := PeelOnion(secrets[i], packet[:], assoc); err != nil {
					b.Fatal(err)
				}
			}
		})
		if got, err := PeelOnion(secrets[i], packet[:], assoc); err == nil {
			packet = got.Next
		}
	}
}

var _ = [1]struct{}{}[wire.OnionSize-1366] // the packet is as large as BOLT 4's
