package itest

import (
	"context"
	"fmt"
	"strings"

	"github.com/eschaton-network/chand/chand"
	"github.com/eschaton-network/chand/itest/mallory"
	chandv1 "github.com/eschaton-network/chand/rpc/gen/chand/v1"
	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/wire"
)

// vanishers fall silent in every state of an opening, after a message of theirs or before the first. Bob's ten coins are free
// again, or in a contract that he can close alone.
func vanishers(run cast) {
	for _, v := range []struct {
		name    string
		opener  bool   // Mallory proposes
		last    uint16 // her last message
		submits bool   // she, who has both signatures then, submits the contract all the same
	}{
		{"vanishes after her proposal", true, wire.TypeOpen, false},
		{"vanishes before she consents", true, wire.TypeOpenRefund, false},
		{"vanishes before she consents, and submits", true, wire.TypeOpenRefund, true},
		{"vanishes before she submits", true, wire.TypeOpenFund, false},
		{"vanishes before she answers", false, 0, false},
		{"vanishes after she agreed", false, wire.TypeAccept, false},
		{"vanishes after she agreed, and submits", false, wire.TypeAccept, true},
	} {
		run(v.name, func(s *scene) {
			for try := 0; !s.vanishes(fmt.Sprint("mallory ", try), v.opener, v.last, v.submits); try++ {
			}
		})
	}
}

// vanishes plays one of these. false: one of the two had seen no block for two seconds, and nothing was begun.
func (s *scene) vanishes(name string, opener bool, last uint16, submits bool) bool {
	s.t.Helper()
	m := s.mallory(name)
	m.Chain.Mute(mallory.Everything)
	if submits {
		m.Chain.Mute(mallory.Spends)
	}
	out, in := vanish(last)
	m.Link.Out(out)
	m.Link.In(in)
	ctx, cancel := context.WithCancel(s.ctx())
	defer cancel()
	peer := s.meet(m, s.bob)
	self := m.ID().String()
	s.fresh()
	s.until("an opening is under way", func() bool {
		if opener {
			s.aside(func() {
				_, _ = m.Open(ctx, chand.OpenRequest{Peer: peer, Mine: 20 * types.Coin, Theirs: 10 * types.Coin, Key: "one"})
			})
		} else {
			s.aside(func() {
				_, _ = s.bob.Channels.Open(ctx, &chandv1.OpenChannelRequest{Peer: self, Mine: "10", Theirs: "20", IdempotencyKey: "with " + self})
			})
		}
		return s.with(self) != nil
	})
	s.until("the opening ended", func() bool { st := s.with(self).State; return st == "abandoned" || st == "open" })
	ch := s.with(self)
	s.t.Logf("bob's channel is %s: %s", ch.State, ch.StateText)
	if strings.Contains(ch.StateText, chand.NotFresh) {
		return false
	}
	if want := submits || last == wire.TypeOpenFund; want != (ch.State == "open") {
		s.t.Errorf("the channel is %s", ch.State)
	}
	id := must(types.ParseHash(ch.Id))
	if ch.State == "abandoned" {
		if _, err := s.follower.Contract(id); err == nil {
			s.t.Error("bob has abandoned a contract that is on the ledger")
		}
		return true
	}
	s.force(s.bob, id)
	s.closed(s.bob, m, id, 10*types.Coin)
	return true
}

// vanish are rules of one who says and hears nothing about channels after her message of that type.
func vanish(last uint16) (out, in mallory.Rule) {
	gone := last == 0
	out = func(m wire.Message) []wire.Message {
		if _, ok := m.(wire.ChannelMessage); ok && gone {
			return nil
		}
		gone = gone || m.MessageType() == last
		return []wire.Message{m}
	}
	in = func(m wire.Message) []wire.Message {
		if _, ok := m.(wire.ChannelMessage); ok && gone && m.MessageType() != wire.TypeOpenRefund && m.MessageType() != wire.TypeOpenFund { // these she wants
			return nil
		}
		return []wire.Message{m}
	}
	return out, in
}

// with is bob's channel with a peer.
func (s *scene) with(peer string) *chandv1.Channel {
	list := must(s.bob.Channels.List(s.ctx(), &chandv1.ListChannelsRequest{IncludeClosed: true}))
	for _, c := range list.Channels {
		if c.Peer == peer {
			return c
		}
	}
	return nil
}
