package chand

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/eschaton-network/chand/channel"
	"github.com/eschaton-network/chand/htlc"
	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/wire"
)

func newRunner(d *Daemon, peer types.NodeID) *runner {
	return &runner{d: d, log: d.Log.With("owner", "runner", "peer", peer), peer: peer, fromPeer: make(chan any, peerQueue),
		blocks: make(chan ledger.BlockEvents, blockQueue), box: newMailbox[any](maxCommands), over: make(chan struct{}),
		releases: make(map[uint64]types.Preimage), outgoing: make(map[uint64]*outgoing), incoming: make(map[uint64]*incomingRecord),
		pays: make(map[types.Hash]*payment), receipts: receipts{ring: make(map[uint64]types.Preimage)},
		inStreams: make(map[types.Hash]*streamRecord)}
}

// loadEscrows reads the escrows that are not over. Their runners find them by their locks.
func (d *Daemon) loadEscrows() error {
	return loadAll(d.Store, bucketEscrow, "", func(key string, rec Escrow) error {
		if key != escrowKey(rec.ID, rec.Role) {
			return fmt.Errorf("escrow/%s: the record is of %s", key, escrowKey(rec.ID, rec.Role))
		}
		if !rec.final() {
			e := &escrow{d: d, rec: rec}
			e.show()
			d.escrows.add(e)
		}
		return nil
	})
}

// loadChannels makes a runner of every channel that is not over, with everything that its locks and payments wait for. What was
// in flight between two channels is told again; who knows it already does nothing.
func (d *Daemon) loadChannels() error {
	height, _, err := load[types.Height](d.Store, bucketMeta, metaWatched)
	if err != nil {
		return err
	}
	if _, marked, err := load[bool](d.Store, bucketMeta, metaRestored); err != nil {
		return err
	} else if marked {
		d.cfg.Restored = true
	}
	var states []channel.State
	var old []*runner // they come from a backup
	err = d.Store.Scan(bucketChannel, "", func(key string, value []byte) error {
		s, err := channel.Decode(value)
		if err != nil {
			return fmt.Errorf("channel/%s: %w", key, err)
		}
		if key != stateKey(&s).String() {
			return fmt.Errorf("channel/%s: the state is of %s", key, stateKey(&s))
		}
		states = append(states, s)
		return nil
	})
	if err != nil {
		return err
	}
	pending := d.payments.all()
	for i := range states {
		r, err := d.loadRunner(&states[i], pending)
		if err != nil {
			return fmt.Errorf("channel %s: %w", stateKey(&states[i]), err)
		}
		r.height = height
		r.seen.Store(uint32(height))
		if r.finished() {
			continue
		}
		if !d.register(r, stateKey(&r.state)) {
			return fmt.Errorf("more than %d channels", maxRunners)
		}
		d.register(r, r.state.Temp)
		r.named = !r.state.ID.IsZero()
		if d.cfg.Restored && r.state.Phase <= channel.PhaseOpen { // it may have been opened since
			old = append(old, r)
		}
	}
	d.restored(old)
	for _, r := range d.allRunners() {
		if err := d.resume(r); err != nil {
			return err
		}
	}
	for _, p := range pending {
		p.loaded()
	}
	return nil
}

