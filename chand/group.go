package chand

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// group supervises the goroutines of a daemon: the first that fails stops all, and its error is the daemon's.
type group struct {
	ctx  context.Context // ends when the daemon stops; handed to every goroutine
	stop context.CancelCauseFunc
	wg   sync.WaitGroup

	jobs chan func() // to goroutines that have done theirs

	mu     sync.Mutex
	closed bool // guarded by mu; the daemon waits for its end, nothing more is started
}

// idleWorker is how long a goroutine that has done its job waits for another one.
const idleWorker = 10 * time.Second

func newGroup(parent context.Context) *group {
	ctx, stop := context.WithCancelCause(parent)
	return &group{ctx: ctx, stop: stop, jobs: make(chan func())}
}

// work is run for jobs that come often and are short. They share goroutines: a new one grows its stack, step by step, to what a
// signature's arithmetic needs, which costs as much as a tenth of a payment.
func (g *group) work(name string, fn func(context.Context) error) {
	job := func() {
		if err := fn(g.ctx); err != nil && !(errors.Is(err, context.Canceled) && g.ctx.Err() != nil) {
			g.stop(fmt.Errorf("%s: %w", name, err))
		}
	}
	select {
	case g.jobs <- job:
		return
	default:
	}
	g.run(name, func(ctx context.Context) error {
		idle := time.NewTimer(idleWorker)
		defer idle.Stop()
		for {
			job()
			idle.Reset(idleWorker)
			select {
			case job = <-g.jobs:
			case <-idle.C:
				return nil
			case <-ctx.Done():
				return nil
			}
		}
	})
}

// run starts fn, unless the daemon is stopping. A nil return ends that goroutine alone; an error ends the daemon.
func (g *group) run(name string, fn func(context.Context) error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return
	}
	g.wg.Go(func() {
		if err := fn(g.ctx); err != nil && !(errors.Is(err, context.Canceled) && g.ctx.Err() != nil) {
			g.stop(fmt.Errorf("%s: %w", name, err))
		}
	})
}

// wait returns when everything has ended: nil after a stop that was asked for, else the reason.
func (g *group) wait(parent context.Context) error {
	<-g.ctx.Done()
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	g.wg.Wait()
	if cause := context.Cause(g.ctx); parent.Err() == nil && !errors.Is(cause, errStopAsked) {
		return cause
	}
	return nil
}

var errStopAsked = errors.New("stop was asked for")
