package ledger

import (
	"github.com/eschaton-network/chand/types"
)

// What a chronicle of model_history_test.go lets accounts ask for.

func (c *chronicle) proof(secret [32]byte) [64]byte {
	if c.pick(15) == 0 {
		return [64]byte{1}
	}
	return KeyProof(secret)
}

func (c *chronicle) createAccount(from types.AccountID) Body {
	b := CreateAccount{Node: from.Node}
	if c.pick(3) == 0 {
		b.Node = c.nodeID()
	}
	if c.pick(3) > 0 {
		k := c.key()
		b.PublicKey, b.Proof = PublicKey(k), c.proof(k)
	}
	if c.pick(40) == 0 {
		b.PublicKey, b.Proof = [32]byte{}, [64]byte{1}
	}
	return b
}

func (c *chronicle) sendMany(from types.AccountID) Body {
	var s SendMany
	for range c.pick(4) {
		s.Wires = append(s.Wires, Wire{c.target(), c.amount(from)})
	}
	return s
}

// body draws a transaction of any type but those of contracts.
func (c *chronicle) body(from types.AccountID) Body {
	k := c.key()
	cert := func() IssueCertificate {
		return IssueCertificate{Subject: c.target(), Type: uint16(c.pick(2)), Expires: c.m.time + types.Time(c.pick(20)), Content: types.Hash{byte(c.pick(3))}}
	}
	status := func() SetAccountStatus {
		to := c.target()
		if c.pick(2) == 0 {
			to.Node = from.Node
		}
		return SetAccountStatus{to, uint16(oneOf[int](c, 0, 1, 2, 4, 8, 14, 16, 0x8000, 0xFFFE))}
	}
	nodeStatus := func() SetNodeStatus {
		return SetNodeStatus{c.nodeID(), oneOf[uint32](c, 0, 1, 2, 8, 0x8000, 0x10000, 0x800000, 1<<24, 1<<31, 3<<24)}
	}
	kind := oneOf[byte](c, 3, 4, 4, 4, 4, 4, 5, 5, 6, 6, 6, 6, 7, 8, 8, 8, 9, 10, 11, 12, 12, 13, 14, 15, 34, 35, 36, 36, 37, 38, 39, 39, 40, 41, 44)
	switch kind {
	case TypeBroadcast:
		return Broadcast{make([]byte, c.pick(4))}
	case TypeSendOne:
		return SendOne{To: c.target(), Amount: c.amount(from)}
	case TypeSendMany:
		return c.sendMany(from)
	case TypeCreateAccount:
		return c.createAccount(from)
	case TypeCreateNode:
		return CreateNode{}
	case TypeRetrieveFunds:
		return c.retrieve(from)
	case TypeChangeAccountKey:
		return ChangeAccountKey{PublicKey(k), c.proof(k)}
	case TypeChangeNodeKey:
		b := ChangeNodeKey{c.nodeID(), PublicKey(k), c.proof(k)}
		for i, n := range c.m.nodes {
			if n.Status&1 != 0 && c.pick(2) == 0 {
				b.Node = uint16(i + 1)
			}
		}
		return b
	case TypeSetAccountStatus:
		return status()
	case TypeUnsetAccountStatus:
		return UnsetAccountStatus(status())
	case TypeSetNodeStatus:
		return nodeStatus()
	case TypeUnsetNodeStatus:
		return UnsetNodeStatus(nodeStatus())
	case TypeLogAccount:
		return LogAccount{}
	case TypeAnchor:
		return Anchor{make([]types.Hash, c.pick(3))}
	case TypeAnchorPairs:
		return AnchorPairs{make([]Pair, c.pick(3))}
	case TypeIssueCertificate:
		return cert()
	case TypeUpdateCertificate:
		return UpdateCertificate(cert())
	case TypeRevokeCertificate:
		x := cert()
		return RevokeCertificate{x.Subject, x.Type}
	case TypeEnrol:
		return Enrol{PublicKey(k), uint8(c.pick(5))}
	case TypeLease:
		return Lease{c.nodeID(), oneOf(c, c.amount(from), 1<<28, 1<<28-1)}
	case TypeCancelLease:
		return c.cancel(from)
	}
	return c.setPolicy(from)
}

// retrieve aims mostly at an account with the sender's key, at best one that it has locked already.
func (c *chronicle) retrieve(from types.AccountID) Body {
	me := c.m.account(from)
	best := c.target()
	for i, n := range c.m.nodes {
		for user, a := range n.accounts {
			id := types.AccountID{Node: uint16(i + 1), User: uint32(user)}
			if me == nil || c.pick(8) == 0 || id.Node == from.Node || a.PublicKey != me.PublicKey {
				continue
			}
			if best = id; a.PairedNode == from.Node && a.PairedID == from.User {
				return RetrieveFunds{id}
			}
		}
	}
	return RetrieveFunds{best}
}

func (c *chronicle) cancel(from types.AccountID) Body {
	for _, k := range sortedBonds(c.m.bonds) {
		if k.From == from && k.Due == 0 {
			has := c.m.bonds[k]
			return CancelLease{k.Node, max(oneOf(c, has, has, has+1, has-1, 1<<28, 1<<28-1, has-1<<28, has-1<<28+1), 1)}
		}
	}
	return CancelLease{c.nodeID(), 1}
}

func (c *chronicle) setPolicy(from types.AccountID) Body {
	p := SetPolicy{Policy: Policy{Version: c.m.policy.Version + uint32(c.pick(4)/3+1), Enrolled: c.pick(3) == 0}}
	for _, a := range c.m.policy.Admins {
		if c.pick(8) > 0 {
			p.Admins = append(p.Admins, a)
		}
	}
	if x := c.target(); c.pick(4) == 0 && p.check() == nil {
		p.Admins = append(p.Admins, x)
		if p.check() != nil {
			p.Admins = p.Admins[:len(p.Admins)-1]
		}
	}
	for i, a := range c.m.policy.Admins {
		if a != from && c.pick(3) > 0 {
			p.Signers |= 1 << i
			p.Signatures = append(p.Signatures, p.Policy.SignAsAdmin(c.secrets[c.m.account(a).PublicKey], c.m.genesis))
		}
	}
	return p
}
