package gateway

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eschaton-network/chand/market"
	"github.com/eschaton-network/chand/store/memstore"
	"github.com/eschaton-network/chand/types"
)

// Run removes what has lapsed, goes on after a store that fails, and ends with its context.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := memstore.New()
		credits, err := LoadCredits(st)
		if err != nil {
			t.Fatal(err)
		}
		s := NewSeller(SellerConfig{Credits: credits})
		until := types.Time(time.Now().Add(CreditLife).Unix())
		if _, err := credits.Use(t.Context(), "echo", types.Hash{1}, market.Credit{Limit: 2, Paid: 5, Until: until}); err != nil {
			t.Fatal(err)
		}
		count := func() (n int) {
			t.Helper()
			if err := st.Scan(creditBucket, "", func(string, []byte) error { n++; return nil }); err != nil {
				t.Fatal(err)
			}
			return n
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { s.Run(ctx); close(done) }()
		time.Sleep(CreditLife)
		synctest.Wait()
		if count() != 1 {
			t.Error("a credit was removed before its time")
		}
		time.Sleep(2 * pruneEvery)
		synctest.Wait()
		if count() != 0 || credits.Total("echo") != (Total{1, 5}) {
			t.Errorf("%d lapsed credits, total %+v", count(), credits.Total("echo"))
		}
		cancel()
		<-done
	})
}
