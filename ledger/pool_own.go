package ledger

// Speak puts a record of the node itself (what Connection.Bytes or AcceptAccount.Bytes returns) behind all that was admitted.
func (p *Pool) Speak(raw []byte) (Place, error) {
	tx, r := decodeOwn(raw)
	if r != nil {
		return Place{}, r
	}
	m := p.open(len(raw))
	m.txs = append(m.txs, tx)
	m.size += len(raw)
	p.txs++
	p.bytes += len(raw)
	place := Place{Node: p.node, Msid: p.last + uint32(len(p.messages)), Position: uint32(len(m.txs))}
	p.note(tx, place)
	return place, nil
}

// note keeps in mind what the node accepts in a message that no block has.
func (p *Pool) note(tx *Tx, place Place) {
	if a, ok := tx.Body.(AcceptAccount); ok {
		p.accepts[a] = place.Msid
	}
}

// Requests lists accounts that wait for this node's acceptance and have it in no message of the pool, oldest first, limit at most. It leaves
// out what can't be: a closed node accepts nothing, one without room neither, and an owner's certificate may have ended since it asked.
func (p *Pool) Requests(limit int) (out []AcceptAccount) {
	n := p.s.node(p.node)
	if n.Status&NodeDoubleSpend != 0 || !p.s.room(n) {
		return nil
	}
	for _, a := range p.s.Requests(p.node) {
		if len(out) == limit {
			break
		}
		if p.accepts[a] == 0 && p.s.admits(a.PublicKey, RoleAccount) == nil {
			out = append(out, a)
		}
	}
	return out
}

// decodeOwn reads a transaction that stands in a message, a node's own records included.
func decodeOwn(raw []byte) (*Tx, *Refusal) {
	d := newTxDecoder()
	d.message = true
	tx := new(Tx)
	rest, ok, r := d.next(tx, raw)
	switch {
	case !ok, r != nil:
		return nil, r
	case len(rest) > 0:
		return nil, refuse(CodeLength, "transaction of type %d: %d bytes follow its end", raw[0], len(rest))
	}
	tx.hash()
	return tx, nil
}
