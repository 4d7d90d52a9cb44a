package main

import (
	"context"
	"math"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// busyAllocs is how many bytes a daemon allocates in a second at least when it is busy. Blocks, gossip and dialling a thousand peers that are
	// not there are some megabytes a second, a thousand payments a hundred.
	busyAllocs = 24 << 20
	// trimEvery is how often an idle daemon gives memory back, at some 50 ms of a processor each time, trimWorth the garbage below which it is
	// not worth that.
	trimEvery = 15 * time.Second
	trimWorth = 4 << 20
	// idleGarbage may gather in an idle daemon before it is collected.
	idleGarbage = 16 << 20
)

// trim keeps little memory while there is little to do. Go collects only when the heap has doubled, and databases have reserved
// buffers by then that count but are not used; goroutines of quiet channels keep the stacks of their busy times until collections have shrunk
// them. A busy daemon has no limit but what GOMEMLIMIT says; when that is set it stands, and nothing is done here.
func trim(ctx context.Context) {
	if debug.SetMemoryLimit(-1) != math.MaxInt64 {
		return
	}
	last, at := allocated(), time.Now()
	trimmed := last
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := allocated()
		busy := now-last > busyAllocs
		last = now
		switch {
		case busy:
			debug.SetMemoryLimit(math.MaxInt64)
			at = time.Now()
		case time.Since(at) >= trimEvery && now-trimmed >= trimWorth:
			debug.FreeOSMemory()
			debug.SetMemoryLimit(int64(held()) + idleGarbage)
			at, trimmed = time.Now(), now
		}
	}
}

// allocated is what was ever allocated on the heap, in bytes.
func allocated() uint64 {
	s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

// held is what Go's runtime holds of the system's memory, in bytes.
func held() uint64 {
	s := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64() - s[1].Value.Uint64()
}
