package library

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/eschaton-network/chand/statement"
	"github.com/eschaton-network/chand/statement/query"
	"github.com/eschaton-network/chand/timestamp"
	"github.com/eschaton-network/chand/types"
)

const (
	// maxLimit bounds the statements of one page, defaultLimit is for callers that do not say.
	maxLimit     = 1000
	defaultLimit = 100
	// askTimeout bounds one question to a peer.
	askTimeout = 15 * time.Second
	// askPages bounds the questions for one page: a peer may look at a part of its statements only for each.
	askPages = 16
	// localPages bounds the steps of a query here (5,000 statements each): all that may be held.
	localPages = 16

	// searchTime bounds a search at others; searchGrace is how long it goes on once somebody has found something.
	searchTime  = 5 * time.Second
	searchGrace = 300 * time.Millisecond
	// searchPeers bounds who is asked: half by the DHT, half neighbours.
	searchPeers = 16

	// maxServing bounds the queries that are answered at a time; each may take half a second of one core.
	maxServing = 2
	// serveBudget is how many statements may be looked at for one peer in a serveWindow; a request costs some in any case.
	serveWindow = 10 * time.Second
	serveBudget = 100_000
	requestCost = 500
	// maxBudgets bounds the peers that are remembered within a window.
	maxBudgets = 1024
)

// Stored is a verified statement with what this daemon knows of it.
type Stored struct {
	*statement.Statement
	// Node is the node of the issuer by its link statement, zero when it is not known.
	Node types.NodeID
	// NotBefore is the newest block that the statement names: it is not older. Its time is zero when the block can't be looked
	// up here; nil when no block is named, or one that is not on the ledger.
	NotBefore *timestamp.Bound
	// InForce: valid now, neither superseded nor revoked by what is held here.
	InForce bool
}

// Page is a part of the answer to a query, in the order of the ids.
type Page struct {
	Statements []Stored
	// Next is the token for the page behind; empty at the end.
	Next string
	// From is who answered.
	From types.NodeID
}

// stored adds what we know. Callers hold mu.
func (l *Library) stored(s *statement.Statement) Stored {
	h := l.height()
	v := Stored{Statement: s, Node: l.nodeOf(s.Issuer, h), InForce: l.set.InForce(s.ID, h)}
	if l.held[s.ID] == nil { // asked for elsewhere
		v.InForce = s.ValidAt(h)
	}
	if s.Schema == statement.LinkSchema && v.Node.IsZero() {
		v.Node = l.linked(s)
	}
	var err error
	if l.cfg.Blocks != nil {
		if v.NotBefore, err = timestamp.NotBefore(s.NotBefore, l.cfg.Blocks); err != nil {
			return v
		}
	}
	if v.NotBefore == nil && len(s.NotBefore) > 0 {
		newest := slices.MaxFunc(s.NotBefore, func(a, b types.BlockRef) int { return cmp.Compare(a.Height, b.Height) })
		v.NotBefore = &timestamp.Bound{Height: newest.Height}
	}
	return v
}

// Get returns a statement that is held here.
func (l *Library) Get(id statement.ID) (Stored, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if s := l.set.Get(id); s != nil {
		return l.stored(s), nil
	}
	return Stored{}, fmt.Errorf("%w: %s", ErrNotFound, id)
}

// Query answers from what is held here: statements in force that satisfy the expression (package query), at most limit
// (0: 100, at most 1000), behind the page token. Errors wrap query.ErrQuery or are ErrToken.
func (l *Library) Query(ctx context.Context, expression string, limit int, token string) (Page, error) {
	return l.page(expression, limit, token, l.self, localPages, func(r query.Request) ([]*statement.Statement, query.Answer, error) {
		if err := ctx.Err(); err != nil {
			return nil, query.Answer{}, err
		}
		h := l.height()
		l.mu.RLock()
		defer l.mu.RUnlock()
		a, err := query.Run(l.set, r, h)
		if err != nil {
			return nil, a, err
		}
		var list []*statement.Statement
		for _, raw := range a.Statements {
			list = append(list, l.set.Get(statement.IDOf(raw)))
		}
		return list, a, nil
	})
}

