package chand

import (
	"fmt"
	"slices"

	"github.com/eschaton-network/chand/channel"
	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/wire"
)

// touch saves a stream's record with the batch, once.
func (b *batch) touch(key string, rec *streamRecord) {
	for _, t := range b.streams {
		if t.rec == rec {
			return
		}
	}
	b.streams = append(b.streams, touched{key, rec})
}

type touched struct {
	key string
	rec *streamRecord
}

// attachStream takes a stream over. What its record does not know yet about acknowledgements, the state does.
func (r *runner) attachStream(b *batch, s *outStream) {
	rec := &s.rec
	switch {
	case rec.Paid+1 == rec.Next:
	case acknowledged(rec, &b.state):
		rec.Paid, rec.PaidTotal = rec.Next-1, rec.Total
	default:
		s.flight = []flight{{rec.Version, rec.Next - 1, rec.Total}}
	}
	s.note(func(st *StreamStanding) { *st = StreamStanding{Paid: rec.Paid, Total: rec.PaidTotal, Next: rec.Next} })
	r.streams = append(r.streams, s)
	switch {
	case b.state.Phase != channel.PhaseOpen:
		r.failStream(b, s, streamOver(&b.state))
	case b.state.Restored:
		r.failStream(b, s, refuse(CodePhase, "wait for the peer, and open another stream, with another key",
			"channel %s was restored from a backup and has not agreed with its peer yet", b.state.ID))
	}
}

func streamOver(s *channel.State) *Error {
	return refuse(CodePhase, "open another stream, over another channel", "channel %s is %s", s.ID, s.Phase)
}

// reapStream forgets a stream that nobody holds and of which nothing is under way.
func (r *runner) reapStream(s *outStream) {
	s.mu.Lock()
	idle := len(s.pending) == 0
	s.mu.Unlock()
	if !idle || len(s.flight) > 0 || !slices.Contains(r.streams, s) || !s.d.streams.drop(s, false) {
		return
	}
	r.streams = without(r.streams, s)
	if s.rec.Version != 0 {
		r.lazy = append(r.lazy, put(bucketStream, sentStream(s.id), s.rec))
	}
}

// failStream ends the sending: what is not signed never will be. The record stays as it is, and the stream can be opened again.
func (r *runner) failStream(b *batch, s *outStream, err error) {
	s.mu.Lock()
	s.pending = nil
	s.mu.Unlock()
	r.streams, r.ready = without(r.streams, s), without(r.ready, s)
	next := s.rec.Next
	b.then(func() {
		s.d.streams.drop(s, true)
		s.note(func(st *StreamStanding) { st.Err, st.Next = err, next })
	})
}

// planStreams proposes what streams have pending, one operation for each. Should one be refused, the others stand as they are.
func (r *runner) planStreams(b *batch, list []planned, add func(planned) bool) {
	if len(r.ready) == 0 {
		return
	}
	rules := b.state.Rules[b.state.Side.Other()]
	left := b.state.Mine() - max(rules.Deposit, b.state.Rules[b.state.Side].Dust, rules.Dust)
	for _, p := range list {
		switch op := p.op.(type) {
		case wire.Pay:
			left -= op.Amount
		case wire.AddLock:
			left -= op.Amount + op.Reserve
		}
	}
	for _, s := range r.ready {
		s.mu.Lock()
		amounts := s.pending[:min(len(s.pending), wire.MaxStream)]
		s.mu.Unlock()
		n := 0
		for ; n < len(amounts) && amounts[n] <= left; n++ {
			left -= amounts[n]
		}
		// When not even the first one fits, the automaton says what is missing.
		amounts = amounts[:max(n, min(1, len(amounts)))]
		if len(amounts) == 0 {
			continue
		}
		if !add(planned{op: wire.PayStream{Stream: s.id, First: s.rec.Next, Amounts: slices.Clip(amounts)}, stream: s}) {
			return
		}
	}
}

// streamSigned records payments that are in an update now.
func (r *runner) streamSigned(b *batch, s *outStream, u *wire.Update, op wire.PayStream) {
	key, rec, now := sentStream(s.id), &s.rec, r.d.now()
	b.writePart(key, rec, streamPart{b.state.Current.Epoch, u.Version, op.First, now, packAmounts(op.Amounts)})
	n := uint64(len(op.Amounts))
	rec.Next, rec.Count, rec.Total = rec.Next+n, rec.Count+n, sumUp(rec.Total, op.Amounts)
	rec.Epoch, rec.Version, rec.Changed = b.state.Current.Epoch, u.Version, now
	b.touch(key, rec)
	s.flight = append(s.flight, flight{u.Version, rec.Next - 1, rec.Total})
	s.mu.Lock()
	s.pending = s.pending[n:]
	if len(s.pending) == 0 {
		s.pending, s.queued = nil, false
		r.ready = without(slices.Clone(r.ready), s)
	}
	s.mu.Unlock()
	b.then(func() { s.note(func(*StreamStanding) {}) }) // there is room again
}