// loadRunner reads what belongs to one channel.
func (d *Daemon) loadRunner(s *channel.State, pending []*payment) (*runner, error) {
	r := newRunner(d, s.Peer)
	id := stateKey(s)
	r.state, r.saved = *s, id
	var err error
	var ok bool
	if r.info, ok, err = load[chanRecord](d.Store, bucketChanInfo, id.String()); err != nil || !ok {
		return nil, fmt.Errorf("its record is missing: %w", err)
	}
	r.refunds = slices.Clone(r.info.Refunds)
	prefix := id.String() + "/"
	err = d.Store.Scan(bucketOutbox, prefix, func(key string, value []byte) error {
		m, err := wire.Decode(value)
		u, is := m.(*wire.Update)
		if err != nil || !is || key != outboxKey(id, u.Version) {
			return fmt.Errorf("outbox/%s: not an update of this channel: %w", key, err)
		}
		r.outbox = append(r.outbox, u)
		return nil
	})
	if err != nil {
		return nil, err
	}
	bySeq := make(map[uint64]*payment, len(pending))
	for _, p := range pending {
		bySeq[p.seq] = p
	}
	err = loadAll(d.Store, bucketOutgoing, prefix, func(key string, rec outgoingRecord) error {
		_, lock, err := parseLockKey(key)
		out := &outgoing{outgoingRecord: rec}
		switch rec.Kind {
		case kindPayment:
			if out.payment = bySeq[rec.Ref]; out.payment != nil && rec.Attempt != nil {
				out.payment.out[lockRef{id, lock}] = rec.Attempt
			}
		case kindEscrow:
			if out.escrow = d.escrows.get(rec.Hash, rolePayer); out.escrow != nil && out.escrow.rec.State == EscrowReleasing {
				r.releases[lock] = out.escrow.rec.Preimage
			}
		}
		r.outgoing[lock] = out
		return err
	})
	if err != nil {
		return nil, err
	}
	err = loadAll(d.Store, bucketIncoming, prefix, func(key string, rec incomingRecord) error {
		_, lock, err := parseLockKey(key)
		r.incoming[lock] = &rec
		if rec.GiveBack && !rec.Released {
			r.backs = append(r.backs, lock)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	err = loadAll(d.Store, bucketReceipt, prefix, func(_ string, rec receiptRecord) error {
		r.receipts.ring[rec.N] = rec.Preimage
		r.receipts.next = max(r.receipts.next, rec.N+1)
		return nil
	})
	for _, p := range pending {
		if a := p.rec.Attempt; a != nil && a.Channel == id {
			if p.rec.Spontaneous {
				r.spont = append(r.spont, p)
			} else {
				r.pays[p.rec.Hash] = p
			}
		}
	}
	slices.SortFunc(r.spont, func(a, b *payment) int { return cmp.Compare(a.version(), b.version()) })
	return r, err
}

// resume tells again what one channel has saved and another may not have heard, and gives back locks that were never passed on.
func (d *Daemon) resume(r *runner) error {
	id := stateKey(&r.state)
	r.box.force(func(b *batch) {
		for lock, out := range r.outgoing {
			switch {
			case out.Kind == kindForward && (!out.Preimage.IsZero() || out.Returned):
				r.tellUpstream(b, lock, out)
				if _, open := b.state.Lock(channel.LockKey{Funder: b.state.Side, ID: lock}); open && !out.Gone && !out.Preimage.IsZero() {
					r.releases[lock] = out.Preimage
				}
			case out.Gone && out.Kind == kindPayment && (out.Returned || out.Lost) && r.tellPayer(b, lock, out):
			case out.Gone && out.Kind != kindForward:
				r.dropOutgoing(b, lock)
			}
		}
	})
	for lock, in := range r.incoming {
		switch {
		case in.Kind == kindForward && in.Released:
			r.box.force(func(b *batch) {
				if in := r.incoming[lock]; in != nil {
					r.tellDownstream(b, lock, in)
				}
			})
		case in.Kind == kindForward && !in.GiveBack && in.Preimage.IsZero() && !d.passedOn(in.OutChannel, lockRef{id, lock}):
			if d.cfg.Restored { // it may have been passed on after the backup
				r.box.force(func(b *batch) { r.orphan(b, lock) })
				continue
			}
			r.box.force(mailOutcome{lock: lock, returned: true, out: in.OutChannel, reason: nil, failure: htlc.NewFailure(htlc.TemporaryNodeFailure, types.ChannelID{}, "the node was restarted before it passed the lock on")})
		case in.Kind == kindHeld && !in.GiveBack:
			if err := r.resumeHeld(lock, in); err != nil {
				return err
			}
		}
	}
	return nil
}

// passedOn tells whether a lock has its other half in the outgoing channel.
func (d *Daemon) passedOn(out types.ChannelID, in lockRef) bool {
	o := d.runner(out)
	if o == nil {
		return false
	}
	for _, rec := range o.outgoing {
		if rec.Kind == kindForward && rec.InChannel == in.channel && rec.InLock == in.lock {
			return true
		}
	}
	return false
}

func sortRunners(list []*runner) {
	slices.SortFunc(list, func(a, b *runner) int {
		x, y := a.view.Load(), b.view.Load()
		if x == nil || y == nil {
			return strings.Compare(a.peer.String(), b.peer.String())
		}
		kx, ky := stateKey(&x.State), stateKey(&y.State)
		return bytes.Compare(kx[:], ky[:])
	})
}

func sortPending(list []*pendingTx) {
	slices.SortFunc(list, func(a, b *pendingTx) int { return cmp.Compare(a.Msid, b.Msid) })
}
