package chand

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/eschaton-network/chand/channel"
	"github.com/eschaton-network/chand/htlc"
	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/wire"
)

// States of an escrow.
const (
	EscrowOpening   = "opening"
	EscrowHeld      = "held"
	EscrowReleasing = "releasing"
	EscrowReleased  = "released"
	EscrowRefunding = "refunding"
	EscrowRefunded  = "refunded"
	EscrowFailed    = "failed"
)

const (
	rolePayer = "payer"
	rolePayee = "payee"
	// defaultLifetime is how many blocks an escrow is held when its payer does not say: an hour at one block a second.
	defaultLifetime = 3600
)

// Escrow is a hash lock whose preimage the payer holds.
type Escrow struct {
	ID     types.Hash   `cbor:"1,keyasint"` // the lock's hash
	Role   string       `cbor:"2,keyasint"`
	Peer   types.NodeID `cbor:"3,keyasint"` // the other side; for a payee over several hops the neighbour it came from
	State  string       `cbor:"4,keyasint"`
	Amount types.Amount `cbor:"5,keyasint"`
	Fee    types.Amount `cbor:"6,keyasint,omitempty"`
	Memo   string       `cbor:"7,keyasint,omitempty"`
	// Expiry is the lock's. Deadline is when it is given back by itself and too late to release: early enough that no channel
	// has to be closed for it.
	Expiry   types.Height    `cbor:"8,keyasint"`
	Deadline types.Height    `cbor:"9,keyasint"`
	Opened   types.Time      `cbor:"10,keyasint"`
	Closed   types.Time      `cbor:"11,keyasint,omitempty"`
	Preimage types.Preimage  `cbor:"12,keyasint"` // shown once released
	Failure  *PaymentFailure `cbor:"13,keyasint,omitempty"`
	Key      string          `cbor:"14,keyasint,omitempty"`
	Channel  types.ChannelID `cbor:"15,keyasint"`
	Lock     uint64          `cbor:"16,keyasint,omitempty"`
	Attempt  *Attempt        `cbor:"17,keyasint,omitempty"`
	// Reserve is what the payer paid the hops for keeping the lock open, without what came back.
	Reserve types.Amount `cbor:"18,keyasint,omitempty"`
	// Since is the height at which it was opened, Reminded how many reminders of its deadline were given.
	Since    types.Height `cbor:"19,keyasint,omitempty"`
	Reminded int          `cbor:"20,keyasint,omitempty"`
}

func (e Escrow) final() bool {
	return e.State == EscrowReleased || e.State == EscrowRefunded || e.State == EscrowFailed
}

func escrowKey(id types.Hash, role string) string { return id.String() + "/" + role }

// escrow is one that is not over. rec is owned by the runner of its channel once that has taken the request, before by Open.
type escrow struct {
	d    *Daemon
	rec  Escrow
	view atomic.Pointer[Escrow] // what is saved
}

func (e *escrow) write() types.Write {
	return put(bucketEscrow, escrowKey(e.rec.ID, e.rec.Role), e.rec)
}

func (e *escrow) show() {
	rec := e.rec
	e.view.Store(&rec)
}

// end is called by the runner: the lock has left the channel, or its preimage is out.
func (e *escrow) end(b *batch, state string, p types.Preimage, reason []byte) {
	e.rec.State, e.rec.Closed = state, e.d.now()
	if !p.IsZero() {
		e.rec.Preimage = p
	}
	if state == EscrowRefunded && e.rec.Role == rolePayer && e.rec.Attempt != nil && len(e.rec.Attempt.Nodes) > 0 {
		f, last := e.d.explain(e.rec.Attempt, nil, reason)
		if !last {
			e.rec.State, e.rec.Failure = EscrowFailed, &f
		}
	}
	b.write(e.write())
	b.then(func() {
		e.show()
		e.d.escrows.remove(e)
		e.d.emit("escrow."+e.rec.State, fmt.Sprintf("escrow of %s: %s", e.rec.Amount, e.rec.State), e.d.shownEscrow(e.rec))
	})
}

// escrows are the ones that are not over. Safe for concurrent use.
type escrows struct {
	mu   sync.Mutex
	open map[string]*escrow // guarded by mu; by escrowKey
}

func (s *escrows) add(e *escrow) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open[escrowKey(e.rec.ID, e.rec.Role)] = e
}

func (s *escrows) remove(e *escrow) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, escrowKey(e.rec.ID, e.rec.Role))
}

func (s *escrows) get(id types.Hash, role string) *escrow {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open[escrowKey(id, role)]
}

