package escd

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	abci "github.com/cometbft/cometbft/abci/types"
	"github.com/cometbft/cometbft/mempool"
	"github.com/cometbft/cometbft/p2p"
	protomem "github.com/cometbft/cometbft/proto/tendermint/mempool"

	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

const (
	// officeTimeout bounds one try at another node's office.
	officeTimeout = 2 * time.Second
	// patience is for how many blocks an office without a promise is asked again before the transaction goes without it.
	patience = 4
	// maxRoutes bounds what is remembered of transactions on their way; forgetting one only makes the office be asked once more.
	maxRoutes = 4096
)

// routes remembers what other offices said of our transactions, so that one that does not keep its word, or gives none, is left out.
type routes struct {
	mu sync.Mutex
	by map[types.Hash]types.Height // up to which the office has time
}

// due gives the office time for a transaction, and tells whether that was over.
func (r *routes) due(id types.Hash, head, until types.Height) (over bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if at, known := r.by[id]; known {
		return head > at
	}
	if r.by == nil || len(r.by) >= maxRoutes {
		r.by = map[types.Hash]types.Height{}
	}
	r.by[id] = until
	return false
}

func (r *routes) promised(id types.Hash, until types.Height) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.by[id] = until
}

// Submit hands a transaction to the office of its account's node: this one, or another's. When that gives no answer, or has not kept
// what it promised, the transaction goes to the validators directly, and is executed some blocks later than it might. The error is a
// *ledger.Refusal when it is refused. The same bytes again are taken again, and change nothing.
func (n *Node) Submit(ctx context.Context, tx []byte) error { return n.submit(ctx, tx, false) }

// submit is Submit; onward says that this is for another daemon, and that the next office must not send it on once more.
func (n *Node) submit(ctx context.Context, tx []byte, onward bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if n.live.Err() != nil {
		return errStopped
	}
	if len(tx) > ledger.MaxTx {
		return &ledger.Refusal{Code: ledger.CodeLength, Text: fmt.Sprintf("transaction of %d bytes: at most %d", len(tx), ledger.MaxTx)}
	}
	decoded, err := ledger.DecodeTx(tx)
	if err != nil {
		return err
	}
	if d := n.desk(); d != nil && d.node == decoded.From.Node {
		out, err := d.take(ctx, [][]byte{tx})
		var refusal *ledger.Refusal
		switch {
		case err == nil && out[0].refuse != nil:
			return out[0].refuse
		case err == nil, errors.As(err, &refusal), errors.Is(err, errStopped), ctx.Err() != nil:
			return err
		}
		return n.direct(tx) // our own office is closed
	}
	head, _ := n.app.wait()
	if !n.routes.due(decoded.ID, head.Height, head.Height+patience) {
		if answered, err := n.elsewhere(ctx, decoded, tx, onward); answered {
			return err
		}
	}
	return n.direct(tx)
}

// elsewhere asks the office of the account's node, or one that may know the way there.
func (n *Node) elsewhere(ctx context.Context, decoded *ledger.Tx, tx []byte, onward bool) (answered bool, err error) {
	key, offices := n.officesOf(decoded.From.Node)
	for _, office := range offices {
		c, cancel := context.WithTimeout(ctx, officeTimeout)
		a, err := office.submit(c, tx, onward)
		cancel()
		if err == nil {
			if r, ok := n.promiseHolds(a, decoded, key); ok {
				n.routes.promised(decoded.ID, r.Deadline)
				n.judge.promised(r)
			}
			return true, nil // without a promise its time runs from the first try
		}
		var p *Problem
		if errors.As(err, &p) && p.LedgerCode != 0 && p.LedgerCode != ledger.CodeBadNode {
			return true, &ledger.Refusal{Code: p.LedgerCode, Text: p.Message}
		}
		if ctx.Err() != nil {
			return true, ctx.Err()
		}
	}
	return false, nil
}

