package chand

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/eschaton-network/chand/channel"
	"github.com/eschaton-network/chand/types"
)

// Kinds of locked coins.
const (
	LockedOpening   = "opening"   // what this side puts into a contract that is not on the ledger yet
	LockedBalance   = "balance"   // this side's balance of a channel that is being closed
	LockedPayment   = "payment"   // a lock of a payment of ours
	LockedEscrow    = "escrow"    // a lock of an escrow, as its payer or its payee
	LockedForward   = "forward"   // a lock that is passed on, on either side
	LockedReceiving = "receiving" // a lock that pays us
	LockedReturning = "returning" // a lock of the peer's that goes back
	LockedUnknown   = "unknown"   // found after a loss of data
)

// LockedCoins is a sum that nobody can use until somebody acts.
type LockedCoins struct {
	Channel types.ChannelID
	Peer    types.NodeID
	Kind    string
	// Out: the money is ours unless a preimage makes it somebody else's. Otherwise it becomes ours only by one.
	Out    bool
	Amount types.Amount
	// Ref is the payment's hash or the escrow's id; zero for openings and balances.
	Ref  types.Hash
	Lock uint64 // number of the lock, counted by its funder
	// Text says how it stands, Who must act next: "me", "peer", "payer", "payee" or "ledger".
	Text, Who string
	// ActBy is when this daemon acts by itself if nothing happens before, Act what it does then. nil: it does nothing.
	ActBy *Deadline
	Act   string
	// Free is when the money is free at the latest, whoever gets it.
	Free *Deadline
	// Next is a command that ends it sooner, or helps to. Empty: there is none.
	Next string
}

// Deadlines lists all coins that are locked, the nearest deadline first. What it lists of a channel adds up to the channel's Locked and
// Bound.
func (d *Daemon) Deadlines() ([]LockedCoins, error) {
	var list []LockedCoins
	for _, r := range d.allRunners() {
		v := r.view.Load()
		s := &v.State
		list = append(list, d.boundCoins(s)...)
		for _, l := range openLocks(s) {
			var out outgoingRecord
			var in incomingRecord
			var err error
			if l.Funder == s.Side {
				out, _, err = load[outgoingRecord](d.Store, bucketOutgoing, lockKey(s.ID, l.ID))
			} else {
				in, _, err = load[incomingRecord](d.Store, bucketIncoming, lockKey(s.ID, l.ID))
			}
			if err != nil {
				return nil, err
			}
			list = append(list, d.lockedCoins(s, &l, &out, &in))
		}
	}
	slices.SortStableFunc(list, func(a, b LockedCoins) int { return cmp.Compare(a.nearest(), b.nearest()) })
	return list, nil
}

// nearest is the block that comes first; what has none comes last.
func (c *LockedCoins) nearest() types.Height {
	at := ^types.Height(0)
	for _, d := range []*Deadline{c.ActBy, c.Free} {
		if d != nil {
			at = min(at, d.Block)
		}
	}
	return at
}

// openLocks are the locks that bind money: those of the newest version, or what is left of them on the ledger.
func openLocks(s *channel.State) []channel.Lock {
	switch {
	case s.Phase == channel.PhaseSettled:
		var list []channel.Lock
		for _, o := range s.Outputs {
			if !o.Done {
				list = append(list, o.Lock)
			}
		}
		return list
	case s.Phase >= channel.PhaseOpen && s.Phase < channel.PhaseSettled:
		return s.Current.Locks
	}
	return nil
}

// lockedIn is the sum of the open locks.
func lockedIn(s *channel.State) (sum types.Amount) {
	for _, l := range openLocks(s) {
		sum += l.Amount
	}
	return sum
}

// boundIn is what is this side's and can't be used: an opening's money, and the balance of a channel that closes.
func boundIn(s *channel.State) types.Amount {
	switch {
	case s.Phase == channel.PhaseFunding:
		return s.Funding[s.Side]
	case s.Phase == channel.PhaseOpen && (s.CloseAsked[0] || s.CloseAsked[1]), s.Phase > channel.PhaseOpen && s.Phase < channel.PhaseSettled:
		return s.Mine()
	}
	return 0
}

// settleBy is the height at which the contract of a channel that closes has settled at the latest.
func settleBy(s *channel.State) types.Height {
	switch s.Phase {
	case channel.PhaseFinishing:
		return s.Since + types.Height(2*s.Timing.Inclusion)
	case channel.PhasePosted:
		return s.OnChain.Deadline
	}
	return s.Since + types.Height(s.Timing.Inclusion+s.Timing.Window)
}

