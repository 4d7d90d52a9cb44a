package wire

import (
	"encoding/binary"
	"fmt"

	"github.com/eschaton-network/chand/types"
)

// Kinds of TowerRequest.
const (
	TowerTerms = 1 // what does it cost, and what is held of this contract?
	TowerBuy   = 2 // an invoice for watching Contract for Blocks more
	TowerPut   = 3 // keep this refund of Contract
)

const (
	// MaxRefund bounds a serialized refund: the ledger takes no larger transaction.
	MaxRefund = 64 << 10
	// MaxInvoiceText bounds an invoice's text in an answer: one with many route hints fits.
	MaxInvoiceText = 8 << 10
	towerHead      = 1 + 32 + 4 + 4
)

// TowerRequest asks a watchtower. Each request has one TowerAnswer.
type TowerRequest struct {
	Kind     uint8
	Contract types.ChannelID
	// Blocks is how long to watch (TowerBuy).
	Blocks uint32
	// Refund is the serialized refund with both signatures (TowerPut).
	Refund []byte
}

// TowerAnswer tells the tower's terms, and what it holds of the contract that was asked about.
type TowerAnswer struct {
	// Price is for watching one contract for a thousand blocks; 0: nothing.
	Price types.Amount
	// Until is the last block for which watching the contract is paid; 0: not at all.
	Until types.Height
	// Epoch and Version are of the refund that the tower has on disk; 0: none.
	Epoch, Version uint32
	// Invoice answers TowerBuy.
	Invoice string
	// Refused says why a request was not done; empty when it was.
	Refused string
}

// Encode returns the request's bytes.
func (q TowerRequest) Encode() []byte {
	b := append(make([]byte, 0, towerHead+len(q.Refund)), q.Kind)
	b = be.AppendUint32(append(b, q.Contract[:]...), q.Blocks)
	return append(be.AppendUint32(b, uint32(len(q.Refund))), q.Refund...)
}

// DecodeTowerRequest parses strictly. Errors wrap ErrMalformed.
func DecodeTowerRequest(b []byte) (q TowerRequest, err error) {
	r := reader{b: b}
	q = TowerRequest{Kind: r.u8(), Contract: r.hash(), Blocks: r.u32(), Refund: r.long(MaxRefund)}
	bare := q.Kind == TowerTerms || q.Kind == TowerBuy
	switch {
	case !bare && q.Kind != TowerPut:
		r.fail("unknown kind of request")
	case bare && q.Refund != nil || q.Kind == TowerPut && q.Refund == nil || (q.Kind == TowerBuy) != (q.Blocks != 0):
		r.fail("fields that don't belong to the kind of request")
	}
	return q, r.end("request to a watchtower")
}

// Encode returns the answer's bytes.
func (a TowerAnswer) Encode() []byte {
	b := appendAmount(nil, a.Price)
	b = be.AppendUint32(b, uint32(a.Until))
	b = be.AppendUint32(be.AppendUint32(b, a.Epoch), a.Version)
	return appendBytes(appendBytes(b, a.Invoice), a.Refused)
}

// DecodeTowerAnswer parses strictly. Errors wrap ErrMalformed.
func DecodeTowerAnswer(b []byte) (a TowerAnswer, err error) {
	r := reader{b: b}
	a = TowerAnswer{Price: r.amount(), Until: types.Height(r.u32()), Epoch: r.u32(), Version: r.u32(), Invoice: string(r.bytes(MaxInvoiceText)), Refused: r.text()}
	return a, r.end("answer of a watchtower")
}

// long reads a byte string with a length of four bytes; nil when empty.
func (r *reader) long(limit int) []byte {
	n := binary.BigEndian.Uint32(r.take(4))
	if uint64(n) > uint64(min(limit, len(r.b))) {
		r.fail("a length exceeds its limit or the message")
		return nil
	}
	if n == 0 {
		return nil
	}
	v := r.b[:n]
	r.b = r.b[n:]
	return append([]byte(nil), v...)
}

// end wants everything to be read, and makes the error.
func (r *reader) end(what string) error {
	if r.err == "" && len(r.b) != 0 {
		r.fail("bytes after the end")
	}
	if r.err != "" {
		return fmt.Errorf("%w: %s: %s", ErrMalformed, what, r.err)
	}
	return nil
}
