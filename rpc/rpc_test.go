package rpc

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"connectrpc.com/grpcreflect"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	chandv1 "github.com/eschaton-network/chand/rpc/gen/chand/v1"
	"github.com/eschaton-network/chand/rpc/gen/chand/v1/chandv1connect"
)

// purse is a small real payments handler: it pays once per idempotency key until it is empty.
type purse struct {
	chandv1connect.UnimplementedPaymentsHandler
	mu   sync.Mutex
	left int
	paid map[string]*chandv1.Payment
}

func (p *purse) Pay(_ context.Context, r *chandv1.PayRequest) (*chandv1.Payment, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if r.Invoice == "panic" {
		panic("as asked")
	}
	if old := p.paid[r.IdempotencyKey]; old != nil && r.IdempotencyKey != "" {
		return old, nil
	}
	if p.left == 0 {
		return nil, Error("insufficient_funds", connect.CodeFailedPrecondition, "the purse is empty", "fill it", "nothing was paid")
	}
	p.left--
	pay := &chandv1.Payment{Hash: strings.Repeat("ab", 32), State: "succeeded", Amount: r.Amount, IdempotencyKey: r.IdempotencyKey}
	p.paid[r.IdempotencyKey] = pay
	return pay, nil
}

// ticker streams n events, then waits for the client to leave.
type ticker struct{ n uint32 }

func (t ticker) Subscribe(ctx context.Context, _ *chandv1.SubscribeRequest, s *connect.ServerStream[chandv1.Event]) error {
	for i := range t.n {
		if err := s.Send(&chandv1.Event{Seq: i, Type: "block"}); err != nil {
			return err
		}
	}
	<-ctx.Done()
	return ctx.Err()
}

type plain struct{}

func (plain) Get(context.Context, *chandv1.GetStatusRequest) (*chandv1.GetStatusResponse, error) {
	return &chandv1.GetStatusResponse{NodeId: "me", Balance: "0.5"}, nil
}

type failing struct {
	chandv1connect.UnimplementedEscrowsHandler
}

func (failing) List(context.Context, *chandv1.ListEscrowsRequest) (*chandv1.ListEscrowsResponse, error) {
	return nil, errors.New("disk on fire")
}

type fixture struct {
	t    *testing.T
	home string
	s    *Server
	http *http.Client
	now  time.Time
	root [32]byte
	p    *purse
}

func start(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{t: t, home: t.TempDir(), root: [32]byte{1, 2, 3}, p: &purse{left: 2, paid: map[string]*chandv1.Payment{}},
		now: time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)}
	s, err := NewServer(Config{Home: f.home, Listen: "127.0.0.1:0", RootKey: f.root, Now: func() time.Time { return f.now }},
		Handlers{Status: plain{}, Payments: f.p, Events: ticker{3}, Escrows: failing{}})
	if err != nil {
		t.Fatal(err)
	}
	f.s = s
	done := make(chan error, 1)
	go func() { done <- s.Serve() }()
	t.Cleanup(func() {
		if err := s.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	if err := WriteRun(f.home, RunInfo{PID: os.Getpid(), RPC: s.Addr()}); err != nil {
		t.Fatal(err)
	}
	f.http = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: f.pool()}, ForceAttemptHTTP2: true}}
	t.Cleanup(f.http.CloseIdleConnections)
	return f
}

func (f *fixture) file(name string) []byte {
	b, err := os.ReadFile(filepath.Join(f.home, name))
	if err != nil {
		f.t.Fatal(err)
	}
	return b
}

func (f *fixture) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AppendCertsFromPEM(f.file(CertFile))
	return p
}

func (f *fixture) admin() string { return hex.EncodeToString(f.file(AdminFile)) }

