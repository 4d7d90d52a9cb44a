package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/eschaton-network/chand/market"
	"github.com/eschaton-network/chand/types"
)

// Store is durable key-value storage: Commit is all or nothing and durable when it returns nil; after an error the writes
// may or may not be there. Get returns nil, nil for a key that is not there. Safe for concurrent use.
type Store interface {
	Commit(ctx context.Context, writes ...types.Write) error
	Get(bucket, key string) ([]byte, error)
	Scan(bucket, prefix string, fn func(key string, value []byte) error) error
}

// Buckets of the store that this package owns.
const (
	creditBucket = "gateway_credit"
	totalBucket  = "gateway_total"
)

// Credits counts the requests that payments bought. A credit comes into being with its first use, so a challenge
// that nobody pays leaves no trace. Safe for concurrent use.
type Credits struct {
	store Store
	// locks, by the first byte of the hash, make read-and-write of one credit atomic; different credits share a disk flush.
	locks [64]sync.Mutex

	mu     sync.Mutex
	totals map[string]Total // guarded by mu: what was served in all, credits pruned long ago included
}

// Total is what a service has sold.
type Total struct {
	// Served counts requests, Earned sums the payments whose credit was used at least once.
	Served uint64       `json:"served"`
	Earned types.Amount `json:"earned"`
}

// LoadCredits reads the totals.
func LoadCredits(store Store) (*Credits, error) {
	c := &Credits{store: store, totals: map[string]Total{}}
	err := store.Scan(totalBucket, "", func(service string, value []byte) error {
		var t Total
		if err := json.Unmarshal(value, &t); err != nil {
			return fmt.Errorf("total of service %q: %w", service, err)
		}
		c.totals[service] = t
		return nil
	})
	if err != nil {
		return nil, err
	}
	err = store.Scan(creditBucket, "", func(key string, value []byte) error {
		credit, err := market.DecodeCredit(value)
		if err != nil {
			return fmt.Errorf("credit %s: %w", key, err)
		}
		service, _, _ := strings.Cut(key, "/")
		c.totals[service] = c.totals[service].add(int64(credit.Used), credit.Paid)
		return nil
	})
	return c, err
}

func (t Total) add(served int64, earned types.Amount) Total {
	t.Served += uint64(served) // two's complement: -1 takes one away
	if sum, err := t.Earned.Add(earned); err == nil {
		t.Earned = sum
	}
	return t
}

func creditKey(service string, hash types.Hash) string { return service + "/" + hash.String() }

// Use takes one request of the credit that the payment hash bought, durably before it returns. It returns what is left, or
// an error that wraps market.ErrUsedUp. fresh is what the credit is when it was never used.
func (c *Credits) Use(ctx context.Context, service string, hash types.Hash, fresh market.Credit) (left uint32, err error) {
	return c.change(ctx, service, hash, func(old *market.Credit) (market.Credit, error) {
		if old == nil {
			old = &fresh
		}
		// A buyer may narrow a token for somebody else: the narrowing binds the use of that one, the widest seen is the credit.
		if old.Used >= fresh.Limit {
			return *old, fmt.Errorf("%w: all %d requests were used", market.ErrUsedUp, fresh.Limit)
		}
		credit := *old
		credit.Limit, credit.Until = max(old.Limit, fresh.Limit), max(old.Until, fresh.Until)
		return credit.Use()
	})
}

// Refund gives back a request for which nothing was delivered.
func (c *Credits) Refund(ctx context.Context, service string, hash types.Hash) error {
	_, err := c.change(ctx, service, hash, func(old *market.Credit) (market.Credit, error) {
		if old == nil {
			return market.Credit{}, fmt.Errorf("%w: %s was never used", market.ErrCredit, hash)
		}
		return old.Refund()
	})
	return err
}

func (c *Credits) change(ctx context.Context, service string, hash types.Hash, step func(*market.Credit) (market.Credit, error)) (uint32, error) {
	lock := &c.locks[hash[0]%64]
	lock.Lock()
	defer lock.Unlock()
	key := creditKey(service, hash)
	raw, err := c.store.Get(creditBucket, key)
	if err != nil {
		return 0, err
	}
	var old *market.Credit
	if raw != nil {
		v, err := market.DecodeCredit(raw)
		if err != nil {
			return 0, fmt.Errorf("credit %s: %w", key, err)
		}
		old = &v
	}
	next, err := step(old)
	if err != nil {
		return 0, err
	}
	if err := c.store.Commit(ctx, types.Write{Bucket: creditBucket, Key: key, Value: next.Encode()}); err != nil {
		return 0, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if old == nil {
		c.totals[service] = c.totals[service].add(int64(next.Used), next.Paid)
	} else {
		c.totals[service] = c.totals[service].add(int64(next.Used)-int64(old.Used), 0)
	}
	return next.Left(), nil
}

// Total returns what a service has sold.
func (c *Credits) Total(service string) Total {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.totals[service]
}

const (
	// pruneGrace keeps a lapsed credit until no request that began in time can still be under way.
	pruneGrace = types.Time(3600)
	// pruneBatch bounds one transaction.
	pruneBatch = 1000
)

// Prune removes lapsed credits, adding what they sold to the stored totals in the same transaction.
func (c *Credits) Prune(ctx context.Context, now time.Time) error {
	for {
		var writes []types.Write
		gone := map[string]Total{}
		stop := errors.New("batch full")
		err := c.store.Scan(creditBucket, "", func(key string, value []byte) error {
			credit, err := market.DecodeCredit(value)
			if err != nil {
				return fmt.Errorf("credit %s: %w", key, err)
			}
			if credit.Until+pruneGrace > types.Time(now.Unix()) {
				return nil
			}
			service, _, _ := strings.Cut(key, "/")
			gone[service] = gone[service].add(int64(credit.Used), credit.Paid)
			writes = append(writes, types.Write{Bucket: creditBucket, Key: key})
			if len(writes) == pruneBatch {
				return stop
			}
			return nil
		})
		if err != nil && err != stop {
			return err
		}
		if len(writes) == 0 {
			return nil
		}
		for service, g := range gone {
			raw, err := c.store.Get(totalBucket, service)
			if err != nil {
				return err
			}
			var t Total
			if raw != nil {
				if err := json.Unmarshal(raw, &t); err != nil {
					return fmt.Errorf("total of service %q: %w", service, err)
				}
			}
			value, err := json.Marshal(t.add(int64(g.Served), g.Earned))
			if err != nil {
				return err
			}
			writes = append(writes, types.Write{Bucket: totalBucket, Key: service, Value: value})
		}
		if err := c.store.Commit(ctx, writes...); err != nil {
			return err
		}
	}
}
