package statement

import (
	"bytes"
	"fmt"
	"reflect"

	"github.com/fxamacker/cbor/v2"
)

// envelope is the block: the body's bytes as they were signed, and the signature.
type envelope struct {
	Body cbor.RawMessage `cbor:"body"`
	Sig  Signature       `cbor:"sig"`
}

var (
	encMode = must(cbor.CoreDetEncOptions().EncMode())
	decMode = must(cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		MaxNestedLevels:   MaxDepth + 8,
		MaxArrayElements:  1024,
		MaxMapPairs:       1024,
		IndefLength:       cbor.IndefLengthForbidden,
		IntDec:            cbor.IntDecConvertSignedOrFail,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
		DefaultMapType:    reflect.TypeFor[map[string]any](),
		FieldNameMatching: cbor.FieldNameMatchingCaseSensitive,
		NaN:               cbor.NaNDecodeForbidden,
		Inf:               cbor.InfDecodeForbidden,
	}.DecMode())
)

// must is for options that are constants of this package.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// Decode reads a statement and checks its form, but no signature. Refused: more than MaxSize bytes, unknown fields, any
// encoding but the deterministic one, trailing bytes, floats, values out of bounds, unknown critical extensions.
func Decode(raw []byte) (*Statement, error) {
	if len(raw) > MaxSize {
		return nil, fmt.Errorf("%w: %d bytes, want at most %d", ErrFormat, len(raw), MaxSize)
	}
	var e envelope
	if err := decodeStrict(raw, &e); err != nil {
		return nil, err
	}
	s := &Statement{ID: IDOf(raw), Signature: e.Sig, raw: bytes.Clone(raw)}
	s.body = bytes.Clone(e.Body)
	if err := decodeStrict(s.body, &s.Body); err != nil {
		return nil, err
	}
	if err := s.check(); err != nil {
		return nil, err
	}
	return s, nil
}

// decodeStrict decodes and refuses whatever would not be encoded to the very same bytes.
func decodeStrict(raw []byte, v any) error {
	if err := decMode.Unmarshal(raw, v); err != nil {
		return fmt.Errorf("%w: %w", ErrFormat, err)
	}
	again, err := encMode.Marshal(v)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if !bytes.Equal(raw, again) {
		return fmt.Errorf("%w: not in the deterministic encoding (RFC 8949 section 4.2.1)", ErrFormat)
	}
	return nil
}

// EncodeCBOR and DecodeCBOR are the one canonical encoding of everything that this project signs or hashes beside
// ledger and channel transactions; the query messages and oracle statements use them.

// EncodeCBOR writes v in deterministic CBOR.
func EncodeCBOR(v any) ([]byte, error) { return encMode.Marshal(v) }

// DecodeCBOR reads deterministic CBOR into v (a pointer); unknown fields, other encodings and trailing bytes are refused. The
// caller bounds len(raw).
func DecodeCBOR(raw []byte, v any) error { return decodeStrict(raw, v) }
