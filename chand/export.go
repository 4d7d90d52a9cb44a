package chand

import (
	"fmt"

	"github.com/eschaton-network/chand/channel"
	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

// Accounts of the books. Money that this daemon has is positive in assets; what it earns is negative in income.
const (
	accountLedger       = "assets:ledger"
	accountForwarding   = "income:forwarding"
	accountRouting      = "expenses:routing"
	accountLedgerFees   = "expenses:ledger-fees"
	accountClosed       = "expenses:closed-channels" // what was lost, or (negative) won, when a channel closed by force
	accountCounterparty = "counterparty:"
)

func accountChannel(id types.ChannelID) string { return "assets:channels:" + id.String() }

// Posting is money that one account gets, or (negative) gives.
type Posting struct {
	Account string
	Amount  types.Amount
}

// Entry is something that moved money, as postings that add up to zero.
type Entry struct {
	Time types.Time
	// Kind is "sent", "received", "forwarded", "escrow", "stream", "ledger", "open" or "close"; Ref a hash or an id.
	Kind, Ref, Memo string
	Postings        []Posting
}

// add posts to an account; nothing is not posted.
func (e *Entry) add(account string, a types.Amount) {
	if a != 0 {
		e.Postings = append(e.Postings, Posting{account, a})
	}
}

// rest posts what is missing to zero.
func (e *Entry) rest(account string) {
	var sum types.Amount
	for _, p := range e.Postings {
		sum += p.Amount
	}
	e.add(account, -sum)
}

// Export calls fn for every entry from since on: payments by number, then escrows, streams, channels and ledger transactions. It reads a
// bounded number of records at a time, so that money may move meanwhile. What is still under way is not in the books yet. An error of fn ends it.
func (d *Daemon) Export(since types.Time, fn func(Entry) error) error {
	give := func(e Entry) error {
		if e.Time < since || len(e.Postings) == 0 {
			return nil
		}
		return fn(e)
	}
	next, oldest := d.payNumbers()
	for seq := oldest; seq < next; seq++ {
		p, ok, err := load[Payment](d.Store, bucketPayment, seqKey(seq))
		if err != nil {
			return err
		}
		if ok && p.State != PaymentPending && p.State != PaymentUnknown {
			if err := give(p.entry()); err != nil {
				return err
			}
		}
	}
	if err := exportBucket(d.Store, bucketEscrow, "", give, Escrow.entry); err != nil {
		return err
	}
	for _, way := range []string{"sent/", "received/"} {
		sign := types.Amount(1)
		if way == "sent/" {
			sign = -1
		}
		if err := exportBucket(d.Store, bucketStream, way, give, func(r streamRecord) Entry { return r.entry(sign) }); err != nil {
			return err
		}
	}
	if err := d.exportChannels(give); err != nil {
		return err
	}
	return exportBucket(d.Store, bucketTx, "", give, func(r txRecord) Entry { return r.entry(d.Account()) })
}

// exportBucket reads a 16th of a bucket with keys in hex at a time: entries are given after the scan, which must not be held up.
func exportBucket[T any](s Store, bucket, prefix string, give func(Entry) error, entry func(T) Entry) error {
	for digit := range 16 {
		var list []Entry
		err := loadAll(s, bucket, prefix+fmt.Sprintf("%x", digit), func(_ string, v T) error {
			list = append(list, entry(v))
			return nil
		})
		if err != nil {
			return err
		}
		for _, e := range list {
			if err := give(e); err != nil {
				return err
			}
		}
	}
	return nil
}

// entry of a payment that is over.
func (p *Payment) entry() Entry {
	e := Entry{Time: p.Settled, Kind: p.Direction, Memo: p.Memo}
	if !p.Hash.IsZero() {
		e.Ref = p.Hash.String()
	}
	for _, m := range p.Over {
		e.add(accountChannel(m.Channel), m.Amount)
	}
	if p.Direction == PaymentForwarded {
		e.rest(accountForwarding)
		return e
	}
	if p.Direction == PaymentSent && p.State == PaymentSucceeded {
		if a := p.Attempt; a != nil {
			e.add(accountChannel(a.Channel), -p.Amount)
		}
		for _, a := range p.Parts {
			e.add(accountChannel(a.Channel), -a.Amount-a.Fee-a.Reserve)
		}
		if c := p.Circle; c != nil {
			e.add(accountChannel(c.In), p.Amount)
		}
	}
	if p.Direction == PaymentSent {
		e.add(accountRouting, p.Fee+p.Reserve)
	}
	e.rest(accountCounterparty + p.Peer.String())
	return e
}

// entry of an escrow that is over.
func (v Escrow) entry() Entry {
	e := Entry{Time: v.Closed, Kind: "escrow", Ref: v.ID.String(), Memo: v.Memo}
	switch {
	case !v.final():
	case v.Role == rolePayee && v.State == EscrowReleased:
		e.add(accountChannel(v.Channel), v.Amount)
	case v.Role == rolePayer && v.State == EscrowReleased:
		e.add(accountChannel(v.Channel), -v.Amount-v.Fee-v.Reserve)
		e.add(accountRouting, v.Fee+v.Reserve)
	case v.Role == rolePayer:
		e.add(accountChannel(v.Channel), -v.Reserve)
		e.add(accountRouting, v.Reserve)
	}
	e.rest(accountCounterparty + v.Peer.String())
	return e
}

// entry of a stream: one for all its payments, at the time of the newest.
func (r *streamRecord) entry(sign types.Amount) Entry {
	e := Entry{Time: r.Changed, Kind: "stream", Ref: r.Stream.String(), Memo: r.Memo}
	e.add(accountChannel(r.Channel), sign*r.Total)
	e.rest(accountCounterparty + r.Peer.String())
	return e
}

// entry of a transaction of the own account: its fee, and what it gave to other accounts. What contracts take and bring is booked with
// their channels.
func (r txRecord) entry(self types.AccountID) Entry {
	e := Entry{Time: r.Time, Kind: "ledger"}
	tx, err := ledger.DecodeTx(r.Raw)
	if r.State != TxConfirmed || err != nil {
		return e
	}
	e.Ref, e.Memo = r.id().String(), r.Kind
	fee := ledger.Fee(tx.From, tx.Body)
	e.add(accountLedgerFees, fee)
	switch b := tx.Body.(type) {
	case ledger.SendOne:
		if b.To != self {
			e.add(accountCounterparty+b.To.String(), b.Amount)
		}
	case ledger.CreateAccount:
		e.add(accountCounterparty+"new-accounts", ledger.NewAccountDeposit)
	}
	e.rest(accountLedger)
	return e
}

// exportChannels books the opening and the end of each channel.
func (d *Daemon) exportChannels(give func(Entry) error) error {
	for digit := range 16 {
		var ids []string
		err := d.Store.Scan(bucketChannel, fmt.Sprintf("%x", digit), func(key string, _ []byte) error {
			ids = append(ids, key)
			return nil
		})
		if err != nil {
			return err
		}
		for _, id := range ids {
			info, ok, err := load[chanRecord](d.Store, bucketChanInfo, id)
			if err != nil || !ok || info.Opened == 0 {
				if err != nil {
					return err
				}
				continue
			}
			raw, err := d.Store.Get(bucketChannel, id)
			if err != nil || raw == nil {
				return err
			}
			s, err := channel.Decode(raw)
			if err != nil {
				return err
			}
			for _, e := range channelEntries(&s, &info) {
				if err := give(e); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// channelEntries books what a channel took from the ledger, and what it paid back once it is over. Locks that ended on the ledger are in the
// books of what they were for, as if they had ended in the channel.
func channelEntries(s *channel.State, info *chanRecord) []Entry {
	open := Entry{Time: info.Opened, Kind: "open", Ref: s.ID.String()}
	open.add(accountChannel(s.ID), s.Funding[s.Side])
	open.rest(accountLedger)
	list := []Entry{open}
	if info.Closed == 0 || s.Phase != channel.PhaseClosed {
		return list
	}
	end := Entry{Time: info.Closed, Kind: "close", Ref: s.ID.String()}
	now, paid := s.Mine(), s.Mine()
	if at := &s.OnChain; !at.Final && at.Epoch == s.Held.Epoch && at.Version == s.Held.Number {
		paid = s.Held.Balance[s.Side]
	}
	for _, o := range s.Outputs {
		known := !o.Lock.Preimage.IsZero()
		if mine := o.Lock.Funder == s.Side; mine != known {
			now, paid = now+o.Lock.Amount, paid+o.Lock.Amount
		}
	}
	end.add(accountChannel(s.ID), -now)
	end.add(accountLedger, paid)
	end.rest(accountClosed)
	return append(list, end)
}

// Balances sums postings by account.
func Balances(list []Entry) map[string]types.Amount {
	sums := map[string]types.Amount{}
	for _, e := range list {
		for _, p := range e.Postings {
			sums[p.Account] += p.Amount
		}
	}
	return sums
}
