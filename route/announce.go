package route

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/btcec/v2/ecdsa"

	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/wire"
)

// Errors that checks of gossip wrap; Verdict maps them.
var (
	// ErrInvalid: nobody honest sends this.
	ErrInvalid = errors.New("invalid channel gossip")
	// ErrUnknown: it can't be checked here (yet): the contract is not on the ledger as seen here, or the channel is not in the graph.
	ErrUnknown = errors.New("channel unknown here")
	// ErrStale: known already, older than what is known, or too old or too frequent to keep.
	ErrStale = errors.New("stale channel gossip")
	// ErrFull: a limit of the graph is reached.
	ErrFull = errors.New("channel graph is full")
)

// Verdict is what a gossip validator answers for an error of CheckGossip.
func Verdict(err error) types.Verdict {
	switch {
	case err == nil:
		return types.Accept
	case errors.Is(err, ErrInvalid):
		return types.Reject
	}
	return types.Ignore
}

// Announcement makes a channel public. Both node keys and both close keys of the contract sign it (BOLT 7, channel_announcement), so
// nobody can announce somebody else's contract, nor name a partner who doesn't agree.
type Announcement struct {
	Channel types.ChannelID
	// Nodes are in ascending order of their bytes; CloseKeys[i], NodeSigs[i] and CloseSigs[i] belong to Nodes[i].
	Nodes     [2]types.NodeID
	CloseKeys [2]types.PubKey
	Capacity  types.Amount
	// Timing of the contract: payers compute expiries from it.
	Timing              types.Timing
	NodeSigs, CloseSigs [2]wire.Sig
}

// Policy is what a node asks for passing locks on over a channel, in its own direction.
type Policy struct {
	Channel types.ChannelID
	// Direction 0 is from Announcement.Nodes[0] to Nodes[1]; 1 the other way. The sending node signs.
	Direction uint8
	// Seq orders the policies of a direction; the higher one holds.
	Seq uint64
	// Height is the block at which the policy was made; see StaleAfter.
	Height types.Height
	// The fee for passing on an amount is Base + amount*Millionths/10^6, rounded down.
	Base       types.Amount
	Millionths uint32
	// Delta is how many blocks the incoming lock must expire after the outgoing one, at least; the timing of the
	// incoming channel can ask for more (types.Timing.ForwardDelta).
	Delta uint32
	// Min and Max bound the amount of the outgoing lock.
	Min, Max types.Amount
	Disabled bool
	// Reserve is the reservation fee for the outgoing lock, in 10^-12 of its amount a block until it expires; see Ask. It is paid when the
	// lock is added and kept whatever becomes of the lock. At most MaxReserve.
	Reserve uint32
	// OnionKey is with what payers write to the node that signs this. The same in all policies of a node, but for those that it has
	// not renewed yet.
	OnionKey types.OnionKey
	Sig      wire.Sig
}

const (
	announcementBody = 32 + 2*33 + 2*33 + 8 + 3*4
	announcementSize = announcementBody + 4*64
	policyBody       = 32 + 1 + 8 + 4 + 8 + 4 + 4 + 8 + 8 + 1 + 4 + 32
	policySize       = policyBody + 64

	// MaxDelta bounds what a policy may ask for, and so what one hop can lock a payer's money for. Ten times the default timing's delta.
	MaxDelta = 200_000
	// MaxReserve bounds Policy.Reserve: a millionth of the amount a block, 0.36 percent an hour at one block a second, which is a hundred
	// thousand times the price of money.
	MaxReserve = 1_000_000
	// lockSlots is how many locks one side of a channel can have open (docs/channels.md). Each takes one of them, however small it
	// is, so it counts as that share of the channel's largest lock at least: filling the slots costs what filling the channel does.
	lockSlots = wire.MaxLocks / 2
)

// NewAnnouncement returns an announcement without signatures, with its sides in order.
func NewAnnouncement(id types.ChannelID, nodes [2]types.NodeID, closeKeys [2]types.PubKey, capacity types.Amount, timing types.Timing) Announcement {
	if bytes.Compare(nodes[0][:], nodes[1][:]) > 0 {
		nodes[0], nodes[1] = nodes[1], nodes[0]
		closeKeys[0], closeKeys[1] = closeKeys[1], closeKeys[0]
	}
	return Announcement{Channel: id, Nodes: nodes, CloseKeys: closeKeys, Capacity: capacity, Timing: timing}
}

// side returns the index of a node, or -1.
func (a *Announcement) side(n types.NodeID) int {
	for i := range a.Nodes {
		if a.Nodes[i] == n {
			return i
		}
	}
	return -1
}

// Direction returns the policy direction of a node's own side; ok is false when the channel is not the node's.
func (a *Announcement) Direction(n types.NodeID) (dir uint8, ok bool) {
	i := a.side(n)
	return uint8(max(0, i)), i >= 0
}

