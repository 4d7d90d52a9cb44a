package chand

import (
	"github.com/eschaton-network/chand/htlc"
	"github.com/eschaton-network/chand/route"
	"github.com/eschaton-network/chand/types"
)

// parseInvoice reads anybody's payment request and verifies its signature.
func (d *Daemon) parseInvoice(text string) (*htlc.PaymentRequest, error) {
	p, err := htlc.DecodeInvoiceWith(text, d.signers.table)
	if err != nil {
		return nil, err
	}
	if len(p.Paths) == 0 { // else the key is for this invoice alone
		d.signers.met(types.PubKey(p.Payee))
	}
	return &p, nil
}

// writeInvoice signs an own invoice. Its description is cut to what an invoice carries; the record keeps the whole memo.
func (d *Daemon) writeInvoice(rec *invoiceRecord) (string, error) {
	p := htlc.PaymentRequest{Amount: rec.Amount, Hash: rec.Preimage.Hash(), Secret: rec.Secret, Created: rec.Created,
		Seconds: uint32(rec.Expires - rec.Created), Description: rec.Memo, FinalDelta: uint32(d.cfg.Timing.MinExpiry(0)),
		MultiPart: true, OnionKey: d.onion.Key(), DescriptionHash: rec.DescriptionHash}
	if rec.Blinded {
		if err := d.blind(rec, &p); err != nil {
			return "", err
		}
		return htlc.EncodeInvoice(p, d.invoiceKey(p.Hash))
	}
	var least types.Height
	p.Hints, least = d.hints(rec.Amount, rec.Private)
	p.FinalDelta = max(p.FinalDelta, uint32(least))
	return htlc.EncodeInvoice(p, d.nodeKey)
}

// expired tells whether the payee does not take the payment any more.
func expired(p *htlc.PaymentRequest, now types.Time) bool { return now >= p.Expires() }

// hintsOf are the ways over channels that are not public, as the path search takes them. The onion names a channel by the same 16 bytes.
func hintsOf(p *htlc.PaymentRequest) [][]route.Hint {
	var list [][]route.Hint
	for _, path := range p.Hints {
		var hints []route.Hint
		for _, h := range path {
			hint := route.Hint{Node: h.Node, Base: h.Base, Millionths: h.PPM, Delta: h.Delta, Reserve: h.Reserve, Max: h.Max, OnionKey: h.OnionKey}
			copy(hint.Channel[:], h.Channel[:])
			hints = append(hints, hint)
		}
		list = append(list, hints)
	}
	return list
}
