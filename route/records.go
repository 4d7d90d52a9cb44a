package route

import (
	"encoding/binary"
	"fmt"

	"github.com/eschaton-network/chand/types"
)

// Bucket is where the records of the graph are stored. Keys: the channel's id in hex and "/0" (the height at which it was added, and
// the announcement), "/1" or "/2" (policies by direction), so that a scan in key order brings the announcement first.
const Bucket = "graph"

func announcementRecord(k *known) types.Write {
	v := binary.BigEndian.AppendUint32(nil, uint32(k.added))
	return types.Write{Bucket: Bucket, Key: k.ann.Channel.String() + "/0", Value: append(v, k.ann.Encode()...)}
}

func policyRecord(p *Policy) types.Write {
	return types.Write{Bucket: Bucket, Key: fmt.Sprintf("%s/%d", p.Channel, 1+p.Direction), Value: p.Encode()}
}

func deleteRecords(id types.ChannelID) (writes []types.Write) {
	for part := range 3 {
		writes = append(writes, types.Write{Bucket: Bucket, Key: fmt.Sprintf("%s/%d", id, part)})
	}
	return writes
}

// Load takes one stored record, in the order of the keys. Signatures were checked before the record was stored and are
// not checked again.
func (g *Graph) Load(key string, value []byte) error {
	if len(key) != 66 || key[64] != '/' {
		return fmt.Errorf("graph record %.80q: not a key of this bucket", key)
	}
	id, err := types.ParseHash(key[:64])
	if err != nil {
		return fmt.Errorf("graph record %.80q: %w", key, err)
	}
	switch part := key[65]; part {
	case '0':
		return g.loadAnnouncement(id, value)
	case '1', '2':
		p, err := DecodePolicy(value)
		if err != nil {
			return fmt.Errorf("graph record %s: %w", key, err)
		}
		e, ok := g.edgeAt[id]
		if !ok || p.Channel != id || p.Direction != part-'1' {
			return fmt.Errorf("graph record %s: no announcement before it, or it is of another channel or direction", key)
		}
		g.setPolicy(e, &p)
		return nil
	}
	return fmt.Errorf("graph record %s: unknown part", key)
}

func (g *Graph) loadAnnouncement(id types.ChannelID, value []byte) error {
	if len(value) != 4+announcementSize {
		return fmt.Errorf("graph record of channel %s: %d bytes, want %d", id, len(value), 4+announcementSize)
	}
	a, err := DecodeAnnouncement(value[4:])
	if err != nil {
		return fmt.Errorf("graph record of channel %s: %w", id, err)
	}
	if _, have := g.edgeAt[id]; have || a.Channel != id {
		return fmt.Errorf("graph record of channel %s: it is there twice, or under another channel's key", id)
	}
	if err := g.room(&a); err != nil {
		return err
	}
	g.add(&a, types.Height(binary.BigEndian.Uint32(value)))
	return nil
}
