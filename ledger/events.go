package ledger

import "github.com/eschaton-network/chand/types"

// Broadcasted says that From put Data on the ledger, in the transaction with this id.
type Broadcasted struct {
	TxID types.Hash
	From types.AccountID
	Data []byte
}

func (Broadcasted) isEvent() {}

// Leased says that From has put Amount behind a node.
type Leased struct {
	From   types.AccountID
	Node   uint16
	Amount types.Amount
}

// LeaseCancelled says that Amount of a lease returns to From at the end of block Due.
type LeaseCancelled struct {
	From   types.AccountID
	Node   uint16
	Amount types.Amount
	Due    types.Height
}

// LeaseReleased says that stake has returned to From.
type LeaseReleased struct {
	From   types.AccountID
	Node   uint16
	Amount types.Amount
}

// NodeCut says that a node was closed for Offence (one of the Offence constants) and lost Amount of its bond, of which Reporter got
// Reward (nobody, for what CometBFT reported).
type NodeCut struct {
	Node           uint16
	Offence        uint8
	Amount, Reward types.Amount
	Reporter       types.AccountID
}

func (Leased) isEvent()         {}
func (LeaseCancelled) isEvent() {}
func (LeaseReleased) isEvent()  {}
func (NodeCut) isEvent()        {}
