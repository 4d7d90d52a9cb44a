package chand

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
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
	l := &loading{d: d, states: make(map[string]*channel.State), runners: make(map[string]*runner), pending: make(map[uint64]*payment)}
	pending := d.payments.all()
	for _, p := range pending {
		l.pending[p.seq] = p
	}
	if err := l.load(pending); err != nil {
		return err
	}
	var old []*runner // they come from a backup
	for _, key := range slices.Sorted(maps.Keys(l.runners)) {
		r := l.runners[key]
		if r.finished() {
			continue
		}
		r.height = height
		r.seen.Store(uint32(height))
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
	d.forgetRestored(old)
	for _, p := range pending {
		p.loaded()
	}
	return nil
}

// loading reads each bucket of the channels once: they are all in the order of the channels' ids, and a scan for each channel would
// be several seconds of a start with ten thousand.
type loading struct {
	d       *Daemon
	states  map[string]*channel.State // by key
	runners map[string]*runner        // by key; of channels that are over, those with locks that somebody waits for
	pending map[uint64]*payment
}

// runner gives a channel its runner; nil when there is no such channel.
func (l *loading) runner(key string) *runner {
	r, s := l.runners[key], l.states[key]
	if r == nil && s != nil {
		r = newRunner(l.d, s.Peer)
		r.state, r.saved = *s, stateKey(s)
		l.runners[key] = r
	}
	return r
}

// ofChannel is the channel's key at the beginning of a record's.
func ofChannel(key string) string { return key[:min(len(key), 2*len(types.Hash{}))] }

func (l *loading) load(pending []*payment) error {
	for _, read := range []func() error{l.loadStates, l.loadOutgoing, l.loadIncoming, l.loadInfo, l.loadOutbox, l.loadReceipts} {
		if err := read(); err != nil {
			return err
		}
	}
	for _, p := range pending {
		a := p.rec.Attempt
		if a == nil {
			continue
		}
		if r := l.runners[a.Channel.String()]; r == nil {
			continue
		} else if p.rec.Spontaneous {
			r.spont = append(r.spont, p)
		} else {
			r.pays[p.rec.Hash] = p
		}
	}
	for _, r := range l.runners {
		slices.SortFunc(r.spont, func(a, b *payment) int { return cmp.Compare(a.version(), b.version()) })
	}
	return nil
}

func (l *loading) loadStates() error {
	return l.d.Store.Scan(bucketChannel, "", func(key string, value []byte) error {
		s, err := channel.Load(value)
		if err != nil {
			return fmt.Errorf("channel/%s: %w", key, err)
		}
		if key != stateKey(&s).String() {
			return fmt.Errorf("channel/%s: the state is of %s", key, stateKey(&s))
		}
		l.states[key] = &s
		if s.Phase != channel.PhaseClosed && s.Phase != channel.PhaseFailed {
			l.runner(key)
		}
		return nil
	})
}

func (l *loading) loadOutgoing() error {
	return loadAll(l.d.Store, bucketOutgoing, "", func(key string, rec outgoingRecord) error {
		r := l.runner(ofChannel(key))
		id, lock, err := parseLockKey(key)
		if r == nil || err != nil {
			return err
		}
		out := &outgoing{outgoingRecord: rec}
		switch rec.Kind {
		case kindPayment:
			if out.payment = l.pending[rec.Ref]; out.payment != nil && rec.Attempt != nil {
				out.payment.out[lockRef{id, lock}] = rec.Attempt
			}
		case kindEscrow:
			if out.escrow = l.d.escrows.get(rec.Hash, rolePayer); out.escrow != nil && out.escrow.rec.State == EscrowReleasing {
				r.releases[lock] = out.escrow.rec.Preimage
			}
		}
		r.outgoing[lock] = out
		return nil
	})
}

func (l *loading) loadIncoming() error {
	return loadAll(l.d.Store, bucketIncoming, "", func(key string, rec incomingRecord) error {
		r := l.runner(ofChannel(key))
		_, lock, err := parseLockKey(key)
		if r == nil || err != nil {
			return err
		}
		r.incoming[lock] = &rec
		if rec.GiveBack && !rec.Released {
			r.backs = append(r.backs, lock)
		}
		return nil
	})
}

func (l *loading) loadInfo() error {
	found := 0
	err := l.d.Store.Scan(bucketChanInfo, "", func(key string, value []byte) (err error) {
		r := l.runners[key]
		if r == nil {
			return nil
		}
		if r.info, err = decodeRecord[chanRecord](value); err != nil {
			return fmt.Errorf("chaninfo/%s: %w", key, err)
		}
		r.refunds = slices.Clone(r.info.Refunds)
		found++
		return nil
	})
	if err == nil && found != len(l.runners) {
		err = fmt.Errorf("of %d channels only %d have a record in chaninfo", len(l.runners), found)
	}
	return err
}

func (l *loading) loadOutbox() error {
	return l.d.Store.Scan(bucketOutbox, "", func(key string, value []byte) error {
		r := l.runners[ofChannel(key)]
		if r == nil {
			return nil
		}
		m, err := wire.Decode(value)
		u, is := m.(*wire.Update)
		if err != nil || !is || key != outboxKey(r.saved, u.Version) {
			return fmt.Errorf("outbox/%s: not an update of this channel: %w", key, err)
		}
		r.outbox = append(r.outbox, u)
		return nil
	})
}

func (l *loading) loadReceipts() error {
	return l.d.Store.Scan(bucketReceipt, "", func(key string, value []byte) error {
		r := l.runners[ofChannel(key)]
		if r == nil {
			return nil
		}
		rec, err := decodeRecord[receiptRecord](value)
		if err != nil {
			return fmt.Errorf("receipt/%s: %w", key, err)
		}
		r.receipts.ring[rec.N] = rec.Preimage
		r.receipts.next = max(r.receipts.next, rec.N+1)
		return nil
	})
}

// resume tells again what one channel has saved and another may not have heard, and gives back locks that were never passed on.
func (d *Daemon) resume(r *runner) error {
	id := stateKey(&r.state)
	r.box.force(func(b *batch) {
		for lock, out := range r.outgoing {
			switch {
			case out.Kind == kindForward && out.Released && !out.Returned:
				if !out.Gone {
					r.releases[lock] = out.Preimage
				}
				r.tellReleased(b, lock, out)
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
			forgotten := d.cfg.Restored && !d.passedOn(in.OutChannel, lockRef{id, lock}) // it may have been passed on after the backup
			r.box.force(func(b *batch) {
				in := r.incoming[lock]
				switch {
				case in == nil || in.Followed || in.Owed > 0:
				case forgotten:
					r.orphanSettled(b, in.Hash, in.Preimage)
					r.dropIncoming(b, lock)
				default:
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
