package channel

import (
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/eschaton-network/chand/htlc"
	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/wire"
)

// change is what one update does, in the order of its operations.
type change struct {
	pays     []wire.Pay
	streams  []wire.PayStream
	added    []addedLock
	settled  []Lock
	returned []returnedLock
}

type addedLock struct {
	Lock
	reserve types.Amount
	onion   []byte
	memo    string
}

type returnedLock struct {
	Lock
	reason []byte
}

// apply makes the version that follows from signer's operations on the newest one. Both sides run it, with the same result.
// Every operation only gives to the signer's peer (channels.md 2.1): there is none that could take. An error names the
// broken rule; the version before stands.
func (s *State) apply(signer Side, ops []wire.Op) (Version, change, error) {
	v := s.Current
	if v.Number >= MaxNumber {
		return v, change{}, fmt.Errorf("version number %d is the last one of this epoch, and the peer has not yet agreed on a new one; wait for that, or close the channel: its money is safe and goes to both by this version", v.Number)
	}
	v.Number++
	v.Locks = slices.Clone(v.Locks)
	a := applier{s: s, v: &v, signer: signer, peer: signer.Other(), nextLock: s.NextLock[signer]}
	if most := s.MaxOps(signer); len(ops) > most {
		return v, change{}, fmt.Errorf("rule max ops: %d operations in one update, the receiver takes at most %d", len(ops), most)
	}
	for i, op := range ops {
		if err := a.op(op); err != nil {
			return v, change{}, fmt.Errorf("operation %d: %w", i+1, err)
		}
	}
	if err := a.checkResult(); err != nil {
		return v, change{}, err
	}
	return v, a.ch, nil
}

type applier struct {
	s            *State
	v            *Version
	signer, peer Side
	nextLock     uint64
	refunded     types.Amount // by Pay operations that give back: they don't count against the deposit
	ch           change
}

func (a *applier) op(op wire.Op) error {
	switch o := op.(type) {
	case wire.Pay:
		return a.pay(o)
	case wire.PayStream:
		return a.stream(o)
	case wire.AddLock:
		return a.addLock(o)
	case wire.Settle:
		return a.settle(o)
	case wire.GiveBack:
		return a.giveBack(o)
	}
	return fmt.Errorf("%T is not an operation", op)
}

// take removes an amount from the signer's balance.
func (a *applier) take(amount types.Amount) error {
	if amount <= 0 {
		return fmt.Errorf("amount %s: must be positive", amount)
	}
	left, err := a.v.Balance[a.signer].Sub(amount)
	if err != nil {
		return fmt.Errorf("amount %s exceeds the signer's balance of %s", amount, a.v.Balance[a.signer])
	}
	a.v.Balance[a.signer] = left
	return nil
}

func (a *applier) give(amount types.Amount) error {
	sum, err := a.v.Balance[a.peer].Add(amount)
	a.v.Balance[a.peer] = sum
	return err
}

// move pays the peer at once.
func (a *applier) move(amount types.Amount) error {
	if err := a.take(amount); err != nil {
		return err
	}
	return a.give(amount)
}

func (a *applier) pay(o wire.Pay) error {
	if most := a.rules().MaxPayment; most > 0 && o.Amount > most && !o.Refund {
		return fmt.Errorf("rule max payment: %s exceeds the %s that the receiver takes at once", o.Amount, most)
	}
	if err := a.move(o.Amount); err != nil {
		return err
	}
	if o.Refund {
		a.refunded += o.Amount // all of it was the signer's balance
	}
	a.ch.pays = append(a.ch.pays, o)
	return nil
}

