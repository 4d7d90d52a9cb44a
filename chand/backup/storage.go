package backup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/wire"
)

// Protocol is what peers are asked by.
const Protocol = "/chand/storage/1"

// BucketKept is the store's bucket of what is kept for others: node id -> time (8 bytes) and blob.
const BucketKept = "kept"

const (
	// keepFor is how long a blob is kept after its owner's last channel with us is over: who lost everything has a month to notice.
	keepFor types.Time = 30 * 24 * 3600
	// putPause is the least time between two blobs of one peer: each is up to a megabyte on our disk.
	putPause types.Time = 2
	// askTimeout bounds one question to a peer.
	askTimeout = 20 * time.Second
	// pushEvery is how often peers get the newest versions; a new or a closed channel does not wait for it.
	pushEvery types.Time = 60
	// maxKeepers bounds the peers that a blob goes to.
	maxKeepers = 16
)

// Store is durable storage; Commit is all or nothing (the daemon's contract of the same name).
type Store interface {
	Commit(ctx context.Context, writes ...types.Write) error
	Get(bucket, key string) ([]byte, error)
	Scan(bucket, prefix string, fn func(key string, value []byte) error) error
}

// Config is what peer storage needs of its daemon.
type Config struct {
	Store Store
	// Secret is the seed's secret of backups.
	Secret [32]byte
	// Essentials are what can't be had otherwise, the most important first; what has no room in a blob is left out. Channels is a word that changes
	// whenever a channel is opened or ends.
	Essentials func() ([]types.Write, error)
	Channels   func() types.Hash
	// Peers are the connected peers of our channels; Partner tells whether somebody has a channel with us.
	Peers   func() []types.NodeID
	Partner func(types.NodeID) bool
	Ask     func(ctx context.Context, peer types.NodeID, protocol string, request []byte) ([]byte, error)
	Entropy io.Reader
	Now     func() types.Time
	Log     *slog.Logger
}

// Storage keeps blobs for the peers of our channels, and ours with them. Safe for concurrent use.
type Storage struct {
	cfg  Config
	wake chan struct{} // holds one

	mu      sync.Mutex
	last    map[types.NodeID]types.Time // guarded by mu; when a peer gave its newest blob
	keepers map[types.NodeID]Keeper     // guarded by mu; written by Run
	omitted int                         // guarded by mu; essentials that had no room in the newest blob
}

// errNotNow wraps what a peer said that keeps no blob: it is too soon after the one before, or for it the channel is not open yet.
var errNotNow = errors.New("refused")

// Keeper is a peer that has our blob.
type Keeper struct {
	Node types.NodeID
	// At is when it answered that it has it; Channels and content are what the blob was made of.
	At       types.Time
	Size     int
	Problem  string
	channels types.Hash
	content  types.Hash
}

// NewStorage makes one that is ready for Run and Serve.
func NewStorage(cfg Config) *Storage {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Storage{cfg: cfg, wake: make(chan struct{}, 1), last: map[types.NodeID]types.Time{}, keepers: map[types.NodeID]Keeper{}}
}

// Serve answers a peer that gives its blob or wants it back.
func (s *Storage) Serve(ctx context.Context, from types.NodeID, raw []byte) ([]byte, error) {
	q, err := wire.DecodeStorageRequest(raw)
	if err != nil {
		return nil, err
	}
	if len(q.Blob) == 0 {
		_, blob, err := s.kept(from)
		return wire.StorageAnswer{Blob: blob}.Encode(), err
	}
	if !s.cfg.Partner(from) {
		return wire.StorageAnswer{Refused: "only for peers with a channel"}.Encode(), nil
	}
	now := s.cfg.Now()
	s.mu.Lock()
	soon := now < s.last[from]+putPause
	if !soon {
		s.last[from] = now
	}
	s.mu.Unlock()
	if soon {
		return wire.StorageAnswer{Refused: "too soon after the one before"}.Encode(), nil
	}
	value := append(appendTime(nil, now), q.Blob...)
	if err := s.cfg.Store.Commit(ctx, types.Write{Bucket: BucketKept, Key: from.String(), Value: value}); err != nil {
		return nil, err
	}
	return wire.StorageAnswer{}.Encode(), nil
}

func (s *Storage) kept(node types.NodeID) (at types.Time, blob []byte, err error) {
	raw, err := s.cfg.Store.Get(BucketKept, node.String())
	if err != nil || len(raw) < 8 {
		return 0, nil, err
	}
	at, blob = cutTime(raw)
	return at, blob, nil
}

func cutTime(b []byte) (t types.Time, rest []byte) {
	for _, c := range b[:8] {
		t = t<<8 | types.Time(c)
	}
	return t, b[8:]
}

// Prune forgets blobs of those who have had no channel with us for long.
func (s *Storage) Prune(ctx context.Context) error {
	var old []types.Write
	now := s.cfg.Now()
	err := eachKept(s.cfg.Store, func(node types.NodeID, at types.Time) {
		if now > at+keepFor && !s.cfg.Partner(node) {
			old = append(old, types.Write{Bucket: BucketKept, Key: node.String()})
		}
	})
	if err != nil || len(old) == 0 {
		return err
	}
	return s.cfg.Store.Commit(ctx, old...)
}

