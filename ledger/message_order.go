package ledger

import (
	"encoding/binary"

	"github.com/eschaton-network/chand/types"
)

const (
	// txOverhead is what a block adds to the bytes of each of its transactions at most: a tag and a length.
	txOverhead = 6
	// otherShare is the part of a block that is kept free for direct transactions and evidence when messages alone would fill it: those
	// are the way around nodes that refuse service.
	otherShare = 8
)

// OrderMessages chooses and orders the transactions of a proposed block of at most maxBytes: for each node the messages that follow its last
// one, without a hole, nodes in turn as txs has them; then direct transactions and evidence in the order of txs. What can't be
// executed in this block is left out and may be proposed later.
func (s *State) OrderMessages(txs [][]byte, maxBytes int64) [][]byte {
	var messages, others [][]byte
	var otherBytes int64
	for _, raw := range txs {
		switch {
		case len(raw) >= messageHead && raw[0] == blockMessage:
			messages = append(messages, raw)
		case len(raw) > 0 && (raw[0] == blockDirect || raw[0] == blockEvidence):
			others = append(others, raw)
			otherBytes += int64(len(raw)) + txOverhead
		}
	}
	kept := int64(0)
	if len(others) > 0 { // the first one at least, which may be evidence of a large part of a block
		kept = min(otherBytes, max(maxBytes/otherShare, int64(len(others[0]))+txOverhead), maxBytes)
	}
	left := maxBytes - kept
	out := make([][]byte, 0, len(txs))
	take := func(raw []byte) bool {
		if size := int64(len(raw)) + txOverhead; size <= left {
			left -= size
			out = append(out, raw)
			return true
		}
		return false
	}
	s.inTurn(messages, take)
	left += kept
	for _, raw := range others {
		take(raw)
	}
	return out
}

// messageNumber names a message without decoding it.
type messageNumber struct {
	node uint16
	msid uint32
}

func numberOf(raw []byte) messageNumber {
	return messageNumber{binary.LittleEndian.Uint16(raw[68:]), binary.LittleEndian.Uint32(raw[70:])}
}

// inTurn offers messages to take: whenever one of a node is met, the next one of that node that is due, until one does not fit.
func (s *State) inTurn(messages [][]byte, take func(raw []byte) bool) {
	type due struct {
		msid uint32
		root types.Hash // zero when not known
		full bool
	}
	byNumber := make(map[messageNumber][][]byte, len(messages))
	for _, raw := range messages {
		byNumber[numberOf(raw)] = append(byNumber[numberOf(raw)], raw)
	}
	nodes := make(map[uint16]*due)
	for _, raw := range messages {
		id := numberOf(raw).node
		n := s.node(id)
		if n == nil || n.Status&NodeDoubleSpend != 0 {
			continue
		}
		d := nodes[id]
		if d == nil {
			d = &due{msid: n.Msid + 1, root: n.MessageHash}
			nodes[id] = d
		}
		next, root := s.choose(byNumber[messageNumber{id, d.msid}], d.root)
		if d.full || next == nil {
			continue
		}
		if d.full = !take(next); !d.full {
			d.msid, d.root = d.msid+1, root
		}
	}
}

// choose picks among messages with one number: one that was checked as the successor of the last, else one that was not checked. It also
// returns the message's root, if that is known.
func (s *State) choose(messages [][]byte, last types.Hash) (raw []byte, root types.Hash) {
	for _, c := range messages {
		switch m := s.inbox.get(c); {
		case m == nil && raw == nil:
			raw = c
		case m != nil && m.holds && (last.IsZero() || m.previous == last):
			return c, m.root
		}
	}
	return raw, types.Hash{}
}
