package chand

import (
	"errors"
	"slices"

	"github.com/eschaton-network/chand/htlc"
)

// take takes in one piece of news.
func (t *driver) take(n partNews) {
	switch {
	case n.cancel != nil:
		t.cancels = append(t.cancels, n.cancel)
		for q, a := range t.asked {
			a.r.box.force(func(b *batch) { a.r.withdraw(b, q) })
		}
	case n.placed:
		if a := t.asked[n.req]; a.way != nil {
			t.ways[n.at] = a.way
		}
		delete(t.asked, n.req)
	case n.req != nil:
		a := t.asked[n.req]
		delete(t.asked, n.req)
		if a.way == nil {
			t.tried = append(t.tried, a.r.view.Load().State.ID)
		} else if a.way.route != nil {
			t.way.excludeChannels = append(t.way.excludeChannels, a.way.route.Directed(0))
		}
		if f := failureOf(n.refused); t.last == nil {
			t.last = &f
		}
	default:
		t.back(n)
	}
}

// back takes in a part that came back, or was lost.
func (t *driver) back(n partNews) {
	p := t.p
	w := t.ways[n.at]
	delete(t.ways, n.at)
	p.mu.Lock()
	a := p.out[n.at]
	delete(p.out, n.at)
	p.mu.Unlock()
	if a == nil {
		return // heard of before
	}
	t.dels = append(t.dels, del(bucketOutgoing, lockKey(n.at.channel, n.at.lock)))
	t.freed = append(t.freed, func() {
		if r := t.d.runner(n.at.channel); r != nil {
			r.box.force(mailForget{n.at.lock})
		}
	})
	if n.lost {
		a.Lost = true
		p.mu.Lock()
		p.rec.Parts = append(p.rec.Parts, *a)
		p.rec.State, p.rec.Text = PaymentUnknown, textLost
		p.mu.Unlock()
		return
	}
	f, _ := t.d.explain(a, w, n.reason)
	t.last = &f
	t.hard = !t.learn(w, a, n.reason) || t.hard
	p.mu.Lock()
	p.rec.Failure = &f
	if lost := max(0, a.Reserve-n.refunded); lost > 0 {
		p.rec.Reserve += lost
		p.rec.Over = addMove(slices.Clone(p.rec.Over), a.Channel, -lost)
	}
	p.mu.Unlock()
}

// learn takes in why a way failed, and says whether another can help.
func (t *driver) learn(w *way, a *Attempt, reason []byte) (retry bool) {
	if len(a.Nodes) == 0 {
		return false // the payee itself gave it back
	}
	hop, f, err := htlc.DecryptFailure(a.Secrets, a.Channels[0], reason)
	if err != nil && !errors.Is(err, htlc.ErrFailure) {
		hop = -1
	}
	if w == nil { // of an earlier life: only the payee's own refusal is final
		return hop != len(a.Nodes)-1 || !f.Code.Permanent()
	}
	updated := f.Policy != nil && t.d.announcer.learnPolicy(f.Policy)
	retry = t.d.announcer.failed(w.route, hop, &f, updated, t.d.now())
	if hop >= 0 && hop+1 < len(w.route.Hops) && !updated {
		t.way.excludeChannels = append(t.way.excludeChannels, w.route.Directed(hop+1))
	} else if hop < 0 {
		t.way.excludeNodes = append(t.way.excludeNodes, w.nodes[:len(w.nodes)-1]...)
	}
	return retry || f.Code == htlc.MPPTimeout
}
