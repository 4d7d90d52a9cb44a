package chand

import (
	"context"

	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

// Store is durable key-value storage in named buckets. Keys and values are copied; callers may reuse their slices.
//
// Commit is all or nothing, and durable when it returns nil: it survives kill -9 and power loss. Concurrent calls
// share one disk flush (group commit). After an error the caller must assume that the writes may or may not be on
// disk, and must stop what it was doing (a runner stops; a restart reads what is there). Safe for concurrent use.
type Store interface {
	Commit(ctx context.Context, writes ...types.Write) error
	// Get returns nil, nil when the key is not there.
	Get(bucket, key string) ([]byte, error)
	// Scan calls fn for every key with the prefix, in byte order, from one consistent snapshot. fn must not keep or
	// change the slices and must not call the Store. An error from fn ends the scan and is returned.
	Scan(bucket, prefix string, fn func(key string, value []byte) error) error
}

// Chain is the settlement chain as this daemon has verified it itself. Safe for concurrent use.
type Chain interface {
	// Head is the newest block that was applied and checked here. ok is false while the view is stale (catching up or halted).
	Head() (block ledger.BlockInfo, ok bool)
	// Blocks calls fn for each block in order, from the given height on (0: from the next one), until ctx ends or fn
	// fails. Old blocks are replayed from storage, so a daemon that was down misses nothing; the error is a *ledger.Pruned when
	// it was down for longer than blocks are kept. fn runs on one goroutine.
	Blocks(ctx context.Context, from types.Height, fn func(ledger.BlockEvents) error) error
	// Submit hands a signed ledger transaction to the network. nil means that it was accepted for relay, not that it
	// is in a block. Submitting the same bytes again is harmless.
	Submit(ctx context.Context, tx []byte) error
	// Account returns the account's state at Head. ErrNotFound (package ledger) when there is none.
	Account(id types.AccountID) (ledger.Account, error)
	// AccountOf finds the account of a public key at Head, the oldest when there are several.
	AccountOf(key [32]byte) (id types.AccountID, ok bool, err error)
	// Contract returns an open or settled contract at Head. ErrNotFound when it never existed.
	Contract(id types.ChannelID) (ledger.Contract, error)
	// Params gives what transactions must be bound to: the chain id and the block time.
	Params() ledger.Params
}

// Proofs gives what convinces others of what a block holds. Safe for concurrent use.
type Proofs interface {
	// TxProof leads from a transaction's id (SHA-256 of its bytes) to the state root after its block, and by the bundle, for an offline
	// verifier, to the header of the next block, which carries that root; it waits for that block. ErrNotFound (package ledger) when
	// the transaction is in no block.
	TxProof(ctx context.Context, id types.Hash) (h types.Height, proof ledger.TxProof, bundle []byte, err error)
}

// Transport carries framed messages between daemons that know each other by node key. Connections are encrypted and
// authenticated; frames are at most wire.MaxFrame bytes, arrive in order, once, or not at all when the link breaks.
// Safe for concurrent use.
type Transport interface {
	// Self is this daemon's node id.
	Self() types.NodeID
	// Connect dials a peer; addr is a multiaddr with the peer's id, or empty to use addresses known already. When it
	// returns nil, OnUp has returned: who connects can use the link at once.
	Connect(ctx context.Context, peer types.NodeID, addr string) error
	// Reach makes sure that a peer can be asked (Directory), dialling addr if need be, and opens no link.
	Reach(ctx context.Context, peer types.NodeID, addr string) error
	// Send queues a frame on the link to peer. It fails at once when there is no link, or when the peer has been too
	// slow to take what is queued (the link is then dropped). A nil error says nothing about delivery.
	Send(peer types.NodeID, frame []byte) error
	// Drop closes the link, for the reason given (logged; not sent).
	Drop(peer types.NodeID, reason string)
	// Peers lists the connected peers.
	Peers() []types.PeerInfo
	// Handle sets what is called for link events and frames. OnFrame is called from one goroutine a link, so a slow handler
	// slows that peer only. Must be called once, before anything else.
	Handle(h types.LinkHandler)
}

// Gossip spreads messages to all daemons of the network. Safe for concurrent use.
type Gossip interface {
	// Join subscribes to a topic. validate is called for every message before it is relayed or delivered (it must be
	// fast, bounded and must not block); deliver for accepted ones, in order of arrival, own messages included.
	Join(topic string, validate func(from types.NodeID, data []byte) types.Verdict, deliver func(from types.NodeID, data []byte)) error
	// Publish sends data (at most wire.MaxGossip bytes) to everybody on the topic. It is not stored: who is offline misses it.
	Publish(ctx context.Context, topic string, data []byte) error
}

// Directory finds who holds statements under an index key (kad-dht provider records), and asks a peer directly.
type Directory interface {
	// Provide announces that this daemon holds something under key. Records expire; call again before ProvideTTL.
	Provide(ctx context.Context, key types.Hash) error
	// Providers lists up to limit daemons that announced the key.
	Providers(ctx context.Context, key types.Hash, limit int) ([]types.NodeID, error)
	// Ask sends one request on the named protocol and returns the answer, both at most wire.MaxQuery bytes.
	Ask(ctx context.Context, peer types.NodeID, protocol string, request []byte) ([]byte, error)
	// Serve answers such requests. handler must be safe for concurrent use.
	Serve(protocol string, handler func(ctx context.Context, from types.NodeID, request []byte) ([]byte, error))
}
