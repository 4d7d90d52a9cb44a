package escd

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"

	"github.com/eschaton-network/chand/ledger"
)

func (o *office) postAccount(w http.ResponseWriter, r *http.Request) {
	if _, ok := wantType(w, r, typeJSON); !ok {
		return
	}
	b, ok := body(w, r, maxSmallBody)
	if !ok {
		return
	}
	var req AccountRequest
	if err := strict(b, &req); err != nil {
		bad(w, "account request: %v", err)
		return
	}
	proof, err := hex.DecodeString(req.Confirm)
	if err != nil || len(proof) != 64 || !checkProof(req.PublicKey, [64]byte(proof)) {
		bad(w, "confirm: want 128 hex digits, the signature of the empty message with the secret of public_key")
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), accountTimeout)
	defer cancel()
	id, err := o.open.open(ctx, req.PublicKey, [64]byte(proof), o.mayOpen)
	var p *Problem
	switch {
	case errors.As(err, &p) && p.Code == "busy":
		fail(w, http.StatusTooManyRequests, *p)
	case errors.As(err, &p):
		fail(w, http.StatusForbidden, *p)
	case err != nil:
		failWith(w, err)
	default:
		answer(w, AccountAnswer{id})
	}
}

// mayOpen is asked before an account is created. The refusals are Problems.
func (o *office) mayOpen() error {
	switch {
	case o.open.node == 0:
		return &Problem{Code: "no_admin", Message: "this node has no admin account and cannot create accounts", Next: "ask the office of a validator"}
	case !o.n.cfg.OpenAccounts.Enabled:
		return &Problem{Code: "off", Message: "this office does not open accounts", Next: "ask somebody with an account to create one for your key"}
	}
	o.n.app.mu.RLock()
	accounts := o.n.app.state.Accounts(o.open.node)
	o.n.app.mu.RUnlock()
	if accounts >= o.n.cfg.OpenAccounts.Total {
		return &Problem{Code: "full", Message: fmt.Sprintf("this node has %d accounts, the most that its office opens", accounts), Next: "ask somebody with an account to create one for your key"}
	}
	if !o.opened.Allow() {
		return &Problem{Code: "busy", Message: fmt.Sprintf("more than %d accounts a second are asked for", o.n.cfg.OpenAccounts.PerSecond), Next: "ask again in a second"}
	}
	return nil
}

func (o *office) postTransactions(w http.ResponseWriter, r *http.Request) {
	kind, ok := wantType(w, r, typeRaw, typeBatch)
	if !ok {
		return
	}
	if kind == typeRaw {
		tx, ok := body(w, r, ledger.MaxTx)
		if !ok {
			return
		}
		if err := o.n.Submit(r.Context(), tx); err != nil {
			failWith(w, err)
			return
		}
		answer(w, SubmitAnswer{Accepted: 1, Refused: []Refused{}, Tried: 1})
		return
	}
	b, ok := body(w, r, MaxBatch)
	if !ok {
		return
	}
	txs, err := splitBatch(b)
	if err != nil {
		bad(w, "%v", err)
		return
	}
	o.submitBatch(r.Context(), w, txs)
}

// splitBatch cuts a batch into transactions, each behind its length in four bytes, big-endian. They share b.
func splitBatch(b []byte) ([][]byte, error) {
	var txs [][]byte
	for d := (reader{b: b}); len(d.b) > 0; {
		tx := d.take(d.count(1))
		if d.bad || len(tx) == 0 || len(tx) > ledger.MaxTx || len(txs) == MaxBatchTxs {
			return nil, fmt.Errorf("batch: transaction %d is empty, cut off or longer than %d bytes, or there are more than %d", len(txs), ledger.MaxTx, MaxBatchTxs)
		}
		txs = append(txs, tx)
	}
	return txs, nil
}

func (o *office) submitBatch(ctx context.Context, w http.ResponseWriter, txs [][]byte) {
	out := SubmitAnswer{Refused: []Refused{}}
	for i, tx := range txs {
		err := o.n.Submit(ctx, tx)
		out.Tried++
		if err == nil {
			out.Accepted++
			continue
		}
		var refusal *ledger.Refusal
		if !errors.As(err, &refusal) {
			failWith(w, err)
			return
		}
		out.Refused = append(out.Refused, Refused{i, refusal.Code, refusal.Text})
		if refusal.Code == ledger.CodeBusy || len(out.Refused) == maxRefused {
			break
		}
	}
	answer(w, out)
}
