package channel_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/eschaton-network/chand/channel"
	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/wire"
)

// richState is an open channel with locks of both sides and updates in flight, and what was said on its way.
func richPair(t tb) (a, b *party) {
	w := newWorld(t)
	a, b = w.party("alice", 1000*types.Coin), w.party("bob", 1000*types.Coin)
	ready(a, b, 600*types.Coin, 400*types.Coin, wire.Rules{Dust: 10})
	lock := func(p *party, name string) wire.Op {
		return wire.AddLock{Amount: types.Coin, Hash: preimage(name).Hash(), Expiry: p.height + 60}
	}
	for _, err := range []error{
		a.step(channel.ProposeAndYield{Ops: []wire.Op{lock(a, "x"), lock(a, "y"), wire.Pay{Amount: types.Coin}}}), deliver(a, b),
		b.step(channel.ProposeAndYield{Ops: []wire.Op{lock(b, "z")}}), b.step(channel.Reveal{Preimages: []types.Preimage{preimage("x")}}), deliver(a, b),
		a.step(channel.Propose{Ops: []wire.Op{lock(a, "v"), wire.GiveBack{ID: 1}, lock(a, "w"), wire.Settle{ID: 4, Preimage: preimage("w")}}}),
	} {
		if err != nil {
			t.Fatalf("rich pair: %v", err)
		}
	}
	return a, b
}

func deliver(p ...*party) error { deliverAll(p...); return nil }

// FuzzState: what is decoded passes Check and encodes to the same bytes.
func FuzzState(f *testing.F) {
	a, b := richPair(f)
	for _, p := range []*party{a, b} {
		f.Add(p.s.Encode())
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		s, err := channel.Decode(raw)
		if err != nil {
			if !errors.Is(err, channel.ErrState) {
				t.Fatal(err)
			}
			return
		}
		if !bytes.Equal(s.Encode(), raw) {
			t.Fatal("not canonical")
		}
	})
}

// FuzzStep feeds arbitrary frames to both sides of a channel: never a panic, never a state that fails Check, never a
// version held that is worse than before, and nothing signed that takes from this side.
func FuzzStep(f *testing.F) {
	a, b := richPair(f)
	for _, frame := range b.inbox {
		f.Add(frame, true)
	}
	for _, m := range messagesFor(a.s.ID) {
		f.Add(wire.Encode(m), true)
		f.Add(wire.Encode(m), false)
	}
	f.Fuzz(func(t *testing.T, frame []byte, toBob bool) {
		p := a
		if toBob {
			p = b
		}
		msg, err := wire.Decode(frame)
		if err != nil {
			return
		}
		m := msg.(wire.ChannelMessage)
		for _, link := range []channel.Link{channel.LinkIsReady, channel.LinkWaits, channel.LinkIsDown} {
			s := p.s
			s.Link = link
			stepOnce(t, s, m, p.env())
		}
	})
}

func stepOnce(t *testing.T, s channel.State, m wire.ChannelMessage, env channel.Env) {
	next, fx, err := channel.Step(s, channel.Message{Msg: m}, env)
	if err != nil {
		return
	}
	if err := next.Check(); err != nil {
		t.Fatalf("%T: %v", m, err)
	}
	if next.Held.Epoch < s.Held.Epoch || next.Held.Epoch == s.Held.Epoch && next.Held.Number < s.Held.Number {
		t.Fatalf("%T: holds version %d after %d", m, next.Held.Number, s.Held.Number)
	}
	if next.Mine() < s.Mine() {
		t.Fatalf("%T: a message took %s", m, s.Mine()-next.Mine())
	}
	for _, out := range fx.Send {
		if u, ok := out.(*wire.Update); ok {
			t.Fatalf("%T made this side sign version %d", m, u.Version)
		}
	}
}

func messagesFor(id types.ChannelID) []wire.Message {
	return []wire.Message{
		&wire.Update{ID: id, Version: 5, Ops: []wire.Op{wire.Pay{Amount: 1}}}, &wire.Ack{ID: id, Version: 4}, &wire.TurnRequest{ID: id},
		&wire.Yield{ID: id, Version: 4, Turn: 3}, &wire.Reveal{ID: id, Preimages: []types.Preimage{preimage("y"), preimage("z")}},
		&wire.Receipt{ID: id, Preimages: []types.Preimage{preimage("y")}}, &wire.Reestablish{ID: id, Version: 3, Epoch: 30_000_000, Turn: 2},
		&wire.Resync{ID: id, State: wire.VersionState{Epoch: 30_000_010, Version: 4}}, &wire.Agree{ID: id, Epoch: 30_000_010},
		&wire.CloseRequest{ID: id}, &wire.CloseSign{ID: id, Version: 3}, &wire.Fault{ID: id, Text: "x"}, &wire.AnnounceSigs{ID: id},
		&wire.Open{Temp: id}, &wire.Accept{Temp: id}, &wire.Refuse{ID: id}, &wire.OpenRefund{ID: id}, &wire.OpenFund{ID: id},
	}
}

// TestCorpus keeps the committed corpus in step with the formats (-rewrite writes it).
func TestCorpus(t *testing.T) {
	a, b := richPair(t)
	files := map[string]string{}
	for _, p := range []*party{a, b} {
		files["FuzzState/"+p.name] = fmt.Sprintf("go test fuzz v1\n[]byte(%q)\n", p.s.Encode())
	}
	for _, m := range messagesFor(a.s.ID) {
		files["FuzzStep/"+strings.TrimPrefix(fmt.Sprintf("%T", m), "*wire.")] = fmt.Sprintf("go test fuzz v1\n[]byte(%q)\nbool(true)\n", wire.Encode(m))
	}
	for name, want := range files {
		path := filepath.Join("testdata/fuzz", name)
		if *rewrite {
			if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(want), 0o644)); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != want {
			t.Errorf("%s is stale (%v): run with -rewrite and review", name, err)
		}
	}
}
