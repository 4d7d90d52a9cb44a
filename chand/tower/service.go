package tower

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"sync"

	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/wire"
)

// Protocol is what towers are asked by.
const Protocol = "/chand/tower/1"

const (
	// MaxWatched bounds the contracts that one tower watches: with a refund of a few hundred bytes each some megabytes, with the largest 640 MB.
	MaxWatched = 10_000
	// maxOfClient bounds the contracts of one client that cost nothing.
	maxOfClient = 1000
	// maxSales bounds a client's unpaid invoices.
	maxSales = 32
	// saleLate is how long after an invoice's end its payment may still settle: it was on its way.
	saleLate types.Time = 600
	// maxActs bounds the versions of one contract that a tower publishes, each at its own cost: the one that it had, and a few that came late. A
	// client that publishes versions of its own channel could else have it pay for as many as it likes.
	maxActs = 4
	// maxBlocks bounds what can be bought at once: 194 days of blocks of a second.
	maxBlocks = 1 << 24
	// forever is the end of what costs nothing.
	forever types.Height = math.MaxUint32
	// burst and refill are how many requests of one client are answered at once, and a second: checking a refund takes half a millisecond.
	burst, refill = 64, 16
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

// Chain is the daemon's own view of the ledger.
type Chain interface {
	Head() (block ledger.BlockInfo, ok bool)
	Account(id types.AccountID) (ledger.Account, error)
	Contract(id types.ChannelID) (ledger.Contract, error)
}

// ServiceConfig is what a tower needs of its daemon.
type ServiceConfig struct {
	Store Store
	Chain Chain
	// Price is for watching one contract for a thousand blocks; 0: nothing.
	Price types.Amount
	// Invoice makes one; Paid tells whether it was paid.
	Invoice func(ctx context.Context, amount types.Amount, memo string) (hash types.Hash, text string, expires types.Time, err error)
	Paid    func(hash types.Hash) (bool, error)
	// Spend submits a refund in a transaction of the daemon's account, which pays the fee. It may be called again while the chain still shows
	// an older version.
	Spend func(refund []byte, why string) error
	Now   func() types.Time
	// Acted, if set, hears of every refund that the tower publishes.
	Acted func(contract types.ChannelID, was, is uint32)
	Log   *slog.Logger
}

// Service is a watchtower. Safe for concurrent use.
type Service struct {
	cfg ServiceConfig

	mu     sync.Mutex
	list   map[types.ChannelID]watched // guarded by mu; without Refund, which is read when it is needed
	sales  map[types.Hash]sale         // guarded by mu
	posted map[types.ChannelID]bool    // guarded by mu; contracts of list with a version on chain
	synced bool                        // guarded by mu; posted is complete
	rates  map[types.NodeID]rate       // guarded by mu
}

type rate struct {
	left int
	at   types.Time
}

// NewService reads what is stored.
func NewService(cfg ServiceConfig) (*Service, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Service{cfg: cfg, list: map[types.ChannelID]watched{}, sales: map[types.Hash]sale{}, posted: map[types.ChannelID]bool{}, rates: map[types.NodeID]rate{}}
	return s, errors.Join(
		each(cfg.Store, BucketWatched, types.ParseHash, func(id types.ChannelID, w watched) error {
			w.Refund = nil
			s.list[id] = w
			return nil
		}),
		each(cfg.Store, BucketSale, types.ParseHash, func(h types.Hash, v sale) error { s.sales[h] = v; return nil }),
	)
}

// Serve answers one request of a client (package wire).
func (s *Service) Serve(ctx context.Context, from types.NodeID, raw []byte) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q, err := wire.DecodeTowerRequest(raw)
	if err != nil {
		return nil, err
	}
	if !s.allow(from) {
		return wire.TowerAnswer{Price: s.cfg.Price, Refused: "too many requests: ask again in a second"}.Encode(), nil
	}
	if err := s.credit(ctx, from); err != nil {
		return nil, err
	}
	var invoice string
	switch q.Kind {
	case wire.TowerBuy:
		invoice, err = s.sell(ctx, from, q.Contract, q.Blocks)
	case wire.TowerPut:
		err = s.keep(ctx, from, q.Contract, q.Refund)
	}
	w := s.list[q.Contract]
	a := wire.TowerAnswer{Price: s.cfg.Price, Until: w.Until, Epoch: w.Epoch, Version: w.Version, Invoice: invoice}
	var no refusal
	if errors.As(err, &no) {
		a.Refused, err = string(no), nil
	}
	return a.Encode(), err
}

