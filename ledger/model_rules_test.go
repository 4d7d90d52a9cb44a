package ledger

import (
	"math/bits"
	"slices"

	"github.com/eschaton-network/chand/types"
)

// What the second ledger of model_test.go asks for a transaction, and what it refuses.

type remoteFee struct {
	to  types.AccountID
	fee types.Amount
}

// modelPrice is the table of fees, what else leaves the sender, and which parts of the fee are for other nodes.
func modelPrice(from types.AccountID, b Body) (fee, cost types.Amount, remote []remoteFee) {
	pay := func(to types.AccountID, a types.Amount) {
		fee += a / 8192
		if to.Node != from.Node {
			fee += a / 8192
			remote = append(remote, remoteFee{to, a / 8192})
		}
		cost += a
	}
	switch b := b.(type) {
	case SendOne:
		fee = 4096
		pay(b.To, max(b.Amount, 0))
	case SendMany:
		fee = 4096 + 256*types.Amount(len(b.Wires))
		for _, w := range b.Wires {
			pay(w.To, w.Amount)
		}
	case Broadcast:
		fee = 4096 + 65536*types.Amount(len(b.Data))
	case Anchor:
		fee = 4096 + 65536*types.Amount(len(b.Hashes))
	case AnchorPairs:
		fee = 4096 + 2*65536*types.Amount(len(b.Pairs))
	case CreateAccount:
		fee, cost = 4096, 1<<28
		if b.Node != from.Node {
			fee = 1 << 20
			remote = []remoteFee{{types.AccountID{Node: b.Node}, 1<<20 - 4096}}
		}
	case CreateNode:
		fee, cost = 1<<28, 1<<36
	case RetrieveFunds, LogAccount, CancelLease, IssueCertificate:
		fee = 1 << 20
	case Lease:
		fee, cost = 1<<20, b.Amount
	case ChangeAccountKey:
		fee = 4096
	case ChangeNodeKey:
		fee = 1 << 28
	case SetAccountStatus, UnsetAccountStatus, SetNodeStatus, UnsetNodeStatus, UpdateCertificate, RevokeCertificate, Enrol:
		fee = 65536
	case SetPolicy:
		fee = 65536 * types.Amount(1+len(b.Signatures))
	}
	return fee, cost, remote
}

// modelForm is what can be told from a transaction alone.
func modelForm(b Body) uint32 {
	notStake := func(a types.Amount) bool { return a <= 0 || a > 1<<62 }
	status := func(bits uint16) uint32 {
		if bits == 0 || bits&1 != 0 {
			return 45
		}
		return 0
	}
	nodeStatus := func(bits uint32) uint32 {
		if bits == 0 || bits&7 != 0 {
			return 48
		}
		return 0
	}
	count := func(n, most int) uint32 {
		if n == 0 || n > most {
			return 32
		}
		return 0
	}
	switch b := b.(type) {
	case SendOne:
		if b.Amount > 1<<62 {
			return 9
		}
	case SendMany:
		return modelWires(b.Wires)
	case Broadcast:
		return count(len(b.Data), 32000)
	case Anchor:
		return count(len(b.Hashes), 256)
	case AnchorPairs:
		return count(len(b.Pairs), 128)
	case CreateAccount:
		if b.PublicKey == ([32]byte{}) && b.Proof != ([64]byte{}) {
			return 256
		}
	case Lease:
		return first(when(notStake(b.Amount), 18), when(b.Amount < 1<<28, 277))
	case CancelLease:
		return when(notStake(b.Amount), 18)()
	case SetAccountStatus:
		return status(b.Bits)
	case UnsetAccountStatus:
		return status(b.Bits)
	case SetNodeStatus:
		return nodeStatus(b.Bits)
	case UnsetNodeStatus:
		return nodeStatus(b.Bits)
	case Enrol:
		if b.Roles > 3 {
			return 276
		}
	case SetPolicy:
		if b.Enrolled && len(b.Admins) == 0 {
			return 276
		}
	}
	return 0
}

