package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/btcec/v2/ecdsa"
	"github.com/oasisprotocol/curve25519-voi/primitives/ed25519"
)

// limits are what this machine can do at best, on all cores where that helps.
type limits struct {
	signVerify  float64       // secp256k1 signatures made and verified a second, all cores
	signOnce    time.Duration // one signature and its verification, one core
	batchVerify float64       // ed25519 signatures verified a second in batches, all cores
	hash        time.Duration // CPU time of 1000 SHA-256 compressions, when all cores hash
	sync        time.Duration // median of write and fdatasync of one record
	bandwidth   float64       // bytes a second written in synced pieces of 4 MiB
	roundTrip   time.Duration // median over loopback TCP, one at a time
	trips       float64       // round trips a second with 50 connections
}

// limit is one bound with its name.
type limit struct {
	value float64
	name  string
}

// least returns the bound that binds.
func least(candidates ...limit) limit {
	return slices.MinFunc(candidates, func(a, b limit) int {
		switch {
		case a.value < b.value:
			return -1
		case a.value > b.value:
			return 1
		}
		return 0
	})
}

// probeTime is how long each limit is measured. Tests, which look at no figure closely, take less.
var probeTime = 700 * time.Millisecond

const (
	// recordSize is what a payment writes at the very least: a refund version with its signature.
	recordSize = 256
	// batchSize is where batch verification is fastest: larger ones fall out of the cache.
	batchSize = 1024
	// manyConns is the concurrency of the c50 figures.
	manyConns = 50
)

func measureLimits(ctx context.Context, dir string) (l limits, err error) {
	l.signVerify, l.signOnce = probeSecp(ctx)
	l.batchVerify = probeEd25519(ctx)
	l.hash = probeHashes(ctx)
	if l.sync, err = probeSync(ctx, dir); err != nil {
		return l, err
	}
	if l.bandwidth, err = probeBandwidth(ctx, dir); err != nil {
		return l, err
	}
	if l.roundTrip, _, err = probeTCP(ctx, 1); err != nil {
		return l, err
	}
	_, l.trips, err = probeTCP(ctx, manyConns)
	return l, err
}

// onAllCores runs work on every core until the probe's time is over, and returns how often it ran a second, each run counting n.
func onAllCores(ctx context.Context, n int, work func()) float64 {
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	var runs atomic.Int64
	start := time.Now()
	parallel(runtime.GOMAXPROCS(0), func(int) {
		for ctx.Err() == nil {
			work()
			runs.Add(int64(n))
		}
	})
	return float64(runs.Load()) / time.Since(start).Seconds()
}

// parallel calls do(0) up to do(n-1) on all cores and returns when all have returned.
func parallel(n int, do func(int)) {
	var next atomic.Int64
	var all sync.WaitGroup
	for range min(n, runtime.GOMAXPROCS(0)) {
		all.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				do(i)
			}
		})
	}
	all.Wait()
}

// probeHashes hashes what trees of accounts are made of, two compressions at a time. It returns CPU time, because what it is compared with
// is measured much later.
func probeHashes(ctx context.Context) time.Duration {
	const some = 1000
	var runs atomic.Int64
	used := cpuTime()
	onAllCores(ctx, 1, func() {
		var node [65]byte
		for range some / 2 {
			h := sha256.Sum256(node[:])
			copy(node[:], h[:])
		}
		runs.Add(1)
	})
	return (cpuTime() - used) / time.Duration(max(runs.Load(), 1))
}

func probeSecp(ctx context.Context) (perSecond float64, one time.Duration) {
	key, _ := btcec.PrivKeyFromBytes([]byte("a fixed key is good enough here."))
	pub := key.PubKey()
	h := sha256.Sum256([]byte("refund"))
	work := func() {
		if !ecdsa.Sign(key, h[:]).Verify(h[:], pub) {
			panic("own signature does not verify")
		}
	}
	perSecond = onAllCores(ctx, 1, work)
	var took []time.Duration
	for end := time.Now().Add(probeTime / 2); time.Now().Before(end); {
		start := time.Now()
		work()
		took = append(took, time.Since(start))
	}
	return perSecond, median(took)
}

