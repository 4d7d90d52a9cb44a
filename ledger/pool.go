package ledger

import (
	"errors"
	"fmt"
	"slices"

	"github.com/eschaton-network/chand/types"
)

const (
	// MaxPoolTxs and MaxPoolBytes bound what an office has admitted and no block has executed: some seconds at full speed, and
	// with what is kept beside the bytes about 120 MB.
	MaxPoolTxs   = 1 << 18
	MaxPoolBytes = 64 << 20
)

// ErrForeignMessage says that the ledger has a message of the node that this office did not sign: the node's key is in use
// elsewhere, and signing on would close the node for contradicting itself.
var ErrForeignMessage = errors.New("the ledger has a message of this node that was not signed here")

// Pool is what the office of a node has admitted and no block has executed yet: messages in a chain, the last ones not signed yet.
// What is admitted has a place for ever: nothing is dropped or moved, because the place was promised. A transaction that another
// one has made impossible since stays where it is and is refused when its block comes.
//
// Prepare, Admit and all other methods belong to the lock that guards the State; only Batch.Verify and DecodeBatch run without.
type Pool struct {
	s    *State
	node uint16
	// messages are in order, numbers contiguous from first; the first `signed` of them are signed. The last one takes what is admitted.
	messages []*poolMessage
	signed   int
	// last is the number of the message before messages[0], root the root of the last one signed.
	last    uint32
	root    types.Hash
	senders map[uint32]*sender
	txs     int
	bytes   int
}

// poolMessage is one message of the pool. raw is set once it is signed.
type poolMessage struct {
	txs  []*Tx
	size int
	sent *Sent
}

// sender is one account of the node with transactions in the pool.
type sender struct {
	// head is the account's chain with everything admitted executed.
	head head
	// ahead is the same with the flight transactions of batches between Prepare and Admit.
	ahead  head
	flight int
	// pending are the transactions, in order. spent is what those that can still be executed cost.
	pending []pendingTx
	spent   types.Amount
}

type pendingTx struct {
	tx       *Tx
	msid     uint32 // of the message
	position uint32 // in it
	spent    types.Amount
	dead     bool
}

// Sent is a signed message.
type Sent struct {
	// Raw is the block transaction.
	Raw  []byte
	Msid uint32
	Time types.Time
	Root types.Hash
	// Txs is the number of its transactions.
	Txs int
}

// Logged is a transaction with the place that it was promised.
type Logged struct {
	Place Place
	Raw   []byte
}

// NewPool is the empty pool of a node's office, starting after the last message of the node that the state has.
func NewPool(s *State, node uint16) (*Pool, error) {
	n := s.node(node)
	if n == nil {
		return nil, fmt.Errorf("pool of node %d: %w", node, ErrNotFound)
	}
	return &Pool{s: s, node: node, last: n.Msid, root: n.MessageHash, senders: make(map[uint32]*sender)}, nil
}

// Prepare predicts, for each transaction of a batch, the head of its sender's chain, with all that is admitted and all before it
// in the batch, and refuses what does not fit. Verify and Admit must follow; other batches may be prepared in between, in the order in which
// they will be admitted.
func (p *Pool) Prepare(b *Batch) {
	for i := range b.txs {
		if b.refused[i] == nil {
			b.refused[i] = p.prepare(b, i)
		}
	}
}

func (p *Pool) prepare(b *Batch, i int) *Refusal {
	tx := &b.txs[i]
	if tx.From.Node != p.node {
		return refuse(CodeBadNode, "account %s is not of node %d; submit to the office of node %d", tx.From, p.node, tx.From.Node)
	}
	rec := p.s.peek(tx.From)
	if rec == nil {
		return refuse(CodeBadUser, "account %s does not exist", tx.From)
	}
	w := p.senders[tx.From.User]
	if w == nil {
		w = &sender{head: rec.head()}
		p.senders[tx.From.User] = w
	}
	if w.flight == 0 {
		w.ahead = w.head
	}
	if tx.Msid != w.ahead.msid {
		p.forget(tx.From.User, w)
		return refuse(CodeMsid, "the next transaction of %s must have number %d, this has %d", tx.From, w.ahead.msid, tx.Msid)
	}
	tx.verdict = verdict{key: w.ahead.key, prev: w.ahead.hash}
	w.ahead = w.ahead.after(tx)
	w.flight++
	b.senders[i] = w
	b.checks = append(b.checks, i)
	return nil
}

// forget removes a sender with nothing in the pool.
func (p *Pool) forget(user uint32, w *sender) {
	if w.flight == 0 && len(w.pending) == 0 {
		delete(p.senders, user)
	}
}

