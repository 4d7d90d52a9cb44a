package gateway

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/eschaton-network/chand/market"
	"github.com/eschaton-network/chand/types"
)

// Headers of our own. Foreign clients need none of them.
const (
	// HeaderRequests in a request asks to buy that many requests at once.
	HeaderRequests = "Chand-Requests"
	// HeaderPrice in an answer is the price, "3/request".
	HeaderPrice = "Chand-Price"
	// HeaderLeft in an answer is the number of requests left on the credential.
	HeaderLeft = "Chand-Requests-Left"
)

const (
	// DirectoryPath lists services and prices as JSON, to be read before anything is paid.
	DirectoryPath = "/.well-known/chand/services"
	// CreditLife is how long what was bought may be used. It bounds the number of credits kept.
	CreditLife = 24 * time.Hour
	// MaxRequests bounds one purchase.
	MaxRequests = 1_000_000
	// MaxServices bounds the table.
	MaxServices = 1000
	// MaxInFlight bounds requests under way; the rest are asked to come later (503).
	MaxInFlight = 2000
	// pruneEvery: lapsed credits and idle clients are dropped that often.
	pruneEvery = time.Hour
	// settleTime bounds what still is to be stored when the buyer has left.
	settleTime = 10 * time.Second
)

// Invoicer makes invoices of the daemon.
type Invoicer interface {
	// CreateInvoice returns an invoice for amount and its payment hash. service names what it is for, in the daemon's books.
	CreateInvoice(ctx context.Context, amount types.Amount, memo, service string) (invoice string, hash types.Hash, err error)
}

// Service is one HTTP server behind the paywall.
type Service struct {
	Name string
	// Target is the server behind, http:// or https://; its path is put before the request's.
	Target      string
	Price       market.Price
	Description string
}

// Check wants a good name, an absolute http target and a price a request.
func (s Service) Check() error {
	if err := market.CheckName(s.Name); err != nil {
		return err
	}
	u, err := url.Parse(s.Target)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || len(s.Target) > market.MaxURL {
		return fmt.Errorf("the target %.80q is not an address like http://127.0.0.1:8080", s.Target)
	}
	if s.Price.Unit != market.Request {
		return fmt.Errorf("the gateway sells by request; the price %s is by %s", s.Price, s.Price.Unit)
	}
	if len(s.Description) > market.MaxDescription {
		return fmt.Errorf("the description has %d bytes, want at most %d", len(s.Description), market.MaxDescription)
	}
	return s.Price.Check()
}

// SellerConfig is what a Seller needs.
type SellerConfig struct {
	Invoicer Invoicer
	Keys     RootKeys
	Credits  *Credits
	// BackendTimeout is for a backend to begin its answer. 0: 2 minutes.
	BackendTimeout time.Duration
	// Logger may be nil.
	Logger *slog.Logger
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
}

// Seller is the paywall: an http.Handler that serves /NAME/… for every service and the directory. Safe for concurrent use.
type Seller struct {
	cfg     SellerConfig
	limits  *limiter
	slots   chan struct{}
	backend http.RoundTripper

	mu       sync.RWMutex
	services map[string]*selling // guarded by mu
}

type selling struct {
	Service
	proxy http.Handler
}

// NewSeller returns a Seller without services.
func NewSeller(cfg SellerConfig) *Seller {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.BackendTimeout == 0 {
		cfg.BackendTimeout = 2 * time.Minute
	}
	return &Seller{cfg: cfg, limits: newLimiter(cfg.Now), slots: make(chan struct{}, MaxInFlight), backend: newBackend(cfg.BackendTimeout),
		services: map[string]*selling{}}
}

// Set adds a service, or changes the one of that name.
func (s *Seller) Set(v Service) error {
	if err := v.Check(); err != nil {
		return err
	}
	target, err := url.Parse(v.Target)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.services[v.Name] == nil && len(s.services) >= MaxServices {
		return fmt.Errorf("there are %d services, which is the most: remove one first", MaxServices)
	}
	s.services[v.Name] = &selling{v, s.newProxy(v.Name, target)}
	return nil
}

// Remove takes a service down. Credit for it stays until it lapses, should the service come back.
func (s *Seller) Remove(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.services, name)
}

// List returns the services by name.
func (s *Seller) List() []Service {
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := make([]Service, 0, len(s.services))
	for _, v := range s.services {
		out = append(out, v.Service)
	}
	slices.SortFunc(out, func(a, b Service) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// Run drops what has lapsed, once an hour, until ctx ends.
func (s *Seller) Run(ctx context.Context) {
	t := time.NewTicker(pruneEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			s.limits.forget()
			if err := s.cfg.Credits.Prune(ctx, s.cfg.Now()); err != nil && ctx.Err() == nil {
				s.cfg.Logger.Error("lapsed credits were not removed; tried again in an hour", "error", err)
			}
		}
	}
}

// ServeHTTP challenges, checks credentials and lets paid requests through.
func (s *Seller) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == DirectoryPath {
		s.directory(w, r)
		return
	}
	name, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	s.mu.RLock()
	v := s.services[name]
	s.mu.RUnlock()
	if v == nil {
		problem{Type: problemType("no-such-service"), Title: "No such service", Status: http.StatusNotFound,
			Detail: "nothing is sold under this path; " + DirectoryPath + " lists what is"}.write(w, r)
		return
	}
	if slices.Contains(strings.Split(r.URL.Path, "/"), "..") { // would leave the part of the backend that is sold
		problem{Type: problemType("bad-path"), Title: "Bad path", Status: http.StatusBadRequest, Detail: "the path has a .. in it"}.write(w, r)
		return
	}
	if r.Method == http.MethodOptions {
		cors(w.Header())
		w.Header().Set(HeaderPrice, v.Price.String())
		w.WriteHeader(http.StatusNoContent)
		return
	}
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	default:
		w.Header().Set("Retry-After", "1")
		problem{Type: problemType("busy"), Title: "Too many requests under way", Status: http.StatusServiceUnavailable,
			Detail: "try again in a second; nothing was used"}.write(w, r)
		return
	}
	g, left, err := s.authorise(r, name)
	switch {
	case errors.Is(err, errForged):
		// A bare challenge, without an invoice: forging costs us nothing.
		w.Header().Set("WWW-Authenticate", `L402 version="0"`)
		problem{Type: problemType("credential-invalid"), Title: "Credential not valid", Status: http.StatusUnauthorized,
			Detail: err.Error() + "; ask without it for a new challenge"}.write(w, r)
	case errors.Is(err, errInsufficient):
		s.challenge(w, r, v, strings.TrimPrefix(err.Error(), errInsufficient.Error()+": "))
	case err != nil:
		s.cfg.Logger.Error("credit could not be read or stored", "service", name, "error", err)
		problem{Type: problemType("storage"), Title: "Credit store not available", Status: http.StatusServiceUnavailable,
			Detail: "the seller could not book the request, so it was not passed on; try again with the same credential"}.write(w, r)
	default:
		s.pass(w, r, v, g, left)
	}
}