// promiseHolds returns a valid receipt for the transaction.
func (n *Node) promiseHolds(a SubmitAnswer, tx *ledger.Tx, key types.Hash) (r ledger.Receipt, ok bool) {
	if len(a.Promises) != 1 {
		return r, false
	}
	raw, err := hex.DecodeString(a.Promises[0].Receipt)
	if err != nil {
		return r, false
	}
	r, err = ledger.ParseReceipt(raw)
	if err != nil || r.Node != tx.From.Node || !r.Covers([]types.Hash{tx.ID}) || !r.Verify(key, n.app.params.Genesis) {
		return r, false
	}
	return r, true
}

// officesOf are the offices to ask for a node's accounts, the node's own first, and the node's key.
func (n *Node) officesOf(node uint16) (key types.Hash, out []*Client) {
	n.app.mu.RLock()
	record, err := n.app.state.Node(node)
	n.app.mu.RUnlock()
	if err == nil {
		key = record.PublicKey
		if record.Port != 0 && record.IPv4 != 0 {
			out = append(out, n.clients.of(officeAddress(record)))
		}
	}
	for _, p := range n.peers.offices() {
		out = append(out, p.office)
	}
	return key, out
}

// officeAddress is where a node said that its office listens.
func officeAddress(r ledger.Node) string {
	ip := net.IPv4(byte(r.IPv4), byte(r.IPv4>>8), byte(r.IPv4>>16), byte(r.IPv4>>24)) // as the original has it
	return net.JoinHostPort(ip.String(), strconv.Itoa(int(r.Port)))
}

// clients keeps connections to offices that nodes have announced.
type clients struct {
	mu sync.Mutex
	by map[string]*Client
}

// maxClients bounds idle clients: those of the nodes that our users' accounts are on.
const maxClients = 64

func (c *clients) of(addr string) *Client {
	c.mu.Lock()
	defer c.mu.Unlock()
	if known := c.by[addr]; known != nil {
		return known
	}
	if c.by == nil || len(c.by) >= maxClients {
		c.closeAll()
		c.by = map[string]*Client{}
	}
	c.by[addr] = NewClient(addr)
	return c.by[addr]
}

func (c *clients) closeAll() {
	for _, client := range c.by {
		client.Close()
	}
}

func (c *clients) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closeAll()
}

// direct puts a transaction into the mempool, from where it goes to the validators.
func (n *Node) direct(tx []byte) error {
	refusal, err := n.intoMempool(ledger.Direct(tx))
	if err != nil {
		return err
	}
	if refusal != nil {
		return refusal
	}
	return nil
}

// intoMempool puts a transaction of a block into the mempool. The same bytes again are sent to the peers again: one of them may have
// lost them.
func (n *Node) intoMempool(raw []byte) (*ledger.Refusal, error) {
	done, err := n.use()
	if err != nil {
		return nil, err
	}
	defer done()
	var res *abci.ResponseCheckTx
	err = n.comet.Mempool().CheckTx(raw, func(r *abci.ResponseCheckTx) { res = r }, mempool.TxInfo{})
	switch {
	case errors.Is(err, mempool.ErrTxInCache):
		n.comet.Switch().Broadcast(p2p.Envelope{ChannelID: mempool.MempoolChannel, Message: &protomem.Txs{Txs: [][]byte{raw}}})
		return nil, nil
	case errors.As(err, &mempool.ErrMempoolIsFull{}), errors.Is(err, mempool.ErrRecheckFull):
		return &ledger.Refusal{Code: ledger.CodeBusy, Text: "too many transactions wait for a block; submit it again after the next block"}, nil
	case err != nil:
		return nil, err
	case res == nil: // the application in this process answers before CheckTx returns
		return nil, errors.New("the ledger node gave no answer; submit the transaction again")
	case res.Code != ledger.CodeOK:
		return &ledger.Refusal{Code: res.Code, Text: res.Log}, nil
	}
	return nil, nil
}

// desk is this node's own, nil while there is none.
func (n *Node) desk() *desk {
	n.app.mu.RLock()
	defer n.app.mu.RUnlock()
	return n.app.desk
}

// placeOf finds a transaction that a block has.
func (n *Node) placeOf(id types.Hash) (ledger.Place, bool) {
	done, err := n.app.journal.done(id)
	return done.Place, err == nil && done.Code == ledger.CodeOK
}