// Admit takes the transactions of a batch that was prepared and verified into the node's next messages; Batch.Refused and Batch.Place
// tell what became of each.
func (p *Pool) Admit(b *Batch) {
	for _, i := range b.checks {
		w := b.senders[i]
		w.flight--
		if b.refused[i] = p.admit(w, &b.txs[i]); b.refused[i] == nil {
			m := p.messages[len(p.messages)-1]
			b.places[i] = Place{Node: p.node, Msid: p.last + uint32(len(p.messages)), Position: uint32(len(m.txs))}
		}
		p.forget(b.txs[i].From.User, w)
	}
}

func (p *Pool) admit(w *sender, tx *Tx) *Refusal {
	switch {
	case tx.Msid != w.head.msid:
		return refuse(CodeMsid, "the next transaction of %s must have number %d, this has %d", tx.From, w.head.msid, tx.Msid)
	case len(w.pending) >= MaxPipeline || p.txs >= MaxPoolTxs || p.bytes+len(tx.raw) > MaxPoolBytes:
		return refuse(CodeBusy, "%d transactions of %s wait for a block, %d of all; submit it again after the next block", len(w.pending), tx.From, p.txs)
	case tx.Time > p.s.time+MaxTimeAhead:
		return refuseFuture(tx.Time, p.s.time)
	case !tx.holds(w.head.key, w.head.hash):
		return refuse(CodeSignature, "the signature does not fit account %s at number %d", tx.From, tx.Msid)
	}
	fee, cost := tx.Body.fee(tx.From), tx.Body.cost(tx.From)
	have := max(spendable(tx.From, p.s.peek(tx.From).Balance)-w.spent, 0)
	if have < fee || have-fee < cost {
		return refuse(CodeBalance, "account %s can spend %s coins besides what waits, wanted are %s and a fee of %s", tx.From, have, cost, fee)
	}
	x := &exec{s: p.s, from: tx.From, txID: tx.ID, height: p.s.height + 1, time: p.s.time}
	if r := tx.Body.verify(x); r != nil {
		return r
	}
	p.append(w, tx, fee+cost)
	return nil
}

// append puts a transaction behind all others.
func (p *Pool) append(w *sender, tx *Tx, spent types.Amount) {
	m := p.open(len(tx.raw))
	m.txs = append(m.txs, tx)
	m.size += len(tx.raw)
	p.txs++
	p.bytes += len(tx.raw)
	w.head = w.head.after(tx)
	w.spent += spent
	w.pending = append(w.pending, pendingTx{tx: tx, msid: p.last + uint32(len(p.messages)), position: uint32(len(m.txs)), spent: spent})
}

// open returns the message that takes a transaction of this size.
func (p *Pool) open(size int) *poolMessage {
	if len(p.messages) > p.signed {
		if m := p.messages[len(p.messages)-1]; m.size+size <= MaxMessage && len(m.txs) < MaxMessageTxs {
			return m
		}
	}
	m := &poolMessage{size: messageHead}
	p.messages = append(p.messages, m)
	return m
}

// holds tells whether a transaction is signed by key as the successor of prev, from what is known or by verifying it.
func (tx *Tx) holds(key [32]byte, prev types.Hash) bool {
	v := &tx.verdict
	if !v.known || v.key != key || v.prev != prev {
		c := tx.check(key, prev)
		*v = verdict{key: key, prev: prev, known: true, holds: c.verify()}
	}
	return v.holds
}

// Account is an account with all that is admitted executed: what its owner signs the next transaction with.
func (p *Pool) Account(id types.AccountID) (Account, error) {
	a, err := p.s.Account(id)
	if w := p.senders[id.User]; err == nil && id.Node == p.node && w != nil {
		a.Balance -= w.spent
		a.Msid, a.Hash, a.PublicKey = w.head.msid, w.head.hash, w.head.key
	}
	return a, err
}

// Find returns what the pool holds of an account under a number: the transaction's id and its place.
func (p *Pool) Find(from types.AccountID, msid uint32) (id types.Hash, place Place, ok bool) {
	w := p.senders[from.User]
	if from.Node != p.node || w == nil || len(w.pending) == 0 {
		return id, place, false
	}
	last := len(w.pending) - 1 // the newest are in a row
	i := last - int(int64(w.pending[last].tx.Msid)-int64(msid))
	if i < 0 || i > last || w.pending[i].tx.Msid != msid {
		return id, place, false
	}
	t := &w.pending[i]
	return t.tx.ID, Place{Node: p.node, Msid: t.msid, Position: t.position}, true
}

// Waiting is the number of transactions in the pool and of those that are in no signed message yet, with their bytes.
func (p *Pool) Waiting() (all, unsigned, unsignedBytes int) {
	for _, m := range p.messages[p.signed:] {
		unsigned += len(m.txs)
		unsignedBytes += m.size - messageHead
	}
	return p.txs, unsigned, unsignedBytes
}

