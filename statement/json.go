package statement

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
)

// view is the JSON form of a statement: the fields of the body, with the id before and the signature behind.
type view struct {
	ID ID `json:"id"`
	Body
	Signature Signature `json:"signature"`
}

// MarshalJSON writes the JSON view. It holds everything, so ParseJSON gives the same bytes again.
func (s *Statement) MarshalJSON() ([]byte, error) {
	return json.Marshal(view{s.ID, s.Body, s.Signature})
}

// ParseJSON reads the JSON view and opens the statement. Unknown fields are refused.
func ParseJSON(b []byte) (*Statement, error) {
	var v view
	if err := unmarshalStrict(b, &v); err != nil {
		return nil, err
	}
	body, err := encMode.Marshal(v.Body)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	raw, err := encMode.Marshal(envelope{Body: body, Sig: v.Signature})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if id := IDOf(raw); id != v.ID {
		return nil, fmt.Errorf("%w: the JSON says id %s, its content has %s", ErrFormat, v.ID, id)
	}
	return Open(raw)
}

// ParseBodyJSON reads the JSON of a body that is yet to be signed; version and issuer may be left out, Sign fills them in.
func ParseBodyJSON(b []byte) (Body, error) {
	var body Body
	return body, unmarshalStrict(b, &body)
}

func unmarshalStrict(b []byte, v any) error {
	if len(b) > 8*MaxSize {
		return fmt.Errorf("%w: JSON of %d bytes, want at most %d", ErrFormat, len(b), 8*MaxSize)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if _, err := d.Token(); err != io.EOF {
		return fmt.Errorf("%w: more behind the JSON object", ErrFormat)
	}
	return nil
}
