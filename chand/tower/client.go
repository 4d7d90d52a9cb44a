package tower

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/wire"
)

const (
	// MaxTowers bounds the towers that one daemon uses.
	MaxTowers = 8
	// askTimeout bounds one question to a tower.
	askTimeout = 20 * time.Second
	// MinBlocks is the least that is bought at once: half a day of blocks of a second, so that buying stays rare.
	MinBlocks = 43_200
	// buySlack is how much earlier than by our own count a tower may want to be paid again: its newest block is not ours.
	buySlack = MinBlocks / 8
	// buyPause is after how many blocks another invoice is asked for when one could not be paid. Each leaves a failed payment in the books.
	buyPause types.Height = 300
	// maxAddr bounds a tower's address.
	maxAddr = 512
)

var (
	// ErrNotFound says that this daemon does not use the tower.
	ErrNotFound = errors.New("this daemon does not use that watchtower")
	// ErrRefused wraps what a tower said.
	ErrRefused = errors.New("the watchtower refuses")
	// ErrPrice says that a tower wants more than was allowed.
	ErrPrice = errors.New("the watchtower is dearer than allowed")
	// ErrFull says that no more towers can be used.
	ErrFull = errors.New("too many watchtowers")
)

// Channel is what a tower is to watch.
type Channel struct {
	ID             types.ChannelID
	Epoch, Version uint32
	// Refund makes the bytes of that version.
	Refund func() ([]byte, error)
}

// Outcome of a payment to a tower.
type Outcome int

const (
	// Unpaid: nothing moved, and nothing will.
	Unpaid Outcome = iota
	// Paid: the money is with the tower.
	Paid
	// Open: not decided yet.
	Open
)

// ClientConfig is what a client needs of its daemon.
type ClientConfig struct {
	Store Store
	// Ask sends one request to a node, dialling addr first if there is no link.
	Ask func(ctx context.Context, node types.NodeID, addr string, request []byte) ([]byte, error)
	// Price reads an invoice and tells what it costs and whom it pays; Pay pays it, with an idempotency key, and waits for the outcome. The
	// error says why it is not Paid.
	Price func(invoice string) (amount types.Amount, payee types.NodeID, err error)
	Pay   func(ctx context.Context, invoice, key string) (Outcome, error)
	// Channels lists the channels that are not over and could be disputed, with the newest version that the peer signed.
	Channels func() []Channel
	Height   func() types.Height
	Now      func() types.Time
	// Every is after how many updates of a channel its towers get the newest version without waiting for the next block. 0: each block only.
	Every uint32
	Log   *slog.Logger
}

// Client gives a daemon's refunds to its towers. Its methods are safe for concurrent use.
type Client struct {
	cfg ClientConfig

	mu     sync.Mutex
	towers map[types.NodeID]*user     // guarded by mu
	last   map[types.ChannelID]uint64 // guarded by mu; the version that all towers were last woken for
	start  func(*user)                // guarded by mu; set by Run
}

// user is one tower in use, with a goroutine of its own, so that one that hangs delays no other.
type user struct {
	Tower
	wake chan struct{} // holds one
	stop context.CancelFunc

	mu    sync.Mutex
	given map[types.ChannelID]given // guarded by mu; written by the goroutine
	price types.Amount              // guarded by mu
	seen  types.Time                // guarded by mu; last answer
	err   error                     // guarded by mu; of the newest round
}

// NewClient reads what is stored.
func NewClient(cfg ClientConfig) (*Client, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	c := &Client{cfg: cfg, towers: map[types.NodeID]*user{}, last: map[types.ChannelID]uint64{}}
	err := each(cfg.Store, BucketTower, types.ParseNodeID, func(id types.NodeID, t Tower) error {
		c.towers[id] = newUser(t)
		return nil
	})
	if err == nil {
		err = each(cfg.Store, BucketGiven, parseGivenKey, func(k givenTo, g given) error {
			if u := c.towers[k.node]; u != nil {
				u.given[k.contract] = g
			}
			return nil
		})
	}
	return c, err
}

func newUser(t Tower) *user {
	return &user{Tower: t, wake: make(chan struct{}, 1), given: map[types.ChannelID]given{}}
}