func (a *Announcement) appendBody(b []byte) []byte {
	b = append(b, a.Channel[:]...)
	for i := range a.Nodes {
		b = append(b, a.Nodes[i][:]...)
	}
	for i := range a.CloseKeys {
		b = append(b, a.CloseKeys[i][:]...)
	}
	b = binary.BigEndian.AppendUint64(b, uint64(a.Capacity))
	b = binary.BigEndian.AppendUint32(b, a.Timing.Inclusion)
	b = binary.BigEndian.AppendUint32(b, a.Timing.Downtime)
	return binary.BigEndian.AppendUint32(b, a.Timing.Window)
}

// Digest is what all four keys sign.
func (a *Announcement) Digest() types.Hash {
	return types.TaggedHash("chand/channel announcement v1", a.appendBody(nil))
}

// Sign makes one side's signatures, which are sent to the peer as a wire message.
func (a *Announcement) Sign(nodeKey, closeKey *btcec.PrivateKey) wire.AnnounceSigs {
	d := a.Digest()
	return wire.AnnounceSigs{ID: a.Channel, NodeSig: sign(nodeKey, d), CloseSig: sign(closeKey, d)}
}

// SetSigs puts in the signatures of the side of node n, after checking them.
func (a *Announcement) SetSigs(n types.NodeID, s wire.AnnounceSigs) error {
	i := a.side(n)
	if i < 0 || s.ID != a.Channel {
		return fmt.Errorf("%w: signatures of %s for channel %s do not belong to this announcement", ErrInvalid, n, s.ID)
	}
	d := a.Digest()
	if err := verify(a.Nodes[i].PubKey(), d, s.NodeSig); err != nil {
		return fmt.Errorf("%w: node signature of %s: %w", ErrInvalid, n, err)
	}
	if err := verify(a.CloseKeys[i], d, s.CloseSig); err != nil {
		return fmt.Errorf("%w: close key signature of %s: %w", ErrInvalid, n, err)
	}
	a.NodeSigs[i], a.CloseSigs[i] = s.NodeSig, s.CloseSig
	return nil
}

// check is everything but signatures and the contract.
func (a *Announcement) check() error {
	switch {
	case bytes.Compare(a.Nodes[0][:], a.Nodes[1][:]) >= 0:
		return fmt.Errorf("%w: nodes are not in ascending order", ErrInvalid)
	case a.CloseKeys[0] == a.CloseKeys[1]:
		return fmt.Errorf("%w: both close keys are the same", ErrInvalid)
	case a.Capacity <= 0 || a.Capacity > types.MaxAmount:
		return fmt.Errorf("%w: capacity of %d units", ErrInvalid, a.Capacity)
	}
	if err := a.Timing.Check(); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return nil
}

// ContractFunc looks a contract up on the settlement chain as this daemon has verified it (chand.Chain.Contract).
type ContractFunc func(types.ChannelID) (ledger.Contract, error)

// CheckContract compares the announcement with the contract on the ledger: it must exist, be open and not posted, and have this capacity,
// window and close keys.
func (a *Announcement) CheckContract(contract ContractFunc) error {
	c, err := contract(a.Channel)
	if err != nil {
		return fmt.Errorf("%w: contract %s: %w", ErrUnknown, a.Channel, err)
	}
	k := c.CloseKeys
	switch {
	case c.Settled != nil || c.Posted != nil:
		return fmt.Errorf("%w: contract %s is closing or closed", ErrStale, a.Channel)
	case c.Capacity != a.Capacity:
		return fmt.Errorf("%w: capacity %s, the contract %s holds %s", ErrInvalid, a.Capacity, a.Channel, c.Capacity)
	case c.Window != a.Timing.Window:
		return fmt.Errorf("%w: window %d, the contract's is %d", ErrInvalid, a.Timing.Window, c.Window)
	case k != a.CloseKeys && k != [2]types.PubKey{a.CloseKeys[1], a.CloseKeys[0]}:
		return fmt.Errorf("%w: close keys are not those of contract %s", ErrInvalid, a.Channel)
	}
	return nil
}

// VerifyAnnouncement checks form, contract and the four signatures, the cheap things first. At most four signature verifications.
func VerifyAnnouncement(a *Announcement, contract ContractFunc) error {
	if err := a.check(); err != nil {
		return err
	}
	if err := a.CheckContract(contract); err != nil {
		return err
	}
	for i := range a.Nodes {
		if err := a.SetSigs(a.Nodes[i], wire.AnnounceSigs{ID: a.Channel, NodeSig: a.NodeSigs[i], CloseSig: a.CloseSigs[i]}); err != nil {
			return err
		}
	}
	return nil
}

