package route

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/eschaton-network/chand/types"
)

// ChannelScore is what was learnt of a channel: direction 0 (from the node with the lower id) could carry between Low and High when that was
// learnt; direction 1 what Capacity leaves. A time of 0: never learnt.
type ChannelScore struct {
	Channel             types.ChannelID
	Capacity, Low, High types.Amount
	LowAt, HighAt       types.Time
}

// NodeScore is how a node did: how many failures and successes there were, in 1/1024, as they weighed at a time.
type NodeScore struct {
	Node       types.NodeID
	Fails, OKs uint32
	At         types.Time
}

// Scores returns everything that was learnt, in the order of the ids.
func (p *Penalties) Scores() ([]ChannelScore, []NodeScore) {
	channels := make([]ChannelScore, 0, len(p.channels))
	for id, b := range p.channels {
		channels = append(channels, ChannelScore{id, b.capacity, b.low, b.high, b.lowAt, b.highAt})
	}
	slices.SortFunc(channels, func(a, b ChannelScore) int { return compareIDs(a.Channel, b.Channel) })
	nodes := make([]NodeScore, 0, len(p.nodes))
	for id, c := range p.nodes {
		nodes = append(nodes, NodeScore{id, c.fails, c.oks, c.at})
	}
	slices.SortFunc(nodes, func(a, b NodeScore) int { return bytes.Compare(a.Node[:], b.Node[:]) })
	return channels, nodes
}

const (
	scoresVersion    = 1
	channelScoreSize = 32 + 5*8
	nodeScoreSize    = 33 + 4 + 4 + 8
	// MaxScoresSize bounds the encoding.
	MaxScoresSize = 1 + 4 + MaxPenalties*channelScoreSize
)

// ErrScores is wrapped by every error of DecodePenalties.
var ErrScores = errors.New("not a valid list of scores")

// Encode gives the canonical bytes, big-endian: version(1) number of channels(4), then for each, in the order of the ids, id(32) capacity(8)
// low(8) high(8) lowAt(8) highAt(8); then to the end, for each node, id(33) fails(4) oks(4) at(8).
func (p *Penalties) Encode() []byte {
	be := binary.BigEndian
	channels, nodes := p.Scores()
	b := be.AppendUint32([]byte{scoresVersion}, uint32(len(channels)))
	for i := range channels {
		c := &channels[i]
		b = append(b, c.Channel[:]...)
		for _, v := range []uint64{uint64(c.Capacity), uint64(c.Low), uint64(c.High), uint64(c.LowAt), uint64(c.HighAt)} {
			b = be.AppendUint64(b, v)
		}
	}
	for i := range nodes {
		b = append(b, nodes[i].Node[:]...)
		b = be.AppendUint32(be.AppendUint32(b, nodes[i].Fails), nodes[i].OKs)
		b = be.AppendUint64(b, uint64(nodes[i].At))
	}
	return b
}

// DecodePenalties reads exactly what Encode writes.
func DecodePenalties(b []byte) (*Penalties, error) {
	be := binary.BigEndian
	if len(b) < 5 || len(b) > MaxScoresSize || b[0] != scoresVersion {
		return nil, fmt.Errorf("%w: %d bytes, or not version %d", ErrScores, len(b), scoresVersion)
	}
	n, p := be.Uint32(b[1:]), NewPenalties()
	if b = b[5:]; uint64(n)*channelScoreSize > uint64(len(b)) || (uint64(len(b))-uint64(n)*channelScoreSize)%nodeScoreSize != 0 {
		return nil, fmt.Errorf("%w: %d channels in %d bytes", ErrScores, n, len(b))
	}
	var last types.ChannelID
	for i := range n {
		id := types.ChannelID(b)
		v := func(k int) uint64 { return be.Uint64(b[32+8*k:]) }
		s := bounds{types.Amount(v(0)), types.Amount(v(1)), types.Amount(v(2)), types.Time(v(3)), types.Time(v(4))}
		if i > 0 && compareIDs(last, id) >= 0 || s.capacity <= 0 || s.capacity > types.MaxAmount || s.low < 0 || s.low > s.high ||
			s.high > s.capacity || s.lowAt < 0 || s.highAt < 0 {
			return nil, fmt.Errorf("%w: channel %s is out of order, or its numbers are out of range", ErrScores, id)
		}
		p.channels[id], last, b = s, id, b[channelScoreSize:]
	}
	var before types.NodeID
	for len(b) > 0 {
		id := types.NodeID(b)
		c := conduct{be.Uint32(b[33:]), be.Uint32(b[37:]), types.Time(be.Uint64(b[41:]))}
		if len(p.nodes) > 0 && bytes.Compare(before[:], id[:]) >= 0 || c.fails > maxCount || c.oks > maxCount || c.at < 0 {
			return nil, fmt.Errorf("%w: node %s is out of order, or its numbers are out of range", ErrScores, id)
		}
		p.nodes[id], before, b = c, id, b[nodeScoreSize:]
	}
	if p.Len() > MaxPenalties {
		return nil, fmt.Errorf("%w: %d entries, at most %d", ErrScores, p.Len(), MaxPenalties)
	}
	return p, nil
}

// Import takes in what another memory holds where it is newer. Times after now count as now. It returns how many entries were taken.
func (p *Penalties) Import(from *Penalties, now types.Time) (taken int) {
	for id, b := range from.channels {
		b.lowAt, b.highAt = min(b.lowAt, now), min(b.highAt, now)
		if old, ok := p.channels[id]; !ok || max(b.lowAt, b.highAt) > max(old.lowAt, old.highAt) {
			p.channels[id] = b
			taken++
		}
	}
	for id, c := range from.nodes {
		c.at = min(c.at, now)
		if old, ok := p.nodes[id]; !ok || c.at > old.at {
			p.nodes[id] = c
			taken++
		}
	}
	p.bound(now)
	return taken
}
