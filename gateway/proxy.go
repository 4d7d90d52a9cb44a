package gateway

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

const (
	// MaxBody bounds a request's body on its way to the backend. Answers stream without a bound.
	MaxBody = 64 << 20
	// dialTimeout: backends are near.
	dialTimeout = 10 * time.Second
	// headerTimeout and idleTimeout free connections of slow or gone clients.
	headerTimeout = 10 * time.Second
	idleTimeout   = 2 * time.Minute
	// maxHeader fits several tokens.
	maxHeader = 64 << 10
)

// NewHTTPServer returns a server for the paywall with its limits set, HTTP/1 and HTTP/2 without TLS (for gRPC).
func NewHTTPServer(h http.Handler) *http.Server {
	var p http.Protocols
	p.SetHTTP1(true)
	p.SetUnencryptedHTTP2(true)
	return &http.Server{Handler: h, Protocols: &p, ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader}
}

// newBackend returns the transport to backends. gRPC needs HTTP/2 from end to end, also without TLS.
func newBackend(timeout time.Duration) http.RoundTripper {
	one := &http.Transport{DialContext: (&net.Dialer{Timeout: dialTimeout}).DialContext, ResponseHeaderTimeout: timeout,
		ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 100, IdleConnTimeout: time.Minute, DisableCompression: true}
	two := one.Clone()
	two.Protocols = new(http.Protocols)
	two.Protocols.SetHTTP2(true)
	two.Protocols.SetUnencryptedHTTP2(true)
	return backend{one, two}
}

type backend struct{ http, grpc http.RoundTripper }

func (b backend) RoundTrip(r *http.Request) (*http.Response, error) {
	if isGRPC(r) {
		return b.grpc.RoundTrip(r)
	}
	return b.http.RoundTrip(r)
}

// passKey finds the pass of a request in its context.
type passKey struct{}

// pass is one paid request under way. It belongs to the goroutine that serves the request.
type pass struct {
	s *Seller
	grant
	left   uint32
	logged *http.Request
}

// pass lets a paid request through. What fails before the backend has answered is given back.
func (s *Seller) pass(w http.ResponseWriter, r *http.Request, v *selling, g grant, left uint32) {
	p := &pass{s, g, left, r}
	r.Body = http.MaxBytesReader(w, r.Body, MaxBody)
	v.proxy.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), passKey{}, p)))
}

// refund gives the request back, also when the buyer has left meanwhile.
func (p *pass) refund() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(p.logged.Context()), settleTime)
	defer cancel()
	if err := p.s.cfg.Credits.Refund(ctx, p.service, p.hash); err != nil {
		p.s.cfg.Logger.Error("a request was not delivered and could not be given back", "service", p.service, "payment", p.hash, "error", err)
		return
	}
	p.left++
}

func (s *Seller) newProxy(name string, target *url.URL) http.Handler {
	return &httputil.ReverseProxy{
		Transport:     s.backend,
		FlushInterval: -1, // streams reach the buyer as they come
		ErrorLog:      slog.NewLogLogger(s.cfg.Logger.Handler(), slog.LevelDebug),
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Path = strings.TrimPrefix(r.In.URL.Path, "/"+name)
			r.Out.URL.RawPath = strings.TrimPrefix(r.In.URL.RawPath, "/"+name)
			r.SetURL(target)
			r.SetXForwarded()
			r.Out.Header.Set("X-Forwarded-Prefix", "/"+name)
			strip(r.Out.Header)
		},
		ModifyResponse: func(res *http.Response) error {
			p := res.Request.Context().Value(passKey{}).(*pass)
			if res.StatusCode >= 500 { // the backend failed: nothing was delivered
				p.refund()
			}
			for h := range res.Header {
				if strings.HasPrefix(h, "Access-Control-") {
					res.Header.Del(h)
				}
			}
			cors(res.Header)
			res.Header.Set(HeaderLeft, strconv.FormatUint(uint64(p.left), 10))
			relocate(res, name, target)
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			r.Context().Value(passKey{}).(*pass).failed(w, r, err)
		},
	}
}

// failed answers for a backend that did not. A buyer who leaves before the answer has used the request up: the backend may
// have done its work.
func (p *pass) failed(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() != nil {
		return
	}
	p.refund()
	p.s.cfg.Logger.Warn("a backend failed", "service", p.service, "error", err)
	w.Header().Set(HeaderLeft, strconv.FormatUint(uint64(p.left), 10))
	answer := problem{Type: problemType("backend-failed"), Title: "The service behind failed", Status: http.StatusBadGateway,
		Detail: "the request was not delivered and stays paid: repeat it with the same credential"}
	var tooLong *http.MaxBytesError
	var netErr net.Error
	switch {
	case errors.As(err, &tooLong):
		answer.Type, answer.Title, answer.Status = problemType("body-too-large"), "Body too large", http.StatusRequestEntityTooLarge
		answer.Detail = "the body exceeds " + strconv.Itoa(MaxBody) + " bytes; the request stays paid: send less with the same credential"
	case errors.As(err, &netErr) && netErr.Timeout(), errors.Is(err, os.ErrDeadlineExceeded):
		answer.Type, answer.Title, answer.Status = problemType("backend-timeout"), "The service behind is too slow", http.StatusGatewayTimeout
	}
	answer.write(w, r)
}

// relocate keeps redirects within the backend behind the gateway's path.
func relocate(res *http.Response, name string, target *url.URL) {
	u, err := url.Parse(res.Header.Get("Location"))
	if err != nil || u.String() == "" || u.Host != "" && u.Host != target.Host || !strings.HasPrefix(u.Path, "/") {
		return
	}
	path, ok := strings.CutPrefix(u.Path, strings.TrimSuffix(target.Path, "/"))
	if !ok {
		return
	}
	u.Scheme, u.Host, u.Path, u.RawPath = "", "", "/"+name+path, ""
	res.Header.Set("Location", u.String())
}
