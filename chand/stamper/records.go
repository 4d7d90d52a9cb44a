package stamper

import (
	"errors"
	"fmt"

	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/statement"
	"github.com/eschaton-network/chand/timestamp"
	"github.com/eschaton-network/chand/types"
)

// Bucket is the store's bucket of this package. Keys: "state", "round/" and "anchor/" with a number in hex.
const Bucket = "stamp"

const stateKey = "state"

func roundKey(n uint64) string  { return fmt.Sprintf("round/%016x", n) }
func anchorKey(n uint64) string { return fmt.Sprintf("anchor/%016x", n) }

// stateRecord says how far sealing and anchoring have come.
type stateRecord struct {
	// Last is the newest sealed round, Anchored the newest of those that are in a block, with all before it.
	Last     uint64 `cbor:"1,keyasint"`
	Anchored uint64 `cbor:"2,keyasint"`
	// Seq numbers anchors from 1. While one is under way it holds the values of the rounds Anchored+1..To; else To is 0.
	Seq uint64 `cbor:"3,keyasint"`
	To  uint64 `cbor:"4,keyasint"`
}

// roundRecord is a sealed round.
type roundRecord struct {
	Commitment []byte `cbor:"1,keyasint"`
	// Batch is what was sealed (timestamp.Batch.Encode), until the round is anchored: from then on the commitment is all that
	// its proofs need.
	Batch []byte `cbor:"2,keyasint,omitempty"`
	// Anchor is the number of the anchor with the round's value, 0 before.
	Anchor uint64 `cbor:"3,keyasint,omitempty"`
}

// anchorRecord leads from an anchor to a block.
type anchorRecord struct {
	Tx     []byte       `cbor:"1,keyasint"`
	Height types.Height `cbor:"2,keyasint"`
	// Proof leads from the transaction to the state root (ledger.TxProof, encoded), Bundle to the header with that root.
	Proof  []byte `cbor:"3,keyasint"`
	Bundle []byte `cbor:"4,keyasint,omitempty"`
}

func (a *anchorRecord) path(value, genesis types.Hash) timestamp.AnchorPath {
	return timestamp.AnchorPath{Tx: a.Tx, Offset: timestamp.FindValue(a.Tx, value),
		Ledger: timestamp.Ledger{Genesis: genesis, Height: a.Height, Proof: string(a.Proof), Bundle: string(a.Bundle)}}
}

var errRecord = errors.New("the stored timestamps are damaged")

// put makes a write. Records hold plain types only, so that encoding can't fail.
func put(key string, record any) types.Write {
	b, err := statement.EncodeCBOR(record)
	if err != nil {
		panic(fmt.Sprintf("record %T: %v", record, err))
	}
	return types.Write{Bucket: Bucket, Key: key, Value: b}
}

// load reads a record; ok is false when there is none.
func load[T any](s Reader, key string) (v T, ok bool, err error) {
	raw, err := s.Get(Bucket, key)
	if err != nil || raw == nil {
		return v, false, err
	}
	return decode[T](key, raw)
}

func decode[T any](key string, raw []byte) (v T, ok bool, err error) {
	if err := statement.DecodeCBOR(raw, &v); err != nil {
		return v, false, fmt.Errorf("%w: %s: %w", errRecord, key, err)
	}
	if a, is := any(v).(anchorRecord); is {
		if _, err := ledger.ParseTxProof(a.Proof); err != nil {
			return v, false, fmt.Errorf("%w: %s: %w", errRecord, key, err)
		}
	}
	return v, true, nil
}

// loadRound reads a round that must be there, with its checkpoint.
func loadRound(s Reader, n uint64) (roundRecord, timestamp.Checkpoint, error) {
	r, ok, err := load[roundRecord](s, roundKey(n))
	if err != nil {
		return r, timestamp.Checkpoint{}, err
	}
	if !ok {
		return r, timestamp.Checkpoint{}, fmt.Errorf("%w: round %d is missing", errRecord, n)
	}
	cp, err := r.check(n)
	return r, cp, err
}

// check holds the record against its number; a batch is sealed again, which proves every byte of it.
func (r *roundRecord) check(n uint64) (timestamp.Checkpoint, error) {
	cp, err := timestamp.ParseCommitment(r.Commitment)
	if err == nil && cp.Round != n {
		err = fmt.Errorf("it holds round %d", cp.Round)
	}
	if err == nil && r.Batch != nil {
		var b *timestamp.Batch
		if b, err = timestamp.DecodeBatch(r.Batch); err == nil && b.Checkpoint != cp {
			err = errors.New("its requests do not seal to its commitment")
		}
	}
	if err == nil && (r.Batch == nil) != (r.Anchor != 0) {
		err = errors.New("a round has its requests or its anchor")
	}
	if err != nil {
		return cp, fmt.Errorf("%w: round %d: %w", errRecord, n, err)
	}
	return cp, nil
}
