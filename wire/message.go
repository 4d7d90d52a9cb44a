package wire

import (
	"fmt"
	"math"

	"github.com/eschaton-network/chand/types"
)

// Message is one of the message types of this package. A frame is the type (2 bytes, big-endian) and the body.
type Message interface{ MessageType() uint16 }

// ChannelMessage is a message about one channel.
type ChannelMessage interface {
	Message
	// Channel is the channel's id; for Open and Accept the temporary id drawn by the opener.
	Channel() types.ChannelID
}

// Sig is a compact ECDSA signature over secp256k1 (r || s, 64 bytes, low s).
type Sig [64]byte

// PartyKeys are the keys of one side of a channel.
type PartyKeys struct {
	// Fund is the key in the 2-of-2 contract output; Close signs the start of a dispute window; Lock receives and
	// reclaims hash-locked outputs.
	Fund, Close, Lock types.PubKey
	// Account receives the side's balance when the contract settles, and funds its part of it.
	Account types.AccountID
}

// Rules are what one side demands of what the other side does (channels.md 2.6). Both know both, so an honest peer never breaks
// one. Zero means no limit.
type Rules struct {
	Dust        types.Amount // no output of a refund may be smaller (unless 0: absent)
	MaxPayment  types.Amount // largest single payment or lock
	MaxInFlight types.Amount // largest sum of open locks that the peer funds
	MinLock     types.Amount // smallest lock that the peer funds: claiming one on chain has its price
	MaxLocks    uint16       // most open locks that the peer funds
	MaxOps      uint16       // most operations in one update
	Deposit     types.Amount // risk deposit: floor under the peer's balance
}

// Open proposes a channel (opener to acceptor).
type Open struct {
	Temp         types.ChannelID // temporary id, 32 random bytes
	ChainGenesis types.Hash
	Mine, Theirs types.Amount // what the opener and the acceptor put in
	Timing       types.Timing
	Rules        Rules
	Keys         PartyKeys
	ValidUntil   types.Height // the contract transaction is dead after this block
	Salt         types.Hash
	// Epoch orders the channel's refunds before their number: minutes since 1970 at opening (channels.md section 1).
	Epoch uint32
}

// Accept agrees and carries the acceptor's signature on refund version 1 (which pays both back).
type Accept struct {
	Temp      types.ChannelID
	Rules     Rules
	Keys      PartyKeys
	RefundSig Sig
}

// Refuse ends an opening or any request about a channel; nothing was signed.
type Refuse struct {
	ID   types.ChannelID
	Text string
}

// OpenRefund carries the opener's signature on refund version 1. From here on the channel has its final id.
type OpenRefund struct {
	Temp, ID  types.ChannelID
	RefundSig Sig
}

// OpenFund carries a funder's ed25519 signature of the contract body; sent only after the sender has saved both signatures on
// refund version 1. Sent by both; either can then submit the contract.
type OpenFund struct {
	ID      types.ChannelID
	FundSig [64]byte
}

// Update makes a new version: the operations of one signer, applied in order to the version before, and one
// signature over the resulting refund.
type Update struct {
	ID      types.ChannelID
	Version uint32 // of the result; exactly one above the version before
	Ops     []Op
	Sig     Sig
	// Yield hands the turn over with this update.
	Yield bool
}

// Ack says that everything up to and including Version is durable at the sender.
type Ack struct {
	ID      types.ChannelID
	Version uint32
}

// TurnRequest asks the holder of the turn for it.
type TurnRequest struct{ ID types.ChannelID }

// Yield hands the turn over; Version is the newest one. Turn counts the hand-overs since the opening, this one included, so
// that a repeated or late Yield changes nothing: even means the opener's turn, odd the acceptor's.
type Yield struct {
	ID      types.ChannelID
	Version uint32
	Turn    uint64
}

// Reveal shows the funder of locks their preimages and so asks for Settle. Unsigned: a preimage proves itself.
type Reveal struct {
	ID        types.ChannelID
	Preimages []types.Preimage
}

// Receipt answers Pay operations: the preimages of the invoices that they paid.
type Receipt struct {
	ID        types.ChannelID
	Preimages []types.Preimage
}

// Reestablish is the first message about a channel on a new link, sent by both. Nothing else is signed or believed before both
// have been exchanged. One that waits for the peer's answers with its own (Answer set); one that did not wait begins again.
type Reestablish struct {
	ID types.ChannelID
	// Epoch and Version of the newest state that the sender has (signed by itself or by the peer).
	Epoch, Version uint32
	// Acked is the highest of the peer's versions that the sender has made durable.
	Acked uint32
	// Turn counts the hand-overs of the turn that the sender knows of (see Yield).
	Turn uint64
	// StateHash commits to balances and locks of Version.
	StateHash types.Hash
	// Offered is the epoch that the sender offered by Resync and that is not agreed yet; 0: none.
	Offered uint32
	// Restored: the sender's state came from a backup and may be old. It signs nothing until a Resync is agreed.
	Restored bool
	// Answer: this message answers a Reestablish, so it needs no answer.
	Answer bool
}

// LockState is a lock in a Resync.
type LockState struct {
	ID     uint64
	Funder uint8 // 0 opener, 1 acceptor
	Amount types.Amount
	Hash   types.Hash
	Expiry types.Height
}

