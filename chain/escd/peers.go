package escd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/cometbft/cometbft/p2p"

	"github.com/eschaton-network/chand/types"
)

const (
	// askTimeout bounds one question; it is how much later a node starts when an office hangs.
	askTimeout = 2 * time.Second
	// redialEvery is about how often a lost connection is tried again, for ever. Loopback and LAN: refused at once while down;
	// elsewhere CometBFT's dial timeout of a second paces it.
	redialEvery = 250 * time.Millisecond
	// maxPeers bounds the peers given: each costs a goroutine and a connection, and CometBFT takes as many inbound.
	maxPeers = 256
)

// errSelf says that an address given as a peer's is this node's own: one list may serve all nodes.
var errSelf = errors.New("this is our own address")

// peers are the other nodes that this one stays connected with: validators with each other, a follower with whom it follows.
type peers struct {
	home    string
	asked   types.Hash // the genesis hash named in Config.Join, or zero
	genesis types.Hash // set before anything is asked
	self    p2p.ID
	all     []*peer

	mu    sync.Mutex
	hints hints // guarded by mu
}

// peer is one of them.
type peer struct {
	of     *peers
	office *Client // nil when the operator gave the p2p address only

	mu  sync.Mutex
	p2p string // ID@HOST:PORT as given or last heard, or empty
}

// newPeers reads the addresses: the joined daemon's office first, then the list.
func newPeers(c Config) (*peers, error) {
	ps := &peers{home: c.Home, self: nodeKey(c.LedgerNodeSecret).ID(), hints: readHints(c.Home)}
	list := c.Peers
	if c.Join != "" {
		addr, asked, err := splitJoin(c.Join)
		if err != nil {
			return nil, err
		}
		ps.asked = asked
		list = append([]string{addr}, list...)
	}
	if len(list) > maxPeers {
		return nil, fmt.Errorf("%d peers: at most %d", len(list), maxPeers)
	}
	seen := map[string]bool{}
	for _, s := range list {
		if seen[s] {
			continue
		}
		seen[s] = true
		if err := CheckPeer(s); err != nil {
			return nil, err
		}
		p := &peer{of: ps}
		if strings.Contains(s, "@") {
			p.p2p = s
		} else {
			p.office, p.p2p = NewClient(s), ps.hints[s]
		}
		ps.all = append(ps.all, p)
	}
	return ps, nil
}

// CheckPeer checks the form of an address as Config.Peers takes it.
func CheckPeer(s string) error {
	id, hostPort, found := strings.Cut(s, "@")
	if !found {
		id, hostPort = "", s
	}
	host, port, err := net.SplitHostPort(hostPort)
	if err == nil && (host == "" || port == "") {
		err = errors.New("the host or the port is missing")
	}
	if err == nil && found {
		_, err = p2p.NewNetAddressString(id + "@127.0.0.1:1") // the name is looked up when it is dialled
	}
	if err != nil {
		return fmt.Errorf("peer %.100q: want HOST:PORT of its office, or ID@HOST:PORT of its p2p port: %w", s, err)
	}
	return nil
}

// offices are those that can be asked for blocks and accounts.
func (ps *peers) offices() []*peer {
	var out []*peer
	for _, p := range ps.all {
		if p.office != nil {
			out = append(out, p)
		}
	}
	return out
}

// ask asks all offices at a time where their nodes listen, and returns those that answered for this ledger. The error
// is for when there are none.
func (ps *peers) ask(ctx context.Context) ([]*peer, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	offices := ps.offices()
	errs := make([]error, len(offices))
	var wg sync.WaitGroup
	for i, p := range offices {
		wg.Go(func() { errs[i] = p.refresh(ctx) })
	}
	wg.Wait()
	var reached []*peer
	for i, err := range errs {
		if err == nil {
			reached = append(reached, offices[i])
		}
	}
	if len(reached) > 0 {
		return reached, nil
	}
	return nil, errors.Join(errs...)
}

// foreignLedger says that a peer runs another ledger.
type foreignLedger struct {
	addr      string
	got, want types.Hash
}

