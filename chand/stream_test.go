package chand

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/wire"
)

// stream opens a stream, or one that was opened before.
func (n *node) stream(to *node, key string) *Stream {
	n.w.t.Helper()
	ctx, cancel := n.w.timeout()
	defer cancel()
	s, err := n.OpenStream(ctx, StreamRequest{To: to.seed.NodeID(), Key: key, Memo: "by the second"})
	if err != nil {
		n.w.t.Fatalf("%s opens a stream: %v", n.name, err)
	}
	return s
}

// paidUpTo waits until everything that a stream has taken is paid, or it fails.
func paidUpTo(ctx context.Context, s *Stream) StreamStanding {
	for {
		st, changed := s.Standing()
		if st.Err != nil || st.Paid+1 == st.Next {
			return st
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return st
		}
	}
}

func same(n int, amount types.Amount) []types.Amount { return slices.Repeat([]types.Amount{amount}, n) }

// parts are the amounts of a stream as a node has recorded them, by number.
func (n *node) parts(stream string) map[uint64]types.Amount {
	n.w.t.Helper()
	all := map[uint64]types.Amount{}
	err := loadAll(n.store, bucketStreamPart, stream+"/", func(_ string, p streamPart) error {
		list, err := unpackAmounts(p.Amounts)
		for i, a := range list {
			if all[p.First+uint64(i)] != 0 {
				n.w.t.Errorf("%s: number %d twice", n.name, p.First+uint64(i))
			}
			all[p.First+uint64(i)] = a
		}
		return err
	})
	if err != nil {
		n.w.t.Fatal(err)
	}
	return all
}

// Many payments in few updates: every one of them is in the records of both sides, and the sums, the balances and the events agree.
func TestStream(t *testing.T) {
	inWorld(t, []string{"alice", "bob"}, func(w *world) {
		alice, bob := w.nodes["alice"], w.nodes["bob"]
		c := w.open("alice", "bob", 100*types.Coin, types.Coin)
		events, cancel, err := bob.Subscribe()
		if err != nil {
			t.Fatal(err)
		}
		defer cancel()
		before, version := bob.mine(c), alice.version(c)
		s := alice.stream(bob, "film")
		const messages, each = 50, 400
		var sum types.Amount
		for m := range messages {
			var list []types.Amount
			for i := range each {
				list = append(list, types.Amount(1000+m*each+i))
				sum += list[i]
			}
			if err := s.Send(w.ctx, 0, list); err != nil {
				t.Fatal(err)
			}
		}
		st := paidUpTo(w.ctx, s)
		if st.Err != nil || st.Paid != messages*each || st.Total != sum {
			t.Fatalf("%+v, want %d payments of %s", st, messages*each, sum)
		}
		s.Close()
		if got := bob.mine(c) - before; got != sum {
			t.Errorf("bob has %s more, want %s", got, sum)
		}
		if n := alice.version(c) - version; n > messages {
			t.Errorf("%d updates for %d messages", n, messages)
		}
		for n, stream := range map[*node]string{alice: sentStream(s.ID()), bob: receivedStream(c, s.ID())} {
			got := n.parts(stream)
			for i := range messages * each {
				if got[uint64(i+1)] != types.Amount(1000+i) {
					t.Fatalf("%s has %s for number %d", n.name, got[uint64(i+1)], i+1)
				}
			}
			list, next, err := n.Streams("", "", 10)
			if err != nil || next != "" || len(list) != 1 || list[0].Payments != messages*each || list[0].Total != sum || list[0].Last != messages*each || list[0].State != StreamOpen {
				t.Errorf("%s lists %+v, %q, %v", n.name, list, next, err)
			}
		}
		synctest.Wait()
		var last PaymentStream
		for len(events) > 0 {
			if e := <-events; e.Type == "stream.received" {
				last = e.Item.(PaymentStream)
			}
		}
		if last.Payments != messages*each || last.Total != sum || last.Peer != alice.ID() {
			t.Errorf("the last event says %+v", last)
		}
		if len(alice.streams.live) != 0 {
			t.Error("a stream that nobody holds is kept")
		}
	})
}

func (n *node) version(c types.ChannelID) uint32 { return n.runner(c).view.Load().State.Current.Number }

