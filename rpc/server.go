package rpc

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"connectrpc.com/connect"
	"connectrpc.com/grpcreflect"

	"github.com/eschaton-network/chand/rpc/gen/chand/v1/chandv1connect"
)

const (
	// MaxRequest bounds a request after decompression: a fetch with a body of 4 MiB fits; nothing else comes near.
	MaxRequest = 5 << 20
	// MaxConns bounds connections; each costs a TLS state and two goroutines.
	MaxConns = 1000
	// readTimeout is for a request to arrive whole.
	readTimeout = 30 * time.Second
	idleTimeout = 2 * time.Minute
	// maxHeader fits several macaroons.
	maxHeader = 32 << 10
	// minCompressed is the size from which answers are compressed for those who ask for it: below, resetting the compressor costs more
	// than all else in a call, and most daemons are asked from the same machine.
	minCompressed = 16 << 10
	// maxStreams bounds concurrent calls of one HTTP/2 connection.
	maxStreams = 1000
)

// Config of a server.
type Config struct {
	// Home holds the certificate and the macaroon files, made on the first run.
	Home string
	// Listen is HOST:PORT; port 0 takes a free one.
	Listen string
	// RootKey makes and checks macaroons. Another key makes all macaroons invalid.
	RootKey [32]byte
	// Logger gets one line a call. Nil: none.
	Logger *slog.Logger
	// Now is the clock for macaroon expiry. Nil: time.Now.
	Now func() time.Time
}

// Handlers are what the methods do. A nil one answers "unimplemented".
type Handlers struct {
	Status     chandv1connect.StatusHandler
	Account    chandv1connect.AccountHandler
	Ledger     chandv1connect.LedgerHandler
	Peers      chandv1connect.PeersHandler
	Towers     chandv1connect.TowersHandler
	Backups    chandv1connect.BackupsHandler
	Channels   chandv1connect.ChannelsHandler
	Routes     chandv1connect.RoutesHandler
	Payments   chandv1connect.PaymentsHandler
	Streams    chandv1connect.PaymentStreamsHandler
	Escrows    chandv1connect.EscrowsHandler
	Operations chandv1connect.OperationsHandler
	Statements chandv1connect.StatementsHandler
	Services   chandv1connect.ServicesHandler
	Timestamps chandv1connect.TimestampsHandler
	Events     chandv1connect.EventsHandler
	Admin      chandv1connect.AdminHandler
}

// Server serves the interface on one TLS port.
type Server struct {
	listener net.Listener
	http     *http.Server
	cancel   context.CancelFunc
}

// NewServer makes certificate and macaroons when they are missing, and listens. Serve answers.
func NewServer(c Config, h Handlers) (*Server, error) {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	host, _, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return nil, fmt.Errorf("rpc address %q: want HOST:PORT like 127.0.0.1:0", c.Listen)
	}
	if host == "" || net.ParseIP(host).IsUnspecified() {
		host = "localhost"
	}
	cert, err := loadCert(filepath.Join(c.Home, CertFile), filepath.Join(c.Home, KeyFile), host, c.Now())
	if err != nil {
		return nil, err
	}
	a := authority{c.RootKey, c.Now}
	if err := writeMacaroons(c.Home, a); err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return nil, fmt.Errorf("rpc address %s: %w (is another program on the port? choose another, or port 0 for any)", c.Listen, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var p http.Protocols
	p.SetHTTP1(true)
	p.SetHTTP2(true)
	return &Server{newLimitListener(l, MaxConns), &http.Server{
		Handler:           limitBody(a.guard(routes(h, c.Logger))),
		TLSConfig:         &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12},
		Protocols:         &p,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: maxStreams},
		ReadHeaderTimeout: readTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(c.Logger.Handler(), slog.LevelDebug),
		BaseContext:       func(net.Listener) context.Context { return ctx },
	}, cancel}, nil
}