// ended is called by a runner for a lock that it held as payee.
func (s *escrows) ended(b *batch, id types.Hash, role, state string, p types.Preimage, _ string) {
	if e := s.get(id, role); e != nil {
		e.end(b, state, p, nil)
	}
}

// escrowCameBack corrects the record of an escrow that was released and whose money came back: the node that had it could not pass it on,
// or the channel settled with a version from before the release and the payee did not claim the lock.
func (r *runner) escrowCameBack(b *batch, id types.Hash, amount types.Amount) {
	key := escrowKey(id, rolePayer)
	e, ok, err := load[Escrow](r.d.Store, bucketEscrow, key)
	if err != nil || !ok || e.State != EscrowReleased || e.Channel != b.state.ID || amount < e.Amount {
		return
	}
	e.State = EscrowFailed
	e.Failure = &PaymentFailure{Hop: r.peer, Rule: "not_delivered", Text: "the escrow was released, but did not reach the payee: its money came back", Next: "lock it again"}
	b.write(put(bucketEscrow, key, e))
	b.then(func() {
		r.d.emit("escrow.failed", fmt.Sprintf("escrow of %s: %s", e.Amount, e.Failure.Text), r.d.shownEscrow(e))
	})
}

// lost ends an escrow whose lock is not in the state that was agreed after a loss of data.
func (s *escrows) lost(b *batch, id types.Hash, role string) {
	if e := s.get(id, role); e != nil {
		e.rec.Failure = &PaymentFailure{Rule: "data_loss", Text: "the lock is not in the state that was agreed after a loss of data: how it ended is not known",
			Next: "ask the other side"}
		e.end(b, EscrowFailed, types.Preimage{}, nil)
	}
}

// holdEscrow keeps a lock for the payee until the payer releases it, the payee refunds it, or the deadline comes.
func (r *runner) holdEscrow(b *batch, l channel.Lock, in *incomingRecord, memo string, payer types.NodeID) {
	in.Kind = kindEscrow
	if payer.IsZero() {
		payer = r.peer
	}
	known, ok, err := load[Escrow](r.d.Store, bucketEscrow, escrowKey(l.Hash, rolePayee))
	if err != nil || ok && (known.final() || known.Channel != b.state.ID || known.Lock != l.ID) || r.height >= b.state.Timing.ClaimBy(l.Expiry) {
		reason := []byte("no escrow with this hash is possible here: it was used before, or its expiry is too near")
		if in.Secret != (types.Hash{}) {
			reason = in.failure(htlc.NewFailure(htlc.IncorrectOrUnknownPaymentDetails, types.ChannelID{}, "%s", reason))
		}
		in.Kind = 0
		r.reject(b, in, l.ID, reason, in.Reserve)
		return
	}
	e := &escrow{d: r.d, rec: Escrow{ID: l.Hash, Role: rolePayee, Peer: payer, State: EscrowHeld, Amount: l.Amount, Memo: memo, Expiry: l.Expiry,
		Deadline: b.state.Timing.ClaimBy(l.Expiry), Opened: r.d.now(), Channel: b.state.ID, Lock: l.ID, Since: r.height}}
	b.write(e.write())
	r.d.escrows.add(e)
	b.then(func() {
		e.show()
		r.d.emit("escrow.held", fmt.Sprintf("an escrow of %s is held for us until block %d", l.Amount, e.rec.Deadline), e.rec)
	})
}

// EscrowRequest asks for an escrow.
type EscrowRequest struct {
	To       types.NodeID
	Amount   types.Amount
	Memo     string
	Lifetime uint32 // blocks; 0: the default
	MaxFee   *types.Amount
	Key      string
}

