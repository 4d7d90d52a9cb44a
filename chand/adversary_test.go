package chand

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eschaton-network/chand/channel"
	"github.com/eschaton-network/chand/htlc"
	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/wire"
)

// Tests of a peer that breaks the rules in ways that package channel can't see. Mallory is a daemon whose link also carries frames
// that no honest daemon sends.

// say sends a message over a node's link as if its daemon had.
func (n *node) say(to *node, m wire.Message) {
	n.w.t.Helper()
	if err := n.pipe.Send(to.ID(), wire.Encode(m)); err != nil {
		n.w.t.Fatal(err)
	}
}

// A payment that nobody asked for goes back once, also when the payee restarts afterwards.
func TestRefundIsPaidOnce(t *testing.T) {
	inWorld(t, []string{"mallory", "bob"}, func(w *world) {
		mallory, bob := w.nodes["mallory"], w.nodes["bob"]
		id := w.open("mallory", "bob", 100*types.Coin, 50*types.Coin)
		inv := bob.invoice(7 * types.Coin)
		decoded, err := bob.DecodeInvoice(inv)
		if err != nil {
			t.Fatal(err)
		}
		if err := bob.store.Commit(w.ctx, del(bucketInvoice, decoded.Hash.String())); err != nil {
			t.Fatal(err)
		}
		mallory.pay(inv, PaymentFailed)
		for range 2 {
			bob.stop()
			bob.start()
			w.until("ready", func() bool { return mallory.ready(id) && bob.ready(id) })
			w.blocks(3)
			if b := bob.mine(id); b != 50*types.Coin {
				t.Fatalf("bob holds %s after a refund and a restart, want 50", b)
			}
		}
	})
}

// A peer whose account does not exist could get versions that pay it, which nobody can publish.
func TestPeerWithoutAnAccountIsRefused(t *testing.T) {
	for _, opener := range []string{"mallory", "bob"} {
		inWorld(t, []string{"mallory", "bob"}, func(w *world) {
			mallory, bob := w.nodes["mallory"], w.nodes["bob"]
			other := map[string]*node{"mallory": bob, "bob": mallory}[opener]
			mallory.stop()
			mallory.cfg.Account = types.AccountID{Node: 1, User: 1 << 20}
			mallory.start()
			ctx, cancel := w.timeout()
			defer cancel()
			if err := w.nodes[opener].Connect(ctx, other.ID(), "memory"); err != nil { // only who connects knows that it can speak now
				t.Fatal(err)
			}
			open := wire.Open{Temp: types.SHA256([]byte("temp")), ChainGenesis: bob.genesis, Theirs: types.Coin, Timing: types.DemoTiming, Rules: testRules,
				Keys: partyKeys(channelKeys(mallory.seed, 1), mallory.cfg.Account), ValidUntil: bob.Height() + 30, Epoch: uint32(bob.now() / 60)}
			if opener == "bob" {
				if c, err := bob.Open(ctx, OpenRequest{Peer: mallory.ID(), Mine: types.Coin}); err == nil {
					t.Errorf("bob opened a channel with %+v", c)
				} else if !strings.Contains(err.Error(), "account") {
					t.Errorf("refused, but not because of the account: %v", err)
				}
			} else {
				mallory.say(other, &open)
			}
			w.blocks(2)
			for _, c := range must(bob.Channels(true)) {
				if opener == "mallory" || c.State != ChannelAbandoned {
					t.Errorf("bob has a channel: %+v", c)
				}
			}
		})
	}
}

// The opener may not choose times in which the acceptor, as it is set up, can't answer a cheater.
func TestHastyTimingIsRefused(t *testing.T) {
	inWorld(t, []string{"mallory", "bob"}, func(w *world) {
		mallory, bob := w.nodes["mallory"], w.nodes["bob"]
		mallory.stop()
		mallory.cfg.Timing = types.Timing{Inclusion: 1, Downtime: 0, Window: 3}
		mallory.start()
		ctx, cancel := w.timeout()
		defer cancel()
		if err := mallory.Connect(ctx, bob.ID(), "memory"); err != nil {
			t.Fatal(err)
		}
		if c, err := mallory.Open(ctx, OpenRequest{Peer: bob.ID(), Mine: types.Coin}); err == nil {
			t.Errorf("bob took a channel with a window of %d blocks, he may be down for %d", c.Window, bob.cfg.Timing.Downtime)
		}
	})
}

