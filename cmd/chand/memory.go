package main

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// trimEvery is how often the daemon looks whether it is idle, and idleAllocs how many bytes it allocates in that time at most
	// when it is: blocks, gossip and dialling a thousand peers that are not there are a few megabytes a second, a hundred payments a second as
	// much again.
	trimEvery  = 15 * time.Second
	idleAllocs = 100 << 20
	// trimWorth is the garbage below which nothing is done.
	trimWorth = 4 << 20
)

// trim gives memory back to the system while there is little to do. Go collects only when the heap has doubled, and databases
// have reserved buffers by then that count but are not used; goroutines of quiet channels keep the stacks of their busy times until
// collections have shrunk them. Under load nothing changes. (A limit for the heap of an idle daemon was tried: when payments come slowly
// enough not to lift it, collecting to stay below it costs more than the payments do.)
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
