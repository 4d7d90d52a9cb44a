package gateway

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/eschaton-network/chand/market"
	"github.com/eschaton-network/chand/store/memstore"
	"github.com/eschaton-network/chand/types"
)

func (s *shop) buyer(st Store) *Buyer { return NewBuyer(s.bank, s.bank.decode, st, nil, nil) }

func fetch(t *testing.T, b *Buyer, r FetchRequest) (*Fetched, string) {
	t.Helper()
	f, err := b.Fetch(t.Context(), r)
	if err != nil {
		t.Fatalf("%v", err)
	}
	body, err := io.ReadAll(f.Response.Body)
	f.Response.Body.Close()
	if err != nil {
		t.Fatal(err)
	}
	return f, string(body)
}

func fails(t *testing.T, b *Buyer, r FetchRequest, code string) *FetchError {
	t.Helper()
	f, err := b.Fetch(t.Context(), r)
	e := new(FetchError)
	if !errors.As(err, &e) || e.Code != code || e.Next == "" || e.Money == "" {
		t.Fatalf("%+v, %v, want %s", f, err, code)
	}
	return e
}

const limit = 4 * types.Coin

func TestFetchPaysAndGets(t *testing.T) {
	s := openShop(t, memstore.New(), nil)
	b := s.buyer(memstore.New())
	for i := 1; i <= 3; i++ {
		f, body := fetch(t, b, FetchRequest{URL: s.url + "/echo/x", Body: []byte("hi"), MaxPrice: limit})
		if f.Response.StatusCode != 200 || body != "POST /x hi" {
			t.Fatalf("%d %s", f.Response.StatusCode, body)
		}
		r := f.Receipt
		if r == nil || r.Asked != 3*types.Coin || r.Paid != r.Asked+routingFee || r.Preimage.Hash() != r.Hash || r.Invoice == "" || f.Left != 0 {
			t.Fatalf("receipt %+v, %d left", r, f.Left)
		}
		if s.bank.moved != types.Amount(i)*3*types.Coin {
			t.Fatalf("%s moved after %d", s.bank.moved, i)
		}
	}
}

func TestFetchUsesWhatIsLeft(t *testing.T) {
	s := openShop(t, memstore.New(), nil)
	st := memstore.New()
	b := s.buyer(st)
	r := FetchRequest{URL: s.url + "/echo/", MaxPrice: 30*types.Coin + routingFee, Header: http.Header{HeaderRequests: {"10"}}}
	for i := range 10 {
		f, _ := fetch(t, b, r)
		if f.Response.StatusCode != 200 || int(f.Left) != 9-i || (f.Receipt != nil) != (i == 0) {
			t.Fatalf("request %d: %d, %d left, receipt %v", i, f.Response.StatusCode, f.Left, f.Receipt)
		}
		if i == 4 {
			st.Crash()
			st = st.Reopen()
			b = s.buyer(st) // what is left outlives a crash
		}
	}
	if s.bank.moved != 30*types.Coin || s.bank.calls != 1 {
		t.Fatalf("%s moved in %d payments", s.bank.moved, s.bank.calls)
	}
	if f, _ := fetch(t, b, r); f.Receipt == nil {
		t.Error("the eleventh was free")
	}
}

func TestFetchConcurrently(t *testing.T) {
	s := openShop(t, memstore.New(), nil)
	b := s.buyer(memstore.New())
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			f, err := b.Fetch(t.Context(), FetchRequest{URL: s.url + "/echo/", MaxPrice: limit})
			if err != nil {
				t.Error(err)
				return
			}
			f.Response.Body.Close()
			if f.Response.StatusCode != 200 {
				t.Errorf("status %d", f.Response.StatusCode)
			}
		})
	}
	wg.Wait()
	if s.served.Load() != 10 || s.bank.moved != 30*types.Coin {
		t.Errorf("%d served, %s moved", s.served.Load(), s.bank.moved)
	}
}

