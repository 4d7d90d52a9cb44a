package ledger

import (
	"cmp"
	"slices"

	"github.com/eschaton-network/chand/types"
)

// What a transaction and a punishment do on the second ledger of model_test.go.

// do is what an accepted transaction does.
func (m *modelLedger) do(from types.AccountID, b Body) {
	switch b := b.(type) {
	case SendOne:
		m.credit(b.To, max(b.Amount, 0), b.To.Node != from.Node)
	case SendMany:
		for _, w := range b.Wires {
			m.credit(w.To, w.Amount, w.To.Node != from.Node)
		}
	case CreateAccount:
		key := types.Hash(b.PublicKey)
		if b.PublicKey == ([32]byte{}) {
			key = m.account(from).PublicKey
		}
		if b.Node != from.Node {
			m.reqs = append(m.reqs, modelRequest{requestKey{b.Node, from, key}, m.height})
			return
		}
		id := m.newAccount(b.Node, key, 1<<28)
		m.account(from).PairedNode, m.account(from).PairedID = 0, id.User
		m.account(id).PairedNode, m.account(id).PairedID = from.Node, from.User
	case ChangeAccountKey:
		m.account(from).PublicKey = b.PublicKey
	case CreateNode:
		m.newNodes = append(m.newNodes, newNode{from, m.account(from).PublicKey})
	case ChangeNodeKey:
		id := b.Node
		if id == 0 {
			id = from.Node
		}
		m.keys = append(m.keys, nodeKey{id, b.PublicKey, m.node(id).Status&1 != 0})
	case RetrieveFunds:
		m.retrievals = append(m.retrievals, retrieval{from, b.Account})
	case SetAccountStatus:
		m.account(b.Account).Status |= b.Bits
	case UnsetAccountStatus:
		m.account(b.Account).Status &^= b.Bits
	case SetNodeStatus:
		m.node(b.Node).Status |= b.Bits & 0xFFFFFF
		m.voteFor(from.Node, b, true)
	case UnsetNodeStatus:
		m.node(b.Node).Status &^= b.Bits & 0xFFFFFF
		m.voteFor(from.Node, SetNodeStatus(b), false)
	case Lease:
		m.bonds[BondKey{Node: b.Node, From: from}] += b.Amount
	case CancelLease:
		m.bonds[BondKey{Node: b.Node, From: from}] -= b.Amount
		m.bonds[BondKey{b.Node, from, m.height + types.Height(m.g.UnbondingBlocks)}] += b.Amount
	case IssueCertificate:
		k := CertificateKey{from, b.Subject, b.Type}
		m.certs[k] = Certificate{CertificateKey: k, Content: b.Content, Issued: m.height, Changed: m.height, Expires: b.Expires}
	case UpdateCertificate:
		c := m.certs[CertificateKey{from, b.Subject, b.Type}]
		c.Content, c.Expires, c.Changed = b.Content, b.Expires, m.height
		m.certs[c.CertificateKey] = c
	case RevokeCertificate:
		c := m.certs[CertificateKey{from, b.Subject, b.Type}]
		c.Revoked, c.Changed = true, m.height
		m.certs[c.CertificateKey] = c
	case Enrol:
		if m.roles[b.PublicKey] = b.Roles; b.Roles == 0 {
			delete(m.roles, b.PublicKey)
		}
	case SetPolicy:
		m.policy = b.Policy
	}
}

func (m *modelLedger) voteFor(by uint16, b SetNodeStatus, set bool) {
	for i := 24; i < 32; i++ {
		if bit := uint32(1) << i; b.Bits&bit != 0 {
			m.votes = append(m.votes, modelVote{vote{b.Node, bit}, by, set})
		}
	}
}

// phase says what a retrieval does at this time: 1 locks, 2 pays.
func (m *modelLedger) phase(c retrieval) (int, uint32) {
	t, lock := m.account(c.from), int64(m.periodTime())
	switch {
	case c.by.Node == c.from.Node:
		return 0, 20
	case t.deletedAt != 0:
		return 0, 19
	case t.PublicKey != m.account(c.by).PublicKey:
		return 0, 35
	}
	if t.PairedNode == c.by.Node && t.PairedID == c.by.User {
		if int64(m.time) < int64(t.Time)+lock {
			return 0, 47
		}
		return 2, 0
	}
	if int64(m.time) < int64(max(t.Time, t.LocalChange))+lock {
		return 0, 47
	}
	return 1, 0
}

// pinned accounts are never deleted: somebody relies on who owns them.
func (m *modelLedger) pinned(id types.AccountID) bool {
	for k, a := range m.bonds {
		if k.From == id && a != 0 {
			return true
		}
	}
	for k := range m.certs {
		if k.Issuer == id || k.Subject == id {
			return true
		}
	}
	return slices.Contains(m.policy.Admins, id)
}

func (m *modelLedger) leased(node uint16) (sum types.Amount) {
	for k, a := range m.bonds {
		if k.Node == node && k.Due == 0 {
			sum += a
		}
	}
	return sum
}

func (m *modelLedger) weight(node uint16) (sum types.Amount) {
	for _, a := range m.node(node).accounts {
		sum += a.Balance
	}
	return sum
}

// cut closes a node and takes an eighth of its bond.
func (m *modelLedger) cut(node uint16, reporter types.AccountID) {
	m.node(node).Status |= 1
	m.reelect = true
	a := m.settle(types.AccountID{Node: node})
	total := a.Balance / 8
	a.Balance -= total
	for k := range m.bonds {
		if k.Node == node {
			part := m.bonds[k] / 8
			m.bonds[k] -= part
			total += part
		}
	}
	reward := types.Amount(0)
	if m.account(reporter) != nil && reporter.Node != node {
		reward = total / 16
		m.credit(reporter, reward, true)
	}
	m.pool += total - reward
}

func sortedBonds(bonds map[BondKey]types.Amount) []BondKey {
	var keys []BondKey
	for k := range bonds {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b BondKey) int {
		return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(a.From.Node, b.From.Node), cmp.Compare(a.From.User, b.From.User), cmp.Compare(a.Due, b.Due))
	})
	return keys
}
