package chand

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/eschaton-network/chand/types"
)

// fault makes the n-th effect (commit, send or submission) of one daemon fail, one of two ways: it did not happen, or it
// happened and was reported as failed.
type fault struct {
	mu       sync.Mutex
	armed    bool
	n, at    int
	happened bool   // whether the failing effect takes place
	hit      string // what failed
	dead     bool   // after a failed commit nothing is durable any more
}

var errFault = errors.New("fault on purpose")

// effect runs do, or fails.
func (f *fault) effect(what string, do func() error) error {
	f.mu.Lock()
	if f.armed {
		f.n++
	}
	strike := f.armed && f.n == f.at
	if strike {
		f.hit = what
		f.dead = what == "commit"
	}
	dead := f.dead && !strike && what == "commit"
	f.mu.Unlock()
	switch {
	case dead:
		return errFault
	case strike && f.happened:
		return errors.Join(do(), errFault)
	case strike:
		return errFault
	}
	return do()
}

type faultyStore struct {
	Store
	f *fault
}

func (s faultyStore) Commit(ctx context.Context, w ...types.Write) error {
	return s.f.effect("commit", func() error { return s.Store.Commit(ctx, w...) })
}

type faultyTransport struct {
	Transport
	f *fault
}

func (s faultyTransport) Send(peer types.NodeID, frame []byte) error {
	return s.f.effect("send", func() error { return s.Transport.Send(peer, frame) })
}

type faultyChain struct {
	Chain
	f *fault
}

func (s faultyChain) Submit(ctx context.Context, tx []byte) error {
	return s.f.effect("submit", func() error { return s.Chain.Submit(ctx, tx) })
}

func (f *fault) wrap(d *Deps) {
	d.Store, d.Transport, d.Chain = faultyStore{d.Store, f}, faultyTransport{d.Transport, f}, faultyChain{d.Chain, f}
}

// arm counts from now on.
func (f *fault) arm(on bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.armed = on
}

// heal is what a restart does: the next process can write again.
func (f *fault) heal() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.armed, f.dead = false, false
}

// forEachFault runs one scenario again and again, each time with another effect of the victim failing, until there is no further
// effect. It reports how many there were.
func forEachFault(t *testing.T, victim string, scenario func(t *testing.T, f *fault)) {
	step := 1
	if testing.Short() { // under the race detector, which makes each ten times as long
		step = 5
	}
	for _, happened := range []bool{false, true} {
		at := 1
		for ; ; at += step {
			f := &fault{at: at, happened: happened}
			ok := t.Run(fmt.Sprintf("%s/%d/happened=%v", victim, at, happened), func(t *testing.T) {
				scenario(t, f)
				if t.Failed() {
					t.Logf("the effect was a %s", f.hit)
				}
			})
			if !ok {
				return
			}
			if f.hit == "" {
				break
			}
		}
		if at < 3 {
			t.Errorf("%s: only %d effects: the scenario does not reach the victim", victim, at-1)
		}
	}
}

// revive restarts the victim from its store, as after kill -9.
func (n *node) revive(f *fault) {
	n.crash()
	f.heal()
	n.start()
}

