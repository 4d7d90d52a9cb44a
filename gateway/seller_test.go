package gateway

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gopkg.in/macaroon.v2"

	"github.com/eschaton-network/chand/market"
	"github.com/eschaton-network/chand/store/memstore"
	"github.com/eschaton-network/chand/types"
)

func TestChallenge(t *testing.T) {
	s := openShop(t, memstore.New(), nil)
	res, body := s.do("GET", "/echo/x?y=1", "")
	lines := res.Header.Values("WWW-Authenticate")
	if res.StatusCode != 402 || len(lines) != 2 {
		t.Fatalf("%d %q %s", res.StatusCode, lines, body)
	}
	c, err := ParseChallenge(res.Header)
	if err != nil || c.Scheme != "L402" {
		t.Fatalf("%+v, %v", c, err)
	}
	if lines[0] != fmt.Sprintf(`LSAT macaroon="%s", invoice="%s"`, c.Token, c.Invoice) ||
		lines[1] != fmt.Sprintf(`L402 macaroon="%s", invoice="%s", version="0", token="%s"`, c.Token, c.Invoice, c.Token) {
		t.Errorf("challenge lines %q", lines)
	}
	raw, err := base64.StdEncoding.DecodeString(c.Token)
	var m macaroon.Macaroon
	if err != nil || m.UnmarshalBinary(raw) != nil || len(m.Id()) != 66 || m.Id()[0] != 0 || m.Id()[1] != 0 {
		t.Fatalf("token %x: %v", raw, err)
	}
	if hash, _ := paymentHash(&m); "lntest"+hash.String() != c.Invoice {
		t.Errorf("the token is not for the invoice")
	}
	for h, want := range map[string]string{"Cache-Control": "no-store", "Content-Type": "application/problem+json", "Access-Control-Allow-Origin": "*", HeaderPrice: "3/request"} {
		if res.Header.Get(h) != want {
			t.Errorf("%s: %q", h, res.Header.Get(h))
		}
	}
	if !strings.Contains(res.Header.Get("Access-Control-Expose-Headers"), "WWW-Authenticate") {
		t.Error("browsers can't read the challenge")
	}
	var p problem
	if err := json.Unmarshal([]byte(body), &p); err != nil || p.Status != 402 || p.Price != "3" || p.Unit != "request" || p.Amount != "3" || p.Type == "" || p.Title == "" || p.Detail == "" {
		t.Errorf("problem %+v, %v", p, err)
	}
	if s.served.Load() != 0 {
		t.Error("served unpaid")
	}
	if res, body := s.do("GET", "/echo/", "", HeaderRequests, "10"); res.StatusCode != 402 || !strings.Contains(body, `"amount":"30"`) {
		t.Errorf("ten: %d %s", res.StatusCode, body)
	}
	for _, bad := range []string{"0", "-1", "x", "1000001", "99999999999"} {
		if res, body := s.do("GET", "/echo/", "", HeaderRequests, bad); res.StatusCode != 400 {
			t.Errorf("%s requests: %d %s", bad, res.StatusCode, body)
		}
	}
}

func TestCredentialForms(t *testing.T) {
	s := openShop(t, memstore.New(), nil)
	url := func(t string) string { return strings.NewReplacer("+", "-", "/", "_").Replace(t) }
	withPreimage := func(token, preimage string) string {
		raw, _ := base64.StdEncoding.DecodeString(token)
		var m macaroon.Macaroon
		if err := m.UnmarshalBinary(raw); err != nil {
			t.Fatal(err)
		}
		if err := m.AddFirstPartyCaveat([]byte("preimage=" + preimage)); err != nil {
			t.Fatal(err)
		}
		raw, _ = m.MarshalBinary()
		return hex.EncodeToString(raw)
	}
	for name, form := range map[string]func(token, preimage string) []string{
		"L402":       func(t, p string) []string { return []string{"Authorization", "L402 " + t + ":" + p} },
		"LSAT":       func(t, p string) []string { return []string{"Authorization", "LSAT " + t + ":" + p} },
		"lower case": func(t, p string) []string { return []string{"Authorization", "l402 " + t + ":" + p} },
		"upper hex":  func(t, p string) []string { return []string{"Authorization", "L402 " + t + ":" + strings.ToUpper(p)} },
		"url base64": func(t, p string) []string { return []string{"Authorization", "L402 " + url(t) + ":" + p} },
		"no padding": func(t, p string) []string {
			return []string{"Authorization", "L402 " + strings.TrimRight(t, "=") + ":" + p}
		},
		"two tokens": func(t, p string) []string { return []string{"Authorization", "L402 " + t + "," + t + ":" + p} },
		"other scheme too": func(t, p string) []string {
			return []string{"Authorization", "Basic eDp5", "Authorization", "L402 " + t + ":" + p}
		},
		"a bad line first": func(t, p string) []string {
			return []string{"Authorization", "LSAT AAAA:00", "Authorization", "L402 " + t + ":" + p}
		},
		"Macaroon":      func(t, p string) []string { return []string{"Macaroon", withPreimage(t, p)} },
		"gRPC metadata": func(t, p string) []string { return []string{"Grpc-Metadata-Macaroon", withPreimage(t, p)} },
	} {
		token, preimage := s.buy(1)
		before := s.served.Load()
		res, body := s.do("POST", "/echo/a%2Fb?q=1", "hello", form(token, preimage)...)
		if res.StatusCode != 200 || body != "POST /a%2Fb?q=1 hello" || s.served.Load() != before+1 {
			t.Errorf("%s: %d %s", name, res.StatusCode, body)
		}
		if res.Header.Get(HeaderLeft) != "0" || len(res.Header.Values("Access-Control-Allow-Origin")) != 1 {
			t.Errorf("%s: headers %v", name, res.Header)
		}
		res, body = s.do("POST", "/echo/", "", form(token, preimage)...)
		if _, err := ParseChallenge(res.Header); res.StatusCode != 402 || err != nil || !strings.Contains(body, "used up") {
			t.Errorf("%s, again: %d %s", name, res.StatusCode, body)
		}
	}
}