// probeEd25519 verifies batches of signatures by different keys, as blocks hold them.
func probeEd25519(ctx context.Context) float64 {
	type signed struct {
		key ed25519.PublicKey
		msg []byte
		sig []byte
	}
	all := make([]signed, batchSize)
	for i := range all {
		seed := sha256.Sum256(fmt.Appendf(nil, "key %d", i))
		key := ed25519.NewKeyFromSeed(seed[:])
		msg := fmt.Appendf(nil, "%0125d", i) // a send_one has 125 bytes
		all[i] = signed{key.Public().(ed25519.PublicKey), msg, ed25519.Sign(key, msg)}
	}
	rule := &ed25519.Options{Verify: ed25519.VerifyOptionsZIP_215}
	return onAllCores(ctx, batchSize, func() {
		v := ed25519.NewBatchVerifierWithCapacity(batchSize)
		for _, s := range all {
			v.AddWithOptions(s.key, s.msg, s.sig, rule)
		}
		if ok, _ := v.Verify(rand.Reader); !ok {
			panic("own signatures do not verify")
		}
	})
}

// probeSync appends records to a file and flushes each.
func probeSync(ctx context.Context, dir string) (time.Duration, error) {
	f, err := os.Create(filepath.Join(dir, "sync.probe"))
	if err != nil {
		return 0, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	// Space is taken first, as databases do: a growing file flushes its size too.
	if _, err := f.Write(make([]byte, 4<<20)); err != nil {
		return 0, err
	}
	if err := f.Sync(); err != nil {
		return 0, err
	}
	record := make([]byte, recordSize)
	var took []time.Duration
	for end := time.Now().Add(probeTime); time.Now().Before(end) && ctx.Err() == nil; {
		start := time.Now()
		if _, err := f.WriteAt(record, int64(len(took)%(4<<20/recordSize))*recordSize); err != nil {
			return 0, err
		}
		if err := syscall.Fdatasync(int(f.Fd())); err != nil {
			return 0, err
		}
		took = append(took, time.Since(start))
	}
	return median(took), ctx.Err()
}

// probeBandwidth writes large synced pieces to a file, over and over.
func probeBandwidth(ctx context.Context, dir string) (float64, error) {
	f, err := os.Create(filepath.Join(dir, "write.probe"))
	if err != nil {
		return 0, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	piece := make([]byte, 4<<20)
	rand.Read(piece)
	start, n := time.Now(), 0
	for end := start.Add(probeTime); time.Now().Before(end) && ctx.Err() == nil; n++ {
		if _, err := f.WriteAt(piece, int64(n%16)*int64(len(piece))); err != nil {
			return 0, err
		}
		if err := syscall.Fdatasync(int(f.Fd())); err != nil {
			return 0, err
		}
	}
	return float64(n*len(piece)) / time.Since(start).Seconds(), ctx.Err()
}

// probeTCP answers 200 bytes with 200 bytes over loopback on so many connections.
func probeTCP(ctx context.Context, conns int) (p50 time.Duration, perSecond float64, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, 0, err
	}
	var servers sync.WaitGroup
	servers.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			servers.Go(func() { defer c.Close(); echo(c) })
		}
	})
	defer servers.Wait()
	defer l.Close()
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	var mu sync.Mutex
	var took []time.Duration
	var errs error
	var wg sync.WaitGroup
	start := time.Now()
	for range conns {
		wg.Go(func() {
			mine, err := roundTrips(ctx, l.Addr().String())
			mu.Lock()
			defer mu.Unlock()
			took = append(took, mine...)
			if err != nil {
				errs = err
			}
		})
	}
	wg.Wait()
	return median(took), float64(len(took)) / time.Since(start).Seconds(), errs
}

func echo(c net.Conn) {
	buf := make([]byte, 200)
	for {
		if _, err := io.ReadFull(c, buf); err != nil {
			return
		}
		if _, err := c.Write(buf); err != nil {
			return
		}
	}
}

func roundTrips(ctx context.Context, addr string) (took []time.Duration, err error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	buf := make([]byte, 200)
	for ctx.Err() == nil {
		start := time.Now()
		if _, err := c.Write(buf); err != nil {
			return took, err
		}
		if _, err := io.ReadFull(c, buf); err != nil {
			return took, err
		}
		took = append(took, time.Since(start))
	}
	return took, nil
}

// median sorts its argument.
func median(d []time.Duration) time.Duration {
	if len(d) == 0 {
		return 0
	}
	slices.Sort(d)
	return d[len(d)/2]
}

// millis is a duration as a figure.
func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
