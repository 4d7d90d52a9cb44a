package stamper_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eschaton-network/chand/chand/stamper"
	"github.com/eschaton-network/chand/store/memstore"
	"github.com/eschaton-network/chand/timestamp"
	"github.com/eschaton-network/chand/types"
)

const calendar = "http://127.0.0.1:14788"

// daemon is a stamper that runs.
type daemon struct {
	*stamper.Stamper
	store *memstore.Store
	stop  context.CancelFunc
	ended chan error
}

func start(t testing.TB, c *chain, store *memstore.Store, round time.Duration) *daemon {
	t.Helper()
	s, err := stamper.New(stamper.Config{Store: store, Anchor: c.Anchor, Proofs: c, Round: round, Genesis: c.hash,
		BlockTime: time.Second, Clock: time.Now, Entropy: rand.New(rand.NewSource(1))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	d := &daemon{Stamper: s, store: store, stop: stop, ended: make(chan error, 1)}
	go func() { d.ended <- s.Run(ctx) }()
	t.Cleanup(stop) // when a test fails in between
	return d
}

// end stops the stamper and returns why it ended.
func (d *daemon) end() error {
	d.stop()
	return <-d.ended
}

// bubble runs fn under fake time with a ledger that makes blocks.
func bubble(t *testing.T, fn func(t *testing.T, c *chain)) {
	synctest.Test(t, func(t *testing.T) {
		c := newChain(t)
		ctx, stop := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		wg.Go(func() { c.run(ctx) })
		defer func() { stop(); wg.Wait() }()
		fn(t, c)
	})
}

func digestOf(i int) [32]byte { return sha256.Sum256(fmt.Appendf(nil, "document %d", i)) }

func TestThousandStampsCostOneCommitAndOneAnchor(t *testing.T) {
	bubble(t, func(t *testing.T, c *chain) {
		d := start(t, c, memstore.New(), time.Second)
		const n = 1000
		proofs := make([][]byte, n)
		var wg sync.WaitGroup
		for i := range n {
			wg.Go(func() {
				ots, expected, err := d.Stamp(t.Context(), digestOf(i), calendar)
				if err != nil {
					t.Error(err)
				}
				if now := types.Time(time.Now().Unix()); expected <= now || expected > now+5 {
					t.Errorf("expected at %d, now is %d", expected, now)
				}
				proofs[i] = ots
			})
		}
		wg.Wait()
		if got := d.store.Commits(); got != 1 {
			t.Errorf("%d commits before the answers, want 1", got)
		}
		u, err := d.Upgrade(proofs[7])
		if err != nil || u.Changed || u.Complete || !bytes.Equal(u.OTS, proofs[7]) || u.Text == "" {
			t.Errorf("before the anchor: %+v, %v", u, err)
		}
		if r := c.verify(t, digestOf(7), proofs[7]); r.Proven {
			t.Error("proven before it was anchored")
		}
		time.Sleep(10 * time.Second)
		if txs, values := c.anchors(); txs != 1 || values != 1 || d.store.Commits() != 2 {
			t.Errorf("%d anchors with %d values, %d commits; want 1, 1, 2", txs, values, d.store.Commits())
		}
		if err := stamper.Check(d.store); err != nil {
			t.Error(err)
		}
		if err := d.end(); err != nil {
			t.Fatal(err)
		}
		for i := range n {
			u, err := d.Upgrade(proofs[i])
			if err != nil || !u.Changed || !u.Complete || u.Height == 0 || len(u.Bundle) == 0 {
				t.Fatalf("upgrade %d: %+v, %v", i, u, err)
			}
			if i%97 != 0 { // the signatures behind them are the same
				continue
			}
			if r := c.verify(t, digestOf(i), u.OTS); !r.Proven {
				t.Fatalf("stamp %d: %s", i, r.Sentence)
			}
			again, err := d.Upgrade(u.OTS)
			if err != nil || again.Changed || !again.Complete {
				t.Errorf("upgrading twice: %+v, %v", again, err)
			}
		}
		if _, err := d.Upgrade(proofs[0][:50]); !errors.Is(err, stamper.ErrProof) {
			t.Errorf("a truncated proof: %v", err)
		}
	})
}

// TestForgedBundleIsRefused makes sure that the offline verification above can fail.
func TestForgedBundleIsRefused(t *testing.T) {
	bubble(t, func(t *testing.T, c *chain) {
		d := start(t, c, memstore.New(), time.Second)
		defer d.end()
		ots, _, err := d.Stamp(t.Context(), digestOf(1), calendar)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		u, err := d.Upgrade(ots)
		if err != nil || !u.Complete {
			t.Fatal(u, err)
		}
		judged := 0
		for _, at := range []int{len(u.OTS) / 3, len(u.OTS) * 2 / 3, len(u.OTS) - 20} {
			bad := bytes.Clone(u.OTS)
			bad[at] ^= 1
			if file, err := timestamp.DecodeDetached(bad); err == nil && bytes.Equal(file.Digest(), u.OTS[33:65]) {
				judged++
				if r := c.verify(t, digestOf(1), bad); r.Proven {
					t.Errorf("byte %d changed and still proven", at)
				}
			}
		}
		if judged == 0 {
			t.Error("no forgery could be read")
		}
	})
}

// TestCrashAtEveryCommit fails each commit of a daemon's life both ways, restarts, and wants every proof that was given out to
// be completed, with no key anchored twice and no value left out.
func TestCrashAtEveryCommit(t *testing.T) {
	for _, fault := range []memstore.Fault{memstore.NotDone, memstore.DoneButFailed} {
		for n := 1; n <= 10; n++ {
			t.Run(fmt.Sprintf("%d/%d", fault, n), func(t *testing.T) {
				bubble(t, func(t *testing.T, c *chain) {
					d := start(t, c, memstore.New(), 300*time.Millisecond)
					d.store.FailAt(n, fault)
					proofs := map[int][]byte{}
					crashes := 0
					for i := range 12 {
						ots, _, err := d.Stamp(t.Context(), digestOf(i), calendar)
						for err != nil { // it said so: ask again after the restart
							if !errors.Is(err, stamper.ErrStopped) {
								t.Fatal(err)
							}
							if err := d.end(); !errors.Is(err, memstore.ErrInjected) {
								t.Fatalf("ended with %v", err)
							}
							crashes++
							d = start(t, c, d.store.Reopen(), 300*time.Millisecond)
							ots, _, err = d.Stamp(t.Context(), digestOf(i), calendar)
						}
						proofs[i] = ots
					}
					time.Sleep(10 * time.Second)
					if err := d.end(); errors.Is(err, memstore.ErrInjected) { // at a commit that nobody waited for
						crashes++
						d = start(t, c, d.store.Reopen(), time.Second)
						time.Sleep(10 * time.Second)
						err = d.end()
						if err != nil {
							t.Fatal(err)
						}
					} else if err != nil {
						t.Fatal(err)
					}
					if crashes != 1 {
						t.Errorf("%d crashes, want 1: the fault was not reached", crashes)
					}
					for i, ots := range proofs {
						u, err := d.Upgrade(ots)
						if err != nil || !u.Complete {
							t.Fatalf("stamp %d: %+v, %v", i, u, err)
						}
						if r := c.verify(t, digestOf(i), u.OTS); !r.Proven {
							t.Errorf("stamp %d: %s", i, r.Sentence)
						}
					}
					if err := stamper.Check(d.store); err != nil {
						t.Error(err)
					}
					seen := map[types.Hash]bool{}
					for key, a := range c.made {
						for _, v := range a.values {
							if seen[v] {
								t.Errorf("%s anchors a value that another anchor holds", key)
							}
							seen[v] = true
						}
					}
				})
			})
		}
	}
}

// TestKillWhileAnchoring kills between the submission and the block: the restart asks with the same key.
func TestKillWhileAnchoring(t *testing.T) {
	bubble(t, func(t *testing.T, c *chain) {
		c.halted = true
		d := start(t, c, memstore.New(), 100*time.Millisecond)
		ots, _, err := d.Stamp(t.Context(), digestOf(0), calendar)
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if txs, _ := c.anchors(); txs != 1 {
			t.Fatalf("%d anchors under way, want 1", txs)
		}
		d.store.Crash()
		if err := d.end(); err != nil {
			t.Fatal(err)
		}
		c.mu.Lock()
		c.halted, c.late = false, 3
		c.mu.Unlock()
		time.Sleep(2 * time.Second) // the block comes while the daemon is down
		d = start(t, c, d.store.Reopen(), time.Second)
		time.Sleep(6 * time.Second)
		u, err := d.Upgrade(ots)
		if err != nil || !u.Complete || !c.verify(t, digestOf(0), u.OTS).Proven {
			t.Errorf("%+v, %v", u, err)
		}
		if txs, _ := c.anchors(); txs != 1 {
			t.Errorf("%d anchors, want 1", txs)
		}
		if err := d.end(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestRoundsShareAnAnchor: while the ledger refuses or is slow, rounds gather, and go out together in groups.
func TestRoundsShareAnAnchor(t *testing.T) {
	bubble(t, func(t *testing.T, c *chain) {
		asked := 0
		broke := errors.New("insufficient funds")
		c.refuse = func(string) error { asked++; return broke }
		d := start(t, c, memstore.New(), 100*time.Millisecond)
		const n = 150
		var proofs [][]byte
		for i := range n {
			ots, _, err := d.Stamp(t.Context(), digestOf(i), calendar)
			if err != nil {
				t.Fatal(err)
			}
			proofs = append(proofs, ots)
		}
		if txs, _ := c.anchors(); txs != 0 || asked < 2 || asked > 10 {
			t.Fatalf("%d anchors, asked %d times within 15 s: want some attempts with growing pauses", txs, asked)
		}
		c.mu.Lock()
		c.refuse = nil
		c.mu.Unlock()
		time.Sleep(2 * time.Minute)
		if txs, values := c.anchors(); txs != 3 || values != n {
			t.Errorf("%d anchors with %d values, want 3 with %d", txs, values, n)
		}
		for i, ots := range proofs {
			u, err := d.Upgrade(ots)
			if err != nil || !u.Complete || len(u.OTS) > 8<<10 {
				t.Fatalf("stamp %d: complete %v, %d bytes, %v", i, u.Complete, len(u.OTS), err)
			}
		}
		u, _ := d.Upgrade(proofs[n/2])
		if r := c.verify(t, digestOf(n/2), u.OTS); !r.Proven {
			t.Error(r.Sentence)
		}
		if err := stamper.Check(d.store); err != nil {
			t.Error(err)
		}
		if err := d.end(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestLookup(t *testing.T) {
	bubble(t, func(t *testing.T, c *chain) {
		d := start(t, c, memstore.New(), time.Second)
		tree, _, err := d.Submit(t.Context(), []byte("calendar clients send up to 64 bytes"), calendar)
		if err != nil {
			t.Fatal(err)
		}
		commitments, uris := tree.PendingAt()
		if len(commitments) != 1 || uris[0] != calendar {
			t.Fatalf("%d commitments at %v", len(commitments), uris)
		}
		if _, err := d.Lookup(commitments[0]); !errors.Is(err, stamper.ErrPending) {
			t.Errorf("before the anchor: %v", err)
		}
		other := bytes.Clone(commitments[0])
		other[10] ^= 1
		for _, unknown := range [][]byte{nil, []byte("x"), other, make([]byte, timestamp.CommitmentSize)} {
			if _, err := d.Lookup(unknown); !errors.Is(err, stamper.ErrUnknown) {
				t.Errorf("%x: %v", unknown, err)
			}
		}
		time.Sleep(5 * time.Second)
		path, err := d.Lookup(commitments[0])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := path.Timestamp(commitments[0]); err != nil {
			t.Error(err)
		}
		for _, bad := range []int{0, 65} {
			if _, _, err := d.Submit(t.Context(), make([]byte, bad), calendar); !errors.Is(err, timestamp.ErrSeal) {
				t.Errorf("digest of %d bytes: %v", bad, err)
			}
		}
		if err := d.end(); err != nil {
			t.Fatal(err)
		}
		if _, _, err := d.Stamp(t.Context(), digestOf(1), calendar); !errors.Is(err, stamper.ErrStopped) {
			t.Errorf("after the end: %v", err)
		}
	})
}

// TestBusy fills the queue of a stamper that does not run; a full round needs no timer once it does.
func TestBusy(t *testing.T) {
	bubble(t, func(t *testing.T, c *chain) {
		s, err := stamper.New(stamper.Config{Store: memstore.New(), Anchor: c.Anchor, Proofs: c, Round: time.Hour, Genesis: c.hash,
			Clock: time.Now, Entropy: rand.New(rand.NewSource(1))})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		full := 4 << 14
		for range full {
			wg.Go(func() {
				if _, _, err := s.Submit(ctx, []byte{1}, calendar); err != nil && !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		if _, _, err := s.Stamp(t.Context(), digestOf(0), calendar); !errors.Is(err, stamper.ErrBusy) {
			t.Errorf("got %v, want busy", err)
		}
		began := time.Now()
		run, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.Run(run) }()
		wg.Wait()
		if took := time.Since(began); took > time.Second {
			t.Errorf("full rounds waited %s", took)
		}
		cancel()
		stop()
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
	})
}

func TestDamagedRecords(t *testing.T) {
	for name, w := range map[string]types.Write{
		"state":         {Key: "state", Value: []byte{0xff}},
		"missing round": {Key: "round/0000000000000002"},
		"batch":         {Key: "round/0000000000000001", Value: []byte{0xa0}},
		"anchor":        {Key: "anchor/0000000000000001"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, c *chain) {
				d := start(t, c, memstore.New(), 100*time.Millisecond)
				for i := range 2 {
					if _, _, err := d.Stamp(t.Context(), digestOf(i), calendar); err != nil {
						t.Fatal(err)
					}
					time.Sleep(3 * time.Second)
				}
				if err := d.end(); err != nil {
					t.Fatal(err)
				}
				if err := stamper.Check(d.store); err != nil {
					t.Fatalf("before the damage: %v", err)
				}
				w.Bucket = stamper.Bucket
				if err := d.store.Commit(t.Context(), w); err != nil {
					t.Fatal(err)
				}
				if err := stamper.Check(d.store); err == nil {
					t.Error("the damage was not found")
				}
			})
		})
	}
}