// streamsAcked: the peer has saved everything up to a version.
func (r *runner) streamsAcked(b *batch, version uint32) {
	for _, s := range slices.Clone(r.streams) {
		done := 0
		for done < len(s.flight) && s.flight[done].version <= version {
			done++
		}
		if done == 0 {
			continue
		}
		last := s.flight[done-1]
		s.flight = s.flight[done:]
		s.rec.Paid, s.rec.PaidTotal = last.upTo, last.total
		b.then(func() { s.note(func(st *StreamStanding) { st.Paid, st.Total = last.upTo, last.total }) })
		r.reapStream(s)
	}
}

// endStreams ends every stream that was sent over the channel, for good. paid decides about those that the peer has not acknowledged.
func (r *runner) endStreams(b *batch, why string, paid func(*streamRecord) (uint64, types.Amount, error)) {
	acked := map[types.Hash]*streamRecord{}
	for _, s := range slices.Clone(r.streams) {
		acked[s.id] = &s.rec
		r.failStream(b, s, streamOver(&b.state))
	}
	saved, err := r.d.sentStreams(b.state.ID)
	if err != nil {
		r.log.Error("streams of the channel can't be read: their records stay open", "err", err)
		return
	}
	for i := range saved {
		rec := &saved[i]
		if live := acked[rec.Stream]; live != nil {
			rec = live
		}
		if rec.Ended != "" {
			continue
		}
		rec.Ended = why
		if rec.Paid+1 < rec.Next {
			if rec.Paid, rec.PaidTotal, err = paid(rec); err != nil {
				r.log.Error("a stream's payments can't be read", "stream", rec.Stream, "err", err)
			}
		}
		b.touch(sentStream(rec.Stream), rec)
	}
}

// streamsClosed: the channel is settled by an agreed close, or with the version that the chain shows.
func (r *runner) streamsClosed(b *batch, agreed bool) {
	on := b.state.OnChain
	r.endStreams(b, "the channel is closed", func(rec *streamRecord) (uint64, types.Amount, error) {
		if agreed || on.Epoch > rec.Epoch || on.Epoch == rec.Epoch && on.Version >= rec.Version {
			return rec.Next - 1, rec.Total, nil
		}
		return r.d.partsUpTo(rec, on)
	})
}

// streamsRestored: a side that comes from a backup may have forgotten numbers that it sent, so its streams end.
func (r *runner) streamsRestored(b *batch) {
	r.endStreams(b, "the channel was restored from a backup, which may not know all that was sent",
		func(rec *streamRecord) (uint64, types.Amount, error) { return rec.Next - 1, rec.Total, nil })
}

// streamsResynced: versions count from 1 again in a new epoch, whose first one holds all that was signed here.
func (r *runner) streamsResynced(b *batch) {
	for _, s := range slices.Clone(r.streams) {
		if len(s.flight) > 0 {
			r.streamsAcked(b, s.flight[len(s.flight)-1].version)
		}
	}
}

// streamed records payments that came over a stream of the peer's. They are ours, whatever their numbers.
func (r *runner) streamed(b *batch, v channel.Streamed) {
	key, now := receivedStream(b.state.ID, v.Stream), r.d.now()
	rec, err := r.inStream(b, v.Stream, key)
	if err != nil {
		r.log.Error("a stream's record can't be read: its payments are kept and not counted", "stream", v.Stream, "err", err)
		return
	}
	n := uint64(len(v.Amounts))
	b.writePart(key, rec, streamPart{b.state.Current.Epoch, b.state.Current.Number, v.First, now, packAmounts(v.Amounts)})
	rec.Next, rec.Count, rec.Total = max(rec.Next, v.First+n), rec.Count+n, sumUp(rec.Total, v.Amounts)
	rec.Epoch, rec.Version, rec.Changed = b.state.Current.Epoch, b.state.Current.Number, now
	b.touch(key, rec)
	if r.d.events.watched() {
		shown := rec.show(PaymentReceived)
		b.then(func() {
			r.d.emit("stream.received", fmt.Sprintf("received %d payments over a stream, %s in all", shown.Payments, shown.Total), shown)
		})
	}
}

// inStream finds the record of a received stream, or begins one.
func (r *runner) inStream(b *batch, id types.Hash, key string) (*streamRecord, error) {
	if rec := r.inStreams[id]; rec != nil {
		return rec, nil
	}
	rec, ok, err := load[streamRecord](r.d.Store, bucketStream, key)
	if err != nil {
		return nil, err
	}
	if !ok {
		rec = streamRecord{Stream: id, Peer: r.peer, Channel: b.state.ID, Created: r.d.now(), Next: 1}
	}
	for other, x := range r.inStreams { // any that is saved makes room
		if len(r.inStreams) < maxStreamsIn {
			break
		}
		if !slices.ContainsFunc(b.streams, func(t touched) bool { return t.rec == x }) {
			delete(r.inStreams, other)
		}
	}
	r.inStreams[id] = &rec
	return &rec, nil
}
