package ledger

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"github.com/eschaton-network/chand/merkle"
	"github.com/eschaton-network/chand/types"
)

// registry is the part "certificates" of the state: certificates, keys that were enrolled, and the policy.
type registry struct {
	certificates    map[CertificateKey]Certificate
	certificateTree merkle.Map
	roles           map[types.Hash]uint8
	roleTree        merkle.Map
	policy          Policy
}

func newRegistry(g Genesis) registry {
	return registry{
		certificates: make(map[CertificateKey]Certificate), roles: make(map[types.Hash]uint8),
		policy: Policy{Enrolled: g.Admission == AdmissionEnrolled, Admins: slices.Clone(g.Admins)},
	}
}

// freeze returns what a snapshot holds.
func (r *registry) freeze() registry {
	return registry{certificates: maps.Clone(r.certificates), roles: maps.Clone(r.roles), policy: r.policy}
}

// RegistryParts are what the part "certificates" is the tagged hash chand/registry of.
type RegistryParts struct {
	Certificates types.Hash `json:"certificates"`
	Roles        types.Hash `json:"roles"`
	Policy       types.Hash `json:"policy"`
}

func (p RegistryParts) hash() types.Hash {
	return types.TaggedHash("chand/registry", p.Certificates[:], p.Roles[:], p.Policy[:])
}

func (r *registry) parts() RegistryParts {
	return RegistryParts{r.certificateTree.Root(), r.roleTree.Root(), policyHash(&r.policy)}
}

func policyHash(p *Policy) types.Hash { return types.TaggedHash("chand/policy", p.append(nil)) }

// RegistryProof leads from a certificate, an enrolled key, or the absence of one, to the state root.
type RegistryProof struct {
	Map merkle.MapProof `json:"map"`
	// Registry are the parts of the registry, Parts those of the state root; what is proven is computed.
	Registry RegistryParts `json:"registry"`
	Parts    Parts         `json:"parts"`
}

// CertificateProof proves against Root what certificate there is under a key, or that there never was one.
func (s *State) CertificateProof(k CertificateKey) RegistryProof {
	s.rehash()
	return RegistryProof{Map: s.registry.certificateTree.Prove(k.Key()), Registry: s.registry.parts(), Parts: s.parts}
}

// EnrolmentProof proves against Root what a key is enrolled for.
func (s *State) EnrolmentProof(key types.Hash) RegistryProof {
	s.rehash()
	return RegistryProof{Map: s.registry.roleTree.Prove(key), Registry: s.registry.parts(), Parts: s.parts}
}

// VerifyCertificateProof checks that c is the certificate under its key, or, when c is nil, that there never was one under k, in the ledger
// state with this root. Whether it holds is for Certificate.Holds to say. The error wraps merkle.ErrProof.
func VerifyCertificateProof(root types.Hash, k CertificateKey, c *Certificate, p RegistryProof) error {
	computed, value, found, err := p.Map.Root(k.Key())
	if err != nil {
		return err
	}
	switch {
	case found != (c != nil):
		return fmt.Errorf("%w: it says found = %v of a certificate of %s by %s", merkle.ErrProof, found, k.Subject, k.Issuer)
	case found && (c.CertificateKey != k || c.hash() != value):
		return fmt.Errorf("%w: the certificate of %s by %s is another one", merkle.ErrProof, k.Subject, k.Issuer)
	}
	p.Registry.Certificates = computed
	return p.Parts.want(root, partCertificates, p.Registry.hash())
}

// VerifyEnrolmentProof checks that a key is enrolled for roles (0: for none) in the ledger state with this root. The error wraps
// merkle.ErrProof.
func VerifyEnrolmentProof(root, key types.Hash, roles uint8, p RegistryProof) error {
	computed, value, found, err := p.Map.Root(key)
	if err != nil {
		return err
	}
	if found != (roles != 0) || found && value != rolesHash(roles) {
		return fmt.Errorf("%w: key %s is not enrolled for %#x", merkle.ErrProof, key, roles)
	}
	p.Registry.Roles = computed
	return p.Parts.want(root, partCertificates, p.Registry.hash())
}

func compareCertificates(a, b CertificateKey) int {
	return slices.Compare(a.append(nil), b.append(nil))
}

// append writes the registry as it is stored in snapshots.
func (r *registry) append(b []byte) []byte {
	b = r.policy.append(b)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(r.roles)))
	for _, k := range slices.SortedFunc(maps.Keys(r.roles), compareHashes) {
		b = append(append(b, k[:]...), r.roles[k])
	}
	b = binary.LittleEndian.AppendUint32(b, uint32(len(r.certificates)))
	for _, k := range slices.SortedFunc(maps.Keys(r.certificates), compareCertificates) {
		c := r.certificates[k]
		b = c.append(b)
	}
	return b
}

func compareHashes(a, b types.Hash) int { return slices.Compare(a[:], b[:]) }

// registry reads what append wrote; limit bounds keys and certificates.
func (d *decoder) registry(s *State, limit int) {
	p := Policy{Version: d.u32(), Enrolled: d.flag("of enrolment")}
	for range d.u8() {
		p.Admins = append(p.Admins, types.AccountID{Node: d.u16(), User: d.u32()})
	}
	if r := p.check(); d.err == nil && r != nil {
		d.err = r
	}
	s.registry.policy = p
	var lastKey types.Hash
	for i := range d.count("enrolled keys", limit) {
		k, roles := d.hash(), d.u8()
		if d.err == nil && (roles == 0 || roles&^(RoleAccount|RoleNode) != 0 || i > 0 && compareHashes(lastKey, k) >= 0) {
			d.fail("enrolled key %s is malformed or out of order", k)
		}
		if d.err != nil {
			return
		}
		lastKey = k
		s.putRoles(k, roles)
	}
	var last CertificateKey
	for i := range d.count("certificates", limit) {
		c := d.certificate()
		if d.err == nil && (s.peek(c.Issuer) == nil || s.peek(c.Subject) == nil || i > 0 && compareCertificates(last, c.CertificateKey) >= 0) {
			d.fail("certificate of %s by %s is malformed or out of order", c.Subject, c.Issuer)
		}
		if d.err != nil {
			return
		}
		last = c.CertificateKey
		s.putCertificate(c)
	}
}

func (d *decoder) certificate() (c Certificate) {
	c.Issuer = types.AccountID{Node: d.u16(), User: d.u32()}
	c.Subject = types.AccountID{Node: d.u16(), User: d.u32()}
	c.Type, c.Content = d.u16(), d.hash()
	c.Issued, c.Changed, c.Expires = types.Height(d.u32()), types.Height(d.u32()), types.Time(d.u32())
	c.Revoked = d.flag("of revocation")
	return c
}

// flag reads a byte that is 0 or 1.
func (d *decoder) flag(what string) bool {
	b := d.u8()
	if b > 1 {
		d.fail("a mark %s is %d", what, b)
	}
	return b == 1
}
