package itest

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"

	"github.com/eschaton-network/chand/chand"
	"github.com/eschaton-network/chand/channel"
	"github.com/eschaton-network/chand/htlc"
	"github.com/eschaton-network/chand/internal/devnet"
	"github.com/eschaton-network/chand/itest/mallory"
	chandv1 "github.com/eschaton-network/chand/rpc/gen/chand/v1"
	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/wire"
)

// terms are those of a lock that Mallory sends through bob, or gives to a payee.
type terms struct {
	in, out       types.Amount
	reserve       types.Amount
	inExp, outExp types.Height
	next          htlc.ShortID
}

// invoice of a daemon, decoded.
func (s *scene) invoice(d *devnet.Node, amount types.Amount) htlc.PaymentRequest {
	s.t.Helper()
	inv := must(d.Payments.CreateInvoice(s.ctx(), &chandv1.CreateInvoiceRequest{Amount: amount.String()}))
	return must(htlc.DecodeInvoice(inv.Invoice))
}

func (s *scene) onion(hash types.Hash, hops ...htlc.OnionHop) []byte {
	s.t.Helper()
	var session [32]byte
	rand.Read(session[:])
	o, err := htlc.BuildOnion(hops, session, hash[:])
	s.must(err)
	return o.Packet[:]
}

// locks has a puppet add a lock, and says how it ended.
func (s *scene) locks(p *mallory.Puppet, op wire.AddLock) (settled bool) {
	s.t.Helper()
	side := p.State().Side
	id := p.State().NextLock[side]
	s.must(s.inTurn(p, channel.ProposeAndYield{Ops: []wire.Op{op}}))
	s.until("the lock has ended", func() bool {
		returned := p.Saw(func(n channel.Notice) bool {
			r, ok := n.(channel.LockReturned)
			return ok && r.Lock.ID == id && r.Lock.Funder == side
		})
		settled = p.Saw(func(n channel.Notice) bool { r, ok := n.(channel.PreimageKnown); return ok && r.Lock.ID == id })
		return returned || settled
	})
	return settled
}

// inTurn does something as soon as the turn is hers.
func (s *scene) inTurn(p *mallory.Puppet, in channel.Input) (err error) {
	s.until("the turn is hers", func() bool {
		_ = p.Do(channel.RequestTurn{}) // refused when it is hers
		return p.State().MyTurn()
	})
	return p.Do(in)
}

// badPayer sends locks through bob on terms that a hop must not take. They come back with their reservation fees, dave never hears of
// them; on the right terms the same lock is paid.
func badPayer(s *scene) {
	m := s.mallory("mallory")
	id := s.opens(m, s.bob, 100*c, 10*c)
	p := s.seizes(m, id)
	s.until("she has heard bob", func() bool { return p.State().Ready() })
	bobKey := s.invoice(s.bob, c).OnionKey
	line := must(types.ParseHash(s.line))
	lock := func(inv htlc.PaymentRequest, t terms) wire.AddLock {
		onion := s.onion(inv.Hash,
			htlc.OnionHop{Key: bobKey, Payload: htlc.Payload{Kind: htlc.Forward, Amount: t.out, Expiry: t.outExp, Next: t.next}},
			htlc.OnionHop{Key: inv.OnionKey, Payload: htlc.Payload{Kind: htlc.Invoice, Amount: t.out, Expiry: t.outExp, Secret: inv.Secret, Total: t.out}})
		return wire.AddLock{Amount: t.in, Reserve: t.reserve, Hash: inv.Hash, Expiry: t.inExp, Onion: onion}
	}
	const amount = 5 * c
	least := stageTiming.MinExpiry(0)
	delta := types.Height(stageTiming.ForwardDelta())
	good := func() terms {
		head, _ := s.follower.Head()
		out := head.Height + least + 15
		fee := types.Coin/1_000_000 + amount/10_000
		return terms{in: amount + fee, out: amount, reserve: amount / 1000, inExp: out + delta, outExp: out, next: htlc.Short(line)}
	}
	for _, bad := range []struct {
		name string
		edit func(t *terms)
	}{
		{"too short an expiry for a hop", func(t *terms) { t.inExp = t.outExp + delta - 1 }},
		{"no time between expiries", func(t *terms) { t.inExp = t.outExp }},
		{"too short an expiry for the payee", func(t *terms) { t.outExp -= 20 }},
		{"an expiry that has passed", func(t *terms) { t.outExp = 1 }},
		{"an expiry years ahead", func(t *terms) { t.inExp += 10_000_000 }},
		{"no fee", func(t *terms) { t.in = t.out }},
		{"a unit less than the fee", func(t *terms) { t.in-- }},
		{"more than it brings", func(t *terms) { t.in = t.out / 2 }},
		{"no reservation fee", func(t *terms) { t.reserve = 0 }},
		{"an unknown channel", func(t *terms) { t.next[0]++ }},
		{"", func(*terms) {}}, // as it should be
	} {
		s.fresh()
		inv := s.invoice(s.dave, amount)
		t := good()
		bad.edit(&t)
		before, daves := s.mine(s.bob, id), s.mine(s.dave, line)
		paid := s.locks(p, lock(inv, t))
		for bad.name == "" && !paid { // bob had seen no block lately: on another lock
			s.fresh()
			inv, t = s.invoice(s.dave, amount), good()
			paid = s.locks(p, lock(inv, t))
		}
		if bad.name == "" {
			s.must(s.inTurn(p, channel.Propose{Ops: p.State().Settleable()}))
			s.until("all are paid", func() bool {
				return s.mine(s.bob, id) == before+t.in+t.reserve && s.mine(s.dave, line) == daves+t.out
			})
			if !paid {
				s.t.Error("what is on right terms was not paid")
			}
			continue
		}
		s.until("bob has given all back", func() bool { return s.mine(s.bob, id) == before })
		if v := s.channel(s.dave, s.line); paid || coins(v.Mine) != daves || v.Locks != 0 {
			s.t.Errorf("%s: paid %v; dave has %s and %d locks, had %s", bad.name, paid, v.Mine, v.Locks, daves)
		}
	}
	due := s.mine(s.bob, id)
	m.Chain.Mute(mallory.Spends)
	s.force(s.bob, id)
	s.closed(s.bob, m, id, due)
}

