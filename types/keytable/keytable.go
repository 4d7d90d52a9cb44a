// Package keytable verifies ECDSA signatures (secp256k1) by keys that sign often, twice as fast as without: the multiples of the
// key that a verification adds up are kept. It handles public data only and is not of constant time.
package keytable

import (
	"github.com/btcsuite/btcd/btcec/v2"
)

const (
	// window is how many bits of the scalar one addition takes in. Wider ones make tables that fall out of the processor's caches.
	window = 6
	half   = 1 << (window - 1) // digits are -half+1 .. half
	// windows cover 256 bits and the carry of the highest digit.
	windows = 256/window + 1
)

// Size is about what a table takes in memory, in bytes.
const Size = windows * half * 80

// point is a multiple of the key, in affine coordinates, normalized.
type point struct{ x, y btcec.FieldVal }

// Table holds the multiples d*2^(window*i)*Q of a key Q for d in 1..half. It never changes and may be shared.
type Table struct {
	multiples [windows][half]point
}

// New makes the table of a valid key. It costs about as much as twenty verifications without one.
func New(key *btcec.PublicKey) *Table {
	all := make([]btcec.JacobianPoint, windows*half)
	var base btcec.JacobianPoint
	key.AsJacobian(&base)
	for i := range windows {
		row := all[i*half : (i+1)*half]
		row[0] = base
		btcec.DoubleNonConst(&row[0], &row[1])
		for d := 2; d < half; d++ {
			btcec.AddNonConst(&row[d-1], &base, &row[d])
		}
		btcec.DoubleNonConst(&row[half-1], &base)
		base.ToAffine() // additions of a point with z = 1 are cheaper
	}
	t := new(Table)
	// One inversion for all: prefix[i] is the product of all z before i (Montgomery's trick). No multiple below the group's order is the
	// point at infinity, so no z is zero.
	prefix := make([]btcec.FieldVal, len(all))
	var product btcec.FieldVal
	product.SetInt(1)
	for i := range all {
		prefix[i] = product
		product.Mul(&all[i].Z)
	}
	product.Inverse()
	for i := len(all) - 1; i >= 0; i-- {
		var inv, inv2 btcec.FieldVal
		inv.Mul2(&product, &prefix[i])
		product.Mul(&all[i].Z)
		inv2.SquareVal(&inv)
		p := &t.multiples[i/half][i%half]
		p.x.Mul2(&all[i].X, &inv2).Normalize()
		p.y.Mul2(&all[i].Y, inv2.Mul(&inv)).Normalize()
	}
	return t
}

// Recovery ids of a signature's point R: its y is odd; its x was reduced by the group's order.
const (
	OddY     = 1
	Overflow = 2
)

// Verify tells whether (r, s) is the key's signature of a hash, and the recovery id of the signature's point (SEC 1, section 4.1.6).
func (t *Table) Verify(hash *[32]byte, r, s *btcec.ModNScalar) (id byte, ok bool) {
	if r.IsZero() || s.IsZero() {
		return 0, false
	}
	var z, w, u1, u2 btcec.ModNScalar
	z.SetByteSlice(hash[:]) // reduced if need be, as FIPS 186-5 does it
	w.InverseValNonConst(s)
	u1.Mul2(&z, &w)
	u2.Mul2(r, &w)
	var sum btcec.JacobianPoint
	btcec.ScalarBaseMultNonConst(&u1, &sum)
	t.add(&u2, &sum)
	if sum.X.IsZero() && sum.Y.IsZero() || sum.Z.IsZero() {
		return 0, false
	}
	sum.ToAffine()
	x := *sum.X.Bytes()
	var got btcec.ModNScalar
	if got.SetBytes(&x) != 0 {
		id |= Overflow
	}
	if sum.Y.IsOdd() {
		id |= OddY
	}
	return id, got.Equals(r)
}

// add adds k*Q to sum, one multiple for each digit of k.
func (t *Table) add(k *btcec.ModNScalar, sum *btcec.JacobianPoint) {
	b := k.Bytes()
	var p, next btcec.JacobianPoint
	p.Z.SetInt(1)
	carry := 0
	for i := range windows {
		d := digit(&b, i) + carry
		carry = 0
		if d > half {
			d, carry = d-2*half, 1
		}
		switch {
		case d == 0:
			continue
		case d > 0:
			m := &t.multiples[i][d-1]
			p.X, p.Y = m.x, m.y
		default:
			m := &t.multiples[i][-d-1]
			p.X = m.x
			p.Y.NegateVal(&m.y, 1).Normalize()
		}
		btcec.AddNonConst(sum, &p, &next)
		*sum = next
	}
}

// digit is bits i*window.. of a big-endian number.
func digit(b *[32]byte, i int) int {
	at := i * window
	v := 0
	for n := 0; n < 2; n++ { // a digit lies in at most two bytes
		if byteAt := at/8 + n; byteAt < 32 {
			v |= int(b[31-byteAt]) << (8 * n)
		}
	}
	return v >> (at % 8) & (2*half - 1)
}
