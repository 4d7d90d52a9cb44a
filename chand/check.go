package chand

import (
	"errors"
	"fmt"
	"strings"

	"github.com/eschaton-network/chand/chand/backup"
	"github.com/eschaton-network/chand/chand/library"
	"github.com/eschaton-network/chand/chand/stamper"
	"github.com/eschaton-network/chand/chand/tower"
	"github.com/eschaton-network/chand/channel"
	"github.com/eschaton-network/chand/route"
	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/wire"
)

// Reader is the part of a Store that Check needs.
type Reader interface {
	Get(bucket, key string) ([]byte, error)
	Scan(bucket, prefix string, fn func(key string, value []byte) error) error
}

// Check verifies every invariant of a stopped daemon's store: all records read, every channel's own invariants hold, every open lock
// has its record, and records agree with what they refer to. It changes nothing and joins all that it finds; each wraps ErrCheck.
func Check(s Reader) error {
	c := checker{s: s, channels: map[types.ChannelID]channel.State{}}
	c.states()
	c.outbox()
	c.locks()
	c.payments()
	c.streams()
	c.others()
	if err := errors.Join(tower.Check(s), backup.Check(s)); err != nil {
		c.bad("%w", err)
	}
	return errors.Join(c.found...)
}

type checker struct {
	s        Reader
	channels map[types.ChannelID]channel.State
	found    []error
}

func (c *checker) bad(format string, args ...any) {
	c.found = append(c.found, fmt.Errorf("%w: %w", ErrCheck, fmt.Errorf(format, args...)))
}

// each reads every record of a bucket.
func each[T any](c *checker, bucket string, fn func(key string, v T)) {
	err := c.s.Scan(bucket, "", func(key string, b []byte) error {
		v, err := decodeRecord[T](b)
		if err != nil {
			c.bad("%s/%s: %w", bucket, key, err)
			return nil
		}
		fn(key, v)
		return nil
	})
	if err != nil {
		c.bad("%s: %w", bucket, err)
	}
}

func (c *checker) states() {
	err := c.s.Scan(bucketChannel, "", func(key string, b []byte) error {
		s, err := channel.Decode(b) // runs State.Check
		switch {
		case err != nil:
			c.bad("channel/%s: %w", key, err)
		case stateKey(&s).String() != key:
			c.bad("channel/%s holds the state of %s", key, stateKey(&s))
		default:
			c.channels[stateKey(&s)] = s
		}
		return nil
	})
	if err != nil {
		c.bad("channels: %w", err)
	}
	info := map[string]bool{}
	each(c, bucketChanInfo, func(key string, _ chanRecord) { info[key] = true })
	for id := range c.channels {
		if !info[id.String()] {
			c.bad("channel/%s has no record in chaninfo", id)
		}
	}
}

func (c *checker) outbox() {
	err := c.s.Scan(bucketOutbox, "", func(key string, b []byte) error {
		m, err := wire.Decode(b)
		u, ok := m.(*wire.Update)
		if err != nil || !ok {
			c.bad("outbox/%s is not an update: %v", key, err)
			return nil
		}
		s, known := c.channels[u.ID]
		if !known || key != outboxKey(u.ID, u.Version) || u.Version > s.Current.Number {
			c.bad("outbox/%s: version %d does not belong to a channel at version %d", key, u.Version, s.Current.Number)
		}
		return nil
	})
	if err != nil {
		c.bad("outbox: %w", err)
	}
}

// locks wants a record for every open lock of an open channel, on the right side.
func (c *checker) locks() {
	out, in := map[string]outgoingRecord{}, map[string]incomingRecord{}
	each(c, bucketOutgoing, func(key string, v outgoingRecord) { out[key] = v })
	each(c, bucketIncoming, func(key string, v incomingRecord) { in[key] = v })
	for id, s := range c.channels {
		for _, l := range s.Current.Locks {
			if s.Phase != channel.PhaseOpen {
				continue // what settles on chain may have left the records already
			}
			key := lockKey(id, l.ID)
			var hash types.Hash
			var ok bool
			if l.Funder == s.Side {
				var r outgoingRecord
				r, ok = out[key]
				hash = r.Hash
			} else {
				var r incomingRecord
				r, ok = in[key]
				hash = r.Hash
			}
			if !ok || hash != l.Hash {
				c.bad("channel %s: lock %d (funder %d, mine is %d) of %s has no matching record", id, l.ID, l.Funder, s.Side, l.Amount)
			}
		}
	}
	for key, r := range out {
		id, _, err := parseLockKey(key)
		if _, ok := c.channels[id]; err != nil || !ok {
			c.bad("outgoing/%s belongs to no channel", key)
		}
		if r.Kind == kindPayment {
			if b, err := c.s.Get(bucketPayment, seqKey(r.Ref)); err != nil || b == nil {
				c.bad("outgoing/%s: payment %d is not there", key, r.Ref)
			}
		}
	}
	for key, r := range in {
		id, _, err := parseLockKey(key)
		if _, ok := c.channels[id]; err != nil || !ok {
			c.bad("incoming/%s belongs to no channel", key)
		}
		if !r.Preimage.IsZero() && r.Preimage.Hash() != r.Hash {
			c.bad("incoming/%s: the preimage does not open the hash", key)
		}
	}
}