// A proposal's temporary id is the peer's choice: it must not hide another peer's channel from those who forward over it.
func TestTemporaryIDHidesNoChannel(t *testing.T) {
	inWorld(t, []string{"mallory", "alice", "bob", "carol"}, func(w *world) {
		mallory, alice, bob, carol := w.nodes["mallory"], w.nodes["alice"], w.nodes["bob"], w.nodes["carol"]
		w.open("alice", "bob", 100*types.Coin, 50*types.Coin)
		bc := w.open("bob", "carol", 100*types.Coin, 50*types.Coin)
		alice.known(2)
		ctx, cancel := w.timeout()
		defer cancel()
		if err := mallory.Connect(ctx, bob.ID(), "memory"); err != nil {
			t.Fatal(err)
		}
		temp := bc
		temp[31]++
		if htlc.Short(temp) != htlc.Short(bc) {
			t.Fatal("the ids do not begin alike")
		}
		mallory.say(bob, &wire.Open{Temp: temp, ChainGenesis: bob.genesis, Mine: types.Coin, Timing: types.DemoTiming, Rules: testRules,
			Keys: partyKeys(channelKeys(mallory.seed, 1), mallory.account), ValidUntil: bob.Height() + 30, Epoch: uint32(bob.now() / 60)})
		// Her daemon knows nothing of it and refuses bob's answer: his runner begins and ends.
		w.until("over", func() bool { return len(must(bob.Channels(true))) == 3 && bob.runner(temp) == nil })
		alice.pay(carol.invoice(types.Coin), PaymentSucceeded)
	})
}

// What a peer says is kept in records; none of it may keep the daemon from starting again.
func TestPeerTextCantStopAStart(t *testing.T) {
	for _, shift := range []string{"", "x"} {
		inWorld(t, []string{"mallory", "bob"}, func(w *world) {
			mallory, bob := w.nodes["mallory"], w.nodes["bob"]
			id := w.open("mallory", "bob", 100*types.Coin, 50*types.Coin)
			mallory.say(bob, &wire.Fault{ID: id, Text: shift + strings.Repeat("é", (wire.MaxText-1)/2)})
			w.until("stopped", func() bool { return bob.state(id) != ChannelOpen })
			bob.stop()
			bob.start()
			w.until("closed", func() bool { return bob.over(id) })
		})
	}
}

// A memo that is no text is a breach; the receiver keeps nothing that it can't read again.
func TestMemoOfBytesCantStopAStart(t *testing.T) {
	inWorld(t, []string{"mallory", "bob"}, func(w *world) {
		mallory, bob := w.nodes["mallory"], w.nodes["bob"]
		w.open("mallory", "bob", 100*types.Coin, 50*types.Coin)
		_, err := mallory.OpenEscrow(w.ctx, EscrowRequest{To: bob.ID(), Amount: types.Coin, Memo: "\xff\xfe", Lifetime: 60})
		w.blocks(2)
		bob.stop()
		bob.start()
		if err == nil {
			t.Error("a memo that is not UTF-8 was sent")
		}
	})
}

// A command that is asked again with its key, before the first has an outcome, opens no second channel.
func TestSameKeyOpensOneChannel(t *testing.T) {
	for _, restart := range []bool{false, true} {
		inWorld(t, []string{"alice", "bob"}, func(w *world) {
			alice, bob := w.nodes["alice"], w.nodes["bob"]
			if err := alice.Connect(w.ctx, bob.ID(), "memory"); err != nil {
				t.Fatal(err)
			}
			w.pipes.SetDelay(3 * time.Second)
			ask := OpenRequest{Peer: bob.ID(), Mine: 10 * types.Coin, Key: "one"}
			for range 3 {
				ctx, cancel := context.WithTimeout(w.ctx, time.Second)
				if _, err := alice.Open(ctx, ask); err == nil {
					t.Error("opened before the peer can have answered")
				}
				cancel()
				if restart {
					alice.crash()
					alice.start()
					w.until("linked", func() bool { return alice.peers.linked(bob.ID()) })
				}
			}
			w.pipes.SetDelay(0)
			w.blocks(20)
			if list := must(alice.Channels(false)); len(list) != 1 {
				t.Errorf("%d channels by one key", len(list))
			}
			c, err := alice.Open(w.ctx, ask)
			if err != nil || c.State != ChannelOpen {
				t.Errorf("the same key later: %s, %v", c.State, err)
			}
		})
	}
}