// OpenEscrow locks money for a payee, which gets it when ReleaseEscrow is called before the deadline. It returns once the lock is saved
// and on its way, with state "held".
func (d *Daemon) OpenEscrow(ctx context.Context, q EscrowRequest) (Escrow, error) {
	if q.Amount <= 0 || len(q.Key) > maxKey || len(q.Memo) > wire.MaxText || q.To.IsZero() || q.To == d.ID() {
		return Escrow{}, refuse(CodeInvalid, "correct the command", "an escrow needs another node, a positive amount, a memo of at most %d bytes and a key of at most %d", wire.MaxText, maxKey)
	}
	unlock := d.keys.lock("escrow/" + q.Key)
	defer unlock()
	if q.Key != "" {
		if old, ok, err := d.escrowByKey(q.Key); err != nil || ok {
			if err == nil && (old.Amount != q.Amount || old.Peer != q.To) {
				err = conflict(q.Key)
			}
			return d.shownEscrow(old), err
		}
	}
	if q.Lifetime == 0 {
		q.Lifetime = defaultLifetime
	}
	var pre types.Preimage
	if err := d.random(pre[:]); err != nil {
		return Escrow{}, err
	}
	e := &escrow{d: d, rec: Escrow{ID: pre.Hash(), Role: rolePayer, Peer: q.To, State: EscrowOpening, Amount: q.Amount, Memo: q.Memo,
		Opened: d.now(), Preimage: pre, Key: q.Key}}
	way, err := d.findWay(wayRequest{to: q.To, amount: q.Amount, hash: e.rec.ID, maxFee: d.feeLimit(q.Amount, q.MaxFee), ahead: q.Lifetime,
		final: htlc.Payload{Kind: htlc.Escrow, Memo: q.Memo}, direct: true})
	if err != nil {
		return Escrow{}, err
	}
	done := make(chan error, 1)
	var req *request
	req = &request{
		op: way.op, out: &outgoing{outgoingRecord: outgoingRecord{Kind: kindEscrow, Hash: e.rec.ID}, escrow: e},
		staged: func(at place) []types.Write {
			e.rec.State, e.rec.Channel, e.rec.Lock, e.rec.Fee, e.rec.Expiry = EscrowHeld, at.channel, at.lock, way.fee, way.expiry
			e.rec.Reserve = req.out.Reserve
			e.rec.Since = d.Height()
			e.rec.Deadline = way.timing.ClaimBy(way.payeeExpiry)
			e.rec.Attempt = &Attempt{Channel: at.channel, Version: at.version, Lock: at.lock, Secrets: way.secrets, Nodes: way.nodes, Channels: way.channels}
			w := []types.Write{e.write()}
			if q.Key != "" {
				w = append(w, put(bucketPayIndex, "escrow/"+q.Key, e.rec.ID))
			}
			return w
		},
		saved:   func(place) { e.show(); done <- nil },
		refused: func(err error) { done <- err },
	}
	d.escrows.add(e)
	if err := way.runner.ask(req); err != nil {
		d.escrows.remove(e)
		return Escrow{}, err
	}
	select {
	case err := <-done:
		if err != nil {
			d.escrows.remove(e)
			return Escrow{}, err
		}
	case <-ctx.Done():
		if err := withdraw(way.runner, req, done); err != nil {
			d.escrows.remove(e)
			return Escrow{}, err
		}
	case <-d.life.ctx.Done():
		return Escrow{}, errStopping()
	}
	rec := *e.view.Load()
	d.emit("escrow."+rec.State, fmt.Sprintf("escrow of %s for %s", rec.Amount, rec.Peer), d.shownEscrow(rec))
	return d.shownEscrow(rec), nil
}

// withdraw takes back an escrow that waits for the turn, so that asking again can't lock twice. nil: it was signed already.
func withdraw(r *runner, req *request, done <-chan error) error {
	r.box.force(func(b *batch) { r.withdraw(b, req) })
	select {
	case err := <-done:
		return err
	case <-r.over:
		return errStopping()
	}
}

func (d *Daemon) escrowByKey(key string) (Escrow, bool, error) {
	id, ok, err := load[types.Hash](d.Store, bucketPayIndex, "escrow/"+key)
	if err != nil || !ok {
		return Escrow{}, false, err
	}
	return load[Escrow](d.Store, bucketEscrow, escrowKey(id, rolePayer))
}

// ReleaseEscrow gives the money to the payee (payer only). Too late is refused: from the deadline on the lock is on its way back.
func (d *Daemon) ReleaseEscrow(ctx context.Context, id types.Hash) (Escrow, error) {
	rec, open := d.openEscrow(id, rolePayer)
	if !open {
		return d.notOpen(id, rolePayer, EscrowReleased)
	}
	if h := d.Height(); h >= rec.Deadline {
		return d.shownEscrow(rec), refuse(CodeExpired, "nothing is to be done: the money comes back by itself", "the deadline of the escrow was block %d, the ledger is at %d", rec.Deadline, h)
	}
	return d.commandEscrow(ctx, rec, func(done chan<- error) any { return mailSettle{lock: rec.Lock, done: done} })
}

