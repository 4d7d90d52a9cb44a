package route

import (
	"encoding/binary"
	"fmt"

	"github.com/eschaton-network/chand/types"
)

// Topic is the gossip topic of channel announcements and policies.
const Topic = "chand/channels/1"

// MaxGossipSize is the largest Gossip: one announcement and two policies.
const MaxGossipSize = 2 + announcementSize + 2*policySize

const gossipVersion = 1

// Gossip is one message about one channel: its announcement, policies of it, or both together, so that a newcomer
// can use any of them alone.
type Gossip struct {
	Announcement *Announcement
	// Policies: none, one, or two of different directions, direction 0 first.
	Policies []Policy
}

// Channel names the channel that the message is about.
func (m *Gossip) Channel() types.ChannelID {
	if m.Announcement != nil {
		return m.Announcement.Channel
	}
	if len(m.Policies) > 0 {
		return m.Policies[0].Channel
	}
	return types.ChannelID{}
}

// Encode gives the canonical bytes: version(1) parts(1: bit 0 announcement, bits 1-2 policies by direction), then the parts.
func (m *Gossip) Encode() []byte {
	b := []byte{gossipVersion, 0}
	if m.Announcement != nil {
		b[1] = 1
		b = append(b, m.Announcement.Encode()...)
	}
	for i := range m.Policies {
		b[1] |= 2 << m.Policies[i].Direction
		b = append(b, m.Policies[i].Encode()...)
	}
	return b
}

// DecodeGossip reads exactly what Encode writes and checks ranges. No signature is checked here.
func DecodeGossip(b []byte) (Gossip, error) {
	var m Gossip
	if len(b) < 2 || len(b) > MaxGossipSize || b[0] != gossipVersion || b[1] == 0 || b[1] > 7 {
		return m, fmt.Errorf("%w: %d bytes, not version %d of channel gossip", ErrInvalid, len(b), gossipVersion)
	}
	parts, b := b[1], b[2:]
	if parts&1 != 0 {
		if len(b) < announcementSize {
			return m, fmt.Errorf("%w: %d bytes left for an announcement of %d", ErrInvalid, len(b), announcementSize)
		}
		a, err := DecodeAnnouncement(b[:announcementSize])
		if err != nil {
			return m, err
		}
		m.Announcement, b = &a, b[announcementSize:]
	}
	for dir := range uint8(2) {
		if parts&(2<<dir) == 0 {
			continue
		}
		if len(b) < policySize {
			return m, fmt.Errorf("%w: %d bytes left for a policy of %d", ErrInvalid, len(b), policySize)
		}
		p, err := DecodePolicy(b[:policySize])
		if err != nil {
			return m, err
		}
		if m.Policies = append(m.Policies, p); p.Direction != dir || p.Channel != m.Channel() {
			return m, fmt.Errorf("%w: parts of one message are about different channels or directions", ErrInvalid)
		}
		b = b[policySize:]
	}
	if len(b) != 0 {
		return m, fmt.Errorf("%w: %d bytes too many", ErrInvalid, len(b))
	}
	return m, nil
}

// Encode gives the body and then the signatures of both nodes and both close keys.
func (a *Announcement) Encode() []byte {
	b := a.appendBody(make([]byte, 0, announcementSize))
	for i := range a.NodeSigs {
		b = append(b, a.NodeSigs[i][:]...)
	}
	for i := range a.CloseSigs {
		b = append(b, a.CloseSigs[i][:]...)
	}
	return b
}

// DecodeAnnouncement reads exactly what Encode writes and checks ranges, not signatures.
func DecodeAnnouncement(b []byte) (Announcement, error) {
	var a Announcement
	if len(b) != announcementSize {
		return a, fmt.Errorf("%w: announcement of %d bytes, want %d", ErrInvalid, len(b), announcementSize)
	}
	b = b[copy(a.Channel[:], b):]
	for i := range a.Nodes {
		b = b[copy(a.Nodes[i][:], b):]
	}
	for i := range a.CloseKeys {
		b = b[copy(a.CloseKeys[i][:], b):]
	}
	a.Capacity = types.Amount(binary.BigEndian.Uint64(b))
	a.Timing = types.Timing{Inclusion: binary.BigEndian.Uint32(b[8:]), Downtime: binary.BigEndian.Uint32(b[12:]), Window: binary.BigEndian.Uint32(b[16:])}
	b = b[20:]
	for i := range a.NodeSigs {
		b = b[copy(a.NodeSigs[i][:], b):]
	}
	for i := range a.CloseSigs {
		b = b[copy(a.CloseSigs[i][:], b):]
	}
	return a, a.check()
}

// Encode gives the body and then the signature.
func (p *Policy) Encode() []byte {
	return append(p.appendBody(make([]byte, 0, policySize)), p.Sig[:]...)
}

// DecodePolicy reads exactly what Encode writes and checks ranges, not the signature.
func DecodePolicy(b []byte) (Policy, error) {
	var p Policy
	if len(b) != policySize {
		return p, fmt.Errorf("%w: policy of %d bytes, want %d", ErrInvalid, len(b), policySize)
	}
	const flag = policyBody - 1 - 4 - 32
	if b[flag] > 1 {
		return p, fmt.Errorf("%w: flag %d", ErrInvalid, b[flag])
	}
	b = b[copy(p.Channel[:], b):]
	p.Direction = b[0]
	p.Seq = binary.BigEndian.Uint64(b[1:])
	p.Height = types.Height(binary.BigEndian.Uint32(b[9:]))
	p.Base = types.Amount(binary.BigEndian.Uint64(b[13:]))
	p.Millionths = binary.BigEndian.Uint32(b[21:])
	p.Delta = binary.BigEndian.Uint32(b[25:])
	p.Min = types.Amount(binary.BigEndian.Uint64(b[29:]))
	p.Max = types.Amount(binary.BigEndian.Uint64(b[37:]))
	p.Disabled = b[45] == 1
	p.Reserve = binary.BigEndian.Uint32(b[46:])
	copy(p.Sig[:], b[50+copy(p.OnionKey[:], b[50:]):])
	return p, p.Check()
}