// QueryAt asks a peer and verifies every statement of its answer. Errors wrap query.ErrQuery (the peer can't answer the
// expression) or ErrPeer.
func (l *Library) QueryAt(ctx context.Context, peer types.NodeID, expression string, limit int, token string) (Page, error) {
	if peer.IsZero() || peer == l.self {
		return l.Query(ctx, expression, limit, token)
	}
	if _, err := query.Compile(expression); err != nil { // no need to bother the peer
		return Page{}, err
	}
	return l.page(expression, limit, token, peer, askPages, func(r query.Request) ([]*statement.Statement, query.Answer, error) {
		list, a, err := l.ask(ctx, peer, r)
		for _, s := range list {
			l.offer(s)
		}
		return list, a, err
	})
}

// page collects answers until there are limit statements, the end is reached, or enough was done for one call.
func (l *Library) page(expression string, limit int, token string, from types.NodeID, steps int,
	run func(query.Request) ([]*statement.Statement, query.Answer, error)) (Page, error) {
	p := Page{From: from}
	if limit <= 0 {
		limit = defaultLimit
	}
	limit = min(limit, maxLimit)
	r := query.Request{Expression: expression}
	if token != "" {
		var err error
		if r.After, err = statement.ParseID(token); err != nil {
			return p, fmt.Errorf("%w: %w", ErrToken, err)
		}
	}
	for range steps {
		r.Limit = uint32(min(limit-len(p.Statements), query.MaxResults))
		list, a, err := run(r)
		if err != nil {
			return p, err
		}
		l.mu.RLock()
		for _, s := range list {
			p.Statements = append(p.Statements, l.stored(s))
		}
		l.mu.RUnlock()
		p.Next = ""
		if a.More {
			p.Next, r.After = a.Next.String(), a.Next
		}
		if !a.More || len(p.Statements) >= limit {
			break
		}
	}
	return p, nil
}

