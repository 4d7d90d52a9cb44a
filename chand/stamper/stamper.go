package stamper

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/timestamp"
	"github.com/eschaton-network/chand/types"
)

const (
	// maxRound bounds the requests of one round: it seals in some 5 ms and takes 540 kB on disk until it is anchored. A
	// full round is sealed at once.
	maxRound = 1 << 14
	// maxPending bounds the requests that wait, so that a disk that hangs does not fill the memory: 4 rounds, some 10 MB.
	maxPending = 4 * maxRound
	// maxGroup bounds the rounds that share one anchor: the whole transaction (81 bytes and 32 for each) is one step of every
	// proof, and stays well below the format's limit of 4 KiB for a step.
	maxGroup = 64
	// retryMin and retryMax are the pauses between attempts to anchor, doubled from one to the next.
	retryMin = time.Second
	retryMax = time.Minute
	// proofWait is the pause between two questions for the path of an anchor that is in a block; after proofTries of them the
	// rounds are anchored anew, as without its path an anchor is worth nothing.
	proofWait  = time.Second
	proofTries = 60
	// anchorBlocks is how many blocks an anchor takes when one is under way already: for what users are told to expect.
	anchorBlocks = 3
	// defaultRound is how long a round stays open when the owner does not say.
	defaultRound = time.Second
)

var (
	// ErrBusy says that too many requests wait.
	ErrBusy = errors.New("too many timestamp requests wait")
	// ErrPending says that a commitment of ours is not in a block yet.
	ErrPending = errors.New("not anchored yet")
	// ErrUnknown says that a commitment is not of this daemon.
	ErrUnknown = errors.New("this daemon has not sealed the commitment")
	// ErrStopped says that the stamper does not run. Whatever was not answered may be stamped again, which does no harm.
	ErrStopped = errors.New("the daemon is stopping")
	// ErrProof is wrapped by every refusal of a proof file.
	ErrProof = errors.New("the proof can't be upgraded")
)

// Store is durable storage; Commit is all or nothing (the daemon's contract of the same name).
type Store interface {
	Commit(ctx context.Context, writes ...types.Write) error
	Reader
}

// Reader is the part of a Store that Check needs.
type Reader interface {
	Get(bucket, key string) ([]byte, error)
	Scan(bucket, prefix string, fn func(key string, value []byte) error) error
}

// Proofs gives what convinces others of what a block holds.
type Proofs interface {
	// TxProof leads from a transaction's id (SHA-256 of its bytes) to the state root after its block, and by the bundle, for an offline
	// verifier, to the header of the next block, which carries that root; it waits for that block. ErrNotFound (package ledger) when
	// the transaction is in no block.
	TxProof(ctx context.Context, id types.Hash) (h types.Height, proof ledger.TxProof, bundle []byte, err error)
}

// Config is what the stamper needs of the daemon.
type Config struct {
	Store Store
	// Anchor puts values (at most maxGroup) into one ledger transaction and returns its bytes once it is in a block. The same key
	// with the same values never makes a second transaction, also after a restart. An error means that nothing will come
	// of the key any more, unless ctx has ended.
	Anchor func(ctx context.Context, key string, values []types.Hash) (tx []byte, err error)
	Proofs Proofs
	// Round is how long requests are collected, from the first one on. 0: a second.
	Round time.Duration
	// Genesis is the hash of the ledger's genesis document, BlockTime its target time between blocks.
	Genesis   types.Hash
	BlockTime time.Duration
	Clock     func() time.Time
	// Entropy is a source of secrets (crypto/rand.Reader). Only Run reads it.
	Entropy io.Reader
	// Anchored, if set, is called when so many more rounds are anchored, in the block, after it was saved; it must not block.
	Anchored func(rounds uint64, block types.Height)
	// Log may be nil.
	Log *slog.Logger
}

// Stamper seals and anchors rounds of requests. Its methods are safe for concurrent use.
type Stamper struct {
	cfg  Config
	wake chan struct{} // holds one: requests came in

	mu      sync.Mutex
	pending []request // guarded by mu
	stopped bool      // guarded by mu; set when Run has ended

	state   stateRecord          // owned by run
	last    timestamp.Checkpoint // owned by run
	flight  bool                 // owned by run; an anchor goroutine works
	pause   time.Duration        // owned by run; before the next attempt, 0 when the last one succeeded
	pausing bool                 // owned by run; until the next attempt no anchor is begun
}

type request struct {
	digest []byte
	answer chan<- answer // holds one
}

type answer struct {
	batch *timestamp.Batch
	index int
	err   error
}

