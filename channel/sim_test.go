package channel_test

import (
	"errors"
	"flag"
	"math/rand/v2"
	"testing"

	"github.com/eschaton-network/chand/channel"
	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/wire"
)

var histories = flag.Int("histories", 15, "number of random histories of TestColluders")

// TestColluders plays real automata on the real ledger rules: honest Bob forwards locks from Alice to Carol over two channels.
// Alice and Carol collude: they withhold turns, preimages and messages, publish any version that they ever held, claim or
// reclaim late or not at all, and the chain delays whatever Bob submits by up to the worst inclusion time. Bob's process crashes and
// sleeps as long as it may. When all is settled Bob owns what he started with, and every payment that he acknowledged.
func TestColluders(t *testing.T) {
	for seed := range *histories {
		if !newSim(t, uint64(seed)).run() {
			t.Fatalf("history %d", seed)
		}
	}
}

type path struct {
	up       uint64       // lock number; 0: none
	reserve  types.Amount // that came with it
	preimage types.Preimage
}

type sim struct {
	t    *testing.T
	w    *world
	rng  *rand.Rand
	a, c *party // the colluders
	u, d *party // Bob's side of the channels towards Alice and Carol

	paths map[types.Hash]*path
	wants map[*party][][]wire.Op // each is one update
	due   types.Amount           // what Bob may count on at least: start, less his own payments, plus those he received
	made  int
	wake  types.Height
	mood  float64        // how readily the colluders resolve payments
	seen  map[string]int // what the histories covered
}

func newSim(t *testing.T, seed uint64) *sim {
	s := &sim{t: t, w: newWorld(t), rng: rand.New(rand.NewPCG(seed, 7)), paths: map[types.Hash]*path{}, wants: map[*party][][]wire.Op{}, seen: map[string]int{}}
	s.a, s.u = s.w.party("alice", 100*types.Coin), s.w.party("bob up", 100*types.Coin)
	s.d, s.c = s.w.party("bob down", 100*types.Coin), s.w.party("carol", 100*types.Coin)
	s.due = s.w.balance(s.u.account) + s.w.balance(s.d.account)
	ready(s.a, s.u, 60*types.Coin, 40*types.Coin, wire.Rules{})
	ready(s.d, s.c, 60*types.Coin, 40*types.Coin, wire.Rules{})
	for s.u.height != s.w.ledger.Height() || s.a.height != s.w.ledger.Height() {
		s.w.mine(s.a, s.u)
	}
	s.c.height, s.d.height = s.u.height, s.u.height
	s.w.delay = func(*party) types.Height { return types.Height(s.rng.IntN(int(testTiming.Inclusion))) }
	s.u.onNote, s.d.onNote = s.upNote, s.downNote
	return s
}

func (s *sim) chance(p float64) bool { return s.rng.Float64() < p }

// bobAwake: both of Bob's channels live in one process.
func (s *sim) bobAwake() bool { return !s.u.asleep }

// upNote is what a forwarding daemon does about the channel towards the payer.
func (s *sim) upNote(n channel.Notice) {
	switch n := n.(type) {
	case channel.Received:
		s.due += n.Pay.Amount
	case channel.Streamed:
		s.due += sumOf(n.Amounts)
	case channel.LockAdded:
		p := s.paths[n.Lock.Hash]
		down := n.Lock.Expiry - types.Height(testTiming.ForwardDelta())
		s.due += n.Reserve
		op := wire.AddLock{Amount: n.Lock.Amount, Reserve: n.Reserve / 2, Hash: n.Lock.Hash, Expiry: down}
		if int64(n.Lock.Expiry) < int64(testTiming.ForwardDelta()) || down < testTiming.MinExpiry(s.u.height) || !s.u.s.Ready() || !s.d.s.Ready() ||
			s.d.s.CanSend() < op.Amount+op.Reserve || p.up != 0 {
			s.decline(n.Lock.ID, n.Lock.Hash, n.Reserve)
			return
		}
		p.up, p.reserve = n.Lock.ID, n.Reserve
		s.want(s.d, op)
	case channel.Resynced:
		s.t.Fatalf("nobody lost data")
	}
}

func sumOf(amounts []types.Amount) (sum types.Amount) {
	for _, a := range amounts {
		sum += a
	}
	return sum
}

