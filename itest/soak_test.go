package itest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/eschaton-network/chand/internal/devnet"
	chandv1 "github.com/eschaton-network/chand/rpc/gen/chand/v1"
	"github.com/eschaton-network/chand/rpc/gen/chand/v1/chandv1connect"
	"github.com/eschaton-network/chand/types"
)

// soakPayments are paid when CHAND_SOAK does not say another number: enough that each daemon dies in the middle of the work.
const soakPayments = 4000

// soakKills is how many times daemons are killed within soakPayments, and then in every further ten thousand.
const soakKills = 6

// TestSoak pays all around a ring of five daemons with a double edge, to the neighbour and over a hop, while daemons die of kill -9 at
// random. In the end the books agree to the unit, and whatever was acknowledged is at both ends.
func TestSoak(t *testing.T) {
	total, err := strconv.Atoi(cmp.Or(os.Getenv("CHAND_SOAK"), fmt.Sprint(soakPayments)))
	if err != nil {
		t.Fatal(err)
	}
	os.Unsetenv("CHAND_SOAK")                                                                           // daemons take no unknown setting
	n := newNetwork(t, "--log-level", "info", "--history-payments", "10000000", "--route-reserve", "0") // what failed payments leave with hops is no part of any payment's record
	names := []string{"alice", "bob", "carol", "dave", "erin"}
	s := &soak{network: n, nodes: n.joined(names...), down: make([]sync.RWMutex, len(names))}
	for _, d := range s.nodes {
		s.ids = append(s.ids, must(d.Peers.Self(n.ctx(), &chandv1.SelfRequest{})).Id)
	}
	for i := range s.nodes {
		s.link(i, (i+1)%len(s.nodes))
	}
	s.link(0, 1)
	for i, d := range s.nodes { // the routes are known from here on
		n.pay(d, s.nodes[(i+1)%len(s.nodes)], "1")
		n.pay(d, s.nodes[(i+2)%len(s.nodes)], "1")
	}
	s.settle()
	before, paidBefore := s.balances(), s.records()

	seed := uint64(time.Now().UnixNano())
	t.Logf("seed of the kills: %d", seed)
	start := time.Now()
	var payers sync.WaitGroup
	sent := make([]map[string]*chandv1.Payment, len(s.nodes))
	for i := range s.nodes {
		payers.Go(func() { sent[i] = s.payAll(i, total/len(s.nodes)) })
	}
	stop := make(chan struct{})
	killed := make(chan int, 1)
	go func() { killed <- s.killer(rand.New(rand.NewPCG(seed, 1)), total, stop) }()
	payers.Wait()
	close(stop)
	kills := <-killed
	took := time.Since(start)
	s.settle()
	s.compare(before, paidBefore, sent)
	t.Logf("%d payments in %s, %.0f a second, with %d kills; %d tries failed and were made again", total, took.Round(time.Millisecond), float64(total)/took.Seconds(), kills, s.failed.Load())
}

type soak struct {
	*network
	nodes []*devnet.Node
	down  []sync.RWMutex // of each daemon: held for writing while it is down
	ids   []string
	edges []edge
	// done counts acknowledged payments, failed those that were tried again.
	done, failed atomic.Int64
}

// edge is a channel between two daemons.
type edge struct {
	id   string
	a, b int
}

func (s *soak) link(a, b int) {
	s.t.Helper()
	s.edges = append(s.edges, edge{s.open(s.nodes[a], s.nodes[b], "300", "100"), a, b})
}

// settle waits until no lock is open, and both ends of every channel agree.
func (s *soak) settle() {
	s.t.Helper()
	s.until("everything is settled", func() bool {
		for _, e := range s.edges {
			a, b := s.channel(s.nodes[e.a], e.id), s.channel(s.nodes[e.b], e.id)
			if a.Locks+b.Locks != 0 || a.Mine != b.Theirs || a.Theirs != b.Mine || !a.PeerConnected || a.State != "open" {
				return false
			}
		}
		return true
	})
}

// balances are what each has in channels.
func (s *soak) balances() []types.Amount {
	list := make([]types.Amount, len(s.nodes))
	for _, e := range s.edges {
		list[e.a] += coins(s.channel(s.nodes[e.a], e.id).Mine)
		list[e.b] += coins(s.channel(s.nodes[e.b], e.id).Mine)
	}
	return list
}

// ledgerOf is what a daemon's own records say: the change of its balance, and the payments that it got.
type ledgerOf struct {
	change   types.Amount
	received map[types.Amount]int // how often each amount came: no two payments of the soak are of the same
}

func (s *soak) records() []ledgerOf {
	list := make([]ledgerOf, len(s.nodes))
	for i, d := range s.nodes {
		list[i].received = make(map[types.Amount]int)
		for page := ""; ; {
			r := must(d.Payments.List(s.ctx(), &chandv1.ListPaymentsRequest{Limit: 1000, PageToken: page}))
			for _, p := range r.Payments {
				list[i].book(s, d, p)
			}
			if page = r.NextPageToken; page == "" {
				break
			}
		}
	}
	return list
}

func (l *ledgerOf) book(s *soak, d *devnet.Node, p *chandv1.Payment) {
	switch {
	case p.State == "failed":
	case p.State != "succeeded":
		s.t.Errorf("%s has a payment that is %s: %s", d.Name, p.State, p.StateText)
	case p.Direction == "sent":
		l.change -= coins(p.Amount) + coins(p.Fee)
	case p.Direction == "received":
		l.received[coins(p.Amount)]++
		l.change += coins(p.Amount)
	case p.Direction == "forwarded":
		l.change += coins(p.Fee)
	}
}

