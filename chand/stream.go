package chand

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/eschaton-network/chand/channel"
	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/wire"
)

// A stream is a row of numbered payments to a peer over one channel. Payments that wait while the channel's last update is on its way go
// into the next one together, so that a signature, a frame and a commit on each side carry as many as come. What each side keeps is one
// record for each update with the amounts, and one for the stream with the sums.

const (
	bucketStream     = "stream"     // sent/ID or received/CHANNEL/ID -> streamRecord
	bucketStreamPart = "streampart" // key of the stream/number in hex -> streamPart
)

const (
	// maxStreamPending bounds the payments of one stream that are taken and not signed: some updates full of them, so that the next one
	// never waits for the caller.
	maxStreamPending = 8 * wire.MaxStream
	// maxStreamsOut bounds the streams that are being sent.
	maxStreamsOut = 1024
	// maxStreamsIn bounds the received streams of one channel that are kept in memory. Others are read when they go on.
	maxStreamsIn = 256
)

// maxStreamParts is how many records of a stream's updates are kept, the newest ones: far more than there are updates that the peer has not
// acknowledged. At full speed they take some 50 MB.
const maxStreamParts = 4096

// streamRecord is a stream as this side knows it. Written by the channel's runner.
type streamRecord struct {
	Stream  types.Hash      `cbor:"1,keyasint"`
	Peer    types.NodeID    `cbor:"2,keyasint"`
	Channel types.ChannelID `cbor:"3,keyasint"`
	Key     string          `cbor:"4,keyasint,omitempty"`
	Memo    string          `cbor:"5,keyasint,omitempty"`
	Created types.Time      `cbor:"6,keyasint"`
	Changed types.Time      `cbor:"7,keyasint"`
	// Next is one above the highest number so far; Count and Total are all payments in signed updates, Parts the records made of them.
	Next  uint64       `cbor:"8,keyasint"`
	Count uint64       `cbor:"9,keyasint"`
	Total types.Amount `cbor:"10,keyasint"`
	Parts uint64       `cbor:"11,keyasint"`
	// Epoch and Version are of the newest update. Of a sent stream Paid and PaidTotal are what the peer was known to have on disk when
	// this was written; what followed is known from the channel's state.
	Epoch     uint32       `cbor:"12,keyasint,omitempty"`
	Version   uint32       `cbor:"13,keyasint,omitempty"`
	Paid      uint64       `cbor:"14,keyasint,omitempty"`
	PaidTotal types.Amount `cbor:"15,keyasint,omitempty"`
	// Ended says why nothing follows any more.
	Ended string `cbor:"16,keyasint,omitempty"`
}

// streamPart is what one update carried.
type streamPart struct {
	Epoch   uint32     `cbor:"1,keyasint"`
	Version uint32     `cbor:"2,keyasint"`
	First   uint64     `cbor:"3,keyasint"`
	At      types.Time `cbor:"4,keyasint"`
	Amounts []byte     `cbor:"5,keyasint"` // uvarints
}

func sentStream(id types.Hash) string { return "sent/" + id.String() }
func receivedStream(c types.ChannelID, id types.Hash) string {
	return "received/" + c.String() + "/" + id.String()
}
func partKey(stream string, n uint64) string { return stream + "/" + seqKey(n) }

func packAmounts(list []types.Amount) []byte {
	b := make([]byte, 0, 3*len(list))
	for _, a := range list {
		b = binary.AppendUvarint(b, uint64(a))
	}
	return b
}

func unpackAmounts(b []byte) (list []types.Amount, err error) {
	for len(b) > 0 {
		v, n := binary.Uvarint(b)
		if n <= 0 || v == 0 || v > uint64(types.MaxAmount) {
			return nil, errors.New("the amounts of a stream are damaged")
		}
		list, b = append(list, types.Amount(v)), b[n:]
	}
	return list, nil
}

// sumUp adds amounts; what exceeds the largest amount stays there: sums of streams are for people.
func sumUp(sum types.Amount, list []types.Amount) types.Amount {
	for _, a := range list {
		sum = min(sum, types.MaxAmount-a) + a
	}
	return sum
}

// StreamRequest opens a stream to a peer, or one that was opened before with the same key.
type StreamRequest struct {
	To   types.NodeID
	Key  string
	Memo string
}