func TestRefusals(t *testing.T) {
	s := openShop(t, memstore.New(), nil)
	if err := s.seller.Set(Service{Name: "other", Target: "http://127.0.0.1:1", Price: market.Price{Amount: 1, Unit: market.Request}}); err != nil {
		t.Fatal(err)
	}
	token, preimage := s.buy(3)
	raw, _ := base64.StdEncoding.DecodeString(token)
	flip := func(i int) string {
		b := append([]byte{}, raw...)
		b[i] ^= 1
		return base64.StdEncoding.EncodeToString(b)
	}
	caveat := func(c string) string {
		var m macaroon.Macaroon
		_ = m.UnmarshalBinary(raw)
		if err := m.AddFirstPartyCaveat([]byte(c)); err != nil {
			t.Fatal(err)
		}
		b, _ := m.MarshalBinary()
		return base64.StdEncoding.EncodeToString(b)
	}
	foreign, err := mint(DerivedKeys{2}, grant{types.Preimage{9}.Hash(), "echo", 5, 1, 1 << 40})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, path, auth string
		status           int
	}{
		{"none", "/echo/", "", 402},
		{"only Basic", "/echo/", "Basic eDp5", 402},
		{"not base64", "/echo/", "L402 !!:" + preimage, 401},
		{"no colon", "/echo/", "L402 " + token, 401},
		{"no preimage", "/echo/", "L402 " + token + ":", 401},
		{"wrong preimage", "/echo/", "L402 " + token + ":" + strings.Repeat("00", 32), 401},
		{"short preimage", "/echo/", "L402 " + token + ":" + preimage[2:], 401},
		{"signature changed", "/echo/", "L402 " + flip(len(raw)-1) + ":" + preimage, 401},
		{"identifier changed", "/echo/", "L402 " + flip(60) + ":" + preimage, 401},
		{"another root key", "/echo/", "L402 " + foreign + ":" + types.Preimage{9}.String(), 401},
		{"more requests wanted", "/echo/", "L402 " + caveat("echo_requests=100") + ":" + preimage, 200},
		{"none left by caveat", "/echo/", "L402 " + caveat("echo_requests=0") + ":" + preimage, 402},
		{"expired by caveat", "/echo/", "L402 " + caveat("echo_valid_until=5") + ":" + preimage, 402},
		{"service by caveat", "/echo/", "L402 " + caveat("services=other:0") + ":" + preimage, 402},
		{"unknown caveat", "/echo/", "L402 " + caveat("colour=red") + ":" + preimage, 200},
		{"another service", "/other/", "L402 " + token + ":" + preimage, 402},
		{"no such service", "/nothing/", "L402 " + token + ":" + preimage, 404},
		{"out of the path", "/echo/../x", "L402 " + token + ":" + preimage, 400},
		{"out of the path, hidden", "/echo/%2e%2e/x", "L402 " + token + ":" + preimage, 400},
		{"good", "/echo/", "L402 " + token + ":" + preimage, 200},
		{"used up", "/echo/", "L402 " + token + ":" + preimage, 402},
	} {
		before := s.bank.n
		var header []string
		if c.auth != "" {
			header = []string{"Authorization", c.auth}
		}
		res, body := s.do("GET", c.path, "", header...)
		if res.StatusCode != c.status {
			t.Errorf("%s: %d, want %d: %s", c.name, res.StatusCode, c.status, body)
		}
		if c.status >= 400 && !strings.Contains(res.Header.Get("Content-Type"), "problem+json") {
			t.Errorf("%s: %s", c.name, res.Header.Get("Content-Type"))
		}
		if (s.bank.n != before) != (c.status == 402) {
			t.Errorf("%s: %d invoices made", c.name, s.bank.n-before)
		}
	}
	if got := s.served.Load(); got != 3 {
		t.Errorf("%d served, 3 bought", got)
	}
	// Expired by the clock.
	token, preimage = s.buy(1)
	s.now.Add(int64(CreditLife / time.Second))
	if res, body := s.do("GET", "/echo/", "", "Authorization", "L402 "+token+":"+preimage); res.StatusCode != 402 || !strings.Contains(body, "expired") {
		t.Errorf("expired: %d %s", res.StatusCode, body)
	}
}

