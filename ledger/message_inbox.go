package ledger

import (
	"bytes"
	"maps"

	"github.com/eschaton-network/chand/types"
)

const (
	// maxInbox bounds the bytes of messages that were checked and are in no block yet: some seconds of full speed. What is decoded of
	// them takes three times as much beside. Beyond it the oldest are forgotten, which costs verifying them again in their block.
	maxInbox = 64 << 20
	// maxInboxNode bounds the messages of one node, so that it can't push out the others'.
	maxInboxNode = 32
)

// inbox holds messages that were checked and are in no block yet, decoded and verified. It changes speed, never results.
type inbox struct {
	// messages are found by the node's signature.
	messages map[[64]byte]*message
	order    []*message
	bytes    int
	chains   map[uint16]*chain
}

// chain is what the messages of one node that wait for a block lead to.
type chain struct {
	msid uint32
	root types.Hash
	// heads are where the accounts' chains will be, and the message that put them there.
	heads map[uint32]waitingHead
}

type waitingHead struct {
	head
	by uint32
}

// signatureOf is the place of the signature in a message.
func signatureOf(raw []byte) [64]byte { return [64]byte(raw[4:]) }

func (b *inbox) get(raw []byte) *message {
	if len(raw) < messageHead {
		return nil
	}
	if m := b.messages[signatureOf(raw)]; m != nil && bytes.Equal(m.raw, raw) {
		return m
	}
	return nil
}

func (b *inbox) put(m *message) {
	if b.messages == nil {
		b.messages = make(map[[64]byte]*message)
	}
	if b.messages[m.Signature] != nil {
		return
	}
	b.messages[m.Signature] = m
	b.order = append(b.order, m)
	b.bytes += len(m.raw)
	for b.bytes > maxInbox && len(b.order) > 1 {
		b.remove(b.order[0])
		b.order = b.order[1:]
	}
}

func (b *inbox) remove(m *message) {
	delete(b.messages, m.Signature)
	b.bytes -= len(m.raw)
}

// settle forgets what a block has made obsolete.
func (b *inbox) settle(s *State) {
	kept := make([]*message, 0, len(b.order))
	for _, m := range b.order {
		n := s.node(m.Node)
		if m.Msid > n.Msid && n.Status&NodeDoubleSpend == 0 {
			kept = append(kept, m)
		} else {
			b.remove(m)
		}
		if m.Msid == n.Msid+1 && m.previous != n.MessageHash { // the successor of a message that lost its number to another one
			delete(b.chains, m.Node)
		}
	}
	b.order = kept
	maps.DeleteFunc(b.chains, func(node uint16, c *chain) bool {
		last := s.node(node).Msid
		maps.DeleteFunc(c.heads, func(_ uint32, h waitingHead) bool { return h.by <= last })
		return c.msid <= last
	})
}

// Message is a node's message from elsewhere on its way into the inbox: DecodeMessage, State.PrepareMessage, Verify, State.KeepMessage.
// The first and the third do most of the work and need no lock.
type Message struct {
	m      *message
	checks []*Tx
	heads  map[uint32]waitingHead
	// kept says that it had been checked before.
	kept bool
}

// DecodeMessage reads a message. The error is a *Refusal.
func DecodeMessage(raw []byte, w Workers) (*Message, error) {
	m, r := parseMessage(raw, w)
	if r != nil {
		return nil, r
	}
	return &Message{m: m}, nil
}

// KnowsMessage tells whether a message was checked and waits for its block.
func (s *State) KnowsMessage(raw []byte) bool {
	m := s.inbox.get(raw)
	return m != nil && m.Msid > s.node(m.Node).Msid
}

// PrepareMessage tells whether a message is the next of its node, those that wait counted, and predicts what its signatures must fit. The
// error is a *Refusal.
func (s *State) PrepareMessage(p *Message) error {
	if p.kept = s.KnowsMessage(p.m.raw); p.kept {
		return nil
	}
	if r := s.prepareMessage(p); r != nil {
		return r
	}
	return nil
}

