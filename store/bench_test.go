package store

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/eschaton-network/chand/types"
)

// BenchmarkRawSync is the limit of this disk at this minute: one append of 1 KB and fdatasync at a time.
func BenchmarkRawSync(b *testing.B) {
	f, err := os.Create(filepath.Join(b.TempDir(), "raw"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	buf := make([]byte, 1024)
	var lat []time.Duration
	for b.Loop() {
		start := time.Now()
		if _, err := f.Write(buf); err != nil {
			b.Fatal(err)
		}
		if err := syscall.Fdatasync(int(f.Fd())); err != nil {
			b.Fatal(err)
		}
		lat = append(lat, time.Since(start))
	}
	report(b, lat)
}

// BenchmarkCommit is 1 KB a commit from many callers at once, over 10,000 keys (a channel's state is overwritten).
func BenchmarkCommit(b *testing.B) {
	for _, callers := range []int{1, 50, 500} {
		b.Run(fmt.Sprint(callers), func(b *testing.B) {
			s, err := Open(filepath.Join(b.TempDir(), "db"), Options{})
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			var next atomic.Int64
			var mu sync.Mutex
			var all []time.Duration
			var wg sync.WaitGroup
			b.ResetTimer()
			for range callers {
				wg.Go(func() {
					var lat []time.Duration
					buf := make([]byte, 1024)
					for {
						n := next.Add(1)
						if n > int64(b.N) {
							break
						}
						start := time.Now()
						w := types.Write{Bucket: "channel", Key: fmt.Sprintf("%064x", uint64(n)%10000*0x9e3779b97f4a7c15), Value: buf}
						if err := s.Commit(ctx, w); err != nil {
							b.Error(err)
							return
						}
						lat = append(lat, time.Since(start))
					}
					mu.Lock()
					all = append(all, lat...)
					mu.Unlock()
				})
			}
			wg.Wait()
			report(b, all)
			st := s.Stats()
			b.ReportMetric(float64(st.Commits)/float64(st.Transactions), "commits/group")
		})
	}
}

func report(b *testing.B, lat []time.Duration) {
	slices.Sort(lat)
	b.ReportMetric(float64(len(lat))/b.Elapsed().Seconds(), "commits/s")
	b.ReportMetric(float64(lat[len(lat)/2])/1e6, "p50-ms")
	b.ReportMetric(float64(lat[len(lat)*99/100])/1e6, "p99-ms")
}
