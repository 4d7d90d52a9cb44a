package gateway

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/eschaton-network/chand/market"
	"github.com/eschaton-network/chand/types"
)

// bank makes invoices and pays them, as two daemons with a channel would.
type bank struct {
	mu       sync.Mutex
	n        uint64
	invoices map[string]*bill
	moved    types.Amount
	calls    int
	// outcome, when set, is what Pay answers after the money moved (lost) or instead (not lost).
	outcome error
	lost    bool
}

type bill struct {
	preimage types.Preimage
	amount   types.Amount
	paid     bool
}

func newBank() *bank { return &bank{invoices: map[string]*bill{}} }

func (b *bank) CreateInvoice(_ context.Context, amount types.Amount, _, service string) (string, types.Hash, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.n++
	var p types.Preimage
	binary.BigEndian.PutUint64(p[:], b.n)
	in := fmt.Sprintf("lntest%s", p.Hash())
	b.invoices[in] = &bill{preimage: p, amount: amount}
	return in, p.Hash(), nil
}

func (b *bank) decode(invoice string) (types.Amount, types.Hash, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	v := b.invoices[invoice]
	if v == nil {
		return 0, types.Hash{}, errors.New("not an invoice of this network")
	}
	return v.amount, v.preimage.Hash(), nil
}

const routingFee = types.Amount(1)

func (b *bank) Pay(ctx context.Context, invoice string, max types.Amount, key string) (types.Preimage, types.Amount, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calls++
	v := b.invoices[invoice]
	if b.outcome != nil && !b.lost {
		return types.Preimage{}, 0, b.outcome
	}
	if v == nil || v.amount+routingFee > max {
		return types.Preimage{}, 0, fmt.Errorf("%s with fees exceed %s", v.amount, max)
	}
	if !v.paid {
		v.paid = true
		b.moved += v.amount
	}
	if b.outcome != nil {
		return types.Preimage{}, 0, b.outcome
	}
	return v.preimage, v.amount + routingFee, nil
}

// shop is a paywall before a backend, on real servers.
type shop struct {
	t       *testing.T
	bank    *bank
	seller  *Seller
	url     string
	now     atomic.Int64
	backend http.HandlerFunc
	served  atomic.Int64
	keys    DerivedKeys
}

func openShop(t *testing.T, st Store, backend http.HandlerFunc) *shop {
	t.Helper()
	s := &shop{t: t, bank: newBank(), keys: DerivedKeys{1}}
	s.now.Store(1_800_000_000)
	if backend == nil {
		backend = func(w http.ResponseWriter, r *http.Request) {
			s.served.Add(1)
			b, _ := io.ReadAll(r.Body)
			fmt.Fprintf(w, "%s %s %s", r.Method, r.URL, b)
		}
	}
	s.backend = backend
	back := httptest.NewServer(s.backend)
	t.Cleanup(back.Close)
	s.seller = s.newSeller(st)
	if err := s.seller.Set(Service{Name: "echo", Target: back.URL, Price: market.Price{Amount: 3 * types.Coin, Unit: market.Request}}); err != nil {
		t.Fatal(err)
	}
	front := httptest.NewUnstartedServer(s.seller)
	front.Config = NewHTTPServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.seller.ServeHTTP(w, r) }))
	front.Start()
	t.Cleanup(front.Close)
	s.url = front.URL
	return s
}

func (s *shop) newSeller(st Store) *Seller {
	credits, err := LoadCredits(st)
	if err != nil {
		s.t.Fatal(err)
	}
	return NewSeller(SellerConfig{Invoicer: s.bank, Keys: s.keys, Credits: credits, BackendTimeout: 5 * time.Second,
		Now: func() time.Time { return time.Unix(s.now.Load(), 0) }})
}

func (s *shop) do(method, path, body string, header ...string) (*http.Response, string) {
	s.t.Helper()
	r, err := http.NewRequest(method, s.url+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	res, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		s.t.Fatal(err)
	}
	b, err := io.ReadAll(res.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	res.Body.Close()
	return res, string(b)
}

// buy gets a challenge for n requests, pays it and returns token and preimage.
func (s *shop) buy(n int) (token, preimage string) {
	s.t.Helper()
	res, body := s.do("GET", "/echo/", "", HeaderRequests, fmt.Sprint(n))
	if res.StatusCode != 402 {
		s.t.Fatalf("no challenge: %d %s", res.StatusCode, body)
	}
	c, err := ParseChallenge(res.Header)
	if err != nil {
		s.t.Fatal(err)
	}
	p, _, err := s.bank.Pay(context.Background(), c.Invoice, types.MaxAmount, "")
	if err != nil {
		s.t.Fatal(err)
	}
	return c.Token, p.String()
}