func (s *State) prepareMessage(p *Message) *Refusal {
	m, n := p.m, s.node(p.m.Node)
	if n == nil || n.Status&NodeDoubleSpend != 0 {
		return refuse(CodeBadNode, "node %d does not exist or is closed", m.Node)
	}
	msid, root := n.Msid, n.MessageHash
	c := s.inbox.chains[m.Node]
	if c != nil {
		msid, root = c.msid, c.root
	}
	switch {
	case m.Msid != msid+1:
		return refuse(CodeMsid, "node %d is at message %d, those that wait counted; this has number %d", m.Node, msid, m.Msid)
	case m.Time > s.time+MaxTimeAhead:
		return refuseFuture(m.Time, s.time)
	case msid-n.Msid >= maxInboxNode:
		return refuse(CodeBusy, "%d messages of node %d wait for a block; send it again after the next block", msid-n.Msid, m.Node)
	}
	m.expect(n.PublicKey, root)
	p.checks, p.heads = make([]*Tx, 0, len(m.txs)), make(map[uint32]waitingHead)
	for _, tx := range m.txs {
		if tx.From.Node == m.Node && tx.malformed == nil {
			s.expectIn(p, c, tx)
		}
	}
	s.points.lend(p.checks)
	return nil
}

// expectIn predicts where a transaction of a message stands in its sender's chain.
func (s *State) expectIn(p *Message, c *chain, tx *Tx) {
	h, ok := p.heads[tx.From.User]
	if !ok && c != nil {
		h, ok = c.heads[tx.From.User]
	}
	if !ok {
		rec := s.peek(tx.From)
		if rec == nil {
			return
		}
		h.head = rec.head()
	}
	if tx.Msid == h.msid {
		p.heads[tx.From.User] = waitingHead{h.expect(tx), p.m.Msid}
		p.checks = append(p.checks, tx)
	}
}

// Verify verifies the node's signature and, if it holds, those of the transactions. It needs no lock.
func (p *Message) Verify(w Workers) {
	if !p.kept && p.m.verify() {
		verifyTxs(p.checks, w)
	}
}

// KeepMessage keeps a message that was prepared and verified until its block comes. The error is a *Refusal: the message is not signed by
// its node, or another one took its number in the meantime. What is wrong with single transactions is no error: they are skipped.
func (s *State) KeepMessage(p *Message) error {
	m, n := p.m, s.node(p.m.Node)
	switch {
	case p.kept:
		return nil
	case n == nil || n.Status&NodeDoubleSpend != 0:
		return refuse(CodeBadNode, "node %d does not exist or is closed", m.Node)
	}
	msid, root := n.Msid, n.MessageHash
	c := s.inbox.chains[m.Node]
	if c != nil {
		msid, root = c.msid, c.root
	}
	switch {
	case !m.holds:
		return refuse(CodeSignature, "message %d is not signed by node %d as the one after its last", m.Msid, m.Node)
	case m.Msid != msid+1 || m.previous != root:
		return refuse(CodeMsid, "node %d has come to message %d in the meantime, this has number %d", m.Node, msid, m.Msid)
	}
	if c == nil {
		if s.inbox.chains == nil {
			s.inbox.chains = make(map[uint16]*chain)
		}
		c = &chain{heads: make(map[uint32]waitingHead)}
		s.inbox.chains[m.Node] = c
	}
	c.msid, c.root = m.Msid, m.root
	maps.Copy(c.heads, p.heads)
	m.checked = true
	s.points.collect(p.checks)
	s.inbox.put(m)
	return nil
}

// CheckMessage tells whether a message may wait for a block: it is the next of its node, those that wait counted, and signed by it. Its
// transactions are verified on the way, so that the block that has it need not. The same bytes again are accepted again. It does all that
// the methods above do, for callers that hold the lock anyway. The error is a *Refusal.
func (s *State) CheckMessage(raw []byte) error {
	if s.KnowsMessage(raw) {
		return nil
	}
	p, err := DecodeMessage(raw, s.workers)
	if err != nil {
		return err
	}
	if err := s.PrepareMessage(p); err != nil {
		return err
	}
	p.Verify(s.workers)
	return s.KeepMessage(p)
}