func TestFetchLimit(t *testing.T) {
	s := openShop(t, memstore.New(), nil)
	b := s.buyer(memstore.New())
	e := fails(t, b, FetchRequest{URL: s.url + "/echo/", MaxPrice: 2 * types.Coin}, "price_too_high")
	if !strings.Contains(e.Message, "asks 3 coins") || !strings.Contains(e.Message, "limit is 2") {
		t.Errorf("%s", e.Message)
	}
	f, _ := fetch(t, b, FetchRequest{URL: s.url + "/echo/", DryRun: true})
	if f.Price != 3*types.Coin || f.Response.StatusCode != 402 {
		t.Errorf("dry run: %+v", f)
	}
	if s.bank.calls != 0 {
		t.Error("paid")
	}
}

func TestFetchFailedPayment(t *testing.T) {
	s := openShop(t, memstore.New(), nil)
	b := s.buyer(memstore.New())
	s.bank.outcome = errors.New("no route: carol has no channel to dave")
	e := fails(t, b, FetchRequest{URL: s.url + "/echo/", MaxPrice: limit}, "payment_failed")
	if !strings.Contains(e.Message, "no route") || e.Money != nothingPaid {
		t.Errorf("%+v", e)
	}
	s.bank.outcome = nil
	if f, _ := fetch(t, b, FetchRequest{URL: s.url + "/echo/", MaxPrice: limit}); f.Receipt == nil || s.bank.moved != 3*types.Coin {
		t.Errorf("then: %+v, %s moved", f, s.bank.moved)
	}
}

// An unknown outcome is asked for with the same call until it is known, across a crash, and nothing else is paid meanwhile.
func TestFetchUnknownOutcome(t *testing.T) {
	for _, lost := range []bool{true, false} { // whether the money had moved
		s := openShop(t, memstore.New(), nil)
		st := memstore.New()
		b := s.buyer(st)
		r := FetchRequest{URL: s.url + "/echo/", MaxPrice: limit}
		s.bank.outcome, s.bank.lost = fmt.Errorf("the daemon stopped: %w", market.ErrOutcomeUnknown), lost
		for range 3 {
			e := fails(t, b, r, "payment_unknown")
			if !errors.Is(e, market.ErrOutcomeUnknown) {
				t.Fatal(e)
			}
			st.Crash()
			st = st.Reopen()
			b = s.buyer(st)
		}
		if s.bank.n != 1 {
			t.Fatalf("%d invoices", s.bank.n)
		}
		if s.bank.outcome = nil; !lost {
			s.bank.outcome = errors.New("it failed in the end")
			fails(t, b, r, "payment_failed")
			s.bank.outcome = nil
		}
		f, body := fetch(t, b, r)
		if f.Response.StatusCode != 200 || s.bank.moved != 3*types.Coin || s.served.Load() != 1 {
			t.Fatalf("lost %t: %d %s, %s moved", lost, f.Response.StatusCode, body, s.bank.moved)
		}
	}
}

func TestFetchIdempotencyKey(t *testing.T) {
	var failing atomic.Bool
	failing.Store(true)
	s := openShop(t, memstore.New(), func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Idempotency-Key") != "k1" {
			t.Errorf("the backend saw the key %q", r.Header.Get("Idempotency-Key"))
		}
		if failing.Load() {
			panic(http.ErrAbortHandler)
		}
	})
	b := s.buyer(memstore.New())
	r := FetchRequest{URL: s.url + "/echo/", MaxPrice: limit, Key: "k1"}
	if f, _ := fetch(t, b, r); f.Response.StatusCode != 502 || f.Receipt == nil || f.Left != 1 {
		t.Fatalf("%+v", f)
	}
	// Meanwhile somebody else buys; the credit waits for its request.
	other := r
	other.Key = ""
	other.Header = http.Header{"Idempotency-Key": {"k1"}}
	if f, _ := fetch(t, b, other); f.Receipt == nil || s.bank.moved != 6*types.Coin {
		t.Fatalf("%+v", f)
	}
	failing.Store(false)
	if f, _ := fetch(t, b, r); f.Response.StatusCode != 200 || f.Receipt != nil || s.bank.moved != 6*types.Coin {
		t.Fatalf("%+v, %s moved", f, s.bank.moved)
	}
	if f, _ := fetch(t, b, other); f.Receipt != nil { // its own credit was kept too
		t.Fatalf("%+v", f)
	}
	fails(t, b, r, "already_paid")
	different := r
	different.Body = []byte("x")
	fails(t, b, different, "idempotency_conflict")
	long := r
	long.Key = strings.Repeat("k", MaxKey+1)
	fails(t, b, long, "bad_idempotency_key")
	if s.bank.moved != 6*types.Coin {
		t.Errorf("%s moved", s.bank.moved)
	}
}

