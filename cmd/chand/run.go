package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/spf13/pflag"

	"github.com/eschaton-network/chand/chain/escd"
	"github.com/eschaton-network/chand/chand"
	"github.com/eschaton-network/chand/dht"
	"github.com/eschaton-network/chand/gateway"
	"github.com/eschaton-network/chand/internal/seedfile"
	"github.com/eschaton-network/chand/peer"
	"github.com/eschaton-network/chand/pubsub"
	"github.com/eschaton-network/chand/rpc"
	"github.com/eschaton-network/chand/store"
	"github.com/eschaton-network/chand/types"
)

// ledgerWait is how long a start waits for a fresh view of the ledger and for the account: opening one for a daemon that
// joins takes a block or two.
const ledgerWait = 15 * time.Second

// directDelay is how many blocks a transaction waits on a ledger of our own when it does not come in its node's message: as long as the
// node has for what it promised before.
const directDelay = 8

// stopWait bounds the stop of the servers; what they were doing is asked for again after the restart.
const stopWait = 5 * time.Second

// server is a running daemon with its shells.
type server struct {
	cfg     *Config
	log     *slog.Logger
	started time.Time
	stop    context.CancelCauseFunc

	store  *store.Store
	peers  *peer.Node
	ledger *escd.Node
	daemon *chand.Daemon
	seller *gateway.Seller
	credit *gateway.Credits
	buyer  *gateway.Buyer
	backup *fileBackup // nil: none

	rpcAddr, gatewayAddr string
	macaroonKey          [32]byte
}

// errAsked ends a daemon that was told to stop.
var errAsked = errors.New("stop was asked for")