func TestConcurrentUseOfOneCredit(t *testing.T) {
	for _, bought := range []int{1, 7} {
		s := openShop(t, memstore.New(), nil)
		token, preimage := s.buy(bought)
		var ok, refused atomic.Int64
		var wg sync.WaitGroup
		for range 25 {
			wg.Go(func() {
				res, _ := s.do("GET", "/echo/", "", "Authorization", "L402 "+token+":"+preimage)
				switch res.StatusCode {
				case 200:
					ok.Add(1)
				case 402, 429:
					refused.Add(1)
				}
			})
		}
		wg.Wait()
		if int(ok.Load()) != bought || int(refused.Load()) != 25-bought || int(s.served.Load()) != bought {
			t.Errorf("%d of %d served, backend saw %d, %d refused", ok.Load(), bought, s.served.Load(), refused.Load())
		}
		if total := s.seller.cfg.Credits.Total("echo"); total.Served != uint64(bought) || total.Earned != 3*types.Coin*types.Amount(bought) {
			t.Errorf("total %+v", total)
		}
	}
}

func TestBackendFailureKeepsTheCredit(t *testing.T) {
	var fail atomic.Value
	s := openShop(t, memstore.New(), func(w http.ResponseWriter, r *http.Request) {
		switch fail.Load() {
		case "500":
			w.WriteHeader(500)
		case "drop":
			panic(http.ErrAbortHandler)
		default:
			io.WriteString(w, "ok "+r.Header.Get("Authorization")+r.Header.Get("Macaroon"))
		}
	})
	token, preimage := s.buy(1)
	auth := []string{"Authorization", "L402 " + token + ":" + preimage, "Authorization", "Basic eDp5"}
	for _, c := range []struct {
		fail   string
		status int
		left   string
	}{{"500", 500, "1"}, {"drop", 502, "1"}, {"500", 500, "1"}, {"", 200, "0"}} {
		fail.Store(c.fail)
		res, body := s.do("GET", "/echo/", "", auth...)
		if res.StatusCode != c.status || res.Header.Get(HeaderLeft) != c.left {
			t.Fatalf("%q: %d, %s left: %s", c.fail, res.StatusCode, res.Header.Get(HeaderLeft), body)
		}
		if c.status == 200 && body != "ok Basic eDp5" {
			t.Errorf("the backend saw %q", body)
		}
	}
	if res, _ := s.do("GET", "/echo/", "", auth...); res.StatusCode != 402 {
		t.Errorf("after use: %d", res.StatusCode)
	}
	if total := s.seller.cfg.Credits.Total("echo"); total != (Total{1, 3 * types.Coin}) {
		t.Errorf("total %+v", total)
	}
}

func TestTimeoutOfTheBackend(t *testing.T) {
	release := make(chan struct{})
	s := openShop(t, memstore.New(), func(http.ResponseWriter, *http.Request) { <-release })
	defer close(release)
	s.seller.backend = newBackend(20 * time.Millisecond)
	if err := s.seller.Set(s.seller.List()[0]); err != nil {
		t.Fatal(err)
	}
	token, preimage := s.buy(1)
	res, body := s.do("GET", "/echo/", "", "Authorization", "L402 "+token+":"+preimage)
	if res.StatusCode != 504 || res.Header.Get(HeaderLeft) != "1" || !strings.Contains(body, "stays paid") {
		t.Errorf("%d %s", res.StatusCode, body)
	}
}

// A store that fails must not serve for free, nor say that the credit is gone.
func TestStoreFailure(t *testing.T) {
	st := memstore.New()
	s := openShop(t, st, nil)
	token, preimage := s.buy(1)
	st.Crash()
	if res, body := s.do("GET", "/echo/", "", "Authorization", "L402 "+token+":"+preimage); res.StatusCode != 503 || s.served.Load() != 0 {
		t.Errorf("%d %s", res.StatusCode, body)
	}
}

