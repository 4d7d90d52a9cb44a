package chand

import (
	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

// States of a ledger transaction of ours.
const (
	TxPending   = "pending"   // saved and submitted, not in a block yet
	TxConfirmed = "confirmed" // in a block
	TxRefused   = "refused"   // the ledger said no: nothing moved
	TxUnknown   = "unknown"   // the caller's patience ended first: ask again with the same key; or Text says why nobody knows
)

// maxTxIDs bounds how often a transaction is signed again for another place in the hash chain before it is given up.
const maxTxIDs = 16

// txRecord is a transaction of our account, from before its submission until it is in a block. Owned by the accountant.
type txRecord struct {
	Key  string `cbor:"1,keyasint,omitempty"`
	Kind string `cbor:"2,keyasint"`
	// Raw is the newest signed form; IDs are those of all signed forms, the newest last. At most one of them can ever be
	// executed as each takes the same place in the account's hash chain or a place after a form that is dead.
	Raw   []byte       `cbor:"3,keyasint"`
	IDs   []types.Hash `cbor:"4,keyasint"`
	Prev  types.Hash   `cbor:"5,keyasint"` // account hash before
	Next  types.Hash   `cbor:"6,keyasint"` // account hash after
	Msid  uint32       `cbor:"7,keyasint"`
	State string       `cbor:"8,keyasint"`
	Code  uint32       `cbor:"9,keyasint,omitempty"`
	Text  string       `cbor:"10,keyasint,omitempty"`
	// Height and Time of the block.
	Height types.Height `cbor:"11,keyasint,omitempty"`
	Time   types.Time   `cbor:"12,keyasint,omitempty"`
	// Keep: the record outlives the transaction, so that Key never acts twice.
	Keep bool `cbor:"14,keyasint,omitempty"`
	// Created is the account that a create_account made.
	Created types.AccountID `cbor:"13,keyasint"`
}

func (r *txRecord) id() types.Hash { return r.IDs[len(r.IDs)-1] }

// LedgerTx is the outcome of a transaction of the daemon's account.
type LedgerTx struct {
	ID      types.Hash
	Key     string
	Kind    string // "send", "create account", "open contract", "anchor", or why a contract is spent
	State   string // TxPending, TxConfirmed, TxRefused, TxUnknown
	Code    uint32
	Text    string // why it was refused
	To      types.AccountID
	Amount  types.Amount
	Fee     types.Amount
	Height  types.Height
	Time    types.Time
	Created types.AccountID
	raw     []byte
}

func (r *txRecord) view() LedgerTx {
	v := LedgerTx{ID: r.id(), Key: r.Key, Kind: r.Kind, State: r.State, Code: r.Code, Text: r.Text, Height: r.Height, Time: r.Time, Created: r.Created, raw: r.Raw}
	if tx, err := ledger.DecodeTx(r.Raw); err == nil {
		v.Fee = ledger.Fee(tx.From, tx.Body)
		if s, ok := tx.Body.(ledger.SendOne); ok {
			v.To, v.Amount = s.To, s.Amount
		}
	}
	return v
}
