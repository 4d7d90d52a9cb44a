package ledger

import (
	"math/bits"
	"slices"

	"github.com/eschaton-network/chand/types"
)

// otherShare is the part of a block, one in so many, that is kept free for direct transactions and evidence when messages alone would fill
// it: those are the way around nodes that refuse service.
const otherShare = 8

// blockBytes is what a transaction takes in a block's data: a field of protobuf, that is a tag, a length of seven bits a byte, and the bytes.
func blockBytes(raw []byte) int64 {
	n := len(raw)
	return int64(1 + (bits.Len(uint(n|1))+6)/7 + n)
}

// OrderMessages chooses and orders the transactions of a proposed block whose data has maxBytes at most: the messages of each node that
// follow its last one, without a hole, one of each node by turns in the order in which txs has the nodes; then direct transactions and
// evidence in the order of txs, each once. What can't be executed in this block is left out and may be proposed later. CheckProposal
// accepts what this makes.
func (s *State) OrderMessages(txs [][]byte, maxBytes int64) [][]byte {
	var others [][]byte
	var otherBytes int64
	seen := make(map[types.Hash]bool)
	waiting := make(messagesByNumber, len(txs))
	var nodes []*nodeTurn
	known := make(map[uint16]bool)
	for _, raw := range txs {
		node, msid, ok := MessageHead(raw)
		switch {
		case ok:
			number := messageNumber{node, msid}
			waiting[number] = append(waiting[number], raw)
			if n := s.node(node); !known[node] && n != nil && n.Status&NodeDoubleSpend == 0 {
				known[node], nodes = true, append(nodes, &nodeTurn{messageNumber{node, n.Msid + 1}, n.MessageHash})
			}
		case isOther(raw):
			if h := types.SHA256(raw); !seen[h] {
				seen[h], others, otherBytes = true, append(others, raw), otherBytes+blockBytes(raw)
			}
		}
	}
	kept := int64(0)
	if len(others) > 0 { // the first one at least, which may be evidence of a large part of a block
		kept = min(otherBytes, max(maxBytes/otherShare, blockBytes(others[0])), maxBytes)
	}
	left := maxBytes - kept
	out := make([][]byte, 0, len(txs))
	take := func(raw []byte) bool {
		if raw == nil || blockBytes(raw) > left {
			return false
		}
		left -= blockBytes(raw)
		out = append(out, raw)
		return true
	}
	for len(nodes) > 0 {
		nodes = slices.DeleteFunc(nodes, func(n *nodeTurn) bool { return !take(s.nextMessage(n, waiting)) })
	}
	left += kept
	for _, raw := range others {
		take(raw)
	}
	return out
}

// isOther tells whether a transaction of a block is a direct transaction or evidence, by its first byte.
func isOther(raw []byte) bool {
	return len(raw) > 0 && (raw[0] == blockDirect || raw[0] == blockEvidence)
}

// messageNumber names a message without decoding it.
type messageNumber struct {
	node uint16
	msid uint32
}

// messagesByNumber are what several messages with one number may be: one of them is true, or none.
type messagesByNumber map[messageNumber][][]byte

// nodeTurn is where a node's messages have come to in a proposal.
type nodeTurn struct {
	due messageNumber
	// root is that of the message before, zero when it is not known.
	root types.Hash
}

// nextMessage returns the message that is due, nil when there is none: one that was checked as the successor of the message before, else one
// that was not checked.
func (s *State) nextMessage(n *nodeTurn, waiting messagesByNumber) (raw []byte) {
	root := types.Hash{}
	for _, c := range waiting[n.due] {
		m := s.inbox.get(c)
		if m == nil && raw == nil {
			raw = c
		}
		if m != nil && m.holds && (n.root.IsZero() || m.previous == n.root) {
			raw, root = c, m.root
			break
		}
	}
	n.due.msid, n.root = n.due.msid+1, root
	return raw
}

// CheckProposal refuses a block that OrderMessages never makes, without a look into its transactions: with transactions of no kind, with
// messages of nodes that do not exist or are closed, with a node's messages out of order. The error is a *Refusal.
func (s *State) CheckProposal(txs [][]byte) error {
	next := make(map[uint16]uint32)
	for i, raw := range txs {
		if isOther(raw) {
			continue
		}
		node, msid, ok := MessageHead(raw)
		if !ok {
			return refuse(CodeType, "transaction %d of the proposal is neither a message nor a direct transaction nor evidence", i)
		}
		due, ok := next[node]
		if !ok {
			n := s.node(node)
			if n == nil || n.Status&NodeDoubleSpend != 0 {
				return refuse(CodeBadNode, "transaction %d of the proposal is a message of node %d, which does not exist or is closed", i, node)
			}
			due = n.Msid + 1
		}
		if msid != due {
			return refuse(CodeMsid, "transaction %d of the proposal is message %d of node %d, due is %d", i, msid, node, due)
		}
		next[node] = due + 1
	}
	return nil
}
