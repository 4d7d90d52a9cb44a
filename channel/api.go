package channel

import (
	"errors"

	"github.com/btcsuite/btcd/btcec/v2"

	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/types/keytable"
	"github.com/eschaton-network/chand/wire"
)

// Side tells the two parties of a channel apart.
type Side uint8

const (
	// Opener proposed the channel.
	Opener Side = 0
	// Acceptor agreed to it.
	Acceptor Side = 1
)

// Other returns the peer of s.
func (s Side) Other() Side { return 1 - s }

// Lock is an open hash lock.
type Lock struct {
	ID     uint64 // counted by its funder
	Funder Side
	Amount types.Amount
	Hash   types.Hash
	Expiry types.Height
	// Preimage is set as soon as it is known here; the lock stays open until it is settled.
	Preimage types.Preimage

	// program is the P2WSH program of the output: it follows from the rest and is kept because every signature needs it.
	program types.Hash
}

// LockKey names a lock within a channel.
type LockKey struct {
	Funder Side
	ID     uint64
}

// Version is the content of one refund transaction.
type Version struct {
	Epoch, Number uint32
	Balance       [2]types.Amount // by Side
	Locks         []Lock          // sorted by (Funder, ID)
}

// Signed is a version with the peer's signature: it can be published.
type Signed struct {
	Version
	Sig wire.Sig
}

// Input is what Step takes: one of the types below.
type Input interface{ isInput() }

type (
	// Message is a message of the peer about this channel.
	Message struct{ Msg wire.ChannelMessage }
	// Propose asks for one update with these operations. Refused with ErrNotMyTurn when the turn is the peer's.
	// The IDs of AddLock operations are assigned by Step.
	Propose struct{ Ops []wire.Op }
	// RequestTurn asks the peer for the turn, once until it comes.
	RequestTurn struct{}
	// GiveTurn hands the turn over (answer to the notice TurnWanted, when the local queue is empty or was served once).
	// As a flag of a Propose it is GiveTurnAfter, which saves a message.
	GiveTurn struct{}
	// ProposeAndYield is Propose followed by GiveTurn in one message.
	ProposeAndYield struct{ Ops []wire.Op }
	// Reveal hands in preimages of locks that the PEER funded: they are saved, and shown to the peer, which must settle.
	Reveal struct{ Preimages []types.Preimage }
	// SendReceipts answers received Pay operations.
	SendReceipts struct{ Preimages []types.Preimage }
	// LinkUp and LinkDown say that messages can, or can no longer, be exchanged with the peer.
	LinkUp   struct{}
	LinkDown struct{}
	// Close asks for an agreed close; ForceClose publishes the best version held.
	Close      struct{}
	ForceClose struct{}
	// Restore says that the saved state came from a backup and may be old. It must be the first input after the load; from then
	// on nothing is signed until both sides have signed the agreed state in a new epoch (notice Resynced).
	Restore struct{}
	// Announce sends this side's signatures of the channel's public announcement.
	Announce struct{ NodeSig, CloseSig wire.Sig }
	// Block is a new block: its events about this channel, and the height (also in Env). Every block is fed in, in order.
	Block struct{ Events []ledger.Event }
)

func (Message) isInput()         {}
func (Propose) isInput()         {}
func (RequestTurn) isInput()     {}
func (GiveTurn) isInput()        {}
func (ProposeAndYield) isInput() {}
func (Reveal) isInput()          {}
func (SendReceipts) isInput()    {}
func (LinkUp) isInput()          {}
func (LinkDown) isInput()        {}
func (Close) isInput()           {}
func (ForceClose) isInput()      {}
func (Restore) isInput()         {}
func (Announce) isInput()        {}
func (Block) isInput()           {}

// Env is what a step may know of the world.
type Env struct {
	Height types.Height
	Now    types.Time
	// Keys are this side's private keys of this channel. Signatures are deterministic (RFC 6979), so a retry gives the same bytes.
	Keys Keys
	// Genesis binds contract bodies to the ledger.
	Genesis types.Hash
	// HasAccount tells whether the ledger has an account, asked in the opening: the ledger takes no transaction that pays an
	// account that does not exist, and none is ever removed. nil: not asked.
	HasAccount func(types.AccountID) bool
	// Starting: this side was down until now, and the peer had no chance yet to say what happened meanwhile. Deadlines of open locks
	// are not acted on in a Block then, as long as that is no longer than a downtime.
	Starting bool
	// RenewAt is the version number from which on a new epoch is agreed on; 0: a million below MaxNumber. Tests set it low.
	RenewAt uint32
	// Account signs the contract body as a funder: it returns the ed25519 signature for a body (package ledger).
	FundSign func(ledger.ContractBody) [64]byte
	// Tables gives the table of a key that signs often, or nil: updates are verified faster with it. nil: there are none.
	Tables func(types.PubKey) *keytable.Table
}

// Keys are one side's private keys of one channel.
type Keys struct{ Fund, Close, Lock *btcec.PrivateKey }

// Effects are what the caller must do, in the order of the fields.
type Effects struct {
	// Save: when set, the returned state, and the outbox changes, must be durable BEFORE anything below happens, in one
	// transaction with whatever the notices below make the daemon store.
	Save bool
	// Outbox are updates that must be kept until acknowledged, and sent again after a Reestablish asks for them.
	Outbox []*wire.Update
	// OutboxAcked: outbox entries up to this version may be deleted (with the next save; not worth one of its own). 0: none.
	OutboxAcked uint32
	// Send are messages for the peer, in order (new Outbox entries included). Loss is harmless.
	Send []wire.Message
	// Resend asks the caller to send the kept outbox updates from this version on (0: none), before Send.
	Resend uint32
	// Chain are transactions to submit until they are seen in a block.
	Chain []ChainAction
	// Notices tell the daemon what became true with this step. They are derived from saved state, so they may repeat after a restart.
	Notices []Notice
}

