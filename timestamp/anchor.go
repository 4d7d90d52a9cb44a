package timestamp

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/bits"

	"github.com/eschaton-network/chand/types"
)

// ErrAnchor is wrapped by every refusal of an anchor path.
var ErrAnchor = errors.New("anchor does not prove the commitment")

// Step is one level of a block's transaction tree, from the leaf up.
type Step struct {
	// Left tells that the sibling stands on the left.
	Left    bool       `json:"left"`
	Sibling types.Hash `json:"sibling"`
}

// maxSteps bounds the levels of a block's transaction tree; 2^30 transactions are far beyond any block's size.
const maxSteps = 30

// AnchorPath leads from an anchored value to a block of the ledger.
type AnchorPath struct {
	// Tx is the raw transaction as it stands in the block (for CometBFT: one element of Data.Txs). At most MaxMessage
	// bytes, a limit of the proof format: an anchor must not travel inside a large bundle of transactions.
	Tx []byte
	// Offset is where the 32-byte value stands in Tx.
	Offset int
	// Steps lead from the transaction's leaf to the header's data_hash.
	Steps   []Step
	Genesis types.Hash
	Height  types.Height
	// Bundle convinces an offline verifier (see Ledger.Bundle); may be empty.
	Bundle []byte
}

// FindValue returns the offset of a value in a transaction, or -1.
func FindValue(tx []byte, value types.Hash) int { return bytes.Index(tx, value[:]) }

// DataHash is the data_hash of the block's header according to the path.
func (p AnchorPath) DataHash() types.Hash {
	id := sha256.Sum256(p.Tx)
	h := leafHash(id)
	for _, s := range p.Steps {
		if s.Left {
			h = innerHash(s.Sibling, h)
		} else {
			h = innerHash(h, s.Sibling)
		}
	}
	return h
}

// Attestation is the ledger attestation at the end of the path.
func (p AnchorPath) Attestation() Ledger {
	return Ledger{Genesis: p.Genesis, Height: p.Height, Bundle: string(p.Bundle)}
}

// Timestamp is the continuation of every proof of a round: from its commitment to the ledger attestation. Join it with
// Timestamp.Upgrade; a calendar answers it to a question for the commitment.
func (p AnchorPath) Timestamp(commitment []byte) (*Timestamp, error) {
	return p.TimestampWith(commitment, p.Attestation())
}

// TimestampWith is Timestamp with another attestation at its end: clients that know no ledger attestation can be
// served the block as one of a Bitcoin-shaped chain, whose headers their verifier asks us for.
func (p AnchorPath) TimestampWith(commitment []byte, a Attestation) (*Timestamp, error) {
	value := sha256.Sum256(commitment)
	end := p.Offset + len(value)
	if len(p.Tx) > MaxMessage {
		return nil, fmt.Errorf("%w: the transaction has %d bytes, a step of a proof at most %d: submit the anchor in a transaction of its own", ErrAnchor, len(p.Tx), MaxMessage)
	}
	if p.Offset < 0 || end > len(p.Tx) || !bytes.Equal(p.Tx[p.Offset:end], value[:]) {
		return nil, fmt.Errorf("%w: value %x does not stand at byte %d of the transaction", ErrAnchor, value, p.Offset)
	}
	if len(p.Steps) > maxSteps {
		return nil, fmt.Errorf("%w: %d levels in the transaction tree, want at most %d", ErrAnchor, len(p.Steps), maxSteps)
	}
	ops := []Op{{Tag: OpSHA256}}
	if p.Offset > 0 {
		ops = append(ops, Op{OpPrepend, p.Tx[:p.Offset]})
	}
	if end < len(p.Tx) {
		ops = append(ops, Op{OpAppend, p.Tx[end:]})
	}
	ops = append(ops, Op{Tag: OpSHA256}, Op{OpPrepend, []byte{leafPrefix}}, Op{Tag: OpSHA256})
	for _, s := range p.Steps {
		if s.Left {
			ops = append(ops, Op{OpPrepend, append([]byte{innerPrefix}, s.Sibling[:]...)})
		} else {
			ops = append(ops, Op{OpPrepend, []byte{innerPrefix}}, Op{OpAppend, s.Sibling[:]})
		}
		ops = append(ops, Op{Tag: OpSHA256})
	}
	t := New(commitment)
	last, err := t.Then(ops...)
	if err != nil {
		return nil, err
	}
	return t, last.Attest(a)
}

// Domain separation of CometBFT's Merkle trees (RFC 6962, section 2.1).
const (
	leafPrefix  = 0x00
	innerPrefix = 0x01
)

func leafHash(leaf [32]byte) types.Hash {
	var b [33]byte
	b[0] = leafPrefix
	copy(b[1:], leaf[:])
	return sha256.Sum256(b[:])
}

func innerHash(l, r types.Hash) types.Hash {
	var b [65]byte
	b[0] = innerPrefix
	copy(b[1:], l[:])
	copy(b[33:], r[:])
	return sha256.Sum256(b[:])
}

// DataHashPath computes the data_hash of a block from the ids of its transactions (SHA-256 of each) and the steps
// for the transaction at index: CometBFT's types.Txs.Proof.
func DataHashPath(txIDs []types.Hash, index int) (types.Hash, []Step, error) {
	if index < 0 || index >= len(txIDs) {
		return types.Hash{}, nil, fmt.Errorf("%w: block has no transaction %d, only %d", ErrAnchor, index, len(txIDs))
	}
	h, steps := dataHashPath(txIDs, index)
	return h, steps, nil
}

// dataHashPath splits at the largest power of two below n (RFC 6962, section 2.1). index is -1 outside the path.
func dataHashPath(ids []types.Hash, index int) (types.Hash, []Step) {
	n := len(ids)
	if n == 1 {
		return leafHash(ids[0]), nil
	}
	k := 1 << (bits.Len(uint(n-1)) - 1)
	var left, right types.Hash
	var steps []Step
	if index >= k {
		left, _ = dataHashPath(ids[:k], -1)
		right, steps = dataHashPath(ids[k:], index-k)
		return innerHash(left, right), append(steps, Step{Left: true, Sibling: left})
	}
	left, steps = dataHashPath(ids[:k], index)
	right, _ = dataHashPath(ids[k:], -1)
	if index < 0 {
		return innerHash(left, right), nil
	}
	return innerHash(left, right), append(steps, Step{Sibling: right})
}