// Addr is HOST:PORT, with the port that was taken.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Serve answers until Shutdown, then returns nil.
func (s *Server) Serve() error {
	if err := s.http.ServeTLS(s.listener, "", ""); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Shutdown takes no new calls, ends streams, waits for the calls under way until ctx ends, and closes.
func (s *Server) Shutdown(ctx context.Context) error {
	s.cancel() // streams of events would last for ever
	err := s.http.Shutdown(ctx)
	return errors.Join(err, s.http.Close())
}

func routes(h Handlers, log *slog.Logger) http.Handler {
	opts := []connect.HandlerOption{
		connect.WithCodec(protoCodec{}),
		connect.WithCodec(jsonCodec{"json"}),
		connect.WithCodec(jsonCodec{"json; charset=utf-8"}),
		connect.WithReadMaxBytes(MaxRequest),
		connect.WithCompressMinBytes(minCompressed),
		connect.WithInterceptors(observer{log}),
		connect.WithRecover(func(_ context.Context, s connect.Spec, _ http.Header, p any) error {
			log.Error("panic in a call", "method", s.Procedure, "panic", p, "stack", string(debug.Stack()))
			return Error("internal", connect.CodeInternal, "the daemon made a mistake in this call and went on",
				"ask how it ended before you try again; the daemon's log has the place", "unknown: ask before you pay again")
		}),
	}
	mux := http.NewServeMux()
	var names []string
	add := func(path string, handler http.Handler) {
		mux.Handle(path, handler)
		names = append(names, strings.Trim(path, "/"))
	}
	add(chandv1connect.NewStatusHandler(or[chandv1connect.StatusHandler](h.Status, chandv1connect.UnimplementedStatusHandler{}), opts...))
	add(chandv1connect.NewAccountHandler(or[chandv1connect.AccountHandler](h.Account, chandv1connect.UnimplementedAccountHandler{}), opts...))
	add(chandv1connect.NewLedgerHandler(or[chandv1connect.LedgerHandler](h.Ledger, chandv1connect.UnimplementedLedgerHandler{}), opts...))
	add(chandv1connect.NewBackupsHandler(or[chandv1connect.BackupsHandler](h.Backups, chandv1connect.UnimplementedBackupsHandler{}), opts...))
	add(chandv1connect.NewTowersHandler(or[chandv1connect.TowersHandler](h.Towers, chandv1connect.UnimplementedTowersHandler{}), opts...))
	add(chandv1connect.NewPeersHandler(or[chandv1connect.PeersHandler](h.Peers, chandv1connect.UnimplementedPeersHandler{}), opts...))
	add(chandv1connect.NewChannelsHandler(or[chandv1connect.ChannelsHandler](h.Channels, chandv1connect.UnimplementedChannelsHandler{}), opts...))
	add(chandv1connect.NewRoutesHandler(or[chandv1connect.RoutesHandler](h.Routes, chandv1connect.UnimplementedRoutesHandler{}), opts...))
	add(chandv1connect.NewPaymentsHandler(or[chandv1connect.PaymentsHandler](h.Payments, chandv1connect.UnimplementedPaymentsHandler{}), opts...))
	add(chandv1connect.NewPaymentStreamsHandler(or[chandv1connect.PaymentStreamsHandler](h.Streams, chandv1connect.UnimplementedPaymentStreamsHandler{}), opts...))
	add(chandv1connect.NewEscrowsHandler(or[chandv1connect.EscrowsHandler](h.Escrows, chandv1connect.UnimplementedEscrowsHandler{}), opts...))
	add(chandv1connect.NewOperationsHandler(or[chandv1connect.OperationsHandler](h.Operations, chandv1connect.UnimplementedOperationsHandler{}), opts...))
	add(chandv1connect.NewStatementsHandler(or[chandv1connect.StatementsHandler](h.Statements, chandv1connect.UnimplementedStatementsHandler{}), opts...))
	add(chandv1connect.NewServicesHandler(or[chandv1connect.ServicesHandler](h.Services, chandv1connect.UnimplementedServicesHandler{}), opts...))
	add(chandv1connect.NewTimestampsHandler(or[chandv1connect.TimestampsHandler](h.Timestamps, chandv1connect.UnimplementedTimestampsHandler{}), opts...))
	add(chandv1connect.NewEventsHandler(or[chandv1connect.EventsHandler](h.Events, chandv1connect.UnimplementedEventsHandler{}), opts...))
	add(chandv1connect.NewAdminHandler(or[chandv1connect.AdminHandler](h.Admin, chandv1connect.UnimplementedAdminHandler{}), opts...))
	reflector := grpcreflect.NewStaticReflector(names...)
	mux.Handle(grpcreflect.NewHandlerV1(reflector, connect.WithReadMaxBytes(MaxRequest)))
	mux.Handle(grpcreflect.NewHandlerV1Alpha(reflector, connect.WithReadMaxBytes(MaxRequest)))
	return mux
}

// or returns the fallback when a handler was not given.
func or[T comparable](h, fallback T) T {
	var none T
	if h == none {
		return fallback
	}
	return h
}

// limitBody bounds the size of a body on the wire and the time in which it must have come. Answers may stream for ever, and so may
// requests of the methods that take a stream of them: their messages are bounded one by one, and nothing is read before the macaroon.
func limitBody(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if requestStreams[strings.TrimPrefix(r.URL.Path, "/")] {
			next.ServeHTTP(w, r)
			return
		}
		rc := http.NewResponseController(w)
		_ = rc.SetReadDeadline(time.Now().Add(readTimeout)) // every server here supports it
		r.Body = &timedBody{http.MaxBytesReader(w, r.Body, MaxRequest+1024), rc}
		next.ServeHTTP(w, r)
	})
}

// timedBody lifts the read deadline once the whole request is there.
type timedBody struct {
	io.ReadCloser
	rc *http.ResponseController
}

func (b *timedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF {
		_ = b.rc.SetReadDeadline(time.Time{})
	}
	return n, err
}

// observer logs calls and completes errors.
type observer struct{ log *slog.Logger }

func (o observer) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, r connect.AnyRequest) (connect.AnyResponse, error) {
		start := time.Now()
		res, err := next(ctx, r)
		return res, o.done(r.Spec(), start, err)
	}
}

func (o observer) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

func (o observer) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, conn connect.StreamingHandlerConn) error {
		start := time.Now()
		return o.done(conn.Spec(), start, next(ctx, conn))
	}
}

func (o observer) done(s connect.Spec, start time.Time, err error) error {
	if err == nil {
		o.log.Debug("call", "method", s.Procedure, "took", time.Since(start))
		return nil
	}
	err = withDetail(err)
	o.log.Info("call failed", "method", s.Procedure, "took", time.Since(start), "code", Detail(err).Code, "error", err)
	return err
}