// Run serves the towers until ctx ends.
func (c *Client) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	c.mu.Lock()
	c.start = func(u *user) {
		uctx, cancel := context.WithCancel(ctx)
		u.stop = cancel
		wg.Go(func() { c.serve(uctx, u) })
	}
	for _, u := range c.towers {
		c.start(u)
		signal(u)
	}
	c.mu.Unlock()
	<-ctx.Done()
	c.mu.Lock()
	c.start = nil
	c.mu.Unlock()
	wg.Wait()
	return nil
}

func signal(u *user) {
	select {
	case u.wake <- struct{}{}:
	default:
	}
}

// Block wakes every tower's goroutine: it gives what is new and tries again what failed.
func (c *Client) Block() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, u := range c.towers {
		signal(u)
	}
}

// Changed tells of a channel's newest held version. It is called for every update and does next to nothing.
func (c *Client) Changed(id types.ChannelID, epoch, version uint32) {
	if c.cfg.Every == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.towers) == 0 {
		return
	}
	at := uint64(epoch)<<32 | uint64(version)
	if at < c.last[id]+uint64(c.cfg.Every) {
		return
	}
	c.last[id] = at
	for _, u := range c.towers {
		signal(u)
	}
}

// serve is a tower's goroutine.
func (c *Client) serve(ctx context.Context, u *user) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-u.wake:
		}
		err := c.round(ctx, u)
		if err != nil && ctx.Err() == nil {
			c.cfg.Log.Warn("a watchtower does not have the newest versions; the next block tries again", "tower", u.Node, "err", err)
		}
		u.mu.Lock()
		u.err = err
		u.mu.Unlock()
	}
}

// round gives a tower what it does not have, and pays for what runs out.
func (c *Client) round(ctx context.Context, u *user) error {
	var errs []error
	alive := map[types.ChannelID]bool{}
	for _, ch := range c.cfg.Channels() {
		alive[ch.ID] = true
		g := u.have(ch.ID)
		newer := ch.Epoch > g.Epoch || ch.Epoch == g.Epoch && ch.Version > g.Version
		if !newer && !c.runsOut(g) {
			continue
		}
		if err := c.give(ctx, u, ch, g, newer); err != nil {
			errs = append(errs, fmt.Errorf("channel %.16s: %w", ch.ID, err))
			if errors.Is(err, errSilent) {
				break
			}
		}
	}
	return errors.Join(append(errs, c.forget(ctx, u, alive))...)
}

func (u *user) have(id types.ChannelID) given {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.given[id]
}

// runsOut tells whether a quarter or less of what is bought at once is left.
func (c *Client) runsOut(g given) bool {
	return g.Until != forever && uint64(g.Until) < uint64(c.cfg.Height())+MinBlocks/4
}

var errSilent = errors.New("the watchtower does not answer")

func (c *Client) ask(ctx context.Context, u *user, q wire.TowerRequest) (a wire.TowerAnswer, err error) {
	actx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	raw, err := c.cfg.Ask(actx, u.Node, u.Addr, q.Encode())
	if err == nil {
		a, err = wire.DecodeTowerAnswer(raw)
	}
	if err != nil {
		return a, fmt.Errorf("%w: %w", errSilent, err)
	}
	u.mu.Lock()
	u.price, u.seen = a.Price, c.cfg.Now()
	u.mu.Unlock()
	if a.Refused != "" {
		return a, fmt.Errorf("%w: %q", ErrRefused, a.Refused)
	}
	return a, nil
}

