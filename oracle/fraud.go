package oracle

import (
	"fmt"

	"github.com/eschaton-network/chand/statement"
	"github.com/eschaton-network/chand/types"
)

// MaxFraudProof bounds a fraud proof's bytes: an announcement, two preimages and the map around them.
const MaxFraudProof = statement.MaxSize + 256

// FraudProof shows that an oracle has opened two outcomes of one event. It needs nothing beside itself to be checked.
type FraudProof struct {
	// Announcement is the signed statement.
	Announcement []byte `cbor:"announcement"`
	// First and Second open two outcomes, First the one that stands earlier in the announcement.
	First  types.Preimage `cbor:"first"`
	Second types.Preimage `cbor:"second"`
}

// Fraud is what a fraud proof shows.
type Fraud struct {
	Announcement  Announcement
	First, Second int // indexes of the outcomes that were opened
}

// Oracle is the key that has cheated.
func (f Fraud) Oracle() statement.Key { return f.Announcement.Statement.Issuer }

// ProveFraud makes the proof from two preimages of an announcement, in any order.
func ProveFraud(a Announcement, p, q types.Preimage) (FraudProof, error) {
	i, err := a.OutcomeOf(p)
	if err != nil {
		return FraudProof{}, fmt.Errorf("%w: %w", ErrFraudProof, err)
	}
	if j, err := a.OutcomeOf(q); err == nil && j < i {
		p, q = q, p
	}
	proof := FraudProof{a.Statement.Bytes(), p, q}
	_, err = proof.Verify()
	return proof, err
}

// Verify checks the oracle's signature, the announcement, and that the preimages open two different outcomes.
func (p FraudProof) Verify() (Fraud, error) {
	s, err := statement.Open(p.Announcement)
	if err != nil {
		return Fraud{}, fmt.Errorf("%w: %w", ErrFraudProof, err)
	}
	a, err := ParseAnnouncement(s)
	if err != nil {
		return Fraud{}, fmt.Errorf("%w: %w", ErrFraudProof, err)
	}
	i, err := a.OutcomeOf(p.First)
	if err != nil {
		return Fraud{}, fmt.Errorf("%w: %w", ErrFraudProof, err)
	}
	j, err := a.OutcomeOf(p.Second)
	if err != nil {
		return Fraud{}, fmt.Errorf("%w: %w", ErrFraudProof, err)
	}
	if i >= j {
		return Fraud{}, fmt.Errorf("%w: the preimages open outcomes %d and %d; want two different ones in the order of the announcement", ErrFraudProof, i, j)
	}
	return Fraud{a, i, j}, nil
}

// Encode writes the proof in deterministic CBOR.
func (p FraudProof) Encode() ([]byte, error) { return statement.EncodeCBOR(p) }

// DecodeFraudProof reads a proof and verifies it.
func DecodeFraudProof(b []byte) (FraudProof, Fraud, error) {
	var p FraudProof
	if len(b) > MaxFraudProof {
		return p, Fraud{}, fmt.Errorf("%w: %d bytes, want at most %d", ErrFraudProof, len(b), MaxFraudProof)
	}
	if err := statement.DecodeCBOR(b, &p); err != nil {
		return FraudProof{}, Fraud{}, fmt.Errorf("%w: %w", ErrFraudProof, err)
	}
	f, err := p.Verify()
	return p, f, err
}
