package ledger

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"github.com/eschaton-network/chand/types"
)

// The kinds of transactions of a block, by first byte.
const (
	// blockMessage is a node's message in the original's bytes.
	blockMessage = messageType
	// blockDirect is followed by one user transaction, which no node carries in a message.
	blockDirect byte = 0xD1
)

const (
	// MaxMessage bounds a node's message: block parts and mempools work best with messages of up to a megabyte.
	MaxMessage = 1 << 20
	// MaxQueue bounds the direct transactions that are due in one block.
	MaxQueue = 4096
)

// Direct wraps a user transaction as a transaction of a block by itself.
func Direct(raw []byte) []byte { return append([]byte{blockDirect}, raw...) }

// ParseDirect returns the user transaction of a direct transaction, or false for another kind.
func ParseDirect(blockTx []byte) (raw []byte, ok bool) {
	if len(blockTx) == 0 || blockTx[0] != blockDirect {
		return nil, false
	}
	return blockTx[1:], true
}

// queued is a direct transaction that waits for its block.
type queued struct {
	raw   []byte
	place Place
}

// block is the application of one block.
type block struct {
	s   *State
	log eventLog
	out Outcome
	// messages are those among the block's transactions, by index; unreadable says why one can't be read.
	messages   []*message
	unreadable []*Refusal
	// directs counts the direct transactions included.
	directs uint32
}

// read decodes the block's messages, all at the same time, except those that are known from before.
func (b *block) read(txs [][]byte) {
	b.messages, b.unreadable = make([]*message, len(txs)), make([]*Refusal, len(txs))
	var unknown []int
	for i, raw := range txs {
		if len(raw) > 0 && raw[0] == blockMessage {
			if b.messages[i] = b.s.inbox.get(raw); b.messages[i] == nil {
				unknown = append(unknown, i)
			}
		}
	}
	inner := b.s.workers
	if len(unknown) > 1 {
		inner = nil
	}
	each(b.s.workers, len(unknown), func(k int) {
		i := unknown[k]
		b.messages[i], b.unreadable[i] = parseMessage(txs[i], inner)
	})
	total, wires := 0, 0
	for _, m := range b.messages {
		if m == nil {
			continue
		}
		total += len(m.txs)
		for _, tx := range m.txs {
			if many, ok := tx.Body.(SendMany); ok {
				wires += len(many.Wires)
			}
		}
	}
	b.out.Results = make([]TxDone, 0, total)
	b.log.events = make([]Event, 0, 2*total+wires+len(txs))
}

// verifyMessages verifies the signatures of the whole block at once, where they are expected if all goes well: the nodes' own ones,
// then those in the messages that are well signed.
func (b *block) verifyMessages() {
	last := make(map[uint16]*message)
	var next []*message
	for i, m := range b.messages {
		if m == nil || b.unreadable[i] != nil {
			continue
		}
		n := b.s.node(m.Node)
		if n == nil {
			continue
		}
		msid, root := n.Msid, n.MessageHash
		if p := last[m.Node]; p != nil {
			msid, root = p.Msid, p.root
		}
		if m.Msid == msid+1 {
			m.expect(n.PublicKey, root)
			last[m.Node] = m
			next = append(next, m)
		}
	}
	each(b.s.workers, len(next), func(i int) { next[i].verify() })
	fresh := make(map[uint16]bool) // nodes with messages that have not been checked
	for _, m := range next {
		fresh[m.Node] = fresh[m.Node] || m.holds && !m.checked
	}
	var txs []*Tx
	for _, m := range next {
		if m.holds && fresh[m.Node] {
			txs = append(txs, m.txs...)
		}
	}
	b.s.verifyAhead(txs, false)
}

// include takes transaction i of the block; the error is that of the whole.
func (b *block) include(i int, raw []byte) *Refusal {
	switch {
	case len(raw) == 0:
		return refuse(CodeLength, "an empty block transaction")
	case raw[0] == blockMessage:
		return b.message(b.messages[i], b.unreadable[i])
	case raw[0] == blockDirect:
		return b.enqueue(raw[1:])
	case raw[0] == blockEvidence:
		return b.evidence(raw)
	}
	return refuse(CodeType, "block transactions of kind %d are not known here", raw[0])
}

