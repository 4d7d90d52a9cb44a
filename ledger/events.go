package ledger

import "github.com/eschaton-network/chand/types"

// Broadcasted says that From put Data on the ledger, in the transaction with this id.
type Broadcasted struct {
	TxID types.Hash
	From types.AccountID
	Data []byte
}

func (Broadcasted) isEvent() {}
