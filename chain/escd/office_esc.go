package escd

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/eschaton-network/chand/esc"
	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

// The office's part for the client of the original chain (package esc, docs/esc.md). Everything that is read is public.

// outcomeTimeout bounds the wait for a transaction's block.
const outcomeTimeout = 60 * time.Second

func (o *office) escRoutes(mux *http.ServeMux) {
	for path, h := range map[string]http.HandlerFunc{
		"GET /v1/esc/accounts/{address}":     o.escAccount,
		"GET /v1/esc/accounts":               o.escAccounts,
		"POST /v1/esc/transactions":          o.escSubmit,
		"GET /v1/esc/outcomes/{id}":          o.escOutcome,
		"GET /v1/esc/log/{address}":          o.escLog,
		"GET /v1/esc/block":                  atHeight(o, (*Node).escBlock),
		"GET /v1/esc/signatures":             atHeight(o, (*Node).escSignatures),
		"GET /v1/esc/messages":               atHeight(o, (*Node).escMessages),
		"GET /v1/esc/broadcasts":             atHeight(o, (*Node).escBroadcasts),
		"GET /v1/esc/messages/{node}/{msid}": o.escMessage,
		"GET /v1/esc/transactions/{place}":   o.escTransaction,
		"GET /v1/esc/validators/{hash}":      o.escValidators,
	} {
		mux.HandleFunc(path, o.limited(h))
	}
}

// reply answers with a view or its error.
func reply(w http.ResponseWriter, v any, err error) {
	if err != nil {
		failWith(w, err)
		return
	}
	answer(w, v)
}

// atHeight answers a question about one block: the one of the parameter height, or the newest.
func atHeight[V any](o *office, view func(*Node, types.Height) (V, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		head, _ := o.n.app.wait()
		h := head.Height
		if s := r.FormValue("height"); s != "" {
			var ok bool
			if h, ok = heightParam(w, "height", s); !ok {
				return
			}
		}
		v, err := view(o.n, h)
		reply(w, v, err)
	}
}

// clock is the newest block for those who ask.
func (n *Node) clock(head ledger.BlockInfo) esc.Clock {
	return esc.Clock{Height: head.Height, Time: head.Time, BlockMillis: n.genesis.BlockMillis}
}

// escAccount answers get_me and get_account. A request of the original, where there is one, must be signed by its sender.
func (o *office) escAccount(w http.ResponseWriter, r *http.Request) {
	id, err := types.ParseAccountID(r.PathValue("address"))
	if err != nil {
		bad(w, "%v", err)
		return
	}
	if request := r.FormValue("request"); request != "" {
		b, err := hex.DecodeString(request)
		if err != nil {
			bad(w, "request: want hex")
			return
		}
		if err := o.n.checkRequest(b, id); err != nil {
			failWith(w, err)
			return
		}
	}
	v, err := o.n.escAccount(id)
	reply(w, v, err)
}

// checkRequest wants the sender's signature, by its key as of now.
func (n *Node) checkRequest(b []byte, target types.AccountID) error {
	g, _, err := ledger.DecodeGetMe(b, [32]byte{})
	if err != nil {
		return &ledger.Refusal{Code: ledger.CodeLength, Text: err.Error()}
	}
	_, ahead, _, err := n.aheadOf(g.From)
	if errors.Is(err, ledger.ErrNotFound) {
		return &ledger.Refusal{Code: ledger.CodeBadUser, Text: fmt.Sprintf("the sender %s does not exist", g.From)}
	} else if err != nil {
		return err
	}
	if _, valid, _ := ledger.DecodeGetMe(b, ahead.PublicKey); !valid || g.Target != target {
		return &ledger.Refusal{Code: ledger.CodeSignature, Text: fmt.Sprintf("the request is not signed with the key of %s; is the secret the account's present one?", g.From)}
	}
	return nil
}

// aheadOf is an account as of the newest block, and with everything executed that waits here for a block.
func (n *Node) aheadOf(id types.AccountID) (network, office ledger.Record, head ledger.BlockInfo, err error) {
	a := n.app
	a.mu.RLock()
	defer a.mu.RUnlock()
	head = a.head
	if network, err = a.state.Record(id); err != nil {
		return network, office, head, fmt.Errorf("account %s: %w", id, err)
	}
	ahead, err := a.state.Pending(id)
	if d := a.desk; d != nil && d.node == id.Node && err == nil {
		ahead, err = d.pool.Account(id)
	}
	office = network
	if ahead.Msid != network.Msid {
		office.Msid, office.Hash, office.PublicKey, office.Balance = ahead.Msid, ahead.Hash, ahead.PublicKey, ahead.Balance
		office.LocalChange = uint32(head.Time)
	}
	return network, office, head, err
}