// badHop is Mallory on the way to bob: she passes on less than the payer meant, or with less time. Bob reveals nothing for it.
func badHop(s *scene) {
	m := s.mallory("mallory")
	id := s.opens(m, s.bob, 100*c, 10*c)
	p := s.seizes(m, id)
	const amount = 5 * c
	for _, bad := range []struct {
		name string
		edit func(op *wire.AddLock)
	}{
		{"a unit less", func(op *wire.AddLock) { op.Amount-- }},
		{"a block less", func(op *wire.AddLock) { op.Expiry-- }},
	} {
		if s.locks(p, s.toBob(amount, bad.edit)) {
			s.t.Errorf("%s: bob has revealed the preimage", bad.name)
		}
	}
	for !s.locks(p, s.toBob(amount, func(*wire.AddLock) {})) { // bob had seen no block lately
		s.fresh()
	}
	// She has the preimage of the last one now, and withholds the countersignature: bob claims it on the ledger.
	due := s.mine(s.bob, id) + amount
	p.Silence()
	m.Chain.Mute(mallory.Spends)
	s.force(s.bob, id)
	s.until("bob has claimed his lock", func() bool { paid, ok := s.books.paid(id); return ok && s.books.open(id) == 0 && len(paid) > 0 })
	s.closed(s.bob, m, id, due)
}

// toBob is a lock that pays an invoice of bob's, changed by edit.
func (s *scene) toBob(amount types.Amount, edit func(op *wire.AddLock)) wire.AddLock {
	inv := s.invoice(s.bob, amount)
	head, _ := s.follower.Head()
	expiry := stageTiming.MinExpiry(head.Height) + 15
	op := wire.AddLock{Amount: amount, Hash: inv.Hash, Expiry: expiry, Onion: s.onion(inv.Hash, htlc.OnionHop{Key: inv.OnionKey,
		Payload: htlc.Payload{Kind: htlc.Invoice, Amount: amount, Expiry: expiry, Secret: inv.Secret, Total: amount}})}
	edit(&op)
	return op
}

