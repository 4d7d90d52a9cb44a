package keytable

import (
	"crypto/sha256"
	"encoding/binary"
	"testing"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/btcec/v2/ecdsa"
)

func keyOf(n uint64) *btcec.PrivateKey {
	h := sha256.Sum256(binary.BigEndian.AppendUint64([]byte("key"), n))
	k, _ := btcec.PrivKeyFromBytes(h[:])
	return k
}

func split(t testing.TB, compact []byte) (id byte, r, s btcec.ModNScalar) {
	t.Helper()
	if r.SetByteSlice(compact[1:33]) || s.SetByteSlice(compact[33:]) {
		t.Fatal("a signature out of range")
	}
	return compact[0] - 31, r, s
}

// Every verdict is the library's, for good signatures and for ones with any part changed, and the recovery id is the signer's.
func TestVerifyAgreesWithLibrary(t *testing.T) {
	for k := range uint64(4) {
		key := keyOf(k)
		table := New(key.PubKey())
		for n := range uint64(50) {
			hash := sha256.Sum256(binary.BigEndian.AppendUint64(nil, n))
			want, r, s := split(t, ecdsa.SignCompact(key, hash[:], true))
			if id, ok := table.Verify(&hash, &r, &s); !ok || id != want {
				t.Fatalf("key %d, message %d: %v, id %d, want %d", k, n, ok, id, want)
			}
			bad := hash
			bad[n%32] ^= 1 << (n % 8)
			var one, r2, s2 btcec.ModNScalar
			one.SetInt(uint32(n + 1))
			r2.Add2(&r, &one)
			s2.Add2(&s, &one)
			neg := s
			neg.Negate() // valid too, with the other y
			for _, c := range []struct {
				hash [32]byte
				r, s btcec.ModNScalar
			}{{bad, r, s}, {hash, r2, s}, {hash, r, s2}, {hash, r, neg}, {hash, s, r}, {hash, one, one}} {
				id, got := table.Verify(&c.hash, &c.r, &c.s)
				if lib := ecdsa.NewSignature(&c.r, &c.s).Verify(c.hash[:], key.PubKey()); got != lib {
					t.Fatalf("key %d, message %d: %v, the library says %v", k, n, got, lib)
				} else if got && id != want^OddY {
					t.Fatalf("key %d, message %d: id %d of the negated signature, want %d", k, n, id, want^OddY)
				}
			}
		}
	}
}

// Multiples at the edges: scalars whose digits are all at their bounds, the least, the greatest, and sums that meet or cancel.
func TestEdges(t *testing.T) {
	key := keyOf(9)
	table := New(key.PubKey())
	var q btcec.JacobianPoint
	key.PubKey().AsJacobian(&q)
	var scalars []btcec.ModNScalar
	for _, hex := range []byte{0x00, 0x01, 0x20, 0x21, 0x7f, 0x80, 0x82, 0xfb, 0xff} {
		var b [32]byte
		for i := range b {
			b[i] = hex
		}
		var s btcec.ModNScalar
		s.SetBytes(&b) // reduced
		scalars = append(scalars, s)
		s.Negate()
		scalars = append(scalars, s)
	}
	for i := range uint32(70) {
		var s btcec.ModNScalar
		s.SetInt(i)
		scalars = append(scalars, s)
		s.Negate()
		scalars = append(scalars, s)
	}
	for i := range scalars {
		var got, want btcec.JacobianPoint
		table.add(&scalars[i], &got)
		btcec.ScalarMultNonConst(&scalars[i], &q, &want)
		got.ToAffine()
		want.ToAffine()
		if got != want {
			t.Fatalf("scalar %s: a wrong multiple", scalars[i].String())
		}
		sum := want // k*Q + k*Q meets a doubling, and -k*Q cancels
		table.add(&scalars[i], &sum)
		var double btcec.JacobianPoint
		btcec.DoubleNonConst(&want, &double)
		sum.ToAffine()
		double.ToAffine()
		if sum != double {
			t.Fatalf("scalar %s: a wrong double", scalars[i].String())
		}
		neg := scalars[i]
		neg.Negate()
		table.add(&neg, &want)
		want.ToAffine()
		if !want.X.IsZero() || !want.Y.IsZero() {
			t.Fatalf("scalar %s: k*Q - k*Q is not the point at infinity", scalars[i].String())
		}
	}
	var zero, one btcec.ModNScalar
	one.SetInt(1)
	hash := sha256.Sum256(nil)
	for _, c := range [][2]*btcec.ModNScalar{{&zero, &one}, {&one, &zero}} {
		if _, ok := table.Verify(&hash, c[0], c[1]); ok {
			t.Error("a signature with a zero in it is taken")
		}
	}
}

// FuzzVerify compares verdicts for signatures made of anything.
func FuzzVerify(f *testing.F) {
	key := keyOf(1)
	table := New(key.PubKey())
	hash := sha256.Sum256([]byte("seed"))
	f.Add(hash[:], ecdsa.SignCompact(key, hash[:], true)[1:])
	f.Add(make([]byte, 32), make([]byte, 64))
	f.Fuzz(func(t *testing.T, h, sig []byte) {
		if len(h) != 32 || len(sig) != 64 {
			return
		}
		var r, s btcec.ModNScalar
		if r.SetByteSlice(sig[:32]) || s.SetByteSlice(sig[32:]) {
			return
		}
		_, got := table.Verify((*[32]byte)(h), &r, &s)
		if want := ecdsa.NewSignature(&r, &s).Verify(h, key.PubKey()); got != want {
			t.Fatalf("%v, the library says %v", got, want)
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	key := keyOf(1)
	hash := sha256.Sum256([]byte("message"))
	_, r, s := split(b, ecdsa.SignCompact(key, hash[:], true))
	b.Run("table", func(b *testing.B) {
		table := New(key.PubKey())
		for b.Loop() {
			if _, ok := table.Verify(&hash, &r, &s); !ok {
				b.Fatal("bad")
			}
		}
	})
	b.Run("library", func(b *testing.B) {
		sig, pub := ecdsa.NewSignature(&r, &s), key.PubKey()
		for b.Loop() {
			if !sig.Verify(hash[:], pub) {
				b.Fatal("bad")
			}
		}
	})
	b.Run("recover", func(b *testing.B) {
		c := ecdsa.SignCompact(key, hash[:], true)
		for b.Loop() {
			if _, _, err := ecdsa.RecoverCompact(c, hash[:]); err != nil {
				b.Fatal("bad")
			}
		}
	})
	b.Run("make", func(b *testing.B) {
		for b.Loop() {
			New(key.PubKey())
		}
	})
}
