package escd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/cometbft/cometbft/p2p"

	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

const (
	// joinTimeout bounds the wait for a daemon that was never reached before: its genesis document is needed to start.
	joinTimeout = 20 * time.Second
	// askTimeout bounds one question; it is how much later a node starts when the joined daemon hangs.
	askTimeout = 2 * time.Second
	// redialEvery is how often a lost connection is tried again, for ever. Loopback and LAN: refused at once while down.
	redialEvery = 250 * time.Millisecond
)

// joined is the daemon whose ledger this node follows.
type joined struct {
	client  *Client
	genesis types.Hash
	home    string
	reached bool // by Start

	mu  sync.Mutex
	p2p string // ID@HOST:PORT as last heard, or empty
}

// peerHint is what peer.json holds.
type peerHint struct {
	P2P string `json:"p2p"`
}

// join finds the genesis document: the one pinned in the home, or on the first start the daemon's, checked against the hash given.
func join(ctx context.Context, c Config) (*joined, ledger.Genesis, error) {
	addr, want, err := splitJoin(c.Join)
	if err != nil {
		return nil, ledger.Genesis{}, err
	}
	j := &joined{client: NewClient(addr), home: c.Home}
	g, err := readGenesis(c.Home)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		g, err = j.firstGenesis(ctx, want, c.Logger)
	case err != nil:
		err = fmt.Errorf("%s: %w", filepath.Join(c.Home, genesisFile), err)
	}
	if err != nil {
		return nil, g, err
	}
	if j.genesis, err = g.Hash(); err != nil {
		return nil, g, err
	}
	if !want.IsZero() && want != j.genesis {
		return nil, g, fmt.Errorf("this home follows the ledger with genesis %s (chain %s), asked for was %s; "+
			"its money is on the former: use another home to join another ledger", j.genesis, g.ChainID, want)
	}
	if b, err := os.ReadFile(filepath.Join(c.Home, peerFile)); err == nil {
		var hint peerHint
		if strict(b, &hint) == nil {
			j.p2p = hint.P2P
		}
	}
	ask, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	err = j.refresh(ask)
	var foreign *foreignLedger
	switch {
	case errors.As(err, &foreign):
		return nil, g, err
	case err != nil:
		c.Logger.Warn("the joined daemon does not answer; starting with what is here and trying on", "office", addr, "err", err)
	}
	j.reached = err == nil
	return j, g, nil
}

// firstGenesis asks the daemon until joinTimeout and pins the document.
func (j *joined) firstGenesis(ctx context.Context, want types.Hash, log *slog.Logger) (ledger.Genesis, error) {
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	for {
		g, err := j.client.Genesis(ctx)
		if err == nil {
			return g, j.pin(g, want, log)
		}
		select {
		case <-ctx.Done():
			return g, fmt.Errorf("no genesis document from the daemon at %s: %w; start that daemon, or correct the address", j.client.addr, err)
		case <-time.After(redialEvery):
		}
	}
}

func (j *joined) pin(g ledger.Genesis, want types.Hash, log *slog.Logger) error {
	got, err := g.Hash()
	if err != nil {
		return err
	}
	if want.IsZero() {
		log.Warn("trusting the genesis document of the joined daemon at first use; compare the hash with one from another source",
			"office", j.client.addr, "genesis", got, "chain", g.ChainID)
	} else if got != want {
		return fmt.Errorf("the daemon at %s runs the ledger with genesis %s, asked for was %s; nothing was stored", j.client.addr, got, want)
	}
	return writeGenesis(j.home, g)
}

// foreignLedger says that the joined daemon now runs another ledger.
type foreignLedger struct {
	addr      string
	got, want types.Hash
}

func (f *foreignLedger) Error() string {
	return fmt.Sprintf("the daemon at %s runs the ledger with genesis %s, this home follows %s; it is not followed: "+
		"correct the address, or use another home to join that ledger", f.addr, f.got, f.want)
}

// refresh asks where the daemon's node listens for peers.
func (j *joined) refresh(ctx context.Context) error {
	i, err := j.client.Info(ctx)
	if err != nil {
		return err
	}
	if i.Genesis != j.genesis {
		return &foreignLedger{j.client.addr, i.Genesis, j.genesis}
	}
	addr, err := reachable(i.P2P, j.client.addr)
	if err != nil {
		return err
	}
	j.mu.Lock()
	changed := j.p2p != addr
	j.p2p = addr
	j.mu.Unlock()
	if !changed {
		return nil
	}
	b, err := json.Marshal(peerHint{addr})
	if err != nil {
		return err
	}
	return writeBytes(filepath.Join(j.home, peerFile), b)
}

// reachable replaces an unspecified host (a node that listens on all interfaces) by the office's.
func reachable(p2pAddr, office string) (string, error) {
	id, hostPort, ok := strings.Cut(p2pAddr, "@")
	host, port, err := net.SplitHostPort(hostPort)
	if !ok || err != nil {
		return "", fmt.Errorf("the office at %s gives the p2p address %.100q: want ID@HOST:PORT", office, p2pAddr)
	}
	if ip := net.ParseIP(host); ip == nil || ip.IsUnspecified() {
		if host, _, err = net.SplitHostPort(office); err != nil {
			return "", err
		}
	}
	return id + "@" + net.JoinHostPort(host, port), nil
}

// keepConnected dials the joined daemon whenever there is no peer, for ever. CometBFT's own persistent peers wait up to three
// seconds before the first dial, eight between attempts, and give up after a day.
func (j *joined) keepConnected(ctx context.Context, sw *p2p.Switch, log *slog.Logger) {
	defer j.client.Close()
	tick := time.NewTicker(redialEvery)
	defer tick.Stop()
	told := false
	for {
		if sw.Peers().Size() == 0 {
			err := j.dial(ctx, sw)
			var foreign *foreignLedger
			if errors.As(err, &foreign) && !told {
				log.Error(err.Error())
			}
			told = err != nil
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// dial tries the address known, and asks for a new one when that fails.
func (j *joined) dial(ctx context.Context, sw *p2p.Switch) error {
	if err := j.dialKnown(ctx, sw); err == nil {
		return nil
	}
	ask, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	if err := j.refresh(ask); err != nil {
		return err
	}
	return j.dialKnown(ctx, sw)
}

func (j *joined) dialKnown(ctx context.Context, sw *p2p.Switch) error {
	j.mu.Lock()
	addr := j.p2p
	j.mu.Unlock()
	if addr == "" {
		return errors.New("no p2p address known")
	}
	to, err := p2p.NewNetAddressString(addr)
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- sw.DialPeerWithAddress(to) }() // takes up to CometBFT's handshake timeout
	select {
	case err = <-done:
	case <-ctx.Done():
		return ctx.Err()
	}
	var already p2p.ErrCurrentlyDialingOrExistingAddress
	if errors.As(err, &already) {
		return nil
	}
	return err
}