// post sends a plain JSON request, as curl would.
func (f *fixture) post(method, body string, header ...string) (int, string) {
	f.t.Helper()
	r, err := http.NewRequest("POST", "https://"+f.s.Addr()+"/"+method, strings.NewReader(body))
	if err != nil {
		f.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	res, err := f.http.Do(r)
	if err != nil {
		f.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		f.t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

func TestEveryProtocol(t *testing.T) {
	f := start(t)
	for name, opts := range map[string][]connect.ClientOption{
		"connect": nil, "grpc": {connect.WithGRPC()}, "grpc-web": {connect.WithGRPCWeb()},
		"json": {connect.WithProtoJSON()}, "grpc-web json": {connect.WithGRPCWeb(), connect.WithProtoJSON()},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := NewClient(f.s.Addr(), f.file(CertFile), f.admin(), f.home, opts...)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			st, err := c.Status.Get(t.Context(), &chandv1.GetStatusRequest{})
			if err != nil || st.Balance != "0.5" {
				t.Fatalf("status %v, %v", st, err)
			}
			p, err := c.Payments.Pay(t.Context(), &chandv1.PayRequest{Amount: "1", IdempotencyKey: "once"})
			if err != nil || p.State != "succeeded" || f.p.left != 1 {
				t.Fatalf("pay %v, %v, left %d", p, err, f.p.left)
			}
			_, err = c.Account.Get(t.Context(), &chandv1.GetAccountRequest{})
			if connect.CodeOf(err) != connect.CodeUnimplemented || Detail(err).Next == "" {
				t.Fatalf("want unimplemented with a next step, got %v", err)
			}
			_, err = c.Escrows.List(t.Context(), &chandv1.ListEscrowsRequest{})
			if d := Detail(err); d.GetCode() != "internal" || d.Message != "disk on fire" {
				t.Fatalf("plain error became %v", d)
			}
			stream, err := c.Events.Subscribe(t.Context(), &chandv1.SubscribeRequest{})
			if err != nil {
				t.Fatal(err)
			}
			for i := range uint32(3) {
				if !stream.Receive() || stream.Msg().Seq != i {
					t.Fatalf("event %d: %v, %v", i, stream.Msg(), stream.Err())
				}
			}
			stream.Close()
		})
	}
}

func TestGoogleGRPC(t *testing.T) {
	f := start(t)
	conn, err := grpc.NewClient(f.s.Addr(), grpc.WithTransportCredentials(credentials.NewClientTLSFromCert(f.pool(), "")))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var out chandv1.GetStatusResponse
	if err := conn.Invoke(t.Context(), "/chand.v1.Status/Get", &chandv1.GetStatusRequest{}, &out); status.Code(err) != codes.Unauthenticated {
		t.Fatalf("without macaroon: %v", err)
	}
	ctx := metadata.AppendToOutgoingContext(t.Context(), "macaroon", f.admin())
	if err := conn.Invoke(ctx, "/chand.v1.Status/Get", &chandv1.GetStatusRequest{}, &out); err != nil || out.NodeId != "me" {
		t.Fatalf("%v, %v", &out, err)
	}
	f.p.left = 0
	err = conn.Invoke(ctx, "/chand.v1.Payments/Pay", &chandv1.PayRequest{Amount: "1"}, &chandv1.Payment{})
	s := status.Convert(err)
	if len(s.Details()) != 1 {
		t.Fatalf("details of %v: %v", err, s.Details())
	}
	if d, ok := s.Details()[0].(*chandv1.ErrorDetail); !ok || d.Code != "insufficient_funds" || d.Money != "nothing was paid" {
		t.Fatalf("detail %v", s.Details()[0])
	}
}

func TestStrictDecoding(t *testing.T) {
	f := start(t)
	auth := []string{"Authorization", "Bearer " + f.admin()}
	for _, c := range []struct{ name, body, want string }{
		{"unknown field", `{"amount":"1","ammount":"2"}`, "unknown field"},
		{"duplicate", `{"amount":"1","amount":"2"}`, "duplicate field"},
		{"duplicate in the other spelling", `{"max_fee":"1","maxFee":"2"}`, "duplicate field"},
		{"trailing data", `{"amount":"1"} {"amount":"2"}`, "unexpected token"},
		{"number for money", `{"amount":1}`, "invalid value for string"},
		{"empty", ``, "empty body"},
		{"not an object", `[]`, "unexpected token"},
		{"bad UTF-8", "{\"amount\":\"\xff\"}", "invalid UTF-8"},
	} {
		code, body := f.post("chand.v1.Payments/Pay", c.body, auth...)
		if code != 400 || !strings.Contains(strings.ReplaceAll(body, "\u00a0", " "), c.want) {
			t.Errorf("%s: %d %s, want %q", c.name, code, body, c.want)
		}
	}
	deep := strings.Repeat(`{"a":`, 200) + "1" + strings.Repeat("}", 200)
	if code, body := f.post("chand.v1.Statements/Publish", `{"attributes":`+deep+`}`, auth...); code != 400 {
		t.Errorf("nested 200 deep: %d %s", code, body)
	}
	if f.p.left != 2 {
		t.Fatalf("a refused request paid: %d left", f.p.left)
	}
	if code, body := f.post("chand.v1.Payments/Pay", `{"amount":"1"}`, auth...); code != 200 || !strings.Contains(body, `"idempotency_key":""`) {
		t.Errorf("good request: %d %s", code, body)
	}
	b, err := proto.Marshal(&chandv1.PayRequest{Amount: "1"})
	if err != nil {
		t.Fatal(err)
	}
	b = append(b, 0xba, 0x3e, 0x01, 'x') // field 999
	r, _ := http.NewRequest("POST", "https://"+f.s.Addr()+"/chand.v1.Payments/Pay", bytes.NewReader(b))
	r.Header.Set("Content-Type", "application/proto")
	r.Header.Set(auth[0], auth[1])
	res, err := f.http.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	got, _ := io.ReadAll(res.Body)
	res.Body.Close()
	if res.StatusCode != 400 || !bytes.Contains(got, []byte("does not know")) {
		t.Errorf("unknown binary field: %d %s", res.StatusCode, got)
	}
}

func TestSizes(t *testing.T) {
	f := start(t)
	auth := []string{"Authorization", "Bearer " + f.admin()}
	big := `{"memo":"` + strings.Repeat("x", MaxRequest+1) + `"}`
	if code, body := f.post("chand.v1.Payments/CreateInvoice", big, auth...); code != 429 {
		t.Errorf("oversized: %d %.200s", code, body)
	}
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	io.WriteString(w, big)
	w.Close()
	if code, body := f.post("chand.v1.Payments/CreateInvoice", z.String(), append(auth, "Content-Encoding", "gzip")...); code != 429 {
		t.Errorf("gzip bomb of %d bytes: %d %.200s", z.Len(), code, body)
	}
	if code, _ := f.post("chand.v1.Status/Get", "{}", auth...); code != 200 {
		t.Errorf("not serving after that: %d", code)
	}
}

func TestErrorsAndPanics(t *testing.T) {
	f := start(t)
	auth := []string{"Authorization", "Macaroon " + f.admin()}
	code, body := f.post("chand.v1.Payments/Pay", `{"invoice":"panic"}`, auth...)
	if code != 500 || !strings.Contains(body, "made a mistake") {
		t.Errorf("panic: %d %s", code, body)
	}
	f.p.left = 0
	code, body = f.post("chand.v1.Payments/Pay", `{"amount":"1"}`, auth...)
	var e struct {
		Details []struct{ Type, Value string }
	}
	if err := json.Unmarshal([]byte(body), &e); err != nil || code != 400 || len(e.Details) != 1 {
		t.Fatalf("%d %s %v", code, body, err)
	}
	raw, err := base64.RawStdEncoding.DecodeString(e.Details[0].Value)
	var d chandv1.ErrorDetail
	if err != nil || proto.Unmarshal(raw, &d) != nil || d.Code != "insufficient_funds" || d.Next != "fill it" {
		t.Fatalf("detail %v, %v", &d, err)
	}
	if code, body := f.post("chand.v1.Payments/Steal", `{}`, auth...); code != 501 || !strings.Contains(body, "no method") {
		t.Errorf("unknown method: %d %s", code, body)
	}
	r, _ := http.NewRequest("OPTIONS", "https://"+f.s.Addr()+"/chand.v1.Payments/Pay", nil)
	r.Header.Set("Origin", "https://evil.example")
	res, err := f.http.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.Header.Get("Access-Control-Allow-Origin") != "" {
		t.Error("CORS is on")
	}
}

func TestShutdownEndsStreams(t *testing.T) {
	f := start(t)
	c, err := Dial(f.home)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	stream, err := c.Events.Subscribe(t.Context(), &chandv1.SubscribeRequest{})
	if err != nil || !stream.Receive() {
		t.Fatalf("%v, %v", err, stream.Err())
	}
	if err := f.s.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	for stream.Receive() {
	}
	if stream.Err() == nil {
		t.Error("the stream ended without a reason")
	}
	_, err = c.Status.Get(t.Context(), &chandv1.GetStatusRequest{})
	if d := Detail(err); d.GetCode() != "no_daemon" || !strings.Contains(d.Next, "chand --home "+f.home) {
		t.Errorf("after the end: %v", err)
	}
}

func TestDialWithoutDaemon(t *testing.T) {
	home := t.TempDir()
	_, err := Dial(home)
	if d := Detail(err); d.GetCode() != "no_daemon" || d.Message != "no daemon runs on "+home {
		t.Fatalf("%v", err)
	}
	if err := os.WriteFile(filepath.Join(home, RunFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Dial(home); Detail(err).GetCode() != "run_file_damaged" {
		t.Fatalf("%v", err)
	}
	if err := RemoveRun(home); err != nil {
		t.Fatal(err)
	}
	if err := RemoveRun(home); err != nil {
		t.Fatal("removing twice:", err)
	}
}

func TestCertificate(t *testing.T) {
	f := start(t)
	first, key := f.file(CertFile), f.file(KeyFile)
	admin := f.admin()
	restart := func(at time.Time) {
		t.Helper()
		s, err := NewServer(Config{Home: f.home, Listen: "127.0.0.1:0", RootKey: f.root, Now: func() time.Time { return at }}, Handlers{})
		if err != nil {
			t.Fatal(err)
		}
		s.listener.Close()
	}
	restart(f.now)
	if !bytes.Equal(first, f.file(CertFile)) || !bytes.Equal(key, f.file(KeyFile)) || admin != f.admin() {
		t.Error("a restart changed certificate or macaroon")
	}
	restart(f.now.Add(certLife - certRenew/2))
	if bytes.Equal(first, f.file(CertFile)) {
		t.Error("a certificate at its end was not renewed")
	}
	for _, name := range []string{KeyFile, AdminFile, ReadonlyFile, InvoiceFile, RunFile} {
		if st, err := os.Stat(filepath.Join(f.home, name)); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, st, err)
		}
	}
	if err := os.WriteFile(filepath.Join(f.home, KeyFile), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := NewServer(Config{Home: f.home, Listen: "127.0.0.1:0"}, Handlers{}); err == nil || !strings.Contains(err.Error(), "remove both") {
		t.Errorf("damaged key: %v", err)
	}
	old := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: f.pool(), MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}}}
	if _, err := old.Get("https://" + f.s.Addr()); err == nil {
		t.Error("TLS 1.1 was accepted")
	}
}