func (s *sim) downNote(n channel.Notice) {
	switch n := n.(type) {
	case channel.Received:
		s.due += n.Pay.Amount
	case channel.Streamed:
		s.due += sumOf(n.Amounts)
	case channel.PreimageKnown:
		s.seen["preimage in phase "+s.d.s.Phase.String()]++
		s.must(s.u.step(channel.Reveal{Preimages: []types.Preimage{n.Lock.Preimage}}))
	case channel.LockReturned:
		if n.Lock.Funder == s.d.s.Side && n.Lock.Preimage.IsZero() {
			s.want(s.u, wire.GiveBack{ID: s.paths[n.Lock.Hash].up})
		}
	}
}

func (s *sim) want(p *party, ops ...wire.Op) { s.wants[p] = append(s.wants[p], ops) }

// decline gives a lock back that was not forwarded, and its reservation fee with it.
func (s *sim) decline(id uint64, hash types.Hash, reserve types.Amount) {
	ops := []wire.Op{wire.GiveBack{ID: id}}
	if reserve > 0 {
		ops = append(ops, wire.Pay{Amount: reserve, Hash: hash, Refund: true})
	}
	s.want(s.u, ops...)
}

// must passes over refusals that the state of the channel explains; the simulation is about money, not commands.
func (s *sim) must(err error) {
	for _, ok := range []error{nil, channel.ErrIgnored, channel.ErrPhase, channel.ErrNotMyTurn, channel.ErrOffline, channel.ErrRefused, channel.ErrWindow} {
		if errors.Is(err, ok) {
			return
		}
	}
	s.t.Fatalf("step: %v", err)
}

// bob serves his wants: settle what can be, give back, forward; asks for the turn where he needs it.
func (s *sim) bob() {
	for _, p := range []*party{s.u, s.d} {
		if !p.s.Ready() {
			continue
		}
		updates := s.wants[p]
		if ops := p.s.Settleable(); len(ops) > 0 {
			updates = append(updates, ops)
		}
		if len(updates) == 0 {
			if p.s.MyTurn() && s.chance(.5) {
				s.must(p.step(channel.GiveTurn{}))
			}
			continue
		}
		if !p.s.MyTurn() {
			s.must(p.step(channel.RequestTurn{}))
			continue
		}
		s.wants[p] = nil
		for _, ops := range updates {
			s.bobProposes(p, ops)
		}
	}
}

func (s *sim) bobProposes(p *party, ops []wire.Op) {
	err := p.step(channel.Propose{Ops: ops})
	s.must(err)
	for _, op := range ops {
		switch o := op.(type) {
		case wire.AddLock:
			if err != nil {
				s.decline(s.paths[o.Hash].up, o.Hash, s.paths[o.Hash].reserve)
				continue
			}
			s.due -= o.Reserve
		case wire.Pay:
			if err == nil {
				s.due -= o.Amount
			}
		}
	}
}

// cheats is one round of mischief.
func (s *sim) cheats() {
	a, c := s.a, s.c
	s.must(a.step(channel.RequestTurn{}))
	s.must(c.step(channel.RequestTurn{}))
	if s.chance(.4) { // a lock for Carol, over Bob
		s.made++
		p := types.Preimage(types.SHA256([]byte{byte(s.made), byte(s.made >> 8)}))
		expiry := a.height + types.Height(s.rng.IntN(30)) + types.Height(testTiming.ForwardDelta()+16)
		err := a.step(channel.Propose{Ops: []wire.Op{wire.AddLock{Amount: types.Amount(s.rng.IntN(12)+1) * types.Coin, Reserve: types.Amount(s.rng.IntN(3)) * types.Coin / 4,
			Hash: p.Hash(), Expiry: expiry}}})
		s.must(err)
		s.paths[p.Hash()] = &path{preimage: p}
	}
	for _, l := range c.s.Current.Locks {
		switch r := s.rng.Float64(); {
		case l.Funder == c.s.Side:
		case r < .15*s.mood:
			s.must(c.step(channel.Reveal{Preimages: []types.Preimage{s.paths[l.Hash].preimage}}))
		case r < .25*s.mood:
			s.must(c.step(channel.Propose{Ops: []wire.Op{wire.GiveBack{ID: l.ID}}}))
		}
	}
	if s.chance(.5*s.mood) && len(a.s.Settleable()) > 0 {
		s.must(a.step(channel.Propose{Ops: a.s.Settleable()}))
	}
	for _, p := range []*party{a, c} {
		if s.chance(.2) {
			s.must(p.step(channel.Propose{Ops: []wire.Op{wire.Pay{Amount: types.Coin / 2}}}))
		}
		if s.chance(.2) { // any numbers
			s.must(p.step(channel.Propose{Ops: []wire.Op{wire.PayStream{First: uint64(1 + s.rng.IntN(9)), Amounts: []types.Amount{types.Coin / 8, types.Coin / 16}}}}))
		}
		if s.chance(.5) {
			s.must(p.step(channel.GiveTurn{}))
		}
		if s.chance(.006) {
			p.publish(p.history[s.rng.IntN(len(p.history))])
		}
		if p.s.Phase == channel.PhasePosted && s.chance(.2) {
			p.publish(p.history[s.rng.IntN(len(p.history))])
		}
	}
	s.carolClaims()
}

