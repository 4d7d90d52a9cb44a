package channel

import (
	"cmp"
	"slices"

	"github.com/eschaton-network/chand/htlc"
	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/wire"
)

const (
	// MaxNumber is the highest version number: one below the one whose nSequence would be final.
	MaxNumber = 0x7ffffffe
	// renewAt is the version number from which on the newest state is agreed on in a new epoch, where numbers begin at 1 again. A million
	// below the last one, so that payments go on while the clock is behind the epochs.
	renewAt = MaxNumber - 1<<20
	// MaxUnacked bounds the updates in flight, and with it the outbox on disk and what a new link has to send again.
	MaxUnacked = 256
	// maxSideLocks bounds the open locks that one side funds; both together are wire.MaxLocks.
	maxSideLocks = wire.MaxLocks / 2
	// maxGiven bounds the locks in Given. It is more than an update settles, so that it holds up only who settles without being answered.
	maxGiven = wire.MaxLocks
	// maxEpochAhead is how far an agreed epoch may lie in the future, in minutes. The ledger refuses what is two hours ahead.
	maxEpochAhead = 60
	// restoredAhead is where the epochs begin, in minutes from now, that are agreed on with a side that was restored from a backup. All
	// others end there: so what it may have signed and forgotten is in lower epochs than what it agrees on now.
	restoredAhead = 30
	// maxCounter bounds the hand-overs and lock numbers that a new epoch may begin with, so that counting on never overflows.
	maxCounter = 1 << 62
	// maxOpening bounds how long funds can be bound by an opening, in blocks.
	maxOpening = 100_000
)

// State is one side's whole knowledge of a channel. It is a value: Step never changes what it was given, so a refused
// step leaves no trace. Everything but the last group is durable (Encode).
type State struct {
	// Fixed at opening.
	ID, Temp   types.ChannelID // ID is zero until the acceptor's keys are known
	Peer       types.NodeID
	Side       Side // mine
	KeyIndex   uint64
	Genesis    types.Hash
	Timing     types.Timing
	Funding    [2]types.Amount // by Side
	Rules      [2]wire.Rules   // what each Side demands of the other
	Keys       [2]wire.PartyKeys
	ValidUntil types.Height
	Salt       types.Hash
	FundSigs   [2][64]byte
	HasFund    [2]bool

	Phase Phase
	Since types.Height // when Phase was entered
	Why   string       // for people: why the channel closes or failed

	// Current is the newest version that either side signed; Held the newest that the peer signed, which this side can publish.
	Current Version
	Held    Signed
	// Given are own locks, by number, that are in neither of the two as this side added and settled them in updates that the peer has not
	// acknowledged: it can publish a version in which they are open.
	Given []Given
	// Acked is the highest version of this side's that the peer has made durable.
	Acked uint32
	// Turn counts the hand-overs: even is the opener's turn.
	Turn uint64
	// NextLock is the number of each Side's next lock.
	NextLock [2]uint64
	// CloseAsked: this Side wants an agreed close.
	CloseAsked [2]bool
	// FinalSig is the peer's signature on the final refund of Current, once HasFinal.
	FinalSig wire.Sig
	HasFinal bool
	// Restored: the state came from a backup and nothing is signed before a Resync.
	Restored bool
	// Offered is the epoch of this side's unanswered Resync (0: none); nothing else is signed while it stands, so that the Resync is
	// the same whenever it is sent: two versions 1 of one epoch must never be signed.
	Offered uint32

	// What the chain showed.
	OnChain Posting // the version in the dispute window or settled, once Phase is Posted or later
	Outputs []Output

	// Not durable: the link, and what was asked on it.
	Link      Link
	TurnAsked bool

	cache *derived // from the fixed part; never changed once set, so copies of the state share it
}

// Given is a lock that this side settled in a version.
type Given struct {
	Lock
	Version uint32
}

// Posting is a version that the chain showed.
type Posting struct {
	Epoch, Version uint32
	Deadline       types.Height
	Final          bool
	TxID           types.Hash
}

// Output is the output of a lock in the settled refund.
type Output struct {
	Index uint32
	Lock  Lock
	// Live: the lock's end was not certain before the contract settled, as it was open or settled by this side only, so its spending
	// is reported.
	Live bool
	// Done: spent, or of no more use to this side.
	Done bool
}

// Link is where the exchange with the peer stands.
type Link uint8

const (
	// LinkIsDown: no messages.
	LinkIsDown Link = iota
	// LinkWaits: Reestablish was sent, the peer's has not come, or data must be repaired first.
	LinkWaits
	// LinkIsReady: updates can flow.
	LinkIsReady
)

// holder returns whose turn it is.
func holder(turn uint64) Side { return Side(turn & 1) }

// MyTurn tells whether this side may sign the next version.
func (s State) MyTurn() bool { return holder(s.Turn) == s.Side }

// Ready tells whether updates can flow: the channel is open and both sides agree on where they are.
func (s State) Ready() bool { return s.Phase == PhaseOpen && s.Link == LinkIsReady }

// Capacity is the sum that the contract holds.
func (s State) Capacity() types.Amount { return s.Funding[0] + s.Funding[1] }

// Mine and Theirs are the balances of the newest version, open locks apart.
func (s State) Mine() types.Amount   { return s.Current.Balance[s.Side] }
func (s State) Theirs() types.Amount { return s.Current.Balance[s.Side.Other()] }

// Unacked is the number of updates that the peer has not acknowledged.
func (s State) Unacked() int {
	return int(s.Current.Number - max(s.Acked, s.Held.Number))
}