// ChainAction is one of the types below. The caller wraps it in a transaction of its account. Actions are repeated by
// Step (on Block) as long as the chain shows that they are still needed; a caller may drop one that is pending already.
type ChainAction interface{ isAction() }

type (
	// OpenContract submits the contract with the funders' signatures.
	OpenContract struct {
		Body     ledger.ContractBody
		FundSigs [][64]byte
	}
	// Spend submits a spend: a refund (CloseSig set when it starts a dispute window), or the claim of a lock's output.
	Spend struct {
		Tx       []byte // serialized wire.MsgTx with witness
		CloseSig []byte
		Why      string // for logs and status: "close", "supersede version 3", "claim lock", …
	}
)

func (OpenContract) isAction() {}
func (Spend) isAction()        {}

// Notice is one of the types below.
type Notice interface{ isNotice() }

type (
	// Opened: the contract is on chain; payments can flow.
	Opened struct{}
	// Received: the peer paid by Pay. The daemon answers with SendReceipts, or gives it back with Pay{Refund: true}.
	Received struct{ Pay wire.Pay }
	// Streamed: the peer paid these amounts, numbered from First, by PayStream. They are this side's, whatever numbers came before.
	Streamed struct {
		Stream  types.Hash
		First   uint64
		Amounts []types.Amount // shared with the update: not to be changed
	}
	// LockAdded: the peer's lock is irrevocably in a saved version signed by the peer. Forward it, settle it, hold it or give it back.
	// Reserve came with it and is this side's already; who did not forward gives it back by Pay{Refund: true, Hash: the lock's}.
	LockAdded struct {
		Lock    Lock
		Reserve types.Amount
		Onion   []byte
		Memo    string
	}
	// PreimageKnown: a lock that I funded was opened: by Reveal, or on chain. The upstream lock can be claimed. Step wants
	// no Propose for it: see Settleable.
	PreimageKnown struct{ Lock Lock }
	// LockSettled: the lock left the channel for its payee (off chain, or claimed on chain).
	LockSettled struct{ Lock Lock }
	// LockReturned: the lock left the channel for its funder, and I hold what makes that final (the peer's signature on a
	// higher version without it, or the chain). Only now may an upstream lock be given back.
	LockReturned struct {
		Lock   Lock
		Reason []byte
	}
	// Acked: the peer holds my updates up to this version durably.
	Acked struct{ Version uint32 }
	// Receipts: the peer answered Pay operations with these preimages (each opens its hash; checked by the daemon).
	Receipts struct{ Preimages []types.Preimage }
	// LinkReady: after a LinkUp (or a reset of the link) both sides agree on where they are; updates can flow.
	LinkReady struct{}
	// TurnGained: this side may propose now. TurnWanted: the peer asks for the turn.
	TurnGained struct{}
	TurnWanted struct{}
	// Failed: opening failed, or the peer broke the protocol; the text says what was seen, what was wanted, what happens to the money.
	Failed struct{ Text string }
	// Closed: nothing of this channel is left on chain for this side. Agreed: by the final (cooperative) refund.
	Closed struct{ Agreed bool }
	// Resynced: after a loss of data here or at the peer, or because version numbers ran low, both have agreed on the state in a new
	// epoch, as its version 1. Everything that this side knew to have signed is part of it, and the outbox is empty. Gone are locks of the
	// old state that are not in the new one (how they ended only the lost disk knew); new locks in State have no onion or memo, so
	// they must be matched by hash with other channels' locks before anything is given back.
	Resynced struct{ Gone []Lock }
	// PhaseChanged: State.Phase moved (also reported by status).
	PhaseChanged struct{ From, To Phase }
	// Announceable: the peer's announcement signatures arrived.
	Announceable struct{ Sigs wire.AnnounceSigs }
)

func (Opened) isNotice()        {}
func (Received) isNotice()      {}
func (Streamed) isNotice()      {}
func (LockAdded) isNotice()     {}
func (PreimageKnown) isNotice() {}
func (LockSettled) isNotice()   {}
func (LockReturned) isNotice()  {}
func (Acked) isNotice()         {}
func (Receipts) isNotice()      {}
func (LinkReady) isNotice()     {}
func (TurnGained) isNotice()    {}
func (TurnWanted) isNotice()    {}
func (Failed) isNotice()        {}
func (Closed) isNotice()        {}
func (Resynced) isNotice()      {}
func (PhaseChanged) isNotice()  {}
func (Announceable) isNotice()  {}

// Errors that Step wraps. In every case the old state stands and nothing may be saved or sent for this input.
var (
	// ErrRefused: a local command against the rules; the text names the rule. The channel stays usable.
	ErrRefused = errors.New("refused")
	// ErrNotMyTurn: request the turn first.
	ErrNotMyTurn = errors.New("the peer holds the turn")
	// ErrPhase: the command or message does not fit the channel's phase.
	ErrPhase = errors.New("not in this phase")
	// ErrWindow: MaxUnacked updates wait for the peer's acknowledgement; propose again after the next Acked.
	ErrWindow = errors.New("too many updates in flight")
	// ErrOffline: nothing can be signed before the link is up and both sides agree on where they are; wait for LinkReady.
	ErrOffline = errors.New("the peer is not connected")
	// ErrIgnored: a message that changes nothing (a duplicate, or late); drop it.
	ErrIgnored = errors.New("ignored")
)

// A peer's fault is NOT an error of Step: the returned state is in phase Closing (or Failed before funding), with the
// effects that close the channel with the best version held, and the notice Failed.
