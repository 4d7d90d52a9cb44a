package ledger

import (
	"cmp"
	"slices"

	"github.com/eschaton-network/chand/types"
)

// What the second ledger of model_test.go does at the end of a block.

func (m *modelLedger) release() {
	for _, k := range sortedBonds(m.bonds) {
		if k.Due == m.height && m.bonds[k] > 0 {
			m.credit(k.From, m.bonds[k], true)
			delete(m.bonds, k)
		}
	}
}

func (m *modelLedger) matchRequests() {
	for _, k := range m.accepted {
		i := slices.IndexFunc(m.reqs, func(r modelRequest) bool { return r.requestKey == k })
		if i < 0 {
			continue
		}
		m.reqs = slices.Delete(m.reqs, i, i+1)
		m.newAccount(k.node, k.key, 1<<28)
		m.node(k.node).profit += (1<<20 - 4096) / 16
	}
	for len(m.reqs) > 0 && m.reqs[0].at+64 <= m.height {
		m.credit(m.reqs[0].requester, 1<<28, true)
		m.reqs = m.reqs[1:]
	}
}

// keyFixed: what the key before signed counts for the time of unbonding, and so long there is no further change.
func (m *modelLedger) keyFixed(n *modelNode) bool {
	unbonding := int64(m.g.UnbondingBlocks)
	return n.OldKey != (types.Hash{}) && int64(m.height) < int64(n.KeySince)+unbonding
}

func (m *modelLedger) changeKeys() {
	for _, c := range m.keys {
		n := m.node(c.node)
		closed := n.Status&1 != 0
		if closed && !c.opens || !closed && m.keyFixed(n) || m.hasNode(c.key) {
			continue
		}
		n.OldKey, n.PublicKey, n.KeySince = n.PublicKey, c.key, m.height
		if closed {
			n.Status &^= 1
			n.OldKey, n.KeySince = types.Hash{}, 0
		}
	}
}

// countVotes looks at each bit of each node: the last vote of each validator counts, and more than half of all decide.
func (m *modelLedger) countVotes() {
	last := map[vote]map[uint16]bool{}
	for _, v := range m.votes {
		if last[v.vote] == nil {
			last[v.vote] = map[uint16]bool{}
		}
		last[v.vote][v.by] = v.set
	}
	for v, by := range last {
		yes, no := 0, 0
		for voter, set := range by {
			if m.node(voter).Status&2 == 0 {
				continue
			}
			if set {
				yes++
			} else {
				no++
			}
		}
		if 2*yes > len(m.vals) {
			m.node(v.node).Status |= v.bit
		} else if 2*no > len(m.vals) {
			m.node(v.node).Status &^= v.bit
		}
	}
}

func (m *modelLedger) createNodes() {
	for _, c := range m.newNodes {
		to := c.by
		if !m.hasNode(c.key) {
			dead := m.deadNode()
			if dead != 0 {
				m.replaceNode(dead, c.key)
			} else {
				dead = m.addNode(c.key)
				m.addAccount(dead, c.key, 0)
			}
			to = types.AccountID{Node: dead}
		}
		m.credit(to, 1<<36, true)
	}
}

func (m *modelLedger) deadNode() uint16 {
	wait := 40 * int64(m.g.DividendBlocks)
	for i, n := range m.nodes {
		id := uint16(i + 1)
		gone := i >= len(m.g.Nodes) && n.Status&2 == 0 && int64(m.height) >= int64(n.Active)+wait && n.accounts[0].Balance <= 1<<20 &&
			!m.pinned(types.AccountID{Node: id})
		for k, a := range m.bonds {
			gone = gone && (k.Node != id || a == 0)
		}
		for _, a := range n.accounts[1:] {
			gone = gone && a.deletedAt != 0 && int64(m.height) >= int64(a.deletedAt)+wait
		}
		if gone {
			return id
		}
	}
	return 0
}

func (m *modelLedger) replaceNode(id uint16, key types.Hash) {
	n := m.node(id)
	m.replace(types.AccountID{Node: id}, key)
	n.MessageHash = types.TaggedHash("chand/node", n.MessageHash[:], key[:])
	n.KeySince = 0
	n.PublicKey, n.OldKey, n.Mtim, n.Status, n.Port, n.IPv4, n.Active = key, types.Hash{}, 0, 0, 0, 0, m.height
}

