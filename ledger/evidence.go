package ledger

import (
	"encoding/binary"
	"slices"

	"github.com/eschaton-network/chand/types"
)

// Offences for which a node is closed and its bond cut.
const (
	// OffenceMessages: it signed two messages with one number.
	OffenceMessages uint8 = 1
	// OffenceBlocks: its validator signed two blocks or votes of one round (CometBFT's own evidence).
	OffenceBlocks uint8 = 2
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

// DoubleMessage is evidence that a node signed two messages with one number. Anybody may submit it; Reporter gets the reward.
type DoubleMessage struct {
	Reporter types.AccountID
	Messages [2]SignedMessage
}

// Encode makes the block transaction: 0xE1, offence(1), reporter(6), then for each message: previous(32), length(4), bytes.
func (e DoubleMessage) Encode() []byte {
	r := accountBytes(e.Reporter)
	b := append([]byte{blockEvidence, OffenceMessages}, r[:]...)
	for _, m := range e.Messages {
		b = append(b, m.Previous[:]...)
		b = binary.LittleEndian.AppendUint32(b, uint32(len(m.Raw)))
		b = append(b, m.Raw...)
	}
	return b
}

// decodeEvidence reads what Encode wrote, strictly.
func decodeEvidence(raw []byte) (e DoubleMessage, _ *Refusal) {
	if len(raw) < 8 || len(raw) > MaxEvidence || raw[0] != blockEvidence || raw[1] != OffenceMessages {
		return e, refuse(CodeEvidence, "evidence of %d bytes: want 8..%d, and an offence that is known", len(raw), MaxEvidence)
	}
	r := reader{b: raw, at: 2}
	e.Reporter = r.account()
	for i := range e.Messages {
		m := &e.Messages[i]
		m.Previous = r.hash()
		if n := r.u32(); n <= MaxMessage && r.fits(int(n), 1) {
			m.Raw = r.take(int(n))
		}
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
func (s *State) guilty(raw []byte) (node uint16, e DoubleMessage, _ *Refusal) {
	e, r := decodeEvidence(raw)
	if r != nil {
		return 0, e, r
	}
	var heads [2]*NodeMessage
	for i, m := range e.Messages {
		if heads[i], _, r = decodeMessage(m.Raw); r != nil {
			return 0, e, refuse(CodeEvidence, "message %d of the evidence: %s", i+1, r.Text)
		}
	}
	a, b := heads[0], heads[1]
	n := s.node(a.Node)
	switch {
	case n == nil || a.Node != b.Node || a.Msid != b.Msid:
		return 0, e, refuse(CodeEvidence, "the messages are number %d of node %d and %d of node %d: want two of one number", a.Msid, a.Node, b.Msid, b.Node)
	case n.Status&NodeDoubleSpend != 0:
		return 0, e, refuse(CodeEvidence, "node %d is closed already", a.Node)
	case a.Root() == b.Root():
		return 0, e, refuse(CodeEvidence, "both messages are the same")
	}
	for i, m := range heads {
		if !m.Verify(n.PublicKey, e.Messages[i].Previous) && (n.OldKey.IsZero() || !m.Verify(n.OldKey, e.Messages[i].Previous)) {
			return 0, e, refuse(CodeEvidence, "message %d of the evidence is not signed by node %d", i+1, a.Node)
		}
	}
	return a.Node, e, nil
}

// evidence executes evidence that is in a block.
func (b *block) evidence(raw []byte) *Refusal {
	node, e, r := b.s.guilty(raw)
	if r != nil {
		return r
	}
	b.s.cut(&b.log, node, OffenceMessages, e.Reporter)
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
	total := s.record(admin).Balance / cutDivisor
	s.addBalance(admin, -total)
	for _, k := range slices.DeleteFunc(s.Bonds(), func(k BondKey) bool { return k.Node != node }) {
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
