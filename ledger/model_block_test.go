package ledger

import (
	"maps"
	"math"
	"slices"

	"github.com/eschaton-network/chand/types"
)

// apply is one block of the slow ledger.
func (m *modelLedger) apply(time types.Time, txs [][]byte) {
	before := max(m.time, m.start)
	m.height++
	m.time = max(m.time, min(time, math.MaxUint32))
	m.results, m.block = nil, nil
	if uint32(m.height)%m.g.DividendBlocks == 0 {
		held := types.Amount(0)
		for i := range m.nodes {
			held += m.weight(uint16(i + 1))
		}
		m.start, m.factor = min(max(m.time, before+1), math.MaxUint32), 0
		if held >= 65536 {
			m.factor = m.pool / (held / 65536)
		}
	}
	directs := uint32(0)
	for _, raw := range txs {
		switch raw[0] {
		case 0x03:
			m.block = append(m.block, m.message(raw))
		case 0xD1:
			directs++
			m.block = append(m.block, m.include(raw[1:], Place{Msid: uint32(m.height), Position: directs}))
		case 0xE1:
			m.block = append(m.block, m.evidence(raw))
		}
	}
	for _, tx := range m.queue[m.height] {
		m.done(tx.Tx, tx.place, m.execute(tx.Tx, tx.place))
	}
	delete(m.queue, m.height)
	m.release()
	m.matchRequests()
	m.changeKeys()
	m.countVotes()
	m.createNodes()
	m.retrieve()
	m.sweep()
	m.bookProfits()
	m.elect()
	m.accepted, m.keys, m.votes, m.newNodes, m.retrievals = nil, nil, nil, nil, nil
}

func (m *modelLedger) done(tx *Tx, place Place, code uint32) {
	m.results = append(m.results, TxDone{Place: place, Sender: tx.From, Msid: tx.Msid, Code: code})
}

func (m *modelLedger) message(raw []byte) uint32 {
	msg, txs, r := decodeMessage(raw)
	if r != nil {
		return 32
	}
	n := m.node(msg.Node)
	root := msg.Root()
	switch {
	case n == nil, n.Status&1 != 0:
		return 5
	case msg.Msid != n.Msid+1:
		return 11
	case int64(msg.Time) > int64(m.time)+60:
		return 21
	case !goodSignature(n.PublicKey, append(n.MessageHash[:], root[:]...), msg.Signature):
		return 15
	}
	n.MessageHash, n.Msid, n.Mtim, n.Active = root, msg.Msid, uint32(msg.Time), m.height
	n.profit -= 4096 + types.Amount(len(raw))
	for i, tx := range txs {
		place := Place{Node: msg.Node, Msid: msg.Msid, Position: uint32(i + 1)}
		switch b := tx.Body.(type) {
		case Connection:
			n.Port, n.IPv4 = b.Port, b.IPv4
			tx.From.Node = msg.Node
			m.done(tx, place, 0)
		case AcceptAccount:
			m.done(tx, place, m.accept(msg.Node, tx.From.Node, b))
		default:
			code := uint32(5)
			if tx.From.Node == msg.Node {
				code = m.execute(tx, place)
			}
			m.done(tx, place, code)
		}
	}
	return 0
}

func (m *modelLedger) accept(node, named uint16, b AcceptAccount) uint32 {
	switch {
	case named != node:
		return 5
	case b.Requester.Node == node:
		return 13
	}
	m.accepted = append(m.accepted, requestKey{node, b.Requester, b.PublicKey})
	return 0
}

func (m *modelLedger) include(raw []byte, place Place) uint32 {
	due := m.height + types.Height(m.g.DirectDelay)
	tx, r := decodeTx(raw)
	code := uint32(0)
	if r != nil {
		code = r.Code
	} else if m.g.DirectDelay > 0 {
		code = m.mayQueue(tx)
	}
	if code != 0 {
		m.done(tx, place, code)
		return code
	}
	m.queue[due] = append(m.queue[due], modelTx{tx, place})
	return 0
}