// TestFaultsOfPayments fails every commit and every send of a payment, direct and over two hops, at each daemon on the way, both
// ways, restarts that daemon, and wants: the payer's word and the payee's agree, an acknowledged payment is never lost, nothing
// is paid twice, every coin is where both ends of each channel say.
func TestFaultsOfPayments(t *testing.T) {
	const amount = 3 * types.Coin
	for _, line := range [][]string{{"alice", "bob"}, {"alice", "bob", "carol"}} {
		for _, victim := range line {
			forEachFault(t, victim, func(t *testing.T, f *fault) {
				inWorld(t, line, func(w *world) {
					payer, payee, bad := w.nodes[line[0]], w.nodes[line[len(line)-1]], w.nodes[victim]
					bad.stop()
					bad.wrap = f.wrap
					bad.start()
					var ids []types.ChannelID
					for i := range len(line) - 1 {
						ids = append(ids, w.open(line[i], line[i+1], 100*types.Coin, 50*types.Coin))
					}
					for _, name := range line {
						w.nodes[name].known(len(ids))
					}
					inv, err := payee.CreateInvoice(w.ctx, InvoiceRequest{Amount: amount})
					if err != nil {
						t.Fatal(err)
					}
					f.arm(true)
					// Not longer than a daemon may be down: else locks are rightly taken to the ledger.
					ctx, cancel := context.WithTimeout(w.ctx, 3*time.Second)
					first, _ := payer.Pay(ctx, PayRequest{Invoice: inv.Text, Key: "one"})
					cancel()
					w.blocks(1) // what is still on its way
					bad.revive(f)
					w.settled(line, ids)
					w.until("an outcome", func() bool { p, err := payer.Payment(inv.Hash, ""); return err != nil || p.State != PaymentPending })
					now, err := payer.Payment(inv.Hash, "")
					paid, _ := payee.Invoice(inv.Hash)
					if first.State == PaymentSucceeded && now.State != PaymentSucceeded {
						t.Errorf("an acknowledged payment is lost: now %q, %v", now.State, err)
					}
					if (now.State == PaymentSucceeded) != (paid.State == InvoicePaid) {
						t.Errorf("the payer says %q, the payee %q", now.State, paid.State)
					}
					w.sums(line, ids, now, amount)
					// Again with the same key: the same outcome. With another key: paid once in all.
					if now.State != "" {
						again, err := payer.Pay(w.ctx, PayRequest{Invoice: inv.Text, Key: "one"})
						if err != nil || again.State != now.State {
							t.Errorf("the same key: %q, %v; it was %q", again.State, err, now.State)
						}
					}
					second, err := payer.Pay(w.ctx, PayRequest{Invoice: inv.Text, Key: "two"})
					if err != nil || second.State != PaymentSucceeded {
						t.Errorf("another key: %q, %v, %+v", second.State, err, second.Failure)
					}
					w.settled(line, ids)
					w.sums(line, ids, second, amount)
				})
			})
		}
	}
}

// settled waits until all links are up and no lock is open.
func (w *world) settled(line []string, ids []types.ChannelID) {
	w.t.Helper()
	w.until("everything settled", func() bool {
		for i, id := range ids {
			a, b := w.nodes[line[i]], w.nodes[line[i+1]]
			if !a.ready(id) || !b.ready(id) {
				return false
			}
			x, _ := a.Channel(id)
			y, _ := b.Channel(id)
			if x.Locks != 0 || y.Locks != 0 || x.Version != y.Version {
				return false
			}
		}
		return true
	})
}

// sums wants both ends of every channel to agree, and each node to hold what the payment says.
func (w *world) sums(line []string, ids []types.ChannelID, p Payment, amount types.Amount) {
	w.t.Helper()
	moved := types.Amount(0)
	if p.State == PaymentSucceeded {
		moved = amount + p.Fee
	}
	moved += p.Reserve // whatever became of it
	for i, id := range ids {
		a, b := w.nodes[line[i]].mine(id), w.nodes[line[i+1]].mine(id)
		if a+b != 150*types.Coin {
			w.t.Errorf("channel %d: %s and %s do not add up", i, a, b)
		}
		if i == 0 && a != 100*types.Coin-moved {
			w.t.Errorf("the payer holds %s after a payment %q of %s", a, p.State, moved)
		}
		if got := b - 50*types.Coin; i == len(ids)-1 && p.State == PaymentSucceeded && got != amount {
			w.t.Errorf("the payee got %s, want %s once", got, amount)
		}
	}
}

// TestFaultsOfLedgerSend does the same for a transaction of the ledger account.
func TestFaultsOfLedgerSend(t *testing.T) {
	forEachFault(t, "alice", func(t *testing.T, f *fault) {
		inWorld(t, []string{"alice", "bob"}, func(w *world) {
			alice, bob := w.nodes["alice"], w.nodes["bob"]
			alice.stop()
			alice.wrap = f.wrap
			alice.start()
			before := bob.balance()
			f.arm(true)
			ctx, cancel := w.timeout()
			first, err := alice.Send(ctx, bob.account, types.Coin, types.Hash{}, "one")
			cancel()
			alice.revive(f)
			again, err2 := alice.Send(w.ctx, bob.account, types.Coin, types.Hash{}, "one")
			if err2 != nil || again.State != TxConfirmed {
				t.Errorf("again: %+v, %v (first: %+v, %v)", again, err2, first, err)
			}
			if got := bob.balance() - before; got != types.Coin {
				t.Errorf("bob got %s, want 1 once", got)
			}
		})
	})
}