// stream makes many payments at once. Nothing is remembered about the stream: a number that comes twice, or is left out, is the
// sender's gift or loss and the receiver's to count.
func (a *applier) stream(o wire.PayStream) error {
	if err := o.Check(); err != nil {
		return err
	}
	if most := a.rules().MaxPayment; most > 0 {
		for i, amount := range o.Amounts {
			if amount > most {
				return fmt.Errorf("rule max payment: payment %d of the stream, %s, exceeds the %s that the receiver takes at once", o.First+uint64(i), amount, most)
			}
		}
	}
	sum, err := o.Sum()
	if err != nil {
		return err
	}
	a.ch.streams = append(a.ch.streams, o)
	return a.move(sum)
}

// rules are what the receiver demands of the signer.
func (a *applier) rules() wire.Rules { return a.s.Rules[a.peer] }

func (a *applier) addLock(o wire.AddLock) error {
	switch most := a.rules().MaxPayment; {
	case o.ID != a.nextLock:
		return fmt.Errorf("lock number %d: want %d", o.ID, a.nextLock)
	case most > 0 && o.Amount > most:
		return fmt.Errorf("rule max payment: a lock of %s exceeds the %s that the receiver takes at once", o.Amount, most)
	case o.Reserve < 0:
		return fmt.Errorf("reservation fee %s: must not be negative", o.Reserve)
	case most > 0 && o.Reserve > most:
		return fmt.Errorf("rule max payment: a reservation fee of %s exceeds the %s that the receiver takes at once", o.Reserve, most)
	case o.Amount < a.rules().MinLock:
		return fmt.Errorf("rule min lock: a lock of %s is below the %s that the receiver takes at least", o.Amount, a.rules().MinLock)
	case o.Amount < a.s.dust():
		return fmt.Errorf("rule dust: a lock of %s is below %s", o.Amount, a.s.dust())
	case len(o.Onion) != 0 && (len(o.Onion) != wire.OnionSize || o.Memo != ""):
		return fmt.Errorf("an onion packet has %d bytes and no memo beside it", wire.OnionSize)
	case len(o.Memo) > wire.MaxText || !utf8.ValidString(o.Memo):
		return fmt.Errorf("memo of %d bytes: want UTF-8 of at most %d", len(o.Memo), wire.MaxText)
	}
	l := Lock{ID: o.ID, Funder: a.signer, Amount: o.Amount, Hash: o.Hash, Expiry: o.Expiry}
	if err := a.s.script(&l).Check(); err != nil {
		return err
	}
	if err := a.take(o.Amount); err != nil {
		return err
	}
	if o.Reserve > 0 {
		if err := a.move(o.Reserve); err != nil {
			return fmt.Errorf("reservation fee: %w", err)
		}
	}
	l = a.s.newLock(l)
	i, _ := a.v.find(l.Key())
	a.v.Locks = slices.Insert(a.v.Locks, i, l)
	a.nextLock++
	a.ch.added = append(a.ch.added, addedLock{l, o.Reserve, o.Onion, o.Memo})
	return nil
}

// remove takes an open lock out of the version.
func (a *applier) remove(funder Side, id uint64) (Lock, error) {
	i, ok := a.v.find(LockKey{funder, id})
	if !ok {
		return Lock{}, fmt.Errorf("there is no open lock %d of the side that must have funded it", id)
	}
	l := a.v.Locks[i]
	a.v.Locks = slices.Delete(a.v.Locks, i, i+1)
	return l, a.give(l.Amount)
}

func (a *applier) settle(o wire.Settle) error {
	l, err := a.remove(a.signer, o.ID)
	if err != nil {
		return err
	}
	if o.Preimage.Hash() != l.Hash {
		return fmt.Errorf("lock %d: the preimage does not open its hash", o.ID)
	}
	l.Preimage = o.Preimage
	a.ch.settled = append(a.ch.settled, l)
	return nil
}

func (a *applier) giveBack(o wire.GiveBack) error {
	if len(o.Reason) > wire.MaxReason {
		return fmt.Errorf("reason of %d bytes: at most %d", len(o.Reason), wire.MaxReason)
	}
	l, err := a.remove(a.peer, o.ID)
	if err != nil {
		return err
	}
	a.ch.returned = append(a.ch.returned, returnedLock{l, o.Reason})
	return nil
}