// message executes a node's message. Where even the ends of its transactions can't be told, it is skipped whole; its transactions are
// skipped one by one when they can't be executed.
func (b *block) message(m *message, r *Refusal) *Refusal {
	if r == nil {
		r = b.s.checkMessage(m)
	}
	if r != nil {
		b.log.emit(MessageDone{Node: m.Node, Msid: m.Msid, Time: m.Time, Code: r.Code, Text: r.Text})
		return r
	}
	n := b.s.touchNode(m.Node)
	n.MessageHash, n.Msid, n.Mtim, n.Active = m.root, m.Msid, uint32(m.Time), b.s.height
	n.profit -= feeMessage + types.Amount(len(m.raw))
	b.out.Roots = append(b.out.Roots, m.root)
	for i, tx := range m.txs {
		place := Place{Node: m.Node, Msid: m.Msid, Position: uint32(i + 1)}
		if tx.ofNode() {
			b.done(tx, place, b.s.executeOfNode(&b.log, tx, place))
			continue
		}
		if tx.From.Node != m.Node {
			b.done(tx, place, refuse(CodeBadNode, "account %s is not of node %d, which carries the transaction", tx.From, m.Node))
			continue
		}
		b.done(tx, place, b.s.execute(&b.log, tx, place))
	}
	b.log.emit(MessageDone{Node: m.Node, Msid: m.Msid, Time: m.Time, Root: m.root, Txs: uint32(len(m.txs))})
	return nil
}

func (b *block) done(tx *Tx, place Place, r *Refusal) {
	d := TxDone{ID: tx.ID, Place: place, Type: tx.raw[0], Sender: tx.From, Msid: tx.Msid}
	if r != nil {
		d.Code, d.Text = r.Code, r.Text
	}
	b.out.Results = append(b.out.Results, d)
	b.log.emit(d)
}

// checkMessage tells whether a message is the next one of its node and signed by it.
func (s *State) checkMessage(m *message) *Refusal {
	n := s.node(m.Node)
	switch {
	case n == nil:
		return refuse(CodeBadNode, "message %d of node %d, which does not exist", m.Msid, m.Node)
	case n.Status&NodeDoubleSpend != 0:
		return refuse(CodeBadNode, "node %d is closed, its messages are ignored", m.Node)
	case m.Msid != n.Msid+1:
		return refuse(CodeMsid, "node %d is at message %d, this has number %d", m.Node, n.Msid, m.Msid)
	case m.Time > s.time+MaxTimeAhead:
		return refuseFuture(m.Time, s.time)
	}
	if m.expect(n.PublicKey, n.MessageHash); !m.verify() {
		return refuse(CodeSignature, "message %d is not signed by node %d as the one after its last", m.Msid, m.Node)
	}
	return nil
}

// enqueue takes a direct transaction into the queue of the block in which it is due.
func (b *block) enqueue(raw []byte) *Refusal {
	b.directs++
	place := Place{Msid: uint32(b.s.height), Position: b.directs}
	due := b.s.height + types.Height(b.s.genesis.DirectDelay)
	tx, r := decodeTx(raw)
	if r == nil && len(b.s.queue[due]) >= MaxQueue {
		r = refuse(CodeBusy, "%d direct transactions are due in block %d already", MaxQueue, due)
	}
	if r == nil && b.s.genesis.DirectDelay > 0 {
		r = b.s.mayQueue(tx)
	}
	if r != nil {
		d := TxDone{ID: types.SHA256(raw), Place: place, Code: r.Code, Text: r.Text}
		if tx != nil {
			d.Type, d.Sender, d.Msid = tx.raw[0], tx.From, tx.Msid
		}
		b.out.Results = append(b.out.Results, d)
		b.log.emit(d)
		return r
	}
	b.out.Roots = append(b.out.Roots, tx.ID)
	b.s.queue[due] = append(b.s.queue[due], queued{raw: slices.Clone(raw), place: place})
	if b.s.genesis.DirectDelay > 0 {
		b.s.queuedBy[tx.turn()] = true
	}
	return nil
}

// turn is an account's number for one transaction.
type turn struct {
	from types.AccountID
	msid uint32
}

