package escd

import (
	"context"
	"errors"
	"fmt"
	"slices"

	abci "github.com/cometbft/cometbft/abci/types"
	cmt "github.com/cometbft/cometbft/types"

	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

// directShare is the part of a block, one in so many, that messages leave to direct transactions and evidence: these are the way around
// nodes that want to keep somebody out.
const directShare = 8

// checkMessage takes another node's message into the mempool. Most of the work is done without the lock, on all cores.
func (a *app) checkMessage(req *abci.RequestCheckTx) (*abci.ResponseCheckTx, error) {
	if req.Type == abci.CheckTxType_Recheck {
		return checked(a.recheckMessage(req.Tx))
	}
	a.mu.RLock()
	known := a.state.KnowsMessage(req.Tx)
	a.mu.RUnlock()
	if known {
		return checked(nil)
	}
	m, err := ledger.DecodeMessage(req.Tx, parallel)
	if err != nil {
		return checked(err)
	}
	a.mu.Lock()
	err = a.state.PrepareMessage(m)
	a.mu.Unlock()
	if err != nil {
		a.suspectIf(err, req.Tx)
		return checked(err)
	}
	m.Verify(parallel)
	a.mu.Lock()
	defer a.mu.Unlock()
	return checked(a.state.KeepMessage(m))
}

// suspectIf remembers a message that was refused because of its number.
func (a *app) suspectIf(err error, raw []byte) {
	var r *ledger.Refusal
	if errors.As(err, &r) && r.Code == ledger.CodeMsid {
		a.judge.suspect(raw)
	}
}

// recheckMessage lets a message stay in the mempool until its number is taken.
func (a *app) recheckMessage(raw []byte) error {
	node, msid, _ := ledger.MessageHead(raw)
	a.mu.RLock()
	defer a.mu.RUnlock()
	n, err := a.state.Node(node)
	if err != nil || msid <= n.Msid || n.Status&ledger.NodeDoubleSpend != 0 {
		if err == nil && n.Status&ledger.NodeDoubleSpend == 0 {
			a.judge.suspect(raw) // CometBFT has removed what was executed: this is another message with that number
		}
		return &ledger.Refusal{Code: ledger.CodeMsid, Text: fmt.Sprintf("message %d of node %d has no use any more", msid, node)}
	}
	return nil
}

// PrepareProposal makes a block of our office's messages and of what is in the mempool.
func (a *app) PrepareProposal(_ context.Context, req *abci.RequestPrepareProposal) (*abci.ResponsePrepareProposal, error) {
	a.mu.RLock()
	d := a.desk
	a.mu.RUnlock()
	txs := req.Txs
	if d != nil {
		txs = append(d.proposal(), txs...) // what is there twice is taken once
	}
	return &abci.ResponsePrepareProposal{Txs: a.arrange(txs, req.MaxTxBytes)}, nil
}

// arrange orders the transactions of a block: the messages of each node in the order of their numbers, one node after the other by
// turns, without those that cannot be executed, then all the rest. What has no room is left for the next block.
func (a *app) arrange(txs [][]byte, room int64) [][]byte {
	type node struct {
		next uint32
		has  map[uint32][]byte
	}
	nodes := map[uint16]*node{}
	var turns []uint16
	var rest [][]byte
	var out [][]byte
	take := func(tx []byte, room int64) (left int64, ok bool) {
		size := cmt.ComputeProtoSizeForTxs([]cmt.Tx{tx})
		if size > room {
			return room, false
		}
		out = append(out, tx)
		return room - size, true
	}
	seen := map[types.Hash]bool{}
	a.mu.RLock()
	for _, tx := range txs {
		id, msid, ok := ledger.MessageHead(tx)
		if !ok {
			if h := types.SHA256(tx); !seen[h] {
				seen[h], rest = true, append(rest, tx)
			}
			continue
		}
		n := nodes[id]
		if n == nil {
			state, err := a.state.Node(id)
			if err != nil {
				continue
			}
			n = &node{state.Msid + 1, map[uint32][]byte{}}
			nodes[id], turns = n, append(turns, id)
		}
		if n.has[msid] == nil {
			n.has[msid] = tx
		}
	}
	a.mu.RUnlock()
	kept := int64(0) // for the rest
	for _, tx := range rest {
		kept = min(kept+cmt.ComputeProtoSizeForTxs([]cmt.Tx{tx}), room/directShare)
	}
	room -= kept
	for len(turns) > 0 {
		turns = slices.DeleteFunc(turns, func(id uint16) bool {
			n := nodes[id]
			tx, ok := n.has[n.next], false
			if tx != nil {
				room, ok = take(tx, room)
				n.next++
			}
			return !ok
		})
	}
	room += kept
	for _, tx := range rest {
		room, _ = take(tx, room)
	}
	return out
}

// ProcessProposal refuses a block that no honest proposer makes: transactions of no kind, or a node's messages out of order.
func (a *app) ProcessProposal(_ context.Context, req *abci.RequestProcessProposal) (*abci.ResponseProcessProposal, error) {
	status := abci.ResponseProcessProposal_ACCEPT
	if !a.plausible(req.Txs) {
		status = abci.ResponseProcessProposal_REJECT
	}
	return &abci.ResponseProcessProposal{Status: status}, nil
}

func (a *app) plausible(txs [][]byte) bool {
	a.mu.RLock()
	defer a.mu.RUnlock()
	next := map[uint16]uint32{}
	for _, tx := range txs {
		_, direct := ledger.ParseDirect(tx)
		if direct || ledger.IsEvidence(tx) {
			continue
		}
		id, msid, ok := ledger.MessageHead(tx)
		if !ok {
			return false
		}
		if next[id] == 0 {
			n, err := a.state.Node(id)
			if err != nil {
				return false
			}
			next[id] = n.Msid + 1
		}
		if msid != next[id] {
			return false
		}
		next[id]++
	}
	return true
}