func (n *Node) escAccount(id types.AccountID) (v esc.AccountView, err error) {
	network, office, head, err := n.aheadOf(id)
	if err != nil {
		return v, err
	}
	rn, ro := network.Marshal(id), office.Marshal(id)
	return esc.AccountView{Clock: n.clock(head), Account: ro[:], Network: rn[:]}, nil
}

// maxEscAccounts bounds the accounts of one answer: about a megabyte.
const maxEscAccounts = 4096

func (o *office) escAccounts(w http.ResponseWriter, r *http.Request) {
	node, err := strconv.ParseUint(r.FormValue("node"), 10, 16)
	if err != nil {
		bad(w, "node %.20q: want a node's number", r.FormValue("node"))
		return
	}
	from, err := strconv.ParseUint(r.FormValue("from"), 10, 32)
	if err != nil && r.FormValue("from") != "" {
		bad(w, "from %.20q: want an account's number", r.FormValue("from"))
		return
	}
	a := o.n.app
	a.mu.RLock()
	v := esc.AccountsView{Clock: o.n.clock(a.head), Node: uint16(node), First: uint32(from), Records: []esc.Bytes{}}
	count := uint64(a.state.Accounts(uint16(node)))
	for user := from; user < count && len(v.Records) < maxEscAccounts; user++ {
		id := types.AccountID{Node: uint16(node), User: uint32(user)}
		rec, err := a.state.Record(id)
		if err != nil {
			break
		}
		b := rec.Marshal(id)
		v.Records = append(v.Records, b[:])
	}
	a.mu.RUnlock()
	if count == 0 {
		failWith(w, fmt.Errorf("node %d: %w", node, ledger.ErrNotFound))
		return
	}
	v.More = from+uint64(len(v.Records)) < count
	answer(w, v)
}

// escSubmit takes a transaction and answers with its place and the account after it.
func (o *office) escSubmit(w http.ResponseWriter, r *http.Request) {
	if _, ok := wantType(w, r, typeRaw); !ok {
		return
	}
	raw, ok := body(w, r, ledger.MaxTx)
	if !ok {
		return
	}
	tx, err := ledger.DecodeTx(raw)
	if err != nil {
		failWith(w, err)
		return
	}
	a, err := o.submitOne(r.Context(), raw, false)
	if err != nil {
		failWith(w, err)
		return
	}
	var v esc.SubmitView
	if len(a.Promises) > 0 {
		v.Place = &a.Promises[0].Place
	}
	v.AccountView, err = o.n.escAccount(tx.From)
	reply(w, v, err)
}

// escOutcome says what became of a transaction; with wait=1 when it is in a block, with created=1 also which account it made.
func (o *office) escOutcome(w http.ResponseWriter, r *http.Request) {
	id, err := types.ParseHash(r.PathValue("id"))
	if err != nil {
		bad(w, "transaction: %v", err)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), outcomeTimeout)
	defer cancel()
	for {
		_, next, stopped := o.n.app.waitOrStopped()
		v, err := o.n.escOutcome(id, r.FormValue("created") == "1")
		if err != nil || v.Height > 0 || r.FormValue("wait") != "1" || stopped {
			reply(w, v, err)
			return
		}
		select {
		case <-next:
		case <-ctx.Done():
			answer(w, v)
			return
		}
	}
}

// escOutcome has height 0 for a transaction that no block has.
func (n *Node) escOutcome(id types.Hash, created bool) (v esc.OutcomeView, err error) {
	h, place, err := n.app.journal.tx(id)
	if errors.Is(err, ledger.ErrNotFound) {
		return v, nil
	} else if err != nil {
		return v, err
	}
	done, err := n.app.journal.done(id)
	if err != nil {
		return v, err
	}
	v.Height, v.Place, v.Code, v.Text = h, &place, done.Code, done.Text
	if created && done.Code == ledger.CodeOK {
		v.Created, err = n.created(h, place)
	}
	return v, err
}

// created is the account that a transaction of a block has made; nil for one on another node, which makes it later.
func (n *Node) created(h types.Height, place ledger.Place) (*types.AccountID, error) {
	r, err := n.app.journal.block(h)
	if err != nil {
		return nil, err
	}
	var last *types.AccountID
	for _, e := range r.events { // a transaction's effects stand before its TxDone
		switch e := e.(type) {
		case ledger.AccountCreated:
			last = &e.ID
		case ledger.TxDone:
			if e.Place == place {
				return last, nil
			}
			last = nil
		}
	}
	return nil, nil
}
