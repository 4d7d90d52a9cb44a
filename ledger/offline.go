package ledger

import (
	"fmt"

	"github.com/eschaton-network/chand/types"
)

// SignedBytes are the bytes of a transaction that its signature covers after the account's hash: what a signer that lives elsewhere
// has to be given. The error is a *Refusal when the body could never be accepted.
func SignedBytes(h Head, b Body) ([]byte, error) {
	if h.Time < 0 || h.Time > maxTime {
		return nil, refuse(CodeFuture, "time %d does not fit 32 bits", h.Time)
	}
	if r := b.check(); r != nil {
		return nil, r
	}
	return b.signed(h.marshal(b.kind())), nil
}

// Assemble makes a transaction's bytes of its parts and a signature that was made elsewhere. It does not verify the signature. The
// error is a *Refusal.
func Assemble(h Head, b Body, sig [64]byte) ([]byte, error) {
	signed, err := SignedBytes(h, b)
	if err != nil {
		return nil, err
	}
	return finish(signed, b, sig)
}

// finish puts the signature and the body's tail behind what is signed.
func finish(signed []byte, b Body, sig [64]byte) ([]byte, error) {
	raw := b.tail(append(signed, sig[:]...))
	if len(raw) > MaxTx {
		return nil, refuse(CodeLength, "transaction of %d bytes: at most %d", len(raw), MaxTx)
	}
	return raw, nil
}

// Cost is the money that leaves the sender of such a transaction besides the fee, in units.
func Cost(from types.AccountID, b Body) types.Amount { return b.cost(from) }

// SignatureHolds tells whether a transaction is signed by key as the one after the hash prev of the account's chain.
func (tx *Tx) SignatureHolds(key [32]byte, prev types.Hash) bool {
	c := tx.check(key, prev)
	return c.verify()
}

// ParseRecord reads an account's record as Record.Marshal wrote it. valid tells whether its checksum is that of this account.
func ParseRecord(b []byte, id types.AccountID) (r Record, valid bool, err error) {
	if len(b) != RecordSize {
		return r, false, fmt.Errorf("%w: account record of %d bytes, want %d", ErrOriginal, len(b), RecordSize)
	}
	r = parseHashed((*[recordHashed]byte)(b))
	return r, r.Checksum(id) == types.Hash(b[recordHashed:]), nil
}
