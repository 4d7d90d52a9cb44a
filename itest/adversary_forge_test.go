package itest

import (
	"errors"

	"github.com/eschaton-network/chand/channel"
	"github.com/eschaton-network/chand/itest/mallory"
	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/wire"
)

// forgery is what Mallory says, in her turn, over a channel in which she and bob have 20 coins each.
type forgery struct {
	name string
	say  func(p *mallory.Puppet) error
	// breaks tells whether bob must close the channel for it. Else it stays open and as it was.
	breaks bool
}

// moved changes a version's balances.
func moved(toBob, toMallory types.Amount) func(v *channel.Version) {
	return func(v *channel.Version) { v.Balance[0] += toMallory; v.Balance[1] += toBob }
}

func forged(edit func(v *channel.Version), ops ...wire.Op) func(p *mallory.Puppet) error {
	return func(p *mallory.Puppet) error { return p.Forge(ops, p.Next(edit)) }
}

// said is a message without more.
func said(make func(s channel.State) wire.Message) func(p *mallory.Puppet) error {
	return func(p *mallory.Puppet) error {
		s := p.State()
		p.Silence()
		return p.Say(make(s))
	}
}

var someHash = types.SHA256([]byte("nobody knows what opens it"))

func addLock(amount types.Amount, expiry types.Height) wire.AddLock {
	return wire.AddLock{ID: 1, Amount: amount, Hash: someHash, Expiry: expiry}
}

// lockedOut is the version with that lock.
func lockedOut(amount types.Amount, expiry types.Height) func(v *channel.Version) {
	return func(v *channel.Version) {
		v.Balance[0] -= amount
		v.Locks = append(v.Locks, channel.Lock{ID: 1, Funder: channel.Opener, Amount: amount, Hash: someHash, Expiry: expiry})
	}
}

// manyLocks are one more than bob takes.
func manyLocks() func(p *mallory.Puppet) error {
	var ops []wire.Op
	for i := range stageLocks + 1 {
		l := addLock(types.Coin, 100_000)
		l.ID = uint64(i + 1)
		ops = append(ops, l)
	}
	return forged(func(v *channel.Version) {
		for i := range stageLocks + 1 {
			lockedOut(types.Coin, 100_000)(v)
			v.Locks[i].ID = uint64(i + 1)
		}
	}, ops...)
}

const c = types.Coin

