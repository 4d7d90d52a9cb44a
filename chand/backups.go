package chand

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/eschaton-network/chand/chand/backup"
	"github.com/eschaton-network/chand/chand/tower"
	"github.com/eschaton-network/chand/channel"
	"github.com/eschaton-network/chand/types"
)

// metaRestored marks a store that was written from a backup, until every channel knows.
const metaRestored = "restored"

// storagePruneEvery is after how many blocks old blobs of others are looked for.
const storagePruneEvery = 1024

func newStorage(d *Daemon) *backup.Storage {
	s := backup.NewStorage(backup.Config{
		Store: d.Store, Secret: d.cfg.Seed.Secret(BackupSecret), Essentials: d.essentials, Channels: d.channelSet, Peers: d.neighbours, Partner: d.partner,
		Ask: d.Directory.Ask, Entropy: secrets{d}, Now: d.now, Log: d.Log.With("owner", "backup"),
	})
	d.Directory.Serve(backup.Protocol, s.Serve)
	return s
}

// BackupSecret is the label of the seed's secret that backups are sealed with (types.Seed.Secret).
const BackupSecret = "backup"

// channelSet is a word for the set of channels that are not over.
func (d *Daemon) channelSet() types.Hash {
	var b []byte
	for _, r := range d.allRunners() {
		v := r.view.Load()
		id := stateKey(&v.State)
		b = append(append(b, id[:]...), byte(v.State.Phase))
	}
	return types.SHA256(b)
}

// partner tells whether a node has a channel with us that is not over.
func (d *Daemon) partner(node types.NodeID) bool {
	return slices.ContainsFunc(d.allRunners(), func(r *runner) bool { return r.peer == node && r.view.Load().State.Phase >= channel.PhaseOpen })
}

// essentials are what a daemon can't go on without, and neither the seed phrase nor the ledger nor one peer alone can tell: the channels, the largest
// first, with what their locks are for and where their peers are.
func (d *Daemon) essentials() ([]types.Write, error) {
	list := d.allRunners()
	slices.SortStableFunc(list, func(a, b *runner) int {
		return cmp.Compare(b.view.Load().State.Capacity(), a.view.Load().State.Capacity())
	})
	var out []types.Write
	copyOf := func(bucket, prefix string) error {
		return d.Store.Scan(bucket, prefix, func(key string, value []byte) error {
			out = append(out, types.Write{Bucket: bucket, Key: key, Value: bytes.Clone(value)})
			return nil
		})
	}
	peers := map[types.NodeID]bool{}
	for _, r := range list {
		v := r.view.Load()
		id := stateKey(&v.State)
		if v.State.Phase < channel.PhaseFunding || v.State.Phase == channel.PhaseClosed || v.State.Phase == channel.PhaseFailed {
			continue
		}
		out = append(out, put(bucketChanInfo, id.String(), v.Info), types.Write{Bucket: bucketChannel, Key: id.String(), Value: v.State.Encode()})
		for _, bucket := range []string{bucketOutgoing, bucketIncoming} {
			if err := copyOf(bucket, id.String()); err != nil {
				return nil, err
			}
		}
		if !peers[r.peer] {
			peers[r.peer] = true
			if err := copyOf(bucketPeer, r.peer.String()); err != nil {
				return nil, err
			}
		}
	}
	return out, copyOf(tower.BucketTower, "")
}

// PrepareRestored makes a store that was written from a backup ready for a daemon: one that finds it so signs nothing in a channel
// before both sides have agreed where they are. What of the records of locks is missing is marked as not known, which costs nothing: such a lock is paid when its
// preimage shows, or runs out.
func PrepareRestored(ctx context.Context, s Store) error {
	c := checker{s: s, channels: map[types.ChannelID]channel.State{}}
	c.states()
	if len(c.found) > 0 {
		return c.found[0]
	}
	out, in := map[string]outgoingRecord{}, map[string]incomingRecord{}
	each(&c, bucketOutgoing, func(key string, v outgoingRecord) { out[key] = v })
	each(&c, bucketIncoming, func(key string, v incomingRecord) { in[key] = v })
	if len(c.found) > 0 {
		return c.found[0]
	}
	writes := []types.Write{put(bucketMeta, metaRestored, true)}
	for key, r := range out {
		if b, err := s.Get(bucketPayment, seqKey(r.Ref)); err != nil {
			return err
		} else if r.Kind == kindPayment && b == nil {
			r = outgoingRecord{Kind: kindOrphan, Hash: r.Hash}
			out[key] = r
			writes = append(writes, put(bucketOutgoing, key, r))
		}
	}
	for id, st := range c.channels {
		for _, l := range st.Current.Locks {
			key := lockKey(id, l.ID)
			if l.Funder == st.Side && out[key].Hash != l.Hash {
				writes = append(writes, put(bucketOutgoing, key, outgoingRecord{Kind: kindOrphan, Hash: l.Hash}))
			} else if l.Funder != st.Side && in[key].Hash != l.Hash {
				writes = append(writes, put(bucketIncoming, key, incomingRecord{Kind: kindOrphan, Hash: l.Hash, Amount: l.Amount, Expiry: l.Expiry}))
			}
		}
	}
	return s.Commit(ctx, writes...)
}

// restored feeds Restore to each channel before anything else. What only a start from a backup does, it does now: the next start finds no mark.
func (d *Daemon) restored(list []*runner) {
	d.restoring.Store(int32(len(list)))
	for _, r := range list {
		r.box.force(func(b *batch) {
			if _, err := r.step(b, channel.Restore{}); err != nil {
				r.log.Error("a restored channel", "err", err)
			}
			r.streamsRestored(b)
		})
	}
}

// forgetRestored takes the mark off the store once every channel has saved all that was forced on it so far.
func (d *Daemon) forgetRestored(list []*runner) {
	for _, r := range list {
		r.box.force(func(b *batch) {
			b.then(func() {
				if d.restoring.Add(-1) == 0 {
					d.life.run("mark of a restored store", d.unmark)
				}
			})
		})
	}
}

func (d *Daemon) unmark(ctx context.Context) error {
	if err := d.Store.Commit(ctx, del(bucketMeta, metaRestored)); err != nil {
		return fmt.Errorf("taking the mark off a restored store: %w", err)
	}
	return nil
}

// Keepers lists the peers that keep a backup of the channels, and how much had no room in it.
func (d *Daemon) Keepers() (list []backup.Keeper, omitted int) { return d.storage.Keepers() }

// CountChannels counts the channels of a store that are not over.
func CountChannels(s Reader) (n int, err error) {
	err = s.Scan(bucketChannel, "", func(_ string, value []byte) error {
		st, err := channel.Decode(value)
		if err == nil && st.Phase != channel.PhaseClosed && st.Phase != channel.PhaseFailed {
			n++
		}
		return err
	})
	return n, err
}
