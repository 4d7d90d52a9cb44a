package timestamp

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/eschaton-network/chand/types"
)

// ErrAnchor is wrapped by every refusal of an anchor path.
var ErrAnchor = errors.New("anchor does not prove the commitment")

// AnchorPath leads from an anchored value to a block of the ledger.
type AnchorPath struct {
	// Tx are the raw bytes of the user transaction that anchors the value. At most MaxMessage bytes, a limit of the proof format.
	Tx []byte
	// Offset is where the 32-byte value stands in Tx.
	Offset int
	// Ledger is the attestation at the end of the path, which stands on the transaction's id.
	Ledger Ledger
}

// FindValue returns the offset of a value in a transaction, or -1.
func FindValue(tx []byte, value types.Hash) int { return bytes.Index(tx, value[:]) }

// Timestamp is the continuation of every proof of a round: from its commitment to the ledger attestation. Join it with
// Timestamp.Upgrade; a calendar answers it to a question for the commitment.
func (p AnchorPath) Timestamp(commitment []byte) (*Timestamp, error) {
	value := sha256.Sum256(commitment)
	end := p.Offset + len(value)
	if len(p.Tx) > MaxMessage {
		return nil, fmt.Errorf("%w: the transaction has %d bytes, a step of a proof at most %d: submit the anchor in a transaction of its own", ErrAnchor, len(p.Tx), MaxMessage)
	}
	if p.Offset < 0 || end > len(p.Tx) || !bytes.Equal(p.Tx[p.Offset:end], value[:]) {
		return nil, fmt.Errorf("%w: value %x does not stand at byte %d of the transaction", ErrAnchor, value, p.Offset)
	}
	ops := []Op{{Tag: OpSHA256}}
	if p.Offset > 0 {
		ops = append(ops, Op{OpPrepend, p.Tx[:p.Offset]})
	}
	if end < len(p.Tx) {
		ops = append(ops, Op{OpAppend, p.Tx[end:]})
	}
	t := New(commitment)
	last, err := t.Then(append(ops, Op{Tag: OpSHA256})...)
	if err != nil {
		return nil, err
	}
	return t, last.Attest(p.Ledger)
}
