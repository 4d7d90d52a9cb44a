package chand

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/eschaton-network/chand/htlc"
	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/wire"
)

// States of an own invoice.
const (
	InvoiceOpen      = "open"
	InvoicePaid      = "paid"
	InvoiceExpired   = "expired"
	InvoiceCancelled = "cancelled"
)

// Why a payment to us is not taken, in the words that its payer reads.
var (
	errNoInvoice   = errors.New("the payee knows no such invoice")
	errPaidAlready = errors.New("the invoice is paid already")
	errCancelled   = errors.New("the payee has cancelled the invoice")
	errTooLate     = errors.New("the invoice has expired")
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
	Paid     types.Amount   // of own invoices: what came
	Held     types.Amount   // of own invoices: what is held of parts that are here
	// DescriptionHash is SHA-256 of a description that the invoice does not hold.
	DescriptionHash types.Hash
	// Blinded tells of an own invoice that it hides this daemon.
	Blinded bool
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
	// Held are the locks that paid it, when it came in several.
	Held []heldRef `cbor:"10,keyasint,omitempty"`
	// Cancelled is when its maker took it back.
	Cancelled types.Time `cbor:"11,keyasint,omitempty"`
	// Spontaneous: made by the payment itself.
	Spontaneous bool `cbor:"12,keyasint,omitempty"`
	// DescriptionHash stands in the text instead of Memo.
	DescriptionHash types.Hash `cbor:"13,keyasint"`
	// Private: with hints of channels that are not public.
	Private bool `cbor:"14,keyasint,omitempty"`
	// Got is what was paid.
	Got types.Amount `cbor:"15,keyasint,omitempty"`
	// Key is the caller's idempotency key.
	Key string `cbor:"16,keyasint,omitempty"`
	// Blinded: its paths hide who asks. Secret is then the id of these paths, and whoever does not pay over them hears that there
	// is no such invoice.
	Blinded bool `cbor:"17,keyasint,omitempty"`
}

// heldRef names a lock of a peer.
type heldRef struct {
	Channel types.ChannelID `cbor:"1,keyasint"`
	Lock    uint64          `cbor:"2,keyasint"`
}

// takes says whether a payment of the total is for this invoice: what it asks and up to twice as much (BOLT 4), or anything if it asks
// nothing.
func (v *invoiceRecord) takes(total types.Amount) error {
	switch {
	case v.Amount == 0 || total >= v.Amount && total/2 <= v.Amount:
		return nil
	case total < v.Amount:
		return fmt.Errorf("the payment is %s, the invoice says %s", total, v.Amount)
	}
	return fmt.Errorf("the payment is %s, more than twice the %s of the invoice", total, v.Amount)
}

func (v *invoiceRecord) show(payee types.NodeID, now types.Time) Invoice {
	i := Invoice{Text: v.Text, Hash: v.Preimage.Hash(), Amount: v.Amount, Memo: v.Memo, DescriptionHash: v.DescriptionHash, Payee: payee, Created: v.Created, Expires: v.Expires, State: InvoiceOpen, Blinded: v.Blinded}
	switch {
	case v.Paid != 0:
		i.State, i.Settled, i.Preimage, i.PaidBy, i.Paid = InvoicePaid, v.Paid, v.Preimage, v.PaidBy, v.Got
	case v.Cancelled != 0:
		i.State, i.Settled = InvoiceCancelled, v.Cancelled
	case now >= v.Expires:
		i.State = InvoiceExpired
	}
	return i
}

// invoices guards against one invoice being paid over two channels at once, and holds parts until they add up.
type invoices struct {
	d *Daemon

	mu     sync.Mutex
	claims map[types.Hash]bool     // guarded by mu; invoices that a runner is about to save as paid
	sets   map[types.Hash]*heldSet // guarded by mu; parts that wait for others
}

// open finds an invoice that can be paid. begun: a part of the payment came before it expired. secret is the payer's; nil: this
// daemon's owner asks. Called with mu held.
func (s *invoices) open(hash types.Hash, begun bool, secret *[32]byte) (*invoiceRecord, error) {
	rec, ok, err := load[invoiceRecord](s.d.Store, bucketInvoice, hash.String())
	if err == nil && ok && rec.Blinded && secret != nil && rec.Secret != *secret {
		return nil, errNoInvoice
	}
	switch {
	case err != nil:
		s.d.Log.Error("an invoice can't be read", "hash", hash, "err", err)
		return nil, errors.New("the payee can't look the invoice up now")
	case s.claims[hash] || ok && rec.Paid != 0:
		return nil, errPaidAlready
	case !ok:
		return nil, errNoInvoice
	case rec.Cancelled != 0:
		return nil, errCancelled
	case s.d.now() >= rec.Expires && !begun:
		return nil, errTooLate
	}
	return &rec, nil
}

