package query

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
)

// Glob tells whether text matches a pattern in which * stands for any bytes and ? for one. There is no escape.
// Time is at most the product of the lengths.
func Glob(text, pattern string) bool {
	t, p, star, mark := 0, 0, -1, 0
	for t < len(text) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, t
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == text[t]):
			t, p = t+1, p+1
		case star >= 0: // let the last star take one byte more
			mark++
			t, p = mark, star+1
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}

// Bloom is a Bloom filter over texts: it may say that it has what was never added, never the contrary. It tells a peer
// what not to send again: !bloom("…", id).
type Bloom struct {
	hashes byte
	bits   []byte
}

// maxBloomHashes bounds the work of one look-up.
const maxBloomHashes = 16

// NewBloom makes an empty filter for n texts with about one false hit in 100. It has 10 bits a text, at least 64.
func NewBloom(n int) *Bloom { return &Bloom{hashes: 7, bits: make([]byte, max(8, (n*10+7)/8))} }

// position returns the bit for hash i: double hashing over SHA-256.
func (b *Bloom) position(h [32]byte, i uint64) (int, byte) {
	n := binary.BigEndian.Uint64(h[:8]) + i*(binary.BigEndian.Uint64(h[8:16])|1)
	n %= uint64(len(b.bits)) * 8
	return int(n / 8), 1 << (n % 8)
}

// Add puts a text into the filter.
func (b *Bloom) Add(text string) {
	h := sha256.Sum256([]byte(text))
	for i := range uint64(b.hashes) {
		at, bit := b.position(h, i)
		b.bits[at] |= bit
	}
}

// Has tells whether the text may have been added.
func (b *Bloom) Has(text string) bool {
	h := sha256.Sum256([]byte(text))
	for i := range uint64(b.hashes) {
		if at, bit := b.position(h, i); b.bits[at]&bit == 0 {
			return false
		}
	}
	return true
}

// String is the text form: base64url without padding of the number of hashes (one byte) and the bits.
func (b *Bloom) String() string {
	return base64.RawURLEncoding.EncodeToString(append([]byte{b.hashes}, b.bits...))
}

// ParseBloom reads the text form.
func ParseBloom(s string) (*Bloom, error) {
	if len(s) > MaxExpression {
		return nil, fmt.Errorf("%w: bloom filter of %d bytes", ErrQuery, len(s))
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil || len(raw) < 2 || raw[0] == 0 || raw[0] > maxBloomHashes {
		return nil, fmt.Errorf("%w: no bloom filter: want base64url of the number of hashes (1..%d) and the bits", ErrQuery, maxBloomHashes)
	}
	return &Bloom{hashes: raw[0], bits: raw[1:]}, nil
}