// What a caller says twice, wrongly or to nobody.
func TestStreamRefusals(t *testing.T) {
	inWorld(t, []string{"alice", "bob", "carol"}, func(w *world) {
		alice, bob := w.nodes["alice"], w.nodes["bob"]
		c := w.open("alice", "bob", 2*types.Coin, types.Coin)
		s := alice.stream(bob, "k")
		for _, bad := range [][]types.Amount{{0}, {1000, -1}, same(wire.MaxStream+1, 1000), {testRules.MaxPayment + 1}} {
			if err := s.Send(w.ctx, 0, bad); err == nil {
				t.Errorf("%d payments, the last %s, were taken", len(bad), bad[len(bad)-1])
			}
		}
		send := func(first uint64, list ...types.Amount) error { return s.Send(w.ctx, first, list) }
		if err := errors.Join(send(1, 1000, 2000, 3000), send(1, 1000, 2000), send(2, 2000, 3000, 4000), send(0)); err != nil {
			t.Fatal(err)
		}
		if err := send(6, 1000); err == nil || !strings.Contains(err.Error(), "the next one is 5") {
			t.Errorf("a number that leaves one out: %v", err)
		}
		again := alice.stream(bob, "k") // a second hold on the same stream
		if st := paidUpTo(w.ctx, again); st.Paid != 4 || st.Total != 10000 {
			t.Errorf("%+v", st)
		}
		again.Close()
		if _, err := alice.OpenStream(w.ctx, StreamRequest{To: bob.ID(), Key: "k", Memo: "another"}); err == nil {
			t.Error("one key for two streams")
		}
		for _, q := range []StreamRequest{{To: w.nodes["carol"].ID()}, {To: alice.ID()}, {}, {To: bob.ID(), Key: strings.Repeat("k", maxKey+1)}} {
			if _, err := alice.OpenStream(w.ctx, q); err == nil {
				t.Errorf("opened %+v", q)
			}
		}
		// More than there is: what fits is paid, and the rest is not.
		have := alice.mine(c)
		if err := s.Send(w.ctx, 0, same(40, types.Coin/10)); err != nil {
			t.Fatal(err)
		}
		st := paidUpTo(w.ctx, s)
		if st.Err == nil || st.Next != 5+uint64(have/(types.Coin/10)) {
			t.Errorf("%+v with %s", st, have)
		}
		s.Close()
		synctest.Wait()
		rest := alice.stream(bob, "k")
		if st := paidUpTo(w.ctx, rest); st.Err != nil || st.Paid != 4+uint64(have/(types.Coin/10)) {
			t.Errorf("opened again: %+v", st)
		}
		if err := rest.Send(w.ctx, 0, same(3, 1000)); err != nil {
			t.Fatal(err)
		}
		if st := paidUpTo(w.ctx, rest); st.Err != nil {
			t.Errorf("small ones that fit: %+v", st)
		}
		rest.Close()
	})
}

// Whatever is killed when: everything that was said to be paid stays paid, nothing is paid twice, and the stream goes on where it was.
func TestStreamCrashes(t *testing.T) {
	for seed := range uint64(6) {
		inWorld(t, []string{"alice", "bob"}, func(w *world) {
			rnd := rand.New(rand.NewPCG(seed, 1))
			alice, bob := w.nodes["alice"], w.nodes["bob"]
			c := w.open("alice", "bob", 100*types.Coin, types.Coin)
			before := bob.mine(c)
			const total = 3000
			amount := func(n uint64) types.Amount { return types.Amount(1000 + n) }
			var said uint64 // the highest number that was said to be paid
			for lives := 0; said < total; lives++ {
				s := alice.stream(bob, "long")
				ctx, cancel := context.WithCancel(w.ctx)
				done := make(chan struct{})
				go func() {
					defer close(done)
					for {
						st, _ := s.Standing()
						if st.Err != nil || st.Next > total {
							return
						}
						var list []types.Amount
						for n := st.Next; n <= min(total, st.Next+uint64(rnd.IntN(40))); n++ {
							list = append(list, amount(n))
						}
						if s.Send(ctx, st.Next, list) != nil {
							return
						}
					}
				}()
				<-done
				victim := []*node{alice, bob}[rnd.IntN(2)]
				for range rnd.IntN(30) { // somewhere within the work
					st, changed := s.Standing()
					if st.Paid == total {
						break
					}
					<-changed
				}
				st, _ := s.Standing()
				if st.Paid < said {
					t.Fatalf("seed %d: %d were paid, now %d", seed, said, st.Paid)
				}
				said = st.Paid
				if lives < 8 {
					victim.crash()
					victim.start()
					w.until("the link is up again", func() bool { return alice.ready(c) && bob.ready(c) })
				} else {
					said = paidUpTo(w.ctx, s).Paid
				}
				cancel()
				if victim != alice || lives >= 8 {
					s.Close()
				}
			}
			var sum types.Amount
			got := bob.parts(receivedStream(c, types.TaggedHash("chand/stream", bob.pubID(), []byte("long"))))
			for n := range uint64(total) {
				if sum += amount(n + 1); got[n+1] != amount(n+1) {
					t.Fatalf("seed %d: bob has %s for number %d", seed, got[n+1], n+1)
				}
			}
			if more := bob.mine(c) - before; more != sum || len(got) != total {
				t.Errorf("seed %d: %d payments, bob has %s more, want %s", seed, len(got), more, sum)
			}
		})
	}
}