func (f *foreignLedger) Error() string {
	return fmt.Sprintf("the daemon at %s runs the ledger with genesis %s, this home follows %s; it is not followed: "+
		"correct the address, or use another home to join that ledger", f.addr, f.got, f.want)
}

// refresh asks the peer's office where its node listens.
func (p *peer) refresh(ctx context.Context) error {
	i, err := p.office.Info(ctx)
	if err != nil {
		return err
	}
	if i.Genesis != p.of.genesis {
		return &foreignLedger{p.office.addr, i.Genesis, p.of.genesis}
	}
	addr, err := reachable(i.P2P, p.office.addr)
	if err != nil {
		return err
	}
	if idOf(addr) == p.of.self {
		return errSelf
	}
	p.mu.Lock()
	changed := p.p2p != addr
	p.p2p = addr
	p.mu.Unlock()
	if !changed {
		return nil
	}
	p.of.mu.Lock()
	defer p.of.mu.Unlock()
	p.of.hints[p.office.addr] = addr
	return p.of.hints.write(p.of.home)
}

func idOf(addr string) p2p.ID {
	id, _, _ := strings.Cut(addr, "@")
	return p2p.ID(id)
}

// reachable replaces an unspecified host (a node that listens on all interfaces) by the office's.
func reachable(p2pAddr, office string) (string, error) {
	id, hostPort, ok := strings.Cut(p2pAddr, "@")
	host, port, err := net.SplitHostPort(hostPort)
	if !ok || err != nil {
		return "", fmt.Errorf("the office at %s gives the p2p address %.100q: want ID@HOST:PORT; its node may still be starting", office, p2pAddr)
	}
	if ip := net.ParseIP(host); ip == nil || ip.IsUnspecified() {
		if host, _, err = net.SplitHostPort(office); err != nil {
			return "", err
		}
	}
	return id + "@" + net.JoinHostPort(host, port), nil
}

// keepConnected dials the peer whenever it is not connected, for ever. CometBFT's own persistent peers wait up to three
// seconds before the first dial, eight between attempts, and give up after a day.
func (p *peer) keepConnected(ctx context.Context, sw *p2p.Switch, log *slog.Logger) {
	if p.office != nil {
		defer p.office.Close()
	}
	for told := false; ; {
		err := p.connect(ctx, sw)
		var foreign *foreignLedger
		switch {
		case errors.Is(err, errSelf):
			return
		case errors.As(err, &foreign) && !told:
			log.Error(err.Error())
		}
		told = err != nil
		// Two nodes that dial each other at the same moment may each refuse the other's connection as the second one: the
		// pauses differ so that they don't go on doing so.
		pause := redialEvery/2 + rand.N(redialEvery)
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// connect tries the address known, and asks for a new one when that fails. It does nothing when the peer is connected.
func (p *peer) connect(ctx context.Context, sw *p2p.Switch) error {
	err := p.dial(ctx, sw)
	if err == nil || p.office == nil || errors.Is(err, errSelf) {
		return err
	}
	ask, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	if err := p.refresh(ask); err != nil {
		return err
	}
	return p.dial(ctx, sw)
}

func (p *peer) dial(ctx context.Context, sw *p2p.Switch) error {
	p.mu.Lock()
	addr := p.p2p
	p.mu.Unlock()
	switch {
	case addr == "":
		return errors.New("no p2p address known")
	case idOf(addr) == p.of.self:
		return errSelf
	case sw.Peers().Has(idOf(addr)):
		return nil
	}
	done := make(chan error, 1)
	go func() { // looks up the name, and takes up to CometBFT's handshake timeout
		to, err := p2p.NewNetAddressString(addr)
		if err == nil {
			err = sw.DialPeerWithAddress(to)
		}
		done <- err
	}()
	var err error
	select {
	case err = <-done:
	case <-ctx.Done():
		return ctx.Err()
	}
	var already p2p.ErrCurrentlyDialingOrExistingAddress
	if errors.As(err, &already) || sw.Peers().Has(idOf(addr)) { // it may have dialled us meanwhile
		return nil
	}
	return err
}