// run is one daemon's life: constructors in order, each with its deferred close.
func run(ctx context.Context, home string, flags *pflag.FlagSet, out io.Writer) (err error) {
	s := &server{started: time.Now()}
	lock, err := lockHome(home)
	if err != nil {
		return err
	}
	defer lock.Close()
	var first bool
	var ports claims
	if s.cfg, first, ports, err = loadConfig(home, os.Environ(), flags); err != nil {
		return err
	}
	defer ports.release()
	s.log = newLogger(s.cfg, os.Stderr)
	seed, _, err := loadSeed(home)
	if err != nil {
		return err
	}
	nodeSecret, err := loadKey(s.cfg.LedgerNodeKey, seed.LedgerNodeSecret())
	if err != nil {
		return fmt.Errorf("ledger.node-key: %w", err)
	}
	accountSecret, err := loadKey(s.cfg.LedgerAccountKey, seed.AccountSecret())
	if err != nil {
		return fmt.Errorf("ledger.account-key: %w", err)
	}
	if first {
		fmt.Fprintf(out, "New home %s: settings in %s, seed phrase in %s (write it down and keep it secret), certificate and macaroons beside them.\n",
			home, configName, seedfile.Name)
	}
	ctx, s.stop = context.WithCancelCause(ctx)
	defer s.stop(errAsked)
	if s.store, err = store.Open(filepath.Join(home, storeName), store.Options{}); err != nil {
		return err
	}
	defer closing(&err, "store", s.store.Close)
	go trim(ctx)
	if err := serveDebug(ctx, s.cfg.DebugListen, s.store.Stats); err != nil {
		return err
	}
	if s.cfg.BackupFile != "" {
		s.backup = newFileBackup(s.cfg.BackupFile, s.store, seed.Secret(chand.BackupSecret), s.log.With("part", "backup"))
		backupCtx, stop := context.WithCancel(context.Background())
		stopped := make(chan struct{})
		go func() { defer close(stopped); s.backup.run(backupCtx) }()
		defer func() { stop(); <-stopped }() // before the store closes, after all that commits
	}

	listen, err := multiaddrOf(s.cfg.PeerListen)
	if err != nil {
		return err
	}
	if s.peers, err = peer.New(peer.Options{Key: seed.NodeKey(), Listen: []string{listen}, Log: s.log.With("part", "peer")}); err != nil {
		return fmt.Errorf("peer.listen %s: %w", s.cfg.PeerListen, err)
	}
	defer closing(&err, "peer port", s.peers.Close)
	gossip, err := pubsub.New(s.peers.Host(), s.log.With("part", "gossip"))
	if err != nil {
		return err
	}
	defer closing(&err, "gossip", gossip.Close)
	directory, err := dht.New(s.peers.Host())
	if err != nil {
		return err
	}
	defer closing(&err, "dht", directory.Close)

	if s.cfg.LedgerJoin != "" || len(s.cfg.LedgerPeers) > 0 {
		s.log.Info("looking for the ledger's other nodes", "join", s.cfg.LedgerJoin, "peers", s.cfg.LedgerPeers)
	}
	var daemon atomic.Pointer[chand.Daemon]
	s.macaroonKey = seed.Secret("macaroons")
	if s.ledger, err = s.startLedger(ctx, seed.NodeID().String(), nodeSecret, accountSecret, &daemon); err != nil {
		return err
	}
	defer closing(&err, "ledger", s.ledger.Stop)

	s.daemon, err = chand.New(chand.Config{
		Seed: seed, AccountSecret: accountSecret, Account: s.ledger.OwnAccount(), Timing: s.cfg.Timing, Rules: s.cfg.Rules, TowerServe: s.cfg.TowerServe, TowerPrice: s.cfg.TowerPrice, TowerEvery: s.cfg.TowerEvery, WarnBlocks: s.cfg.WarnBlocks,
		BaseFee:       s.cfg.BaseFee,
		FeeMillionths: s.cfg.FeeMillionths, Reserve: s.cfg.Reserve, MaxContribution: s.cfg.MaxContribution, StampRound: s.cfg.TimestampRound,
		History: chand.History{Payments: uint64(s.cfg.HistoryPayments), Age: s.cfg.HistoryAge}, Redial: s.cfg.PeerDial,
	}, chand.Deps{
		Store: s.store, Chain: escd.Daemon{Node: s.ledger}, Transport: s.peers, Gossip: gossip, Directory: directory, Proofs: proofs{s.ledger},
		Log: s.log, Clock: time.Now, Entropy: rand.Reader,
	})
	if err != nil {
		return err
	}
	daemon.Store(s.daemon)
	ended := make(chan error, 1)
	daemonCtx, endDaemon := context.WithCancel(context.WithoutCancel(ctx)) // it stops after the servers that use it
	go func() { ended <- s.daemon.Run(daemonCtx) }()
	defer func() { endDaemon(); err = errors.Join(err, <-ended) }()

	if err := s.startGateway(ctx, seed); err != nil {
		return err
	}
	server, err := rpc.NewServer(rpc.Config{Home: home, Listen: s.cfg.RPCListen, RootKey: s.macaroonKey, Logger: s.log.With("part", "rpc")}, s.handlers())
	if err != nil {
		return err
	}
	s.rpcAddr = server.Addr()
	go func() {
		if err := server.Serve(); err != nil {
			s.stop(fmt.Errorf("rpc: %w", err))
		}
	}()
	defer func() {
		c, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopWait)
		defer cancel()
		if e := server.Shutdown(c); e != nil && !errors.Is(e, context.DeadlineExceeded) {
			err = errors.Join(err, e)
		}
	}()

	s.waitLedger(ctx)
	if err := rpc.WriteRun(home, rpc.RunInfo{PID: os.Getpid(), RPC: s.rpcAddr, Gateway: s.gatewayAddr, Ledger: s.ledger.JoinAddr(), Peers: s.peers.Addrs()}); err != nil {
		return err
	}
	defer closing(&err, "run file", func() error { return rpc.RemoveRun(home) })
	fmt.Fprintf(out, "chand is ready after %s: peer %s, account %s. Try: chancli --home %s status\n",
		time.Since(s.started).Round(time.Millisecond), s.daemon.ID(), s.daemon.Account(), home)

	select {
	case <-ctx.Done():
		if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) && !errors.Is(cause, errAsked) {
			return cause
		}
		s.log.Info("stopping")
		return nil
	case e := <-ended:
		ended <- nil
		if e == nil {
			e = errors.New("the daemon ended without being asked")
		}
		return e
	}
}

// closing joins the error of a deferred close.
func closing(err *error, what string, close func() error) {
	if e := close(); e != nil {
		*err = errors.Join(*err, fmt.Errorf("closing the %s: %w", what, e))
	}
}

