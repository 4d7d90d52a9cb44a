package chand

import (
	"bytes"
	"slices"
	"strconv"

	"github.com/eschaton-network/chand/types"
)

// FeeSum is what payments earned or cost.
type FeeSum struct {
	// Count is of payments that got through; Volume is their sum without fees.
	Count  uint64
	Volume types.Amount
	// Fees are of payments that got through, Reserve the reservation fees of all.
	Fees, Reserve types.Amount
}

func (s *FeeSum) add(p *Payment) {
	s.Reserve += p.Reserve
	if p.State == PaymentSucceeded {
		s.Count++
		s.Volume += p.Amount
		s.Fees += p.Fee
	}
}

// FeeReport is what forwarding earned and paying cost, by channel and by peer.
type FeeReport struct {
	// From is when the oldest payment that is remembered began: nothing older is in the report, whatever was asked for. 0: no payments.
	From         types.Time
	Earned, Paid FeeSum
	// EarnedIn and EarnedOut sum forwarded payments by the channel that they came from and that they went to; EarnedByPeer by the node that they
	// came from. PaidBy sums own payments by payee.
	EarnedIn, EarnedOut  []ChannelFees
	EarnedByPeer, PaidBy []PeerFees
}

// ChannelFees is a FeeSum of a channel.
type ChannelFees struct {
	Channel types.ChannelID
	FeeSum
}

// PeerFees is a FeeSum of a node.
type PeerFees struct {
	Peer types.NodeID
	FeeSum
}

// payNumber is the number above all payments, and the lowest that is remembered.
func (d *Daemon) payNumbers() (next, oldest uint64) {
	d.payments.mu.Lock()
	next = d.payments.next
	d.payments.mu.Unlock()
	return next, max(1, d.history.oldest.Load())
}

// newestFirst calls fn for payments with numbers below from until it says stop. Each is read by itself, so the store is not held up.
func (d *Daemon) newestFirst(from, oldest uint64, fn func(seq uint64, p *Payment) (more bool)) error {
	for seq := from; seq > oldest; {
		seq--
		p, ok, err := load[Payment](d.Store, bucketPayment, seqKey(seq))
		if err != nil {
			return err
		}
		if ok && !fn(seq, &p) {
			return nil
		}
	}
	return nil
}

// remembered is when the oldest payment that is there began.
func (d *Daemon) remembered() (at types.Time, err error) {
	next, oldest := d.payNumbers()
	for seq := oldest; seq < next; seq++ {
		p, ok, err := load[Payment](d.Store, bucketPayment, seqKey(seq))
		if err != nil || ok {
			return p.Created, err
		}
	}
	return 0, nil
}

// Fees sums what began from since on and before until (0: no bound).
func (d *Daemon) Fees(since, until types.Time) (FeeReport, error) {
	in, out := map[types.ChannelID]*FeeSum{}, map[types.ChannelID]*FeeSum{}
	from, to := map[types.NodeID]*FeeSum{}, map[types.NodeID]*FeeSum{}
	var rep FeeReport
	var err error
	if rep.From, err = d.remembered(); err != nil {
		return rep, err
	}
	next, oldest := d.payNumbers()
	err = d.newestFirst(next, oldest, func(_ uint64, p *Payment) bool {
		if until != 0 && p.Created >= until {
			return true
		}
		if p.Created < since {
			return false // numbers grow with time
		}
		switch {
		case p.Direction == PaymentForwarded:
			rep.Earned.add(p)
			sumOf(from, p.Peer).add(p)
			if len(p.Over) == 2 {
				sumOf(in, p.Over[0].Channel).add(p)
				sumOf(out, p.Over[1].Channel).add(p)
			}
		case p.Direction == PaymentSent && p.State != PaymentPending:
			rep.Paid.add(p)
			sumOf(to, p.Peer).add(p)
		}
		return true
	})
	channels := func(m map[types.ChannelID]*FeeSum) (list []ChannelFees) {
		for id, s := range m {
			list = append(list, ChannelFees{id, *s})
		}
		slices.SortFunc(list, func(a, b ChannelFees) int { return bytes.Compare(a.Channel[:], b.Channel[:]) })
		return list
	}
	peers := func(m map[types.NodeID]*FeeSum) (list []PeerFees) {
		for id, s := range m {
			list = append(list, PeerFees{id, *s})
		}
		slices.SortFunc(list, func(a, b PeerFees) int { return bytes.Compare(a.Peer[:], b.Peer[:]) })
		return list
	}
	rep.EarnedIn, rep.EarnedOut, rep.EarnedByPeer, rep.PaidBy = channels(in), channels(out), peers(from), peers(to)
	return rep, err
}

func sumOf[K comparable](m map[K]*FeeSum, k K) *FeeSum {
	s := m[k]
	if s == nil {
		s = new(FeeSum)
		m[k] = s
	}
	return s
}

// maxLooked is how many payments are read for one page of forwards at most.
const maxLooked = 10_000

// Forwards lists up to limit payments that were passed on, the newest first, before the given page ("": from the newest), and the page to
// go on with. A page may have fewer, or none, though others follow: it reads a bounded number of payments. from is when the oldest payment that is
// remembered began.
func (d *Daemon) Forwards(page string, limit int) (list []Payment, nextPage string, from types.Time, err error) {
	next, oldest := d.payNumbers()
	if page != "" {
		at, err := strconv.ParseUint(page, 16, 64)
		if err != nil {
			return nil, "", 0, refuse(CodeInvalid, "use next_page_token of the answer before", "page %.40q", page)
		}
		next = min(next, at)
	}
	if from, err = d.remembered(); err != nil {
		return nil, "", 0, err
	}
	end := oldest
	if next > maxLooked {
		end = max(oldest, next-maxLooked)
	}
	last := end
	err = d.newestFirst(next, end, func(seq uint64, p *Payment) bool {
		if p.Direction != PaymentForwarded {
			return true
		}
		if len(list) == limit {
			last = seq + 1
			return false
		}
		list = append(list, *p)
		return true
	})
	if last > oldest {
		nextPage = seqKey(last)
	}
	return list, nextPage, from, err
}
