package chand

import (
	"errors"
	"maps"
	"slices"

	"github.com/eschaton-network/chand/channel"
	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/wire"
)

// planned is an operation on its way into an update; done is called with where it ended up, or with why it was refused.
type planned struct {
	op      wire.Op
	req     *request // nil for operations that the runner itself wants
	dropped func()   // own operation that the automaton refuses: forget it
	stream  *outStream
}

// propose merges everything that waits into one update while this side holds the turn (more when a limit splits it), asks for
// the turn when it is the peer's, and hands it over when the peer wants it and was served once.
func (r *runner) propose(b *batch) {
	if !b.state.Ready() {
		return
	}
	for {
		plan := r.plan(b)
		if len(plan) == 0 {
			break
		}
		if !b.state.MyTurn() {
			r.askTurn(b)
			return
		}
		done, again := r.proposeAll(b, plan, r.wanted)
		if !done || !again {
			break
		}
	}
	if r.wanted && b.state.MyTurn() {
		if _, err := r.step(b, channel.GiveTurn{}); err == nil {
			r.wanted = false
		}
	}
}

// askTurn asks once until the turn comes or the link breaks.
func (r *runner) askTurn(b *batch) {
	if r.asked {
		return
	}
	if _, err := r.step(b, channel.RequestTurn{}); err == nil || errors.Is(err, channel.ErrIgnored) {
		r.asked = true
	}
}

// plan lists what one update can hold: first what frees locks, then what others asked for.
func (r *runner) plan(b *batch) []planned {
	var list []planned
	room := updateRoom
	add := func(p planned) bool {
		n := wire.OpSize(p.op)
		if len(list) >= b.state.MaxOps(b.state.Side) || n > room {
			return false
		}
		room -= n
		list = append(list, p)
		return true
	}
	settled := map[uint64]bool{}
	for _, op := range b.state.Settleable() {
		if !add(planned{op: op}) {
			return list
		}
		if s, ok := op.(wire.Settle); ok {
			settled[s.ID] = true
		}
	}
	for _, id := range slices.Sorted(maps.Keys(r.releases)) {
		p := r.releases[id]
		if settled[id] {
			continue
		}
		if !add(planned{op: wire.Settle{ID: id, Preimage: p}, dropped: func() { delete(r.releases, id) }}) {
			return list
		}
	}
	// A reservation fee goes back in the update that gives its lock back, and before it: then the peer knows it when the lock is gone.
	mine := b.state.Mine()
	for _, p := range r.refunds {
		if mine < p.Amount || !b.state.Publishable(mine-p.Amount) {
			continue // waits until this side has it again
		}
		mine -= p.Amount
		if !add(planned{op: p, dropped: func() { r.unrefund(b, p) }}) {
			return list
		}
	}
	for _, id := range r.backs {
		reason := []byte(nil)
		if in := r.incoming[id]; in != nil {
			reason = in.Reason
		}
		if !add(planned{op: wire.GiveBack{ID: id, Reason: reason}, dropped: func() { r.unback(id) }}) {
			return list
		}
	}
	var fresh bool
	if len(r.queue) > 0 {
		fresh = r.d.chainView(r.height).Fresh
	}
	theirs := b.state.Theirs()
	for _, q := range r.queue {
		op := q.op
		if lock, is := op.(wire.AddLock); is {
			if !fresh {
				continue // what its expiry was checked against may be long past: it waits for blocks
			}
			op = topUp(&b.state, &theirs, lock)
		}
		if !add(planned{op: op, req: q}) {
			return list
		}
	}
	r.planStreams(b, list, add)
	return list
}

// proposeAll signs a plan as one update. When a rule refuses it, the halves are tried alone, so that one operation that
// can't be done costs a few more steps and fails alone. done tells whether anything was signed; again whether more may follow.
func (r *runner) proposeAll(b *batch, plan []planned, yield bool) (done, again bool) {
	ops := make([]wire.Op, len(plan))
	for i, p := range plan {
		ops[i] = p.op
	}
	var in channel.Input = channel.Propose{Ops: ops}
	if yield {
		in = channel.ProposeAndYield{Ops: ops}
	}
	eff, err := r.step(b, in)
	switch {
	case err == nil && len(eff.Outbox) > 0:
		r.placed(b, plan, eff.Outbox[len(eff.Outbox)-1])
		if yield {
			r.wanted = false
		}
		return true, !yield
	case err == nil || errors.Is(err, channel.ErrWindow) || errors.Is(err, channel.ErrNotMyTurn) || errors.Is(err, channel.ErrOffline):
		return false, false // tried again when the peer acknowledges, or the turn comes
	case errors.Is(err, channel.ErrPhase):
		r.refuseQueue(b, &Error{Code: CodePhase, Text: err.Error(), Next: "use another channel", Money: noMoneyMoved, Err: err})
		return false, false
	case len(plan) == 1:
		r.drop(b, plan[0], err)
		return false, true
	}
	half := len(plan) / 2
	d1, a1 := r.proposeAll(b, plan[:half], false)
	if !a1 {
		return d1, false
	}
	d2, a2 := r.proposeAll(b, plan[half:], yield)
	return d1 || d2, a2
}