// refusal is said to the client; other errors are not.
type refusal string

func (r refusal) Error() string { return string(r) }

func refuse(format string, args ...any) error {
	text := fmt.Sprintf(format, args...)
	return refusal(text[:min(len(text), wire.MaxText)])
}

// allow takes one request off a client's allowance. Call with mu held, as all below.
func (s *Service) allow(from types.NodeID) bool {
	now := s.cfg.Now()
	r, known := s.rates[from]
	if !known {
		if len(s.rates) >= MaxWatched {
			clear(s.rates)
		}
		r = rate{burst, now}
	}
	if now > r.at {
		r.left, r.at = int(min(int64(burst), int64(r.left)+int64(now-r.at)*refill)), now
	}
	r.left--
	s.rates[from] = rate{max(r.left, 0), r.at}
	return r.left >= 0
}

// height is the newest block's; 0 before the first.
func (s *Service) height() types.Height {
	head, _ := s.cfg.Chain.Head()
	return head.Height
}

// credit turns a client's paid invoices into blocks.
func (s *Service) credit(ctx context.Context, from types.NodeID) error {
	for hash, v := range s.sales {
		if v.Client != from {
			continue
		}
		paid, err := s.cfg.Paid(hash)
		switch {
		case err != nil:
			return err
		case paid:
			w, err := s.load(v.Contract)
			if err != nil {
				return err
			}
			if w.Client.IsZero() {
				w.Client, w.Seen = from, s.height() // sell has seen it
			}
			w.Until = types.Height(min(uint64(max(w.Until, s.height()))+uint64(v.Blocks), uint64(forever)))
			if err := s.save(ctx, v.Contract, w, del(BucketSale, hash.String())); err != nil {
				return err
			}
		case s.cfg.Now() > v.Expires+saleLate:
			if err := s.cfg.Store.Commit(ctx, del(BucketSale, hash.String())); err != nil {
				return err
			}
		default:
			continue
		}
		delete(s.sales, hash)
	}
	return nil
}

// load reads a record with its refund; the zero record when there is none.
func (s *Service) load(id types.ChannelID) (w watched, err error) {
	if _, ok := s.list[id]; !ok {
		return w, nil
	}
	err = s.cfg.Store.Scan(BucketWatched, id.String(), func(_ string, raw []byte) error { return decode(raw, &w) })
	return w, err
}

func (s *Service) save(ctx context.Context, id types.ChannelID, w watched, more ...types.Write) error {
	if err := s.cfg.Store.Commit(ctx, append(more, put(BucketWatched, id.String(), w))...); err != nil {
		return err
	}
	w.Refund = nil
	s.list[id] = w
	return nil
}

// open wants a contract that can still be disputed.
func (s *Service) open(id types.ChannelID) (ledger.Contract, error) {
	c, err := s.cfg.Chain.Contract(id)
	switch {
	case errors.Is(err, ledger.ErrNotFound):
		return c, refuse("the ledger has no contract %s at block %d", id, s.height())
	case err != nil:
		return c, err
	case c.Settled != nil:
		return c, refuse("contract %s has paid out", id)
	}
	return c, nil
}

// room wants a place for one more contract.
func (s *Service) room(from types.NodeID, id types.ChannelID) error {
	if _, known := s.list[id]; known {
		return nil
	}
	if len(s.list) >= MaxWatched {
		return refuse("this tower watches %d contracts already, its most", MaxWatched)
	}
	return nil
}