// claim marks an invoice as paid by one Pay operation, in the runner's commit, and gives its preimage, or says why not. Its payer is
// the neighbour itself, so no secret is asked.
func (s *invoices) claim(b *batch, hash types.Hash, amount types.Amount, from types.NodeID) (types.Preimage, *htlc.Failure) {
	s.mu.Lock()
	defer s.mu.Unlock()
	rec, err := s.open(hash, false, new([32]byte))
	if err == nil {
		err = rec.takes(amount)
	}
	if err != nil {
		return types.Preimage{}, detailsFailure("%v", err)
	}
	s.returnAll(hash, detailsFailure("%v", errPaidAlready))
	s.paid(b, hash, rec, amount, from, []Move{{b.state.ID, amount}})
	return rec.Preimage, nil
}

// paid saves an invoice as paid, in the commit that brings the money. Called with mu held.
func (s *invoices) paid(b *batch, hash types.Hash, rec *invoiceRecord, amount types.Amount, from types.NodeID, over []Move) {
	now := s.d.now()
	s.claims[hash] = true
	rec.Paid, rec.PaidBy, rec.Got = now, from, amount
	if !rec.Spontaneous || len(rec.Held) > 0 {
		b.write(put(bucketInvoice, hash.String(), *rec))
	}
	b.then(func() {
		s.mu.Lock()
		delete(s.claims, hash)
		s.mu.Unlock()
		if !rec.Spontaneous {
			s.d.emit("invoice.paid", "an invoice of "+rec.Amount.String()+" was paid", rec.show(s.d.ID(), now))
		}
	})
	s.d.received(b, Payment{Hash: hash, Amount: amount, Peer: from, Memo: rec.Memo, Preimage: rec.Preimage, Invoice: rec.Text, Spontaneous: rec.Spontaneous, Over: over})
}

// CancelInvoice takes an unpaid invoice back: payments of it are refused from then on, and parts that are held go back.
func (d *Daemon) CancelInvoice(ctx context.Context, hash types.Hash) (Invoice, error) {
	err := d.invoices.cancel(ctx, hash)
	if err != nil {
		return Invoice{}, err
	}
	return d.Invoice(hash)
}

func (s *invoices) cancel(ctx context.Context, hash types.Hash) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	rec, err := s.open(hash, true, nil)
	switch {
	case errors.Is(err, errCancelled): // asked for again
		return nil
	case errors.Is(err, errPaidAlready):
		return &Error{Code: CodeAlreadyPaid, Text: err.Error(), Next: "pay it back by a payment of your own, if you agreed to", Money: "it is yours"}
	case errors.Is(err, errNoInvoice):
		return refuse(CodeNotFound, "it may be another daemon's", "no own invoice with the hash %s", hash)
	case err != nil:
		return err
	}
	rec.Cancelled = s.d.now()
	if err := s.d.Store.Commit(ctx, put(bucketInvoice, hash.String(), *rec)); err != nil {
		return err
	}
	s.returnAll(hash, detailsFailure("%v", errCancelled))
	s.d.emit("invoice.cancelled", "an invoice of "+rec.Amount.String()+" was cancelled", rec.show(s.d.ID(), s.d.now()))
	return nil
}

// InvoiceRequest asks for an invoice.
type InvoiceRequest struct {
	// Amount 0: the payer chooses.
	Amount types.Amount
	// Memo, or DescriptionHash of a description that the payer gets by another way.
	Memo            string
	DescriptionHash types.Hash
	// Seconds 0: the daemon's own setting.
	Seconds uint32
	// Private tells the payer of channels that are not public.
	Private bool
	Key     string
	// Blinded: the invoice does not tell who asks, and leads over paths that begin at peers.
	Blinded bool
}

// CreateInvoice makes and saves an invoice. The same key gives the same invoice.
func (d *Daemon) CreateInvoice(ctx context.Context, q InvoiceRequest) (Invoice, error) {
	if q.Amount < 0 || q.Amount > types.MaxAmount || len(q.Memo) > wire.MaxText || len(q.Key) > maxKey || q.Memo != "" && !q.DescriptionHash.IsZero() {
		return Invoice{}, refuse(CodeInvalid, "correct the command", "an invoice has a positive amount or none, a memo of at most %d bytes or the hash of a description, and a key of at most %d", wire.MaxText, maxKey)
	}
	if q.Key != "" {
		defer d.keys.lock("invoice/" + q.Key)()
		if hash, ok, err := load[types.Hash](d.Store, bucketPayIndex, "invoice/"+q.Key); err != nil {
			return Invoice{}, err
		} else if ok {
			old, err := d.Invoice(hash)
			if err == nil && (old.Amount != q.Amount || old.Memo != q.Memo || old.DescriptionHash != q.DescriptionHash || old.Blinded != q.Blinded) {
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
	rec := invoiceRecord{Preimage: types.Preimage(secret[:32]), Secret: types.Hash(secret[32:]), Amount: q.Amount, Memo: q.Memo,
		DescriptionHash: q.DescriptionHash, Private: q.Private, Created: now, Expires: now + types.Time(q.Seconds), Key: q.Key, Blinded: q.Blinded}
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
	v := rec.show(d.ID(), d.now())
	v.Held = d.invoices.held(hash)
	return v, nil
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
	return Invoice{Text: text, Hash: inv.Hash, Amount: inv.Amount, Memo: inv.Description, DescriptionHash: inv.DescriptionHash, Payee: inv.Payee,
		Created: inv.Created, Expires: inv.Expires()}, nil
}
