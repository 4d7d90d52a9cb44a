package ledger

import (
	"errors"
	"fmt"
	"maps"
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
	// messages are in order, numbers contiguous from last+1; the first `signed` of them are signed. The last one takes what is admitted.
	messages []*poolMessage
	signed   int
	// last is the number of the message before messages[0], root the root of the last one signed.
	last    uint32
	root    types.Hash
	senders map[uint32]*sender
	// accepts has the acceptances in messages, with the number of the message.
	accepts map[AcceptAccount]uint32
	// txs and bytes are what is in messages, flight the number of transactions between Prepare and Admit.
	txs, bytes, flight int
}

// poolMessage is one message of the pool. sent is set once it is signed.
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
	tx    *Tx
	place Place
	spent types.Amount
	// dead says that the account's chain went another way: it will be refused.
	dead bool
}

// Sent is a signed message.
type Sent struct {
	// Raw is the block transaction.
	Raw  []byte
	Msid uint32
	Time types.Time
	// Root is the message's root; Previous that of the message before it.
	Root, Previous types.Hash
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
	return &Pool{s: s, node: node, last: n.Msid, root: n.MessageHash, senders: make(map[uint32]*sender), accepts: make(map[AcceptAccount]uint32)}, nil
}

// Prepare predicts, for each transaction of a batch, the head of its sender's chain, with all that is admitted and all before it
// in the batch, and refuses what does not fit. Batch.Verify and Admit must follow; other batches may be prepared in between, in the order in which they will be admitted.
func (p *Pool) Prepare(b *Batch) {
	b.checks = make([]*Tx, 0, len(b.txs))
	closed := p.s.node(p.node).Status&NodeDoubleSpend != 0
	for i := range b.txs {
		if closed && b.refused[i] == nil {
			b.refused[i] = refuse(CodeBadNode, "node %d is closed, its messages are ignored; take the money out by retrieve_funds from an account of another node", p.node)
		}
		if b.refused[i] == nil {
			b.refused[i] = p.prepare(b, i)
		}
	}
	p.s.points.lend(b.checks)
}

func (p *Pool) prepare(b *Batch, i int) *Refusal {
	tx := &b.txs[i]
	if tx.From.Node != p.node {
		return refuse(CodeBadNode, "account %s is not of node %d; submit to the office of node %d", tx.From, p.node, tx.From.Node)
	}
	w := p.senders[tx.From.User]
	if w == nil {
		rec := p.s.peek(tx.From)
		if rec == nil {
			return refuse(CodeBadUser, "account %s does not exist", tx.From)
		}
		w = &sender{head: rec.head()}
		if tx.Msid != w.head.msid {
			return refuseMsid(tx, w.head.msid)
		}
		p.senders[tx.From.User] = w
	}
	if w.flight == 0 {
		w.ahead = w.head
	}
	switch {
	case tx.Msid != w.ahead.msid:
		return refuseMsid(tx, w.ahead.msid)
	case len(w.pending)+w.flight >= MaxPipeline || p.txs+p.flight >= MaxPoolTxs:
		p.forget(tx.From.User, w)
		return refuse(CodeBusy, "%d transactions of %s wait for a block, %d of all; submit it again after the next block", len(w.pending)+w.flight, tx.From, p.txs+p.flight)
	}
	w.ahead = w.ahead.expect(tx)
	w.flight++
	p.flight++
	b.senders[i] = w
	b.checks = append(b.checks, tx)
	return nil
}

func refuseMsid(tx *Tx, want uint32) *Refusal {
	return refuse(CodeMsid, "the next transaction of %s must have number %d, this has %d", tx.From, want, tx.Msid)
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
	p.s.points.collect(b.checks)
	for i, w := range b.senders {
		if w == nil {
			continue
		}
		w.flight--
		p.flight--
		tx := &b.txs[i]
		if spent, r := p.mayAdmit(w, tx); r == nil {
			w.head = w.head.expect(tx)
			b.places[i] = p.append(w, tx, spent)
		} else {
			b.refused[i] = r
			p.forget(tx.From.User, w)
		}
	}
	b.checks = nil
}

