package gateway

import (
	"errors"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/eschaton-network/chand/market"
	"github.com/eschaton-network/chand/store"
	"github.com/eschaton-network/chand/store/memstore"
	"github.com/eschaton-network/chand/types"
)

func TestRestartKeepsCredits(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	st, err := store.Open(path, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s := openShop(t, st, nil)
	token, preimage := s.buy(2)
	auth := []string{"Authorization", "L402 " + token + ":" + preimage}
	want := func(status int) {
		t.Helper()
		if res, body := s.do("GET", "/echo/", "", auth...); res.StatusCode != status {
			t.Fatalf("%d, want %d: %s", res.StatusCode, status, body)
		}
	}
	restart := func() {
		t.Helper()
		if err := st.Close(); err != nil {
			t.Fatal(err)
		}
		if st, err = store.Open(path, store.Options{}); err != nil {
			t.Fatal(err)
		}
		services := s.seller.List()
		s.seller = s.newSeller(st)
		for _, v := range services {
			if err := s.seller.Set(v); err != nil {
				t.Fatal(err)
			}
		}
	}
	want(200)
	restart()
	want(200)
	want(402)
	restart()
	want(402)
	if total := s.seller.cfg.Credits.Total("echo"); total != (Total{2, 6 * types.Coin}) {
		t.Errorf("total %+v", total)
	}
	// Lapsed credits go, totals stay, also after a restart.
	later := time.Unix(s.now.Load(), 0).Add(CreditLife + 2*time.Hour)
	for range 2 {
		if err := s.seller.cfg.Credits.Prune(t.Context(), later); err != nil {
			t.Fatal(err)
		}
	}
	n := 0
	if err := st.Scan(creditBucket, "", func(string, []byte) error { n++; return nil }); err != nil || n != 0 {
		t.Errorf("%d credits left, %v", n, err)
	}
	restart()
	if total := s.seller.cfg.Credits.Total("echo"); total != (Total{2, 6 * types.Coin}) {
		t.Errorf("total after pruning %+v", total)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
}

// slowStore lets others run between reading and what follows.
type slowStore struct{ Store }

func (s slowStore) Get(bucket, key string) ([]byte, error) {
	b, err := s.Store.Get(bucket, key)
	for range 20 {
		runtime.Gosched()
	}
	return b, err
}

func TestUseIsAtomic(t *testing.T) {
	c, err := LoadCredits(slowStore{memstore.New()})
	if err != nil {
		t.Fatal(err)
	}
	const bought, tries = 10, 200
	var ok atomic.Int64
	var wg sync.WaitGroup
	start := make(chan struct{})
	for range tries {
		wg.Go(func() {
			<-start
			_, err := c.Use(t.Context(), "echo", types.Hash{1}, market.Credit{Limit: bought, Paid: 5, Until: 1 << 40})
			if err == nil {
				ok.Add(1)
			} else if !errors.Is(err, market.ErrUsedUp) {
				t.Error(err)
			}
		})
	}
	close(start)
	wg.Wait()
	if ok.Load() != bought || c.Total("echo") != (Total{bought, 5}) {
		t.Errorf("%d uses of a credit of %d, total %+v", ok.Load(), bought, c.Total("echo"))
	}
	// A narrowing of the token binds its own use, not the credit.
	if _, err := c.Use(t.Context(), "echo", types.Hash{2}, market.Credit{Limit: 1, Paid: 5, Until: 1 << 40}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Use(t.Context(), "echo", types.Hash{2}, market.Credit{Limit: 1, Paid: 5, Until: 1 << 40}); !errors.Is(err, market.ErrUsedUp) {
		t.Fatal(err)
	}
	if left, err := c.Use(t.Context(), "echo", types.Hash{2}, market.Credit{Limit: 3, Paid: 5, Until: 1 << 40}); err != nil || left != 1 {
		t.Fatalf("%d left, %v", left, err)
	}
}
