package chand

import (
	"testing"
	"testing/synctest"

	"github.com/eschaton-network/chand/types"
)

// TestGapHidesTheAccount: a daemon whose account was opened in a block that is not kept finds it in the ledger's state.
func TestGapHidesTheAccount(t *testing.T) {
	inWorld(t, []string{"alice", "bob"}, func(w *world) {
		alice := w.nodes["alice"]
		id := alice.Account()
		alice.stop()
		if err := alice.store.Commit(w.ctx, del(bucketMeta, metaAccount), del(bucketMeta, metaWatched)); err != nil {
			t.Fatal(err)
		}
		alice.cfg.Account = types.AccountID{} // nor does the node tell it at the start
		w.blocks(3)
		w.chain.Forget(w.chain.Height() - 1)
		alice.start()
		w.until("alice's account", func() bool { return alice.Account() == id })
	})
}

// TestGap: a daemon comes back when the blocks that it missed are no longer kept. A transaction of its own was executed in
// them and is not sent twice; a channel that was closed in them is over.
func TestGap(t *testing.T) {
	inWorld(t, []string{"alice", "bob"}, func(w *world) {
		alice, bob := w.nodes["alice"], w.nodes["bob"]
		id := w.open("alice", "bob", 100*types.Coin, 50*types.Coin)
		alice.pay(bob.invoice(10*types.Coin), PaymentSucceeded)
		other := w.open("alice", "bob", 20*types.Coin, 20*types.Coin) // stays open
		before := alice.balance()

		alice.view.Delay(3) // it is on its way when she dies
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			ctx, cancel := w.timeout()
			defer cancel()
			alice.Send(ctx, bob.Account(), 7*types.Coin, types.Hash{}, "rent")
		}()
		synctest.Wait()
		alice.crash()
		<-sent
		alice.view.Delay(0)
		w.blocks(5)
		if _, err := bob.Close(w.ctx, id, true); err != nil {
			t.Fatal(err)
		}
		w.until("bob's channel over", func() bool { return bob.over(id) })
		paid := bob.balance()
		w.chain.Forget(w.chain.Height() - 1)
		alice.start()
		w.until("alice's channel over", func() bool { return alice.over(id) })
		w.blocks(5)
		tx, err := alice.Send(w.ctx, bob.Account(), 7*types.Coin, types.Hash{}, "rent")
		if err != nil || tx.State != TxUnknown || tx.Text != lostResult {
			t.Errorf("the send whose result was missed: %+v, %v", tx, err)
		}
		w.blocks(5)
		if got := bob.balance(); got != paid {
			t.Errorf("bob holds %s, before alice came back %s", got, paid)
		}
		// What she had, less what she sent, and her part of the channel; fees are far less than a coin.
		if got, want := alice.balance(), before+83*types.Coin; got > want || got < want-types.Coin {
			t.Errorf("alice holds %s, want about %s", got, want)
		}
		// She goes on as before.
		if tx, err := alice.Send(w.ctx, bob.Account(), types.Coin, types.Hash{}, "more"); err != nil || tx.State != TxConfirmed {
			t.Errorf("%+v, %v", tx, err)
		}
		w.until("the other channel usable", func() bool { return alice.ready(other) && bob.ready(other) })
		alice.pay(bob.invoice(types.Coin), PaymentSucceeded)
	})
}
