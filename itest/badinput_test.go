package itest

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/multiformats/go-multiaddr"
	"github.com/pelletier/go-toml/v2"

	"github.com/eschaton-network/chand/chand/library"
	"github.com/eschaton-network/chand/internal/devnet"
	"github.com/eschaton-network/chand/route"
	chandv1 "github.com/eschaton-network/chand/rpc/gen/chand/v1"
	"github.com/eschaton-network/chand/wire"
)

// TestBadInputOnEveryPort sends wrong and oversized input to each port of a daemon. After each it must still serve: answer its
// status and move money.
func TestBadInputOnEveryPort(t *testing.T) {
	n := newNetwork(t)
	d := n.joined("alice", "bob")
	alice, bob := d[0], d[1]
	n.open(alice, bob, "100", "100")
	backend, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	web := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") }), ReadHeaderTimeout: time.Second}
	go web.Serve(backend)
	t.Cleanup(func() { web.Close() })
	must(bob.Services.Sell(n.ctx(), &chandv1.SellRequest{Name: "echo", Http: "http://" + backend.Addr().String(), Price: "0.1/request"}))

	status := must(bob.Status.Get(n.ctx(), &chandv1.GetStatusRequest{}))
	peerPort := must(tcpAddr(status.Listen[0]))
	office, _, _ := strings.Cut(must(n.ledger.Status.Get(n.ctx(), &chandv1.GetStatusRequest{})).Ledger.Join, "/")
	p2p := must(ledgerP2P(n.ledger.Home))
	cases := []struct {
		name string
		hit  func() error
	}{
		{"rpc: garbage instead of TLS", func() error { return garbage(status.RpcAddress) }},
		{"rpc: no macaroon", func() error { return wantStatus(rpcPost(bob, "", "Status/Get", `{}`), 401) }},
		{"rpc: unknown field", func() error { return wantStatus(rpcPost(bob, "admin", "Status/Get", `{"surprise":1}`), 400) }},
		{"rpc: trailing data", func() error { return wantStatus(rpcPost(bob, "admin", "Status/Get", `{}{}`), 400) }},
		{"rpc: negative amount", func() error {
			return wantStatus(rpcPost(bob, "admin", "Payments/CreateInvoice", `{"amount":"-1"}`), 400)
		}},
		{"rpc: oversized body", func() error {
			return wantRefused(doRPC(bob, "admin", "Status/Get", `{"x":"`+strings.Repeat("a", 8<<20)+`"}`))
		}},
		{"gateway: garbage instead of HTTP", func() error { return garbage(status.GatewayAddress) }},
		{"gateway: oversized headers", func() error {
			return wantRefused(httpGet("http://"+status.GatewayAddress+"/echo/", "X-Big", strings.Repeat("a", 4<<20)))
		}},
		{"gateway: nonsense credentials", func() error {
			return wantRefused(httpGet("http://"+status.GatewayAddress+"/echo/", "Authorization", "L402 AAAA:"+strings.Repeat("0", 64)))
		}},
		{"gateway: path that escapes", func() error {
			return wantRefused(httpGet("http://"+status.GatewayAddress+"/echo/../../etc/passwd", "", ""))
		}},
		{"ledger office: garbage", func() error { return garbage(office) }},
		{"ledger office: bad account request", func() error {
			return wantRefused(httpPost("http://"+office+"/v1/accounts", `{"public_key":"zz"}`))
		}},
		{"ledger office: oversized transaction", func() error {
			return wantRefused(httpPost("http://"+office+"/v1/transactions", strings.Repeat("x", 16<<20)))
		}},
		{"ledger p2p: garbage instead of the handshake", func() error { return garbage(p2p) }},
		{"ledger p2p: many connections that say nothing", func() error { return silence(p2p) }},
		{"peer: garbage instead of the handshake", func() error { return garbage(peerPort) }},
		{"peer: frame of impossible size", func() error {
			return stranger(status.Listen[0], "/chand/channel/1", binary.BigEndian.AppendUint32(nil, wire.MaxFrame+1))
		}},
		{"peer: frames of nonsense", func() error { return stranger(status.Listen[0], "/chand/channel/1", nonsenseFrames()) }},
		{"peer: queries of nonsense", func() error {
			return stranger(status.Listen[0], protocol.ID("/chand/ask/1/"+library.QueryProtocol), bytes.Repeat([]byte{0xff}, 4<<20))
		}},
		{"gossip: nonsense on every topic", func() error { return gossipNonsense(n.ctx(), status.Listen[0]) }},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if err := c.hit(); err != nil {
				t.Error(err)
			}
			for _, node := range []*devnet.Node{n.ledger, bob} {
				ctx, cancel := context.WithTimeout(n.ctx(), time.Minute)
				defer cancel()
				if _, err := node.Status.Get(ctx, &chandv1.GetStatusRequest{}); err != nil {
					t.Fatalf("%s no longer serves: %v", node.Name, err)
				}
			}
			n.pay(alice, bob, "0.1")
		})
	}
}