// checkResult applies the rules that bind a whole version.
func (a *applier) checkResult() error {
	before := &a.s.Current
	rules := a.rules()
	if b := a.v.Balance[a.signer] + a.refunded; b < before.Balance[a.signer] && b < rules.Deposit {
		return fmt.Errorf("rule risk deposit: the signer's balance would be %s, the receiver demands that at least %s stays", b, rules.Deposit)
	}
	for side, b := range a.v.Balance {
		if b > 0 && b < a.s.dust() {
			return fmt.Errorf("rule dust: side %d would have %s, an output must have at least %s or be absent", side, b, a.s.dust())
		}
	}
	if len(a.ch.added) > 0 {
		if err := a.checkLocks(rules); err != nil {
			return err
		}
	}
	return a.s.checkVersion(a.v)
}

func (a *applier) checkLocks(rules wire.Rules) error {
	count, sum := 0, types.Amount(0)
	for i := range a.v.Locks {
		if a.v.Locks[i].Funder == a.signer {
			count++
			sum += a.v.Locks[i].Amount // all locks together are within the capacity
		}
	}
	most := maxSideLocks
	if rules.MaxLocks > 0 {
		most = min(most, int(rules.MaxLocks))
	}
	if count > most {
		return fmt.Errorf("rule max locks: %d locks of the signer would be open, at most %d", count, most)
	}
	if rules.MaxInFlight > 0 && sum > rules.MaxInFlight {
		return fmt.Errorf("rule max in flight: the signer's open locks would hold %s, at most %s", sum, rules.MaxInFlight)
	}
	return nil
}

// checkVersion wants what every refund must satisfy to be publishable: conservation, order, sizes.
func (s *State) checkVersion(v *Version) error {
	if v.Number == 0 || v.Number > MaxNumber || v.Epoch < 2 || v.Epoch > 1<<31-1 {
		return fmt.Errorf("version (%d, %d) is out of range", v.Epoch, v.Number)
	}
	sum, err := v.Balance[0].Add(v.Balance[1])
	if err != nil {
		return err
	}
	count := [2]int{}
	for i := range v.Locks {
		l := &v.Locks[i]
		if l.Funder > Acceptor || i > 0 && v.Locks[i-1].compare(l.Key()) >= 0 {
			return fmt.Errorf("lock %d is out of order", l.ID)
		}
		if l.Amount <= 0 || l.Expiry == 0 || l.Expiry > htlc.MaxExpiry {
			return fmt.Errorf("lock %d: amount %s or expiry %d out of range", l.ID, l.Amount, l.Expiry)
		}
		if sum, err = sum.Add(l.Amount); err != nil {
			return err
		}
		count[l.Funder]++
	}
	if count[0] > maxSideLocks || count[1] > maxSideLocks {
		return fmt.Errorf("%d and %d open locks: at most %d a side", count[0], count[1], maxSideLocks)
	}
	if sum != s.Capacity() {
		return fmt.Errorf("balances and locks sum up to %s, the contract holds %s", sum, s.Capacity())
	}
	return nil
}

// noWorse tells whether version w is at least as good for side as v was, whatever preimages become known, given that only the
// other side signed in between: locks of v that are gone must have gone to side, new ones must be the other's.
func noWorse(v, w *Version, side Side) bool {
	least := v.Balance[side]
	for i := range v.Locks {
		l := &v.Locks[i]
		if j, ok := w.find(l.Key()); ok {
			if !sameLock(*l, w.Locks[j]) {
				return false
			}
			continue
		}
		least += l.Amount
	}
	for i := range w.Locks {
		l := &w.Locks[i]
		if _, ok := v.find(l.Key()); !ok && l.Funder == side {
			return false
		}
	}
	return w.Balance[side] >= least
}