// VersionState is the whole content of one version, in a Resync. Balances by side (opener, acceptor); locks sorted by (Funder, ID).
type VersionState struct {
	Epoch, Version uint32
	Balance        [2]types.Amount
	Locks          []LockState
}

// Resync offers the newest state as version 1 of a new epoch, to a peer that has lost data or because version numbers run low, with
// the proof that it is no worse for the receiver than what the receiver itself signed last. Nothing else is signed until the
// receiver's Agree.
type Resync struct {
	ID types.ChannelID
	// Base is the newest version that the receiver signed, and BaseSig its signature.
	Base    VersionState
	BaseSig Sig
	// State is offered: its Epoch is the new one, its Version is the number that it has in Base's epoch. Sig is the sender's signature
	// on the same content as version 1 of the new epoch.
	State VersionState
	Sig   Sig
	// Turn is agreed with the state; NextLock are the numbers of the sides' next locks.
	Turn     uint64
	NextLock [2]uint64
}

// Agree answers a Resync with the receiver's signature on the same version 1 of Epoch.
type Agree struct {
	ID    types.ChannelID
	Epoch uint32
	Sig   Sig
}

// CloseSign carries the signature on the final (agreed) refund that pays out the balances of Version, which has no open
// locks. Whoever has sent it signs nothing else for this channel.
type CloseSign struct {
	ID      types.ChannelID
	Version uint32
	Sig     Sig
}

// CloseRequest asks the peer to agree to a close: no new locks from now on, then CloseSign by the holder of the turn.
type CloseRequest struct{ ID types.ChannelID }

// Fault says that the sender has stopped the channel because of what the receiver sent, and closes it with the version before.
type Fault struct {
	ID   types.ChannelID
	Text string
}

// AnnounceSigs carries one side's signatures for the public announcement of the channel (package route).
type AnnounceSigs struct {
	ID                types.ChannelID
	NodeSig, CloseSig Sig
}

// PeerPolicy tells the peer on which terms the sender passes locks on to it, while the channel is not public: the peer puts
// them into its invoices.
type PeerPolicy struct {
	ID types.ChannelID
	// Policy is a signed policy as package route encodes it, at most MaxPolicy bytes.
	Policy []byte
}

// Op is one of Pay, PayStream, AddLock, Settle, GiveBack. Each only gives to the peer of its signer.
type Op interface{ isOp() }

// Pay moves Amount to the peer at once. Hash names what is paid (an invoice's payment hash; the peer answers with its
// Receipt) or is zero for a spontaneous payment. Refund marks money given back because the receiver did not want Hash's payment, or
// did not earn the reservation fee of the lock with this hash.
type Pay struct {
	Amount types.Amount
	Hash   types.Hash
	Refund bool
}

// PayStream moves many payments to the peer at once, under the one signature of its update. It counts as one operation.
type PayStream struct {
	// Stream names what is paid; the sender draws it, or takes what an invoice says.
	Stream types.Hash
	// First is the number of the first of these payments within the stream, counted from 1. The channel keeps nothing about streams:
	// whoever receives a number twice, or misses one, has the money all the same.
	First uint64
	// Amounts are the payments numbered First, First+1, …: 1 to MaxStream, each positive, together at most types.MaxAmount.
	Amounts []types.Amount
}

// Sum adds up the payments. It returns types.ErrAmount unless each is positive and all together are an amount.
func (p PayStream) Sum() (types.Amount, error) {
	var sum types.Amount
	for _, a := range p.Amounts {
		if a <= 0 || a > types.MaxAmount-sum {
			return 0, types.ErrAmount
		}
		sum += a
	}
	return sum, nil
}

// Check wants 1 to MaxStream payments that add up, with numbers from 1 that fit 63 bits.
func (p PayStream) Check() error {
	if n := len(p.Amounts); n == 0 || n > MaxStream {
		return fmt.Errorf("%d payments in one operation of a stream: want 1 to %d", n, MaxStream)
	}
	if p.First == 0 || p.First > math.MaxInt64-MaxStream {
		return fmt.Errorf("the stream's payments are numbered from %d: want 1 to %d", p.First, int64(math.MaxInt64-MaxStream))
	}
	_, err := p.Sum()
	return err
}

// AddLock moves Amount of the signer's balance into a hash lock.
type AddLock struct {
	// ID counts the signer's locks in this channel: 1, 2, 3, …
	ID     uint64
	Amount types.Amount
	// Reserve is the reservation fee: it moves from the signer's balance to the receiver's with this operation and for good,
	// whatever becomes of the lock, so that a lock that stays open costs its funder something. 0: none.
	Reserve types.Amount
	Hash    types.Hash
	Expiry  types.Height
	// Onion is the Sphinx packet (OnionSize bytes), or empty for an escrow with the peer itself.
	Onion []byte
	// Memo is shown to the payee of an escrow (at most MaxText bytes); empty with an onion.
	Memo string
}

// Settle pays a lock of the signer's to the peer; Preimage opens its hash.
type Settle struct {
	ID       uint64
	Preimage types.Preimage
}

// GiveBack returns a lock that the peer funded. Reason is an onion-encrypted failure for its origin, or plain text for an escrow.
type GiveBack struct {
	ID     uint64
	Reason []byte
}

func (Pay) isOp()       {}
func (PayStream) isOp() {}
func (AddLock) isOp()   {}
func (Settle) isOp()    {}
func (GiveBack) isOp()  {}