// placed tells everybody whose operation is in an update where it is.
func (r *runner) placed(b *batch, plan []planned, u *wire.Update) {
	for i, p := range plan {
		switch op := u.Ops[i].(type) {
		case wire.GiveBack:
			r.unback(op.ID)
		case wire.Settle:
			delete(r.releases, op.ID)
		case wire.Pay:
			if op.Refund {
				r.unrefund(b, op)
			}
		}
		if p.stream != nil {
			r.streamSigned(b, p.stream, u, u.Ops[i].(wire.PayStream))
		}
		if p.req == nil {
			continue
		}
		r.dequeue(p.req)
		at := place{channel: b.state.ID, version: u.Version}
		if lock, ok := u.Ops[i].(wire.AddLock); ok {
			at.lock = lock.ID
			p.req.out.Hash, p.req.out.Reserve = lock.Hash, lock.Reserve
			p.req.out.reserved(lock.Reserve)
			r.outgoing[lock.ID] = p.req.out
			if p.req.out.Released {
				r.releases[lock.ID] = p.req.out.Preimage
				r.tellReleased(b, lock.ID, p.req.out)
			}
			b.write(put(bucketOutgoing, lockKey(at.channel, at.lock), p.req.out.outgoingRecord))
		}
		if pay, ok := u.Ops[i].(wire.Pay); ok && p.req.pay != nil {
			if pay.Hash.IsZero() {
				r.spont = append(r.spont, p.req.pay)
			} else {
				r.pays[pay.Hash] = p.req.pay
			}
		}
		if p.req.staged != nil {
			b.write(p.req.staged(at)...)
		}
		if p.req.saved != nil {
			b.then(func() { p.req.saved(at) })
		}
	}
}

// drop refuses one operation for good.
func (r *runner) drop(b *batch, p planned, err error) {
	if p.req != nil {
		r.dequeue(p.req)
		b.then(func() {
			p.req.fail(&Error{Code: CodeRefused, Text: err.Error(), Next: "pay less, wait for open payments to end, or use another channel",
				Money: noMoneyMoved, Err: err})
		})
		return
	}
	if p.stream != nil {
		r.failStream(b, p.stream, &Error{Code: CodeRefused, Text: err.Error(), Next: "go on over another channel, with another key",
			Money: "what was paid before stays paid; nothing else moved", Err: err})
		return
	}
	r.log.Warn("an operation is dropped", "op", p.op, "why", err)
	if p.dropped != nil {
		p.dropped()
	}
}

// withdraw takes a command back that waits for the turn. One that is signed stays.
func (r *runner) withdraw(b *batch, q *request) {
	if slices.Contains(r.queue, q) {
		r.dequeue(q)
		b.then(func() {
			q.fail(&Error{Code: CodeBusy, Text: "the peer has not handed over the turn yet", Next: "try again", Money: noMoneyMoved})
		})
	}
}

func (r *runner) dequeue(q *request) {
	for i, x := range r.queue {
		if x == q {
			r.queue = append(r.queue[:i:i], r.queue[i+1:]...)
			return
		}
	}
}

func (r *runner) unback(id uint64) {
	for i, x := range r.backs {
		if x == id {
			r.backs = append(r.backs[:i:i], r.backs[i+1:]...)
			return
		}
	}
}

// unrefund forgets a refund, in the commit that signs it: else a restart would pay it again.
func (r *runner) unrefund(b *batch, p wire.Pay) {
	for i, x := range r.refunds {
		if x == p {
			r.refunds = append(r.refunds[:i:i], r.refunds[i+1:]...)
			r.info.Refunds, b.info = r.refunds, true
			return
		}
	}
}

// reserved notes the reservation fee that was signed. The goroutine that drives a payment reads its attempts as well.
func (o *outgoing) reserved(fee types.Amount) {
	if o.Attempt == nil {
		return
	}
	if p := o.payment; p != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
	}
	o.Attempt.Reserve = fee
}