// ask sends one request to a peer and verifies the answer. What has ended by our own height is left out.
func (l *Library) ask(ctx context.Context, peer types.NodeID, r query.Request) ([]*statement.Statement, query.Answer, error) {
	var a query.Answer
	raw, err := r.Encode()
	if err != nil {
		return nil, a, err
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	if raw, err = l.cfg.Directory.Ask(ctx, peer, QueryProtocol, raw); err != nil {
		return nil, a, fmt.Errorf("%w: %s: %w", ErrPeer, peer, err)
	}
	if a, err = query.DecodeAnswer(raw); err != nil {
		return nil, a, fmt.Errorf("%w: %s: %w", ErrPeer, peer, err)
	}
	list, err := a.Open(r)
	if errors.Is(err, query.ErrAnswer) {
		return nil, a, fmt.Errorf("%w: %s: %w", ErrPeer, peer, err)
	}
	if err != nil {
		return nil, a, err
	}
	// Whoever sends us in circles, or more than was asked for, gets no further question.
	if a.More && bytes.Compare(a.Next[:], r.After[:]) <= 0 || r.Limit > 0 && len(list) > int(r.Limit) {
		return nil, a, fmt.Errorf("%w: %s: %w: it goes on before its beginning, or sends more than %d", ErrPeer, peer, query.ErrAnswer, r.Limit)
	}
	var good []*statement.Statement
	for _, s := range list {
		if s.Schema == statement.LinkSchema {
			if _, err := statement.ParseLink(s); err != nil {
				return nil, a, fmt.Errorf("%w: %s: %w: %w", ErrPeer, peer, query.ErrAnswer, err)
			}
		}
		if s.Ledger != l.cfg.Genesis {
			return nil, a, fmt.Errorf("%w: %s: %w: %w", ErrPeer, peer, query.ErrAnswer, errLedger)
		}
		if l.checkNow(s) == nil {
			good = append(good, s)
		}
	}
	return good, a, nil
}

// Search is Query, and if nothing is held here, the same question to others: to daemons that the DHT names for the
// expression's index keys, and to neighbours. It takes at most some seconds; what is found is verified, and kept if there is room.
func (l *Library) Search(ctx context.Context, expression string, limit int) (Page, error) {
	p, err := l.Query(ctx, expression, limit, "")
	if err != nil || len(p.Statements) > 0 {
		return p, err
	}
	filter, err := query.Compile(expression)
	if err != nil {
		return p, err
	}
	ctx, cancel := context.WithTimeout(ctx, searchTime)
	defer cancel()
	found := make(chan Page, searchPeers)
	var wg sync.WaitGroup
	asked := make(map[types.NodeID]bool)
	ask := func(peer types.NodeID) {
		if !asked[peer] && peer != l.self && len(asked) < searchPeers {
			asked[peer] = true
			wg.Go(func() {
				q, err := l.QueryAt(ctx, peer, expression, limit, "")
				if err != nil {
					l.log.Debug("a peer found nothing", "peer", peer, "err", err)
				}
				found <- q // room for everybody
			})
		}
	}
	neighbours := l.cfg.Neighbours()
	for _, peer := range neighbours[:min(len(neighbours), searchPeers/2)] {
		ask(peer)
	}
	lookup := make(chan []types.NodeID, 1)
	wg.Go(func() { lookup <- l.providers(ctx, filter.Keys()) })
	var late <-chan time.Time
	all := make(map[statement.ID]Stored)
	first := types.NodeID{}
	for answers, looking := 0, true; looking || answers < len(asked); {
		select {
		case list := <-lookup:
			looking = false
			for _, peer := range list {
				ask(peer)
			}
			continue
		case q := <-found:
			answers++
			for _, s := range q.Statements {
				all[s.ID] = s
			}
			if len(q.Statements) > 0 && late == nil {
				first, late = q.From, time.After(searchGrace)
			}
			continue
		case <-late:
		case <-ctx.Done():
		}
		break
	}
	cancel()
	wg.Wait()
	for _, s := range all {
		p.Statements = append(p.Statements, s)
	}
	slices.SortFunc(p.Statements, func(a, b Stored) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	if limit <= 0 || limit > maxLimit {
		limit = defaultLimit
	}
	p.Statements = p.Statements[:min(len(p.Statements), limit)]
	if !first.IsZero() {
		p.From = first
	}
	return p, nil
}

// providers lists daemons that announced one of the keys.
func (l *Library) providers(ctx context.Context, keys []string) []types.NodeID {
	var out []types.NodeID
	for _, k := range keys {
		if len(out) >= searchPeers {
			break
		}
		list, err := l.cfg.Directory.Providers(ctx, statement.DHTKey(k), searchPeers-len(out))
		if err != nil {
			l.log.Debug("no providers", "key", k, "err", err)
		}
		out = append(out, list...)
	}
	return out
}

// serve answers a peer's query.
func (l *Library) serve(ctx context.Context, from types.NodeID, raw []byte) ([]byte, error) {
	h := l.height()
	r, err := query.DecodeRequest(raw)
	if err == nil {
		err = l.spent.take(from, l.cfg.Clock(), requestCost)
	}
	if err != nil {
		return query.Failure(err, h).Encode()
	}
	select {
	case l.serving <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-l.serving }()
	l.mu.RLock()
	a, err := query.Run(l.set, r, h)
	l.mu.RUnlock()
	if err != nil {
		return query.Failure(err, h).Encode()
	}
	l.spent.charge(from, int(a.Scanned))
	return a.Encode()
}

// budget bounds what each peer may have others do within a window of time. Safe for concurrent use.
type budget struct {
	window time.Duration
	limit  int

	mu    sync.Mutex
	since time.Time            // guarded by mu
	spent map[types.NodeID]int // guarded by mu
}

var errBudget = errors.New("you have asked a lot lately: ask again in some seconds")

// take charges a cost, or refuses when the peer is over its limit.
func (b *budget) take(peer types.NodeID, now time.Time, cost int) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if age := now.Sub(b.since); b.spent == nil || age >= b.window || age < 0 {
		b.since, b.spent = now, make(map[types.NodeID]int)
	}
	if _, known := b.spent[peer]; b.spent[peer]+cost > b.limit || !known && len(b.spent) >= maxBudgets {
		return errBudget
	}
	b.spent[peer] += cost
	return nil
}

// charge adds what a request turned out to cost.
func (b *budget) charge(peer types.NodeID, cost int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, known := b.spent[peer]; known {
		b.spent[peer] += cost
	}
}