var forgeryTable = []forgery{
	{"pays herself under an operation that pays bob", forged(moved(-5*c, 5*c), wire.Pay{Amount: c}), true},
	{"pays bob and signs nothing", said(func(s channel.State) wire.Message {
		return &wire.Update{ID: s.ID, Version: s.Current.Number + 1, Ops: []wire.Op{wire.Pay{Amount: c}}}
	}), true},
	{"pays bob less than she signs", forged(moved(2*c, -2*c), wire.Pay{Amount: c}), true},
	{"pays more than she has", forged(moved(21*c, -21*c), wire.Pay{Amount: 21 * c}), true},
	{"pays a negative amount", forged(moved(-c, c), wire.Pay{Amount: -c}), false}, // no message at all: the link is dropped
	{"overflows an amount", forged(nil, wire.Pay{Amount: types.MaxAmount}), true},
	{"overflows a sum", forged(nil, wire.Pay{Amount: types.MaxAmount}, wire.Pay{Amount: types.MaxAmount}), true},
	{"overflows a stream", forged(nil, wire.PayStream{First: 1, Amounts: []types.Amount{types.MaxAmount, types.MaxAmount, 1}}), false}, // nor this
	{"goes under the deposit", forged(moved(20*c-stageDeposit+1, -20*c+stageDeposit-1), wire.Pay{Amount: 20*c - stageDeposit + 1}), true},
	{"locks dust", forged(lockedOut(stageDust-1, 100_000), addLock(stageDust-1, 100_000)), true},
	{"locks until no height", forged(lockedOut(c, 1<<31), addLock(c, 1<<31)), true},
	{"leaves out a lock's number", forged(lockedOut(c, 100_000), wire.AddLock{ID: 2, Amount: c, Hash: someHash, Expiry: 100_000}), true},
	{"has too many locks", manyLocks(), true},
	{"settles a lock that is not there", forged(moved(c, -c), wire.Settle{ID: 1}), true},
	{"gives back a lock that is not there", forged(moved(c, -c), wire.GiveBack{ID: 1}), true},
	{"does nothing at a price", forged(moved(-c, c)), true},
	{"acknowledges what was never signed", said(func(s channel.State) wire.Message { return &wire.Ack{ID: s.ID, Version: s.Current.Number + 7} }), true},
	{"signs a close that nobody asked for", said(func(s channel.State) wire.Message { return &wire.CloseSign{ID: s.ID, Version: s.Current.Number} }), true},
	{"signs in bob's turn", func(p *mallory.Puppet) error {
		if err := p.Do(channel.GiveTurn{}); err != nil {
			return err
		}
		return p.Forge([]wire.Op{wire.Pay{Amount: c}}, p.Next(moved(c, -c)))
	}, true},
	{"contradicts herself about the state", func(p *mallory.Puppet) error {
		s := p.State()
		p.Silence()
		hello := &wire.Reestablish{ID: s.ID, Epoch: s.Current.Epoch, Version: s.Current.Number, Acked: s.Held.Number, Turn: s.Turn, StateHash: someHash}
		return errors.Join(p.Say(hello), p.Say(hello)) // bob answers the first by beginning again, and compares with the second
	}, true},
	{"claims that bob's newest version never was", said(func(s channel.State) wire.Message {
		return &wire.Resync{ID: s.ID, State: wire.VersionState{Epoch: s.Current.Epoch + 2, Version: 2, Balance: [2]types.Amount{40 * c, 0}}}
	}), true},
	{"offers a bet", func(p *mallory.Puppet) error { // there is no such message: the link is dropped
		const typeBet = 25
		return p.SayFrame(append([]byte{0, typeBet}, make([]byte, 100)...))
	}, false},
}

// forgeries are said over channels of one Mallory; those that end her link are said by others. What bob had stays bob's, to the unit.
func forgeries(s *scene) {
	one := s.mallory("mallory")
	s.together(s.t, func(run cast) {
		for _, f := range forgeryTable {
			run(f.name, func(s *scene) {
				m := one
				if !f.breaks {
					m = s.mallory("mallory")
				}
				s.forgery(m, f)
			})
		}
	})
}

func (s *scene) forgery(m *mallory.Daemon, f forgery) {
	id := s.opens(m, s.bob, 30*c, 10*c)
	p := s.seizes(m, id)
	s.must(p.Do(channel.Propose{Ops: []wire.Op{wire.Pay{Amount: 10 * c}}}))
	s.until("bob has what she paid", func() bool { st := p.State(); return st.Unacked() == 0 && s.mine(s.bob, id) == 20*c })
	const due = 20 * c
	links := m.Link.Links()
	s.must(f.say(p))
	if !f.breaks {
		s.until("bob has dropped her link", func() bool { return m.Link.Links() > links })
		if v := s.channel(s.bob, id); v.State != "open" || s.mine(s.bob, id) != due {
			s.t.Errorf("bob has %s in a channel that is %s: %s; want %s, and an open one", v.Mine, v.State, v.StateText, due)
		}
		s.force(s.bob, id)
	}
	if got := s.closed(s.bob, m, id, due); got != due {
		s.t.Errorf("bob got %s, want %s", got, due)
	}
}

// seizes takes a channel from Mallory's daemon, once nothing is under way on it.
func (s *scene) seizes(m *mallory.Daemon, id types.ChannelID) (p *mallory.Puppet) {
	s.t.Helper()
	s.until("nothing is under way", func() (ok bool) {
		var err error
		p, err = m.Seize(id)
		return err == nil
	})
	return p
}
