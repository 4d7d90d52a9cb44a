package library

import (
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/eschaton-network/chand/statement"
	"github.com/eschaton-network/chand/statement/query"
	"github.com/eschaton-network/chand/types"
)

const (
	// maxAhead is how many blocks a statement's blocks may be ahead of ours, as peers see blocks a little earlier or later.
	maxAhead = 100
	// regossipPause is how long after a peer connected our own statements are gossiped again: it must have subscribed by then,
	// and others may connect meanwhile.
	regossipPause = time.Second
	// maxRegossip bounds that; the rest is had by synchronisation.
	maxRegossip = 256

	// syncQueue bounds the peers that wait to be asked, syncWorkers how many are asked at a time.
	syncQueue   = 64
	syncWorkers = 2
	// syncEvery is how often one neighbour, another each time, is asked for what we miss.
	syncEvery = 5 * time.Minute
	// syncTimeout bounds one synchronisation, syncPages the answers taken (16 MB at most); the next one goes on elsewhere.
	syncTimeout = 30 * time.Second
	syncPages   = 16
	// syncTries and syncPause: who has just connected may not serve yet.
	syncTries = 3
	syncPause = 2 * time.Second
	// maxBloom bounds the ids in the filter that says what we hold, so that it fits an expression; who holds more asks without.
	maxBloom = 3500

	// provideEvery is when a key is provided again: well within the 22 hours of package dht.
	provideEvery = 11 * time.Hour
	// provideRetry is when keys that failed are tried again.
	provideRetry = 5 * time.Minute
	// maxProvided bounds the keys; each costs a walk through the DHT.
	maxProvided = 1024
)

// validate judges a gossip message. It never waits: while the owner saves, what is known is verified once more instead.
func (l *Library) validate(from types.NodeID, data []byte) types.Verdict {
	if from == l.self {
		return types.Accept
	}
	if len(data) > statement.MaxSize {
		return types.Reject
	}
	if l.mu.TryRLock() {
		known := l.set.Get(statement.IDOf(data)) != nil
		l.mu.RUnlock()
		if known {
			return types.Ignore // verified before
		}
	}
	s, err := statement.Open(data)
	if err == nil && s.Schema == statement.LinkSchema {
		_, err = statement.ParseLink(s)
	}
	if err != nil {
		return types.Reject
	}
	if l.checkNow(s) != nil {
		return types.Ignore
	}
	return types.Accept
}

var (
	errLedger = errors.New("the statement is of another ledger")
	errAhead  = errors.New("the statement names blocks that are yet to come")
)

// checkNow holds a verified statement against our ledger at this moment.
func (l *Library) checkNow(s *statement.Statement) error {
	h := l.height()
	if s.Ledger != l.cfg.Genesis {
		return errLedger
	}
	if s.Until != 0 && s.Until < h {
		return statement.ErrExpired
	}
	for _, ref := range s.NotBefore {
		if head, ok := l.cfg.Head(); ok && ref.Height > head.Height+maxAhead {
			return errAhead
		}
	}
	return nil
}

// deliver takes what validate accepted.
func (l *Library) deliver(from types.NodeID, data []byte) {
	if from == l.self {
		return
	}
	if s, err := statement.Decode(data); err == nil {
		l.offer(s)
	}
}

// offer hands a verified statement to the owner, unless too many wait: then it comes again.
func (l *Library) offer(s *statement.Statement) {
	select {
	case l.incoming <- s:
	default:
	}
}

// spread gossips a statement of ours.
func (l *Library) spread(ctx context.Context, s *statement.Statement) {
	if err := l.cfg.Gossip.Publish(ctx, Topic, s.Bytes()); err != nil {
		l.log.Info("a statement was not gossiped; peers get it by synchronisation", "id", s.ID, "err", err)
	}
}

// mine lists up to limit statements of ours that are in force.
func (l *Library) mine(limit int) []*statement.Statement {
	l.mu.RLock()
	defer l.mu.RUnlock()
	var list []*statement.Statement
	for s := range l.set.Candidates([]string{statement.IssuerKey(l.key)}, l.height(), statement.ID{}) {
		if len(list) == limit {
			break
		}
		list = append(list, s)
	}
	return list
}