func TestStreaming(t *testing.T) {
	next := make(chan string)
	s := openShop(t, memstore.New(), func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", "/elsewhere?x=1")
		for line := range next {
			io.WriteString(w, line)
			w.(http.Flusher).Flush()
		}
	})
	token, preimage := s.buy(1)
	r, _ := http.NewRequest("GET", s.url+"/echo/", nil)
	r.Header.Set("Authorization", "L402 "+token+":"+preimage)
	go func() { next <- "one" }()
	res, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	buf := make([]byte, 3)
	for _, want := range []string{"one", "two", "end"} {
		if _, err := io.ReadFull(res.Body, buf); err != nil || string(buf) != want {
			t.Fatalf("%q, %v, want %q before the next is written", buf, err, want)
		}
		switch want {
		case "one":
			next <- "two"
		case "two":
			next <- "end"
			close(next)
		}
	}
	if got := res.Header.Get("Location"); got != "/echo/elsewhere?x=1" {
		t.Errorf("redirect to %q", got)
	}
}

func TestDirectoryAndOptions(t *testing.T) {
	s := openShop(t, memstore.New(), nil)
	res, body := s.do("GET", DirectoryPath, "")
	if res.StatusCode != 200 || !strings.Contains(body, `{"name":"echo","path":"/echo/","price":"3","unit":"request","payment":"L402"}`) {
		t.Errorf("%d %s", res.StatusCode, body)
	}
	if res, _ := s.do("POST", DirectoryPath, ""); res.StatusCode != 405 {
		t.Errorf("POST: %d", res.StatusCode)
	}
	res, _ = s.do("OPTIONS", "/echo/", "", "Origin", "https://shop.example", "Access-Control-Request-Method", "GET")
	if res.StatusCode != 204 || res.Header.Get(HeaderPrice) != "3/request" || !strings.Contains(res.Header.Get("Access-Control-Allow-Headers"), "Authorization") {
		t.Errorf("%d %v", res.StatusCode, res.Header)
	}
	if s.bank.n != 0 {
		t.Error("asking for the price made an invoice")
	}
	s.seller.Remove("echo")
	if res, _ := s.do("GET", "/echo/", ""); res.StatusCode != 404 {
		t.Errorf("removed: %d", res.StatusCode)
	}
}

func TestGRPCChallenge(t *testing.T) {
	s := openShop(t, memstore.New(), nil)
	res, _ := s.do("POST", "/echo/pkg.Service/Method", "", "Content-Type", "application/grpc")
	if res.StatusCode != 200 || res.Header.Get("Grpc-Status") != "13" || res.Header.Get("Grpc-Message") != "payment required" || len(res.Header.Values("WWW-Authenticate")) != 2 {
		t.Errorf("%d %v", res.StatusCode, res.Header)
	}
}

func TestChallengesAreLimited(t *testing.T) {
	s := openShop(t, memstore.New(), nil)
	token, preimage := s.buy(1)
	var limited *http.Response
	for range clientBurst {
		if res, _ := s.do("GET", "/echo/", ""); res.StatusCode == 429 {
			limited = res
			break
		}
	}
	if limited == nil || limited.Header.Get("Retry-After") == "" {
		t.Fatalf("never limited")
	}
	if s.bank.n > clientBurst {
		t.Errorf("%d invoices for a burst of %d", s.bank.n, clientBurst)
	}
	if res, body := s.do("GET", "/echo/", "", "Authorization", "L402 "+token+":"+preimage); res.StatusCode != 200 {
		t.Errorf("a paid request was limited: %d %s", res.StatusCode, body)
	}
	s.now.Add(60)
	if res, _ := s.do("GET", "/echo/", ""); res.StatusCode != 402 {
		t.Errorf("a minute later: %d", res.StatusCode)
	}
	s.now.Add(60)
	s.seller.limits.forget()
	if n := len(s.seller.limits.clients); n != 0 {
		t.Errorf("%d idle clients kept", n)
	}
}

func TestServiceCheck(t *testing.T) {
	good := Service{Name: "a", Target: "http://127.0.0.1:8080/base", Price: market.Price{Amount: 1, Unit: market.Request}}
	if err := good.Check(); err != nil {
		t.Fatal(err)
	}
	for what, change := range map[string]func(*Service){
		"name": func(s *Service) { s.Name = "a/b" }, "no host": func(s *Service) { s.Target = "http://" }, "file": func(s *Service) { s.Target = "file:///etc" },
		"user": func(s *Service) { s.Target = "http://u:p@h" }, "query": func(s *Service) { s.Target = "http://h?x" }, "free": func(s *Service) { s.Price.Amount = 0 },
		"unit": func(s *Service) { s.Price.Unit = market.Byte },
	} {
		v := good
		change(&v)
		if v.Check() == nil {
			t.Errorf("%s: accepted %+v", what, v)
		}
	}
}