// Cut signs the next message with all that was admitted, up to MaxMessage bytes; nil when nothing waits. There may be more: call it again.
// The message must be durable before anybody else sees it: a second one with the same number closes the node.
func (p *Pool) Cut(secret [32]byte, time types.Time) (*Sent, error) {
	if len(p.messages) == p.signed {
		return nil, nil
	}
	m := p.messages[p.signed]
	msg := NodeMessage{Node: p.node, Msid: p.last + uint32(p.signed) + 1, Time: time}
	for _, tx := range m.txs {
		msg.Txs = append(msg.Txs, tx.raw)
	}
	msg.Sign(secret, p.root)
	raw, err := msg.Encode()
	if err != nil {
		return nil, err
	}
	m.sent = &Sent{Raw: raw, Msid: msg.Msid, Time: time, Root: msg.Root(), Txs: len(m.txs)}
	p.root = m.sent.Root
	p.signed++
	return m.sent, nil
}

// Sent are the signed messages that no block has executed, in order: they have to be sent again until one has.
func (p *Pool) Sent() []*Sent {
	out := make([]*Sent, 0, p.signed)
	for _, m := range p.messages[:p.signed] {
		out = append(out, m.sent)
	}
	return out
}

// Applied brings the pool up to date after a block: what the node's executed messages held leaves, and where an account's chain went
// another way than was predicted, its transactions count no more. The error wraps ErrForeignMessage.
func (p *Pool) Applied() error {
	n := p.s.node(p.node)
	done := int(n.Msid) - int(p.last)
	if done > p.signed || done < 0 || done > 0 && p.messages[done-1].sent.Root != n.MessageHash {
		return fmt.Errorf("%w: number %d with root %s; stop the other office, or start this one with its log", ErrForeignMessage, n.Msid, n.MessageHash)
	}
	for _, m := range p.messages[:done] {
		p.txs -= len(m.txs)
		p.bytes -= m.size - messageHead
	}
	p.messages = slices.Delete(p.messages, 0, done)
	p.signed -= done
	p.last = n.Msid
	for user, w := range p.senders {
		p.rebase(user, w)
	}
	return nil
}

// rebase follows a sender's chain from the state.
func (p *Pool) rebase(user uint32, w *sender) {
	w.pending = slices.DeleteFunc(w.pending, func(t pendingTx) bool { return t.msid <= p.last })
	w.head, w.spent = p.s.peek(types.AccountID{Node: p.node, User: user}).head(), 0
	for i := range w.pending {
		t := &w.pending[i]
		t.dead = t.tx.malformed != nil || t.tx.Msid != w.head.msid || !t.tx.holds(w.head.key, w.head.hash)
		if !t.dead {
			w.head = w.head.after(t.tx)
			w.spent += t.spent
		}
	}
	p.forget(user, w)
}

// Restore refills a new pool after a restart: the signed messages in order, then what was admitted after them with its promised places.
// What the state has executed is left out. The error says what does not fit; the pool must then not be used.
func (p *Pool) Restore(signed [][]byte, pending []Logged) error {
	for _, raw := range signed {
		m, txs, r := decodeMessage(raw)
		if r != nil {
			return fmt.Errorf("restore a signed message: %w", r)
		}
		if m.Node == p.node && m.Msid <= p.last {
			continue
		}
		key := p.s.node(p.node).PublicKey
		if m.Node != p.node || m.Msid != p.last+uint32(p.signed)+1 || !m.Verify(key, p.root) {
			return fmt.Errorf("restore message %d of node %d: it is not the one after %d of node %d", m.Msid, m.Node, p.last+uint32(p.signed), p.node)
		}
		p.messages = append(p.messages, &poolMessage{txs: txs, size: len(raw), sent: &Sent{Raw: raw, Msid: m.Msid, Time: m.Time, Root: m.Root(), Txs: len(txs)}})
		p.signed++
		p.root = m.Root()
		for i, tx := range txs {
			p.restored(tx, m.Msid, uint32(i+1))
		}
	}
	for _, l := range pending {
		if l.Place.Msid <= p.last+uint32(p.signed) {
			continue
		}
		tx, r := decodeTx(l.Raw)
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
		p.restored(tx, l.Place.Msid, l.Place.Position)
	}
	for user, w := range p.senders {
		p.rebase(user, w)
	}
	return nil
}

func (p *Pool) restored(tx *Tx, msid, position uint32) {
	p.txs++
	p.bytes += len(tx.raw)
	if tx.From.Node != p.node || p.s.peek(tx.From) == nil {
		return
	}
	w := p.senders[tx.From.User]
	if w == nil {
		w = &sender{}
		p.senders[tx.From.User] = w
	}
	w.pending = append(w.pending, pendingTx{tx: tx, msid: msid, position: position, spent: tx.Body.fee(tx.From) + tx.Body.cost(tx.From)})
}
