package chand

import (
	"context"
	"fmt"
	"time"

	"github.com/eschaton-network/chand/htlc"
	"github.com/eschaton-network/chand/route"
	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/wire"
)

const (
	// maxTries bounds the parts and ways that one payment tries: as many as its parts, three times over.
	maxTries = 3 * maxParts
	// maxParts bounds the parts of one payment that are out at once. More cost the hops more locks than they help the payment.
	maxParts = 16
	// lookAgain is how often a way is looked for that was not there for the rest of a payment while other parts of it are out: a channel's
	// link may come up, above all after a restart.
	lookAgain = 2 * time.Second
)

// driver is the goroutine of one sent payment. It asks runners for parts until the payee has the whole amount in locks, takes in
// how parts fail, and tries others as long as limits allow. What it decides is saved in the payment's record, what it asks for in
// the records of the locks; a restart makes a new one from both.
type driver struct {
	d     *Daemon
	p     *payment
	final htlc.Payload
	way   wayRequest
	ways  map[lockRef]*way // of the parts that are out; none for those of an earlier life
	asked map[*request]ask // not signed yet
	tried []types.ChannelID
	tries int
	last  *PaymentFailure
	hard  bool // the payee itself refused
	// dels and freed go with the next save of the record: records of locks that came back.
	dels    []types.Write
	freed   []func()
	cancels []chan<- error
	// again: no way was found for what is missing, though it may be tried.
	again bool
}

// ask is a part, or a Pay operation (way nil), that waits to be signed.
type ask struct {
	r   *runner
	way *way
}

// drive works until the payment is decided. It returns only errors that must stop the daemon.
func (p *payment) drive(ctx context.Context) error {
	t, err := newDriver(p)
	if err != nil {
		return err
	}
	var late <-chan time.Time
	if p.rec.Until != 0 {
		timer := time.NewTimer(max(0, p.rec.Until.Std().Sub(p.d.Clock())))
		defer timer.Stop()
		late = timer.C
	}
	for {
		if decided, err := t.next(ctx); decided || err != nil {
			return err
		}
		var again <-chan time.Time
		if t.again {
			again = time.After(lookAgain)
		}
		select {
		case <-again:
		case <-ctx.Done():
			return nil // a restart goes on with what is saved
		case <-p.done:
			t.succeeded()
			return nil
		case <-late:
			late = nil
		case <-p.news.wake:
			for _, n := range p.news.take(maxDrain) {
				t.take(n)
			}
		}
	}
}

func newDriver(p *payment) (*driver, error) {
	t := &driver{d: p.d, p: p, ways: make(map[lockRef]*way), asked: make(map[*request]ask), tries: p.rec.Tries, last: p.rec.Failure}
	t.way = wayRequest{to: p.rec.Peer, hash: p.rec.Hash, circle: p.rec.Circle}
	if p.rec.Spontaneous {
		t.final = htlc.Payload{Kind: htlc.Keysend, Secret: p.rec.Preimage, Memo: p.rec.Memo}
	} else {
		inv := p.inv
		if inv == nil {
			var err error
			if inv, err = p.d.parseInvoice(p.rec.Invoice); err != nil {
				return nil, fmt.Errorf("payment %d: its invoice can't be read: %w", p.seq, err)
			}
		}
		t.final = htlc.Payload{Kind: htlc.Invoice, Secret: inv.Secret}
		t.way.follow(inv)
	}
	t.final.Total = p.rec.Amount
	return t, nil
}

// next asks for what is missing, or decides the payment as failed when nothing is out and nothing more may be tried.
func (t *driver) next(ctx context.Context) (decided bool, err error) {
	missing, fees := t.missing()
	t.again = false
	if missing == 0 && len(t.cancels) == 0 {
		return false, t.save(ctx)
	}
	stop := t.stop()
	t.again = stop == nil
	if stop == nil {
		if stop, err = t.try(ctx, missing, fees); err != nil {
			return false, err
		}
	}
	if stop == nil || len(t.asked) > 0 {
		t.again = false
		return false, t.save(ctx)
	}
	t.p.mu.Lock()
	out := len(t.p.out) + len(t.p.rec.Parts)
	if t.p.rec.Attempt != nil {
		out++
	}
	t.p.mu.Unlock()
	if cancelled := stop.Rule == ruleCancelled; cancelled && t.p.hopeless(t.d.Height()) {
		stop = &PaymentFailure{Rule: "given_up", Text: "its owner gave it up; whether the payee was paid only the lost data knew", Next: nextInvoice}
		out = 0
	}
	if out > 0 { // what is out ends by itself; until then nobody can say how
		t.note(stop)
		err = t.save(ctx)
		t.answer()
		return false, err
	}
	return true, t.giveUp(ctx, stop)
}

