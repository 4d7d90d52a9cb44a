package ledger

import (
	"fmt"

	"github.com/eschaton-network/chand/types"
)

// Restore refills a new pool after a restart: the signed messages in order, then what was admitted after them with its promised places.
// What the state has executed is left out. The error says what does not fit; the pool must then not be used.
func (p *Pool) Restore(signed [][]byte, pending []Logged) error {
	for _, raw := range signed {
		if err := p.restoreMessage(raw); err != nil {
			return err
		}
	}
	for _, l := range pending {
		if err := p.restoreTx(l); err != nil {
			return err
		}
	}
	var all []*Tx
	for i, m := range p.messages {
		for k, tx := range m.txs {
			p.restored(tx, Place{Node: p.node, Msid: p.last + uint32(i) + 1, Position: uint32(k + 1)})
		}
		all = append(all, m.txs...)
	}
	p.s.verifyAhead(all, false)
	for user, w := range p.senders {
		w.follow(p.s.peek(types.AccountID{Node: p.node, User: user}).head())
	}
	return nil
}

func (p *Pool) restoreMessage(raw []byte) error {
	m, r := parseMessage(raw, p.s.workers)
	if r != nil {
		return fmt.Errorf("restore a signed message: %w", r)
	}
	if m.Node == p.node && m.Msid <= p.last {
		return nil
	}
	m.expect(p.s.node(p.node).PublicKey, p.root)
	if m.Node != p.node || m.Msid != p.last+uint32(p.signed)+1 || !m.verify() {
		return fmt.Errorf("restore message %d of node %d: it is not the one after %d of node %d", m.Msid, m.Node, p.last+uint32(p.signed), p.node)
	}
	p.messages = append(p.messages, &poolMessage{txs: m.txs, size: len(raw),
		sent: &Sent{Raw: raw, Msid: m.Msid, Time: m.Time, Root: m.root, Previous: p.root, Txs: len(m.txs)}})
	p.signed++
	p.root = m.root
	m.checked = true // by Restore, all at once
	p.s.inbox.put(m)
	return nil
}

func (p *Pool) restoreTx(l Logged) error {
	if l.Place.Msid <= p.last+uint32(p.signed) {
		return nil
	}
	tx, r := decodeOwn(l.Raw)
	if r != nil {
		return fmt.Errorf("restore transaction %s: %w", l.Place, r)
	}
	if l.Place.Position == 1 {
		p.messages = append(p.messages, &poolMessage{size: messageHead})
	}
	if len(p.messages) == p.signed {
		return fmt.Errorf("restore transaction %s: those before it in its message are missing", l.Place)
	}
	m := p.messages[len(p.messages)-1]
	m.txs = append(m.txs, tx)
	m.size += len(tx.raw)
	if want := (Place{p.node, p.last + uint32(len(p.messages)), uint32(len(m.txs))}); l.Place != want || m.size > MaxMessage || len(m.txs) > MaxMessageTxs {
		return fmt.Errorf("restore transaction %s: the next place is %s", l.Place, want)
	}
	return nil
}

func (p *Pool) restored(tx *Tx, place Place) {
	p.txs++
	p.bytes += len(tx.raw)
	p.note(tx, place)
	if tx.ofNode() || tx.From.Node != p.node || p.s.peek(tx.From) == nil {
		return
	}
	w := p.senders[tx.From.User]
	if w == nil {
		w = &sender{}
		p.senders[tx.From.User] = w
	}
	w.pending = append(w.pending, pendingTx{tx: tx, place: place, spent: tx.Body.fee(tx.From) + tx.Body.cost(tx.From)})
}
