package escd

import (
	"fmt"
	"math/rand/v2"
	"net"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/cometbft/cometbft/config"
	cmt "github.com/cometbft/cometbft/types"

	"github.com/eschaton-network/chand/chain/escd/light"
	"github.com/eschaton-network/chand/ledger"
)

// Consensus constants. They are part of the protocol: every node of a ledger must have the same ones.
const (
	// maxBlockBytes lets a block of a second carry 150,000 transfers.
	maxBlockBytes = 20 << 20
	// evidenceBlocks is for how many blocks a validator's double signing can be reported, and for as long as these take: at one
	// block a second, two days. It is never longer than stake is bound.
	evidenceBlocks = 172_800
	// maxPacket must be the same at both ends of a connection; CometBFT's default of 1 KB costs a header and an authentication
	// tag for each.
	maxPacket = 32 << 10
)

// cometGenesis makes CometBFT's genesis document of the ledger's. It depends on nothing else, so that the hash of the
// ledger's document names both.
func cometGenesis(g ledger.Genesis) *cmt.GenesisDoc {
	p := cmt.DefaultConsensusParams()
	p.Block.MaxBytes, p.Block.MaxGas = maxBlockBytes, -1
	age := min(evidenceBlocks, int64(g.UnbondingBlocks))
	p.Evidence.MaxAgeNumBlocks, p.Evidence.MaxAgeDuration = age, time.Duration(age)*time.Duration(g.BlockMillis)*time.Millisecond
	return &cmt.GenesisDoc{
		ChainID:         g.ChainID,
		GenesisTime:     g.Time.Std(),
		InitialHeight:   1,
		ConsensusParams: p,
		Validators:      light.Validators(g),
	}
}

// cometConfig is CometBFT's configuration for a node of daemons that name each other: no peer exchange, loopback allowed,
// quick commits.
func cometConfig(c Config, g ledger.Genesis, p2pAddr string) *config.Config {
	cfg := config.DefaultConfig()
	cfg.SetRoot(c.Home)
	cfg.Moniker = c.Moniker
	cfg.DBPath = dataDir
	cfg.DBBackend = "goleveldb"

	cfg.P2P.ListenAddress = "tcp://" + p2pAddr
	cfg.P2P.AddrBook = filepath.Join(dataDir, "addrbook.json")
	cfg.P2P.AddrBookStrict = false
	cfg.P2P.AllowDuplicateIP = true
	cfg.P2P.PexReactor = false
	cfg.P2P.MaxNumInboundPeers = 256
	cfg.P2P.SendRate, cfg.P2P.RecvRate = 200<<20, 200<<20 // bytes a second: the default of 5 MB is less than one full block a second
	cfg.P2P.MaxPacketMsgPayloadSize = maxPacket
	cfg.P2P.FlushThrottleTimeout = 5 * time.Millisecond
	cfg.P2P.HandshakeTimeout = 5 * time.Second
	cfg.P2P.DialTimeout = time.Second

	cfg.Mempool.Size = ledger.MaxWaiting
	cfg.Mempool.MaxTxsBytes = 256 << 20
	cfg.Mempool.CacheSize = 1 << 16               // of transactions seen lately; its memory, 60 bytes each, is taken at the start
	cfg.Mempool.MaxTxBytes = ledger.MaxEvidence   // longer than any message
	cfg.Mempool.RecheckTimeout = 30 * time.Second // in process: it answers; the default of 1 s would drop what is left

	// A missed proposal costs timeout_propose, so it is short; the next rounds allow for slow machines.
	cfg.Consensus.TimeoutPropose = 500 * time.Millisecond
	cfg.Consensus.TimeoutProposeDelta = 250 * time.Millisecond
	cfg.Consensus.TimeoutPrevote = 200 * time.Millisecond
	cfg.Consensus.TimeoutPrevoteDelta = 100 * time.Millisecond
	cfg.Consensus.TimeoutPrecommit = 200 * time.Millisecond
	cfg.Consensus.TimeoutPrecommitDelta = 100 * time.Millisecond
	cfg.Consensus.TimeoutCommit = time.Duration(g.BlockMillis) * time.Millisecond
	cfg.Consensus.PeerGossipSleepDuration = gossipPause(g.BlockMillis)
	cfg.Consensus.PeerQueryMaj23SleepDuration = 500 * time.Millisecond

	cfg.RPC.ListenAddress = ""
	if c.ListenRPC != "" {
		cfg.RPC.ListenAddress = "tcp://" + c.ListenRPC
	}
	cfg.RPC.GRPCListenAddress = ""
	cfg.TxIndex.Indexer = "null"                           // the journal finds transactions
	cfg.Storage.DiscardABCIResponses = (c.ListenRPC == "") // the journal keeps what blocks did
	cfg.Instrumentation.Prometheus = false
	return cfg
}

// gossipPause is how often each peer is looked at for something to send: a hundredth of the block time, because a block passes
// three such steps (proposal, two votes), within bounds. Two goroutines a peer wake up that often, with nothing to do mostly.
func gossipPause(blockMillis uint32) time.Duration {
	return min(max(time.Duration(blockMillis)*time.Millisecond/100, 2*time.Millisecond), 10*time.Millisecond)
}

// Ports for nodes that are given none lie below those that Linux takes for outgoing connections, one of which could have the port by
// the time that the node listens there.
const firstPort, portsEnd = 10000, 32000

// handedOut are the ports that freePort has given to somebody in this process, who may not listen there yet.
var handedOut sync.Map

// freePort turns port 0 into a port that is free now: CometBFT announces the configured port, not the one it got.
func freePort(addr string) (string, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", err
	}
	if host == "" {
		host = "127.0.0.1"
	}
	if port != "0" {
		return net.JoinHostPort(host, port), nil
	}
	for range portsEnd - firstPort {
		port := firstPort + rand.IntN(portsEnd-firstPort)
		l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
		if err != nil {
			continue
		}
		l.Close()
		if _, taken := handedOut.LoadOrStore(port, true); !taken {
			return net.JoinHostPort(host, strconv.Itoa(port)), nil
		}
	}
	return "", fmt.Errorf("no free port on %s between %d and %d", host, firstPort, portsEnd)
}
