package ledger

import "github.com/eschaton-network/chand/types"

// Dividend says that the running period was settled with an account: its dividend less the maintenance fee and what a dormant account
// loses. Amount may be negative; when it is 0 there is no event.
type Dividend struct {
	To     types.AccountID
	Amount types.Amount
}

// NodeProfit says what a node earned in a block and what its account 0 was changed by.
type NodeProfit struct {
	Node uint16
	// Income is its part of fees, less what its messages cost. Shared is what it got from, or gave to, the other nodes and validators.
	Income, Shared types.Amount
	// Charge is what it pays at the end of a dividend period for blocks and accounts.
	Charge types.Amount
	// Booked is the change of account 0: Income and Shared less Charge; a loss is not more than what was there.
	Booked types.Amount
}

// AccountDeleted says that an account is used up; Left is what remains on it. Its number may be given to another owner later.
type AccountDeleted struct {
	ID   types.AccountID
	Left types.Amount
}

// RequestState is what became of a request for an account on another node.
type RequestState uint8

const (
	// RequestWaits: the node has to accept it. RequestAccepted: the account exists. RequestFailed: the node did not accept in time, the
	// deposit is back. RequestLate: the node accepted what nobody waits for; nothing happened.
	RequestWaits RequestState = iota
	RequestAccepted
	RequestFailed
	RequestLate
)

// AccountRequested says what became of a request for an account on another node.
type AccountRequested struct {
	Requester types.AccountID
	Node      uint16
	PublicKey types.Hash
	State     RequestState
	// ID is the account, once accepted.
	ID types.AccountID
}

// NodeConnected says where a node's office listens.
type NodeConnected struct {
	Node uint16
	Port uint16
	IPv4 uint32
}

// NodeCreated says that a node exists; Node is 0 when no number was left or another node has the key, and the deposit is back.
type NodeCreated struct {
	Node      uint16
	By        types.AccountID
	PublicKey types.Hash
}

// NodeKeyChanged says that a node has another key from the next block on; Opened that it was closed.
type NodeKeyChanged struct {
	Node      uint16
	PublicKey types.Hash
	Opened    bool
}

// NodeStatusChanged gives the status bits after a change.
type NodeStatusChanged struct {
	Node   uint16
	Status uint32
}

// AccountStatusChanged gives the status bits after a change.
type AccountStatusChanged struct {
	ID     types.AccountID
	Status uint16
}

// RetrievalPhase is what a call of RetrieveFunds did.
type RetrievalPhase uint8

const (
	// RetrievalEnded: nothing, because the owner used the account in the same block. RetrievalLocked: the account is locked from now on.
	// RetrievalPaid: the money has moved.
	RetrievalEnded RetrievalPhase = iota
	RetrievalLocked
	RetrievalPaid
)

// Retrieval says what By's call for the money of Account did; Amount came in, Fee was taken from the account besides.
type Retrieval struct {
	By, Account types.AccountID
	Phase       RetrievalPhase
	Amount, Fee types.Amount
}

// AccountLogged holds an account's record as the original stores it (ParseRecord reads it), after the transaction with this id.
type AccountLogged struct {
	TxID   types.Hash
	ID     types.AccountID
	Record [RecordSize]byte
}

// PairsAnchored says that these pairs are in the block, in the transaction with this id.
type PairsAnchored struct {
	TxID  types.Hash
	From  types.AccountID
	Pairs []Pair
}

// CertificateChanged says that a certificate was issued, updated or revoked, and how it is now.
type CertificateChanged struct {
	TxID types.Hash
	Certificate
}

// Enrolled says what a key may be used for from now on; Roles 0: nothing new.
type Enrolled struct {
	By        types.AccountID
	PublicKey types.Hash
	Roles     uint8
}

// PolicyChanged gives the policy from now on.
type PolicyChanged struct {
	TxID types.Hash
	Policy
}

func (Dividend) isEvent()             {}
func (NodeProfit) isEvent()           {}
func (AccountDeleted) isEvent()       {}
func (AccountRequested) isEvent()     {}
func (NodeConnected) isEvent()        {}
func (NodeCreated) isEvent()          {}
func (NodeKeyChanged) isEvent()       {}
func (NodeStatusChanged) isEvent()    {}
func (AccountStatusChanged) isEvent() {}
func (Retrieval) isEvent()            {}
func (AccountLogged) isEvent()        {}
func (PairsAnchored) isEvent()        {}
func (CertificateChanged) isEvent()   {}
func (Enrolled) isEvent()             {}
func (PolicyChanged) isEvent()        {}
