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
	return Place{Node: p.node, Msid: p.last + uint32(len(p.messages)), Position: uint32(len(m.txs))}, nil
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