// preimages: carol pays Mallory through bob. Mallory reveals nothing to bob, and claims what he locked on the ledger, in the last block
// or never. Bob must not lose the money between the two: what he paid on one side he has from the other.
func preimages(run cast) {
	for _, claims := range []bool{true, false} {
		name := "withholds the preimage"
		if claims {
			name = "reveals the preimage on chain in the last block"
		}
		run(name, func(s *scene) {
			m := s.mallory("mallory")
			id := s.opens(m, s.bob, 10*c, 50*c)
			m.Chain.Mute(mallory.Spends)
			m.Link.Out(mallory.Drop(wire.TypeReveal, wire.TypeReceipt))
			var inv chand.Invoice
			s.until("her invoice tells the way over bob", func() bool {
				var err error
				inv, err = m.CreateInvoice(s.ctx(), chand.InvoiceRequest{Amount: 7 * c})
				s.must(err)
				return len(must(htlc.DecodeInvoice(inv.Text)).Hints) > 0
			})
			before := s.mine(s.bob, id)
			key := fmt.Sprint("to mallory ", claims)
			outcome := make(chan *chandv1.Payment, 1)
			ctx := s.t.Context()
			s.aside(func() { outcome <- s.carolPays(ctx, inv.Text, key) })
			var lock channel.Lock
			s.until("bob's lock is there", func() bool {
				select {
				case p := <-outcome:
					s.t.Fatalf("carol's payment ended at once: %v", p)
				default:
				}
				st := m.State(id)
				if len(st.Current.Locks) == 1 {
					lock = st.Current.Locks[0]
				}
				return !lock.Preimage.IsZero()
			})
			st := m.State(id)
			s.t.Logf("bob's lock of %s ends at block %d, now it is %d", lock.Amount, lock.Expiry, m.Height())
			s.must(m.Publish(s.ctx(), st)) // the version with the lock, which only she can publish: it is bob's signature
			s.until("bob's contract has paid out", func() bool { _, ok := s.books.paid(id); return ok })
			at, ok := s.books.lock(id)
			if !ok {
				s.t.Fatal("the lock is no output")
			}
			if claims {
				s.height(lock.Expiry - 3)
				s.must(m.Claim(s.ctx(), st, lock, at.TxID, at.Index, lock.Preimage))
				head, _ := s.follower.Head()
				s.t.Logf("claimed by block %d", head.Height)
			}
			var p *chandv1.Payment
			select {
			case p = <-outcome:
			case <-s.ctx().Done():
			}
			if p == nil {
				s.t.Fatal("carol's payment has no outcome")
			}
			want, due := "failed", before
			if claims {
				want, due = "succeeded", before-lock.Amount
			}
			if p.State != want {
				s.t.Errorf("carol's payment %s, want %s: %v", p.State, want, p)
			}
			s.until("no lock is open", func() bool { return s.books.open(id) == 0 })
			s.closed(s.bob, m, id, due)
			// What bob paid to Mallory came in from carol, with his fee.
			if fee := coins(p.Fee); claims && fee <= 0 {
				s.t.Errorf("bob earned %s", fee)
			}
		})
	}
}

// carolPays pays until it is known how that ended. Nothing was tried while she knew no way.
func (s *scene) carolPays(ctx context.Context, invoice, key string) *chandv1.Payment {
	for try := 0; ; try++ {
		p, err := s.carol.Payments.Pay(ctx, &chandv1.PayRequest{Invoice: invoice, IdempotencyKey: fmt.Sprint(key, try)})
		switch {
		case err != nil || ctx.Err() != nil:
			return nil
		case p.State == "failed" && slices.Contains(passing, p.Failure.GetRule()):
			continue
		case p.State != "pending":
			return p
		}
	}
}

// jammers: Mallory sends as many locks as she may through bob to another Mallory, who never answers. Both know what opens them; they want
// bob's money to be stuck. It costs them the reservation fee, honest payments go on, and all comes back.
func jammers(s *scene) {
	m, mute := s.mallory("mallory"), s.mallory("mute")
	up := s.opens(m, s.bob, 100*c, 10*c)
	down := s.opens(mute, s.bob, 10*c, 80*c)
	p, q := s.seizes(m, up), s.seizes(mute, down)
	bobKey := s.invoice(s.bob, c).OnionKey
	before, downBefore := s.mine(s.bob, up), s.mine(s.bob, down)
	const amount, reserve = 5 * c, 5 * c / 1000
	head, _ := s.follower.Head()
	out := stageTiming.MinExpiry(head.Height) + 15
	var ops []wire.Op
	for i := range stageLocks {
		hash := types.SHA256(fmt.Append(nil, "jam ", i))
		onion := s.onion(hash,
			htlc.OnionHop{Key: bobKey, Payload: htlc.Payload{Kind: htlc.Forward, Amount: amount, Expiry: out, Next: htlc.Short(down)}},
			htlc.OnionHop{Key: mute.OnionKey(), Payload: htlc.Payload{Kind: htlc.Invoice, Amount: amount, Expiry: out, Total: amount}})
		ops = append(ops, wire.AddLock{Amount: amount + c/1000, Reserve: reserve, Hash: hash, Expiry: out + types.Height(stageTiming.ForwardDelta()), Onion: onion})
	}
	s.must(s.inTurn(p, channel.ProposeAndYield{Ops: ops}))
	s.until("bob has passed all on", func() bool { return len(q.State().Current.Locks) == stageLocks })
	q.Silence()
	mute.Chain.Mute(mallory.Spends)
	n := *s.network
	n.t = s.t
	n.pay(s.carol, s.bob, "1")
	s.until("all locks came back", func() bool { return len(p.State().Current.Locks) == 0 })
	s.closed(s.bob, mute, down, downBefore)
	earned := s.mine(s.bob, up) - before
	s.t.Logf("bob earned %s for %d locks that were never settled", earned, stageLocks)
	if earned != stageLocks*reserve {
		s.t.Errorf("bob earned %s, want %s", earned, stageLocks*reserve)
	}
}
