package chand

import (
	"bytes"
	"fmt"

	"github.com/fxamacker/cbor/v2"
)

// Records on disk are a version byte and deterministic CBOR (RFC 8949 section 4.2.1). Reading is strict: another version, unknown
// fields, other than deterministic bytes, or trailing bytes are errors, never guesses about money.
const recordVersion = 1

// maxRecordItems bounds lists within one record; the longest is the hashes of one timestamp batch.
const maxRecordItems = 1 << 17

var recordEnc, recordDec = recordModes()

func recordModes() (cbor.EncMode, cbor.DecMode) {
	enc, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		panic(err) // constants of this file
	}
	dec, err := cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField, MaxArrayElements: maxRecordItems, MaxMapPairs: maxRecordItems,
		// Text may come from strangers. What could be written can be read again, or the daemon would not start any more.
		UTF8: cbor.UTF8DecodeInvalid,
	}.DecMode()
	if err != nil {
		panic(err)
	}
	return enc, dec
}

func encodeRecord(v any) []byte {
	b, err := recordEnc.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("record %T: %v", v, err)) // records hold only plain types
	}
	return append([]byte{recordVersion}, b...)
}

func decodeRecord[T any](b []byte) (T, error) {
	var v T
	if len(b) == 0 || b[0] != recordVersion {
		return v, fmt.Errorf("record %T: want version %d at the start of %d bytes", v, recordVersion, len(b))
	}
	if err := recordDec.Unmarshal(b[1:], &v); err != nil {
		return v, fmt.Errorf("record %T: %w", v, err)
	}
	if !bytes.Equal(encodeRecord(v), b) {
		return v, fmt.Errorf("record %T: bytes are not in canonical form", v)
	}
	return v, nil
}