// missing is what no lock carries yet, and what may be paid to others for it.
func (t *driver) missing() (amount, fees types.Amount) {
	p := t.p
	p.mu.Lock()
	defer p.mu.Unlock()
	amount, fees = p.rec.Amount, p.rec.MaxFee-p.rec.Reserve
	if p.rec.Attempt != nil {
		return 0, 0
	}
	less := func(a *Attempt) { amount, fees = amount-a.Amount, fees-a.Fee-a.Reserve }
	for i := range p.rec.Parts {
		less(&p.rec.Parts[i])
	}
	for _, a := range p.out {
		less(a)
	}
	for q, a := range t.asked {
		if a.way == nil {
			return 0, 0
		}
		less(q.out.Attempt)
	}
	return max(0, amount), max(0, fees)
}

// stop says why nothing more may be tried, or nil.
func (t *driver) stop() *PaymentFailure {
	p := t.p
	p.mu.Lock()
	cancelled, until := p.rec.Cancelled != 0, p.rec.Until
	lost := len(p.rec.Parts)
	p.mu.Unlock()
	switch {
	case cancelled:
		return &PaymentFailure{Rule: ruleCancelled, Text: "the payer cancelled it", Next: "pay again when you want to"}
	case t.hard:
		return t.last
	case lost > 0:
		return &PaymentFailure{Rule: "data_loss", Text: "a lock of it was lost with data: it may be paid, so it is not tried again", Next: nextUnknown}
	case until != 0 && t.d.now() >= until:
		return t.because("time_out", "no way worked within the time limit", "allow more time with --timeout")
	case t.tries >= maxTries:
		return t.because("too_many_tries", fmt.Sprintf("%d ways were tried", t.tries), "try again later")
	}
	return nil
}

// because prefers why the newest part failed to the limit that ended the tries.
func (t *driver) because(rule, text, next string) *PaymentFailure {
	if t.last != nil {
		f := *t.last
		f.Text += "; " + text
		return &f
	}
	return &PaymentFailure{Rule: rule, Text: text, Next: next}
}

// try asks for what is missing: by one signature when a channel with the payee carries all of it, else by parts. stop says why it can't.
func (t *driver) try(ctx context.Context, missing, fees types.Amount) (stop *PaymentFailure, err error) {
	if missing == t.p.rec.Amount && t.p.rec.Circle == nil {
		if r := t.d.directChannel(t.p.rec.Peer, missing, t.tried); r != nil {
			t.ask(r, t.direct(), nil)
			return nil, t.save(ctx)
		}
	}
	t.p.mu.Lock()
	parts := t.p.rec.MaxParts - len(t.p.out) - len(t.asked)
	t.p.mu.Unlock()
	t.way.amount, t.way.maxFee, t.way.final, t.way.inFlight = missing, fees, t.final, t.inFlight()
	if missing < t.p.rec.Amount {
		t.way.ahead = holdBlocks
	}
	ways, err := t.d.findWays(t.way, min(parts, maxTries-t.tries))
	if err != nil {
		f := failureOf(err)
		if t.last != nil { // what a hop said is nearer to the cause than that no other way is left
			f = *t.last
		}
		return &f, nil
	}
	// With several parts the record is on disk before any: with one it goes with it.
	if err := t.record(ctx, len(ways) > 1); err != nil {
		return nil, err
	}
	for _, w := range ways {
		t.ask(w.runner, t.part(w), w)
	}
	return nil, nil
}

// inFlight are the routes of the parts that are out.
func (t *driver) inFlight() []*route.Route {
	var list []*route.Route
	for _, w := range t.ways {
		list = append(list, w.route)
	}
	for _, a := range t.asked {
		if a.way != nil {
			list = append(list, a.way.route)
		}
	}
	return list
}