// The answer to a paid request is lost on the way: the credential is kept.
func TestFetchConnectionLostAfterPayment(t *testing.T) {
	s := openShop(t, memstore.New(), nil)
	var drop atomic.Bool
	drop.Store(true)
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if drop.Load() && r.Header.Get("Authorization") != "" {
			panic(http.ErrAbortHandler)
		}
		s.seller.ServeHTTP(w, r)
	}))
	defer front.Close()
	b := s.buyer(memstore.New())
	r := FetchRequest{URL: front.URL + "/echo/", MaxPrice: limit}
	e := fails(t, b, r, "unreachable")
	if !strings.Contains(e.Money, "were paid") {
		t.Errorf("%+v", e)
	}
	drop.Store(false)
	if f, _ := fetch(t, b, r); f.Response.StatusCode != 200 || s.bank.moved != 3*types.Coin {
		t.Errorf("%+v, %s moved", f, s.bank.moved)
	}
}

func TestFetchForgottenKeys(t *testing.T) {
	s := openShop(t, memstore.New(), nil)
	b := s.buyer(memstore.New())
	r := FetchRequest{URL: s.url + "/echo/", MaxPrice: 10 * types.Coin, Header: http.Header{HeaderRequests: {"2"}}}
	fetch(t, b, r)
	s.keys = DerivedKeys{77}
	services := s.seller.List()
	s.seller = s.newSeller(memstore.New())
	if err := s.seller.Set(services[0]); err != nil {
		t.Fatal(err)
	}
	if f, _ := fetch(t, b, r); f.Response.StatusCode != 200 || f.Receipt == nil {
		t.Errorf("%+v", f)
	}
}

func TestFetchHostileSellers(t *testing.T) {
	s := openShop(t, memstore.New(), nil)
	res, _ := s.do("GET", "/echo/", "")
	c, err := ParseChallenge(res.Header)
	if err != nil {
		t.Fatal(err)
	}
	other, hash, err := s.bank.CreateInvoice(t.Context(), types.Coin, "", "")
	if err != nil || hash.IsZero() {
		t.Fatal(err)
	}
	zero, _, _ := s.bank.CreateInvoice(t.Context(), 0, "", "")
	for _, h := range []struct{ header, code string }{
		{`L402 token="` + c.Token + `", invoice="` + other + `"`, "bad_challenge"},
		{`L402 token="a:b", invoice="` + other + `"`, "bad_challenge"},
		{`L402 token="` + c.Token + `", invoice="lnbc1"`, "bad_invoice"},
		{`L402 token="x", invoice="` + zero + `"`, "bad_invoice"},
	} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("WWW-Authenticate", h.header)
			w.WriteHeader(402)
		}))
		fails(t, s.buyer(memstore.New()), FetchRequest{URL: srv.URL, MaxPrice: limit}, h.code)
		srv.Close()
	}
	if s.bank.calls != 0 {
		t.Error("paid")
	}
	// Paid, and still asked for more: once is enough.
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		Challenge{Token: c.Token, Invoice: c.Invoice}.write(w.Header())
		w.WriteHeader(402)
	}))
	defer srv.Close()
	if f, _ := fetch(t, s.buyer(memstore.New()), FetchRequest{URL: srv.URL, MaxPrice: limit}); f.Response.StatusCode != 402 || f.Receipt == nil || s.bank.calls != 1 {
		t.Errorf("%+v after %d payments", f, s.bank.calls)
	}
	// A redirect is an answer, so nothing is sent or paid elsewhere.
	away := httptest.NewServer(http.RedirectHandler(s.url+"/echo/", http.StatusFound))
	defer away.Close()
	if f, _ := fetch(t, s.buyer(memstore.New()), FetchRequest{URL: away.URL, MaxPrice: limit}); f.Response.StatusCode != 302 || s.bank.calls != 1 {
		t.Errorf("%+v", f)
	}
	for _, bad := range []string{"", "ftp://x/", "http://", "://", "file:///etc/passwd"} {
		fails(t, s.buyer(memstore.New()), FetchRequest{URL: bad}, "bad_url")
	}
	fails(t, s.buyer(memstore.New()), FetchRequest{URL: "http://127.0.0.1:1/"}, "unreachable")
}

