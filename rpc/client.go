package rpc

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"connectrpc.com/connect"

	"github.com/eschaton-network/chand/rpc/gen/chand/v1/chandv1connect"
)

// Client calls a daemon. Safe for concurrent use.
type Client struct {
	Status     chandv1connect.StatusClient
	Account    chandv1connect.AccountClient
	Ledger     chandv1connect.LedgerClient
	Peers      chandv1connect.PeersClient
	Towers     chandv1connect.TowersClient
	Backups    chandv1connect.BackupsClient
	Channels   chandv1connect.ChannelsClient
	Routes     chandv1connect.RoutesClient
	Payments   chandv1connect.PaymentsClient
	Streams    chandv1connect.PaymentStreamsClient
	Escrows    chandv1connect.EscrowsClient
	Operations chandv1connect.OperationsClient
	Statements chandv1connect.StatementsClient
	Services   chandv1connect.ServicesClient
	Timestamps chandv1connect.TimestampsClient
	Events     chandv1connect.EventsClient
	Admin      chandv1connect.AdminClient

	transport *http.Transport
}

// Dial returns a client of the daemon that runs on home, with its admin macaroon. Nothing is sent yet.
func Dial(home string) (*Client, error) {
	info, err := ReadRun(home)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, noDaemon(home)
	} else if err != nil {
		return nil, Error("run_file_damaged", connect.CodeFailedPrecondition, err.Error(), "stop the daemon, remove the file and start again", "")
	}
	cert, err := os.ReadFile(filepath.Join(home, CertFile))
	if err == nil {
		var m []byte
		if m, err = os.ReadFile(filepath.Join(home, AdminFile)); err == nil {
			return NewClient(info.RPC, cert, hex.EncodeToString(m), home)
		}
	}
	return nil, Error("home_unreadable", connect.CodeFailedPrecondition, err.Error(), "run as the user that runs the daemon", "")
}

// NewClient returns a client of the daemon at address (HOST:PORT) that shows the certificate certPEM. macaroon is hex. home
// is only for words in errors.
func NewClient(address string, certPEM []byte, macaroon, home string, opts ...connect.ClientOption) (*Client, error) {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(certPEM) {
		return nil, Error("certificate_damaged", connect.CodeFailedPrecondition, "the TLS certificate of the daemon can't be read",
			"remove tls.cert and tls.key and restart the daemon", "")
	}
	tlsConfig := &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	if host, _, err := net.SplitHostPort(address); err == nil && net.ParseIP(host).IsUnspecified() {
		tlsConfig.ServerName = "localhost" // the daemon listens everywhere; we come from this machine
	}
	t := &http.Transport{TLSClientConfig: tlsConfig, ForceAttemptHTTP2: true, TLSHandshakeTimeout: 10 * time.Second, MaxIdleConns: 4}
	opts = append([]connect.ClientOption{connect.WithInterceptors(bearer(macaroon), reach{home})}, opts...)
	h, url := &http.Client{Transport: t}, "https://"+address
	return &Client{
		Status:     chandv1connect.NewStatusClient(h, url, opts...),
		Account:    chandv1connect.NewAccountClient(h, url, opts...),
		Ledger:     chandv1connect.NewLedgerClient(h, url, opts...),
		Peers:      chandv1connect.NewPeersClient(h, url, opts...),
		Towers:     chandv1connect.NewTowersClient(h, url, opts...),
		Backups:    chandv1connect.NewBackupsClient(h, url, opts...),
		Channels:   chandv1connect.NewChannelsClient(h, url, opts...),
		Routes:     chandv1connect.NewRoutesClient(h, url, opts...),
		Payments:   chandv1connect.NewPaymentsClient(h, url, opts...),
		Streams:    chandv1connect.NewPaymentStreamsClient(h, url, opts...),
		Escrows:    chandv1connect.NewEscrowsClient(h, url, opts...),
		Operations: chandv1connect.NewOperationsClient(h, url, opts...),
		Statements: chandv1connect.NewStatementsClient(h, url, opts...),
		Services:   chandv1connect.NewServicesClient(h, url, opts...),
		Timestamps: chandv1connect.NewTimestampsClient(h, url, opts...),
		Events:     chandv1connect.NewEventsClient(h, url, opts...),
		Admin:      chandv1connect.NewAdminClient(h, url, opts...),
		transport:  t,
	}, nil
}

// Close drops idle connections.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

func noDaemon(home string) error {
	return Error("no_daemon", connect.CodeUnavailable, "no daemon runs on "+home, fmt.Sprintf("start it with `chand --home %s`", home), "")
}

// reach turns "connection refused" into the sentence that helps.
type reach struct{ home string }

func (r reach) explain(err error) error {
	if op := new(net.OpError); err != nil && errors.As(err, &op) && op.Op == "dial" {
		return noDaemon(r.home)
	}
	return err
}

func (r reach) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		res, err := next(ctx, req)
		return res, r.explain(err)
	}
}

func (r reach) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return func(ctx context.Context, s connect.Spec) connect.StreamingClientConn {
		return reachConn{next(ctx, s), r}
	}
}

func (r reach) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return next
}

type reachConn struct {
	connect.StreamingClientConn
	r reach
}

func (c reachConn) Receive(m any) error { return c.r.explain(c.StreamingClientConn.Receive(m)) }
func (c reachConn) Send(m any) error    { return c.r.explain(c.StreamingClientConn.Send(m)) }
