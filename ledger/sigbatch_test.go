package ledger

import (
	"crypto/sha3"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/oasisprotocol/curve25519-voi/curve"
	"github.com/oasisprotocol/curve25519-voi/curve/scalar"
	"github.com/oasisprotocol/curve25519-voi/primitives/ed25519"
)

// testWorkers run on n goroutines.
func testWorkers(n int) Workers {
	return func(count int, do func(int)) {
		var next atomic.Int64
		var wg sync.WaitGroup
		for range min(n, count) {
			wg.Go(func() {
				for i := int(next.Add(1)) - 1; i < count; i = int(next.Add(1)) - 1 {
					do(i)
				}
			})
		}
		wg.Wait()
	}
}

func allCores() Workers { return testWorkers(runtime.GOMAXPROCS(0)) }

// sigItems are n good signatures by so many keys.
func sigItems(n, keys int) []sigItem {
	items := make([]sigItem, n)
	for i := range items {
		secret := secretOf(fmt.Sprint("signer ", i*keys/n))
		key, prev := PublicKey(secret), secretOf(fmt.Sprint(i))
		msg := binary.LittleEndian.AppendUint32(make([]byte, 57), uint32(i))
		sig := signBytes(secret, append(prev[:], msg...))
		items[i] = sigItem{&key, nil, prev[:], msg, &sig, new(bool)}
	}
	return items
}

func verifySigs(items []sigItem, w Workers) {
	eachSet(w, len(items), func(from, to int) { verifySet(items[from:to]) })
}

// wantSame verifies in a batch and one by one.
func wantSame(t *testing.T, items []sigItem) (good int) {
	t.Helper()
	verifySigs(slices.Clone(items), nil)
	known := slices.Clone(items)
	for i := range known {
		known[i].point, known[i].holds = newKeyPoint(known[i].key), new(bool)
	}
	verifySigs(known, nil)
	for i, it := range items {
		var alone bool
		one := it
		one.holds = &alone
		one.alone()
		if *it.holds != alone || *known[i].holds != alone {
			t.Fatalf("signature %d of %d: %v in the batch, %v with its point known, %v alone", i, len(items), *it.holds, *known[i].holds, alone)
		}
		if alone {
			good++
		}
	}
	return good
}

// A batch says of each signature what verification of it alone says, wherever the bad ones stand.
func TestVerifySigs(t *testing.T) {
	for _, n := range []int{0, 1, batchMin - 1, batchMin, 100, sigPieces*sigLeast + 50} {
		for _, keys := range []int{1, 7, n} {
			if keys > n {
				continue
			}
			items := sigItems(n, keys)
			if good := wantSame(t, items); good != n {
				t.Fatalf("%d of %d good signatures hold", good, n)
			}
			if n == 0 {
				continue
			}
			for k, damage := range []func(it *sigItem){
				func(it *sigItem) { it.sig[3] ^= 1 },
				func(it *sigItem) { it.sig[40] ^= 1 },
				func(it *sigItem) { it.sig[63] |= 0xf0 },
				func(it *sigItem) { it.msg = append([]byte{1}, it.msg...) },
				func(it *sigItem) { it.prev = it.prev[1:] },
				func(it *sigItem) { key := *it.key; key[0] ^= 1; it.key = &key },
				func(it *sigItem) { key := PublicKey(secretOf("another")); it.key = &key },
			} {
				damage(&items[(k*37+n/2)%n])
			}
			if good := wantSame(t, items); good == n || n > 50 && good < n-7 {
				t.Fatalf("%d of %d signatures hold, 7 at most are damaged", good, n)
			}
		}
	}
}

// A set in which most are bad comes to an end, with the same answers.
func TestVerifySigsMostlyBad(t *testing.T) {
	items := sigItems(600, 5)
	for i := range items {
		if i%3 != 0 {
			items[i].sig[i%64] ^= 4
		}
	}
	if good := wantSame(t, items); good != 200 {
		t.Fatalf("%d signatures hold, want 200", good)
	}
}

// Points of small order and encodings that are not canonical: what ZIP-215 accepts alone it accepts in a batch.
func TestVerifySigsSmallOrder(t *testing.T) {
	var small [][32]byte
	for y := range 256 { // encodings of y = 0, 1, -1 and above the field's size, with both signs
		for _, high := range []byte{0x7f, 0xff} {
			p := [32]byte{31: high}
			for i := range 31 {
				p[i] = 0xff
			}
			p[0] = byte(y)
			small = append(small, p)
		}
	}
	for y := range byte(2) {
		small = append(small, [32]byte{0: y}, [32]byte{0: y, 31: 0x80})
	}
	for _, h := range []string{"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05", "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"} {
		p := [32]byte(unhex(t, h))
		small = append(small, p)
		p[31] ^= 0x80
		small = append(small, p)
	}
	small = slices.DeleteFunc(small, func(p [32]byte) bool {
		var a curve.EdwardsPoint
		_, err := a.SetCompressedY((*curve.CompressedEdwardsY)(&p))
		return err != nil || !a.IsSmallOrder()
	})
	if len(small) < 8 {
		t.Fatalf("only %d encodings of points of small order", len(small))
	}
	items := sigItems(20, 3)
	for i := range small {
		for k := range small { // S = 0 holds for every message when R is of small order too
			var sig [64]byte
			copy(sig[:], small[k][:])
			items = append(items, sigItem{&small[i], nil, nil, []byte{byte(i)}, &sig, new(bool)})
		}
		mixed := mixedSignature(t, secretOf("cofactor"), small[i], []byte("x"))
		key := PublicKey(secretOf("cofactor"))
		items = append(items, sigItem{&key, nil, nil, []byte("x"), &mixed, new(bool)})
	}
	if good := wantSame(t, items); good != len(items) {
		t.Fatalf("%d of %d signatures hold", good, len(items))
	}
	*items[30].sig = items[0].signed([]byte("other"))
	if good := wantSame(t, items); good != len(items)-1 {
		t.Fatalf("%d of %d signatures hold", good, len(items))
	}
}

