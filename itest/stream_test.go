package itest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/eschaton-network/chand/internal/devnet"
	chandv1 "github.com/eschaton-network/chand/rpc/gen/chand/v1"
	"github.com/eschaton-network/chand/types"
)

// TestKillNineInTheMiddleOfAStream kills payer and payee without warning while micropayments flow. The client goes on where the daemon says,
// everything that was said to be paid stays paid, and in the end each payment was made once.
func TestKillNineInTheMiddleOfAStream(t *testing.T) {
	n := newNetwork(t)
	d := n.joined("alice", "bob")
	alice, bob := d[0], d[1]
	ch := n.open(alice, bob, "600", "100")
	const payments, each = 200_000, "0.000001"
	before := coins(n.channel(bob, ch).Mine)
	var said uint64
	for lives := 0; said < payments; lives++ {
		var victim *devnet.Node
		if lives < 4 {
			victim = d[lives%2]
		}
		paid := n.streamUntil(alice, bob, each, payments, said+payments/6, victim)
		if paid < said {
			t.Fatalf("%d payments were said to be paid, now %d", said, paid)
		}
		said = paid
		if victim != nil && !victim.Running() {
			if err := victim.Restart(n.ctx()); err != nil {
				t.Fatal(err)
			}
		}
	}
	want := payments * must(types.ParseAmount(each))
	n.until("both ends agree", func() bool { return n.channel(alice, ch).Theirs == n.channel(bob, ch).Mine })
	if got := coins(n.channel(bob, ch).Mine) - before; got != want {
		t.Errorf("bob got %s, want %s", got, want)
	}
	for _, node := range d {
		list := must(node.Streams.List(n.ctx(), &chandv1.ListStreamsRequest{})).Streams
		if len(list) != 1 || list[0].Payments != payments || list[0].Last != payments || coins(list[0].Total) != want {
			t.Errorf("%s lists %v", node.Name, list)
		}
		if err := node.Stop(); err != nil {
			t.Error(err)
		}
	}
}

// streamUntil sends what is missing up to a number of payments and returns what was said to be paid last; the victim, if any, is killed
// when more than some are.
func (n *network) streamUntil(from, to *devnet.Node, each string, all, some uint64, victim *devnet.Node) (paid uint64) {
	ctx, cancel := context.WithTimeout(n.t.Context(), patience)
	defer cancel()
	self := patiently(n, to.Name+" answers", func() (*chandv1.SelfResponse, error) { return to.Peers.Self(ctx, &chandv1.SelfRequest{}) })
	for ctx.Err() == nil {
		s := must(from.Streams.Stream(ctx))
		answer, err := func() (*chandv1.StreamResponse, error) {
			if err := s.Send(&chandv1.StreamRequest{To: self.Id, IdempotencyKey: "film"}); err != nil && !errors.Is(err, io.EOF) {
				return nil, err
			}
			return s.Receive()
		}()
		if err != nil { // the link is not up again yet
			time.Sleep(50 * time.Millisecond) // a pause between tries, not a synchronisation
			continue
		}
		paid = answer.Paid
		go func() {
			for next := answer.Next; next <= all; {
				count := min(500, all+1-next)
				if s.Send(&chandv1.StreamRequest{First: next, Amounts: slices.Repeat([]string{each}, int(count))}) != nil {
					return // the daemon is gone
				}
				next += count
			}
			_ = s.CloseRequest()
		}()
		for {
			answer, err := s.Receive()
			if err != nil {
				return paid
			}
			paid = answer.Paid
			if paid > some && victim != nil && victim.Running() {
				if err := victim.Kill(); err != nil {
					n.t.Error(err)
				}
				if victim != from { // the stream waits for it
					if err := victim.Restart(n.ctx()); err != nil {
						n.t.Error(err)
					}
				}
			}
			if paid == all {
				return paid
			}
		}
	}
	return paid
}

// TestPayMany pays many invoices over one call, some of them bad: each gets its own outcome, and the call ends when all have one. A daemon that
// stops meanwhile ends the call at once.
func TestPayMany(t *testing.T) {
	n := newNetwork(t)
	d := n.joined("alice", "bob")
	alice, bob := d[0], d[1]
	ch := n.open(alice, bob, "600", "100")
	before := coins(n.channel(bob, ch).Mine)
	s := must(alice.Streams.PayMany(n.ctx()))
	const good, bad = 300, 7
	go func() {
		for i := range good + bad {
			m := &chandv1.TaggedPayment{Tag: uint64(i), Pay: &chandv1.PayRequest{Invoice: "nonsense"}}
			if i >= bad {
				m.Pay.Invoice = must(bob.Payments.CreateInvoice(t.Context(), &chandv1.CreateInvoiceRequest{Amount: "0.001", Memo: fmt.Sprint(i)})).Invoice
			}
			if i == 0 {
				m.Pay = nil
			}
			if err := s.Send(&chandv1.PayManyRequest{Payments: []*chandv1.TaggedPayment{m}}); err != nil {
				t.Error(err)
				return
			}
		}
		if err := s.CloseRequest(); err != nil {
			t.Error(err)
		}
	}()
	seen := map[uint64]bool{}
	for {
		m, err := s.Receive()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		for _, o := range m.Outcomes {
			if seen[o.Tag] {
				t.Errorf("two outcomes of %d", o.Tag)
			}
			seen[o.Tag] = true
			if o.Tag < bad && o.Error.GetCode() != "invalid_argument" || o.Tag >= bad && o.Payment.GetState() != "succeeded" {
				t.Errorf("%d: %v", o.Tag, o)
			}
		}
	}
	if len(seen) != good+bad {
		t.Errorf("%d outcomes, want %d", len(seen), good+bad)
	}
	if got := coins(n.channel(bob, ch).Mine) - before; got != good*types.Coin/1000 {
		t.Errorf("bob got %s", got)
	}
	open := must(alice.Streams.PayMany(n.ctx()))
	if err := open.Send(&chandv1.PayManyRequest{}); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if err := alice.Stop(); err != nil {
		t.Error(err)
	}
	if took := time.Since(start); took > patience/2 {
		t.Errorf("an open call held the daemon's end up for %s", took)
	}
}
