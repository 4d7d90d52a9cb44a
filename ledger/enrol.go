package ledger

import (
	"encoding/binary"
	"math/bits"
	"slices"

	"github.com/eschaton-network/chand/types"
)

// What an enrolled key may be used for, as bits.
const (
	// RoleAccount: for an account. RoleNode: for a node.
	RoleAccount uint8 = 1 << 0
	RoleNode    uint8 = 1 << 1
)

// MaxAdmins bounds the accounts that may enrol others: their consents are named by 16 bits.
const MaxAdmins = 16

// Policy is who may join the ledger, and who decides it.
type Policy struct {
	// Version is 0 at genesis and one more after each change.
	Version uint32
	// Enrolled: keys of new accounts and nodes must have been enrolled by an admin.
	Enrolled bool
	// Admins may enrol keys, and more than half of them together change the policy.
	Admins []types.AccountID
}

func (p *Policy) append(b []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, p.Version)
	enrolled := byte(0)
	if p.Enrolled {
		enrolled = 1
	}
	b = append(b, enrolled, byte(len(p.Admins)))
	for _, a := range p.Admins {
		n := accountBytes(a)
		b = append(b, n[:]...)
	}
	return b
}

func (p *Policy) check() *Refusal {
	if len(p.Admins) > MaxAdmins {
		return refuse(CodeLength, "%d admins: at most %d", len(p.Admins), MaxAdmins)
	}
	if p.Enrolled && len(p.Admins) == 0 {
		return refuse(CodePolicy, "nobody could join: enrolment is wanted, but there are no admins")
	}
	for i, a := range p.Admins {
		if slices.Contains(p.Admins[:i], a) {
			return refuse(CodeDuplicate, "admin %s appears twice", a)
		}
	}
	return nil
}

// SignAsAdmin is the consent of an admin that does not submit the SetPolicy itself: its account's ed25519 signature over a tagged hash of
// genesis and policy. The version makes it good for one change.
func (p Policy) SignAsAdmin(secret [32]byte, genesis types.Hash) [64]byte {
	h := p.consentHash(genesis)
	return signBytes(secret, h[:])
}

func (p *Policy) consentHash(genesis types.Hash) types.Hash {
	return types.TaggedHash("chand/policy consent", genesis[:], p.append(nil))
}

// Policy is who may join the ledger.
func (s *State) Policy() Policy {
	p := s.registry.policy
	p.Admins = slices.Clone(p.Admins)
	return p
}

// EnrolledKey returns what a key was enrolled for, as bits; 0 when it was not.
func (s *State) EnrolledKey(key types.Hash) uint8 { return s.registry.roles[key] }

// admits refuses a new key that must be enrolled and is not.
func (s *State) admits(key types.Hash, role uint8) *Refusal {
	if s.registry.policy.Enrolled && s.registry.roles[key]&role == 0 {
		return refuse(CodeNotEnrolled, "key %s is not enrolled for role %d; one of the admins %v must enrol it first", key, role, s.registry.policy.Admins)
	}
	return nil
}

// Enrol lets a key be used for accounts or nodes from now on, or withdraws that (Roles 0); accounts and nodes that have it stay. Only an
// admin may. 112 bytes.
type Enrol struct {
	PublicKey types.Hash
	// Roles are bits, RoleAccount and RoleNode.
	Roles uint8
}

func (Enrol) kind() byte                        { return TypeEnrol }
func (Enrol) tail(b []byte) []byte              { return b }
func (Enrol) fee(types.AccountID) types.Amount  { return feeStatus }
func (Enrol) cost(types.AccountID) types.Amount { return 0 }
func (e Enrol) signed(b []byte) []byte          { return append(append(b, e.PublicKey[:]...), e.Roles) }

func (e Enrol) check() *Refusal {
	if e.Roles&^(RoleAccount|RoleNode) != 0 {
		return refuse(CodePolicy, "roles %#x: want bits of %#x", e.Roles, RoleAccount|RoleNode)
	}
	return nil
}

func readEnrol(r *reader, sig func()) Body {
	e := Enrol{PublicKey: r.hash(), Roles: r.u8()}
	sig()
	return e
}

func (e Enrol) verify(x *exec) *Refusal {
	if !slices.Contains(x.s.registry.policy.Admins, x.from) {
		return refuse(CodePolicy, "account %s may not enrol keys; admins are %v", x.from, x.s.registry.policy.Admins)
	}
	return nil
}

