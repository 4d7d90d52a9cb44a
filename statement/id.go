package statement

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"

	"github.com/eschaton-network/chand/types"
)

// ID names a statement: the SHA-256 of its bytes. The text form is the CID (version 1, dag-cbor, sha2-256, base32).
type ID types.Hash

// IDOf computes the id of a statement's bytes.
func IDOf(raw []byte) ID { return sha256.Sum256(raw) }

func (id ID) cid() cid.Cid {
	mh, err := multihash.Encode(id[:], multihash.SHA2_256)
	if err != nil { // only for an unknown hash function
		panic(err)
	}
	return cid.NewCidV1(cid.DagCBOR, mh)
}

func (id ID) String() string { return id.cid().String() }

// IsZero tells whether no statement is named.
func (id ID) IsZero() bool { return id == ID{} }

// MarshalText writes the CID.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads what ParseID reads.
func (id *ID) UnmarshalText(b []byte) (err error) { *id, err = ParseID(string(b)); return err }

// ParseID reads a CID of a statement in base32 ("bafyrei…").
func ParseID(s string) (ID, error) {
	if len(s) == 0 || len(s) > 100 {
		return ID{}, fmt.Errorf("%w: %q is no statement id: want a CID like bafyrei…", ErrFormat, clip(s))
	}
	c, err := cid.Decode(s)
	if err != nil {
		return ID{}, fmt.Errorf("%w: %q is no statement id: %w", ErrFormat, clip(s), err)
	}
	id, err := idFromCID(c)
	if err == nil && id.String() != s {
		err = fmt.Errorf("%w: %q is not in base32: want %s", ErrFormat, clip(s), id)
	}
	return id, err
}

func idFromCID(c cid.Cid) (ID, error) {
	p := c.Prefix()
	if p.Version != 1 || p.Codec != cid.DagCBOR || p.MhType != multihash.SHA2_256 || p.MhLength != 32 {
		return ID{}, fmt.Errorf("%w: CID %s is not one of a statement: want version 1, dag-cbor, sha2-256", ErrFormat, c)
	}
	return ID(c.Hash()[2:]), nil
}

// linkPrefix is a dag-cbor link to a statement: tag 42 over 37 bytes, of which the first is the identity multibase and
// the next four are the CID's version, codec, hash function and length.
var linkPrefix = []byte{0xd8, 0x2a, 0x58, 0x25, 0x00, 0x01, 0x71, 0x12, 0x20}

// MarshalCBOR writes a dag-cbor link.
func (id ID) MarshalCBOR() ([]byte, error) { return append(bytes.Clone(linkPrefix), id[:]...), nil }

// UnmarshalCBOR reads a dag-cbor link.
func (id *ID) UnmarshalCBOR(b []byte) error {
	rest, ok := bytes.CutPrefix(b, linkPrefix)
	if !ok || len(rest) != len(id) {
		return fmt.Errorf("%w: %x is no link to a statement", ErrFormat, b[:min(len(b), 16)])
	}
	copy(id[:], rest)
	return nil
}

// Key is an ed25519 public key that signs statements. The text form is "ed25519:" and 64 hex digits.
type Key [32]byte

const keyPrefix = "ed25519:"

func (k Key) String() string { return keyPrefix + hex.EncodeToString(k[:]) }

// IsZero tells whether no key is named.
func (k Key) IsZero() bool { return k == Key{} }

// MarshalText writes the text form.
func (k Key) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads what ParseKey reads.
func (k *Key) UnmarshalText(b []byte) (err error) { *k, err = ParseKey(string(b)); return err }

// ParseKey reads "ed25519:" and 64 lower-case hex digits.
func ParseKey(s string) (Key, error) {
	var k Key
	h, ok := strings.CutPrefix(s, keyPrefix)
	b, err := hex.DecodeString(h)
	if !ok || err != nil || len(b) != len(k) || strings.ToLower(h) != h {
		return k, fmt.Errorf("%w: %q is no statement key: want ed25519: and 64 hex digits", ErrFormat, clip(s))
	}
	copy(k[:], b)
	return k, nil
}

// Signature is 64 bytes: ed25519 (RFC 8032) or BIP 340, as its field says. The text form is hex.
type Signature [64]byte

func (s Signature) String() string { return hex.EncodeToString(s[:]) }

// MarshalText writes hex.
func (s Signature) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads exactly 128 hex digits.
func (s *Signature) UnmarshalText(b []byte) error {
	raw, err := hex.DecodeString(string(b))
	if err != nil || len(raw) != len(s) {
		return fmt.Errorf("%w: %q is no signature: want 128 hex digits", ErrFormat, clip(string(b)))
	}
	copy(s[:], raw)
	return nil
}

// clip bounds what an error repeats of somebody's input.
func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "…"
	}
	return s
}
