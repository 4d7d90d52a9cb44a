package escd

import (
	"context"
	"errors"
	"fmt"

	abci "github.com/cometbft/cometbft/abci/types"

	"github.com/eschaton-network/chand/ledger"
)

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
	a.mu.RLock()
	defer a.mu.RUnlock()
	return &abci.ResponsePrepareProposal{Txs: a.state.OrderMessages(txs, req.MaxTxBytes)}, nil
}

// ProcessProposal refuses a block that no honest proposer makes.
func (a *app) ProcessProposal(_ context.Context, req *abci.RequestProcessProposal) (*abci.ResponseProcessProposal, error) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	if a.state.CheckProposal(req.Txs) != nil {
		return &abci.ResponseProcessProposal{Status: abci.ResponseProcessProposal_REJECT}, nil
	}
	return &abci.ResponseProcessProposal{Status: abci.ResponseProcessProposal_ACCEPT}, nil
}
