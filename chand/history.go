package chand

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/eschaton-network/chand/types"
)

// History is how much of what is over a daemon remembers. What is open, and what a start or a claim may need, always stays.
type History struct {
	// Payments is how many numbers of payments are kept: sent, received and forwarded ones are counted alike. 0: DefaultPayments.
	Payments uint64
	// Age is how long after its end everything else is kept: invoices, escrows, channels, ledger transactions. 0: DefaultAge.
	Age time.Duration
}

const (
	// DefaultPayments are some 100 MB.
	DefaultPayments = 100_000
	// DefaultAge is longer than anybody disputes a bill.
	DefaultAge = 90 * 24 * time.Hour

	// historyStep is how many payments are looked at before others get their turn, historyRest the time until the next step, and
	// historyPause when there was nothing to do. So 10,000 a second can be forgotten, more than are paid.
	historyStep  = 1024
	historyRest  = 100 * time.Millisecond
	historyPause = 5 * time.Second
	// historyParts divide records that are kept under hashes: one part is read at a time.
	historyParts = 256
)

const metaOldestPay = "oldestpay" // all payments with lower numbers are forgotten

// historian forgets what is over, in small steps in the background. An idempotency key is forgotten together with what it
// made: using it again later makes something new.
type historian struct {
	d      *Daemon
	keep   uint64
	age    types.Time
	oldest atomic.Uint64 // no payment has a lower number

	// Owned by run.
	next uint64   // the first number that was not looked at
	left []uint64 // lower ones that are still needed
	part int
}

func newHistorian(d *Daemon) (*historian, error) {
	h := &historian{d: d, keep: d.cfg.History.Payments, age: types.Time(d.cfg.History.Age / time.Second)}
	if h.keep == 0 {
		h.keep = DefaultPayments
	}
	if h.age == 0 {
		h.age = types.Time(DefaultAge / time.Second)
	}
	oldest, ok, err := load[uint64](d.Store, bucketMeta, metaOldestPay)
	if !ok {
		oldest = 1
	}
	h.next = oldest
	h.oldest.Store(oldest)
	return h, err
}