func TestConnectionLimit(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := newLimitListener(inner, 1)
	for range 2 {
		if c, err := net.Dial("tcp", l.Addr().String()); err != nil {
			t.Fatal(err)
		} else {
			defer c.Close()
		}
	}
	first, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	second := make(chan error, 2)
	go func() {
		for range 2 { // the second client, then the end
			_, err := l.Accept()
			second <- err
		}
	}()
	select {
	case <-second:
		t.Fatal("two connections at a limit of one")
	default:
	}
	first.Close()
	first.Close() // frees the place once only
	if err := <-second; err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := <-second; !errors.Is(err, net.ErrClosed) {
		t.Fatalf("after Close: %v", err)
	}
}

func TestReflectionNeedsAMacaroon(t *testing.T) {
	f := start(t)
	list := func(header http.Header) (int, error) {
		c := grpcreflect.NewClient(f.http, "https://"+f.s.Addr(), connect.WithGRPC())
		s := c.NewStream(t.Context(), grpcreflect.WithRequestHeaders(header))
		defer s.Close()
		names, err := s.ListServices()
		return len(names), err
	}
	if n, err := list(nil); err == nil {
		t.Errorf("%d services shown to anybody", n)
	}
	m, _, err := Bake(f.root, []string{"@read"}, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	services := map[string]bool{}
	for method := range permissions {
		if name, _, _ := strings.Cut(method, "/"); strings.HasPrefix(name, "chand.") {
			services[name] = true
		}
	}
	if n, err := list(http.Header{"Macaroon": {m}}); err != nil || n != len(services) {
		t.Errorf("%d services, %v, want %d", n, err, len(services))
	}
}
