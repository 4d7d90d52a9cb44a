package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/eschaton-network/chand/chain/escd"
	"github.com/eschaton-network/chand/types"
)

// blockWatch notes when each block of an office's node is seen first.
type blockWatch struct {
	office *escd.Client
	ctx    context.Context
	cancel context.CancelFunc
	done   chan struct{}

	mu     sync.Mutex
	from   types.Height
	times  []time.Time // of the blocks after from
	failed error
}

func watchBlocks(ctx context.Context, office *escd.Client, from types.Height) *blockWatch {
	w := &blockWatch{office: office, from: from, done: make(chan struct{})}
	w.ctx, w.cancel = context.WithCancel(ctx)
	go w.run()
	return w
}

func (w *blockWatch) run() {
	defer close(w.done)
	for pause(w.ctx, watchEvery) == nil {
		info, err := w.office.Info(w.ctx)
		at := time.Now()
		w.mu.Lock()
		if err != nil && w.ctx.Err() == nil {
			w.failed = err
		}
		for err == nil && w.from+types.Height(len(w.times)) < info.Height {
			w.times = append(w.times, at)
		}
		w.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (w *blockWatch) stop() { w.cancel(); <-w.done }

// drained waits until so many transactions are in blocks, and returns the blocks.
func (w *blockWatch) drained(total int) (out []seenBlock, err error) {
	defer w.stop()
	ctx, cancel := context.WithTimeout(w.ctx, drainLimit)
	defer cancel()
	executed := 0
	err = until(ctx, fmt.Sprintf("all of %d accepted transactions come into blocks", total), func() (bool, error) {
		w.mu.Lock()
		times, failed := w.times, w.failed
		w.mu.Unlock()
		for failed == nil && len(out) < len(times) {
			first := w.from + types.Height(len(out)) + 1
			counts, err := w.office.Counts(ctx, first, min(first+escd.MaxCounts-1, w.from+types.Height(len(times))))
			if err != nil {
				return false, err
			}
			for _, c := range counts {
				if c.Refused > 0 {
					return false, fmt.Errorf("block %d refused %d transactions", c.Height, c.Refused)
				}
				out = append(out, seenBlock{c, times[len(out)]})
				executed += int(c.Executed)
			}
		}
		return executed >= total, failed
	})
	return out, err
}
