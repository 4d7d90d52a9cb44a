package htlc

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"errors"
	"fmt"

	"github.com/oasisprotocol/curve25519-voi/curve"
	"github.com/oasisprotocol/curve25519-voi/curve/scalar"
	"golang.org/x/crypto/chacha20"

	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/wire"
)

// The layout of a packet: version(1) point(32) hops(hopsSize) MAC(macSize). It is BOLT 4's on another group. MACs are HMAC-SHA256 cut to
// 128 bits (RFC 2104, section 5), which nobody can forge either: with one MAC a hop, that makes room for whole amounts, for channel names
// that can't be imitated, and for blinded paths.
const (
	// onionVersion is none of BOLT 4's, so that neither network reads a packet of the other by mistake.
	onionVersion = 0xe5

	macSize  = 16
	hopsAt   = 1 + 32
	hopsSize = wire.OnionSize - hopsAt - macSize
)

// OnionSecret is the secret behind a node's onion key. Safe for concurrent use.
type OnionSecret struct {
	scalar scalar.Scalar
	key    types.OnionKey
}

// NewOnionSecret makes the secret from 64 uniform bytes (types.Seed.OnionSecret).
func NewOnionSecret(uniform [64]byte) *OnionSecret {
	s := wideScalar(uniform[:])
	return &OnionSecret{*s, encodePoint(baseMul(s))}
}

// Key is the public key.
func (s *OnionSecret) Key() types.OnionKey { return s.key }

var errPoint = errors.New("not a point of ristretto255, or the neutral element")

// CheckOnionKey wants a canonical encoding of a point that is not the neutral element.
func CheckOnionKey(k types.OnionKey) error {
	_, err := decodePoint(k)
	return err
}

// decodePoint refuses the neutral element, with which every secret would be the same.
func decodePoint(b [32]byte) (*curve.RistrettoPoint, error) {
	c := curve.CompressedRistretto(b)
	p, err := new(curve.RistrettoPoint).SetCompressed(&c)
	if err != nil || b == [32]byte{} { // the neutral element has this encoding alone
		return nil, errPoint
	}
	return p, nil
}

func encodePoint(p *curve.RistrettoPoint) [32]byte {
	return [32]byte(*new(curve.CompressedRistretto).SetRistrettoPoint(p))
}

func baseMul(s *scalar.Scalar) *curve.RistrettoPoint {
	return new(curve.RistrettoPoint).MulBasepoint(curve.RISTRETTO_BASEPOINT_TABLE, s)
}

// wideScalar reduces 64 uniform bytes, which leaves no bias.
func wideScalar(b []byte) *scalar.Scalar {
	s, err := scalar.NewFromBytesModOrderWide(b)
	if err != nil {
		panic(err) // only for another length
	}
	return s
}

// sharedSecret is the hash of the Diffie-Hellman point s*p. Constant time in both.
func sharedSecret(tag string, s *scalar.Scalar, p *curve.RistrettoPoint) [32]byte {
	point := encodePoint(new(curve.RistrettoPoint).Mul(p, s))
	return types.TaggedHash(tag, point[:])
}

// Labels of what is derived from secrets; each is used for one purpose.
const (
	tagOnionSecret = "chand/onion secret v1"
	labelSession   = "chand/onion session v1"
	labelPadding   = "chand/onion padding v1"
	labelLayer     = "chand/onion layer v1"
	labelBlinding  = "chand/onion blinding v1"
	labelFailure   = "chand/onion failure v1"
)

// derive gives 64 bytes for a label, independent of those for other labels: HMAC-SHA512 under the secret.
func derive(secret [32]byte, label string) []byte {
	h := hmac.New(sha512.New, secret[:])
	h.Write([]byte(label))
	return h.Sum(nil)
}

// layerKeys are the keys of one hop's layer: of the stream that hides it and of the MAC over it.
type layerKeys struct{ stream, mac [32]byte }

func newLayerKeys(secret [32]byte) layerKeys {
	b := derive(secret, labelLayer)
	return layerKeys{[32]byte(b[:32]), [32]byte(b[32:])}
}

// blindingFactor multiplies the packet's point from this hop to the next, so that the two points can't be linked. It depends on
// the shared secret alone, which is one point for each point of the packet.
func blindingFactor(secret [32]byte) *scalar.Scalar { return wideScalar(derive(secret, labelBlinding)) }

// keyStream is ChaCha20 (RFC 8439) with a zero nonce: every key encrypts once.
func keyStream(key [32]byte) *chacha20.Cipher {
	c, err := chacha20.NewUnauthenticatedCipher(key[:], make([]byte, chacha20.NonceSize))
	if err != nil {
		panic(err) // only for other lengths
	}
	return c
}

// layerMAC authenticates the hops part of a packet, whose size is fixed, and assoc.
func layerMAC(key [32]byte, hops, assoc []byte) (mac [macSize]byte) {
	h := hmac.New(sha256.New, key[:])
	h.Write(hops)
	h.Write(assoc)
	copy(mac[:], h.Sum(nil))
	return mac
}

// equal compares in constant time.
func equal(a, b []byte) bool { return subtle.ConstantTimeCompare(a, b) == 1 }

// layer is one hop's layer as the payer makes it.
type layer struct {
	secret [32]byte
	keys   layerKeys
	frame  []byte // length, payload
	stream []byte // hopsSize + len(frame) + macSize bytes
}

func (l *layer) size() int { return len(l.frame) + macSize }

// fill computes what the hops append to a packet while they peel it, as far as it reaches into the part that the last hop sees. The
// payer needs it for MACs over bytes that are not there yet (Sphinx, section 3.2; BOLT 4, "Filler Generation").
func fill(layers []layer) []byte {
	var filler []byte
	for i := range layers[:len(layers)-1] {
		l := &layers[i]
		filler = append(filler, make([]byte, l.size())...)
		subtle.XORBytes(filler, filler, l.stream[len(l.stream)-len(filler):])
	}
	return filler
}

// wrap writes the layers into a packet from the inside out.
func wrap(packet *[wire.OnionSize]byte, layers []layer, pad [32]byte, assoc []byte) {
	hops := packet[hopsAt : hopsAt+hopsSize]
	clear(hops)
	keyStream(pad).XORKeyStream(hops, hops)
	filler := fill(layers)
	var mac [macSize]byte // zero: the last one
	for i := len(layers) - 1; i >= 0; i-- {
		l := &layers[i]
		copy(hops[l.size():], hops)
		copy(hops, l.frame)
		copy(hops[len(l.frame):], mac[:])
		subtle.XORBytes(hops, hops, l.stream)
		if i == len(layers)-1 {
			copy(hops[hopsSize-len(filler):], filler)
		}
		mac = layerMAC(l.keys.mac, hops, assoc)
	}
	copy(packet[hopsAt+hopsSize:], mac[:])
}

// frame puts the length in front of a payload (BOLT 1 BigSize).
func frame(payload []byte) []byte {
	return append(appendBigSize(nil, uint64(len(payload))), payload...)
}

// unframe reads the frame at the beginning of a layer that also holds a MAC.
func unframe(hops []byte) (payload []byte, next [macSize]byte, size int, err error) {
	n, rest, err := readBigSize(hops)
	if err != nil {
		return nil, next, 0, err
	}
	if n > uint64(len(rest)-macSize) {
		return nil, next, 0, fmt.Errorf("%w: length %d", ErrPayload, n)
	}
	payload, rest = rest[:n], rest[n:]
	return payload, [macSize]byte(rest), len(hops) - len(rest) + macSize, nil
}