func (c *checker) payments() {
	paying := map[string]bool{}
	each(c, bucketPaying, func(key string, _ bool) { paying[key] = true })
	each(c, bucketPayment, func(key string, p Payment) {
		if (p.State == PaymentPending || p.State == PaymentUnknown) != paying[key] {
			c.bad("payment/%s is %s, but in the list of open payments: %v", key, p.State, paying[key])
		}
		if p.Amount <= 0 || p.Fee < 0 {
			c.bad("payment/%s: amount %s, fee %s", key, p.Amount, p.Fee)
		}
		if !p.Preimage.IsZero() && !p.Hash.IsZero() && p.Preimage.Hash() != p.Hash {
			c.bad("payment/%s: the preimage does not open the hash", key)
		}
		if p.Direction == PaymentSent && p.State == PaymentSucceeded && p.Preimage.IsZero() && p.Text != textNoReceipt {
			c.bad("payment/%s succeeded without a proof", key)
		}
	})
	err := c.s.Scan(bucketPayIndex, "", func(string, []byte) error { return nil })
	if err != nil {
		c.bad("payment index: %w", err)
	}
	each(c, bucketInvoice, func(key string, v invoiceRecord) {
		if v.Preimage.Hash().String() != key {
			c.bad("invoice/%s: the preimage opens another hash", key)
		}
	})
	each(c, bucketEscrow, func(key string, e Escrow) {
		if key != escrowKey(e.ID, e.Role) || e.Amount <= 0 || !e.Preimage.IsZero() && e.Preimage.Hash() != e.ID {
			c.bad("escrow/%s: %s of %s does not fit its key", key, e.ID, e.Amount)
		}
	})
}

// streams wants the records of a stream to add up to its sums. Old parts may have been removed.
func (c *checker) streams() {
	sums := map[string]streamRecord{}
	each(c, bucketStreamPart, func(key string, p streamPart) {
		amounts, err := unpackAmounts(p.Amounts)
		if err != nil || len(amounts) == 0 || p.First == 0 {
			c.bad("streampart/%s: %d payments from number %d: %v", key, len(amounts), p.First, err)
			return
		}
		stream := key[:max(0, strings.LastIndexByte(key, '/'))]
		v := sums[stream]
		v.Parts, v.Count, v.Total = v.Parts+1, v.Count+uint64(len(amounts)), sumUp(v.Total, amounts)
		v.Next, v.Version = max(v.Next, p.First+uint64(len(amounts))), p.Version
		sums[stream] = v
	})
	each(c, bucketStream, func(key string, v streamRecord) {
		sum := sums[key]
		delete(sums, key)
		sent := key == sentStream(v.Stream)
		switch {
		case !sent && key != receivedStream(v.Channel, v.Stream):
			c.bad("stream/%s holds %s", key, v.Stream)
		case sum.Parts > v.Parts || sum.Count > v.Count || sum.Total > v.Total || sum.Next > v.Next || v.Paid >= v.Next:
			c.bad("stream/%s: %d payments of %s up to %d, but its parts have %d of %s up to %d", key, v.Count, v.Total, v.Next, sum.Count, sum.Total, sum.Next)
		case sum.Parts == v.Parts && (sum.Count != v.Count || sum.Total != v.Total || sum.Next != v.Next || sum.Version != v.Version):
			c.bad("stream/%s: %d payments of %s up to %d, but all its parts have %d of %s up to %d", key, v.Count, v.Total, v.Next, sum.Count, sum.Total, sum.Next)
		case sent && v.Count != v.Next-1:
			c.bad("stream/%s: %d payments with numbers up to %d", key, v.Count, v.Next)
		}
		if s, ok := c.channels[v.Channel]; ok && s.Current.Epoch == v.Epoch && v.Version > s.Current.Number {
			c.bad("stream/%s: version %d of channel %s, which is at %d", key, v.Version, v.Channel, s.Current.Number)
		}
	})
	for key := range sums {
		c.bad("streampart/%s belongs to no stream", key)
	}
}

func (c *checker) others() {
	each(c, bucketTx, func(key string, r txRecord) {
		if len(r.IDs) == 0 || types.SHA256(r.Raw) != r.IDs[len(r.IDs)-1] {
			c.bad("tx/%s: the bytes do not belong to the id", key)
		}
	})
	each(c, bucketTxIndex, func(key, seq string) {
		if b, err := c.s.Get(bucketTx, seq); err != nil || b == nil {
			c.bad("txindex/%s: transaction %s is not there", key, seq)
		}
	})
	each(c, bucketService, func(key string, v Service) {
		if key != v.Name {
			c.bad("service/%s holds %q", key, v.Name)
		}
	})
	if err := library.Check(c.s); err != nil {
		c.bad("statements: %w", err)
	}
	if err := stamper.Check(c.s); err != nil {
		c.bad("timestamps: %w", err)
	}
	each(c, bucketReceipt, func(string, receiptRecord) {})
	each(c, bucketPeer, func(string, string) {})
	each(c, bucketTerms, func(string, ChannelTerms) {})
	g := route.NewGraph()
	if err := c.s.Scan(route.Bucket, "", g.Load); err != nil {
		c.bad("%w", err)
	}
}
