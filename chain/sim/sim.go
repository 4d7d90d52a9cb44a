package sim

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

// MaxBlock bounds the transactions of one block; the rest waits for the next.
const MaxBlock = 20_000

// Chain is one ledger in memory that all Views share. Safe for concurrent use.
type Chain struct {
	admin [32]byte // ed25519 seed of account 0 of node 1

	mu     sync.Mutex
	state  *ledger.State        // guarded by mu
	blocks []ledger.BlockEvents // guarded by mu; block h is blocks[h-1]
	head   ledger.BlockInfo     // guarded by mu
	pool   [][]byte             // guarded by mu; what Check accepted, in order
	waits  map[types.Hash]bool  // guarded by mu; ids of what is in pool
	late   []lateTx             // guarded by mu; delayed submissions, in order
	seen   map[types.Hash]bool  // guarded by mu; ids of all transactions in blocks
	halted bool                 // guarded by mu
	first  types.Height         // guarded by mu; blocks before it are not told any more
	// changed is closed and replaced when a block is made or a Chain halts or goes on.
	changed chan struct{} // guarded by mu
}

// lateTx is a submission that reaches the pool before block number at is made.
type lateTx struct {
	at types.Height
	tx []byte
}

// New makes a chain with one node, whose admin holds the first money. Block times come from the standard clock.
func New(chainID string, blockTime time.Duration) (*Chain, error) {
	admin := ledger.BrainKey("sim admin of " + chainID)
	g := ledger.Genesis{
		ChainID: chainID, Time: types.Time(time.Now().Unix()), BlockMillis: uint32(blockTime / time.Millisecond),
		Nodes: []ledger.GenesisNode{{
			PublicKey: ledger.PublicKey(ledger.BrainKey("sim node of " + chainID)),
			Account0:  ledger.PublicKey(admin),
		}},
	}
	s, err := ledger.NewState(g)
	if err != nil {
		return nil, err
	}
	return &Chain{
		admin: admin, state: s, seen: make(map[types.Hash]bool), waits: make(map[types.Hash]bool), changed: make(chan struct{}),
		head: ledger.BlockInfo{Hash: s.Params().Genesis, Time: s.Time(), AppHash: s.Root()},
	}, nil
}

// Forget makes every View tell of no block before a height any more, as nodes do that keep some blocks only.
func (c *Chain) Forget(before types.Height) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.first = before
}

// Run makes a block at every tick until ctx ends.
func (c *Chain) Run(ctx context.Context, every time.Duration) {
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			c.Mine(1)
		}
	}
}

// Mine makes n blocks at once, unless the chain is halted.
func (c *Chain) Mine(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for range n {
		if c.halted {
			return
		}
		c.mine()
	}
}

// mine makes one block of what waits. Callers hold mu.
func (c *Chain) mine() {
	height := c.state.Height() + 1
	c.promote(height)
	txs := c.pool[:min(len(c.pool), MaxBlock)]
	rest := c.pool[len(txs):]
	before := c.state.Root()
	direct := make([][]byte, len(txs))
	for i, tx := range txs {
		direct[i] = ledger.Direct(tx)
	}
	out := c.state.Apply(height, types.Time(time.Now().Unix()), direct)
	for _, d := range out.Results {
		c.seen[d.ID] = true
	}
	c.head = ledger.BlockInfo{Height: height, Time: c.state.Time(), AppHash: before, Hash: blockHash(c.head, height, before, out)}
	c.blocks = append(c.blocks, ledger.BlockEvents{BlockInfo: c.head, Events: out.Events})
	c.pool = nil
	clear(c.waits)
	for _, tx := range rest { // Apply forgot what waits
		if c.state.Check(tx) == nil {
			c.enqueue(tx)
		}
	}
	c.signal()
}

// promote moves delayed submissions to the pool when their time has come. What is refused by now is lost, as on a real chain.
func (c *Chain) promote(height types.Height) {
	kept := c.late[:0]
	for _, l := range c.late {
		if l.at > height {
			kept = append(kept, l)
			continue
		}
		_ = c.submit(l.tx)
	}
	c.late = kept
}

// submit checks a transaction and puts it into the pool. Callers hold mu.
func (c *Chain) submit(tx []byte) error {
	id := types.SHA256(tx)
	if c.seen[id] || c.waits[id] {
		return nil
	}
	if err := c.state.Check(tx); err != nil {
		return err
	}
	c.enqueue(append([]byte(nil), tx...))
	return nil
}

func (c *Chain) enqueue(tx []byte) {
	c.pool = append(c.pool, tx)
	c.waits[types.SHA256(tx)] = true
}

func blockHash(prev ledger.BlockInfo, h types.Height, app types.Hash, out ledger.Outcome) types.Hash {
	b := binary.LittleEndian.AppendUint32(nil, uint32(h))
	for _, d := range out.Results {
		b = append(b, d.ID[:]...)
	}
	return types.TaggedHash("sim/block", prev.Hash[:], app[:], b)
}

func (c *Chain) signal() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// Halt stops the making of blocks, and lets it go on. While halted every View's Head is stale.
func (c *Chain) Halt(stop bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.halted = stop
	c.signal()
}

// Height is that of the newest block, 0 before the first.
func (c *Chain) Height() types.Height {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.head.Height
}

// Verify checks every invariant of the ledger.
func (c *Chain) Verify() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state.Verify()
}

// NewAccount makes an account with an ed25519 key (seed secret) and at least amount of money, and one block to do it.
func (c *Chain) NewAccount(secret [32]byte, amount types.Amount) (types.AccountID, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.halted {
		return types.AccountID{}, errors.New("the chain is halted; no account was made")
	}
	for len(c.pool) > 0 || c.state.Height() == 0 { // so that nothing else makes an account before
		c.mine()
	}
	id := types.AccountID{Node: 1, User: uint32(c.state.Accounts(1))}
	from := types.AccountID{Node: 1}
	a, err := c.state.Account(from)
	if err != nil {
		return id, err
	}
	bodies := []ledger.Body{
		ledger.CreateAccount{Node: 1, PublicKey: ledger.PublicKey(secret), Proof: ledger.KeyProof(secret)},
		ledger.SendOne{To: id, Amount: amount},
	}
	for _, b := range bodies {
		raw, next, err := ledger.Sign(c.admin, a.Hash, ledger.Head{From: from, Msid: a.Msid, Time: c.state.Time()}, b)
		if err != nil {
			return id, err
		}
		a.Hash, a.Msid = next, a.Msid+1
		c.enqueue(raw) // unchecked: the second is good only after the first
	}
	height := c.head.Height
	c.mine()
	for _, e := range c.blocks[height].Events {
		if d, ok := e.(ledger.TxDone); ok && d.Sender == from && d.Code != ledger.CodeOK {
			return id, fmt.Errorf("new account: %s (code %d)", d.Text, d.Code)
		}
	}
	return id, nil
}