func modelWires(wires []Wire) uint32 {
	if len(wires) == 0 || len(wires) > 4096 {
		return 32
	}
	for i, w := range wires {
		for _, v := range wires[:i] {
			if v.To == w.To {
				return 16
			}
		}
	}
	sum := uint64(0)
	for _, w := range wires {
		if w.Amount <= 0 {
			return 18
		}
		if sum += uint64(w.Amount); sum > 1<<62 {
			return 9
		}
	}
	return 0
}

func (m *modelLedger) target(id types.AccountID) uint32 {
	if m.node(id.Node) == nil {
		return 20
	}
	if m.account(id) == nil {
		return 19
	}
	return 0
}

func provenKey(key types.Hash, proof [64]byte) uint32 {
	if !goodSignature(key, nil, proof) {
		return 256
	}
	return 0
}

func (m *modelLedger) admits(key types.Hash, role uint8) uint32 {
	if m.policy.Enrolled && m.roles[key]&role == 0 {
		return 275
	}
	return 0
}

func (m *modelLedger) hasNode(key types.Hash) bool {
	return slices.ContainsFunc(m.nodes, func(n *modelNode) bool { return n.PublicKey == key || n.OldKey == key })
}

// first returns the first code that is not 0, of checks in their order.
func first(checks ...func() uint32) uint32 {
	for _, c := range checks {
		if code := c(); code != 0 {
			return code
		}
	}
	return 0
}

func when(is bool, code uint32) func() uint32 {
	return func() uint32 {
		if is {
			return code
		}
		return 0
	}
}

// refuses is what the state does not allow.
func (m *modelLedger) refuses(from types.AccountID, b Body) uint32 {
	sender := m.account(from)
	switch b := b.(type) {
	case SendOne:
		return m.target(b.To)
	case SendMany:
		for _, w := range b.Wires {
			if code := m.target(w.To); code != 0 {
				return code
			}
		}
	case CreateAccount:
		return m.refusesAccount(from, b)
	case ChangeAccountKey:
		return first(func() uint32 { return provenKey(b.PublicKey, b.Proof) }, func() uint32 { return m.admits(b.PublicKey, 1) })
	case CreateNode:
		return first(when(m.hasNode(sender.PublicKey), 27), func() uint32 { return m.admits(sender.PublicKey, 2) })
	case ChangeNodeKey:
		return m.refusesNodeKey(from, b)
	case RetrieveFunds:
		return first(func() uint32 { return m.target(b.Account) }, func() uint32 { _, code := m.phase(retrieval{from, b.Account}); return code })
	case SetAccountStatus:
		return m.refusesStatus(from, b)
	case UnsetAccountStatus:
		return m.refusesStatus(from, SetAccountStatus(b))
	case SetNodeStatus:
		return m.refusesNodeStatus(from, b)
	case UnsetNodeStatus:
		return m.refusesNodeStatus(from, SetNodeStatus(b))
	case Lease:
		n := m.node(b.Node)
		return first(when(n == nil, 20), func() uint32 { return when(n.Status&1 != 0, 20)() })
	case CancelLease:
		has := m.bonds[BondKey{Node: b.Node, From: from}]
		return first(when(has < b.Amount, 272), when(has != b.Amount && (b.Amount < 1<<28 || has-b.Amount < 1<<28), 277))
	case IssueCertificate:
		old, had := m.certs[CertificateKey{from, b.Subject, b.Type}]
		return first(func() uint32 { return m.target(b.Subject) },
			func() uint32 { return when(m.account(b.Subject).deletedAt != 0, 19)() },
			when(int64(b.Expires) <= int64(m.time), 274),
			when(had && !old.Revoked && m.time < old.Expires, 274))
	case UpdateCertificate:
		return first(when(!m.holds(CertificateKey{from, b.Subject, b.Type}), 274), when(int64(b.Expires) <= int64(m.time), 274))
	case RevokeCertificate:
		return when(!m.holds(CertificateKey{from, b.Subject, b.Type}), 274)()
	case Enrol:
		return when(!slices.Contains(m.policy.Admins, from), 276)()
	case SetPolicy:
		return m.refusesPolicy(from, b)
	}
	return 0
}