func (p *Pool) mayAdmit(w *sender, tx *Tx) (spent types.Amount, _ *Refusal) {
	switch {
	case tx.Msid != w.head.msid:
		return 0, refuseMsid(tx, w.head.msid)
	case tx.Time > p.s.time+MaxTimeAhead:
		return 0, refuseFuture(tx.Time, p.s.time)
	case !tx.verdict.fits(&w.head):
		return 0, refuse(CodeSignature, "the signature does not fit account %s at number %d", tx.From, tx.Msid)
	case p.bytes+len(tx.raw) > MaxPoolBytes:
		return 0, refuse(CodeBusy, "transactions of %d bytes wait for a block; submit it again after the next block", p.bytes)
	}
	return p.s.mayWait(tx, p.s.peek(tx.From), w.spent)
}

// append puts a transaction behind all others.
func (p *Pool) append(w *sender, tx *Tx, spent types.Amount) Place {
	m := p.open(len(tx.raw))
	m.txs = append(m.txs, tx)
	m.size += len(tx.raw)
	p.txs++
	p.bytes += len(tx.raw)
	place := Place{Node: p.node, Msid: p.last + uint32(len(p.messages)), Position: uint32(len(m.txs))}
	w.spent += spent
	w.pending = append(w.pending, pendingTx{tx: tx, place: place, spent: spent})
	return place
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

// Account is an account with all that is admitted executed: what its owner signs the next transaction with.
func (p *Pool) Account(id types.AccountID) (Account, error) {
	a, err := p.s.Account(id)
	if w := p.senders[id.User]; err == nil && id.Node == p.node && w != nil {
		a.Balance = max(a.Balance-w.spent, 0) // a contract may have taken its share since
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
	return w.pending[i].tx.ID, w.pending[i].place, true
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
	msg := &NodeMessage{Node: p.node, Msid: p.last + uint32(p.signed) + 1, Time: time, Txs: make([][]byte, len(m.txs))}
	for i, tx := range m.txs {
		msg.Txs[i] = tx.raw
	}
	root := messageRoot(msg, m.txs, p.s.workers)
	msg.Signature = signBytes(secret, append(p.root[:], root[:]...))
	raw, err := msg.Encode()
	if err != nil {
		return nil, err
	}
	m.sent = &Sent{Raw: raw, Msid: msg.Msid, Time: time, Root: root, Previous: p.root, Txs: len(m.txs)}
	p.s.inbox.put(&message{NodeMessage: msg, raw: raw, txs: m.txs, root: root, previous: p.root, key: PublicKey(secret), known: true, holds: true, checked: true})
	p.root = root
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
	maps.DeleteFunc(p.accepts, func(_ AcceptAccount, msid uint32) bool { return msid <= p.last })
	for user, w := range p.senders {
		p.rebase(user, w)
	}
	return nil
}

// rebase takes what is executed out of a sender's list and follows its chain from the state.
func (p *Pool) rebase(user uint32, w *sender) {
	k := 0
	for ; k < len(w.pending) && w.pending[k].place.Msid <= p.last; k++ {
		if !w.pending[k].dead {
			w.spent -= w.pending[k].spent
		}
	}
	w.pending = w.pending[k:]
	if h := p.s.peek(types.AccountID{Node: p.node, User: user}).head(); !w.goesOn(&h) {
		w.follow(h)
	}
	p.forget(user, w)
}

// goesOn tells whether the chain is where it was predicted to be.
func (w *sender) goesOn(h *head) bool {
	for i := range w.pending {
		if t := &w.pending[i]; !t.dead {
			return t.tx.Msid == h.msid && t.tx.verdict.fits(h)
		}
	}
	return w.head == *h
}

// follow goes through the list from a new head.
func (w *sender) follow(h head) {
	w.spent = 0
	for i := range w.pending {
		t := &w.pending[i]
		if t.dead = t.tx.malformed != nil || t.tx.Msid != h.msid || !t.tx.verdict.fits(&h); !t.dead {
			h = h.expect(t.tx)
			w.spent += t.spent
		}
	}
	w.head, w.ahead = h, h
}
