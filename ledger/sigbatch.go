package ledger

import (
	"crypto/sha256"
	"crypto/sha3"
	"crypto/sha512"

	"github.com/oasisprotocol/curve25519-voi/curve"
	"github.com/oasisprotocol/curve25519-voi/curve/scalar"
)

const (
	// sigChunk is how many signatures are verified in one equation at most: more save nothing worth the memory, see docs/performance.md.
	// Few signatures are cut into sigPieces equations, so that there is one for each of some cores, of sigLeast at least: where there is
	// more to do than cores, smaller ones cost a sixth more for nothing.
	sigChunk  = 2048
	sigPieces = 4
	sigLeast  = 1024
	// sigAlone is from where on signatures of a set with a bad one in it are verified one by one. So are all that are left after
	// sigFailed equations of a set have failed: halving finds a few bad ones fast, but makes many of them dearer.
	sigAlone  = 16
	sigFailed = 16
)

// sigItem is one signature of a batch: of prev and msg by key. holds receives the result. point is the key's,
// or nil; then it may receive what was decoded.
type sigItem struct {
	key   *[32]byte
	point *keyPoint
	prev  []byte
	msg   []byte
	sig   *[64]byte
	holds *bool
}

// eachSet cuts n signatures into sets of about the same size.
func eachSet(w Workers, n int, do func(from, to int)) {
	sets := max(min(n/sigLeast, sigPieces), (n+sigChunk-1)/sigChunk, 1)
	eachChunk(w, n, max((n+sets-1)/sets, 1), do)
}

// sigSet is the equation of one set (ZIP-215: cofactored, canonical S, any encoding of points): with coefficients z, R from the
// signature, k the hash that was signed and A the key,
//
//	8 * (sum z R + sum (z k) A - (sum z S) B) = 0
//
// where what is multiplied with the same key is added up first: most sets hold many signatures of few accounts.
type sigSet struct {
	items  []sigItem
	r      []curve.EdwardsPoint
	z, k   []scalar.Scalar
	s      []scalar.Scalar
	keyOf  []int
	keys   []*keyPoint
	number map[[32]byte]int // of a key; -1 when it is none
	failed int              // equations
}

// verifySet verifies signatures in one equation. It is fastest where those of one key stand side by side.
func verifySet(items []sigItem) {
	if len(items) < batchMin {
		for i := range items {
			items[i].alone()
		}
		return
	}
	n := len(items)
	b := &sigSet{r: make([]curve.EdwardsPoint, n), z: make([]scalar.Scalar, n), k: make([]scalar.Scalar, n),
		s: make([]scalar.Scalar, n), keyOf: make([]int, n), number: make(map[[32]byte]int)}
	b.items = b.read(items)
	b.verify(0, len(b.items))
}

// read takes the signatures apart, answers those that no equation can hold for, and makes the coefficients from a hash of all that is
// verified: nobody can choose signatures after them, and every node computes the same.
func (b *sigSet) read(items []sigItem) []sigItem {
	seed := sha256.New()
	good := make([]sigItem, 0, len(items))
	var buf []byte
	var last *[32]byte
	number := 0
	for at := range items {
		it, i := &items[at], len(good)
		if last == nil || *it.key != *last {
			number, last = b.keyNumber(it), it.key
		}
		b.keyOf[i] = number
		_, err := b.r[i].SetCompressedY((*curve.CompressedEdwardsY)(it.sig[:32]))
		if *it.holds = err == nil && b.keyOf[i] >= 0 && scalar.ScMinimalVartime(it.sig[32:]); !*it.holds {
			continue
		}
		buf = append(append(append(append(buf[:0], it.sig[:32]...), it.key[:]...), it.prev...), it.msg...)
		h := sha512.Sum512(buf)
		seed.Write(h[:])
		seed.Write(it.sig[32:])
		mustScalar(b.k[i].SetBytesModOrderWide(h[:]))
		mustScalar(b.s[i].SetBits(it.sig[32:]))
		good = append(good, *it)
	}
	stream := sha3.NewSHAKE128()
	stream.Write(seed.Sum(nil))
	var z [scalar.ScalarSize]byte
	for i := range good {
		stream.Read(z[:len(z)/2])
		mustScalar(b.z[i].SetBits(z[:]))
	}
	return good
}

func mustScalar(_ *scalar.Scalar, err error) {
	if err != nil { // only for a wrong length
		panic(err)
	}
}

// keyNumber numbers the keys of the set; a key that is no point has number -1.
func (b *sigSet) keyNumber(it *sigItem) int {
	n, ok := b.number[*it.key]
	if !ok {
		if it.point == nil {
			it.point = newKeyPoint(it.key)
		}
		if n = -1; it.point != nil {
			n = len(b.keys)
			b.keys = append(b.keys, it.point)
		}
		b.number[*it.key] = n
	}
	return n
}

// verify answers the signatures from..to: all at once when all hold, else by halves.
func (b *sigSet) verify(from, to int) {
	if to-from < sigAlone || b.failed >= sigFailed {
		for i := from; i < to; i++ {
			b.items[i].alone()
		}
		return
	}
	if b.equation(from, to) {
		return
	}
	b.failed++
	middle := (from + to) / 2
	b.verify(from, middle)
	b.verify(middle, to)
}

func (b *sigSet) equation(from, to int) bool {
	var base, product scalar.Scalar
	sums := make([]scalar.Scalar, len(b.keys))
	used := make([]bool, len(b.keys))
	scalars, points := make([]*scalar.Scalar, 1, 1+to-from+len(b.keys)), make([]*curve.EdwardsPoint, 1, 1+to-from+len(b.keys))
	scalars[0], points[0] = &base, curve.ED25519_BASEPOINT_POINT
	for i := from; i < to; i++ {
		base.Add(&base, product.Mul(&b.z[i], &b.s[i]))
		sum := &sums[b.keyOf[i]]
		sum.Add(sum, product.Mul(&b.z[i], &b.k[i]))
		used[b.keyOf[i]] = true
		scalars, points = append(scalars, &b.z[i]), append(points, &b.r[i])
	}
	base.Neg(&base)
	for k := range sums {
		if used[k] {
			scalars, points = append(scalars, &sums[k]), append(points, &b.keys[k].point)
		}
	}
	var sum curve.EdwardsPoint
	return sum.MultiscalarMulVartime(scalars, points).IsSmallOrder()
}

// alone verifies one signature.
func (it *sigItem) alone() {
	c := sigCheck{key: *it.key, msg: append(it.prev[:len(it.prev):len(it.prev)], it.msg...), sig: *it.sig}
	*it.holds = c.verify()
}
