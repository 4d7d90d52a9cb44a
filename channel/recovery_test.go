package channel_test

import (
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/eschaton-network/chand/channel"
	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/wire"
)

// TestRecovery: two honest sides whose links break at any message, whose messages are lost or come twice, whose processes crash at
// any point and are restored from backups of any age. Whatever happened, on the next link both are ready, agree on the state,
// and payments flow again; no acknowledged payment is lost unless a backup was restored.
func TestRecovery(t *testing.T) {
	for seed := range uint64(80) {
		r := newRecovery(t, seed)
		for range 120 {
			r.event()
		}
		r.reconcile()
		if !r.restored {
			for _, p := range []*party{r.a, r.b} {
				if want := r.start[p] + r.received[p] - r.received[p.peer]; p.s.Mine() != want {
					t.Fatalf("history %d: %s has %s, payments that were received give %s", seed, p.name, p.s.Mine(), want)
				}
			}
		}
	}
}

type recovery struct {
	t        *testing.T
	seed     uint64
	rng      *rand.Rand
	a, b     *party
	backups  map[*party][]backup
	received map[*party]types.Amount
	start    map[*party]types.Amount
	restored bool
}

type backup struct {
	state  []byte
	outbox map[uint32][]byte
}

func newRecovery(t *testing.T, seed uint64) *recovery {
	w := newWorld(t)
	r := &recovery{t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 5)), a: w.party("alice", 100*types.Coin), b: w.party("bob", 100*types.Coin),
		backups: map[*party][]backup{}, received: map[*party]types.Amount{}}
	ready(r.a, r.b, 60*types.Coin, 40*types.Coin, wire.Rules{})
	if seed%4 >= 2 { // every few updates a new epoch begins, as long as the clock allows it
		r.a.renewAt, r.b.renewAt = 5, 7
	}
	r.start = map[*party]types.Amount{r.a: 60 * types.Coin, r.b: 40 * types.Coin}
	for _, p := range []*party{r.a, r.b} {
		p.onNote = func(n channel.Notice) {
			switch n := n.(type) {
			case channel.Received:
				r.received[p] += n.Pay.Amount
			case channel.Failed:
				t.Fatalf("history %d: %s: %s", seed, p.name, n.Text)
			}
		}
	}
	return r
}

func (r *recovery) try(err error) {
	for _, ok := range []error{nil, channel.ErrIgnored, channel.ErrNotMyTurn, channel.ErrOffline, channel.ErrRefused, channel.ErrWindow} {
		if errors.Is(err, ok) {
			return
		}
	}
	r.t.Fatalf("history %d: %v", r.seed, err)
}

func (r *recovery) event() {
	p := []*party{r.a, r.b}[r.rng.IntN(2)]
	op := wire.Pay{Amount: types.Amount(r.rng.IntN(1000) + 1)}
	switch x := r.rng.IntN(100); {
	case x < 45:
		p.deliver()
	case x < 60:
		r.try(p.step(channel.Propose{Ops: []wire.Op{op}}))
	case x < 70:
		r.try(p.step(channel.ProposeAndYield{Ops: []wire.Op{op}}))
	case x < 75:
		r.try(p.step(channel.GiveTurn{}))
	case x < 80 && len(p.inbox) > 0: // comes twice
		p.inbox = append([][]byte{p.inbox[0]}, p.inbox...)
	case x < 86:
		cut(r.a, r.b)
	case x < 92:
		cut(r.a, r.b)
		join(r.a, r.b)
	case x < 96:
		p.crash()
	case x < 97:
		copied := map[uint32][]byte{}
		for v, f := range p.outbox {
			copied[v] = f
		}
		r.backups[p] = append(r.backups[p], backup{p.disk, copied})
	case x < 98 && r.seed%2 == 1 && len(r.backups[p]) > 0:
		r.restored = true
		b := r.backups[p][r.rng.IntN(len(r.backups[p]))]
		p.disk, p.outbox = b.state, b.outbox
		p.crash()
		r.try(p.step(channel.Restore{}))
	}
}

// reconcile brings both together on a new link and wants everything to work again.
func (r *recovery) reconcile() {
	cut(r.a, r.b)
	join(r.a, r.b)
	deliverAll(r.a, r.b)
	if !r.a.s.Ready() || !r.b.s.Ready() || r.a.s.MyTurn() == r.b.s.MyTurn() || r.a.s.Current.Epoch != r.b.s.Current.Epoch ||
		r.a.s.Current.Number != r.b.s.Current.Number || r.a.s.Mine() != r.b.s.Theirs() {
		r.t.Fatalf("history %d: ready %v %v, turn %v %v, versions %d %d, %s against %s", r.seed, r.a.s.Ready(), r.b.s.Ready(), r.a.s.MyTurn(), r.b.s.MyTurn(),
			r.a.s.Current.Number, r.b.s.Current.Number, r.a.s.Mine(), r.b.s.Theirs())
	}
	for _, p := range []*party{r.a, r.b} {
		if err := p.s.Check(); err != nil {
			r.t.Fatalf("history %d: %v", r.seed, err)
		}
	}
	holder := r.a
	if r.b.s.MyTurn() {
		holder = r.b
	}
	if err := holder.step(channel.ProposeAndYield{Ops: []wire.Op{wire.Pay{Amount: 5}}}); err != nil {
		r.t.Fatalf("history %d: %v", r.seed, err)
	}
	deliverAll(r.a, r.b)
	if r.a.s.Unacked() != 0 || r.b.s.Unacked() != 0 {
		r.t.Fatalf("history %d: not acknowledged", r.seed)
	}
}
