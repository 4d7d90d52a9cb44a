package library

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/eschaton-network/chand/statement"
	"github.com/eschaton-network/chand/types"
)

// Buckets of this package.
const (
	bucketStatement = "statement"    // id (CID) -> the signed bytes
	bucketKey       = "statementkey" // idempotency key -> keyRecord
)

// aboutShare is the part of the room (1/aboutShare) that statements about us take before strangers': anybody can say
// anything about us, so beyond it they are like all others.
const aboutShare = 4

// maxEvictions bounds the searches for room in one commit; each looks at everything that is held.
const maxEvictions = 16

// Ranks of statements when room is short: a higher one takes the place of a lower one.
const (
	rankStranger  = iota
	rankNeighbour // issued by a connected peer, as its link statement says
	rankAbout     // about this daemon
	rankOwn
)

// batch is one commit in the making. Callers hold l.mu for writing until it is saved.
type batch struct {
	l         *Library
	height    types.Height
	writes    []types.Write
	fresh     []*statement.Statement // accepted
	own       []*statement.Statement // of fresh, ours
	evictions int
	keys      map[string]keyRecord // saved with this batch
}

// take puts foreign statements and our own into the set and saves all of it in one commit, then answers and sends.
func (l *Library) take(ctx context.Context, foreign []*statement.Statement, requests []publishRequest) error {
	for len(requests) > 0 && len(requests) < maxDrain {
		select {
		case r := <-l.publish:
			requests = append(requests, r)
			continue
		default:
		}
		break
	}
	answers := make([]published, len(requests))
	b, err := l.change(ctx, func(b *batch) {
		for i, r := range requests {
			answers[i] = b.publish(r.draft)
		}
		for _, s := range foreign {
			if err := b.add(s); err != nil && !errors.Is(err, statement.ErrKnown) {
				l.log.Debug("a statement is not kept", "id", s.ID, "why", err)
			}
		}
	})
	for i, r := range requests {
		if err != nil {
			answers[i] = published{err: fmt.Errorf("%w (%w)", ErrStopped, err)}
		}
		r.done <- answers[i]
	}
	if err == nil {
		l.announce(ctx, b)
	}
	return err
}

// change runs fn with a batch and saves what it did. The set can't be read in between, so nobody sees what is not saved.
func (l *Library) change(ctx context.Context, fn func(*batch)) (*batch, error) {
	b := &batch{l: l, height: l.height(), keys: make(map[string]keyRecord)}
	l.mu.Lock()
	defer l.mu.Unlock()
	fn(b)
	if len(b.writes) == 0 {
		return b, nil
	}
	if err := l.cfg.Store.Commit(ctx, b.writes...); err != nil {
		return b, fmt.Errorf("saving statements: %w", err)
	}
	return b, nil
}

// announce tells of what was saved.
func (l *Library) announce(ctx context.Context, b *batch) {
	for _, s := range b.own {
		l.spread(ctx, s)
	}
	if len(b.own) > 0 {
		signal(l.provides)
	}
	if l.cfg.Accepted != nil {
		for _, s := range b.fresh {
			l.cfg.Accepted(s)
		}
	}
}

// add takes a verified statement, making room if it deserves it.
func (b *batch) add(s *statement.Statement) error {
	l := b.l
	dropped, err := l.set.Add(s, b.height)
	if errors.Is(err, statement.ErrFull) && b.makeRoom(s) {
		dropped, err = l.set.Add(s, b.height)
	}
	if err != nil {
		return err
	}
	l.remember(s)
	b.fresh = append(b.fresh, s)
	if s.Issuer == l.key {
		b.own = append(b.own, s)
	}
	b.writes = append(b.writes, types.Write{Bucket: bucketStatement, Key: s.ID.String(), Value: s.Bytes()})
	for _, old := range dropped {
		b.forget(old)
	}
	return nil
}

// forget deletes a statement that has left the set.
func (b *batch) forget(s *statement.Statement) {
	b.l.forget(s)
	b.writes = append(b.writes, types.Write{Bucket: bucketStatement, Key: s.ID.String()})
}

