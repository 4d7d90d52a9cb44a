package htlc

import (
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"

	"github.com/oasisprotocol/curve25519-voi/curve"
	"github.com/oasisprotocol/curve25519-voi/curve/scalar"
	"golang.org/x/crypto/chacha20poly1305"

	"github.com/eschaton-network/chand/types"
)

// A blinded path leads to a payee who does not tell who or where it is (BOLT 4, "Route Blinding"). The payer learns the first node of the
// path, the entry, and for each hop a key that belongs to nobody it knows, and bytes that only the hop can read.
//
// Hop i has the onion key P. The payee draws a scalar t for it, the tweak (1 for the entry), and gives the payer t*P as the hop's key. The hop
// before learns t from the payee and multiplies the packet's point by it as well: the payer made the layer with x*(t*P), and the hop computes
// the same as p*(t*x*G). So nothing travels beside the packet, and a hop peels as it always does.
//
// The hop must know that the packet came over the path. Otherwise a payer who guesses the payee could send it the path's bytes directly and
// see whether it takes them. So the payer puts a hash of x*G into the layer, and the hop is told 1/t by the payee and compares. Who sends
// to P directly knows either x*G or the secret, but never both x*G/t and the secret, without t.

const (
	// MaxBlindedHops bounds a blinded path: entry, nodes between, dummies and the payee. So many leave the payer room for three hops of its own.
	MaxBlindedHops = 6
	// BlindedSize is the size of what a hop is told: a point of the payee's, the encrypted HopData, a tag. All are equal, so that the
	// payer can't tell dummies from nodes, nor where the payee stands.
	BlindedSize = 32 + hopDataSize + chacha20poly1305.Overhead

	hopDataSize = 1 + 32 + 32 + 8 + 4
	proofSize   = 16

	maxTermsMillionths = 1_000_000
	maxTermsDelta      = 1 << 23 // as types.Timing allows, several times
	maxTermsReserve    = 1 << 30 // parts in 10^12: a thousandth of the amount a block
	feeDenominator     = 1_000_000

	tagBlindedSecret  = "chand/blinded hop v1"
	tagBlindedProof   = "chand/blinded proof v1"
	labelBlindedPoint = "chand/blinded point v1 "
	labelBlindedKey   = "chand/blinded key v1"
	labelBlindedTweak = "chand/blinded tweak v1"
)

// BlindedData is what one hop is told, encrypted.
type BlindedData [BlindedSize]byte

// BlindedHop is one hop of a blinded path as the payer sees it.
type BlindedHop struct {
	// Key makes the hop's layer: the entry's onion key, or one that belongs to no node.
	Key  types.OnionKey
	Data BlindedData
}

// BlindedPath leads from a known node to an unknown payee. An invoice holds some.
type BlindedPath struct {
	Entry types.NodeID
	// Terms are those of all hops together, as if the path were one channel of the entry's. Min and Max bound the amount that the payee gets.
	Terms    Terms
	Min, Max types.Amount
	// Reserve is the reservation fee of all hops together: parts in 10^12 of the amount a block.
	Reserve uint32
	Hops    []BlindedHop
}

// Terms are what passing a lock on costs.
type Terms struct {
	// Base and Millionths are the fee: base + amount*millionths/10^6 of the outgoing amount.
	Base       types.Amount
	Millionths uint32
	// Delta is how many blocks the outgoing lock expires earlier.
	Delta uint32
}

// HopKind tells what a hop of a blinded path is to do.
type HopKind uint8

const (
	// HopForward: pass the lock on over the channel Next by Terms.
	HopForward HopKind = 1
	// HopDummy: the next hop is this node itself; peel again.
	HopDummy HopKind = 2
	// HopFinal: this node is the payee, and PathID is what it wrote into this path.
	HopFinal HopKind = 3
)

// HopData is what the payee tells one hop of a blinded path.
type HopData struct {
	Kind HopKind
	// Next and Terms are for HopForward alone; a dummy costs nothing.
	Next  ShortID
	Terms Terms
	// PathID is for HopFinal alone: random, so that nobody else can make a path to the payee.
	PathID types.Hash
	// Min is the least amount of the incoming lock, MaxExpiry the last height at which it may expire; a path can't be used, nor
	// probed, for longer.
	Min       types.Amount
	MaxExpiry types.Height

	untweak [32]byte // 1/t of this hop
}

