package itest

import (
	"testing"
	"time"

	"github.com/eschaton-network/chand/itest/mallory"
	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/wire"
)

// TestAdversary plays what a peer may try against daemons that are processes of their own, all scenes at once. In each the honest
// side must end with at least what it had signed for, to the unit.
func TestAdversary(t *testing.T) {
	s := newStage(t)
	s.together(t, func(run cast) {
		oldVersions(run)
		withholders(run)
		noise(run)
		run("forges", forgeries)
		vanishers(run)
		run("forwards on bad terms", badPayer)
		run("passes on less than was sent", badHop)
		preimages(run)
		run("floods with locks", jammers)
	})
	// After all that bob is an honest daemon's good peer.
	s.pay(s.carol, s.bob, "3")
	s.pay(s.bob, s.carol, "2")
}

// oldVersions are published while bob looks on. Mallory's own daemon is kept from answering.
func oldVersions(run cast) {
	run("old version", func(s *scene) {
		m := s.mallory("mallory")
		id := s.opens(m, s.bob, 50*types.Coin, 10*types.Coin)
		s.pays(m, s.bob, 20*types.Coin)
		s.paid(s.bob, m, 5*types.Coin)
		s.pays(m, s.bob, 10*types.Coin)
		due := s.mine(s.bob, id)
		m.Chain.Mute(mallory.Spends)
		for _, v := range m.HeldVersions(id) {
			s.t.Logf("she publishes version %d, which pays bob %s", v.Held.Number, v.Held.Balance[1])
			if err := m.Publish(s.ctx(), v); err != nil { // bob may have been faster
				s.t.Log("refused: ", err)
			}
		}
		s.closed(s.bob, m, id, due)
	})
}

// withholders leave out a message that bob waits for.
func withholders(run cast) {
	run("withholds acknowledgements and receipts", func(s *scene) {
		m := s.mallory("mallory")
		id := s.opens(m, s.bob, 50*types.Coin, 30*types.Coin)
		m.Link.Out(mallory.Drop(wire.TypeAck, wire.TypeReceipt))
		for range 3 {
			s.asks(s.bob, m, types.Coin)
		}
		s.until("bob has signed", func() bool { return s.mine(s.bob, id) == 27*types.Coin })
		s.force(s.bob, id)
		s.closed(s.bob, m, id, 27*types.Coin)
	})
	run("withholds the turn", func(s *scene) {
		m := s.mallory("mallory")
		id := s.opens(m, s.bob, 50*types.Coin, 30*types.Coin)
		m.Link.Out(mallory.Drop(wire.TypeYield))
		m.Link.Out(func(msg wire.Message) []wire.Message {
			if u, ok := msg.(*wire.Update); ok && u.Yield {
				return nil
			}
			return []wire.Message{msg}
		})
		s.asks(s.bob, m, types.Coin)
		s.closed(s.bob, m, id, 30*types.Coin) // by itself, after a dispute window without an answer
	})
	run("withholds the countersignature", func(s *scene) {
		for _, after := range []string{"silence", "an old version"} {
			m := s.mallory("mallory of " + after)
			id := s.opens(m, s.bob, 50*types.Coin, 10*types.Coin)
			s.pays(m, s.bob, 20*types.Coin)
			s.paid(s.bob, m, types.Coin) // bob may have the turn and sign first
			m.Link.Out(mallory.Drop(wire.TypeCloseSign))
			m.Chain.Mute(mallory.Spends)
			_, err := closeChannel(s, id, false)
			s.must(err)
			if after == "silence" {
				s.until("bob wants to close", func() bool { return s.channel(s.bob, id).State == "closing" })
				s.force(s.bob, id)
			} else {
				s.must(m.Publish(s.ctx(), m.HeldVersions(id)[0]))
			}
			s.closed(s.bob, m, id, 29*types.Coin)
		}
	})
}

// noise says everything more than once, or in another order. Nothing is lost by it, the channel goes on.
func noise(run cast) {
	rules := map[string]func() mallory.Rule{
		"says everything twice": func() mallory.Rule { return mallory.Twice },
		"replays":               mallory.Replay,
		"reorders":              func() mallory.Rule { return mallory.Swap(5) },
	}
	for name, rule := range rules {
		run(name, func(s *scene) {
			m := s.mallory("mallory")
			id := s.opens(m, s.bob, 50*types.Coin, 50*types.Coin)
			m.Link.Out(rule())
			const each = 6
			for range each {
				s.asks(s.bob, m, types.Coin)
				s.offers(m, s.bob, 2*types.Coin)
			}
			nudge := time.NewTicker(time.Second)
			defer nudge.Stop()
			s.until("all is paid both ways", func() bool {
				select {
				case <-nudge.C: // what a rule holds back goes with the next message
					_ = m.Link.Send(m.State(id).Peer, wire.Encode(&wire.TurnRequest{ID: id}))
				default:
				}
				return s.mine(s.bob, id) == 56*types.Coin && s.channel(s.bob, id).Locks == 0
			})
			m.Link.Behave()
			if c := s.channel(s.bob, id); c.State != "open" {
				s.t.Fatalf("the channel is %s: %s", c.State, c.StateText)
			}
			_, err := closeChannel(s, id, false)
			s.must(err)
			if got := s.closed(s.bob, m, id, 56*types.Coin); got != 56*types.Coin {
				s.t.Errorf("bob got %s, want 56", got)
			}
		})
	}
}