// makeRoom drops one statement of a lower rank than s; among strangers, one of an issuer that has at least two more than the
// issuer of s. It tells whether it did.
func (b *batch) makeRoom(s *statement.Statement) bool {
	l := b.l
	if l.set.Len() < l.cfg.Limits.Total || l.set.Count(statement.IssuerKey(s.Issuer)) >= l.cfg.Limits.PerIssuer || b.evictions >= maxEvictions {
		return false
	}
	b.evictions++
	r := b.ranks()
	mine := r.rank(s)
	counts := make(map[statement.Key]int)
	victims := make(map[statement.Key]*statement.Statement)
	lowest := rankOwn
	for _, old := range l.held {
		rank := r.rank(old)
		if rank > lowest {
			continue
		}
		if rank < lowest {
			lowest = rank
			clear(counts)
			clear(victims)
		}
		counts[old.Issuer]++
		if v := victims[old.Issuer]; v == nil || yieldsBefore(old, v) {
			victims[old.Issuer] = old
		}
	}
	if lowest > mine || lowest == mine && mine != rankStranger || len(victims) == 0 {
		return false
	}
	var heaviest statement.Key
	for k, n := range counts {
		if most := counts[heaviest]; n > most || n == most && k.String() < heaviest.String() {
			heaviest = k
		}
	}
	if lowest == mine && counts[heaviest] < counts[s.Issuer]+2 {
		return false
	}
	victim := victims[heaviest]
	l.set.Remove(victim.ID)
	b.forget(victim)
	return true
}

// yieldsBefore orders statements of one issuer: what retires nothing goes first, or what it retired would come back; then the older.
func yieldsBefore(a, b *statement.Statement) bool {
	if ra, rb := len(a.Supersedes)+len(a.Revokes) > 0, len(b.Supersedes)+len(b.Revokes) > 0; ra != rb {
		return rb
	}
	if a.From != b.From {
		return a.From < b.From
	}
	return a.ID.String() < b.ID.String()
}

// ranks judges statements at one moment.
type ranks struct {
	l          *Library
	self       []string
	about      bool // there is room for what is about us
	neighbours []types.NodeID
	issuers    map[statement.Key]bool // neighbours or not, as found so far
	height     types.Height
}

func (b *batch) ranks() *ranks {
	l := b.l
	r := &ranks{l: l, self: []string{"peer:" + l.self.String(), l.key.String()}, neighbours: l.cfg.Neighbours(),
		issuers: make(map[statement.Key]bool), height: b.height}
	if a := l.cfg.Account(); !a.IsZero() {
		r.self = append(r.self, "account:"+a.String())
	}
	n := 0
	for _, s := range r.self {
		n += l.set.Count(statement.SubjectKey(s))
	}
	r.about = n < l.cfg.Limits.Total/aboutShare
	return r
}

func (r *ranks) rank(s *statement.Statement) int {
	if s.Issuer == r.l.key {
		return rankOwn
	}
	if r.about && slices.ContainsFunc(s.Subjects, func(x string) bool { return slices.Contains(r.self, x) }) {
		return rankAbout
	}
	near, ok := r.issuers[s.Issuer]
	if !ok {
		node := r.l.nodeOf(s.Issuer, r.height)
		near = !node.IsZero() && slices.Contains(r.neighbours, node)
		r.issuers[s.Issuer] = near
	}
	if near {
		return rankNeighbour
	}
	return rankStranger
}

// tidy drops what can never again be in force.
func (l *Library) tidy(ctx context.Context) error {
	_, err := l.change(ctx, func(b *batch) {
		for _, s := range l.set.Expire(b.height) {
			b.forget(s)
		}
		for _, id := range l.stale {
			b.writes = append(b.writes, types.Write{Bucket: bucketStatement, Key: id.String()})
		}
		l.stale = nil
	})
	return err
}

// nodeOf is the node of an issuer by a link statement that is in force, or zero. Callers hold mu.
func (l *Library) nodeOf(issuer statement.Key, h types.Height) types.NodeID {
	for _, id := range l.links[issuer] {
		if l.set.InForce(id, h) {
			if n := l.linked(l.held[id]); !n.IsZero() {
				return n
			}
		}
	}
	return types.NodeID{}
}

// linked is the node that a link statement names and that has signed it, or zero. Verified once.
func (l *Library) linked(s *statement.Statement) types.NodeID {
	l.linkMu.Lock()
	n, ok := l.nodes[s.ID]
	l.linkMu.Unlock()
	if ok {
		return n
	}
	if link, err := statement.ParseLink(s); err == nil {
		n = link.Node
	}
	l.linkMu.Lock()
	defer l.linkMu.Unlock()
	if l.held[s.ID] != nil { // callers hold mu
		l.nodes[s.ID] = n
	}
	return n
}