// PathHop is a hop as the payee knows it.
type PathHop struct {
	Key  types.OnionKey // the node's own
	Data HopData
	// Reserve and Max are those of the policy by which the hop passes the lock on; its reservation fee is asked for amounts
	// from Max/(wire.MaxLocks/2) on.
	Reserve uint32
	Max     types.Amount
}

// ErrBlinded is wrapped by every error about blinded paths. At a hop it is always the same.
var ErrBlinded = errors.New("bad blinded path")

var errBlindedHop = fmt.Errorf("%w: it can't carry the payment", ErrBlinded)

// NewBlindedPath is done by the payee: hops lead from the entry to itself, the last one is HopFinal, and dummies before it hide how far
// away it is. session is fresh randomness. least and most bound the amount that arrives, in one part.
func NewBlindedPath(entry types.NodeID, hops []PathHop, session [32]byte, least, most types.Amount) (*BlindedPath, error) {
	if len(hops) == 0 || len(hops) > MaxBlindedHops || session == [32]byte{} {
		return nil, fmt.Errorf("%w: %d hops, or no randomness: want 1 to %d hops", ErrBlinded, len(hops), MaxBlindedHops)
	}
	path := &BlindedPath{Entry: entry, Min: least, Max: most, Hops: make([]BlindedHop, len(hops))}
	tweak := scalar.One()
	for i, hop := range hops {
		if last := i == len(hops)-1; (hop.Data.Kind == HopFinal) != last {
			return nil, fmt.Errorf("%w: hop %d of %d is of kind %d", ErrBlinded, i, len(hops), hop.Data.Kind)
		}
		key, err := decodePoint(hop.Key)
		if err != nil {
			return nil, fmt.Errorf("%w: hop %d: onion key %s: %w", ErrBlinded, i, hop.Key, err)
		}
		if err := scalar.New().Invert(tweak).ToBytes(hop.Data.untweak[:]); err != nil {
			return nil, err
		}
		plain, err := hop.Data.encode()
		if err != nil {
			return nil, fmt.Errorf("hop %d: %w", i, err)
		}
		own := wideScalar(derive(session, labelBlindedPoint+strconv.Itoa(i)))
		secret := sharedSecret(tagBlindedSecret, own, key)
		point := encodePoint(baseMul(own))
		copy(path.Hops[i].Data[:], point[:])
		blindedCipher(secret).Seal(path.Hops[i].Data[32:32], make([]byte, chacha20poly1305.NonceSize), plain, nil)
		path.Hops[i].Key = encodePoint(new(curve.RistrettoPoint).Mul(key, tweak))
		tweak = blindedTweak(secret)
	}
	if err := path.sum(hops); err != nil {
		return nil, err
	}
	return path, path.Check()
}

// blindedCipher encrypts what one hop is told. The nonce is zero: the secret is new for every path and hop.
func blindedCipher(secret [32]byte) cipher.AEAD {
	c, err := chacha20poly1305.New(derive(secret, labelBlindedKey)[:chacha20poly1305.KeySize])
	if err != nil {
		panic(err) // only for another length
	}
	return c
}

// blindedTweak is the tweak of the hop after the one with this secret.
func blindedTweak(secret [32]byte) *scalar.Scalar {
	return wideScalar(derive(secret, labelBlindedTweak))
}

// blindedProof is the payer's commitment to the packet's point as it would be without the tweak.
func blindedProof(point *curve.RistrettoPoint) [proofSize]byte {
	b := encodePoint(point)
	h := types.TaggedHash(tagBlindedProof, b[:])
	return [proofSize]byte(h[:])
}

