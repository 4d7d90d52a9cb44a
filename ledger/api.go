package ledger

import (
	"errors"
	"fmt"

	"github.com/eschaton-network/chand/types"
)

// ErrNotFound says that an account, contract or output does not exist at the height asked for.
var ErrNotFound = errors.New("not found on the ledger")

// Params are the constants of one ledger, fixed by its genesis.
type Params struct {
	// ChainID is the CometBFT chain id, unique for each genesis.
	ChainID string
	// Genesis is the hash of the genesis document. Contract bodies and initial account hashes are bound to it, so nothing
	// signed for one ledger is valid on another.
	Genesis types.Hash
	// BlockMillis is the target time between blocks.
	BlockMillis uint32
}

// BlockInfo names a block.
type BlockInfo struct {
	Height types.Height
	Time   types.Time
	// Hash is the CometBFT header hash; AppHash the state root after the PREVIOUS block (as in the header).
	Hash, AppHash types.Hash
}

// BlockEvents is what one block did, in the order in which it happened.
type BlockEvents struct {
	BlockInfo
	Events []Event
}

// Event is one of the event types below.
type Event interface{ isEvent() }

// Place is where a transaction stands: the Position (from 1) in message Msid of a node. A direct transaction has Node 0, its block's
// height as Msid, and its position among that block's transactions.
type Place struct {
	Node     uint16
	Msid     uint32
	Position uint32
}

// String is the original's form of a transaction's id (A19): NNNN:MMMMMMMM:PPPP in hex.
func (p Place) String() string { return fmt.Sprintf("%04X:%08X:%04X", p.Node, p.Msid, p.Position) }

// MessageDone says that a node's message was taken (Code 0; its transactions' events follow) or skipped whole.
type MessageDone struct {
	Node uint16
	Msid uint32
	Time types.Time
	// Root is the message's root hash; zero when it could not be read.
	Root types.Hash
	// Txs is the number of its transactions.
	Txs  uint32
	Code uint32
	Text string
}

// TxDone says that a user transaction was executed (Code 0) or refused (Code and Text say why). Refused ones changed
// nothing but may have been charged.
type TxDone struct {
	// ID is SHA-256 of the transaction's bytes.
	ID    types.Hash
	Place Place
	// Type is the transaction's (TypeSendOne ...).
	Type   byte
	Sender types.AccountID
	Msid   uint32
	Code   uint32
	Text   string
}

// Deposited says that To received Amount by send_one (From, Message), account creation or a settled spend.
type Deposited struct {
	From, To types.AccountID
	Amount   types.Amount
	Message  types.Hash
}

// AccountCreated says that an account exists from now on.
type AccountCreated struct {
	ID        types.AccountID
	PublicKey [32]byte
}

// ContractOpened says that a contract's funds are locked.
type ContractOpened struct{ ID types.ChannelID }

// ContractPosted says that a refund started or replaced another in a dispute window.
type ContractPosted struct {
	ID types.ChannelID
	// Epoch and Version order refunds (channels.md section 1).
	Epoch, Version uint32
	// Deadline is the height at whose end the contract settles by itself.
	Deadline types.Height
	// Refund is the serialized wire.MsgTx with witness.
	Refund []byte
}

// ContractSettled says that a contract paid out by this refund; its script outputs exist from now on.
type ContractSettled struct {
	ID             types.ChannelID
	Epoch, Version uint32
	// Final is true for an agreed close (nSequence 0xFFFFFFFF).
	Final bool
	// TxID is the refund's txid in internal byte order: outpoints of its script outputs.
	TxID types.Hash
	// Refund is the serialized wire.MsgTx with witness.
	Refund []byte
}

// OutputSpent says that a script output was spent; Witness is the spending input's witness stack (a preimage may be in it).
type OutputSpent struct {
	TxID    types.Hash
	Index   uint32
	Witness [][]byte
	// By is the serialized spending wire.MsgTx.
	By []byte
}

// Anchored says that these 32-byte hashes are in the block, in the transaction with this id.
type Anchored struct {
	TxID   types.Hash
	Hashes []types.Hash
}

func (TxDone) isEvent()          {}
func (MessageDone) isEvent()     {}
func (Deposited) isEvent()       {}
func (AccountCreated) isEvent()  {}
func (ContractOpened) isEvent()  {}
func (ContractPosted) isEvent()  {}
func (ContractSettled) isEvent() {}
func (OutputSpent) isEvent()     {}
func (Anchored) isEvent()        {}

// Account is one account's state. The ledger's record is 128 bytes (docs/ledger.md); this is what daemons need of it.
type Account struct {
	ID        types.AccountID
	Balance   types.Amount
	PublicKey [32]byte
	// Msid is the number that the next own transaction must carry; Hash the head of the account's hash chain.
	Msid   uint32
	Hash   types.Hash
	Status uint16
}

// Contract is a 2-of-2 output on the ledger.
type Contract struct {
	ID         types.ChannelID
	Capacity   types.Amount
	ScriptHash types.Hash // SHA-256 of the witness script (P2WSH program)
	CloseKeys  [2]types.PubKey
	Window     uint32
	OpenedAt   types.Height
	// Posted is nil while no refund was published; Settled is set once paid out.
	Posted  *ContractPosted
	Settled *ContractSettled
}