func (tx *Tx) turn() turn { return turn{tx.From, tx.Msid} }

// mayQueue keeps what can't be executed anyway out of the queue: it costs its sender nothing. One transaction waits once: block after
// block the same one would fill the queue for the price of one.
func (s *State) mayQueue(tx *Tx) *Refusal {
	rec := s.peek(tx.From)
	switch {
	case rec == nil:
		return refuse(CodeBadUser, "account %s does not exist", tx.From)
	case tx.Msid != rec.Msid:
		return refuse(CodeMsid, "account %s is at number %d, the transaction has %d", tx.From, rec.Msid, tx.Msid)
	case s.queuedBy[tx.turn()]:
		return refuse(CodePending, "number %d of account %s waits for its block already", tx.Msid, tx.From)
	case !s.signed(tx, rec):
		return refuse(CodeSignature, "the signature does not fit account %s at number %d", tx.From, tx.Msid)
	case s.available(tx.From, rec) < tx.Body.fee(tx.From):
		return refuse(CodeBalance, "account %s can't pay the fee", tx.From)
	}
	return s.mayAct(tx, rec)
}

// direct executes the direct transactions that are due.
func (b *block) direct() {
	due := b.s.queue[b.s.height]
	delete(b.s.queue, b.s.height)
	txs := make([]*Tx, len(due))
	for i, q := range due {
		tx, r := decodeTx(q.raw)
		if r != nil { // it was decoded when it was queued
			panic(r)
		}
		txs[i] = tx
		delete(b.s.queuedBy, tx.turn())
	}
	b.s.verifyAhead(txs, true)
	for i, tx := range txs {
		b.done(tx, due[i].place, b.s.execute(&b.log, tx, due[i].place))
	}
}

// pendingHash is the part "pending" of the state root.
func (s *State) pendingHash() types.Hash {
	return types.TaggedHash("chand/pending", s.appendPending(nil))
}

// appendPending writes everything that waits for a later block: direct transactions, requests for accounts, the dividends of the period.
func (s *State) appendPending(b []byte) []byte {
	return s.period.append(s.requests.append(s.appendQueue(b)))
}

// pending reads what appendPending wrote.
func (d *decoder) pending(s *State) {
	d.queue(s)
	d.requests(s)
	d.period(s)
}

// appendQueue writes the queue as it is hashed and stored in snapshots.
func (s *State) appendQueue(b []byte) []byte {
	le := binary.LittleEndian
	b = le.AppendUint32(b, uint32(len(s.queue)))
	for _, h := range slices.Sorted(maps.Keys(s.queue)) {
		b = le.AppendUint32(b, uint32(h))
		b = le.AppendUint32(b, uint32(len(s.queue[h])))
		for _, q := range s.queue[h] {
			b = le.AppendUint32(b, q.place.Msid)
			b = le.AppendUint32(b, q.place.Position)
			b = le.AppendUint32(b, uint32(len(q.raw)))
			b = append(b, q.raw...)
		}
	}
	return b
}

// queue reads what appendQueue wrote.
func (d *decoder) queue(s *State) {
	last := s.height
	for range d.count("blocks with direct transactions", maxDirectDelay) {
		h := types.Height(d.u32())
		if h <= last || h > s.height+types.Height(s.genesis.DirectDelay) {
			d.fail("direct transactions due in block %d after block %d", h, last)
		}
		last = h
		n := d.count("direct transactions", MaxQueue)
		if n == 0 {
			d.fail("no direct transactions due in block %d", h)
		}
		for i := 0; i < n && d.err == nil; i++ {
			q := queued{place: Place{Msid: d.u32(), Position: d.u32()}, raw: d.bytes("a direct transaction", MaxTx)}
			tx, r := decodeTx(q.raw)
			switch {
			case d.err != nil:
				return
			case r != nil:
				d.err = fmt.Errorf("direct transaction due in block %d: %w", h, r)
				return
			case s.queuedBy[tx.turn()]:
				d.fail("number %d of account %s waits twice", tx.Msid, tx.From)
				return
			}
			s.queuedBy[tx.turn()] = true
			s.queue[h] = append(s.queue[h], q)
		}
		if d.err != nil {
			return
		}
	}
}