func (n *node) pubID() []byte { id := n.seed.NodeID(); return id[:] }

// A channel that is closed by force ends its streams with what the version on chain pays.
func TestStreamEndsWithChannel(t *testing.T) {
	for _, force := range []bool{false, true} {
		inWorld(t, []string{"alice", "bob"}, func(w *world) {
			alice, bob := w.nodes["alice"], w.nodes["bob"]
			c := w.open("alice", "bob", 10*types.Coin, types.Coin)
			start := bob.balance()
			s := alice.stream(bob, "rent")
			if err := s.Send(w.ctx, 0, same(100, 2000)); err != nil {
				t.Fatal(err)
			}
			paidUpTo(w.ctx, s)
			if force { // the peer is gone: the update is signed here, and it never has it
				bob.stop()
				w.until("the link is down", func() bool { return !alice.runner(c).view.Load().Linked })
			}
			if err := s.Send(w.ctx, 0, same(50, 3000)); err != nil {
				t.Fatal(err)
			}
			if !force {
				paidUpTo(w.ctx, s)
			}
			if _, err := alice.Close(w.ctx, c, force); err != nil {
				t.Fatal(err)
			}
			if force {
				bob.start()
			}
			w.until("closed", func() bool { return alice.over(c) && bob.over(c) })
			if err := s.Send(w.ctx, 0, same(1, 1000)); err == nil {
				t.Error("a closed channel takes payments")
			}
			s.Close()
			list, _, err := alice.Streams(PaymentSent, "", 10)
			if err != nil || len(list) != 1 || list[0].State != StreamEnded {
				t.Fatalf("%+v, %v", list, err)
			}
			want := types.Amount(100*2000 + 50*3000)
			if force {
				want = 100 * 2000
			}
			if list[0].Total != want {
				t.Errorf("force %v: %s were paid, want %s", force, list[0].Total, want)
			}
			// Less what bob paid to the ledger for its transactions, which is less than the 50 payments in question.
			if got := bob.balance() - start; got > types.Coin+want || got < types.Coin+want-120_000 {
				t.Errorf("force %v: bob got %s, want %s", force, got, types.Coin+want)
			}
			if _, err := alice.OpenStream(w.ctx, StreamRequest{To: bob.ID(), Key: "rent", Memo: "by the second"}); err == nil {
				t.Error("an ended stream was opened")
			}
		})
	}
}

// Received streams beyond what is kept in memory are found again.
func TestManyStreams(t *testing.T) {
	inWorld(t, []string{"alice", "bob"}, func(w *world) {
		alice, bob := w.nodes["alice"], w.nodes["bob"]
		c := w.open("alice", "bob", 10*types.Coin, types.Coin)
		const count = maxStreamsIn + 20
		for range 2 {
			for i := range count {
				s := alice.stream(bob, string(rune('a'+i%26))+strings.Repeat("x", i/26))
				if err := s.Send(w.ctx, 0, same(2, 1000)); err != nil {
					t.Fatal(err)
				}
				paidUpTo(w.ctx, s)
				s.Close()
			}
		}
		synctest.Wait()
		if n := len(bob.runner(c).inStreams); n > maxStreamsIn {
			t.Errorf("%d streams in memory", n)
		}
		seen, page := 0, ""
		for {
			list, next, err := bob.Streams(PaymentReceived, page, 100)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range list {
				if seen++; p.Payments != 4 || p.Total != 4000 || p.Last != 4 {
					t.Errorf("%+v", p)
				}
			}
			if page = next; page == "" {
				break
			}
		}
		if seen != count {
			t.Errorf("%d streams are listed, want %d", seen, count)
		}
	})
}