// carolClaims on chain at a moment of her choice, mostly the last one.
func (s *sim) carolClaims() {
	if s.c.s.Phase != channel.PhaseSettled {
		return
	}
	for _, o := range s.c.s.Outputs {
		if o.Lock.Funder != s.c.s.Side && (s.chance(.02) || s.c.height+2 >= o.Lock.Expiry && s.chance(.6)) {
			s.must(s.c.step(channel.Reveal{Preimages: []types.Preimage{s.paths[o.Lock.Hash].preimage}}))
		}
	}
}

// links delivers, loses and breaks.
func (s *sim) links() {
	for _, l := range [][2]*party{{s.a, s.u}, {s.d, s.c}} {
		for range s.rng.IntN(8) {
			l[s.rng.IntN(2)].deliverIfAwake()
		}
		switch {
		case s.chance(.03):
			cut(l[0], l[1])
		case !l[0].linked && s.bobAwake() && s.chance(.5):
			join(l[0], l[1])
		}
	}
}

func (p *party) deliverIfAwake() {
	if !p.asleep {
		p.deliver()
	}
}

// bobSleeps: a crash, up or down for at most the time that a daemon may be.
func (s *sim) bobSleeps() {
	switch {
	case s.bobAwake() && s.w.ledger.Height() > s.wake+testTiming0() && s.chance(.03):
		s.u.crash()
		s.d.crash()
		s.u.asleep, s.d.asleep = true, true
		s.wake = s.w.ledger.Height() + types.Height(s.rng.IntN(int(testTiming.Downtime)+1))
	case !s.bobAwake() && s.w.ledger.Height() >= s.wake:
		s.u.asleep, s.d.asleep = false, false
		s.u.catchUp()
		s.d.catchUp()
	}
}

// testTiming0 is the time between two failures that the rules cover.
func testTiming0() types.Height { return types.Height(testTiming.Window + testTiming.Inclusion) }

func (s *sim) run() bool {
	end := s.w.ledger.Height() + types.Height(50+s.rng.IntN(60))
	s.mood = []float64{0, .05, .3, 1}[s.rng.IntN(4)]
	for s.w.ledger.Height() < end+150 {
		s.bobSleeps()
		for range 2 {
			if s.bobAwake() {
				s.bob()
			}
			s.links()
			if s.w.ledger.Height() < end {
				s.cheats()
			} else {
				s.carolClaims()
			}
		}
		if s.w.ledger.Height() > end && s.bobAwake() {
			s.must(s.u.step(channel.ForceClose{}))
			s.must(s.d.step(channel.ForceClose{}))
		}
		s.w.mine(s.a, s.u, s.d, s.c)
		if s.u.s.Phase == channel.PhaseClosed && s.d.s.Phase == channel.PhaseClosed && s.w.ledger.Height() > end {
			break
		}
	}
	have := s.w.balance(s.u.account) + s.w.balance(s.d.account)
	if s.u.s.Phase != channel.PhaseClosed || s.d.s.Phase != channel.PhaseClosed || have < s.due {
		s.t.Errorf("phases %s, %s; Bob has %s and must have at least %s", s.u.s.Phase, s.d.s.Phase, have, s.due)
		return false
	}
	return true
}
