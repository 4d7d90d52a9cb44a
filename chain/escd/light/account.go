package light

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"

	"github.com/eschaton-network/chand/ledger"
)

// Account is what a node's office answers to GET /v1/accounts/{address}: a record, its proof, and the bundle of the block
// after the one that it is the state of (a header carries the state root of the block before).
type Account struct {
	// Record is the account as the original stores it: 128 bytes in hex.
	Record string              `json:"record"`
	Proof  ledger.AccountProof `json:"proof"`
	Bundle []byte              `json:"bundle"`
}

// VerifyAccount checks the answer against the pinned validators and returns the account's record with the header that proves
// it: the record is the account's state after block Height-1.
func VerifyAccount(trust Trust, a Account) (ledger.Record, Header, error) {
	h, err := VerifyBundle(trust, a.Bundle)
	if err != nil {
		return ledger.Record{}, h, err
	}
	raw, err := hex.DecodeString(a.Record)
	if err != nil || len(raw) != ledger.RecordSize {
		return ledger.Record{}, h, fmt.Errorf("account record: want %d bytes in hex", ledger.RecordSize)
	}
	var r ledger.Record // its fields stand in the order of the bytes
	if err := binary.Read(bytes.NewReader(raw), binary.LittleEndian, &r); err != nil {
		return r, h, fmt.Errorf("account record: %w", err)
	}
	if again := r.Marshal(a.Proof.ID); !bytes.Equal(again[:], raw) {
		return ledger.Record{}, h, fmt.Errorf("account record: its checksum is not that of account %s", a.Proof.ID)
	}
	return r, h, ledger.VerifyAccountProof(h.AppHash, r, a.Proof)
}