// StreamStanding is how far a sent stream is.
type StreamStanding struct {
	// Paid: all payments up to this number are paid, on disk on both sides; Total is their sum.
	Paid  uint64
	Total types.Amount
	// Next is one above the last payment that was taken.
	Next uint64
	// Err says why no more is taken; nil: it is open.
	Err error
}

// outStream is a stream that is being sent.
type outStream struct {
	d  *Daemon
	id types.Hash
	r  *runner

	// Owned by the runner, once it has taken the stream.
	rec    streamRecord
	flight []flight // in updates that the peer has not acknowledged, the oldest first
	// handles is guarded by streams.mu.
	handles int

	mu       sync.Mutex
	standing StreamStanding // guarded by mu
	pending  []types.Amount // guarded by mu; taken, not signed; the runner takes from the front
	most     types.Amount   // guarded by mu; the largest payment that the peer takes; 0: any
	queued   bool           // guarded by mu; the runner knows that something is pending
	changed  chan struct{}  // guarded by mu; closed and replaced when the standing changes or pending shrinks
}

// flight is an update under way: when it is acknowledged, everything up to a number is paid.
type flight struct {
	version uint32
	upTo    uint64
	total   types.Amount
}

// streams are those being sent.
type streams struct {
	mu   sync.Mutex
	live map[types.Hash]*outStream // guarded by mu
}

// Stream is a caller's hold on a stream. Close lets go of it; what was taken is sent all the same.
type Stream struct {
	s     *outStream
	close sync.Once
}

// OpenStream finds or begins a stream.
func (d *Daemon) OpenStream(ctx context.Context, q StreamRequest) (*Stream, error) {
	switch {
	case !d.running.Load():
		return nil, refuse(CodeBusy, "try again in a moment", "the daemon is starting")
	case len(q.Key) > maxKey || len(q.Memo) > wire.MaxText:
		return nil, refuse(CodeInvalid, "use shorter texts", "a key has at most %d bytes, a memo %d", maxKey, wire.MaxText)
	case q.To.IsZero() || q.To == d.ID():
		return nil, refuse(CodeInvalid, "name another node", "the receiver is this daemon itself, or nobody")
	}
	var id types.Hash
	if q.Key == "" {
		if err := d.random(id[:]); err != nil {
			return nil, err
		}
	} else {
		id = types.TaggedHash("chand/stream", q.To[:], []byte(q.Key))
	}
	defer d.keys.lock("stream/" + id.String())()
	if s := d.streams.hold(id); s != nil {
		h := &Stream{s: s}
		if s.rec0().Memo != q.Memo {
			h.Close()
			return nil, conflict(q.Key)
		}
		return h, nil
	}
	s, err := d.findStream(q, id)
	if err != nil {
		return nil, err
	}
	return s, s.s.attach(ctx)
}

// rec0 are the parts of the record that never change.
func (s *outStream) rec0() streamRecord {
	return streamRecord{Stream: s.rec.Stream, Peer: s.rec.Peer, Channel: s.rec.Channel, Key: s.rec.Key, Memo: s.rec.Memo}
}

// findStream makes the stream of its record, or a new one in a channel with the peer.
func (d *Daemon) findStream(q StreamRequest, id types.Hash) (*Stream, error) {
	rec, ok, err := load[streamRecord](d.Store, bucketStream, sentStream(id))
	if err != nil {
		return nil, err
	}
	var r *runner
	switch {
	case ok && rec.Memo != q.Memo:
		return nil, conflict(q.Key)
	case ok:
		if r = d.runner(rec.Channel); r == nil || rec.Ended != "" {
			return nil, &Error{Code: CodePhase, Text: fmt.Sprintf("the stream is over: %s", rec.Ended), Next: "open another one, with another key",
				Money: fmt.Sprintf("%s are paid, in payments up to number %d", rec.PaidTotal, rec.Paid)}
		}
	default:
		if r = d.directChannel(q.To, 1, nil); r == nil {
			return nil, refuse(CodeNoRoute, "connect to the peer, or open a channel with it: a stream goes over a channel between the two",
				"no channel with %s can send now", q.To)
		}
		now := d.now()
		rec = streamRecord{Stream: id, Peer: q.To, Channel: r.view.Load().State.ID, Key: q.Key, Memo: q.Memo, Created: now, Changed: now, Next: 1}
	}
	st := r.view.Load().State
	s := &outStream{d: d, id: id, r: r, rec: rec, handles: 1, most: st.Rules[st.Side.Other()].MaxPayment, changed: make(chan struct{})}
	if !d.streams.add(s) {
		return nil, refuse(CodeBusy, "end some first", "%d streams are being sent", maxStreamsOut)
	}
	return &Stream{s: s}, nil
}