func TestParseChallenge(t *testing.T) {
	want := Challenge{"L402", "T+/=", "lnp"}
	for _, lines := range [][]string{
		{`L402 version="0", token="T+/=", invoice="lnp"`},
		{`L402 macaroon="T+/=", invoice="lnp"`},
		{`LSAT macaroon="old", invoice="lnold"`, `L402 macaroon="T+/=", invoice="lnp", version="0", token="T+/="`},
		{`L402 macaroon=T+/=, invoice=lnp`},
		{`L402 invoice="lnp" , token="T+/="`},
		{`L402  TOKEN="T+/=",INVOICE="lnp"`},
		{`Basic realm="x, y", L402 token="T+/=", invoice="lnp", Bearer`},
		{`Basic realm="a \" L402 b"`, `L402 token="T+/=", invoice="l\np"`},
		{`L402 token = "T+/=", invoice = "lnp", new="thing"`},
		{`LSAT macaroon="x", invoice="y", L402 token="T+/=", invoice="lnp"`},
	} {
		got, err := ParseChallenge(http.Header{"Www-Authenticate": lines})
		if err != nil || got != want {
			t.Errorf("%q: %+v, %v", lines, got, err)
		}
	}
	for _, lines := range [][]string{nil, {""}, {"L402"}, {`L402 token="x"`}, {`L402 invoice="x"`}, {`Bearer token="x", invoice="y"`}, {`"`}, {"===,,="},
		{`L402 token="` + strings.Repeat("x", maxChallengeLine) + `", invoice="y"`}} {
		if c, err := ParseChallenge(http.Header{"Www-Authenticate": lines}); !errors.Is(err, ErrNoChallenge) {
			t.Errorf("%.80q: %+v, %v", lines, c, err)
		}
	}
}

func FuzzParseChallenge(f *testing.F) {
	f.Add(`LSAT macaroon="x", invoice="y", L402 token="T+/=", invoice="lnp"`)
	f.Fuzz(func(t *testing.T, line string) {
		c, err := ParseChallenge(http.Header{"Www-Authenticate": {line}})
		if err == nil && (!isL402(c.Scheme) || c.Token == "" || c.Invoice == "") {
			t.Fatalf("%+v", c)
		}
	})
}

func FuzzCredentials(f *testing.F) {
	f.Add("L402 AAAA:00", "00")
	keys := DerivedKeys{1}
	f.Fuzz(func(t *testing.T, auth, mac string) {
		creds, present := credentials(http.Header{"Authorization": {auth}, "Macaroon": {mac}})
		if len(creds) > maxCredentials || !present {
			t.Fatalf("%d credentials, present %t", len(creds), present)
		}
		for _, c := range creds {
			if _, err := verify(keys, c, "echo", 0); err == nil {
				t.Fatal("a credential was made without the key")
			}
		}
	})
}
