package types

import (
	"encoding/hex"
	"fmt"
)

// OnionKey is the public key with which payers make the layer of an onion packet that its owner reads: a point of the group
// ristretto255 in its canonical encoding (RFC 9496, section 4.3.2). It is not the node's identity: a node says under its signature which
// onion key it has, in channel policies and invoices. Whether the bytes are a point is checked where an onion is made.
type OnionKey [32]byte

func (k OnionKey) String() string { return hex.EncodeToString(k[:]) }

// IsZero tells whether no key is known. All zeros encode the neutral element, which is nobody's key.
func (k OnionKey) IsZero() bool { return k == OnionKey{} }

// MarshalText writes hex.
func (k OnionKey) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads exactly 64 hex digits.
func (k *OnionKey) UnmarshalText(b []byte) error {
	raw, err := hex.DecodeString(string(b))
	if err != nil || len(raw) != len(k) {
		return fmt.Errorf("%q is not an onion key: want 64 hex digits", clip(string(b)))
	}
	copy(k[:], raw)
	return nil
}
