package route

import (
	"bytes"
	"errors"
	"testing"

	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/wire"
)

func TestAnnouncement(t *testing.T) {
	a, c := signed(1, 1, 2, 1000)
	if err := VerifyAnnouncement(&a, contracts(c)); err != nil {
		t.Fatal(err)
	}
	swapped := c
	swapped.CloseKeys[0], swapped.CloseKeys[1] = c.CloseKeys[1], c.CloseKeys[0]
	if err := VerifyAnnouncement(&a, contracts(swapped)); err != nil {
		t.Errorf("order of the contract's keys must not matter: %v", err)
	}
	for _, tc := range []struct {
		name   string
		change func(*Announcement, *ledger.Contract)
		want   error
	}{
		{"no contract", func(_ *Announcement, c *ledger.Contract) { c.ID = types.Hash{1} }, ErrUnknown},
		{"posted", func(_ *Announcement, c *ledger.Contract) { c.Posted = &ledger.ContractPosted{} }, ErrStale},
		{"settled", func(_ *Announcement, c *ledger.Contract) { c.Settled = &ledger.ContractSettled{} }, ErrStale},
		{"capacity", func(a *Announcement, _ *ledger.Contract) { a.Capacity++ }, ErrInvalid},
		{"window", func(a *Announcement, _ *ledger.Contract) { a.Timing.Window++ }, ErrInvalid},
		{"timing is signed", func(a *Announcement, _ *ledger.Contract) { a.Timing.Inclusion-- }, ErrInvalid},
		{"somebody else's contract", func(_ *Announcement, c *ledger.Contract) { c.CloseKeys[0] = types.PubKey{2, 9} }, ErrInvalid},
		{"node order", func(a *Announcement, _ *ledger.Contract) { a.Nodes[0], a.Nodes[1] = a.Nodes[1], a.Nodes[0] }, ErrInvalid},
		{"same close key", func(a *Announcement, _ *ledger.Contract) { a.CloseKeys[1] = a.CloseKeys[0] }, ErrInvalid},
		{"another node", func(a *Announcement, _ *ledger.Contract) { a.Nodes[1] = types.NodeID{0xff} }, ErrInvalid},
		{"node signature 0", func(a *Announcement, _ *ledger.Contract) { a.NodeSigs[0][40] ^= 1 }, ErrInvalid},
		{"node signature 1", func(a *Announcement, _ *ledger.Contract) { a.NodeSigs[1] = a.CloseSigs[1] }, ErrInvalid},
		{"close signature 0", func(a *Announcement, _ *ledger.Contract) { a.CloseSigs[0] = wire.Sig{} }, ErrInvalid},
		{"close signature 1", func(a *Announcement, _ *ledger.Contract) { a.CloseSigs[1] = a.CloseSigs[0] }, ErrInvalid},
		{"high s", func(a *Announcement, _ *ledger.Contract) { a.NodeSigs[0] = negateS(a.NodeSigs[0]) }, ErrInvalid},
	} {
		bad, contract := a, c
		tc.change(&bad, &contract)
		if err := VerifyAnnouncement(&bad, contracts(contract)); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", tc.name, err, tc.want)
		}
	}
	if err := a.SetSigs(testNode(3), wire.AnnounceSigs{ID: a.Channel}); !errors.Is(err, ErrInvalid) {
		t.Errorf("a stranger's signatures: %v", err)
	}
}

// negateS gives the other valid form of a signature, which would let anybody change a message's bytes.
func negateS(sig wire.Sig) wire.Sig {
	n := []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe,
		0xba, 0xae, 0xdc, 0xe6, 0xaf, 0x48, 0xa0, 0x3b, 0xbf, 0xd2, 0x5e, 0x8c, 0xd0, 0x36, 0x41, 0x41}
	borrow := 0
	for i := 31; i >= 0; i-- {
		d := int(n[i]) - int(sig[32+i]) - borrow
		borrow = 0
		if d < 0 {
			d, borrow = d+256, 1
		}
		sig[32+i] = byte(d)
	}
	return sig
}