func (s *server) startLedger(ctx context.Context, moniker string, nodeSecret, accountSecret [32]byte, daemon *atomic.Pointer[chand.Daemon]) (*escd.Node, error) {
	return escd.Start(ctx, escd.Config{
		Home: filepath.Join(s.cfg.Home, "ledger"), Moniker: moniker, BlockMillis: uint32(s.cfg.LedgerBlockTime.Milliseconds()),
		DirectDelay: directDelay, KeepBlocks: types.Height(s.cfg.LedgerKeepBlocks),
		ListenP2P: s.cfg.LedgerP2P, ListenOffice: s.cfg.LedgerOffice, ListenRPC: s.cfg.LedgerRPC,
		Join: s.cfg.LedgerJoin, GenesisFile: s.cfg.LedgerGenesis, Peers: s.cfg.LedgerPeers,
		LedgerNodeSecret: nodeSecret, AccountSecret: accountSecret,
		OpenAccounts: escd.OpenPolicy{Enabled: s.cfg.LedgerOpenAccounts},
		CreateAccount: func(ctx context.Context, key [32]byte, proof [64]byte) (types.AccountID, error) {
			if d := daemon.Load(); d != nil {
				return d.CreateAccount(ctx, key, proof)
			}
			return types.AccountID{}, errors.New("the daemon is still starting: try again in a second")
		},
		Wallet: wallet{daemon, s.macaroonKey},
		Logger: s.log.With("part", "ledger"),
	})
}

// waitLedger makes a daemon of use once it says that it is ready: with an account, and a view of the ledger that is fresh. When the
// ledger is down it serves all the same, and says so.
func (s *server) waitLedger(ctx context.Context) {
	c, cancel := context.WithTimeout(ctx, ledgerWait)
	defer cancel()
	if _, err := s.ledger.WaitOwnAccount(c); err != nil {
		s.log.Warn("no ledger account yet: the daemon serves, and gets one as soon as the ledger's office opens it", "why", err)
		return
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, fresh := s.ledger.Head(); fresh && !s.daemon.Account().IsZero() {
			return
		}
		select {
		case <-c.Done():
			s.log.Warn("the view of the ledger is not fresh yet: the daemon serves, and neither opens nor forwards anything until it is")
			return
		case <-tick.C:
		}
	}
}

// startGateway serves the paywall. It lives as long as ctx.
func (s *server) startGateway(ctx context.Context, seed types.Seed) error {
	var err error
	if s.credit, err = gateway.LoadCredits(s.store); err != nil {
		return err
	}
	s.seller = gateway.NewSeller(gateway.SellerConfig{Invoicer: invoicer{s.daemon}, Keys: gateway.DerivedKeys(seed.Secret("gateway credentials")), Credits: s.credit, Logger: s.log.With("part", "gateway")})
	s.buyer = gateway.NewBuyer(payer{s.daemon}, s.decodeInvoice, s.store, nil, nil)
	l, err := net.Listen("tcp", s.cfg.GatewayListen)
	if err != nil {
		return fmt.Errorf("gateway.listen %s: %w: choose another port", s.cfg.GatewayListen, err)
	}
	s.gatewayAddr = l.Addr().String()
	if err := s.loadServices(); err != nil {
		l.Close()
		return err
	}
	web := gateway.NewHTTPServer(s.seller)
	go s.seller.Run(ctx)
	go func() {
		if err := web.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			s.stop(fmt.Errorf("gateway: %w", err))
		}
	}()
	context.AfterFunc(ctx, func() { web.Close() })
	return nil
}

func newLogger(c *Config, w io.Writer) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(c.LogLevel)) // loadConfig took only the four names
	opts := &slog.HandlerOptions{Level: level}
	if c.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, opts))
	}
	return slog.New(slog.NewTextHandler(w, opts))
}

// multiaddrOf turns HOST:PORT into libp2p's form.
func multiaddrOf(addr string) (string, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", fmt.Errorf("peer.listen %q: want HOST:PORT: %w", addr, err)
	}
	ip := net.ParseIP(host)
	switch {
	case ip == nil:
		return "", fmt.Errorf("peer.listen %q: want an IP address, not a name", addr)
	case ip.To4() != nil:
		return fmt.Sprintf("/ip4/%s/tcp/%s", ip, port), nil
	}
	return fmt.Sprintf("/ip6/%s/tcp/%s", ip, port), nil
}