func (e Enrol) apply(x *exec) {
	x.s.putRoles(e.PublicKey, e.Roles)
	x.emit(Enrolled{By: x.from, PublicKey: e.PublicKey, Roles: e.Roles})
}

func (s *State) putRoles(key types.Hash, roles uint8) {
	if roles == 0 {
		delete(s.registry.roles, key)
		s.registry.roleTree.Delete(key)
		return
	}
	s.registry.roles[key] = roles
	s.registry.roleTree.Set(key, rolesHash(roles))
}

func rolesHash(roles uint8) types.Hash { return types.TaggedHash("chand/roles", []byte{roles}) }

// SetPolicy changes the policy, with the consent of more than half of the admins, the sender among them. 87 bytes, 6
// for each admin of the new policy, and 64 for each consent but the sender's.
type SetPolicy struct {
	Policy
	// Signers has a bit for each admin of the old policy, in its order, whose consent follows; the sender's is not set.
	Signers uint16
	// Signatures are SignAsAdmin's of the signers, in their order.
	Signatures [][64]byte
}

func (SetPolicy) kind() byte                        { return TypeSetPolicy }
func (SetPolicy) cost(types.AccountID) types.Amount { return 0 }
func (p SetPolicy) signed(b []byte) []byte          { return p.Policy.append(b) }

// fee is that of status bits, once for each signature.
func (p SetPolicy) fee(types.AccountID) types.Amount {
	return feeStatus * types.Amount(1+len(p.Signatures))
}

func (p SetPolicy) check() *Refusal {
	if bits.OnesCount16(p.Signers) != len(p.Signatures) {
		return refuse(CodeLength, "%d signatures of %d signers", len(p.Signatures), bits.OnesCount16(p.Signers))
	}
	return p.Policy.check()
}

func (p SetPolicy) tail(b []byte) []byte {
	b = binary.LittleEndian.AppendUint16(b, p.Signers)
	for _, s := range p.Signatures {
		b = append(b, s[:]...)
	}
	return b
}

func readSetPolicy(r *reader, sig func()) Body {
	p := SetPolicy{Policy: Policy{Version: r.u32()}}
	switch r.u8() {
	case 0:
	case 1:
		p.Enrolled = true
	default:
		r.short = true
	}
	if n := int(r.u8()); r.fits(n, 6) {
		for range n {
			p.Admins = append(p.Admins, r.account())
		}
	}
	sig()
	p.Signers = r.u16()
	if n := bits.OnesCount16(p.Signers); r.fits(n, sigSize) {
		for range n {
			p.Signatures = append(p.Signatures, r.signature())
		}
	}
	return p
}

func (p SetPolicy) verify(x *exec) *Refusal {
	now := &x.s.registry.policy
	at := slices.Index(now.Admins, x.from)
	switch {
	case at < 0:
		return refuse(CodePolicy, "account %s may not change the policy; admins are %v", x.from, now.Admins)
	case p.Version != now.Version+1:
		return refuse(CodePolicy, "the policy has version %d, so the next is %d and not %d", now.Version, now.Version+1, p.Version)
	case p.Signers>>at&1 != 0 || int(p.Signers)>>len(now.Admins) != 0:
		return refuse(CodePolicy, "signers %#x: want bits of the %d admins but number %d, who sends this", p.Signers, len(now.Admins), at)
	case 2*(1+len(p.Signatures)) <= len(now.Admins):
		return refuse(CodePolicy, "%d of %d admins consent: want more than half", 1+len(p.Signatures), len(now.Admins))
	}
	consent, sigs := p.consentHash(x.s.params.Genesis), p.Signatures
	for i, a := range now.Admins {
		if p.Signers>>i&1 == 0 {
			continue
		}
		if !x.s.verifier.verify(sigCheck{x.s.peek(a).PublicKey, consent[:], sigs[0]}) {
			return refuse(CodePolicy, "the signature of admin %s does not fit this policy", a)
		}
		sigs = sigs[1:]
	}
	for _, a := range p.Admins {
		if r := verifyTarget(x, a); r != nil {
			return r
		}
		if x.s.peek(a).Status&StatusDeleted != 0 {
			return refuse(CodeTargetAccount, "account %s was deleted", a)
		}
	}
	return nil
}

func (p SetPolicy) apply(x *exec) {
	x.s.registry.policy = p.Policy
	x.emit(PolicyChanged{TxID: x.txID, Policy: x.s.Policy()})
}
