package chand

import (
	"context"
	"fmt"
	"sync"

	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/wire"
)

// States of an own invoice.
const (
	InvoiceOpen    = "open"
	InvoicePaid    = "paid"
	InvoiceExpired = "expired"
)

// Invoice is a payment request as shown.
type Invoice struct {
	Text     string
	Hash     types.Hash
	Amount   types.Amount
	Memo     string
	Payee    types.NodeID
	Created  types.Time
	Expires  types.Time
	State    string // of own invoices; empty for others'
	Settled  types.Time
	Preimage types.Preimage // of own invoices once paid
	PaidBy   types.NodeID   // the neighbour that the money came from
}

// invoiceRecord is an own invoice. Written by CreateInvoice, then once by the runner whose channel it is paid in.
type invoiceRecord struct {
	Text     string         `cbor:"1,keyasint"`
	Preimage types.Preimage `cbor:"2,keyasint"`
	Secret   types.Hash     `cbor:"3,keyasint"`
	Amount   types.Amount   `cbor:"4,keyasint"`
	Memo     string         `cbor:"5,keyasint,omitempty"`
	Created  types.Time     `cbor:"6,keyasint"`
	Expires  types.Time     `cbor:"7,keyasint"`
	Paid     types.Time     `cbor:"8,keyasint,omitempty"`
	PaidBy   types.NodeID   `cbor:"9,keyasint"`
}

func (v *invoiceRecord) show(payee types.NodeID, now types.Time) Invoice {
	i := Invoice{Text: v.Text, Hash: v.Preimage.Hash(), Amount: v.Amount, Memo: v.Memo, Payee: payee, Created: v.Created, Expires: v.Expires, State: InvoiceOpen}
	switch {
	case v.Paid != 0:
		i.State, i.Settled, i.Preimage, i.PaidBy = InvoicePaid, v.Paid, v.Preimage, v.PaidBy
	case now >= v.Expires:
		i.State = InvoiceExpired
	}
	return i
}

// invoices guards against one invoice being paid over two channels at once.
type invoices struct {
	d *Daemon

	mu     sync.Mutex
	claims map[types.Hash]bool // guarded by mu; invoices that a runner is about to save as paid
}

// claim marks an invoice as paid in the runner's commit and gives its preimage, or says why not. secret is checked for payments over
// several hops; in a direct payment the payer is the neighbour itself.
func (s *invoices) claim(b *batch, hash types.Hash, amount types.Amount, secret [32]byte, routed bool, from types.NodeID) (types.Preimage, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	rec, ok, err := load[invoiceRecord](s.d.Store, bucketInvoice, hash.String())
	now := s.d.now()
	switch {
	case err != nil:
		s.d.Log.Error("an invoice can't be read", "hash", hash, "err", err)
		return types.Preimage{}, "the payee can't look the invoice up now"
	case !ok || routed && rec.Secret != types.Hash(secret):
		return types.Preimage{}, "the payee knows no such invoice"
	case rec.Paid != 0 || s.claims[hash]:
		return types.Preimage{}, "the invoice is paid already"
	case now >= rec.Expires:
		return types.Preimage{}, "the invoice has expired"
	case amount != rec.Amount:
		return types.Preimage{}, fmt.Sprintf("the payment is %s, the invoice says %s", amount, rec.Amount)
	}
	s.claims[hash] = true
	rec.Paid, rec.PaidBy = now, from
	b.write(put(bucketInvoice, hash.String(), rec))
	b.then(func() {
		s.mu.Lock()
		delete(s.claims, hash)
		s.mu.Unlock()
		s.d.emit("invoice.paid", "an invoice of "+rec.Amount.String()+" was paid", rec.show(s.d.ID(), now))
	})
	s.d.received(b, Payment{Hash: hash, Amount: amount, Peer: from, Memo: rec.Memo, Preimage: rec.Preimage, Invoice: rec.Text})
	return rec.Preimage, ""
}

// InvoiceRequest asks for an invoice. Seconds 0: the daemon's own setting.
type InvoiceRequest struct {
	Amount  types.Amount
	Memo    string
	Seconds uint32
	Key     string
}

// CreateInvoice makes and saves an invoice. The same key gives the same invoice.
func (d *Daemon) CreateInvoice(ctx context.Context, q InvoiceRequest) (Invoice, error) {
	if q.Amount <= 0 || q.Amount > types.MaxAmount || len(q.Memo) > wire.MaxText || len(q.Key) > maxKey {
		return Invoice{}, refuse(CodeInvalid, "correct the command", "an invoice needs a positive amount, a memo of at most %d bytes and a key of at most %d", wire.MaxText, maxKey)
	}
	if q.Key != "" {
		defer d.keys.lock("invoice/" + q.Key)()
		if hash, ok, err := load[types.Hash](d.Store, bucketPayIndex, "invoice/"+q.Key); err != nil {
			return Invoice{}, err
		} else if ok {
			old, err := d.Invoice(hash)
			if err == nil && (old.Amount != q.Amount || old.Memo != q.Memo) {
				err = conflict(q.Key)
			}
			return old, err
		}
	}
	if q.Seconds == 0 {
		q.Seconds = d.cfg.InvoiceExpiry
	}
	var secret [64]byte
	if err := d.random(secret[:]); err != nil {
		return Invoice{}, err
	}
	now := d.now()
	rec := invoiceRecord{Preimage: types.Preimage(secret[:32]), Secret: types.Hash(secret[32:]), Amount: q.Amount, Memo: q.Memo, Created: now, Expires: now + types.Time(q.Seconds)}
	text, err := d.writeInvoice(&rec)
	if err != nil {
		return Invoice{}, refuse(CodeInvalid, "correct the command", "%w", err)
	}
	rec.Text = text
	hash := rec.Preimage.Hash()
	writes := []types.Write{put(bucketInvoice, hash.String(), rec)}
	if q.Key != "" {
		writes = append(writes, put(bucketPayIndex, "invoice/"+q.Key, hash))
	}
	if err := d.Store.Commit(ctx, writes...); err != nil {
		return Invoice{}, err
	}
	return rec.show(d.ID(), now), nil
}

// Invoice finds an own invoice by its payment hash.
func (d *Daemon) Invoice(hash types.Hash) (Invoice, error) {
	rec, ok, err := load[invoiceRecord](d.Store, bucketInvoice, hash.String())
	if err == nil && !ok {
		err = refuse(CodeNotFound, "it may be another daemon's", "no own invoice with the hash %s", hash)
	}
	if err != nil {
		return Invoice{}, err
	}
	return rec.show(d.ID(), d.now()), nil
}

// DecodeInvoice reads anybody's invoice.
func (d *Daemon) DecodeInvoice(text string) (Invoice, error) {
	inv, err := d.parseInvoice(text)
	if err != nil {
		return Invoice{}, &Error{Code: CodeInvalid, Text: err.Error(), Next: "check the invoice's text", Err: err}
	}
	if inv.Payee == d.ID() {
		if own, err := d.Invoice(inv.Hash); err == nil {
			return own, nil
		}
	}
	return Invoice{Text: text, Hash: inv.Hash, Amount: inv.Amount, Memo: inv.Description, Payee: inv.Payee, Created: inv.Created, Expires: inv.Expires()}, nil
}