// authorise finds the first credential that permits the request and takes one request of its credit.
func (s *Seller) authorise(r *http.Request, service string) (grant, uint32, error) {
	creds, present := credentials(r.Header)
	switch {
	case !present:
		return grant{}, 0, fmt.Errorf("%w: pay the invoice and repeat the request with the token and the preimage", errInsufficient)
	case len(creds) == 0:
		return grant{}, 0, fmt.Errorf("%w: want `Authorization: L402 TOKEN:PREIMAGE` with the token in base64", errForged)
	}
	now := types.Time(s.cfg.Now().Unix())
	var forged, insufficient error
	for _, c := range creds {
		g, err := verify(s.cfg.Keys, c, service, now)
		var left uint32
		if err == nil {
			left, err = s.cfg.Credits.Use(r.Context(), service, g.hash, market.Credit{Limit: g.requests, Paid: g.paid, Until: g.until})
			if err == nil {
				return g, min(left, g.requests), nil
			}
		}
		switch {
		case errors.Is(err, errForged):
			forged = err
		case errors.Is(err, market.ErrUsedUp):
			insufficient = fmt.Errorf("%w: %w", errInsufficient, err)
		case errors.Is(err, errInsufficient):
			insufficient = err
		default:
			return grant{}, 0, err
		}
	}
	if insufficient != nil { // the buyer did pay once: tell him what is wrong with that
		return grant{}, 0, insufficient
	}
	return grant{}, 0, forged
}

// challenge answers 402 with a fresh invoice and token.
func (s *Seller) challenge(w http.ResponseWriter, r *http.Request, v *selling, why string) {
	n, err := wanted(r)
	amount, priceErr := v.Price.For(n)
	if err = errors.Join(err, priceErr); err != nil {
		problem{Type: problemType("bad-quantity"), Title: "Bad number of requests", Status: http.StatusBadRequest, Detail: err.Error()}.write(w, r)
		return
	}
	if wait, ok := s.limits.allow(r); !ok {
		w.Header().Set("Retry-After", strconv.Itoa(int(wait/time.Second)+1))
		problem{Type: problemType("too-many-challenges"), Title: "Too many unpaid requests", Status: http.StatusTooManyRequests,
			Detail: "pay an invoice that you have, or wait; paid requests are not limited"}.write(w, r)
		return
	}
	invoice, hash, err := s.cfg.Invoicer.CreateInvoice(r.Context(), amount, fmt.Sprintf("%d request(s) to %s", n, v.Name), v.Name)
	var token string
	if err == nil {
		token, err = mint(s.cfg.Keys, grant{hash, v.Name, n, amount, types.Time(s.cfg.Now().Add(CreditLife).Unix())})
	}
	if err != nil {
		s.cfg.Logger.Error("no challenge could be made", "service", v.Name, "error", err)
		problem{Type: problemType("no-invoice"), Title: "No invoice", Status: http.StatusServiceUnavailable,
			Detail: "the seller can't make an invoice now; try again later"}.write(w, r)
		return
	}
	Challenge{Token: token, Invoice: invoice}.write(w.Header())
	w.Header().Set(HeaderPrice, v.Price.String())
	problem{Type: problemType("payment-required"), Title: "Payment required", Status: http.StatusPaymentRequired, Detail: why,
		Price: v.Price.Amount.String(), Unit: string(v.Price.Unit), Requests: n, Amount: amount.String(), Invoice: invoice}.write(w, r)
}

// wanted reads how many requests the buyer wants to buy.
func wanted(r *http.Request) (uint32, error) {
	text := r.Header.Get(HeaderRequests)
	if text == "" {
		return 1, nil
	}
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil || n == 0 || n > MaxRequests {
		return 0, fmt.Errorf("%s: %.40q: want a number from 1 to %d", HeaderRequests, text, MaxRequests)
	}
	return uint32(n), nil
}

// directory lists services and prices.
func (s *Seller) directory(w http.ResponseWriter, r *http.Request) {
	cors(w.Header())
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	type entry struct {
		Name        string `json:"name"`
		Path        string `json:"path"`
		Price       string `json:"price"`
		Unit        string `json:"unit"`
		Payment     string `json:"payment"`
		Description string `json:"description,omitempty"`
	}
	list := []entry{}
	for _, v := range s.List() {
		list = append(list, entry{v.Name, "/" + v.Name + "/", v.Price.Amount.String(), string(v.Price.Unit), "L402", v.Description})
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"services": list}) // the client is gone
}