func (it *sigItem) signed(msg []byte) [64]byte { return signBytes(secretOf("signer 0"), msg) }

// mixedSignature adds a point of small order to R, which only the cofactored equation accepts.
func mixedSignature(t *testing.T, secret, torsion [32]byte, msg []byte) (sig [64]byte) {
	t.Helper()
	expanded := sha512.Sum512(secret[:])
	expanded[0] &= 248
	expanded[31] = expanded[31]&63 | 64
	a, err1 := scalar.NewFromBytesModOrder(expanded[:32])
	r, err2 := scalar.NewFromBytesModOrder(expanded[32:])
	var point, small curve.EdwardsPoint
	_, err3 := small.SetCompressedY((*curve.CompressedEdwardsY)(&torsion))
	point.MulBasepoint(curve.ED25519_BASEPOINT_TABLE, r)
	enc, err4 := point.Add(&point, &small).MarshalBinary()
	copy(sig[:], enc)
	key := PublicKey(secret)
	h := sha512.Sum512(slices.Concat(enc, key[:], msg))
	k, err5 := scalar.NewFromBytesModOrderWide(h[:])
	s := scalar.New().Add(r, scalar.New().Mul(k, a))
	if err := errors.Join(err1, err2, err3, err4, err5, s.ToBytes(sig[32:])); err != nil {
		t.Fatal(err)
	}
	return sig
}

func BenchmarkVerifySigs(b *testing.B) {
	for _, c := range []struct {
		keys  int
		known bool
	}{{16, false}, {1000, false}, {8192, false}, {8192, true}} {
		items := sigItems(8192, c.keys)
		for i := range items {
			if c.known {
				items[i].point = newKeyPoint(items[i].key)
			}
		}
		for _, cores := range []int{1, runtime.GOMAXPROCS(0)} {
			b.Run(fmt.Sprintf("keys=%d/known=%v/cores=%d", c.keys, c.known, cores), func(b *testing.B) {
				b.ReportAllocs()
				w := testWorkers(cores)
				cpu := cpuTime()
				for b.Loop() {
					verifySigs(slices.Clone(items), w) // which leaves no points
				}
				perOp(b, len(items), cpu, "sig")
				if !*items[77].holds {
					b.Fatal("does not hold")
				}
			})
		}
	}
}

// BenchmarkVerifyLibrary is the library's own batch of the same size with keys expanded before: what BenchmarkVerifySigs is measured by.
func BenchmarkVerifyLibrary(b *testing.B) {
	items := sigItems(sigChunk, 16)
	keys := make([]*ed25519.ExpandedPublicKey, len(items))
	messages := make([][]byte, len(items))
	for i, it := range items {
		var err error
		if keys[i], err = ed25519.NewExpandedPublicKey(it.key[:]); err != nil {
			b.Fatal(err)
		}
		messages[i] = append(it.prev[:len(it.prev):len(it.prev)], it.msg...)
	}
	cpu := cpuTime()
	for b.Loop() {
		v := ed25519.NewBatchVerifierWithCapacity(len(items)).ForceNoPublicKeyExpansion()
		for i, it := range items {
			v.AddExpandedWithOptions(keys[i], messages[i], it.sig[:], zip215)
		}
		if ok, _ := v.Verify(sha3.NewSHAKE256()); !ok {
			b.Fatal("does not hold")
		}
	}
	perOp(b, len(items), cpu, "sig")
}

// cpuTime is what the process has used on all cores: on a busy machine it says more than the clock.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// perOp reports rate, wall and CPU time of a benchmark that does n things in each round.
func perOp(b *testing.B, n int, cpu time.Duration, what string) {
	ops := float64(b.N) * float64(n)
	b.ReportMetric(ops/b.Elapsed().Seconds(), what+"/s")
	b.ReportMetric(float64((cpuTime()-cpu).Nanoseconds())/1000/ops, "cpu-us/"+what)
}

// BenchmarkVerifyBad is what bad signatures cost: none of a set, one of it, all of it.
func BenchmarkVerifyBad(b *testing.B) {
	for _, bad := range []int{0, 1, sigChunk} {
		b.Run(fmt.Sprint(bad), func(b *testing.B) {
			items := sigItems(sigChunk, 16)
			for i := range bad {
				items[(i+777)%len(items)].sig[40] ^= 1
			}
			cpu := cpuTime()
			for b.Loop() {
				verifySet(items)
			}
			perOp(b, len(items), cpu, "sig")
		})
	}
	b.Run("alone", func(b *testing.B) {
		items := sigItems(64, 16)
		cpu := cpuTime()
		for b.Loop() {
			for i := range items {
				items[i].alone()
			}
		}
		perOp(b, len(items), cpu, "sig")
	})
}