// Reader is the part of a Store that Check needs.
type Reader interface {
	Scan(bucket, prefix string, fn func(key string, value []byte) error) error
}

// eachKept reads whose blobs are kept, and since when.
func eachKept(s Reader, fn func(node types.NodeID, at types.Time)) error {
	return s.Scan(BucketKept, "", func(key string, value []byte) error {
		node, err := types.ParseNodeID(key)
		if err != nil || len(value) <= 8 {
			return fmt.Errorf("kept/%s: %d bytes: %w", key, len(value), errors.Join(err, ErrFormat))
		}
		at, _ := cutTime(value)
		fn(node, at)
		return nil
	})
}

// Check reads everything that this package has stored. What is in a blob only its owner can tell.
func Check(s Reader) error { return eachKept(s, func(types.NodeID, types.Time) {}) }

// Changed asks for a look at whether the peers have what they should have.
func (s *Storage) Changed() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Run gives our blob to the peers until ctx ends.
func (s *Storage) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.wake:
		}
		err := s.push(ctx)
		if errors.Is(err, errNotNow) {
			s.cfg.Log.Debug("a peer does not take a backup now; the next block tries again", "err", err)
		} else if err != nil && ctx.Err() == nil {
			s.cfg.Log.Warn("the backup with peers is not up to date; the next block tries again", "err", err)
		}
	}
}

// push gives the blob to peers that have none, or an old one.
func (s *Storage) push(ctx context.Context) error {
	channels, now := s.cfg.Channels(), s.cfg.Now()
	var due []types.NodeID
	s.mu.Lock()
	for _, p := range s.cfg.Peers() {
		k := s.keepers[p]
		if len(due) < maxKeepers && (k.At == 0 || now >= k.At+pushEvery || k.channels != channels && now > k.At+putPause) {
			due = append(due, p)
		}
	}
	s.mu.Unlock()
	if len(due) == 0 {
		return nil
	}
	blob, content, err := s.blob(now)
	if err != nil {
		return err
	}
	var errs []error
	for _, p := range due {
		s.mu.Lock()
		k := s.keepers[p]
		s.mu.Unlock()
		k.Node, k.Problem = p, ""
		if k.content != content {
			if err := s.give(ctx, p, blob); err != nil {
				k.Problem = err.Error()
				errs = append(errs, fmt.Errorf("%s: %w", p, err))
			} else {
				k.content, k.Size = content, len(blob)
			}
		}
		if k.Problem == "" {
			k.At, k.channels = now, channels
		}
		s.mu.Lock()
		s.keepers[p] = k
		s.mu.Unlock()
	}
	return errors.Join(errs...)
}

func (s *Storage) give(ctx context.Context, p types.NodeID, blob []byte) error {
	a, err := s.ask(ctx, p, wire.StorageRequest{Blob: blob})
	if err == nil && a.Refused != "" {
		err = fmt.Errorf("%w: %q", errNotNow, a.Refused)
	}
	return err
}

func (s *Storage) ask(ctx context.Context, p types.NodeID, q wire.StorageRequest) (wire.StorageAnswer, error) {
	return Ask(ctx, s.cfg.Ask, p, q)
}

// Ask sends one request of the storage protocol.
func Ask(ctx context.Context, ask func(ctx context.Context, peer types.NodeID, protocol string, request []byte) ([]byte, error), p types.NodeID, q wire.StorageRequest) (wire.StorageAnswer, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	raw, err := ask(ctx, p, Protocol, q.Encode())
	if err != nil {
		return wire.StorageAnswer{}, err
	}
	return wire.DecodeStorageAnswer(raw)
}

// blob seals the essentials, as many as have room, and tells what they are.
func (s *Storage) blob(now types.Time) (blob []byte, content types.Hash, err error) {
	list, err := s.cfg.Essentials()
	if err != nil {
		return nil, content, err
	}
	var out bytes.Buffer
	w, err := NewWriter(&out, s.cfg.Secret, s.cfg.Entropy)
	if err != nil {
		return nil, content, err
	}
	const overhead = 4 << 10 // lengths and tags of the records
	var plain []byte
	omitted := 0
	for _, x := range list {
		if one := appendWrite(nil, x); len(plain)+len(one) <= wire.MaxBlob-overhead {
			plain = append(plain, one...)
			if err := w.Snapshot(x); err != nil {
				return nil, content, err
			}
			continue
		}
		omitted++
	}
	if omitted > 0 {
		s.cfg.Log.Warn("the backup with peers has no room for everything: keep a backup in a file (backup.file)", "left out", omitted)
	}
	s.mu.Lock()
	s.omitted = omitted
	s.mu.Unlock()
	err = w.Complete(now)
	return out.Bytes(), types.SHA256(plain), err
}

// Keepers lists the peers that have our blob, and how many values had no room in it.
func (s *Storage) Keepers() (list []Keeper, omitted int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.keepers {
		list = append(list, k)
	}
	return list, s.omitted
}
