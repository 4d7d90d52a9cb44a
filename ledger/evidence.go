package ledger

import (
	"encoding/binary"
	"maps"
	"slices"

	"github.com/eschaton-network/chand/types"
)

// Offences for which a node is closed and its bond cut.
const (
	// OffenceMessages: it signed two messages with one number.
	OffenceMessages uint8 = 1
	// OffenceBlocks: its validator signed two different votes of one round (CometBFT's own evidence, never a transaction).
	OffenceBlocks uint8 = 2
	// OffenceReceipt: a message that it signed does not hold what its receipt promised for it.
	OffenceReceipt uint8 = 3
	// OffenceOverdue: the deadline of its receipt has passed, and the message promised is in no block.
	OffenceOverdue uint8 = 4
)

const (
	// blockEvidence is the first byte of evidence as a transaction of a block.
	blockEvidence byte = 0xE1
	// MaxEvidence bounds evidence: two messages and what frames them.
	MaxEvidence = 2*MaxMessage + 1024
	// cutDivisor: a cut takes an eighth of the node's bond, that is of its admin account, of the stake leased to it and of what is being
	// released. Enough to hurt, little enough that leasing to a node that is broken into does not ruin.
	cutDivisor = 8
	// rewardDivisor: the reporter gets a sixteenth of what is cut, so that reporting oneself is no way out; the rest goes to the pool.
	rewardDivisor = 16
)

// SignedMessage is a node's message with the root of the message that it was signed as the successor of.
type SignedMessage struct {
	Previous types.Hash
	Raw      []byte
}

// Evidence convicts a node of an offence by what it signed itself. Anybody may submit it; Reporter gets the reward.
type Evidence struct {
	Offence  uint8
	Reporter types.AccountID
	// Receipt is the promise that was broken (OffenceReceipt, OffenceOverdue).
	Receipt Receipt
	// Messages are two for OffenceMessages, one for OffenceReceipt, else none.
	Messages []SignedMessage
}

// shapes says how many messages each offence needs, and whether a receipt.
var shapes = map[uint8]struct {
	receipt  bool
	messages int
}{OffenceMessages: {false, 2}, OffenceReceipt: {true, 1}, OffenceOverdue: {true, 0}}

// Encode makes the block transaction: 0xE1, offence(1), reporter(6), the receipt if there is one, then for each message:
// previous(32), length(4), bytes.
func (e Evidence) Encode() []byte {
	r := accountBytes(e.Reporter)
	b := append([]byte{blockEvidence, e.Offence}, r[:]...)
	if shapes[e.Offence].receipt {
		b = append(b, e.Receipt.Bytes()...)
	}
	for _, m := range e.Messages {
		b = append(b, m.Previous[:]...)
		b = binary.LittleEndian.AppendUint32(b, uint32(len(m.Raw)))
		b = append(b, m.Raw...)
	}
	return b
}

// evidenceHead is marker(1) offence(1) reporter(6).
const evidenceHead = 8

// decodeEvidence reads what Encode wrote, strictly.
func decodeEvidence(raw []byte) (e Evidence, _ *Refusal) {
	if len(raw) < evidenceHead || len(raw) > MaxEvidence || raw[0] != blockEvidence {
		return e, refuse(CodeEvidence, "evidence of %d bytes: want %d..%d", len(raw), evidenceHead, MaxEvidence)
	}
	shape, known := shapes[raw[1]]
	if !known {
		return e, refuse(CodeEvidence, "evidence of offence %d, which is not known here", raw[1])
	}
	r := reader{b: raw, at: 2}
	e.Offence, e.Reporter = raw[1], r.account()
	if shape.receipt && r.fits(ReceiptSize, 1) {
		var err error
		if e.Receipt, err = ParseReceipt(r.take(ReceiptSize)); err != nil {
			return e, refuse(CodeEvidence, "%v", err)
		}
	}
	for range shape.messages {
		m := SignedMessage{Previous: r.hash()}
		if n := r.u32(); n <= MaxMessage && r.fits(int(n), 1) {
			m.Raw = r.take(int(n))
		} else {
			r.short = true
		}
		e.Messages = append(e.Messages, m)
	}
	if r.short || r.at != len(raw) {
		return e, refuse(CodeEvidence, "evidence of %d bytes does not match its contents", len(raw))
	}
	return e, nil
}

// IsEvidence tells whether a transaction of a block is evidence.
func IsEvidence(blockTx []byte) bool { return len(blockTx) > 0 && blockTx[0] == blockEvidence }

// CheckEvidence tells whether evidence would close a node now. The error is a *Refusal.
func (s *State) CheckEvidence(raw []byte) error {
	if _, _, r := s.guilty(raw); r != nil {
		return r
	}
	return nil
}

// guilty finds the node that evidence convicts.
func (s *State) guilty(raw []byte) (node uint16, e Evidence, _ *Refusal) {
	e, r := decodeEvidence(raw)
	if r != nil {
		return 0, e, r
	}
	var heads []*NodeMessage
	var txs []*Tx
	for i, m := range e.Messages {
		var head *NodeMessage
		if head, txs, r = decodeMessage(m.Raw); r != nil {
			return 0, e, refuse(CodeEvidence, "message %d of the evidence: %s", i+1, r.Text)
		}
		heads = append(heads, head)
	}
	switch e.Offence {
	case OffenceMessages:
		node, r = s.contradicts(heads)
	case OffenceReceipt:
		node, r = e.Receipt.Node, breaks(&e.Receipt, heads[0], txs)
	case OffenceOverdue:
		node, r = e.Receipt.Node, s.overdue(&e.Receipt)
	}
	if r != nil {
		return 0, e, r
	}
	return node, e, s.signedAll(node, &e, heads)
}