func (s *Service) sell(ctx context.Context, from types.NodeID, id types.ChannelID, blocks uint32) (string, error) {
	if s.cfg.Price == 0 {
		return "", refuse("this tower costs nothing: give it the refund")
	}
	if blocks > maxBlocks {
		return "", refuse("%d blocks at once: at most %d", blocks, maxBlocks)
	}
	if _, err := s.open(id); err != nil {
		return "", err
	}
	if err := s.room(from, id); err != nil {
		return "", err
	}
	unpaid := 0
	for _, v := range s.sales {
		if v.Client == from {
			unpaid++
		}
	}
	if len(s.sales) >= MaxWatched {
		return "", refuse("too many invoices of this tower are unpaid: ask again in an hour")
	}
	if unpaid >= maxSales {
		return "", refuse("%d invoices are unpaid: pay them or let them expire", unpaid)
	}
	amount, err := cost(s.cfg.Price, blocks)
	if err != nil {
		return "", err
	}
	hash, text, expires, err := s.cfg.Invoice(ctx, amount, fmt.Sprintf("watching %.16s for %d blocks", id, blocks))
	if err != nil {
		return "", err
	}
	v := sale{Client: from, Contract: id, Blocks: blocks, Expires: expires}
	if err := s.cfg.Store.Commit(ctx, put(BucketSale, hash.String(), v)); err != nil {
		return "", err
	}
	s.sales[hash] = v
	return text, nil
}

// cost is the price of so many blocks, rounded up.
func cost(price types.Amount, blocks uint32) (types.Amount, error) {
	if price > types.MaxAmount/types.Amount(max(blocks, 1)) {
		return 0, refuse("%d blocks at %s a thousand cost more than there is", blocks, price)
	}
	return (price*types.Amount(blocks) + 999) / 1000, nil
}

// keep takes a refund in. It is on disk before the client hears of it.
func (s *Service) keep(ctx context.Context, from types.NodeID, id types.ChannelID, refund []byte) error {
	w, err := s.load(id)
	if err != nil {
		return err
	}
	if s.cfg.Price == 0 {
		if w.Until == 0 && s.ofClient(from) >= maxOfClient {
			return refuse("this tower watches %d contracts for this client, its most for one", maxOfClient)
		}
		w.Until = forever
	}
	if now := s.height(); w.Until < now || w.Until == 0 {
		return refuse("watching contract %s is paid until block %d, this is block %d: buy more", id, w.Until, now)
	}
	if err := s.room(from, id); err != nil {
		return err
	}
	c, err := s.open(id)
	if err != nil {
		return err
	}
	r, err := ledger.CheckRefund(refund, &c)
	if err != nil {
		return refuse("the refund: %v", err)
	}
	if !r.After(w.Epoch, w.Version) { // what is held replaces it: the answer says what that is
		if w.Until == s.list[id].Until {
			return nil
		}
		return s.save(ctx, id, w)
	}
	for _, account := range r.Accounts {
		if _, err := s.cfg.Chain.Account(account); err != nil {
			return refuse("the refund pays account %s: %v", account, err)
		}
	}
	if c.Posted != nil && w.Acts >= maxActs {
		return refuse("this tower has published %d versions of contract %s, its most: publish this one yourself", w.Acts, id)
	}
	w.Epoch, w.Version, w.Refund, w.Seen = r.Epoch, r.Version, slices.Clone(refund), s.height()
	if w.Client.IsZero() {
		w.Client = from
	}
	if err := s.save(ctx, id, w); err != nil {
		return err
	}
	if c.Posted != nil {
		s.posted[id] = true
		s.act(ctx, id)
	}
	return nil
}

func (s *Service) ofClient(from types.NodeID) (n int) {
	for _, w := range s.list {
		if w.Client == from {
			n++
		}
	}
	return n
}