// New reads the store and makes a stamper that is ready for Run.
func New(cfg Config) (*Stamper, error) {
	if cfg.Round <= 0 {
		cfg.Round = defaultRound
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Stamper{cfg: cfg, wake: make(chan struct{}, 1)}
	var err error
	if s.state, _, err = load[stateRecord](cfg.Store, stateKey); err != nil {
		return nil, err
	}
	if err := s.state.check(); err != nil {
		return nil, err
	}
	if s.state.Last > 0 {
		_, s.last, err = loadRound(cfg.Store, s.state.Last)
	}
	return s, err
}

func (r *stateRecord) check() error {
	if r.Anchored > r.Last || r.To > r.Last || r.To != 0 && (r.To <= r.Anchored || r.To-r.Anchored > maxGroup || r.Seq == 0) {
		return fmt.Errorf("%w: %d of %d rounds anchored, anchor %d up to round %d", errRecord, r.Anchored, r.Last, r.Seq, r.To)
	}
	return nil
}

// Stamp puts a digest into the round that is open and returns a proof file with a pending attestation, and when the anchor
// is expected to be in a block. By then the round is on disk and will be anchored whatever happens to the daemon. uri names this
// calendar in the attestation (timestamp.CheckURI).
func (s *Stamper) Stamp(ctx context.Context, digest [32]byte, uri string) (ots []byte, expected types.Time, err error) {
	t, at, err := s.Submit(ctx, digest[:], uri)
	if err != nil {
		return nil, 0, err
	}
	ots, err = timestamp.NewDetached(t).Encode()
	return ots, at, err
}

// Submit is Stamp for any message of 1 to timestamp.MaxDigest bytes; it returns the bare tree, as calendars answer it.
func (s *Stamper) Submit(ctx context.Context, digest []byte, uri string) (*timestamp.Timestamp, types.Time, error) {
	if len(digest) == 0 || len(digest) > timestamp.MaxDigest {
		return nil, 0, fmt.Errorf("%w: digest of %d bytes, want 1..%d", timestamp.ErrSeal, len(digest), timestamp.MaxDigest)
	}
	if err := timestamp.CheckURI(uri); err != nil {
		return nil, 0, err
	}
	done := make(chan answer, 1)
	if err := s.queue(request{append([]byte(nil), digest...), done}); err != nil {
		return nil, 0, err
	}
	select {
	case a := <-done:
		if a.err != nil {
			return nil, 0, a.err
		}
		t, err := a.batch.Proof(a.index, uri)
		return t, s.expected(a.batch.Checkpoint.Time), err
	case <-ctx.Done():
		return nil, 0, ctx.Err()
	}
}

// expected is when an anchor should be in a block that is wanted from a moment on.
func (s *Stamper) expected(from types.Time) types.Time {
	return from + types.Time((anchorBlocks*s.cfg.BlockTime+time.Second-1)/time.Second)
}

func (s *Stamper) queue(r request) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return ErrStopped
	}
	if len(s.pending) >= maxPending {
		return fmt.Errorf("%w (%d of at most %d)", ErrBusy, len(s.pending), maxPending)
	}
	s.pending = append(s.pending, r)
	if n := len(s.pending); n == 1 || n == maxRound {
		s.signal()
	}
	return nil
}

func (s *Stamper) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *Stamper) waiting() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.pending)
}

// take removes the requests of one round.
func (s *Stamper) take() []request {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := min(len(s.pending), maxRound)
	list := s.pending[:n:n]
	if s.pending = s.pending[n:]; len(s.pending) == 0 {
		s.pending = nil
	}
	return list
}

// Run works until ctx ends (then it returns nil) or the store fails. All its goroutines have ended by then. Once only.
func (s *Stamper) Run(ctx context.Context) error {
	inner, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	err := s.run(inner, &wg)
	cancel()
	wg.Wait()
	s.mu.Lock()
	s.stopped = true
	list := s.pending
	s.pending = nil
	s.mu.Unlock()
	for _, r := range list {
		r.answer <- answer{err: ErrStopped}
	}
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil
	}
	return err
}

func (s *Stamper) run(ctx context.Context, wg *sync.WaitGroup) error {
	round, retry := time.NewTimer(s.cfg.Round), time.NewTimer(0)
	defer round.Stop()
	defer retry.Stop()
	round.Stop()
	open := false
	anchored := make(chan outcome, 1)
	launch := func(err error) error {
		if err != nil || s.flight || s.state.To == 0 {
			return err
		}
		seq, values, err := s.group()
		if err != nil {
			return err
		}
		s.flight = true
		wg.Go(func() { anchored <- s.anchor(ctx, seq, values) })
		return nil
	}
	for {
		var err error
		select {
		case <-ctx.Done():
			return nil
		case <-s.wake:
			switch n := s.waiting(); {
			case n >= maxRound:
				open = false
				round.Stop()
				if err = launch(s.seal(ctx)); err == nil && s.waiting() > 0 {
					s.signal() // the rest begins the next round
				}
			case n > 0 && !open: // a round begins with its first request
				open = true
				round.Reset(s.cfg.Round)
			}
		case <-round.C:
			open = false
			if err = launch(s.seal(ctx)); err == nil && s.waiting() > 0 {
				s.signal()
			}
		case o := <-anchored:
			s.flight = false
			if err = s.settle(ctx, o); s.pausing {
				retry.Reset(s.pause)
			} else {
				err = launch(err)
			}
		case <-retry.C: // also the start: what a crash left is anchored first
			err = launch(s.resume(ctx))
		}
		if err != nil {
			return err
		}
	}
}