// garbage sends bytes that belong to no protocol, in one go, and wants the connection ended by the other side.
func garbage(addr string) error {
	c, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	junk := make([]byte, 1<<20)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range junk {
		junk[i] = byte(r.Uint32())
	}
	junk[0] = 0x80
	_, _ = c.Write(junk) // may fail as soon as the other side hangs up
	if _, err := io.Copy(io.Discard, c); err != nil && errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("%s kept a connection of garbage open for %s", addr, patience)
	}
	return nil
}

// silentConnections is more than the ledger's node takes from strangers.
const silentConnections = 100

// silence opens many connections, says nothing on them and hangs up.
func silence(addr string) error {
	for range silentConnections {
		c, err := net.DialTimeout("tcp", addr, patience)
		if err != nil {
			return err
		}
		defer c.Close()
	}
	return nil
}

// ledgerP2P is where a home's ledger node listens for other nodes.
func ledgerP2P(home string) (string, error) {
	var settings struct{ Ledger struct{ P2P string } }
	b, err := os.ReadFile(filepath.Join(home, "chand.toml"))
	if err == nil {
		err = toml.Unmarshal(b, &settings)
	}
	if err == nil && settings.Ledger.P2P == "" {
		err = fmt.Errorf("no ledger.p2p in the settings of %s", home)
	}
	return settings.Ledger.P2P, err
}

func rpcPost(d *devnet.Node, macaroon, method, body string) func() (*http.Response, error) {
	return func() (*http.Response, error) { return doRPC(d, macaroon, method, body) }
}