// mayQueue refuses what could not be executed now, and a second transaction of an account with a number that waits already.
func (m *modelLedger) mayQueue(tx *Tx) uint32 {
	a := m.account(tx.From)
	switch {
	case a == nil:
		return 2
	case tx.Msid != a.Msid:
		return 11
	}
	for _, waiting := range m.queue {
		for _, w := range waiting {
			if w.From == tx.From && w.Msid == tx.Msid {
				return 270
			}
		}
	}
	if !m.signed(tx) {
		return 15
	}
	if fee, _, _ := modelPrice(tx.From, tx.Body); m.spendable(tx.From) < fee {
		return 9
	}
	return m.mayAct(tx)
}

// evidence knows two messages of one number; other evidence has tests of its own.
func (m *modelLedger) evidence(raw []byte) uint32 {
	e, r := decodeEvidence(raw)
	if r != nil {
		return 273
	}
	a, _, _ := decodeMessage(e.Messages[0].Raw)
	b, _, _ := decodeMessage(e.Messages[1].Raw)
	n := m.node(a.Node)
	if a.Node != b.Node || a.Msid != b.Msid || a.Root() == b.Root() || n == nil || n.Status&1 != 0 {
		return 273
	}
	for i, x := range []*NodeMessage{a, b} {
		root := x.Root()
		msg := append(slices.Clone(e.Messages[i].Previous[:]), root[:]...)
		if !goodSignature(n.PublicKey, msg, x.Signature) && (n.OldKey == types.Hash{} || !goodSignature(n.OldKey, msg, x.Signature)) {
			return 273
		}
	}
	m.cut(a.Node, e.Reporter)
	return 0
}

// compare finds the first difference between the two ledgers.
func (m *modelLedger) compare(t tb, s *State, out Outcome) {
	t.Helper()
	for i, r := range out.Block {
		if m.block[i] != r.Code {
			t.Fatalf("block %d: transaction %d of the block has code %d %q, the model says %d", m.height, i, r.Code, r.Text, m.block[i])
		}
	}
	if len(out.Results) != len(m.results) {
		t.Fatalf("block %d: %d results, the model has %d", m.height, len(out.Results), len(m.results))
	}
	for i, d := range out.Results {
		if w := m.results[i]; d.Code != w.Code || d.Place != w.Place || d.Msid != w.Msid || d.Sender != w.Sender && d.Type != TypeConnection {
			t.Fatalf("block %d: result %d is %+v, the model says %+v", m.height, i, d, w)
		}
	}
	if s.Nodes() != len(m.nodes) || s.Pool() != m.pool {
		t.Fatalf("block %d: %d nodes and %d in the pool, the model has %d and %d", m.height, s.Nodes(), s.Pool(), len(m.nodes), m.pool)
	}
	for i, n := range m.nodes {
		id := uint16(i + 1)
		want := n.Node
		want.Accounts, want.Weight, want.Leased = uint32(len(n.accounts)), m.weight(id), m.leased(id)
		if got, _ := s.Node(id); got != want {
			t.Fatalf("block %d: node %d is\n%+v, the model says\n%+v", m.height, id, got, want)
		}
		for user, a := range n.accounts {
			id := types.AccountID{Node: id, User: uint32(user)}
			if got, _ := s.Record(id); got != a.Record {
				t.Fatalf("block %d: account %s is\n%+v, the model says\n%+v", m.height, id, got, a.Record)
			}
		}
	}
	maps.DeleteFunc(m.bonds, func(_ BondKey, a types.Amount) bool { return a == 0 })
	if !maps.Equal(s.stake.bonds, m.bonds) || !slices.Equal(s.Validators(), m.vals) {
		t.Fatalf("block %d: bonds %v, validators %v, the model has %v and %v", m.height, s.stake.bonds, s.Validators(), m.bonds, m.vals)
	}
	if !maps.Equal(s.registry.certificates, m.certs) || !maps.Equal(s.registry.roles, m.roles) || s.registry.policy.Version != m.policy.Version {
		t.Fatalf("block %d: certificates, roles or policy differ", m.height)
	}
	waits := 0
	for _, r := range m.reqs {
		if s.requests.open[r.requestKey] == nil {
			t.Fatalf("block %d: a request of %s for node %d waits in the model only", m.height, r.requester, r.node)
		}
		waits++
	}
	if waits != len(s.requests.open) {
		t.Fatalf("block %d: %d requests wait, in the model %d", m.height, len(s.requests.open), waits)
	}
}
