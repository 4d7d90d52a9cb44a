package ledger

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"

	"github.com/eschaton-network/chand/types"
)

const (
	// Supply is all the money there is: 2^62 units, in accounts, contracts, outputs and the pool.
	Supply = types.MaxAmount
	// initialShare is what the admins hold at genesis: 99 % of the supply as the original's floating-point
	// arithmetic rounds it. The rest is in the pool, from which dividends are paid.
	initialShare types.Amount = 4_565_569_158_243_113_984
	// MaxNodes bounds the nodes of a genesis: node numbers are 1..0xFFFE.
	MaxNodes = 0xFFFE
	// MaxGenesis bounds a genesis document: MaxNodes nodes with two keys each fit.
	MaxGenesis = 16 << 20
	// maxChainID is CometBFT's bound of a chain id.
	maxChainID = 50
	// maxBlockMillis is a day; a longer target is a mistake in the unit.
	maxBlockMillis = 24 * 3600 * 1000
	// defaultBlockMillis is the block time of development networks.
	defaultBlockMillis = 1000
)

// GenesisNode is one node of the first block and the key of its admin, account 0.
type GenesisNode struct {
	// PublicKey (ed25519) is the node's: it signs blocks.
	PublicKey types.Hash `json:"public_key"`
	// Account0 (ed25519) owns account 0 of the node, which holds the node's share of the first money.
	Account0 types.Hash `json:"account0"`
}

// Genesis is the document that a ledger starts from. Everything signed for the ledger is bound to its hash.
type Genesis struct {
	ChainID string     `json:"chain_id"`
	Time    types.Time `json:"time"`
	// BlockMillis is the target time between blocks; 0 means 1000.
	BlockMillis uint32 `json:"block_millis"`
	// Nodes are numbered from 1 in this order.
	Nodes []GenesisNode `json:"nodes"`
	// DividendBlocks is the length of a dividend period in blocks; 0 means as many as fill 2^20 seconds (12.1 days, A19).
	DividendBlocks uint32 `json:"dividend_blocks"`
	// VIPMax bounds the validators: the nodes with the most stake; 0 means 31 (A19).
	VIPMax uint16 `json:"vip_max"`
	// Authorities fixes the validators to these node numbers, whatever their stake; empty: by stake.
	Authorities []uint16 `json:"authorities,omitempty"`
	// Admission is "open" (also when empty) or "enrolled": nodes and accounts need an enrolment by one of Admins.
	Admission string `json:"admission,omitempty"`
	// Admins are the accounts that may enrol others and set policies.
	Admins []types.AccountID `json:"admins,omitempty"`
	// UnbondingBlocks is how long a cancelled lease still counts as bond; 0 means a dividend period.
	UnbondingBlocks uint32 `json:"unbonding_blocks"`
	// DirectDelay is by how many blocks a direct transaction waits, so that what a node has promised goes first.
	DirectDelay uint32 `json:"direct_delay"`
}

const (
	// dividendSeconds is the original's production period (A19: 2048 blocks of 512 s).
	dividendSeconds = 1 << 20
	// minDividendBlocks lets the second half of a period hold the sweep.
	minDividendBlocks = 4
	// maxPeriodBlocks keeps heights that lie a period ahead within their 32 bits for the first three billion blocks.
	maxPeriodBlocks = 1 << 30
	// defaultVIPMax is A19's.
	defaultVIPMax = 31
	// maxVIPMax bounds commits: one signature of some 100 bytes each.
	maxVIPMax = 127
	// maxDirectDelay is a day of blocks of a second.
	maxDirectDelay = 86_400

	AdmissionOpen     = "open"
	AdmissionEnrolled = "enrolled"
)