func (m *modelLedger) retrieve() {
	for _, c := range m.retrievals {
		phase, code := m.phase(c)
		t := m.account(c.from)
		switch {
		case code != 0:
		case phase == 1:
			t.PairedNode, t.PairedID, t.Time = c.by.Node, c.by.User, uint32(m.time)
		default:
			m.settle(c.from)
			t.PairedNode, t.PairedID = 0, 0
			all := m.spendable(c.from)
			local, remote := all/4096, all/8192
			t.Balance -= all
			m.pool += local + remote
			m.credit(c.by, all-local-remote, true)
			if n := m.node(c.from.Node); n.Status&1 == 0 {
				n.profit += local / 16
			}
			if c.by.User != 0 {
				m.node(c.by.Node).profit += remote / 16
			}
		}
	}
}

// sweep gives every account its turn once in the second half of a period; those used up are deleted.
func (m *modelLedger) sweep() {
	half := int64(m.g.DividendBlocks / 2)
	if int64(m.height)%int64(m.g.DividendBlocks) < half {
		return
	}
	for i, n := range m.nodes {
		for user := range n.accounts {
			id := types.AccountID{Node: uint16(i + 1), User: uint32(user)}
			if int64(user/32)%half != (int64(m.height)+int64(id.Node))%half {
				continue
			}
			a := m.settle(id)
			if user != 0 && a.deletedAt == 0 && a.Balance <= 1<<20 && int64(m.time)-int64(a.LocalChange) >= int64(m.periodTime()) && !m.pinned(id) {
				a.deletedAt = m.height
				a.Status |= 1
				a.PairedNode, a.PairedID = 0, uint32(m.height)
			}
		}
	}
}

// bookProfits books each node's profit, shared, on its account 0, where a loss takes no more than there is.
func (m *modelLedger) bookProfits() {
	last := (uint32(m.height)+1)%m.g.DividendBlocks == 0
	for i, n := range m.nodes {
		if n.profit != 0 || last {
			m.settle(types.AccountID{Node: uint16(i + 1)})
		}
	}
	shared := m.share()
	for i, n := range m.nodes {
		id := types.AccountID{Node: uint16(i + 1)}
		if n.profit == 0 && shared[id.Node] == 0 && !last {
			continue
		}
		change := n.profit + shared[id.Node]
		if last {
			blocks := types.Amount(m.g.DividendBlocks)
			change -= blocks * (4096 + types.Amount(len(n.accounts))*((1<<20)/blocks)/16/4)
		}
		a := m.settle(id)
		change = max(change, -a.Balance)
		a.Balance += change
		m.pool -= change
		n.profit = 0
	}
}

func (m *modelLedger) share() map[uint16]types.Amount {
	var top, members []uint16
	for i, n := range m.nodes {
		if n.profit > 0 {
			top = append(top, uint16(i+1))
		}
	}
	slices.SortStableFunc(top, func(a, b uint16) int { return cmp.Compare(m.node(b).profit, m.node(a).profit) })
	top = top[:min(len(top), 100)]
	members = append(members, top...)
	for _, v := range m.vals {
		members = append(members, v.Node)
	}
	members = slices.DeleteFunc(members, func(id uint16) bool { return m.node(id).Status&1 != 0 })
	if len(top) == 0 || len(members) == 0 {
		return nil
	}
	shared, pooled := map[uint16]types.Amount{}, types.Amount(0)
	for _, id := range top {
		part := m.node(id).profit / 5 * 2
		shared[id] -= part
		pooled += part
	}
	for _, id := range members {
		shared[id] += pooled / types.Amount(len(members))
	}
	return shared
}

func (m *modelLedger) elect() {
	if uint32(m.height)%m.g.DividendBlocks == 0 || m.reelect {
		var all []Validator
		for i, n := range m.nodes {
			id := uint16(i + 1)
			if n.Status&1 == 0 && int64(n.Active)+int64(m.g.DividendBlocks) >= int64(m.height) {
				all = append(all, Validator{id, n.PublicKey, int64(max((m.weight(id)+m.leased(id))/(1<<20), 1))})
			}
		}
		slices.SortStableFunc(all, func(a, b Validator) int { return cmp.Compare(b.Power, a.Power) })
		if len(all) > 0 {
			m.vals = all[:min(len(all), int(m.g.VIPMax))]
		}
	}
	m.reelect = false
	for i := range m.vals {
		m.vals[i].PublicKey = m.node(m.vals[i].Node).PublicKey
	}
	m.mark()
}

// mark sets the status bits 1 and 2: who validates, and who is first.
func (m *modelLedger) mark() {
	for i, n := range m.nodes {
		n.Status &^= 6
		for at, v := range m.vals {
			if int(v.Node) == i+1 {
				n.Status |= 2
				if at == 0 {
					n.Status |= 4
				}
			}
		}
	}
}