func (l *streams) hold(id types.Hash) *outStream {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.live[id]
	if s != nil {
		s.handles++
	}
	return s
}

func (l *streams) has(id types.Hash) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.live[id] != nil
}

func (l *streams) add(s *outStream) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.live == nil {
		l.live = make(map[types.Hash]*outStream)
	}
	if len(l.live) >= maxStreamsOut {
		return false
	}
	l.live[s.id] = s
	return true
}

// drop forgets a stream; unless forced only when nobody holds it.
func (l *streams) drop(s *outStream, force bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !force && s.handles > 0 {
		return false
	}
	if l.live[s.id] == s {
		delete(l.live, s.id)
	}
	return true
}

// attach hands the stream to its runner and waits until that knows how far it is.
func (s *outStream) attach(ctx context.Context) error {
	done := make(chan struct{})
	s.r.box.force(func(b *batch) {
		s.r.attachStream(b, s)
		b.then(func() { close(done) })
	})
	select {
	case <-done:
		return nil
	case <-s.r.over:
		s.d.streams.drop(s, true)
		return refuse(CodePhase, "open another stream, over another channel", "the channel is over")
	case <-s.d.life.ctx.Done():
		return errStopping()
	case <-ctx.Done():
		s.release()
		return ctx.Err()
	}
}

// ID names the stream on the wire and in lists.
func (h *Stream) ID() types.Hash { return h.s.id }

// Standing is how far the stream is, and a channel that is closed when that changes.
func (h *Stream) Standing() (StreamStanding, <-chan struct{}) {
	h.s.mu.Lock()
	defer h.s.mu.Unlock()
	return h.s.standing, h.s.changed
}

// Close lets go of the stream.
func (h *Stream) Close() { h.close.Do(h.s.release) }

func (s *outStream) release() {
	s.d.streams.mu.Lock()
	s.handles--
	last := s.handles == 0
	s.d.streams.mu.Unlock()
	if last {
		s.r.box.force(func(b *batch) { s.r.reapStream(s) })
	}
}

// Send takes payments numbered from first on (0: they follow on). What was taken before is left out; a number that leaves others out is
// refused. It waits while much is pending, and takes all or, when ctx ends before, nothing.
func (h *Stream) Send(ctx context.Context, first uint64, amounts []types.Amount) error {
	s := h.s
	if len(amounts) > wire.MaxStream {
		return refuse(CodeInvalid, "send them in several messages", "%d payments at once, at most %d", len(amounts), wire.MaxStream)
	}
	for i, a := range amounts {
		if a <= 0 || s.most > 0 && a > s.most {
			return refuse(CodeInvalid, "send positive amounts that the peer takes", "payment %d of the message is %s; the peer takes at most %s at once (0: any)", i+1, a, s.most)
		}
	}
	for {
		s.mu.Lock()
		st := &s.standing
		at := first
		if at == 0 {
			at = st.Next
		}
		switch {
		case st.Err != nil:
			s.mu.Unlock()
			return st.Err
		case at > st.Next:
			s.mu.Unlock()
			return refuse(CodeInvalid, fmt.Sprintf("go on with number %d", st.Next), "number %d leaves out others: the next one is %d", at, st.Next)
		}
		known := min(st.Next-at, uint64(len(amounts)))
		rest := amounts[known:]
		if len(rest) == 0 {
			s.mu.Unlock()
			return nil
		}
		if len(s.pending) == 0 || len(s.pending)+len(rest) <= maxStreamPending {
			s.pending = append(s.pending, rest...)
			st.Next += uint64(len(rest))
			wake := !s.queued
			s.queued = true
			s.mu.Unlock()
			if wake {
				s.r.box.force(mailStream{s})
			}
			return nil
		}
		changed := s.changed
		s.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		case <-s.d.life.ctx.Done():
			return errStopping()
		}
	}
}

// note changes the standing and wakes who waits for it.
func (s *outStream) note(fn func(*StreamStanding)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fn(&s.standing)
	close(s.changed)
	s.changed = make(chan struct{})
}

