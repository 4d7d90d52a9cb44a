package chand

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"

	"github.com/eschaton-network/chand/types"
)

// maxPaying bounds the payments that are under way at once.
const maxPaying = 16384

// payments are the sent payments that are not decided, and the numbers of all. Safe for concurrent use.
type payments struct {
	d *Daemon

	mu       sync.Mutex
	next     uint64                  // guarded by mu; number of the next record
	reserved uint64                  // guarded by mu; numbers below are reserved on disk
	byKey    map[string]*payment     // guarded by mu
	byHash   map[types.Hash]*payment // guarded by mu
}

// payNumbers is how many payment numbers are reserved at once, so that a start need not look at every payment there ever was.
const payNumbers = 1024

// newPayments reads the payments that were under way: those whose attempt is in a channel are decided by that channel.
func newPayments(d *Daemon) (*payments, error) {
	s := &payments{d: d, next: 1, byKey: make(map[string]*payment), byHash: make(map[types.Hash]*payment)}
	next, ok, err := load[uint64](d.Store, bucketMeta, metaNextPay)
	if err != nil {
		return nil, err
	}
	if ok {
		s.next, s.reserved = next, next
	}
	var open []uint64
	err = loadAll(d.Store, bucketPaying, "", func(key string, _ bool) error {
		seq, err := strconv.ParseUint(key, 16, 64)
		open = append(open, seq)
		return err
	})
	for _, seq := range open {
		rec, ok, e := load[Payment](d.Store, bucketPayment, seqKey(seq))
		if e != nil || !ok {
			return nil, fmt.Errorf("payment %d: %w", seq, errors.Join(e, errMissing))
		}
		s.add(newPaying(d, seq, rec))
	}
	return s, err
}

// number takes the next number. One call in payNumbers reserves more on disk; should that fail, so does the commit that uses it.
func (s *payments) number() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.take()
}

// take is number with mu held.
func (s *payments) take() uint64 {
	if s.next >= max(s.reserved, 1) {
		s.reserved = s.next + payNumbers
		if err := s.d.Store.Commit(context.Background(), put(bucketMeta, metaNextPay, s.reserved)); err != nil {
			s.d.Log.Error("reserving payment numbers", "err", err)
		}
	}
	s.next++
	return s.next - 1
}

func (s *payments) add(p *payment) {
	s.byHash[p.rec.Hash] = p
	if p.rec.Key != "" {
		s.byKey[p.rec.Key] = p
	}
}

func (s *payments) remove(p *payment) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byHash[p.rec.Hash] == p {
		delete(s.byHash, p.rec.Hash)
	}
	if s.byKey[p.rec.Key] == p {
		delete(s.byKey, p.rec.Key)
	}
}

func (s *payments) all() []*payment {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []*payment
	for _, p := range s.byHash {
		list = append(list, p)
	}
	return list
}

// circles tells whether a payment of that hash is one of our own to ourselves.
func (s *payments) circles(h types.Hash) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.byHash[h]
	return p != nil && p.rec.Circle != nil
}

// received records money that came in, in the commit that brought it.
func (d *Daemon) received(b *batch, p Payment) {
	if d.payments.circles(p.Hash) {
		return // it was ours before
	}
	p.Direction, p.State, p.Created, p.Settled = PaymentReceived, PaymentSucceeded, d.now(), d.now()
	seq := d.payments.number()
	b.write(put(bucketPayment, seqKey(seq), p))
	if !p.Hash.IsZero() {
		b.write(put(bucketPayIndex, receivedKey(p.Hash), seqKey(seq)))
	}
	b.then(func() { d.emit("payment.received", "received "+p.Amount.String(), p) })
}

// Payment finds one by its hash (sent ones first) or by the caller's key.
func (d *Daemon) Payment(hash types.Hash, key string) (Payment, error) {
	s := d.payments
	s.mu.Lock()
	live := s.byHash[hash]
	if key != "" {
		live = s.byKey[key]
	}
	s.mu.Unlock()
	if live != nil && live.view.Load() != nil {
		return *live.view.Load(), nil
	}
	indexes := []string{sentKey(hash), receivedKey(hash)}
	if key != "" {
		indexes = []string{payKey(key)}
	}
	for _, i := range indexes {
		if p, ok, err := d.paymentBy(i); err != nil || ok {
			return p, err
		}
	}
	return Payment{}, refuse(CodeNotFound, "see `payment list`", "no such payment")
}

// Payments lists up to limit payments, the newest first, before the given page ("": from the newest), and the page to go on with.
func (d *Daemon) Payments(page string, limit int) (list []Payment, next string, err error) {
	s := d.payments
	s.mu.Lock()
	seq := s.next
	s.mu.Unlock()
	if page != "" {
		if seq, err = strconv.ParseUint(page, 16, 64); err != nil {
			return nil, "", refuse(CodeInvalid, "use next_page_token of the answer before", "page %.40q", page)
		}
	}
	oldest := d.history.oldest.Load()
	for seq--; seq >= oldest && seq < 1<<63; seq-- {
		if len(list) == limit {
			return list, seqKey(seq + 1), nil
		}
		p, ok, err := load[Payment](d.Store, bucketPayment, seqKey(seq))
		if err != nil {
			return list, "", err
		}
		if ok {
			list = append(list, p)
		}
	}
	return list, "", nil
}