// TestFaultsOfAChannelsLife fails every effect, submissions too, of an opening, an escrow that is released and one that is refunded, and
// an agreed close. Whatever is interrupted can be done again, and no coin is lost but ledger fees.
func TestFaultsOfAChannelsLife(t *testing.T) {
	line := []string{"alice", "bob"}
	for _, victim := range line {
		forEachFault(t, victim, func(t *testing.T, f *fault) {
			inWorld(t, line, func(w *world) {
				alice, bob, bad := w.nodes["alice"], w.nodes["bob"], w.nodes[victim]
				bad.stop()
				bad.wrap = f.wrap
				bad.start()
				struck := func() bool {
					f.mu.Lock()
					defer f.mu.Unlock()
					return f.hit != "" && f.armed
				}
				// mend restarts the victim if its effect has failed meanwhile.
				mend := func() {
					w.blocks(1)
					if struck() {
						bad.revive(f)
						w.blocks(3)
					}
				}
				sum := alice.balance() + bob.balance()
				f.arm(true)
				var id types.ChannelID
				w.until("a channel", func() bool {
					for _, c := range must(alice.Channels(false)) {
						if c.State == ChannelOpen && bob.state(c.ID) == ChannelOpen && alice.ready(c.ID) && bob.ready(c.ID) {
							id = c.ID
							return true
						}
					}
					ctx, cancel := context.WithTimeout(w.ctx, 3*time.Second)
					defer cancel()
					if alice.Connect(ctx, bob.ID(), "memory") == nil && len(must(alice.Channels(false))) == 0 {
						alice.Open(ctx, OpenRequest{Peer: bob.ID(), Mine: 100 * types.Coin, Theirs: 50 * types.Coin, Key: fmt.Sprint(w.chain.Height())})
					}
					mend()
					return false
				})
				for _, release := range []bool{true, false} {
					ask := EscrowRequest{To: bob.ID(), Amount: 10 * types.Coin, Lifetime: 60, Key: fmt.Sprint(release)}
					w.until("an escrow", func() bool {
						ctx, cancel := context.WithTimeout(w.ctx, 3*time.Second)
						defer cancel()
						e, err := alice.OpenEscrow(ctx, ask)
						if err == nil && e.final() {
							return true
						}
						if err == nil && release {
							alice.ReleaseEscrow(ctx, e.ID)
						} else if err == nil {
							bob.RefundEscrow(ctx, e.ID)
						}
						mend()
						return false
					})
				}
				w.settled(line, []types.ChannelID{id})
				if a, b := alice.mine(id), bob.mine(id); a != 90*types.Coin || b != 60*types.Coin {
					t.Errorf("after the escrows alice holds %s and bob %s, want 90 and 60", a, b)
				}
				w.until("closed", func() bool {
					ctx, cancel := context.WithTimeout(w.ctx, 3*time.Second)
					defer cancel()
					alice.Close(ctx, id, false)
					mend()
					return alice.over(id) && bob.over(id)
				})
				if struck() { // in the very last moment
					bad.revive(f)
				}
				f.arm(false)
				w.blocks(2)
				if fees := sum - alice.balance() - bob.balance(); fees < 0 || fees > types.Coin/2 {
					t.Errorf("the accounts hold %s less than before", fees)
				}
			})
		})
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// deafGossip cannot join a topic.
type deafGossip struct{ Gossip }

func (deafGossip) Join(string, func(types.NodeID, []byte) types.Verdict, func(types.NodeID, []byte)) error {
	return errFault
}

// A daemon that can't start lets go of the links that came up while it tried, and of commands that wait for the start.
func TestFailedStartEnds(t *testing.T) {
	inWorld(t, []string{"alice", "bob"}, func(w *world) {
		bob := w.nodes["bob"]
		bob.stop()
		pipe := w.pipes.Node(bob.seed.NodeID())
		d, err := New(bob.cfg, Deps{Store: bob.store, Chain: bob.view, Transport: pipe, Gossip: deafGossip{}, Directory: bob.dir, Log: logger(),
			Clock: time.Now, Entropy: bytes.NewReader(make([]byte, 1<<10))})
		if err != nil {
			t.Fatal(err)
		}
		if err := w.nodes["alice"].Connect(w.ctx, bob.seed.NodeID(), "memory"); err != nil {
			t.Fatal(err)
		}
		if err := d.Run(w.ctx); !errors.Is(err, errFault) {
			t.Errorf("ended with %v", err)
		}
		d.Stop()
		if err := pipe.Close(); err != nil {
			t.Error(err)
		}
	})
}