// give buys blocks if they run out, then hands over the refund if it is a newer one: that also when nothing can be bought, while some are left.
func (c *Client) give(ctx context.Context, u *user, ch Channel, g given, newer bool) error {
	var unpaid error
	if c.runsOut(g) {
		a, err := c.ask(ctx, u, wire.TowerRequest{Kind: wire.TowerTerms, Contract: ch.ID})
		if err != nil {
			return err
		}
		if g.Until = a.Until; a.Price > 0 && c.runsOut(g) {
			unpaid = c.buy(ctx, u, ch.ID, &g, a.Price)
		}
	}
	if unpaid != nil && (!newer || g.Until < c.cfg.Height()) {
		return unpaid
	}
	refund, err := ch.Refund()
	if err != nil {
		return err
	}
	a, err := c.ask(ctx, u, wire.TowerRequest{Kind: wire.TowerPut, Contract: ch.ID, Refund: refund})
	if err != nil {
		return err
	}
	if a.Epoch < ch.Epoch || a.Epoch == ch.Epoch && a.Version < ch.Version { // newer is well: the peer may use the same tower
		return fmt.Errorf("%w: it has version %d of epoch %d, given was %d of %d", ErrRefused, a.Version, a.Epoch, ch.Version, ch.Epoch)
	}
	g.Epoch, g.Version, g.Until = ch.Epoch, ch.Version, a.Until
	return errors.Join(unpaid, c.save(ctx, u, ch.ID, g))
}

func (c *Client) save(ctx context.Context, u *user, id types.ChannelID, g given) error {
	if err := c.cfg.Store.Commit(ctx, put(BucketGiven, givenKey(u.Node, id), g)); err != nil {
		return err
	}
	u.mu.Lock()
	u.given[id] = g
	u.mu.Unlock()
	return nil
}

// buy pays for MinBlocks more. The invoice is saved before it is paid, so that a restart pays the same one. A tower that forgets what it was paid
// for is not paid again before that time is over.
func (c *Client) buy(ctx context.Context, u *user, id types.ChannelID, g *given, price types.Amount) error {
	if price > u.MaxPrice {
		return fmt.Errorf("%w: %s for a channel and a thousand blocks, allowed are %s", ErrPrice, price, u.MaxPrice)
	}
	if height := c.cfg.Height(); g.Invoice == "" {
		switch {
		case uint64(g.Bought) > uint64(height)+buySlack:
			return fmt.Errorf("%w: it was paid until block %d and says that it watches until block %d: it is not paid again before", ErrRefused, g.Bought, g.Until)
		case height < g.Wait:
			return fmt.Errorf("%w: an invoice could not be paid: another one is asked for at block %d", ErrRefused, g.Wait)
		}
		a, err := c.ask(ctx, u, wire.TowerRequest{Kind: wire.TowerBuy, Contract: id, Blocks: MinBlocks})
		if err != nil {
			return err
		}
		most, err := cost(u.MaxPrice, MinBlocks)
		if err != nil {
			return err
		}
		amount, payee, err := c.cfg.Price(a.Invoice)
		if err != nil || payee != u.Node || amount > most {
			return fmt.Errorf("%w: its invoice is over %s for %s: %w", ErrPrice, amount, payee, errors.Join(ErrPrice, err))
		}
		g.Invoice = a.Invoice
		if err := c.save(ctx, u, id, *g); err != nil {
			return err
		}
	}
	hash := types.SHA256([]byte(g.Invoice))
	outcome, err := c.cfg.Pay(ctx, g.Invoice, "tower/"+hash.String())
	if outcome == Open {
		return fmt.Errorf("the payment to the watchtower is not decided yet: %w", errors.Join(errSilent, err))
	}
	g.Invoice = ""
	if outcome == Paid {
		g.Bought = types.Height(min(uint64(max(g.Bought, g.Until, c.cfg.Height()))+MinBlocks, uint64(forever)))
	} else {
		g.Wait = c.cfg.Height() + buyPause
	}
	if serr := c.save(ctx, u, id, *g); serr != nil || outcome == Unpaid {
		return fmt.Errorf("the watchtower was not paid: %w", errors.Join(ErrPrice, err, serr))
	}
	a, err := c.ask(ctx, u, wire.TowerRequest{Kind: wire.TowerTerms, Contract: id})
	if err == nil {
		g.Until = a.Until
	}
	return err
}

// forget drops what is known of channels that are over.
func (c *Client) forget(ctx context.Context, u *user, alive map[types.ChannelID]bool) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	for id := range u.given {
		if alive[id] {
			continue
		}
		if err := c.cfg.Store.Commit(ctx, del(BucketGiven, givenKey(u.Node, id))); err != nil {
			return err
		}
		delete(u.given, id)
	}
	return nil
}
