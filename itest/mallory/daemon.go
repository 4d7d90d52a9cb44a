// Package mallory is a peer that breaks the protocol, for tests of daemons that must stand it. She runs in the test's process, with the
// daemon's own code wherever she behaves, over real links and on a real ledger. No program links this package (internal/archtest).
package mallory

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/eschaton-network/chand/chain/escd"
	"github.com/eschaton-network/chand/chand"
	"github.com/eschaton-network/chand/channel"
	"github.com/eschaton-network/chand/dht"
	"github.com/eschaton-network/chand/htlc"
	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/peer"
	"github.com/eschaton-network/chand/pubsub"
	"github.com/eschaton-network/chand/store"
	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/wire"
)

// Config says who she is. The name fixes her seed.
type Config struct {
	Name   string
	Dir    string     // her store
	Ledger *escd.Node // her view of the ledger; several of her may share it
	Office string     // HOST:PORT that opens accounts
	Timing types.Timing
	Rules  wire.Rules
	Log    *slog.Logger
}

// Daemon is one Mallory.
type Daemon struct {
	*chand.Daemon
	Seed  types.Seed
	Link  *Link
	Chain *Chain
	Addr  string // multiaddr

	store   *store.Store
	peers   *peer.Node
	records *records
	cancel  context.CancelFunc
	ended   chan error
	close   []func() error
}

// Start opens an account at the ledger's office and runs the daemon.
func Start(ctx context.Context, cfg Config) (m *Daemon, err error) {
	h := sha256.Sum256([]byte("mallory " + cfg.Name))
	m = &Daemon{ended: make(chan error, 1)}
	copy(m.Seed[:], h[:])
	defer func() {
		if err != nil {
			err = errors.Join(err, m.shut())
		}
	}()
	account, err := openAccount(ctx, cfg.Ledger, cfg.Office, m.Seed.AccountSecret())
	if err != nil {
		return m, fmt.Errorf("her account: %w", err)
	}
	if m.store, err = store.Open(filepath.Join(cfg.Dir, cfg.Name), store.Options{}); err != nil {
		return m, err
	}
	m.close = append(m.close, m.store.Close)
	if m.peers, err = peer.New(peer.Options{Key: m.Seed.NodeKey(), Log: cfg.Log}); err != nil {
		return m, err
	}
	m.close = append(m.close, m.peers.Close)
	gossip, err := pubsub.New(m.peers.Host(), cfg.Log)
	if err != nil {
		return m, err
	}
	m.close = append(m.close, gossip.Close)
	directory, err := dht.New(m.peers.Host())
	if err != nil {
		return m, err
	}
	m.close = append(m.close, directory.Close)
	m.Addr = m.peers.Addrs()[0]
	m.Link, m.Chain, m.records = newLink(m.peers), &Chain{Node: cfg.Ledger}, &records{Store: m.store}
	m.Daemon, err = chand.New(chand.Config{Seed: m.Seed, Account: account, Timing: cfg.Timing, Rules: cfg.Rules, MaxContribution: types.MaxAmount, Redial: true},
		chand.Deps{Store: m.records, Chain: m.Chain, Transport: m.Link, Gossip: gossip, Directory: directory, Log: cfg.Log, Clock: time.Now, Entropy: rand.Reader})
	if err != nil {
		return m, err
	}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	m.cancel = cancel
	go func() { m.ended <- m.Run(run) }()
	return m, nil
}

// Stop ends her.
func (m *Daemon) Stop() error { return m.shut() }

func (m *Daemon) shut() (err error) {
	if m.cancel != nil {
		m.cancel()
		err = <-m.ended
	}
	for i := len(m.close) - 1; i >= 0; i-- {
		err = errors.Join(err, m.close[i]())
	}
	m.cancel, m.close = nil, nil
	return err
}