// The same for an escrow that waits for the turn.
func TestSameKeyOpensOneEscrow(t *testing.T) {
	inWorld(t, []string{"alice", "bob"}, func(w *world) {
		alice, bob := w.nodes["alice"], w.nodes["bob"]
		id := w.open("bob", "alice", 50*types.Coin, 50*types.Coin) // the turn is bob's
		w.pipes.SetDelay(2 * time.Second)
		ask := EscrowRequest{To: bob.ID(), Amount: types.Coin, Lifetime: 300, Key: "one"}
		for range 3 {
			ctx, cancel := context.WithTimeout(w.ctx, time.Second)
			alice.OpenEscrow(ctx, ask)
			cancel()
		}
		w.pipes.SetDelay(0)
		w.blocks(10)
		e, err := alice.OpenEscrow(w.ctx, ask)
		if err != nil || e.State != EscrowHeld {
			t.Errorf("the same key later: %s, %v", e.State, err)
		}
		w.blocks(3)
		if c, _ := alice.Channel(id); c.Locks != 1 {
			t.Errorf("%d locks by one key", c.Locks)
		}
	})
}

// A transaction that went into a block while the daemon was down is not signed again, also in a daemon's first moments.
func TestFirstSendIsNotDoubled(t *testing.T) {
	for wait := range 4 {
		inWorld(t, []string{"alice", "bob"}, func(w *world) {
			alice, bob := w.nodes["alice"], w.nodes["bob"]
			w.blocks(wait)
			before := bob.balance()
			ctx, cancel := context.WithTimeout(w.ctx, 10*time.Millisecond)
			alice.Send(ctx, bob.account, types.Coin, types.Hash{}, "one")
			cancel()
			alice.crash()
			w.blocks(4)
			alice.start()
			w.blocks(4)
			tx, err := alice.Send(w.ctx, bob.account, types.Coin, types.Hash{}, "one")
			if got := bob.balance() - before; got != types.Coin || err != nil {
				t.Errorf("after %d blocks: bob got %s, want 1 once (%+v, %v)", wait, got, tx, err)
			}
		})
	}
}

// A breach closes the channel; that is saved before the close is submitted, whatever message it was.
func TestFaultByAckIsSaved(t *testing.T) {
	inWorld(t, []string{"mallory", "bob"}, func(w *world) {
		mallory, bob := w.nodes["mallory"], w.nodes["bob"]
		id := w.open("mallory", "bob", 100*types.Coin, 50*types.Coin)
		mallory.say(bob, &wire.Ack{ID: id, Version: 99})
		synctest.Wait()
		if bob.state(id) == ChannelOpen {
			t.Fatal("the breach was not seen")
		}
		saved, err := channel.Decode(must(bob.store.Get(bucketChannel, id.String())))
		if err != nil || saved.Phase < channel.PhaseClosing {
			t.Errorf("on disk the channel is %s, %v", saved.Phase, err)
		}
	})
}