// RefundEscrow gives the money back to the payer (payee only).
func (d *Daemon) RefundEscrow(ctx context.Context, id types.Hash) (Escrow, error) {
	rec, open := d.openEscrow(id, rolePayee)
	if !open {
		if p := d.escrows.get(id, rolePayer); p != nil && p.view.Load() != nil {
			rec := *p.view.Load()
			return d.shownEscrow(rec), refuse(CodePhase, "ask the payee to refund, or wait: it comes back by itself",
				"only the payee can give an escrow back before block %d", rec.Deadline)
		}
		return d.notOpen(id, rolePayee, EscrowRefunded)
	}
	return d.commandEscrow(ctx, rec, func(done chan<- error) any { return mailGiveBack{lock: rec.Lock, done: done} })
}

// openEscrow finds one that is not over. Between its commit and the moment in which its runner shows it, the store has it alone.
func (d *Daemon) openEscrow(id types.Hash, role string) (Escrow, bool) {
	e := d.escrows.get(id, role)
	if e == nil {
		return Escrow{}, false
	}
	if v := e.view.Load(); v != nil {
		return *v, true
	}
	rec, ok, err := load[Escrow](d.Store, bucketEscrow, escrowKey(id, role))
	return rec, err == nil && ok && !rec.final()
}

// notOpen answers for an escrow that is over: the same command again is no error.
func (d *Daemon) notOpen(id types.Hash, role, want string) (Escrow, error) {
	rec, ok, err := load[Escrow](d.Store, bucketEscrow, escrowKey(id, role))
	switch {
	case err != nil:
		return Escrow{}, err
	case !ok:
		return Escrow{}, refuse(CodeNotFound, "see `escrow list`", "no escrow %s with this daemon as %s", id, role)
	case rec.State != want:
		return d.shownEscrow(rec), refuse(CodePhase, "see `escrow list`", "the escrow is %s", rec.State)
	}
	return d.shownEscrow(rec), nil
}

func (d *Daemon) commandEscrow(ctx context.Context, rec Escrow, mail func(chan<- error) any) (Escrow, error) {
	r := d.runner(rec.Channel)
	if r == nil {
		return d.shownEscrow(rec), refuse(CodePhase, "see `channel list`", "channel %s is over", rec.Channel)
	}
	done := make(chan error, 1)
	if !r.box.put(mail(done)) {
		return d.shownEscrow(rec), busy()
	}
	select {
	case err := <-done:
		if err != nil {
			return d.shownEscrow(rec), err
		}
	case <-ctx.Done():
		return d.shownEscrow(rec), ctx.Err()
	case <-d.life.ctx.Done():
		return d.shownEscrow(rec), errStopping()
	}
	return d.Escrow(rec.ID, rec.Role)
}

// settleEscrow is the payer's release in the runner: saved with the state "releasing", signed as soon as the turn is ours.
func (r *runner) settleEscrow(b *batch, id uint64) error {
	out := r.outgoing[id]
	if out == nil || out.escrow == nil || out.Gone {
		return refuse(CodePhase, "see `escrow list`", "the escrow's lock is not open any more")
	}
	if r.height >= out.escrow.rec.Deadline {
		return refuse(CodeExpired, "the money comes back by itself", "the escrow's deadline was block %d", out.escrow.rec.Deadline)
	}
	e := out.escrow
	e.rec.State = EscrowReleasing
	r.releases[id] = e.rec.Preimage
	b.write(e.write())
	b.then(e.show)
	return nil
}

// Escrow finds one by id; role "" looks for both.
func (d *Daemon) Escrow(id types.Hash, role string) (Escrow, error) {
	for _, as := range []string{rolePayer, rolePayee} {
		if role != "" && as != role {
			continue
		}
		if rec, ok, err := load[Escrow](d.Store, bucketEscrow, escrowKey(id, as)); err != nil || ok {
			return d.shownEscrow(rec), err
		}
	}
	return Escrow{}, refuse(CodeNotFound, "see `escrow list`", "no escrow %s", id)
}

// Escrows lists up to limit escrows after the given list key ("" from the start), in the order of their ids, and the key to go on with.
func (d *Daemon) Escrows(after string, limit int) (list []Escrow, next string, err error) {
	err = loadAll(d.Store, bucketEscrow, "", func(key string, e Escrow) error {
		if key <= after {
			return nil
		}
		if len(list) == limit {
			next = escrowKey(list[limit-1].ID, list[limit-1].Role)
			return errEnough
		}
		list = append(list, d.shownEscrow(e))
		return nil
	})
	return list, next, enough(err)
}

// shownEscrow hides the preimage that only the payer may know.
func (d *Daemon) shownEscrow(e Escrow) Escrow {
	if e.State != EscrowReleased {
		e.Preimage = types.Preimage{}
	}
	return e
}
