package escd

import (
	"runtime"
	"sync"
	"sync/atomic"
)

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
