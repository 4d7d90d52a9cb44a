package types

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/btcsuite/btcd/address/v2/base58"
	"github.com/btcsuite/btcd/btcec/v2"
)

// Hash is a 32-byte digest. Its text form is lower-case hex in the order of the bytes (not reversed as Bitcoin shows txids).
type Hash [32]byte

func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// IsZero tells whether all bytes are zero, which stands for "none".
func (h Hash) IsZero() bool { return h == Hash{} }

// MarshalText writes hex.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText reads exactly 64 hex digits.
func (h *Hash) UnmarshalText(b []byte) (err error) { *h, err = ParseHash(string(b)); return err }

// ParseHash reads exactly 64 hex digits.
func ParseHash(s string) (Hash, error) {
	var h Hash
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(h) {
		return h, fmt.Errorf("%q is not a hash: want 64 hex digits", clip(s))
	}
	copy(h[:], b)
	return h, nil
}

// SHA256 hashes the concatenation of its arguments.
func SHA256(parts ...[]byte) Hash {
	d := sha256.New()
	for _, p := range parts {
		d.Write(p)
	}
	return Hash(d.Sum(nil))
}

// TaggedHash is the BIP 340 tagged hash: SHA256(SHA256(tag) || SHA256(tag) || parts...). Every hash that
// we sign or use as an id is made with a tag of its own, so that no bytes can mean two things.
func TaggedHash(tag string, parts ...[]byte) Hash {
	t := sha256.Sum256([]byte(tag))
	return SHA256(append([][]byte{t[:], t[:]}, parts...)...)
}

// ChannelID names a channel: the hash that is its contract's outpoint (index 0) on the settlement chain.
type ChannelID = Hash

// Preimage opens a hash lock: SHA-256 of its 32 bytes is the lock's hash.
type Preimage [32]byte

func (p Preimage) String() string { return hex.EncodeToString(p[:]) }

// Hash returns the SHA-256 that the preimage opens.
func (p Preimage) Hash() Hash { return sha256.Sum256(p[:]) }

// IsZero tells whether no preimage is known.
func (p Preimage) IsZero() bool { return p == Preimage{} }

// MarshalText writes hex.
func (p Preimage) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads exactly 64 hex digits.
func (p *Preimage) UnmarshalText(b []byte) error {
	h, err := ParseHash(string(b))
	*p = Preimage(h)
	return err
}

// PubKey is a compressed secp256k1 public key (33 bytes). Not validated until Parse.
type PubKey [33]byte

func (k PubKey) String() string { return hex.EncodeToString(k[:]) }

// Parse decompresses the key; it fails for bytes that are not a point on the curve. About 12 us.
func (k PubKey) Parse() (*btcec.PublicKey, error) { return btcec.ParsePubKey(k[:]) }

// NodeID names a daemon: its secp256k1 node key, which is its libp2p identity and the signer of its
// channel announcements. The text form is the libp2p peer id.
type NodeID PubKey

// peerIDPrefix is multihash(identity, 37 bytes) of the libp2p protobuf {type: Secp256k1, data: 33 bytes}
// (libp2p specs, peer-ids).
var peerIDPrefix = []byte{0x00, 0x25, 0x08, 0x02, 0x12, 0x21}

func (n NodeID) String() string {
	if n == (NodeID{}) {
		return ""
	}
	return base58.Encode(append(append([]byte{}, peerIDPrefix...), n[:]...))
}

// IsZero tells whether no node is named.
func (n NodeID) IsZero() bool { return n == NodeID{} }

// PubKey returns the node's key.
func (n NodeID) PubKey() PubKey { return PubKey(n) }

// MarshalText writes the libp2p peer id.
func (n NodeID) MarshalText() ([]byte, error) { return []byte(n.String()), nil }

// UnmarshalText reads what ParseNodeID reads.
func (n *NodeID) UnmarshalText(b []byte) (err error) { *n, err = ParseNodeID(string(b)); return err }

// ParseNodeID reads a libp2p peer id of a secp256k1 key ("16Uiu2HA…") or 66 hex digits, and checks that it is a curve point.
func ParseNodeID(s string) (NodeID, error) {
	var n NodeID
	if len(s) > 100 {
		return n, fmt.Errorf("%q… is not a peer id", clip(s))
	}
	if b, err := hex.DecodeString(s); err == nil && len(b) == 33 {
		copy(n[:], b)
	} else {
		b := base58.Decode(s)
		if len(b) != len(peerIDPrefix)+33 || string(b[:len(peerIDPrefix)]) != string(peerIDPrefix) {
			return n, fmt.Errorf("%q is not a peer id: want 16Uiu2HA… as `chancli peer id` prints it, or 66 hex digits", clip(s))
		}
		copy(n[:], b[len(peerIDPrefix):])
	}
	if _, err := PubKey(n).Parse(); err != nil {
		return NodeID{}, fmt.Errorf("peer id %q: %w", clip(s), err)
	}
	return n, nil
}

// AccountID names an account of the ledger: the node that carries it and its number there.
// Text form NNNN-UUUUUUUU-CCCC (upper-case hex) with the original's CRC-16 checksum.
type AccountID struct {
	Node uint16
	User uint32
}

// ErrAddress is wrapped by every error of ParseAccountID.
var ErrAddress = errors.New("not a ledger address")

func (a AccountID) String() string {
	return fmt.Sprintf("%04X-%08X-%04X", a.Node, a.User, a.checksum())
}

// IsZero tells whether no account is named (node 0 is a placeholder on the ledger).
func (a AccountID) IsZero() bool { return a == AccountID{} }

// checksum is CRC-16, polynomial 0x1021, initial value 0x1D0F, no reflection, over node(2)||user(4) big-endian.
func (a AccountID) checksum() uint16 {
	var b [6]byte
	binary.BigEndian.PutUint16(b[:2], a.Node)
	binary.BigEndian.PutUint32(b[2:], a.User)
	crc := uint16(0x1D0F)
	for _, c := range b {
		crc ^= uint16(c) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
	}
	return crc
}

// ParseAccountID reads an address. XXXX in place of the checksum skips the check, as in the original.
func ParseAccountID(s string) (AccountID, error) {
	p := strings.Split(s, "-")
	if len(s) != 18 || len(p) != 3 || len(p[0]) != 4 || len(p[1]) != 8 {
		return AccountID{}, fmt.Errorf("%w: %q: want NNNN-UUUUUUUU-CCCC in hex", ErrAddress, clip(s))
	}
	n, err1 := strconv.ParseUint(p[0], 16, 16)
	u, err2 := strconv.ParseUint(p[1], 16, 32)
	if err1 != nil || err2 != nil {
		return AccountID{}, fmt.Errorf("%w: %q: want NNNN-UUUUUUUU-CCCC in hex", ErrAddress, s)
	}
	a := AccountID{uint16(n), uint32(u)}
	if p[2] == "XXXX" {
		return a, nil
	}
	if c, err := strconv.ParseUint(p[2], 16, 16); err != nil || uint16(c) != a.checksum() {
		return AccountID{}, fmt.Errorf("%w: %q: wrong checksum, check the digits", ErrAddress, s)
	}
	return a, nil
}

// MarshalText writes the address.
func (a AccountID) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText reads an address.
func (a *AccountID) UnmarshalText(b []byte) (err error) {
	*a, err = ParseAccountID(string(b))
	return err
}

// clip bounds what an error repeats of somebody's input.
func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "…"
	}
	return s
}