// compare wants every channel's sum to be its capacity, every daemon's balance to have changed by what its own records say, and every
// acknowledged payment to be with its payee.
func (s *soak) compare(before []types.Amount, paidBefore []ledgerOf, sent []map[string]*chandv1.Payment) {
	s.t.Helper()
	after, records := s.balances(), s.records()
	var all, sum, fees types.Amount
	for i, d := range s.nodes {
		all += after[i]
		sum += before[i]
		want := before[i] + records[i].change - paidBefore[i].change
		s.t.Logf("%-6s before %-12s after %-12s by its own records %-12s received %d payments", d.Name, before[i], after[i], want, len(records[i].received))
		if after[i] != want {
			s.t.Errorf("%s has %s in channels, its records say %s", d.Name, after[i], want)
		}
	}
	if all != sum {
		s.t.Errorf("all daemons together have %s in channels, before it was %s", all, sum)
	}
	for i, list := range sent {
		for key, p := range list {
			fees += coins(p.Fee)
			to := s.payee(i, key)
			if got := records[to].received[coins(p.Amount)]; got != 1 {
				s.t.Errorf("%s was told that it has paid %s %s once, and it was %d times", s.nodes[i].Name, s.nodes[to].Name, p.Amount, got)
			}
		}
	}
	s.t.Logf("all together %s, fees of all payments %s", all, fees)
}

// payee of a payment: the next daemon, or the one after that.
func (s *soak) payee(from int, key string) int {
	var number int
	must(fmt.Sscanf(key, "soak %d", &number))
	return (from + 1 + number%2) % len(s.nodes)
}

// killer kills a daemon whenever so many more payments are done, and starts it again.
func (s *soak) killer(r *rand.Rand, total int, stop <-chan struct{}) (kills int) {
	every := int64(total / (soakKills + total/10_000*soakKills + 1))
	for next := every; ; {
		select {
		case <-stop:
			return kills
		case <-time.After(5 * time.Millisecond): // polls
		}
		if s.done.Load() < next {
			continue
		}
		i := r.IntN(len(s.nodes))
		s.down[i].Lock()
		if err := s.nodes[i].Kill(); err != nil {
			s.t.Error(err)
		}
		if err := s.nodes[i].Restart(s.t.Context()); err != nil {
			s.t.Error(err)
		}
		s.down[i].Unlock()
		kills++
		next = s.done.Load() + every
	}
}

// payAll makes so many payments as a careful client does: it asks with one key until the outcome is known, over daemons' deaths, and
// again with another key what is known to have failed.
func (s *soak) payAll(from, count int) map[string]*chandv1.Payment {
	open := make(map[uint64]string, count) // tag to key
	for i := range count {
		open[uint64(i)] = fmt.Sprintf("soak %d try 0", i)
	}
	paid := make(map[string]*chandv1.Payment, count)
	for len(open) > 0 && s.t.Context().Err() == nil {
		s.down[from].RLock()
		client := s.nodes[from].Client.Streams
		s.down[from].RUnlock()
		ctx, cancel := context.WithCancel(s.t.Context())
		_ = s.payOnce(ctx, client, from, open, paid) // it ends with the daemon; what is open is asked again
		cancel()
	}
	return paid
}

// soakWindow is how many payments of one daemon are under way.
const soakWindow = 50

// payOnce pays what is open over one call. An error means that the call broke: the daemon died, or has just started.
func (s *soak) payOnce(ctx context.Context, client chandv1connect.PaymentStreamsClient, from int, open map[uint64]string, paid map[string]*chandv1.Payment) error {
	call, err := client.PayMany(ctx)
	if err != nil {
		return err
	}
	var waiting []uint64 // in this call's order
	for tag := range open {
		waiting = append(waiting, tag)
	}
	slices.Sort(waiting)
	send := func(count int) error {
		m := &chandv1.PayManyRequest{}
		for ; count > 0 && len(waiting) > 0; count, waiting = count-1, waiting[1:] {
			m.Payments = append(m.Payments, &chandv1.TaggedPayment{Tag: waiting[0], Pay: s.request(from, open[waiting[0]])})
		}
		if len(m.Payments) == 0 {
			return nil
		}
		return call.Send(m)
	}
	if err := send(soakWindow); err != nil {
		return err
	}
	for len(open) > 0 {
		answer, err := call.Receive()
		if err != nil {
			return err
		}
		for _, o := range answer.Outcomes {
			s.outcome(from, o, open, paid)
			if _, again := open[o.Tag]; again {
				waiting = append(waiting, o.Tag)
			}
		}
		if err := send(len(answer.Outcomes)); err != nil {
			return err
		}
	}
	return errors.Join(call.CloseRequest(), call.CloseResponse())
}

// outcome books an answer. What has failed, and nothing else, is asked for anew.
func (s *soak) outcome(from int, o *chandv1.PaymentOutcome, open map[uint64]string, paid map[string]*chandv1.Payment) {
	key := open[o.Tag]
	switch p := o.Payment; {
	case p != nil && p.State == "succeeded":
		if paid[key] != nil {
			s.t.Errorf("%s was told twice of %q", s.nodes[from].Name, key)
		}
		paid[key] = p
		delete(open, o.Tag)
		s.done.Add(1)
	case p != nil && p.State == "failed":
		var number, try int
		must(fmt.Sscanf(key, "soak %d try %d", &number, &try))
		open[o.Tag] = fmt.Sprintf("soak %d try %d", number, try+1)
		s.failed.Add(1)
	}
}

func (s *soak) request(from int, key string) *chandv1.PayRequest {
	var number int
	must(fmt.Sscanf(key, "soak %d", &number))
	amount := types.Coin/1000 + types.Amount(number*len(s.nodes)+from)
	return &chandv1.PayRequest{To: s.ids[s.payee(from, key)], Amount: amount.String(), IdempotencyKey: key}
}