func (h *historian) run(ctx context.Context) error {
	for {
		more, err := h.payments(ctx)
		if err == nil && !more {
			err = h.others(ctx)
		}
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("forgetting what is over: %w", err)
		}
		pause := historyPause
		if more {
			pause = historyRest
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}

// inUse says what open locks still refer to.
type inUse struct {
	payments map[uint64]bool
	hashes   map[types.Hash]bool
}

func (h *historian) inUse() (inUse, error) {
	u := inUse{map[uint64]bool{}, map[types.Hash]bool{}}
	err := loadAll(h.d.Store, bucketOutgoing, "", func(_ string, r outgoingRecord) error {
		u.hashes[r.Hash] = true
		if r.Kind == kindPayment {
			u.payments[r.Ref] = true
		}
		return nil
	})
	if err != nil {
		return u, err
	}
	return u, loadAll(h.d.Store, bucketIncoming, "", func(_ string, r incomingRecord) error {
		u.hashes[r.Hash] = true
		return nil
	})
}

// payments forgets the oldest ones, with their indexes and the invoices that they paid. more: there are others to forget.
func (h *historian) payments(ctx context.Context) (more bool, err error) {
	d := h.d
	d.payments.mu.Lock()
	next := d.payments.next
	d.payments.mu.Unlock()
	if next <= h.keep || h.next >= next-h.keep {
		return false, nil
	}
	end := min(next-h.keep, h.next+historyStep)
	if h.next == h.oldest.Load() || end == next-h.keep { // now and then: most are needed for long
		h.left, err = h.forget(ctx, h.left, end)
	} else {
		var needed []uint64
		needed, err = h.forget(ctx, nil, end)
		h.left = append(h.left, needed...)
	}
	return end < next-h.keep, err
}

// forget deletes payments: the numbers given, and those from h.next to before end. It returns those that are still needed.
func (h *historian) forget(ctx context.Context, numbers []uint64, end uint64) (needed []uint64, err error) {
	d := h.d
	for seq := h.next; seq < end; seq++ {
		numbers = append(numbers, seq)
	}
	found := make(map[uint64]Payment)
	for _, seq := range numbers {
		p, ok, err := load[Payment](d.Store, bucketPayment, seqKey(seq))
		if err != nil {
			return nil, err
		}
		if ok {
			found[seq] = p
		}
	}
	used, err := h.inUse() // after the payments were read: one that was over has no new lock
	if err != nil {
		return nil, err
	}
	var writes []types.Write
	gone := make(map[types.Hash]bool)
	for _, seq := range numbers {
		p, ok := found[seq]
		switch {
		case !ok:
		case p.State == PaymentPending || p.State == PaymentUnknown || used.payments[seq] || used.hashes[p.Hash]:
			needed = append(needed, seq)
		default:
			w, err := h.paymentGone(seq, &p)
			if err != nil {
				return nil, err
			}
			writes = append(writes, w...)
			gone[p.Hash] = p.Direction == PaymentSent
		}
	}
	oldest := end
	for _, seq := range needed {
		oldest = min(oldest, seq)
	}
	if err := d.Store.Commit(ctx, append(writes, put(bucketMeta, metaOldestPay, oldest))...); err != nil {
		return nil, err
	}
	h.next = end
	h.oldest.Store(oldest)
	return needed, h.indexAgain(ctx, gone)
}

// indexAgain restores the index of a payment that began meanwhile for the hash of a forgotten one that had failed.
func (h *historian) indexAgain(ctx context.Context, gone map[types.Hash]bool) error {
	s := h.d.payments
	var writes []types.Write
	s.mu.Lock()
	for hash, sent := range gone {
		if p := s.byHash[hash]; sent && p != nil {
			writes = append(writes, put(bucketPayIndex, sentKey(hash), seqKey(p.seq)))
		}
	}
	s.mu.Unlock()
	if len(writes) == 0 {
		return nil
	}
	return h.d.Store.Commit(ctx, writes...)
}

// paymentGone deletes a payment, the indexes that lead to it, and the invoice that it paid.
func (h *historian) paymentGone(seq uint64, p *Payment) ([]types.Write, error) {
	w := []types.Write{del(bucketPayment, seqKey(seq))}
	indexes := []string{receivedKey(p.Hash)}
	if p.Direction == PaymentSent {
		indexes[0] = sentKey(p.Hash)
		if p.Key != "" {
			indexes = append(indexes, payKey(p.Key))
		}
	}
	for _, index := range indexes {
		to, ok, err := load[string](h.d.Store, bucketPayIndex, index)
		if err != nil {
			return nil, err
		}
		if ok && to == seqKey(seq) {
			w = append(w, del(bucketPayIndex, index))
		}
	}
	if p.Direction != PaymentReceived {
		return w, nil
	}
	inv, ok, err := load[invoiceRecord](h.d.Store, bucketInvoice, p.Hash.String())
	if err == nil && ok && inv.Paid != 0 {
		w = append(w, invoiceGone(p.Hash.String(), &inv)...)
	}
	return w, err
}

func invoiceGone(key string, v *invoiceRecord) []types.Write {
	w := []types.Write{del(bucketInvoice, key)}
	if v.Key != "" {
		w = append(w, del(bucketPayIndex, "invoice/"+v.Key))
	}
	return w
}

// others goes through the records that are kept by age, a part of them at a time.
func (h *historian) others(ctx context.Context) error {
	before := h.d.now() - min(h.age, h.d.now())
	part := fmt.Sprintf("%02x", h.part)
	h.part = (h.part + 1) % historyParts
	used, err := h.inUse()
	if err != nil {
		return err
	}
	steps := []func(string, types.Time, inUse) ([]types.Write, error){h.invoices, h.escrows, h.channels, h.streams}
	if h.part == 0 {
		steps = append(steps, h.transactions)
	}
	for _, step := range steps {
		w, err := step(part, before, used)
		if err != nil {
			return err
		}
		for len(w) > 0 {
			n := min(len(w), historyStep)
			if err := h.d.Store.Commit(ctx, w[:n]...); err != nil {
				return err
			}
			w = w[n:]
		}
	}
	return nil
}

func (h *historian) invoices(part string, before types.Time, used inUse) (w []types.Write, err error) {
	err = loadAll(h.d.Store, bucketInvoice, part, func(key string, v invoiceRecord) error {
		hash, err := types.ParseHash(key)
		if cmp.Or(v.Paid, v.Cancelled, v.Expires) < before && !used.hashes[hash] && h.d.invoices.held(hash) == 0 {
			w = append(w, invoiceGone(key, &v)...)
		}
		return err
	})
	return w, err
}

func (h *historian) escrows(part string, before types.Time, used inUse) (w []types.Write, err error) {
	err = loadAll(h.d.Store, bucketEscrow, part, func(key string, e Escrow) error {
		if !e.final() || e.Closed >= before || used.hashes[e.ID] {
			return nil
		}
		w = append(w, del(bucketEscrow, key))
		if e.Key != "" && e.Role == rolePayer {
			w = append(w, del(bucketPayIndex, "escrow/"+e.Key))
		}
		return nil
	})
	return w, err
}

// channels forgets those that are over and whose runner has ended, with what stands under their ids.
func (h *historian) channels(part string, before types.Time, _ inUse) (w []types.Write, err error) {
	var over []types.ChannelID
	err = loadAll(h.d.Store, bucketChanInfo, part, func(key string, v chanRecord) error {
		id, err := types.ParseHash(key)
		if v.Closed == 0 || v.Closed >= before || h.d.runner(id) != nil {
			return err
		}
		over = append(over, id)
		if w = append(w, del(bucketChannel, key), del(bucketChanInfo, key), del(bucketTerms, key)); v.OpenKey != "" {
			w = append(w, del(bucketPayIndex, "open/"+v.OpenKey))
		}
		return err
	})
	for _, id := range over {
		for _, bucket := range []string{bucketOutbox, bucketReceipt, bucketOutgoing, bucketIncoming} {
			e := h.d.Store.Scan(bucket, id.String()+"/", func(key string, _ []byte) error {
				w = append(w, del(bucket, key))
				return nil
			})
			if e != nil {
				return nil, e
			}
		}
	}
	return w, err
}

// streams forgets those in which nothing has moved for long, their parts before them.
func (h *historian) streams(part string, before types.Time, _ inUse) (w []types.Write, err error) {
	var over []string
	for _, direction := range []string{PaymentSent, PaymentReceived} {
		err := loadAll(h.d.Store, bucketStream, direction+"/"+part, func(key string, rec streamRecord) error {
			if rec.Changed < before && !(direction == PaymentSent && h.d.streams.has(rec.Stream)) {
				over = append(over, key)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	for _, stream := range over {
		err := h.d.Store.Scan(bucketStreamPart, stream+"/", func(key string, _ []byte) error {
			w = append(w, del(bucketStreamPart, key))
			return nil
		})
		if err != nil {
			return nil, err
		}
		w = append(w, del(bucketStream, stream))
	}
	return w, nil
}

// transactions forgets those of our ledger account. One that was refused has no time: it is as old as the one before it.
func (h *historian) transactions(_ string, before types.Time, _ inUse) (w []types.Write, err error) {
	var last types.Time
	err = loadAll(h.d.Store, bucketTx, "", func(key string, r txRecord) error {
		last = max(last, r.Time)
		if _, err := strconv.ParseUint(key, 16, 64); err != nil || r.State == TxPending || last == 0 || last >= before {
			return err
		}
		if w = append(w, del(bucketTx, key)); r.Key != "" {
			w = append(w, del(bucketTxIndex, r.Key))
		}
		return nil
	})
	return w, err
}
