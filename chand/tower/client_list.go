package tower

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/wire"
)

// Add uses a tower from now on, or changes its address and price. It asks the tower first, and returns its price.
func (c *Client) Add(ctx context.Context, t Tower) (types.Amount, error) {
	if len(t.Addr) > maxAddr {
		return 0, fmt.Errorf("%w: an address of %d bytes, at most %d", ErrRefused, len(t.Addr), maxAddr)
	}
	t.Added = c.cfg.Now()
	u := newUser(t)
	a, err := c.ask(ctx, u, wire.TowerRequest{Kind: wire.TowerTerms})
	if err != nil {
		return 0, err
	}
	if a.Price > t.MaxPrice {
		return a.Price, fmt.Errorf("%w: %s for a channel and a thousand blocks, allowed are %s", ErrPrice, a.Price, t.MaxPrice)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.towers[t.Node]
	if old == nil && len(c.towers) >= MaxTowers {
		return a.Price, fmt.Errorf("%w: %d are in use", ErrFull, MaxTowers)
	}
	if err := c.cfg.Store.Commit(ctx, put(BucketTower, t.Node.String(), t)); err != nil {
		return a.Price, err
	}
	if old != nil {
		if old.stop != nil {
			old.stop()
		}
		old.mu.Lock()
		u.given = maps.Clone(old.given) // the goroutine of old may still be at it
		old.mu.Unlock()
	}
	c.towers[t.Node] = u
	if c.start != nil {
		c.start(u)
		signal(u)
	}
	return a.Price, nil
}

// Remove stops using a tower. What it has and was paid for stays with it until its time is over.
func (c *Client) Remove(ctx context.Context, node types.NodeID) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	u := c.towers[node]
	if u == nil {
		return fmt.Errorf("%w: %s", ErrNotFound, node)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	writes := []types.Write{del(BucketTower, node.String())}
	for id := range u.given {
		writes = append(writes, del(BucketGiven, givenKey(node, id)))
	}
	if err := c.cfg.Store.Commit(ctx, writes...); err != nil {
		return err
	}
	if u.stop != nil {
		u.stop()
	}
	delete(c.towers, node)
	return nil
}

// Cover is how well a tower covers this daemon's channels.
type Cover struct {
	Tower
	Price types.Amount
	// Channels are all that should be watched, Covered those of which the tower has some version, Behind the most updates that one of those
	// lacks.
	Channels, Covered int
	Behind            uint32
	// Until is the first block at which one of them is not paid for any more; the zero height while none is covered.
	Until types.Height
	// Seen is when it last answered; Problem what the newest round failed with.
	Seen    types.Time
	Problem string
}

// List lists the towers in use, by node.
func (c *Client) List() []Cover {
	channels := c.cfg.Channels()
	c.mu.Lock()
	users := make([]*user, 0, len(c.towers))
	for _, u := range c.towers {
		users = append(users, u)
	}
	c.mu.Unlock()
	out := make([]Cover, 0, len(users))
	for _, u := range users {
		out = append(out, u.cover(channels))
	}
	slices.SortFunc(out, func(a, b Cover) int { return bytes.Compare(a.Node[:], b.Node[:]) })
	return out
}

func (u *user) cover(channels []Channel) Cover {
	u.mu.Lock()
	defer u.mu.Unlock()
	v := Cover{Tower: u.Tower, Price: u.price, Channels: len(channels), Seen: u.seen}
	if u.err != nil {
		v.Problem = u.err.Error()
	}
	for _, ch := range channels {
		g, ok := u.given[ch.ID]
		if !ok || g.Version == 0 {
			continue
		}
		v.Covered++
		if g.Epoch == ch.Epoch && ch.Version > g.Version {
			v.Behind = max(v.Behind, ch.Version-g.Version)
		}
		if v.Until == 0 || g.Until < v.Until {
			v.Until = g.Until
		}
	}
	return v
}
