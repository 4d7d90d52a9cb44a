package escd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"time"

	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

const (
	// snapshotBlocks and snapshotBytes bound what has to be replayed after a crash: blocks (about half a millisecond each
	// when empty) and bytes of transactions (executed at some 10 MB a second).
	snapshotBlocks = 500
	snapshotBytes  = 16 << 20
	// snapshotShare is the most of the time that is spent on writing snapshots: one part in so many.
	snapshotShare = 10
	// stopBytes is the largest snapshot that is taken at a stop: it takes a second or two. Replaying instead takes about as long.
	stopBytes = 256 << 20
)

// saver takes snapshots beside the blocks, one at a time. Commit's goroutine uses it; the writing has one of its own.
type saver struct {
	kept    *snapshots
	journal journal
	log     *slog.Logger
	every   types.Height
	quit    context.CancelFunc
	ctx     context.Context
	work    sync.WaitGroup

	mu    sync.Mutex
	busy  bool          // guarded by mu
	took  time.Duration // guarded by mu; the last one
	ended time.Time     // guarded by mu
}

func newSaver(kept *snapshots, j journal, every types.Height, log *slog.Logger) *saver {
	v := &saver{kept: kept, journal: j, every: every, log: log}
	v.ctx, v.quit = context.WithCancel(context.Background())
	return v
}

// due tells whether a snapshot should be taken now: when enough would have to be replayed otherwise, but at most as often as that
// snapshots cost no more disk traffic than blocks, and a small part of the time.
func (v *saver) due(h types.Height, sinceBytes int64) bool {
	last := v.kept.newest()
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.busy || time.Since(v.ended) < snapshotShare*v.took {
		return false
	}
	// A large state is worth some more empty blocks: a block to replay for every 256 KiB to write.
	blocks := max(v.every, types.Height(min(last.Size>>18, 10*snapshotBlocks)))
	return h-last.Height >= blocks || sinceBytes >= max(snapshotBytes, last.Size)
}

// start writes a snapshot in the background.
func (v *saver) start(state *ledger.Frozen) {
	v.mu.Lock()
	v.busy = true
	v.mu.Unlock()
	v.work.Go(func() {
		began := time.Now()
		err := v.write(state)
		v.mu.Lock()
		v.busy, v.took, v.ended = false, time.Since(began), time.Now()
		v.mu.Unlock()
		if err != nil && v.ctx.Err() == nil {
			v.log.Error("no snapshot of the ledger could be taken; the blocks are kept, a restart takes longer", "block", state.Height(), "err", err)
		}
	})
}

// write makes the journal durable before the snapshot says that these blocks need no replay.
func (v *saver) write(state *ledger.Frozen) error {
	if err := v.kept.write(v.ctx, state, v.journal.flush); err != nil {
		return fmt.Errorf("snapshot at block %d: %w", state.Height(), err)
	}
	return nil
}

// close ends what is under way.
func (v *saver) close() {
	v.quit()
	v.work.Wait()
}

// loadState returns the state to go on from: a snapshot, or the genesis state at height 0. A snapshot that is damaged, or whose
// block events are not all in the journal (power loss), is not needed as long as the one before it or all blocks are
// there. ready is what the newest snapshot holds, or nil.
func loadState(kept *snapshots, g ledger.Genesis, genesis types.Hash, j journal, ready *ledger.State) (s *ledger.State, warning, err error) {
	var warnings []error
	for _, m := range kept.all() {
		s, err := ready, error(nil)
		if s == nil || s.Height() != m.Height {
			s, err = kept.load(m, genesis)
		}
		if errors.Is(err, errForeign) {
			return nil, nil, err
		}
		if err == nil {
			if err = j.covers(s.Height()); err == nil {
				runtime.GC() // what was read is garbage now
				collectBySize()
				return s, errors.Join(warnings...), nil
			}
		}
		if !errors.Is(err, fs.ErrNotExist) {
			warnings = append(warnings, fmt.Errorf("snapshot %d is not used, more blocks are replayed: %w", m.Height, err))
		}
	}
	s, err = ledger.NewState(g)
	return s, errors.Join(warnings...), err
}

// coveredBlocks is how many records before a snapshot are looked for: those that no earlier flush made durable.
const coveredBlocks = 2 * snapshotBlocks

// covers checks that the records written last before height h are all there.
func (j journal) covers(h types.Height) error {
	from, err := j.first()
	if err != nil {
		return err
	}
	if h > coveredBlocks {
		from = max(from, h-coveredBlocks)
	}
	if _, err := j.stored(h); err != nil {
		return err
	}
	for ; from <= h; from++ {
		if ok, err := j.db.Has(blockKey(from)); err != nil {
			return err
		} else if !ok {
			return fmt.Errorf("the events of block %d are missing", from)
		}
	}
	return nil
}

const (
	// heapSlack is how much garbage may gather besides a large ledger: Go's default lets as much as there is live.
	heapSlack = 384 << 20
	// defaultGC is Go's own setting, minGC keeps the collector from running all the time on very large ledgers.
	defaultGC = 100
	minGC     = 10
)

// collectBySize sets the garbage collector by what was live at its last run, so that a ledger of gigabytes does not take twice
// its size. It is called when a state has been loaded and when a snapshot is taken. An operator's GOGC stands.
func collectBySize() {
	if os.Getenv("GOGC") != "" {
		return
	}
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	if live[0].Value.Kind() != metrics.KindUint64 {
		return
	}
	percent := defaultGC
	if bytes := live[0].Value.Uint64(); bytes > heapSlack {
		percent = max(int(heapSlack*100/bytes), minGC)
	}
	debug.SetGCPercent(percent)
}