// signedAll tells whether an existing, open node signed what the evidence holds, with its key or the one before.
func (s *State) signedAll(node uint16, e *Evidence, heads []*NodeMessage) *Refusal {
	n := s.node(node)
	switch {
	case n == nil:
		return refuse(CodeEvidence, "node %d does not exist", node)
	case n.Status&NodeDoubleSpend != 0:
		return refuse(CodeEvidence, "node %d is closed already", node)
	}
	either := func(valid func(key [32]byte) bool) bool {
		return valid(n.PublicKey) || !n.OldKey.IsZero() && valid(n.OldKey)
	}
	if shapes[e.Offence].receipt && !either(func(key [32]byte) bool { return e.Receipt.Verify(key, s.params.Genesis) }) {
		return refuse(CodeEvidence, "the receipt is not signed by node %d", node)
	}
	for i, m := range heads {
		if !either(func(key [32]byte) bool { return m.Verify(key, e.Messages[i].Previous) }) {
			return refuse(CodeEvidence, "message %d of the evidence is not signed by node %d", i+1, node)
		}
	}
	return nil
}

// contradicts wants two different messages with one number of one node.
func (s *State) contradicts(heads []*NodeMessage) (uint16, *Refusal) {
	a, b := heads[0], heads[1]
	switch {
	case a.Node != b.Node || a.Msid != b.Msid:
		return 0, refuse(CodeEvidence, "the messages are number %d of node %d and %d of node %d: want two of one number", a.Msid, a.Node, b.Msid, b.Node)
	case a.Root() == b.Root():
		return 0, refuse(CodeEvidence, "both messages are the same")
	}
	return a.Node, nil
}

// breaks wants a message that the receipt is for and that does not hold what it promises.
func breaks(r *Receipt, m *NodeMessage, txs []*Tx) *Refusal {
	if m.Node != r.Node || m.Msid != r.Msid {
		return refuse(CodeEvidence, "the receipt is for message %d of node %d, this is %d of node %d", r.Msid, r.Node, m.Msid, m.Node)
	}
	var ids []types.Hash
	for i := uint64(r.First) - 1; i < uint64(r.First)-1+uint64(r.Count) && i < uint64(len(txs)); i++ {
		ids = append(ids, txs[i].ID)
	}
	if r.Covers(ids) {
		return refuse(CodeEvidence, "the message holds what the receipt promises")
	}
	return nil
}

// overdue wants a receipt whose deadline has passed without its message. What is in a block by now is not overdue: whether it holds
// what was promised is another offence.
func (s *State) overdue(r *Receipt) *Refusal {
	n := s.node(r.Node)
	if s.height <= r.Deadline || n != nil && n.Msid >= r.Msid {
		return refuse(CodeEvidence, "the receipt's deadline is block %d, this is %d, and message %d of node %d may be there", r.Deadline, s.height, r.Msid, r.Node)
	}
	return nil
}

// evidence executes evidence that is in a block.
func (b *block) evidence(raw []byte) *Refusal {
	node, e, r := b.s.guilty(raw)
	if r != nil {
		return r
	}
	b.s.cut(&b.log, node, e.Offence, e.Reporter)
	return nil
}

// Accuse says that CometBFT has shown, in the block to be applied next, that the validator with this address (the first 20 bytes of
// SHA-256 of its key) signed two different votes of one round.
func (s *State) Accuse(address [20]byte) { s.stake.accused = append(s.stake.accused, address) }

// punish cuts the validators that were accused. The same node is cut once.
func (s *State) punish(log *eventLog) {
	for _, address := range s.stake.accused {
		for i, n := range s.nodes {
			if n.Status&NodeDoubleSpend == 0 && (validatorAddress(n.PublicKey) == address || validatorAddress(n.OldKey) == address) {
				s.cut(log, uint16(i+1), OffenceBlocks, types.AccountID{})
			}
		}
	}
	s.stake.accused = nil
}

// validatorAddress is CometBFT's name of a validator.
func validatorAddress(key types.Hash) [20]byte {
	h := types.SHA256(key[:])
	return [20]byte(h[:20])
}

// cut closes a node and takes an eighth of its bond. The money of its other accounts is not touched; their owners get it out by
// retrieve_funds.
func (s *State) cut(log *eventLog, node uint16, offence uint8, reporter types.AccountID) {
	s.touchNode(node).Status |= NodeDoubleSpend
	s.stake.again = true
	admin := types.AccountID{Node: node}
	s.payDividend(admin) // its maintenance fee comes first, so that the cut is of what is there
	total := s.record(admin).Balance / cutDivisor
	s.addBalance(admin, -total)
	for _, k := range slices.SortedFunc(maps.Keys(s.stake.ofNode[node]), compareBonds) {
		part := s.stake.bonds[k] / cutDivisor
		s.addBond(k, -part)
		total += part
	}
	reward := total / rewardDivisor
	if s.record(reporter) == nil || reporter.Node == node {
		reward, reporter = 0, types.AccountID{}
	} else {
		s.credit(reporter, reward, true)
	}
	s.pool += total - reward
	log.emit(NodeCut{Node: node, Offence: offence, Amount: total, Reward: reward, Reporter: reporter})
}