func openAccount(ctx context.Context, n *escd.Node, office string, secret [32]byte) (types.AccountID, error) {
	client := escd.NewClient(office)
	defer client.Close()
	key := ledger.PublicKey(secret)
	if _, err := client.CreateAccount(ctx, key, ledger.KeyProof(secret)); err != nil {
		return types.AccountID{}, err
	}
	for {
		if id, ok, err := n.AccountOf(key); ok || err != nil {
			return id, err
		}
		select {
		case <-ctx.Done():
			return types.AccountID{}, ctx.Err()
		case <-time.After(20 * time.Millisecond): // until the block is applied here
		}
	}
}

// records is her store, which also remembers every state that a channel was in.
type records struct {
	chand.Store
	mu     sync.Mutex
	states map[types.ChannelID][]channel.State // guarded by mu; oldest first
}

// bucketChannel is where package chand keeps states.
const bucketChannel = "channel"

func (r *records) Commit(ctx context.Context, writes ...types.Write) error {
	if err := r.Store.Commit(ctx, writes...); err != nil {
		return err
	}
	for _, w := range writes {
		if w.Bucket != bucketChannel || w.Value == nil {
			continue
		}
		s, err := channel.Decode(w.Value)
		if err != nil {
			return err
		}
		r.note(s)
	}
	return nil
}

func (r *records) note(s channel.State) {
	if s.ID.IsZero() {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.states == nil {
		r.states = make(map[types.ChannelID][]channel.State)
	}
	r.states[s.ID] = append(r.states[s.ID], s)
}

// States are all that the channel was in since she knows its id, the oldest first.
func (m *Daemon) States(id types.ChannelID) []channel.State {
	m.records.mu.Lock()
	defer m.records.mu.Unlock()
	return append([]channel.State(nil), m.records.states[id]...)
}

// State is the newest that her daemon has saved.
func (m *Daemon) State(id types.ChannelID) channel.State {
	all := m.States(id)
	if len(all) == 0 {
		return channel.State{}
	}
	return all[len(all)-1]
}

// HeldVersions are states in which what the peer had signed last differs: she can publish each of them.
func (m *Daemon) HeldVersions(id types.ChannelID) (list []channel.State) {
	for _, s := range m.States(id) {
		if s.Held.Number > 0 && (len(list) == 0 || list[len(list)-1].Held.Number != s.Held.Number) {
			list = append(list, s)
		}
	}
	return list
}

func (m *Daemon) keys(s *channel.State) channel.Keys {
	return channel.Keys{Fund: m.Seed.ChannelKey("fund", s.KeyIndex), Close: m.Seed.ChannelKey("close", s.KeyIndex), Lock: m.Seed.ChannelKey("lock", s.KeyIndex)}
}

// Publish submits what the peer had signed last in a state, however old, with a fresh close signature.
func (m *Daemon) Publish(ctx context.Context, s channel.State) error {
	keys := m.keys(&s)
	tx, err := s.HeldRefund(keys.Fund)
	if err != nil {
		return err
	}
	sig := ledger.SignClose(keys.Close, s.ID)
	spend, err := ledger.NewSpend(tx, &sig)
	if err != nil {
		return err
	}
	return m.Chain.sign(ctx, m.Account(), m.Seed.AccountSecret(), spend)
}

// Claim takes the output of a lock of the peer's, at an outpoint of a settled refund, with the preimage.
func (m *Daemon) Claim(ctx context.Context, s channel.State, l channel.Lock, txid types.Hash, index uint32, p types.Preimage) error {
	lock := htlc.Lock{Payer: s.Keys[l.Funder].Lock, Payee: s.Keys[l.Funder.Other()].Lock, Hash: l.Hash, Expiry: l.Expiry}
	tx, err := htlc.Claim(htlc.OutPoint(txid, index), l.Amount, lock, p, m.Account(), m.keys(&s).Lock)
	if err != nil {
		return err
	}
	spend, err := ledger.NewSpend(htlc.EncodeTx(tx), nil)
	if err != nil {
		return err
	}
	return m.Chain.sign(ctx, m.Account(), m.Seed.AccountSecret(), spend)
}

// OnionKey is hers.
func (m *Daemon) OnionKey() types.OnionKey { return htlc.NewOnionSecret(m.Seed.OnionSecret()).Key() }
