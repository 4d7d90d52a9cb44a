package main

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// trimEvery is how often the daemon looks whether it is idle, and idleAllocs how many bytes it allocates in that time at most
	// when it is: blocks and gossip are some hundred kilobytes a second, one payment a second as much again.
	trimEvery  = 15 * time.Second
	idleAllocs = 45 << 20
	// trimWorth is the garbage below which nothing is done.
	trimWorth = 4 << 20
)

// trim gives memory back to the system while there is little to do. Go collects only when the heap has doubled, and databases
// have reserved buffers by then that count but are not used; goroutines of quiet channels keep the stacks of their busy times until
// collections have shrunk them. Under load nothing changes.
func trim(ctx context.Context) {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	read := func() uint64 {
		metrics.Read(sample)
		return sample[0].Value.Uint64()
	}
	last := read()
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(trimEvery):
		}
		now := read()
		if n := now - last; n >= trimWorth && n <= idleAllocs {
			debug.FreeOSMemory()
		}
		last = now
	}
}