// openBlinded reads what the payee tells this node, checks that the packet came over the path, and returns what the packet's point is
// multiplied by besides the blinding factor: out with the own tweak, in with the next hop's. Every error is the same, so that nobody can
// learn what was wrong.
func (s *OnionSecret) openBlinded(p *Payload, packet *curve.RistrettoPoint) (*HopData, *scalar.Scalar, error) {
	point, err := decodePoint([32]byte(p.Blinded[:32]))
	if err != nil {
		return nil, nil, errBlindedHop
	}
	secret := sharedSecret(tagBlindedSecret, &s.scalar, point)
	plain, err := blindedCipher(secret).Open(nil, make([]byte, chacha20poly1305.NonceSize), p.Blinded[32:], nil)
	if err != nil {
		return nil, nil, errBlindedHop
	}
	d, err := decodeHopData(plain)
	if err != nil {
		return nil, nil, errBlindedHop
	}
	untweak, err := scalar.NewFromCanonicalBytes(d.untweak[:])
	if err != nil {
		return nil, nil, errBlindedHop
	}
	proof := blindedProof(new(curve.RistrettoPoint).Mul(packet, untweak))
	if !equal(proof[:], p.proof[:]) || (d.Kind == HopFinal) != p.Final() {
		return nil, nil, errBlindedHop
	}
	return d, untweak.Mul(untweak, blindedTweak(secret)), nil
}

func (t *Terms) check() error {
	if t.Base < 0 || t.Base > types.MaxAmount || t.Millionths > maxTermsMillionths || t.Delta > maxTermsDelta {
		return fmt.Errorf("%w: terms %+v are out of range", ErrBlinded, *t)
	}
	return nil
}

func (d *HopData) check() error {
	forward, final := d.Kind == HopForward, d.Kind == HopFinal
	switch {
	case d.Kind < HopForward || d.Kind > HopFinal:
		return fmt.Errorf("%w: kind %d of a hop", ErrBlinded, d.Kind)
	case !forward && (d.Next != ShortID{} || d.Terms != Terms{}) || !final && !d.PathID.IsZero() || final && d.PathID.IsZero():
		return fmt.Errorf("%w: a hop of kind %d has fields of another, or lacks its own", ErrBlinded, d.Kind)
	case d.Min < 0 || d.Min > types.MaxAmount:
		return fmt.Errorf("%w: least amount %d", ErrBlinded, d.Min)
	}
	return d.Terms.check()
}

// encode: kind(1) untweak(32), then next(16) base(8) millionths(4) delta(4) or path id(32), then min(8) max expiry(4), big-endian.
func (d *HopData) encode() ([]byte, error) {
	if err := d.check(); err != nil {
		return nil, err
	}
	b := append(make([]byte, 0, hopDataSize), byte(d.Kind))
	b = append(b, d.untweak[:]...)
	if d.Kind == HopFinal {
		b = append(b, d.PathID[:]...)
	} else {
		b = d.Terms.append(append(b, d.Next[:]...))
	}
	b = binary.BigEndian.AppendUint64(b, uint64(d.Min))
	return binary.BigEndian.AppendUint32(b, uint32(d.MaxExpiry)), nil
}

// decodeHopData reads exactly what encode writes.
func decodeHopData(b []byte) (*HopData, error) {
	if len(b) != hopDataSize {
		return nil, fmt.Errorf("%w: %d bytes", ErrBlinded, len(b))
	}
	d := &HopData{Kind: HopKind(b[0]), untweak: [32]byte(b[1:]), Min: types.Amount(binary.BigEndian.Uint64(b[65:])), MaxExpiry: types.Height(binary.BigEndian.Uint32(b[73:]))}
	if d.Kind == HopFinal {
		d.PathID = types.Hash(b[33:])
	} else {
		d.Next, d.Terms = ShortID(b[33:]), readTerms(b[49:])
	}
	return d, d.check()
}

const termsSize = 8 + 4 + 4

func (t *Terms) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(t.Base))
	b = binary.BigEndian.AppendUint32(b, t.Millionths)
	return binary.BigEndian.AppendUint32(b, t.Delta)
}

func readTerms(b []byte) Terms {
	return Terms{Base: types.Amount(binary.BigEndian.Uint64(b)), Millionths: binary.BigEndian.Uint32(b[8:]), Delta: binary.BigEndian.Uint32(b[12:])}
}
