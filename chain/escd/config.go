package escd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/eschaton-network/chand/types"
)

const (
	// minBlockMillis keeps consensus (about 10-50 ms a block with its disk flushes) well below the block time.
	minBlockMillis = 20
	// maxBlockMillis is an hour; a longer block time is a mistake in the unit.
	maxBlockMillis = 3600 * 1000
	// DefaultBlockMillis is the block time of a new ledger.
	DefaultBlockMillis = 1000
)

// Config says where a node lives, what it runs and with which keys. The zero value of everything but Home,
// LedgerNodeSecret and AccountSecret is usable.
type Config struct {
	// Home is this node's own directory, created with mode 0700. Two processes on one home are the caller's to prevent.
	Home string
	// Moniker is shown to peers.
	Moniker string
	// BlockMillis is the block time of a new ledger (0: DefaultBlockMillis). An existing or joined one has it in its genesis document.
	BlockMillis uint32
	// DirectDelay is by how many blocks a new ledger's direct transactions wait for what offices have promised.
	DirectDelay uint32
	// ListenP2P and ListenOffice are host:port; empty means 127.0.0.1:0, port 0 a free one.
	ListenP2P, ListenOffice string
	// ListenRPC is CometBFT's own RPC; empty means off.
	ListenRPC string
	// Join is HOST:PORT or HOST:PORT/GENESISHASH of the office of a daemon of the ledger to be part of. Its genesis document is
	// pinned at the first start, unless GenesisFile gives one.
	Join string
	// GenesisFile holds the genesis document for the first start. Later it may be gone, but must not say something else.
	// Without it and Join the first start makes a ledger of one's own.
	GenesisFile string
	// Peers are other nodes of the ledger to stay connected with, beside Join: HOST:PORT of an office, or ID@HOST:PORT of a
	// p2p port. Own addresses among them are left out.
	Peers []string
	// KeepBlocks is how many blocks to keep; 0 keeps all. A node that keeps all (an archive) replays blocks as long as there are any
	// to be had; one that does not starts from a snapshot when it is far behind.
	KeepBlocks types.Height
	// LedgerNodeSecret is the ed25519 seed of this ledger node (validator key), AccountSecret that of the daemon's account.
	LedgerNodeSecret, AccountSecret [32]byte
	// OpenAccounts says whether the office creates accounts on request. Only a node with an admin account can.
	OpenAccounts OpenPolicy
	// CreateAccount makes an account on the ledger for a public key (proof: the signature of the empty message with it)
	// and returns once it is in a block. The daemon, which owns the account that pays, supplies it; nil: this
	// package signs with AccountSecret itself, which is right only when nobody else does.
	CreateAccount func(ctx context.Context, publicKey [32]byte, proof [64]byte) (types.AccountID, error)
	// Wallet pays from the daemon's account for the office's callers (ccoin's POST txn/). nil: nobody can.
	Wallet Wallet
	// Logger gets warnings and errors of CometBFT and a few lines of this package. nil: discarded.
	Logger *slog.Logger

	snapshotBlocks types.Height // tests only: the default otherwise
}

// OpenPolicy limits the accounts that the office opens for strangers, each of which costs the admin a deposit and a fee.
// The zero value is off.
type OpenPolicy struct {
	Enabled bool
	// PerSecond, Burst and Total limit them; 0 means the default of the same name.
	PerSecond, Burst, Total int
}

const (
	// DefaultOpenPerSecond and DefaultOpenBurst let a network of some dozens of daemons start at once.
	DefaultOpenPerSecond = 10
	DefaultOpenBurst     = 100
	// DefaultOpenTotal bounds what strangers can cost the admin: 100,000 accounts are about 27,000 coins.
	DefaultOpenTotal = 100_000
)

func (c Config) normal() (Config, error) {
	if c.Home == "" {
		return c, errors.New("ledger node: no home directory given")
	}
	if c.BlockMillis == 0 {
		c.BlockMillis = DefaultBlockMillis
	}
	if c.BlockMillis < minBlockMillis || c.BlockMillis > maxBlockMillis {
		return c, fmt.Errorf("ledger node: block time of %d ms: want %d..%d", c.BlockMillis, minBlockMillis, maxBlockMillis)
	}
	if c.LedgerNodeSecret == [32]byte{} || c.AccountSecret == [32]byte{} {
		return c, errors.New("ledger node: the ledger node secret or the account secret is missing")
	}
	for _, addr := range []*string{&c.ListenP2P, &c.ListenOffice} {
		if *addr == "" {
			*addr = "127.0.0.1:0"
		}
		if _, _, err := net.SplitHostPort(*addr); err != nil {
			return c, fmt.Errorf("ledger node: listen address %q: want HOST:PORT: %w", *addr, err)
		}
	}
	if c.snapshotBlocks == 0 {
		c.snapshotBlocks = snapshotBlocks
	}
	if c.Moniker == "" {
		c.Moniker = "chand"
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.KeepBlocks != 0 && c.KeepBlocks < MinKeepBlocks && c.snapshotBlocks == snapshotBlocks {
		return c, fmt.Errorf("ledger node: keeping %d blocks: want 0 (all) or %d and more", c.KeepBlocks, MinKeepBlocks)
	}
	p := &c.OpenAccounts
	if p.PerSecond < 0 || p.Burst < 0 || p.Total < 0 {
		return c, fmt.Errorf("ledger node: limits of opened accounts %+v: want 0 (default) or more", *p)
	}
	for _, v := range []struct {
		at  *int
		def int
	}{{&p.PerSecond, DefaultOpenPerSecond}, {&p.Burst, DefaultOpenBurst}, {&p.Total, DefaultOpenTotal}} {
		if *v.at == 0 {
			*v.at = v.def
		}
	}
	return c, nil
}

// staleAfter is how long after its newest block a view still counts as fresh: five block times, and at least two seconds for
// a busy machine.
func staleAfter(blockMillis uint32) time.Duration {
	return max(5*time.Duration(blockMillis)*time.Millisecond, 2*time.Second)
}

// maxClockLag is by how much a block's time may lie behind this machine's clock on top of the block time before a
// follower counts as still catching up. It covers clocks that differ by some seconds.
const maxClockLag = 10 * time.Second