func (p *Policy) appendBody(b []byte) []byte {
	b = append(b, p.Channel[:]...)
	b = append(b, p.Direction)
	b = binary.BigEndian.AppendUint64(b, p.Seq)
	b = binary.BigEndian.AppendUint32(b, uint32(p.Height))
	b = binary.BigEndian.AppendUint64(b, uint64(p.Base))
	b = binary.BigEndian.AppendUint32(b, p.Millionths)
	b = binary.BigEndian.AppendUint32(b, p.Delta)
	b = binary.BigEndian.AppendUint64(b, uint64(p.Min))
	b = binary.BigEndian.AppendUint64(b, uint64(p.Max))
	b = append(b, 0)
	if p.Disabled {
		b[len(b)-1] = 1
	}
	b = binary.BigEndian.AppendUint32(b, p.Reserve)
	return append(b, p.OnionKey[:]...)
}

func (p *Policy) digest() types.Hash {
	return types.TaggedHash("chand/channel policy v1", p.appendBody(nil))
}

// Sign signs the policy with the key of the node that it belongs to.
func (p *Policy) Sign(nodeKey *btcec.PrivateKey) { p.Sig = sign(nodeKey, p.digest()) }

// Check wants every field in range.
func (p *Policy) Check() error {
	switch {
	case p.Direction > 1:
		return fmt.Errorf("%w: direction %d", ErrInvalid, p.Direction)
	case p.Base < 0 || p.Base > types.MaxAmount || p.Millionths > 1_000_000:
		return fmt.Errorf("%w: fee of %d units + %d millionths: want at most the whole amount", ErrInvalid, p.Base, p.Millionths)
	case p.Delta > MaxDelta:
		return fmt.Errorf("%w: expiry delta %d, at most %d", ErrInvalid, p.Delta, MaxDelta)
	case p.Reserve > MaxReserve:
		return fmt.Errorf("%w: reservation fee of %d trillionths a block, at most %d", ErrInvalid, p.Reserve, MaxReserve)
	case p.Min < 0 || p.Max < p.Min || p.Max > types.MaxAmount:
		return fmt.Errorf("%w: amounts from %d to %d units", ErrInvalid, p.Min, p.Max)
	}
	return nil
}

// VerifyPolicy checks form and signature against the channel that the policy is about. One signature verification.
func VerifyPolicy(p *Policy, a *Announcement) error {
	if err := p.Check(); err != nil {
		return err
	}
	if p.Channel != a.Channel || p.Max > a.Capacity {
		return fmt.Errorf("%w: policy for channel %s up to %s does not fit channel %s of %s", ErrInvalid, p.Channel, p.Max, a.Channel, a.Capacity)
	}
	if err := verify(a.Nodes[p.Direction].PubKey(), p.digest(), p.Sig); err != nil {
		return fmt.Errorf("%w: policy of channel %s: %w", ErrInvalid, p.Channel, err)
	}
	return nil
}

// Fee returns what the node asks for passing amount on.
func (p *Policy) Fee(amount types.Amount) (types.Amount, error) {
	f, err := amount.MulDiv(uint64(p.Millionths), 1_000_000)
	if err != nil {
		return 0, err
	}
	return f.Add(p.Base)
}

// Ask returns the reservation fee for a lock of amount that expires blocks from now, rounded up. An amount below
// Max/483 counts as that: it takes one of 483 places.
func (p *Policy) Ask(amount types.Amount, blocks uint32) types.Amount {
	return ask(p.Reserve, amount, p.Max/lockSlots, blocks)
}

// ask is Policy.Ask with what a lock counts as at least; MaxAmount when it overflows, which is more than any budget.
func ask(reserve uint32, amount, floor types.Amount, blocks uint32) types.Amount {
	if reserve == 0 || blocks == 0 {
		return 0
	}
	const den = 1_000_000_000_000
	hi, lo := bits.Mul64(uint64(max(amount, floor)), uint64(reserve)*uint64(blocks))
	lo, carry := bits.Add64(lo, den-1, 0)
	if hi += carry; hi >= den {
		return types.MaxAmount
	}
	q, _ := bits.Div64(hi, lo, den)
	return types.Amount(min(q, uint64(types.MaxAmount)))
}

// sign makes a compact signature; deterministic (RFC 6979), low s.
func sign(key *btcec.PrivateKey, h types.Hash) (out wire.Sig) {
	s := ecdsa.Sign(key, h[:])
	r, ss := s.R(), s.S()
	r.PutBytesUnchecked(out[:32])
	ss.PutBytesUnchecked(out[32:])
	return out
}

var errSig = errors.New("signature does not verify")

// verify wants a canonical compact signature: r and s below the group order, s in its lower half, so that there is one form only.
func verify(key types.PubKey, h types.Hash, sig wire.Sig) error {
	var r, s btcec.ModNScalar
	if r.SetByteSlice(sig[:32]) || s.SetByteSlice(sig[32:]) || r.IsZero() || s.IsZero() || s.IsOverHalfOrder() {
		return errors.New("signature is not in canonical form")
	}
	pub, err := key.Parse()
	if err != nil {
		return err
	}
	if !ecdsa.NewSignature(&r, &s).Verify(h[:], pub) {
		return errSig
	}
	return nil
}