func (g *Genesis) periods() error {
	if g.DividendBlocks == 0 {
		g.DividendBlocks = uint32(max(dividendSeconds*1000/uint64(g.BlockMillis)&^1, minDividendBlocks))
	}
	if g.VIPMax == 0 {
		g.VIPMax = defaultVIPMax
	}
	if g.UnbondingBlocks == 0 {
		g.UnbondingBlocks = g.DividendBlocks
	}
	if g.Admission == "" {
		g.Admission = AdmissionOpen
	}
	switch {
	case g.DividendBlocks < minDividendBlocks || g.DividendBlocks%2 != 0:
		return fmt.Errorf("genesis: dividend period of %d blocks: want an even number from %d on", g.DividendBlocks, minDividendBlocks)
	case g.VIPMax > maxVIPMax:
		return fmt.Errorf("genesis: %d validators: at most %d", g.VIPMax, maxVIPMax)
	case g.DirectDelay > maxDirectDelay:
		return fmt.Errorf("genesis: direct transactions delayed by %d blocks: at most %d", g.DirectDelay, maxDirectDelay)
	case g.Admission != AdmissionOpen && g.Admission != AdmissionEnrolled:
		return fmt.Errorf("genesis: admission %.20q: want %q or %q", g.Admission, AdmissionOpen, AdmissionEnrolled)
	case g.Admission == AdmissionEnrolled && len(g.Admins) == 0:
		return fmt.Errorf("genesis: admission is %q, but there are no admins who could enrol anybody", g.Admission)
	}
	if len(g.Authorities) > int(g.VIPMax) {
		return fmt.Errorf("genesis: %d authorities, but at most %d validators (vip_max)", len(g.Authorities), g.VIPMax)
	}
	if max(g.DividendBlocks, g.UnbondingBlocks) > maxPeriodBlocks {
		return fmt.Errorf("genesis: periods of %d and %d blocks: at most %d", g.DividendBlocks, g.UnbondingBlocks, maxPeriodBlocks)
	}
	for i, n := range g.Authorities {
		if n == 0 || int(n) > len(g.Nodes) || slices.Contains(g.Authorities[:i], n) {
			return fmt.Errorf("genesis: authority %d: want each once, of the nodes 1..%d", n, len(g.Nodes))
		}
	}
	if len(g.Admins) > MaxAdmins {
		return fmt.Errorf("genesis: %d admins: at most %d", len(g.Admins), MaxAdmins)
	}
	for i, a := range g.Admins {
		if a.User != 0 || a.Node == 0 || int(a.Node) > len(g.Nodes) || slices.Contains(g.Admins[:i], a) {
			return fmt.Errorf("genesis: admin %s: want each once, account 0 of one of the nodes", a)
		}
	}
	return nil
}

// ParseGenesis reads a genesis document strictly: unknown fields and trailing bytes are refused.
func ParseGenesis(b []byte) (Genesis, error) {
	var g Genesis
	if len(b) > MaxGenesis {
		return g, fmt.Errorf("genesis of %d bytes: at most %d", len(b), MaxGenesis)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&g); err != nil {
		return g, fmt.Errorf("genesis: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return g, fmt.Errorf("genesis: bytes follow the document")
	}
	return g.normal()
}

// normal fills in defaults and checks everything.
func (g Genesis) normal() (Genesis, error) {
	if g.BlockMillis == 0 {
		g.BlockMillis = defaultBlockMillis
	}
	switch {
	case g.ChainID == "" || len(g.ChainID) > maxChainID:
		return g, fmt.Errorf("genesis: chain id %.60q: want 1..%d bytes", g.ChainID, maxChainID)
	case g.Time < 0 || g.Time > maxTime:
		return g, fmt.Errorf("genesis: time %d: want seconds since 1970 in 32 bits", g.Time)
	case g.BlockMillis > maxBlockMillis:
		return g, fmt.Errorf("genesis: block time of %d ms: at most %d", g.BlockMillis, maxBlockMillis)
	case len(g.Nodes) == 0 || len(g.Nodes) > MaxNodes:
		return g, fmt.Errorf("genesis: %d nodes: want 1..%d", len(g.Nodes), MaxNodes)
	}
	numbers := make(map[types.Hash]int, len(g.Nodes))
	for i, n := range g.Nodes {
		if k := numbers[n.PublicKey]; k != 0 {
			return g, fmt.Errorf("genesis: nodes %d and %d have the same key %s: each signs with its own, or one could be punished for the other", k, i+1, n.PublicKey)
		}
		numbers[n.PublicKey] = i + 1
		if !validKey(n.PublicKey) || !validKey(n.Account0) {
			return g, fmt.Errorf("genesis: node %d: a key is not an ed25519 public key", i+1)
		}
	}
	return g, g.periods()
}

// Bytes is the canonical form: JSON with the fields in the order of the type, defaults filled in.
func (g Genesis) Bytes() ([]byte, error) {
	g, err := g.normal()
	if err != nil {
		return nil, err
	}
	return json.Marshal(g)
}

// Hash names the ledger: a tagged hash of Bytes.
func (g Genesis) Hash() (types.Hash, error) {
	b, err := g.Bytes()
	return types.TaggedHash("chand/genesis", b), err
}