func (m *modelLedger) holds(k CertificateKey) bool {
	c, ok := m.certs[k]
	return ok && !c.Revoked && m.time < c.Expires
}

func (m *modelLedger) refusesAccount(from types.AccountID, b CreateAccount) uint32 {
	n, key := m.node(b.Node), types.Hash(b.PublicKey)
	if n == nil {
		return 20
	}
	if b.PublicKey == ([32]byte{}) {
		key = m.account(from).PublicKey
	}
	if b.Node != from.Node {
		if n.Status&1 != 0 {
			return 20
		}
		if slices.ContainsFunc(m.reqs, func(r modelRequest) bool { return r.requestKey == requestKey{b.Node, from, key} }) {
			return 13
		}
		if len(m.reqs) >= 10000 {
			return 271
		}
	}
	if b.PublicKey != ([32]byte{}) && provenKey(key, b.Proof) != 0 {
		return 256
	}
	return m.admits(key, 1)
}

func (m *modelLedger) refusesNodeKey(from types.AccountID, b ChangeNodeKey) uint32 {
	id := b.Node
	if id == 0 {
		id = from.Node
	}
	n := m.node(id)
	if n == nil {
		return 20
	}
	own := m.node(from.Node)
	closed, opener := n.Status&1 != 0, own.Status&4 != 0 && own.Status&1 == 0
	return first(when(from.User != 0, 27), when(closed && !opener, 27), when(!closed && id != from.Node, 27), when(!closed && m.keyFixed(n), 27), when(m.hasNode(b.PublicKey), 27),
		func() uint32 { return provenKey(b.PublicKey, b.Proof) }, func() uint32 { return m.admits(b.PublicKey, 2) })
}

func (m *modelLedger) refusesStatus(from types.AccountID, b SetAccountStatus) uint32 {
	may := uint16(0x000E) // A19: bits 1 to 3 for all of the node
	if from.User == 0 || from == b.Account {
		may = 0xFFFE
	}
	return first(func() uint32 { return m.target(b.Account) }, when(from.Node != b.Account.Node, 49),
		func() uint32 { return when(m.account(b.Account).deletedAt != 0, 19)() }, when(b.Bits&^may != 0, 45))
}

func (m *modelLedger) refusesNodeStatus(from types.AccountID, b SetNodeStatus) uint32 {
	may := uint32(0)
	if from.User == 0 && from.Node == b.Node {
		may |= 0xFFF8 // bits 3 to 15: the node's own
	}
	if from.User == 0 && m.node(from.Node).Status&2 != 0 {
		may |= 0xFFFF0000 // any validator's, and those that they vote on
	}
	return first(when(m.node(b.Node) == nil, 20), when(b.Bits&^may != 0, 48))
}

func (m *modelLedger) refusesPolicy(from types.AccountID, b SetPolicy) uint32 {
	at := slices.Index(m.policy.Admins, from)
	if at < 0 || b.Version != m.policy.Version+1 || b.Signers>>at&1 != 0 || bits.Len16(b.Signers) > len(m.policy.Admins) ||
		2*(1+len(b.Signatures)) <= len(m.policy.Admins) {
		return 276
	}
	h, i := types.TaggedHash("chand/policy consent", m.genesis[:], b.Policy.append(nil)), 0
	for j, a := range m.policy.Admins {
		if b.Signers>>j&1 == 0 {
			continue
		}
		if !goodSignature(m.account(a).PublicKey, h[:], b.Signatures[i]) {
			return 276
		}
		i++
	}
	for _, a := range b.Admins {
		if code := m.target(a); code != 0 {
			return code
		}
		if m.account(a).deletedAt != 0 {
			return 19
		}
	}
	return 0
}