// A stream goes on where its channel begins a new epoch, and over kills there.
func TestStreamRenewal(t *testing.T) {
	inWorld(t, []string{"alice", "bob"}, func(w *world) {
		alice, bob := w.nodes["alice"], w.nodes["bob"]
		for _, n := range []*node{alice, bob} {
			n.stop()
			n.cfg.RenewAt = 6
			n.start()
		}
		c := w.open("alice", "bob", 10*types.Coin, types.Coin)
		begin := alice.runner(c).view.Load().State.Current.Epoch
		for life := range 4 {
			s := alice.stream(bob, "k")
			for i := range 15 {
				if err := s.Send(w.ctx, uint64(life*150+i*10+1), same(10, 1000)); err != nil {
					t.Fatal(err)
				}
				if st := paidUpTo(w.ctx, s); i < 14 && st.Err != nil || st.Paid != uint64(life*150+(i+1)*10) {
					t.Fatalf("life %d, message %d: %+v", life, i, st)
				}
			}
			n := []*node{alice, bob}[life%2]
			n.crash()
			n.start()
			if n == bob {
				s.Close()
			}
			w.until("ready again", func() bool { return alice.ready(c) && bob.ready(c) })
		}
		if st := alice.runner(c).view.Load().State; st.Current.Epoch < begin+3 {
			t.Errorf("epoch %d after %d: the channel was not renewed", st.Current.Epoch, begin)
		}
		for _, n := range []*node{alice, bob} {
			list, _, err := n.Streams("", "", 10)
			if err != nil || len(list) != 1 || list[0].Payments != 600 || list[0].Total != 600_000 || list[0].State != StreamOpen {
				t.Errorf("%s: %+v, %v", n.name, list, err)
			}
		}
	})
}

// Of a long stream the newest parts are kept, and a stream in which nothing moves for long is forgotten.
func TestStreamHistory(t *testing.T) {
	inWorld(t, []string{"alice", "bob"}, func(w *world) {
		alice, bob := w.nodes["alice"], w.nodes["bob"]
		for _, n := range []*node{alice, bob} {
			n.stop()
			n.cfg.History.Age = time.Hour
			n.start()
		}
		w.open("alice", "bob", 10*types.Coin, types.Coin)
		s := alice.stream(bob, "long")
		const count = maxStreamParts + 100
		for range count {
			if err := s.Send(w.ctx, 0, same(1, 1000)); err != nil {
				t.Fatal(err)
			}
			if st := paidUpTo(w.ctx, s); st.Err != nil {
				t.Fatal(st.Err)
			}
		}
		s.Close()
		for _, n := range []*node{alice, bob} {
			list, _, err := n.Streams("", "", 10)
			if parts := n.count(bucketStreamPart); err != nil || parts != maxStreamParts || len(list) != 1 || list[0].Payments != count {
				t.Errorf("%s: %d parts, %+v, %v", n.name, parts, list, err)
			}
			if err := Check(n.store); err != nil {
				t.Error(err)
			}
		}
		w.until("forgotten", func() bool {
			<-time.After(time.Minute)
			return alice.count(bucketStreamPart)+bob.count(bucketStreamPart)+alice.count(bucketStream)+bob.count(bucketStream) == 0
		})
		again := alice.stream(bob, "long")
		if err := again.Send(w.ctx, 1, same(2, 1000)); err != nil {
			t.Fatal(err)
		}
		if st := paidUpTo(w.ctx, again); st.Paid != 2 {
			t.Errorf("a key that was forgotten: %+v", st)
		}
		again.Close()
	})
}

// A stream that was being sent when its sender lost its disk ends for good with the first start from a backup, also when the peer is met only after
// the next one: the numbers that the backup knows were used again else.
func TestStreamRestored(t *testing.T) {
	inWorld(t, []string{"alice", "bob"}, func(w *world) {
		alice, bob := w.nodes["alice"], w.nodes["bob"]
		c := w.open("alice", "bob", 100*types.Coin, types.Coin)
		ctx, cancel := w.timeout()
		defer cancel()
		send := func() {
			s := alice.stream(bob, "film")
			defer s.Close()
			if err := s.Send(ctx, 0, same(5, types.Coin)); err != nil {
				t.Fatal(err)
			}
			if st := paidUpTo(ctx, s); st.Err != nil {
				t.Fatal(st.Err)
			}
		}
		send()
		old := alice.store.Copy()
		send()
		bob.stop()
		alice.crash()
		if err := PrepareRestored(ctx, old); err != nil {
			t.Fatal(err)
		}
		alice.store = old
		alice.start()
		w.until("the mark is gone", func() bool {
			_, marked, err := load[bool](alice.store, bucketMeta, metaRestored)
			return err == nil && !marked
		})
		alice.stop()
		alice.cfg.Restored = false
		alice.start()
		bob.start()
		w.until("both agree again", func() bool {
			return alice.runner(c).view.Load().State.Ready() && bob.runner(c).view.Load().State.Ready()
		})
		_, err := alice.OpenStream(ctx, StreamRequest{To: bob.ID(), Key: "film", Memo: "by the second"})
		var e *Error
		if !errors.As(err, &e) || e.Code != CodePhase || !strings.Contains(e.Text, "backup") {
			t.Errorf("the stream goes on: %v", err)
		}
		if mine := bob.mine(c); mine != 11*types.Coin {
			t.Errorf("bob has %s, want 11", mine)
		}
	})
}