// boundCoins describes what boundIn counts.
func (d *Daemon) boundCoins(s *channel.State) []LockedCoins {
	c := LockedCoins{Channel: s.ID, Peer: s.Peer, Kind: LockedBalance, Out: true, Amount: boundIn(s), Who: "ledger"}
	if c.Amount == 0 {
		return nil
	}
	switch s.Phase {
	case channel.PhaseFunding:
		c.Kind, c.Text = LockedOpening, "signed, and on its way to the ledger"
		c.Free = d.Deadline(s.ValidUntil)
	case channel.PhaseOpen:
		c.Who, c.Text = "peer", "an agreed close is asked for, and open locks must end first"
		c.Next = "chancli channel close " + s.ID.String() + " --force"
		if len(s.Current.Locks) == 0 {
			c.Text = "an agreed close is asked for, and the peer has not signed it yet"
		}
	case channel.PhaseFinishing:
		c.Text, c.Act = "the agreed close is signed", "publishes the agreed close"
		c.ActBy, c.Free = d.Deadline(s.Since+types.Height(s.Timing.Inclusion)), d.Deadline(settleBy(s))
	case channel.PhasePosted:
		c.Text = fmt.Sprintf("version %d is on the ledger, and its dispute window runs", s.OnChain.Version)
		c.ActBy, c.Act, c.Free = d.Deadline(s.OnChain.Deadline), "leaves the rest to the ledger, which pays out", d.Deadline(settleBy(s))
	default:
		c.Text, c.Free = "the newest version is on its way to the ledger", d.Deadline(settleBy(s))
	}
	return []LockedCoins{c}
}

// lockedCoins describes an open lock. out is the record of one of ours, in that of the peer's; a record without a kind is not known.
func (d *Daemon) lockedCoins(s *channel.State, l *channel.Lock, out *outgoingRecord, in *incomingRecord) LockedCoins {
	c := LockedCoins{Channel: s.ID, Peer: s.Peer, Out: l.Funder == s.Side, Amount: l.Amount, Ref: l.Hash, Lock: l.ID,
		Free: d.Deadline(l.Expiry + types.Height(s.Timing.Inclusion))}
	if c.Out {
		d.outCoins(&c, s, l, out)
	} else {
		d.inCoins(&c, s, l, in)
	}
	if s.Phase > channel.PhaseOpen {
		d.onLedger(&c, s, l)
	}
	if addr := d.peers.address(s.Peer); c.Next == "" && s.Phase == channel.PhaseOpen && addr != "" && !d.peers.linked(s.Peer) {
		c.Next = "chancli peer connect " + addr
	}
	return c
}

// outCoins describes a lock of ours in an open channel.
func (d *Daemon) outCoins(c *LockedCoins, s *channel.State, l *channel.Lock, out *outgoingRecord) {
	c.Who, c.Text = "payee", "waits for the payee to take it or to give it back"
	c.ActBy, c.Act = d.Deadline(s.Timing.CloseBy(l.Expiry)), "publishes the channel, to take the lock back on the ledger"
	switch out.Kind {
	case kindPayment:
		c.Kind, c.Next = LockedPayment, "chancli payment cancel "+l.Hash.String()
	case kindEscrow:
		c.Kind, c.Who, c.Next = LockedEscrow, "payer", "chancli escrow release "+l.Hash.String()
		c.Text = "held for the payee: released by us, or given back by the payee"
		if e := d.escrows.get(l.Hash, rolePayer); e != nil && e.view.Load() != nil && e.view.Load().State == EscrowReleasing {
			c.Who, c.Text, c.Next = "me", "released, and paid at our next turn", ""
		}
	case kindForward:
		c.Kind, c.Text = LockedForward, "passed on: the payee takes it or gives it back"
	default:
		c.Kind, c.Text = LockedUnknown, "found after a loss of data: paid, or back when it runs out"
	}
	if !l.Preimage.IsZero() || !out.Preimage.IsZero() {
		c.Who, c.Text = "me", "the payee has it: paid at our next turn"
		c.ActBy, c.Act, c.Next = nil, "", ""
	}
}

