package ledger

import (
	"bytes"
	"encoding/binary"

	"github.com/btcsuite/btcd/txscript/v2"
	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/eschaton-network/chand/htlc"
)

const (
	// MaxSpend bounds a serialized Bitcoin transaction: a refund with wire.MaxLocks locks (43 bytes each) fits.
	MaxSpend = 64 << 10
	// MaxSpendInputs and MaxSpendOutputs bound what a spend can make every node do.
	MaxSpendInputs  = 64
	MaxSpendOutputs = 1024
	// minInput, minOutput are the least bytes of each (BIP 144 form), so that counts can be checked before allocation.
	minInput, minOutput = 41, 9
	// minSpendVersion: from version 2 on relative lock times hold (BIP 68); refunds carry their epoch here.
	minSpendVersion = 2
)

// scriptOutput tells whether a script may become an output on the ledger: P2WSH, P2WPKH or P2TR.
func scriptOutput(script []byte) bool {
	return txscript.IsPayToWitnessScriptHash(script) || txscript.IsPayToWitnessPubKeyHash(script) || txscript.IsPayToTaproot(script)
}

// DecodeMsgTx reads a Bitcoin transaction in witness form (BIP 144) strictly: size and counts within the limits above,
// nothing after it, one encoding only. The error is a *Refusal.
func DecodeMsgTx(b []byte) (*btcwire.MsgTx, error) {
	tx, r := decodeMsgTx(b)
	if r != nil {
		return nil, r
	}
	return tx, nil
}

func decodeMsgTx(b []byte) (*btcwire.MsgTx, *Refusal) {
	if len(b) > MaxSpend {
		return nil, refuse(CodeLength, "Bitcoin transaction of %d bytes: at most %d", len(b), MaxSpend)
	}
	if !plausible(b) {
		return nil, refuse(CodeMalformedSpend, "not a Bitcoin transaction in witness form within the limits of %d inputs and %d outputs", MaxSpendInputs, MaxSpendOutputs)
	}
	var tx btcwire.MsgTx
	if err := tx.Deserialize(bytes.NewReader(b)); err != nil {
		return nil, refuse(CodeMalformedSpend, "Bitcoin transaction: %v", err)
	}
	if again := htlc.EncodeTx(&tx); !bytes.Equal(again, b) {
		return nil, refuse(CodeMalformedSpend, "Bitcoin transaction: not in its one valid encoding")
	}
	return &tx, nil
}

// plausible walks a transaction's counts, because the library allocates for the counts it reads: up to 100 MB
// for a few bytes.
func plausible(b []byte) bool {
	r := &reader{b: b}
	r.take(4)
	if r.u8() != btcwire.TxFlagMarker || r.u8() != byte(btcwire.WitnessFlag) {
		return false
	}
	inputs := r.count(MaxSpendInputs, minInput)
	for range inputs {
		r.take(36)
		r.skip(r.count(MaxSpend, 1))
		r.take(4)
	}
	for range r.count(MaxSpendOutputs, minOutput) {
		r.take(8)
		r.skip(r.count(MaxSpend, 1))
	}
	for range inputs {
		for range r.count(MaxSpend, 1) {
			r.skip(r.count(MaxSpend, 1))
		}
	}
	r.take(4)
	return !r.short && r.at == len(b) && inputs > 0
}

// count reads a Bitcoin varint of at most limit items that take at least size bytes each.
func (r *reader) count(limit, size int) int {
	var n uint64
	switch d := r.u8(); d {
	case 0xfd:
		n = uint64(r.u16())
	case 0xfe:
		n = uint64(r.u32())
	case 0xff:
		n = binary.LittleEndian.Uint64(r.take(8))
	default:
		n = uint64(d)
	}
	if n > uint64(limit) || !r.fits(int(n), size) {
		r.short = true
		return 0
	}
	return int(n)
}

func (r *reader) skip(n int) {
	if r.fits(n, 1) {
		r.at += n
	}
}