// A hop whose backup is from between the two halves of a forwarded lock must not give the upstream half back: the downstream half
// may still be paid.
func TestRestoredHopKeepsForwardedLocks(t *testing.T) {
	inWorld(t, []string{"alice", "bob", "carol"}, func(w *world) {
		alice, bob, carol := w.nodes["alice"], w.nodes["bob"], w.nodes["carol"]
		ab := w.open("alice", "bob", 100*types.Coin, 50*types.Coin)
		bc := w.open("bob", "carol", 100*types.Coin, 50*types.Coin)
		alice.known(2)
		bob.stop()
		buckets := []string{bucketChannel, bucketChanInfo, bucketOutbox, bucketOutgoing}
		backup := map[string]map[string][]byte{}
		scan := func(bucket string) map[string][]byte {
			m := map[string][]byte{}
			if err := bob.store.Scan(bucket, bc.String(), func(k string, v []byte) error { m[k] = append([]byte(nil), v...); return nil }); err != nil {
				t.Fatal(err)
			}
			return m
		}
		for _, bucket := range buckets {
			backup[bucket] = scan(bucket)
		}
		bob.start()
		w.until("ready", func() bool { return bob.ready(ab) && bob.ready(bc) })
		e, err := alice.OpenEscrow(w.ctx, EscrowRequest{To: carol.ID(), Amount: 10 * types.Coin, Lifetime: 250})
		if err != nil {
			t.Fatal(err)
		}
		w.until("held", func() bool { h, err := carol.Escrow(e.ID, rolePayee); return err == nil && h.State == EscrowHeld })
		bob.stop()
		for _, bucket := range buckets {
			var writes []types.Write
			for k := range scan(bucket) {
				writes = append(writes, del(bucket, k))
			}
			for k, v := range backup[bucket] {
				writes = append(writes, types.Write{Bucket: bucket, Key: k, Value: v})
			}
			if err := bob.store.Commit(w.ctx, writes...); err != nil {
				t.Fatal(err)
			}
		}
		for _, restored := range []bool{true, false} {
			bob.cfg.Restored = restored
			bob.start()
			w.until("ready", func() bool { return bob.ready(ab) && bob.ready(bc) })
			w.blocks(10)
			up, _ := bob.Channel(ab)
			down, _ := bob.Channel(bc)
			if up.Locks < down.Locks || down.Locks != 1 {
				t.Errorf("restored %v: %d locks upstream, %d downstream", restored, up.Locks, down.Locks)
			}
			if restored {
				bob.stop()
			}
		}
		if _, err := alice.ReleaseEscrow(w.ctx, e.ID); err != nil {
			t.Fatal(err)
		}
		w.until("carol is paid", func() bool { return carol.mine(bc) == 60*types.Coin })
		if b := bob.mine(ab) + bob.mine(bc); b < 150*types.Coin {
			t.Errorf("bob holds %s in all, had 150", b)
		}
	})
}

// A lock that waits for the turn is not signed while the view of the ledger is stale: by then its expiry may be too near.
func TestNothingIsForwardedOnAStaleView(t *testing.T) {
	inWorld(t, []string{"alice", "bob", "carol"}, func(w *world) {
		alice, bob, carol := w.nodes["alice"], w.nodes["bob"], w.nodes["carol"]
		ab := w.open("alice", "bob", 100*types.Coin, 50*types.Coin)
		bc := w.open("carol", "bob", 50*types.Coin, 100*types.Coin) // the turn is carol's
		alice.known(2)
		inv := carol.invoice(types.Coin)
		w.pipes.SetDelay(time.Second)
		ctx, cancel := context.WithTimeout(w.ctx, 1500*time.Millisecond) // bob has alice's lock and waits for carol's turn
		alice.Pay(ctx, PayRequest{Invoice: inv})
		cancel()
		bob.view.Stale(true)
		w.pipes.SetDelay(0)
		w.blocks(4)
		if c, _ := bob.Channel(ab); c.Locks != 1 {
			t.Fatalf("%d locks upstream: the test does not reach the turn", c.Locks)
		}
		if c, _ := bob.Channel(bc); c.Locks != 0 || bob.mine(bc) != 100*types.Coin {
			t.Errorf("bob passed a lock on while his view was stale: %d locks, he has %s", c.Locks, bob.mine(bc))
		}
		bob.view.Stale(false)
		w.until("an outcome", func() bool { c, err := bob.Channel(ab); return err == nil && c.Locks == 0 })
	})
}

// Payments that nobody asked for are given back, but the list of those that wait for the turn has an end, as it is one record.
func TestRefundsAreBounded(t *testing.T) {
	inWorld(t, []string{"mallory", "bob"}, func(w *world) {
		mallory, bob := w.nodes["mallory"], w.nodes["bob"]
		id := w.open("mallory", "bob", 100*types.Coin, 50*types.Coin)
		r, done := bob.runner(id), make(chan int)
		r.box.force(func(b *batch) {
			for i := range 3 * maxReceipts {
				r.received(b, wire.Pay{Amount: 1, Hash: types.SHA256([]byte{byte(i), byte(i >> 8)})})
			}
			done <- len(r.refunds)
		})
		if n := <-done; n == 0 || n > maxReceipts {
			t.Errorf("%d refunds wait", n)
		}
		mallory.stop()
		bob.stop()
		bob.start()
	})
}

