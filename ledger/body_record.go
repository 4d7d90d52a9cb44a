package ledger

import (
	"encoding/binary"

	"github.com/eschaton-network/chand/types"
)

const (
	// feeLog is the fee of log_account (E17).
	feeLog types.Amount = 1 << 20
	// MaxPairs bounds the pairs of an AnchorPairs: as many bytes as MaxAnchors hashes.
	MaxPairs = MaxAnchors / 2
)

// LogAccount puts the sender's record, as it is after this transaction, into the block's events. (The original carried the record in
// an unsigned tail; here any record has a proof, so nothing needs to be carried.) 79 bytes.
type LogAccount struct{}

func (LogAccount) kind() byte                        { return TypeLogAccount }
func (LogAccount) check() *Refusal                   { return nil }
func (LogAccount) signed(b []byte) []byte            { return b }
func (LogAccount) tail(b []byte) []byte              { return b }
func (LogAccount) fee(types.AccountID) types.Amount  { return feeLog }
func (LogAccount) cost(types.AccountID) types.Amount { return 0 }
func (LogAccount) verify(*exec) *Refusal             { return nil }
func (LogAccount) apply(x *exec) {
	x.emit(AccountLogged{TxID: x.txID, ID: x.from, Record: x.s.peek(x.from).Marshal(x.from)})
}

func readLogAccount(_ *reader, sig func()) Body {
	sig()
	return LogAccount{}
}

// Pair is a 32-byte value under a 32-byte key.
type Pair struct{ Key, Value types.Hash }

// AnchorPairs puts pairs into a block. What a key means, and which of several values counts, is for those who read it. 81 bytes and 64
// for each.
type AnchorPairs struct{ Pairs []Pair }

func (AnchorPairs) kind() byte                        { return TypeAnchorPairs }
func (AnchorPairs) tail(b []byte) []byte              { return b }
func (AnchorPairs) cost(types.AccountID) types.Amount { return 0 }
func (AnchorPairs) verify(*exec) *Refusal             { return nil }
func (a AnchorPairs) apply(x *exec) {
	x.emit(PairsAnchored{TxID: x.txID, From: x.from, Pairs: a.Pairs})
}

// fee is that of two hashes for each pair.
func (a AnchorPairs) fee(types.AccountID) types.Amount {
	return feeBase + 2*feeAnchor*types.Amount(len(a.Pairs))
}

func (a AnchorPairs) check() *Refusal {
	if len(a.Pairs) == 0 || len(a.Pairs) > MaxPairs {
		return refuse(CodeLength, "%d pairs: want 1..%d", len(a.Pairs), MaxPairs)
	}
	return nil
}

func (a AnchorPairs) signed(b []byte) []byte {
	b = binary.LittleEndian.AppendUint16(b, uint16(len(a.Pairs)))
	for _, p := range a.Pairs {
		b = append(append(b, p.Key[:]...), p.Value[:]...)
	}
	return b
}

func readAnchorPairs(r *reader, sig func()) Body {
	var a AnchorPairs
	if n := int(r.u16()); r.fits(n, 64) {
		a.Pairs = make([]Pair, n)
		for i := range a.Pairs {
			a.Pairs[i] = Pair{Key: r.hash(), Value: r.hash()}
		}
	}
	sig()
	return a
}