func TestPolicy(t *testing.T) {
	a, _ := signed(1, 1, 2, 100_000)
	p := signedPolicy(&a, 1, 1, 10)
	if err := VerifyPolicy(&p, &a); err != nil {
		t.Fatal(err)
	}
	if f, err := p.Fee(50_000); err != nil || f != 150 {
		t.Errorf("fee %d, %v", f, err)
	}
	for name, change := range map[string]func(*Policy){
		"seq": func(p *Policy) { p.Seq++ }, "height": func(p *Policy) { p.Height++ }, "base": func(p *Policy) { p.Base++ }, "rate": func(p *Policy) { p.Millionths++ },
		"delta": func(p *Policy) { p.Delta++ }, "min": func(p *Policy) { p.Min++ }, "max": func(p *Policy) { p.Max-- }, "disabled": func(p *Policy) { p.Disabled = true },
		"channel": func(p *Policy) { p.Channel[0]++ }, "the other side's": func(p *Policy) { p.Direction ^= 1 }, "direction": func(p *Policy) { p.Direction = 2 },
		"more than all": func(p *Policy) { p.Millionths = 1_000_001 }, "negative": func(p *Policy) { p.Base = -1 }, "for ever": func(p *Policy) { p.Delta = MaxDelta + 1 },
		"max above capacity": func(p *Policy) { p.Max = a.Capacity + 1; p.Sign(testKey("node", 1)) }, "reserve": func(p *Policy) { p.Reserve++ }, "onion key": func(p *Policy) { p.OnionKey[31]++ }, "reserve above all": func(p *Policy) { p.Reserve = MaxReserve + 1 },
		"empty range": func(p *Policy) { p.Min, p.Max = 5, 4; p.Sign(testKey("node", 1)) },
	} {
		bad := p
		change(&bad)
		if err := VerifyPolicy(&bad, &a); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The reservation fee by hand: rounded up, at least for a place among 483, and never less for more or for longer.
func TestAsk(t *testing.T) {
	p := Policy{Reserve: 30, Max: 483 * types.Coin}
	for _, c := range []struct {
		amount types.Amount
		blocks uint32
		want   types.Amount
	}{
		{100 * types.Coin, 10_000, 30_000}, // 100 coins x 30/10^12 x 10,000
		{100 * types.Coin, 1, 3},
		{100*types.Coin + 1, 10_000, 30_001}, // up
		{1, 10_000, 300},                     // one coin's worth: a place
		{types.Coin, 10_000, 300},
		{100 * types.Coin, 0, 0},
	} {
		if got := p.Ask(c.amount, c.blocks); got != c.want {
			t.Errorf("%s for %d blocks: %d, want %d", c.amount, c.blocks, got, c.want)
		}
	}
	p.Reserve = 0
	if p.Ask(types.MaxAmount, 1<<31) != 0 {
		t.Error("nothing asked, something wanted")
	}
	p.Reserve = MaxReserve
	if p.Ask(types.MaxAmount, 1<<31) != types.MaxAmount {
		t.Error("an overflow is not more than every budget")
	}
}

// What is signed must not change: other daemons verify it.
func TestDigestVectors(t *testing.T) {
	a, _ := signed(1, 1, 2, 100_000)
	if got := a.Digest().String(); got != "7fc74318858876bacffda7a0ed711c64d849b6ed6fffa929e7fb4a3652fc0e8b" {
		t.Errorf("announcement digest %s", got)
	}
	p := signedPolicy(&a, 1, 7, 10)
	if got := p.digest().String(); got != "c3e2663855bd65d81b7922f09f988bd7bcbd5466251d678b7ce90b2513acaf40" {
		t.Errorf("policy digest %s", got)
	}
}

func TestGossipForms(t *testing.T) {
	a, _ := signed(1, 1, 2, 100_000)
	b, _ := signed(2, 1, 2, 100_000)
	var policies [2]Policy
	for _, i := range []int{1, 2} {
		p := signedPolicy(&a, i, 1, 10)
		policies[p.Direction] = p
	}
	for _, m := range []Gossip{{Announcement: &a}, {Policies: policies[:1]}, {Policies: policies[1:]}, {Announcement: &a, Policies: policies[:]}} {
		data := m.Encode()
		got, err := DecodeGossip(data)
		if err != nil || !bytes.Equal(got.Encode(), data) || got.Channel() != a.Channel {
			t.Fatalf("%+v: %v", got, err)
		}
		if len(data) > MaxGossipSize || len(data) > wire.MaxGossip {
			t.Errorf("%d bytes", len(data))
		}
		for cut := range data {
			if _, err := DecodeGossip(data[:cut]); !errors.Is(err, ErrInvalid) {
				t.Fatalf("cut at %d: %v", cut, err)
			}
		}
		if _, err := DecodeGossip(append(data, 0)); !errors.Is(err, ErrInvalid) {
			t.Error("a byte too many was taken")
		}
	}
	foreign := Gossip{Announcement: &b, Policies: policies[:1]}
	twice := Gossip{Policies: []Policy{policies[0], policies[0]}}
	swapped := Gossip{Policies: []Policy{policies[1], policies[0]}}
	for name, m := range map[string]Gossip{"two channels": foreign, "same direction twice": twice, "wrong order": swapped, "nothing": {}} {
		if _, err := DecodeGossip(m.Encode()); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	flag := (&Gossip{Policies: policies[:1]}).Encode()
	flag[2+policyBody-37] = 2
	if _, err := DecodeGossip(flag); !errors.Is(err, ErrInvalid) {
		t.Error("a flag of 2 was taken")
	}
}

func FuzzDecodeGossip(f *testing.F) {
	a, _ := signed(1, 1, 2, 100_000)
	f.Add((&Gossip{Announcement: &a}).Encode())
	f.Add((&Gossip{Announcement: &a, Policies: []Policy{signedPolicy(&a, 1, 1, 10)}}).Encode())
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := DecodeGossip(data)
		if err != nil {
			if Verdict(err) != types.Reject {
				t.Fatalf("verdict %v for %v", Verdict(err), err)
			}
			return
		}
		if again := m.Encode(); !bytes.Equal(again, data) {
			t.Fatalf("%x decodes to %+v, which encodes to %x", data, m, again)
		}
	})
}