func doRPC(d *devnet.Node, macaroon, method, body string) (*http.Response, error) {
	info := must(os.ReadFile(filepath.Join(d.Home, "run.json")))
	_, rest, _ := bytes.Cut(info, []byte(`"rpc": "`))
	addr, _, _ := bytes.Cut(rest, []byte(`"`))
	r, err := http.NewRequest("POST", fmt.Sprintf("https://%s/chand.v1.%s", addr, method), strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	if macaroon != "" {
		r.Header.Set("Authorization", "Bearer "+hex.EncodeToString(must(os.ReadFile(filepath.Join(d.Home, macaroon+".macaroon")))))
	}
	// The certificate is checked by the real client; this one only wants to be refused.
	c := &http.Client{Timeout: patience, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
	return c.Do(r)
}

func httpGet(url, header, value string) (*http.Response, error) {
	r, err := http.NewRequest("GET", url, nil)
	if err != nil {
		return nil, err
	}
	if header != "" {
		r.Header.Set(header, value)
	}
	return (&http.Client{Timeout: patience}).Do(r)
}

func httpPost(url, body string) (*http.Response, error) {
	return (&http.Client{Timeout: patience}).Post(url, "application/json", strings.NewReader(body))
}

func wantStatus(call func() (*http.Response, error), want int) error {
	r, err := call()
	if err != nil {
		return err
	}
	defer r.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(r.Body, 1000))
	if r.StatusCode != want {
		return fmt.Errorf("answered %d %s, want %d", r.StatusCode, body, want)
	}
	if !bytes.Contains(body, []byte("message")) {
		return fmt.Errorf("refused without a reason: %s", body)
	}
	return nil
}

// wantRefused accepts any refusal: a status from 400 on, or a connection that is cut.
func wantRefused(r *http.Response, err error) error {
	if err != nil {
		var timeout interface{ Timeout() bool }
		if errors.As(err, &timeout) && timeout.Timeout() {
			return fmt.Errorf("neither answered nor cut: %w", err)
		}
		return nil
	}
	defer r.Body.Close()
	if r.StatusCode < 400 {
		return fmt.Errorf("accepted with %d", r.StatusCode)
	}
	return nil
}

// tcpAddr turns /ip4/A/tcp/P/... into A:P.
func tcpAddr(multi string) (string, error) {
	p := strings.Split(multi, "/")
	if len(p) < 5 || p[1] != "ip4" || p[3] != "tcp" {
		return "", fmt.Errorf("not a TCP multiaddr: %s", multi)
	}
	return net.JoinHostPort(p[2], p[4]), nil
}

// dialStranger connects a libp2p host that the daemon has never seen.
func dialStranger(ctx context.Context, addr string) (host.Host, peer.ID, error) {
	h, err := libp2p.New(libp2p.NoListenAddrs)
	if err != nil {
		return nil, "", err
	}
	m, err := multiaddr.NewMultiaddr(addr)
	if err != nil {
		return nil, "", err
	}
	info, err := peer.AddrInfoFromP2pAddr(m)
	if err != nil {
		return nil, "", err
	}
	return h, info.ID, h.Connect(ctx, *info)
}

// stranger opens a stream and writes data to it. That the daemon hangs up is welcome.
func stranger(addr string, id protocol.ID, data []byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	h, to, err := dialStranger(ctx, addr)
	if err != nil {
		return err
	}
	defer h.Close()
	s, err := h.NewStream(ctx, to, id)
	if err != nil {
		return fmt.Errorf("no stream for %s: the test speaks another protocol than the daemon: %w", id, err)
	}
	_ = s.SetDeadline(time.Now().Add(10 * time.Second))
	_, _ = s.Write(data)
	_ = s.CloseWrite()
	_, _ = io.Copy(io.Discard, io.LimitReader(s, 4<<20))
	return nil
}

// nonsenseFrames are well-framed frames of unknown types, cut messages and messages about channels that do not exist.
func nonsenseFrames() []byte {
	var out []byte
	frame := func(b []byte) { out = append(binary.BigEndian.AppendUint32(out, uint32(len(b))), b...) }
	for i := range 200 {
		frame(bytes.Repeat([]byte{byte(i)}, 1+i*7))
	}
	frame(wire.Encode(&wire.Ack{Version: 7}))
	frame(wire.Encode(&wire.Update{Version: 1, Ops: []wire.Op{wire.Pay{Amount: 1}}}))
	return out
}

// gossipNonsense publishes random bytes on the daemon's topics as a member of the mesh.
func gossipNonsense(ctx context.Context, addr string) error {
	h, to, err := dialStranger(ctx, addr)
	if err != nil {
		return err
	}
	defer h.Close()
	ps, err := pubsub.NewGossipSub(ctx, h, pubsub.WithFloodPublish(true))
	if err != nil {
		return err
	}
	for _, topic := range []string{route.Topic, library.Topic} {
		t, err := ps.Join(topic)
		if err != nil {
			return err
		}
		for deadline := time.Now().Add(patience); len(t.ListPeers()) == 0; {
			if time.Now().After(deadline) {
				return fmt.Errorf("the daemon %s does not take part in topic %s", to, topic)
			}
			time.Sleep(20 * time.Millisecond) // gossipsub tells of new peers by polling only
		}
		for i := range 50 {
			if err := t.Publish(ctx, bytes.Repeat([]byte{byte(i)}, 1+i*100)); err != nil {
				return err
			}
		}
		if err := t.Publish(ctx, make([]byte, wire.MaxGossip+1)); err != nil && !strings.Contains(err.Error(), "size") {
			return err
		}
	}
	return nil
}
