package oracle

import (
	"fmt"

	"github.com/eschaton-network/chand/statement"
	"github.com/eschaton-network/chand/types"
)

// OutcomeOf returns the index of the outcome whose hash the preimage opens. The preimage alone attests: it
// needs no signature, since nobody but the oracle knew it.
func (a Announcement) OutcomeOf(p types.Preimage) (int, error) {
	h := p.Hash()
	for i, o := range a.Outcomes {
		if o.Hash == h {
			return i, nil
		}
	}
	return 0, fmt.Errorf("%w: the preimage opens none of the %d outcomes of %s", ErrAttestation, len(a.Outcomes), a.Statement.ID)
}

// Attestation is an oracle's answer, as it is published.
type Attestation struct {
	Announcement statement.ID
	Preimage     types.Preimage
	// Outcome is the name that the oracle gives it. Check compares it with what the preimage opens.
	Outcome   string
	Statement *statement.Statement
}

// Attest signs the answer with the oracle's statement key. Of body, ledger, blocks, times and validity are used.
func Attest(body statement.Body, a Announcement, p types.Preimage, secret [32]byte) (Attestation, error) {
	i, err := a.OutcomeOf(p)
	if err != nil {
		return Attestation{}, err
	}
	if statement.KeyOf(secret) != a.Statement.Issuer {
		return Attestation{}, fmt.Errorf("%w: announcement %s is of another oracle, %s", ErrAttestation, a.Statement.ID, a.Statement.Issuer)
	}
	body.Subjects = []string{"cid:" + a.Statement.ID.String(), a.Subject()}
	body.Schema = AttestationSchema
	body.Attributes = statement.Attributes{"attestation": map[string]any{
		"announcement": a.Statement.ID.String(), "preimage": p.String(), "outcome": a.Outcomes[i].Name}}
	s, err := statement.Sign(body, secret)
	if err != nil {
		return Attestation{}, err
	}
	return ParseAttestation(s)
}

// ParseAttestation reads an attestation from a verified statement. Check it against the announcement before use.
func ParseAttestation(s *statement.Statement) (Attestation, error) {
	t := Attestation{Statement: s}
	m, ok := s.Attributes["attestation"].(map[string]any)
	if s.Schema != AttestationSchema || !ok || len(s.Attributes) != 1 {
		return t, fmt.Errorf("%w: statement %s has another schema or content", ErrAttestation, s.ID)
	}
	f := fields{m: m}
	id, err := statement.ParseID(f.text("announcement"))
	if err != nil {
		return t, fmt.Errorf("%w: statement %s: %w", ErrAttestation, s.ID, err)
	}
	h, err := types.ParseHash(f.text("preimage"))
	if err != nil || h.String() != m["preimage"] {
		return t, fmt.Errorf("%w: statement %s: the preimage must be 64 lower-case hex digits", ErrAttestation, s.ID)
	}
	t.Announcement, t.Preimage, t.Outcome = id, types.Preimage(h), f.text("outcome")
	if !f.complete() {
		return t, fmt.Errorf("%w: statement %s: want announcement, preimage, outcome and nothing else", ErrAttestation, s.ID)
	}
	if want := "cid:" + id.String(); s.Subject() != want {
		return t, fmt.Errorf("%w: statement %s: its subject must be %s", ErrAttestation, s.ID, want)
	}
	return t, nil
}

// Check tells which outcome of the announcement is attested.
func (t Attestation) Check(a Announcement) (int, error) {
	if t.Announcement != a.Statement.ID || t.Statement.Issuer != a.Statement.Issuer {
		return 0, fmt.Errorf("%w: %s answers another announcement or is of another oracle", ErrAttestation, t.Statement.ID)
	}
	i, err := a.OutcomeOf(t.Preimage)
	if err == nil && a.Outcomes[i].Name != t.Outcome {
		err = fmt.Errorf("%w: %s calls it %.80q, but the preimage opens %q", ErrAttestation, t.Statement.ID, t.Outcome, a.Outcomes[i].Name)
	}
	return i, err
}
