package chand

import (
	"testing"

	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/wire"
)

// miser is a transport that lets no hand-over of the turn out.
type miser struct{ Transport }

func (m miser) Send(peer types.NodeID, frame []byte) error {
	msg, err := wire.Decode(frame)
	if err != nil {
		return err
	}
	if _, ok := msg.(*wire.Yield); ok {
		return nil
	}
	return m.Transport.Send(peer, frame)
}

// TestTurnWithheld: a peer that never hands over the turn can't keep our money. It stays connected and answers everything else.
func TestTurnWithheld(t *testing.T) {
	inWorld(t, []string{"alice", "bob"}, func(w *world) {
		alice, bob := w.nodes["alice"], w.nodes["bob"]
		alice.stop()
		alice.wrap = func(d *Deps) { d.Transport = miser{d.Transport} }
		alice.start()
		id := w.open("alice", "bob", 100*types.Coin, 50*types.Coin) // the opener has the turn
		before := bob.balance()
		ctx, cancel := w.timeout()
		defer cancel()
		p, err := bob.Pay(ctx, PayRequest{Invoice: alice.invoice(types.Coin)})
		if err == nil && p.State == PaymentSucceeded {
			t.Fatal("bob paid without the turn: the test does not test")
		}
		w.until("bob's channel is closed", func() bool { return bob.over(id) })
		if got := bob.balance() - before; got < 50*types.Coin-types.Coin/100 || got > 50*types.Coin {
			t.Errorf("bob got %s back, want 50 less fees", got)
		}
		c, err := bob.Channel(id)
		if err != nil || c.Fault == "" {
			t.Errorf("the channel does not say why it was closed: %+v, %v", c, err)
		}
	})
}