// The owner can't spend what answering a cheater costs.
func TestFeesForTheCloseAreKept(t *testing.T) {
	inWorld(t, []string{"alice", "bob", "carol"}, func(w *world) {
		alice, bob := w.nodes["alice"], w.nodes["bob"]
		w.blocks(2)
		rest := 200 * types.Coin
		if _, err := bob.Send(w.ctx, w.nodes["carol"].account, funding-rest, types.Hash{}, ""); err != nil {
			t.Fatal(err)
		}
		id := w.open("alice", "bob", 100*types.Coin, 0)
		alice.pay(bob.invoice(50*types.Coin), PaymentSucceeded)
		for step := 100 * types.Coin; step > 0; step /= 2 { // send as much as is taken
			for {
				if _, err := bob.Send(w.ctx, w.nodes["carol"].account, step, types.Hash{}, ""); err != nil {
					break
				}
			}
		}
		have := bob.balance()
		if have == 0 || have > types.Coin/2 {
			t.Errorf("bob has %s left", have)
		}
		if _, err := bob.Close(w.ctx, id, true); err != nil {
			t.Fatal(err)
		}
		w.until("closed", func() bool { return bob.over(id) })
		if got := bob.balance() - have; got < 49*types.Coin {
			t.Errorf("bob got %s", got)
		}
	})
}

// A backup from the middle of an opening is as old as any other: the channel opens, and both agree on its state anew.
func TestRestoredOpening(t *testing.T) {
	for _, who := range []string{"alice", "bob"} {
		inWorld(t, []string{"alice", "bob"}, func(w *world) {
			alice, bob := w.nodes["alice"], w.nodes["bob"]
			if err := alice.Connect(w.ctx, bob.ID(), "memory"); err != nil {
				t.Fatal(err)
			}
			c, err := alice.Open(w.ctx, OpenRequest{Peer: bob.ID(), Mine: 10 * types.Coin})
			if err != nil {
				t.Fatal(err)
			}
			w.nodes[who].crash()
			w.nodes[who].cfg.Restored = true
			w.nodes[who].start()
			w.until("ready", func() bool { return alice.ready(c.ID) && bob.ready(c.ID) })
			if epoch := must(alice.Channel(c.ID)).Epoch; epoch == c.Epoch {
				t.Errorf("%s: still in epoch %d", who, epoch)
			}
			alice.pay(bob.invoice(types.Coin), PaymentSucceeded)
		})
	}
}

// A link that is up before a restored channel's goroutine runs is heard of after the restoration, whichever the goroutine finds
// first: what the peer says must not be believed as if nothing could be missing here.
func TestRestoreComesFirst(t *testing.T) {
	inWorld(t, []string{"alice", "bob"}, func(w *world) {
		alice, bob := w.nodes["alice"], w.nodes["bob"]
		id := w.open("alice", "bob", 10*types.Coin, 0)
		alice.stop()
		for range 16 {
			bob.crash()
			bob.cfg.Restored = true
			bob.load()
			r := bob.runner(id)
			r.fromPeer <- mailLink{up: true}
			bob.run()
			synctest.Wait()
			if s := r.view.Load().State; !s.Restored || s.Link != channel.LinkWaits {
				t.Fatalf("restored %v, link %v", s.Restored, s.Link)
			}
		}
	})
}

// A block, a command or a message may find a new channel before its goroutine runs: what it shows must be there by then.
func TestNewChannelIsSeenWhole(t *testing.T) {
	inWorld(t, []string{"alice", "bob"}, func(w *world) {
		alice, bob := w.nodes["alice"], w.nodes["bob"]
		r := newRunner(alice.Daemon, bob.ID())
		r.state = channel.State{Peer: bob.ID(), Temp: types.SHA256([]byte("temp"))}
		if !alice.register(r, stateKey(&r.state)) {
			t.Fatal("not registered")
		}
		if v := r.view.Load(); v == nil || v.State.Peer != bob.ID() {
			t.Errorf("the channel shows %+v", v)
		}
		alice.unregister(r)
	})
}
