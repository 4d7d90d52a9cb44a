package ledger

import (
	"encoding/binary"

	"github.com/eschaton-network/chand/types"
)

// feeCertificate is the fee of a certificate, which lives in the state: that of the maintenance of an account for a period (E17's 2^20).
// Updates and revocations cost what status bits cost.
const feeCertificate types.Amount = 1 << 20

// CertificateKey names a certificate: what Issuer says of Subject in matters of Type. There is one at most of each, so that its absence
// can be proven.
type CertificateKey struct {
	Issuer, Subject types.AccountID
	// Type is for those who read certificates: 256 and more kinds of role, permission or membership.
	Type uint16
}

// Key is the certificate's key in the map of certificates.
func (k CertificateKey) Key() types.Hash {
	return types.TaggedHash("chand/certificate key", k.append(nil))
}

func (k CertificateKey) append(b []byte) []byte {
	issuer, subject := accountBytes(k.Issuer), accountBytes(k.Subject)
	b = append(append(b, issuer[:]...), subject[:]...)
	return binary.LittleEndian.AppendUint16(b, k.Type)
}

// Certificate is one link in a chain of trust. It stays on the ledger after it ends, so that its end can be shown too.
type Certificate struct {
	CertificateKey
	// Content is the hash of what is certified.
	Content types.Hash
	// Issued is the height at which it was issued (again); Changed that of its last update or revocation.
	Issued, Changed types.Height
	// Expires is the time from which it no longer holds.
	Expires types.Time
	Revoked bool
}

// Holds tells whether the certificate holds at a time.
func (c *Certificate) Holds(at types.Time) bool { return !c.Revoked && at < c.Expires }

// append writes a certificate as it is hashed and stored in snapshots.
func (c *Certificate) append(b []byte) []byte {
	le := binary.LittleEndian
	b = append(c.CertificateKey.append(b), c.Content[:]...)
	b = le.AppendUint32(b, uint32(c.Issued))
	b = le.AppendUint32(b, uint32(c.Changed))
	b = le.AppendUint32(b, uint32(c.Expires))
	if c.Revoked {
		return append(b, 1)
	}
	return append(b, 0)
}

func (c *Certificate) hash() types.Hash { return types.TaggedHash("chand/certificate", c.append(nil)) }

// Certificate returns a certificate, which may have ended; ErrNotFound when there never was one.
func (s *State) Certificate(k CertificateKey) (Certificate, error) {
	c, ok := s.registry.certificates[k]
	if !ok {
		return Certificate{}, ErrNotFound
	}
	return c, nil
}

// putCertificate stores a certificate. Its issuer and subject are never deleted from now on, so that their numbers always mean them.
func (s *State) putCertificate(c Certificate) {
	if _, ok := s.registry.certificates[c.CertificateKey]; !ok {
		s.pin(c.Issuer, 1)
		s.pin(c.Subject, 1)
	}
	s.registry.certificates[c.CertificateKey] = c
	s.registry.certificateTree.Set(c.Key(), c.hash())
}

// IssueCertificate says that the sender trusts Subject, in matters of Type, until Expires. It replaces one that has ended. 123 bytes.
type IssueCertificate struct {
	Subject types.AccountID
	Type    uint16
	// Expires is the time from which it no longer holds, later than the block.
	Expires types.Time
	// Content is the hash of what is certified; its text is kept elsewhere.
	Content types.Hash
}

// UpdateCertificate gives a certificate of the sender's that holds another expiry or content. 123 bytes.
type UpdateCertificate IssueCertificate

// RevokeCertificate ends a certificate of the sender's. 87 bytes.
type RevokeCertificate struct {
	Subject types.AccountID
	Type    uint16
}

func (IssueCertificate) kind() byte                        { return TypeIssueCertificate }
func (IssueCertificate) tail(b []byte) []byte              { return b }
func (IssueCertificate) fee(types.AccountID) types.Amount  { return feeCertificate }
func (IssueCertificate) cost(types.AccountID) types.Amount { return 0 }

func (c IssueCertificate) check() *Refusal {
	if c.Expires < 0 || c.Expires > maxTime {
		return refuse(CodeCertificate, "expiry %d does not fit 32 bits", c.Expires)
	}
	return nil
}

func (c IssueCertificate) signed(b []byte) []byte {
	n := accountBytes(c.Subject)
	b = binary.LittleEndian.AppendUint16(append(b, n[:]...), c.Type)
	b = binary.LittleEndian.AppendUint32(b, uint32(c.Expires))
	return append(b, c.Content[:]...)
}