func (t *driver) ask(r *runner, q *request, w *way) {
	t.tries++
	t.asked[q] = ask{r, w}
	if err := r.ask(q); err != nil {
		t.take(partNews{req: q, refused: err})
	}
}

// direct pays by one signature in a channel with the payee.
func (t *driver) direct() *request {
	p := t.p
	op := wire.Pay{Amount: p.rec.Amount, Hash: p.rec.Hash}
	if p.rec.Spontaneous {
		op.Hash = types.Hash{}
	}
	return t.request(op, func(at place) []types.Write {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.rec.Attempt = &Attempt{Channel: at.channel, Version: at.version, Amount: p.rec.Amount}
		p.rec.Route, p.rec.Failure = []types.NodeID{p.rec.Peer}, nil
		p.rec.Tries++
		return p.writes()
	})
}

// part asks for one lock.
func (t *driver) part(w *way) *request {
	p := t.p
	a := &Attempt{Secrets: w.secrets, Nodes: w.nodes, Channels: w.channels, Amount: w.amount, Fee: w.fee, Reserve: w.op.Reserve, Expiry: w.expiry}
	q := t.request(w.op, func(at place) []types.Write { return p.placed(at, a) })
	q.pay = nil
	q.out = &outgoing{outgoingRecord: outgoingRecord{Kind: kindPayment, Ref: p.seq, Hash: p.rec.Hash, Attempt: a, Reserve: a.Reserve}, payment: p}
	return q
}

func (t *driver) request(op wire.Op, staged func(place) []types.Write) *request {
	p := t.p
	q := &request{op: op, pay: p, staged: staged}
	q.saved = func(at place) {
		p.show()
		p.news.force(partNews{at: lockRef{at.channel, at.lock}, req: q, placed: true})
	}
	q.refused = func(err error) { p.news.force(partNews{req: q, refused: err}) }
	return q
}

// note keeps the reason for trying no more, for those who look while parts are still out.
func (t *driver) note(f *PaymentFailure) {
	p := t.p
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.rec.Failure == nil && !p.over {
		p.rec.Failure = f
		p.publish()
	}
}

// record saves the payment's record when it must be on disk, or when records of locks are to go with it.
func (t *driver) record(ctx context.Context, must bool) error {
	p := t.p
	p.mu.Lock()
	if p.over || len(t.dels) == 0 && (p.stored || !must) {
		p.mu.Unlock()
		return nil
	}
	// The lock is held over the commit: a runner that learns the outcome meanwhile writes its record after this one.
	err := t.d.Store.Commit(ctx, append(p.writes(), t.dels...)...)
	if err == nil {
		p.stored = true
		p.publish()
	}
	p.mu.Unlock()
	if err != nil {
		return fmt.Errorf("saving a payment: %w", err)
	}
	t.free()
	return nil
}

func (t *driver) save(ctx context.Context) error { return t.record(ctx, false) }

// free tells the runners that the records of locks that came back are gone.
func (t *driver) free() {
	for _, f := range t.freed {
		f()
	}
	t.dels, t.freed = nil, nil
}

// giveUp decides a payment that has nothing under way as failed.
func (t *driver) giveUp(ctx context.Context, f *PaymentFailure) error {
	p := t.p
	p.mu.Lock()
	if p.over {
		p.mu.Unlock()
		return nil
	}
	p.over = true
	p.rec.State, p.rec.Settled, p.rec.Failure, p.rec.Text, p.rec.Parts = PaymentFailed, t.d.now(), f, "", nil
	err := t.d.Store.Commit(ctx, append(p.writes(), t.dels...)...)
	p.mu.Unlock()
	if err != nil {
		return fmt.Errorf("saving a failed payment: %w", err)
	}
	t.free()
	p.finish()
	t.answer()
	return nil
}

// answer tells those who cancelled that nothing waits to be signed any more.
func (t *driver) answer() {
	for _, c := range t.cancels {
		c <- nil
	}
	t.cancels = nil
}

// succeeded remembers what worked, and lets go of parts that came back all the same.
func (t *driver) succeeded() {
	for _, w := range t.ways {
		if w.route != nil {
			t.d.announcer.succeeded(w.route, t.d.now())
		}
	}
	for _, n := range t.p.news.take(maxDrain) {
		t.take(n)
	}
	t.free()
	t.answer()
}