// inCoins describes a lock of the peer's in an open channel.
func (d *Daemon) inCoins(c *LockedCoins, s *channel.State, l *channel.Lock, in *incomingRecord) {
	claimBy := s.Timing.ClaimBy(l.Expiry)
	switch in.Kind {
	case kindEscrow:
		c.Kind, c.Who, c.Text = LockedEscrow, "payer", "held for us: the payer releases it, or we give it back"
		c.ActBy, c.Act, c.Next = d.Deadline(claimBy), "gives it back to the payer", "chancli escrow refund "+l.Hash.String()
	case kindForward:
		c.Kind, c.Who, c.Text = LockedForward, "payee", "passed on: follows the lock in the other channel"
	case kindHeld:
		c.Kind, c.Who, c.Text = LockedReceiving, "payer", "a part of a payment to us, whose other parts are missing"
		c.ActBy, c.Act = d.Deadline(min(claimBy, in.Since+holdBlocks)), "gives it back to the payer"
	case kindFinal:
		c.Kind = LockedReceiving
	case kindReject:
		c.Kind = LockedReturning
	default:
		c.Kind, c.Who, c.Text = LockedUnknown, "payer", "found after a loss of data: paid, or back with its payer when it runs out"
	}
	switch {
	case !l.Preimage.IsZero() || !in.Preimage.IsZero():
		c.Who, c.Text, c.Next = "peer", "ours: the preimage is known, and the peer must settle", ""
		c.ActBy, c.Act = d.Deadline(claimBy), "publishes the channel, to claim the lock on the ledger"
	case in.GiveBack:
		c.Kind, c.Who, c.Text, c.Next = LockedReturning, "me", "given back at our next turn", ""
		c.ActBy, c.Act = nil, ""
	}
}

// onLedger describes a lock whose channel is closing: it ends as an output on the ledger.
func (d *Daemon) onLedger(c *LockedCoins, s *channel.State, l *channel.Lock) {
	settled := settleBy(s)
	where := "ends on the ledger once the channel has settled"
	if s.Phase == channel.PhaseSettled {
		settled, where = d.Height(), "is an output on the ledger"
	}
	known := !l.Preimage.IsZero()
	c.Who, c.Next, c.ActBy, c.Act = "ledger", "", nil, ""
	c.Free = d.Deadline(max(settled, l.Expiry) + types.Height(s.Timing.Inclusion))
	switch {
	case c.Out && known:
		c.Who, c.Text = "payee", "it "+where+", where the payee claims it"
	case c.Out:
		c.Text, c.Act, c.ActBy = "it "+where, "takes it back on the ledger", d.Deadline(max(settled, l.Expiry))
	case known:
		c.Text, c.Act, c.ActBy = "ours: it "+where, "claims it on the ledger", d.Deadline(settled)
		c.Free = d.Deadline(settled + types.Height(s.Timing.Inclusion))
	default:
		c.Who, c.Text = "payer", "it "+where+", and goes back to its payer unless the preimage comes"
	}
}

// warn says of each lock once in a daemon's life that this daemon is about to act because of it.
func (r *runner) warn(b *batch) {
	if b.state.Phase != channel.PhaseOpen || len(b.state.Current.Locks) == 0 {
		r.warned = nil
		return
	}
	before := r.d.cfg.WarnBlocks
	if before == 0 {
		before = max(1, b.state.Timing.Downtime)
	}
	until := types.Height(min(uint64(r.height)+uint64(before), 1<<32-1))
	warned := make(map[channel.LockKey]bool)
	for i := range b.state.Current.Locks {
		l := &b.state.Current.Locks[i]
		if r.warned[l.Key()] {
			warned[l.Key()] = true
			continue
		}
		if until < b.state.Timing.ClaimBy(l.Expiry) && (l.Funder == b.state.Side || r.incoming[l.ID] == nil || r.incoming[l.ID].Kind != kindHeld) {
			continue // nothing acts before
		}
		out, in := &outgoingRecord{}, &incomingRecord{}
		if o := r.outgoing[l.ID]; l.Funder == b.state.Side && o != nil {
			out = &o.outgoingRecord
		} else if i := r.incoming[l.ID]; l.Funder != b.state.Side && i != nil {
			in = i
		}
		c := r.d.lockedCoins(&b.state, l, out, in)
		if c.ActBy == nil || c.ActBy.Block > until {
			continue
		}
		warned[l.Key()] = true
		b.then(func() {
			r.d.emit("deadline.near", fmt.Sprintf("at block %d this daemon %s: %s of %s in channel %s", c.ActBy.Block, c.Act, c.Kind, c.Amount, c.Channel), c)
		})
	}
	r.warned = warned
}