func readIssueCertificate(r *reader, sig func()) Body {
	c := IssueCertificate{Subject: r.account(), Type: r.u16(), Expires: types.Time(r.u32()), Content: r.hash()}
	sig()
	return c
}

func (c IssueCertificate) key(x *exec) CertificateKey {
	return CertificateKey{Issuer: x.from, Subject: c.Subject, Type: c.Type}
}

func (c IssueCertificate) verify(x *exec) *Refusal {
	if r := verifyTarget(x, c.Subject); r != nil {
		return r
	}
	old := x.s.registry.certificates[c.key(x)]
	switch {
	case x.s.peek(c.Subject).Status&StatusDeleted != 0:
		return refuse(CodeTargetAccount, "account %s was deleted", c.Subject)
	case c.Expires <= x.time:
		return refuse(CodeCertificate, "the certificate would expire at %d and this is %d", c.Expires, x.time)
	case old.Holds(x.time):
		return refuse(CodeCertificate, "account %s has a certificate of type %d by %s until %d; update or revoke that", c.Subject, c.Type, x.from, old.Expires)
	}
	return nil
}

func (c IssueCertificate) apply(x *exec) {
	x.s.changeCertificate(x, Certificate{CertificateKey: c.key(x), Content: c.Content, Issued: x.height, Changed: x.height, Expires: c.Expires})
}

func (s *State) changeCertificate(x *exec, c Certificate) {
	s.putCertificate(c)
	x.emit(CertificateChanged{TxID: x.txID, Certificate: c})
}

func (UpdateCertificate) kind() byte                        { return TypeUpdateCertificate }
func (UpdateCertificate) tail(b []byte) []byte              { return b }
func (UpdateCertificate) fee(types.AccountID) types.Amount  { return feeStatus }
func (UpdateCertificate) cost(types.AccountID) types.Amount { return 0 }
func (u UpdateCertificate) check() *Refusal                 { return IssueCertificate(u).check() }
func (u UpdateCertificate) signed(b []byte) []byte          { return IssueCertificate(u).signed(b) }

func readUpdateCertificate(r *reader, sig func()) Body {
	return UpdateCertificate(readIssueCertificate(r, sig).(IssueCertificate))
}

func (u UpdateCertificate) verify(x *exec) *Refusal {
	if r := x.s.verifyHolds(x, IssueCertificate(u).key(x)); r != nil {
		return r
	}
	if u.Expires <= x.time {
		return refuse(CodeCertificate, "the certificate would expire at %d and this is %d; revoke it instead", u.Expires, x.time)
	}
	return nil
}

func (u UpdateCertificate) apply(x *exec) {
	c := x.s.registry.certificates[IssueCertificate(u).key(x)]
	c.Content, c.Expires, c.Changed = u.Content, u.Expires, x.height
	x.s.changeCertificate(x, c)
}

// verifyHolds wants a certificate to hold now.
func (s *State) verifyHolds(x *exec, k CertificateKey) *Refusal {
	if c, ok := s.registry.certificates[k]; !ok || !c.Holds(x.time) {
		return refuse(CodeCertificate, "account %s has no certificate of type %d by %s that holds", k.Subject, k.Type, k.Issuer)
	}
	return nil
}

func (RevokeCertificate) kind() byte                        { return TypeRevokeCertificate }
func (RevokeCertificate) check() *Refusal                   { return nil }
func (RevokeCertificate) tail(b []byte) []byte              { return b }
func (RevokeCertificate) fee(types.AccountID) types.Amount  { return feeStatus }
func (RevokeCertificate) cost(types.AccountID) types.Amount { return 0 }

func (c RevokeCertificate) signed(b []byte) []byte {
	n := accountBytes(c.Subject)
	return binary.LittleEndian.AppendUint16(append(b, n[:]...), c.Type)
}

func readRevokeCertificate(r *reader, sig func()) Body {
	c := RevokeCertificate{Subject: r.account(), Type: r.u16()}
	sig()
	return c
}

func (c RevokeCertificate) key(x *exec) CertificateKey {
	return CertificateKey{Issuer: x.from, Subject: c.Subject, Type: c.Type}
}

func (c RevokeCertificate) verify(x *exec) *Refusal { return x.s.verifyHolds(x, c.key(x)) }

func (c RevokeCertificate) apply(x *exec) {
	old := x.s.registry.certificates[c.key(x)]
	old.Revoked, old.Changed = true, x.height
	x.s.changeCertificate(x, old)
}
