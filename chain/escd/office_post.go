package escd

import (
	"context"
	"encoding/binary"
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
	hop := r.URL.Query().Get("hop") != "" // another office has sent this on: it goes no further
	if kind == typeRaw {
		tx, ok := body(w, r, ledger.MaxTx)
		if !ok {
			return
		}
		a, err := o.submitOne(r.Context(), tx, hop)
		if err != nil {
			failWith(w, err)
			return
		}
		answer(w, a)
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
	a, err := o.submitBatch(r.Context(), txs, hop)
	if err != nil {
		failWith(w, err)
		return
	}
	answer(w, a)
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

func (o *office) submitOne(ctx context.Context, tx []byte, hop bool) (SubmitAnswer, error) {
	a, err := o.submitBatch(ctx, [][]byte{tx}, hop)
	if err == nil && len(a.Refused) > 0 {
		err = &ledger.Refusal{Code: a.Refused[0].LedgerCode, Text: a.Refused[0].Message}
	}
	return a, err
}

// maxOnward bounds the transactions of other nodes' accounts in one batch: each is a request of its own to another office.
const maxOnward = 64

// submitBatch gives the transactions of our node's accounts to the desk, and sends a few of others on, one hop. An error says that
// nothing is known of any of them.
func (o *office) submitBatch(ctx context.Context, txs [][]byte, hop bool) (SubmitAnswer, error) {
	a := SubmitAnswer{Tried: len(txs), Refused: []Refused{}, Promises: []Promise{}}
	d := o.n.desk()
	var own [][]byte
	var index []int // of own, in the batch
	onward := 0
	for i, tx := range txs {
		node := senderNode(tx)
		if d != nil && (node == d.node || node == 0) {
			own, index = append(own, tx), append(index, i)
			continue
		}
		var refusal *ledger.Refusal
		err := o.foreign(ctx, tx, node, hop || onward == maxOnward)
		switch {
		case errors.As(err, &refusal):
			a.Refused = append(a.Refused, Refused{i, refusal.Code, refusal.Text})
		case err != nil:
			return a, err
		default:
			a.Accepted++
			onward++
		}
	}
	if len(own) == 0 {
		return a, nil
	}
	out, err := d.take(ctx, own)
	var busy *ledger.Refusal
	switch {
	case errors.As(err, &busy): // all of them
		for _, i := range index {
			a.Refused = append(a.Refused, Refused{i, busy.Code, busy.Text})
		}
		return a, nil
	case err != nil:
		return a, err
	}
	a.add(d, out, index)
	return a, nil
}

// senderNode is the node of a transaction's sender, 0 when there are too few bytes.
func senderNode(tx []byte) uint16 {
	if len(tx) < 3 {
		return 0
	}
	return binary.LittleEndian.Uint16(tx[1:])
}

// foreign sends a transaction of another node's account on.
func (o *office) foreign(ctx context.Context, tx []byte, node uint16, stay bool) error {
	if stay {
		return &ledger.Refusal{Code: ledger.CodeBadNode, Text: fmt.Sprintf("the account is of node %d, this office takes no more of it; submit to that node's office", node)}
	}
	return o.n.submit(ctx, tx, true)
}

// add says what became of the desk's transactions. Those that stand in a row in one message share a receipt.
func (a *SubmitAnswer) add(d *desk, out []admission, index []int) {
	var row []*admission
	var first int
	end := func() {
		if len(row) == 0 {
			return
		}
		p := Promise{Index: first, Count: len(row), Place: row[0].place}
		if row[0].until > 0 {
			r := d.receipt(row)
			p.Receipt = hex.EncodeToString(r.Bytes())
		}
		a.Promises, row = append(a.Promises, p), row[:0]
	}
	for k := range out {
		o := &out[k]
		if o.refuse != nil {
			a.Refused = append(a.Refused, Refused{index[k], o.refuse.Code, o.refuse.Text})
			continue
		}
		a.Accepted++
		if n := len(row); n > 0 && !follows(row[n-1], o) {
			end()
		}
		if len(row) == 0 {
			first = index[k]
		}
		row = append(row, o)
	}
	end()
}

func follows(a, b *admission) bool {
	p := a.place
	p.Position++
	return p == b.place && a.until > 0 && b.until > 0
}