// Lock finds an open lock of the newest version.
func (s State) Lock(key LockKey) (Lock, bool) {
	i, ok := s.Current.find(key)
	if !ok {
		return Lock{}, false
	}
	return s.Current.Locks[i], true
}

// Key names the lock.
func (l Lock) Key() LockKey { return LockKey{l.Funder, l.ID} }

func (l Lock) compare(k LockKey) int {
	if c := cmp.Compare(l.Funder, k.Funder); c != 0 {
		return c
	}
	return cmp.Compare(l.ID, k.ID)
}

func (v *Version) find(key LockKey) (int, bool) {
	return slices.BinarySearchFunc(v.Locks, key, Lock.compare)
}

// after tells whether v supersedes (epoch, number) on the ledger.
func (v *Version) after(epoch, number uint32) bool {
	return v.Epoch > epoch || v.Epoch == epoch && v.Number > number
}

// same tells whether two versions are the same transaction with the same lock numbers. Known preimages don't count.
func (v *Version) same(w *Version) bool {
	return v.Epoch == w.Epoch && v.Number == w.Number && v.Balance == w.Balance && slices.EqualFunc(v.Locks, w.Locks, sameLock)
}

func sameLock(a, b Lock) bool {
	return a.ID == b.ID && a.Funder == b.Funder && a.Amount == b.Amount && a.Hash == b.Hash && a.Expiry == b.Expiry
}

// script is the hash lock of l between the two sides' lock keys.
func (s *State) script(l *Lock) htlc.Lock {
	return htlc.Lock{Payer: s.Keys[l.Funder].Lock, Payee: s.Keys[l.Funder.Other()].Lock, Hash: l.Hash, Expiry: l.Expiry}
}

// Body is the contract: what the funders sign, and what the channel's id is the hash of.
func (s State) Body() ledger.ContractBody {
	b := ledger.ContractBody{
		ScriptHash: htlc.ContractScriptHash(s.Keys[0].Fund, s.Keys[1].Fund),
		CloseKeys:  [2]types.PubKey{s.Keys[0].Close, s.Keys[1].Close},
		Window:     s.Timing.Window, ValidUntil: s.ValidUntil, Salt: s.Salt,
	}
	for side, a := range s.Funding {
		if a > 0 {
			b.Funders = append(b.Funders, ledger.Funder{Account: s.Keys[side].Account, Amount: a})
		}
	}
	return b
}

// CanSend is the largest payment or lock that this side's balance and the peer's rules allow now.
func (s State) CanSend() types.Amount { return s.canGive(s.Side) }

// CanReceive is the largest payment or lock that the peer can give now.
func (s State) CanReceive() types.Amount { return s.canGive(s.Side.Other()) }

func (s *State) canGive(from Side) types.Amount {
	rules := s.Rules[from.Other()]
	if s.Phase != PhaseOpen || s.CloseAsked[0] || s.CloseAsked[1] {
		return 0
	}
	floor := rules.Deposit
	if floor > 0 {
		floor = max(floor, s.dust()) // a balance may be nothing, but not dust
	}
	most := s.Current.Balance[from] - floor
	if rules.MaxPayment > 0 {
		most = min(most, rules.MaxPayment)
	}
	return max(most, 0)
}

// MaxOps is the most operations that one update of a side may have.
func (s State) MaxOps(signer Side) int {
	if most := s.Rules[signer.Other()].MaxOps; most > 0 {
		return int(most)
	}
	return wire.MaxOps
}

// dust is the smallest output that both sides want.
func (s *State) dust() types.Amount { return max(s.Rules[0].Dust, s.Rules[1].Dust) }

// Settleable returns the settle operations that could be proposed now: locks of this side whose preimage is known.
func (s State) Settleable() []wire.Op {
	var ops []wire.Op
	for i := range s.Current.Locks {
		if l := &s.Current.Locks[i]; l.Funder == s.Side && !l.Preimage.IsZero() && len(ops) < s.MaxOps(s.Side) {
			ops = append(ops, wire.Settle{ID: l.ID, Preimage: l.Preimage})
		}
	}
	return ops
}

// NextDeadline is the next height at which this side acts on chain, or the ledger does, if nothing happens before, and what it
// is. ok is false when there is none.
func (s State) NextDeadline() (at types.Height, what string, ok bool) {
	note := func(h types.Height, w string) {
		if !ok || h < at {
			at, what, ok = h, w, true
		}
	}
	switch s.Phase {
	case PhaseProposed, PhaseAccepted, PhaseFunding:
		note(s.ValidUntil, "the opening ends and the funds are free")
	case PhaseOpen:
		for i := range s.Current.Locks {
			if h, why := s.deadline(&s.Current.Locks[i]); why != "" {
				note(h, why)
			}
		}
	case PhasePosted:
		note(s.OnChain.Deadline, "the contract settles")
	case PhaseSettled:
		for i := range s.Outputs {
			if o := &s.Outputs[i]; !o.Done && o.Lock.Funder == s.Side {
				note(o.Lock.Expiry, "this side takes back an expired lock")
			}
		}
	}
	return at, what, ok
}

// deadline is the height at which the channel must be published because of a lock (channels.md section 3).
func (s *State) deadline(l *Lock) (types.Height, string) {
	known := !l.Preimage.IsZero()
	switch {
	case l.Funder != s.Side && known:
		return s.Timing.ClaimBy(l.Expiry), "the channel closes to claim a lock whose preimage is known"
	case l.Funder == s.Side && !known:
		return s.Timing.CloseBy(l.Expiry), "the channel closes because a lock stays unresolved"
	}
	return 0, ""
}

// Publishable tells whether a balance can be an output of a refund, or is nothing.
func (s State) Publishable(balance types.Amount) bool { return balance == 0 || balance >= s.dust() }