// PaymentStream is a stream as shown.
type PaymentStream struct {
	ID        types.Hash
	Direction string // PaymentSent or PaymentReceived
	State     string // StreamOpen or StreamEnded
	Text      string
	Peer      types.NodeID
	Channel   types.ChannelID
	Memo, Key string
	// Payments and Total are what was received, or what was sent and is on disk on both sides; Last is the highest number among them.
	Payments         uint64
	Total            types.Amount
	Last             uint64
	Created, Changed types.Time
}

// States of a stream.
const (
	StreamOpen  = "open"
	StreamEnded = "ended"
)

func (v *streamRecord) show(direction string) PaymentStream {
	p := PaymentStream{ID: v.Stream, Direction: direction, State: StreamOpen, Text: v.Ended, Peer: v.Peer, Channel: v.Channel, Memo: v.Memo, Key: v.Key,
		Payments: v.Count, Total: v.Total, Last: v.Next - 1, Created: v.Created, Changed: v.Changed}
	if v.Ended != "" {
		p.State = StreamEnded
	}
	if direction == PaymentSent {
		p.Payments, p.Total, p.Last = v.Paid, v.PaidTotal, v.Paid
	}
	return p
}

// Streams lists up to limit streams in the order of their keys after the given page ("": from the first), of one direction or both, and the page to
// go on with.
func (d *Daemon) Streams(direction, page string, limit int) (list []PaymentStream, next string, err error) {
	prefix := ""
	if direction != "" {
		prefix = direction + "/"
	}
	var keys []string
	var recs []streamRecord
	err = loadAll(d.Store, bucketStream, prefix, func(key string, rec streamRecord) error {
		if key <= page {
			return nil
		}
		if len(recs) == limit {
			next = keys[len(keys)-1]
			return errEnough
		}
		keys, recs = append(keys, key), append(recs, rec)
		return nil
	})
	for i := range recs {
		direction, _, _ := strings.Cut(keys[i], "/")
		if direction == PaymentSent {
			d.settleRecord(&recs[i])
		}
		list = append(list, recs[i].show(direction))
	}
	return list, next, enough(err)
}

// settleRecord brings a saved record of a sent stream up to what the channel's state says.
func (d *Daemon) settleRecord(rec *streamRecord) {
	r := d.runner(rec.Channel)
	if r == nil || rec.Ended != "" {
		return
	}
	st := r.view.Load().State
	if acknowledged(rec, &st) {
		rec.Paid, rec.PaidTotal = rec.Next-1, rec.Total
	}
}

// acknowledged tells whether the peer has all updates of a stream that this side signed. A new epoch began with all of them.
func acknowledged(rec *streamRecord, s *channel.State) bool {
	return rec.Epoch < s.Current.Epoch || rec.Epoch == s.Current.Epoch && rec.Version <= max(s.Acked, s.Held.Number)
}

// sentStreams are the saved records of streams sent over a channel.
func (d *Daemon) sentStreams(c types.ChannelID) (list []streamRecord, err error) {
	err = loadAll(d.Store, bucketStream, "sent/", func(_ string, rec streamRecord) error {
		if rec.Channel == c {
			list = append(list, rec)
		}
		return nil
	})
	return list, err
}

// partsUpTo counts what a stream sent in updates up to what is on chain: all but the newest parts.
func (d *Daemon) partsUpTo(rec *streamRecord, on channel.Posting) (paid uint64, total types.Amount, err error) {
	paid, total = rec.Next-1, rec.Total
	err = loadAll(d.Store, bucketStreamPart, sentStream(rec.Stream)+"/", func(_ string, p streamPart) error {
		if p.Epoch < on.Epoch || p.Epoch == on.Epoch && p.Version <= on.Version {
			return nil
		}
		amounts, err := unpackAmounts(p.Amounts)
		paid, total = paid-uint64(len(amounts)), total-sumUp(0, amounts)
		return err
	})
	return paid, total, err
}

// writePart records what an update carried, and removes what is too old to be kept.
func (b *batch) writePart(key string, rec *streamRecord, p streamPart) {
	b.write(put(bucketStreamPart, partKey(key, rec.Parts), p))
	if rec.Parts >= maxStreamParts {
		b.write(del(bucketStreamPart, partKey(key, rec.Parts-maxStreamParts)))
	}
	rec.Parts++
}

// without removes a stream from a list.
func without(list []*outStream, s *outStream) []*outStream {
	return slices.DeleteFunc(list, func(x *outStream) bool { return x == s })
}