// spreadAgain gossips our statements again for peers that have connected, and asks one neighbour now and then.
func (l *Library) spreadAgain(ctx context.Context) {
	pause := time.NewTimer(0)
	defer pause.Stop()
	pause.Stop()
	tick := time.NewTicker(syncEvery)
	defer tick.Stop()
	waits, turn := false, 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.ups:
			if !waits {
				waits = true
				pause.Reset(regossipPause)
			}
		case <-pause.C:
			waits = false
			for _, s := range l.mine(maxRegossip) {
				l.spread(ctx, s)
			}
		case <-tick.C:
			if list := l.cfg.Neighbours(); len(list) > 0 {
				l.requestSync(list[turn%len(list)])
				turn++
			}
		}
	}
}

func (l *Library) requestSync(peer types.NodeID) {
	select {
	case l.syncs <- peer:
	default:
	}
}

// syncPeers is a worker: it asks peers for statements that we miss.
func (l *Library) syncPeers(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case peer := <-l.syncs:
			for try := 1; ; try++ {
				err := l.syncWith(ctx, peer)
				if err == nil {
					break
				}
				l.log.Debug("a peer was not asked for its statements", "peer", peer, "err", err)
				if try == syncTries || errors.Is(err, query.ErrAnswer) {
					break
				}
				select {
				case <-ctx.Done():
					return
				case <-time.After(syncPause):
				}
			}
		}
	}
}

// syncWith asks a peer for everything that we do not hold, as far as pages and time go.
func (l *Library) syncWith(ctx context.Context, peer types.NodeID) error {
	ctx, cancel := context.WithTimeout(ctx, syncTimeout)
	defer cancel()
	var r query.Request
	if n := l.size(); n > maxBloom { // too much to name: begin anywhere, another place each time
		binary.BigEndian.PutUint64(r.After[:], rand.Uint64())
	} else if n > 0 {
		r.Expression = l.missing()
	}
	for range syncPages {
		list, a, err := l.ask(ctx, peer, r)
		if err != nil {
			return err
		}
		for _, s := range list {
			select {
			case l.incoming <- s:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if !a.More {
			return nil
		}
		r.After = a.Next
	}
	return nil
}

func (l *Library) size() int {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return len(l.held)
}

// missing is an expression for what is not held here. The filter has another size each time, so that what it hides by
// accident (one in 100) is seen the next time.
func (l *Library) missing() string {
	l.mu.RLock()
	defer l.mu.RUnlock()
	n := len(l.held)
	b := query.NewBloom(n + rand.IntN(8+n/4))
	for id := range l.held {
		b.Add(id.String())
	}
	return `!bloom("` + b.String() + `", id)`
}

// provideAll announces the index keys of our statements in the DHT, and again before the records end.
func (l *Library) provideAll(ctx context.Context) {
	done := make(map[string]time.Time)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.provides:
		case <-timer.C:
		}
		now := l.cfg.Clock()
		current := make(map[string]time.Time)
		failed := false // then the others would fail as well
		for _, key := range l.ownKeys() {
			at, ok := done[key]
			if !failed && (!ok || now.Sub(at) >= provideEvery) {
				err := l.cfg.Directory.Provide(ctx, statement.DHTKey(key))
				if failed = err != nil; failed {
					l.log.Debug("an index key is not provided yet; it is tried again", "key", key, "err", err)
				} else {
					at, ok = now, true
				}
			}
			if ok {
				current[key] = at
			}
		}
		done = current
		timer.Reset(provideRetry)
	}
}

// ownKeys lists the index keys of our statements, in a stable order, the most telling first.
func (l *Library) ownKeys() []string {
	seen := make(map[string]bool)
	var keys []string
	list := l.mine(maxProvided)
	for pass := range 2 { // subjects and issuer before attribute paths, which others have as well
		for _, s := range list {
			for i, k := range s.IndexKeys() {
				first := i <= len(s.Subjects)
				if first == (pass == 0) && !seen[k] && len(keys) < maxProvided {
					seen[k] = true
					keys = append(keys, k)
				}
			}
		}
	}
	return keys
}
