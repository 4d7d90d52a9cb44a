package ledger

import (
	"encoding/binary"
	"math/bits"

	"github.com/eschaton-network/chand/types"
)

// message is a node's message on its way into a block.
type message struct {
	*NodeMessage
	raw  []byte
	txs  []*Tx
	root types.Hash
	// holds says, once known, whether the node has signed this with key as the successor of the message with root previous.
	key      [32]byte
	previous types.Hash
	known    bool
	holds    bool
	// checked says that its transactions' signatures were verified where they were expected.
	checked bool
}

// parseMessage decodes a message with all its hashes; it has the head even when there is a refusal.
func parseMessage(raw []byte, w Workers) (*message, *Refusal) {
	head, txs, r := readMessage(raw)
	m := &message{NodeMessage: head, raw: raw, txs: txs}
	if r != nil {
		return m, r
	}
	eachChunk(w, len(txs), workChunk, func(from, to int) {
		for _, tx := range txs[from:to] {
			tx.hash()
		}
	})
	m.root = messageRoot(head, txs, w)
	return m, nil
}

// decodeMessage reads a message and its transactions strictly; m has the head even when there is a refusal.
func decodeMessage(raw []byte) (m *NodeMessage, txs []*Tx, _ *Refusal) {
	p, r := parseMessage(raw, nil)
	return p.NodeMessage, p.txs, r
}

// readMessage is decodeMessage without hashes. Each transaction's bytes are walked once; memory is bounded by theirs.
func readMessage(raw []byte) (m *NodeMessage, txs []*Tx, _ *Refusal) {
	m = &NodeMessage{}
	if len(raw) < messageHead || len(raw) > MaxMessage || raw[0] != messageType {
		return m, nil, refuse(CodeLength, "node message of %d bytes: want %d..%d", len(raw), messageHead, MaxMessage)
	}
	if n := int(raw[1]) | int(raw[2])<<8 | int(raw[3])<<16; n != len(raw) {
		return m, nil, refuse(CodeLength, "node message of %d bytes says that it has %d", len(raw), n)
	}
	m.Signature = [64]byte(raw[4:])
	m.Node, m.Msid = binary.LittleEndian.Uint16(raw[68:]), binary.LittleEndian.Uint32(raw[70:])
	m.Time = types.Time(binary.LittleEndian.Uint32(raw[74:]))
	const block = 256
	var free []Tx
	d := newTxDecoder()
	d.message = true
	for rest := raw[messageHead:]; len(rest) > 0; {
		if len(free) == 0 {
			free = make([]Tx, min(block, len(rest)/(headSize+sigSize)+1))
		}
		tx := &free[0]
		next, ok, r := d.next(tx, rest)
		if !ok || len(txs) == MaxMessageTxs {
			return m, nil, refuse(CodeLength, "transaction %d of message %d of node %d can't be read: %v", len(txs)+1, m.Msid, m.Node, r)
		}
		tx.malformed = r
		m.Txs, txs = append(m.Txs, tx.raw), append(txs, tx)
		rest, free = next, free[1:]
	}
	return m, txs, nil
}

// messageRoot is NodeMessage.Root, from hashes that are known already.
func messageRoot(m *NodeMessage, txs []*Tx, w Workers) types.Hash {
	leaves := make([]types.Hash, 1+len(txs))
	leaves[0] = types.SHA256(m.id())
	for i, tx := range txs {
		leaves[i+1] = txLeaf(tx.ID, m.Node, m.Msid, uint32(i+1))
	}
	return treeHash(leaves, w)
}

// treeChunk is how many leaves of the original's tree one worker hashes at a time; a power of two.
const treeChunk = 1024

// treeHash is TreeHash, in pieces: a full piece of treeChunk leaves is a subtree of the whole, and the last piece, which may not be
// full, is folded into what comes before it by the same rule as its own open subtrees.
func treeHash(leaves []types.Hash, w Workers) types.Hash {
	n := (len(leaves) + treeChunk - 1) / treeChunk
	if n < 2 {
		return TreeHash(leaves)
	}
	pieces := make([]types.Hash, n)
	each(w, n, func(i int) { pieces[i] = TreeHash(leaves[i*treeChunk : min((i+1)*treeChunk, len(leaves))]) })
	if len(leaves)%treeChunk == 0 {
		return TreeHash(pieces)
	}
	h := pieces[n-1]
	for open, end := n-1, n-1; open != 0; open &= open - 1 { // the open subtrees before it, the lowest first
		size := 1 << bits.TrailingZeros(uint(open))
		h = PairHash(h, TreeHash(pieces[end-size:end]))
		end -= size
	}
	return h
}

// expect notes as the successor of which message this one should be signed, and with which key.
func (m *message) expect(key [32]byte, previous types.Hash) {
	if m.key != key || m.previous != previous {
		m.key, m.previous, m.known, m.holds = key, previous, false, false
	}
}

// verify tells whether the message is signed as expected. It is verified once.
func (m *message) verify() bool {
	if !m.known {
		c := sigCheck{key: m.key, msg: append(m.previous[:], m.root[:]...), sig: m.Signature}
		m.known, m.holds = true, c.verify()
	}
	return m.holds
}
