package escd

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

// The calls that ccoin documents, with its fields, under /cc/ACCOUNT/ where it has /ADDRESS/. docs/esc.md says what stands for what.

// ccoinTx is ccoin's transaction.
type ccoinTx struct {
	ID string `json:"id"`
	// Number is the sender's number of it (nonce, msid).
	Number uint32          `json:"number"`
	From   types.AccountID `json:"from"`
	// To is nil for transactions that pay nobody, or several.
	To *types.AccountID `json:"to"`
	// Amount is in units.
	Amount int64  `json:"amount"`
	Data   string `json:"data"`
	Time   int64  `json:"time"`
	// Signature is base64.
	Signature string `json:"signature"`
}

// ccoinBlock is ccoin's block. There is no proof of work and no reward, so nonce, difficulty and reward are 0.
type ccoinBlock struct {
	Number     types.Height `json:"number"`
	ID         types.Hash   `json:"id"`
	HashParent types.Hash   `json:"hash_parent"`
	HashState  types.Hash   `json:"hash_state"`
	HashTxns   types.Hash   `json:"hash_txns"`
	Body       []ccoinTx    `json:"body"`
	Coinbase   string       `json:"coinbase"`
	Data       string       `json:"data"`
	Nonce      int          `json:"nonce"`
	Difficulty int          `json:"difficulty"`
	Reward     int          `json:"reward"`
	Time       float64      `json:"time"`
	// State has the accounts that the block's transactions name, as they are now.
	State map[string]ccoinAccount `json:"state"`
}

type ccoinAccount struct {
	Address types.AccountID `json:"address"`
	Nonce   uint32          `json:"nonce"`
	Balance int64           `json:"balance"`
}

func (o *office) ccoinRoutes(mux *http.ServeMux) {
	for path, h := range map[string]func(http.ResponseWriter, *http.Request, types.AccountID){
		"GET /cc/{account}/{$}":           o.ccoinPeers,
		"GET /cc/{account}/blk/cnt":       o.ccoinCount,
		"GET /cc/{account}/blk/cnt/{$}":   o.ccoinCount,
		"GET /cc/{account}/blk/{n}":       o.ccoinBlock,
		"GET /cc/{account}/blk/{n}/{$}":   o.ccoinBlock,
		"POST /cc/{account}/txn/{id}":     o.ccoinTransaction,
		"POST /cc/{account}/txn/{id}/{$}": o.ccoinTransaction,
		"POST /cc/{account}/txn/{$}":      o.ccoinSend,
	} {
		mux.HandleFunc(path, o.limited(func(w http.ResponseWriter, r *http.Request) {
			id, err := types.ParseAccountID(r.PathValue("account"))
			if err != nil {
				bad(w, "%v", err)
				return
			}
			if _, err := o.n.Account(id); err != nil {
				failWith(w, fmt.Errorf("account %s: %w", id, err))
				return
			}
			h(w, r, id)
		}))
	}
}

func (o *office) ccoinPeers(w http.ResponseWriter, _ *http.Request, _ types.AccountID) {
	done, err := o.n.use()
	if err != nil {
		failWith(w, err)
		return
	}
	defer done()
	peers := []string{}
	for _, p := range o.n.comet.Switch().Peers().List() {
		peers = append(peers, string(p.ID())+"@"+p.RemoteAddr().String())
	}
	answer(w, map[string][]string{"peers": peers})
}

func (o *office) ccoinCount(w http.ResponseWriter, _ *http.Request, _ types.AccountID) {
	head, _ := o.n.app.wait()
	answer(w, head.Height)
}

func (o *office) ccoinBlock(w http.ResponseWriter, r *http.Request, _ types.AccountID) {
	h, ok := heightParam(w, "block", r.PathValue("n"))
	if !ok {
		return
	}
	b, err := o.n.ccoinBlock(h)
	reply(w, b, err)
}

func (n *Node) ccoinBlock(h types.Height) (b ccoinBlock, err error) {
	s, err := n.storedBlock(h)
	if err != nil {
		return b, err
	}
	b = ccoinBlock{Number: h, ID: s.Hash, HashState: s.parts.Root(), HashTxns: s.parts.Transactions(), Body: []ccoinTx{},
		Time: float64(s.nanos) / 1e9, State: map[string]ccoinAccount{}}
	copy(b.HashParent[:], s.block.LastBlockID.Hash)
	all := s.transactions()
	for _, e := range s.events {
		done, ok := e.(ledger.TxDone)
		if !ok || done.Code != ledger.CodeOK || all[done.Place] == nil || !ofAccount(&done) {
			continue // ccoin has nothing like the nodes' own records
		}
		tx, err := ledger.DecodeTx(all[done.Place])
		if err != nil {
			return b, err
		}
		b.Body = append(b.Body, ccoinOf(tx))
	}
	vals, err := n.validatorsAt(h)
	if err != nil {
		return b, err
	}
	n.app.mu.RLock()
	defer n.app.mu.RUnlock()
	if _, v := vals.GetByAddress(s.block.ProposerAddress); v != nil {
		if node := nodeWithKey(n.app.state, types.Hash(v.PubKey.Bytes())); node != 0 {
			b.Coinbase = types.AccountID{Node: node}.String()
		}
	}
	for _, tx := range b.Body {
		for _, id := range []*types.AccountID{&tx.From, tx.To} {
			if id == nil {
				continue
			}
			if a, err := n.app.state.Account(*id); err == nil {
				b.State[id.String()] = ccoinAccount{*id, a.Msid - 1, int64(a.Balance)}
			}
		}
	}
	return b, nil
}

func ccoinOf(tx *ledger.Tx) ccoinTx {
	out := ccoinTx{ID: tx.ID.String(), Number: tx.Msid, From: tx.From, Time: int64(tx.Time), Amount: int64(ledger.Cost(tx.From, tx.Body)),
		Signature: base64.StdEncoding.EncodeToString(tx.Signature[:])}
	switch b := tx.Body.(type) {
	case ledger.SendOne:
		out.To, out.Data = &b.To, ccoinText(b.Message[:])
	case ledger.Broadcast:
		out.Data = ccoinText(b.Data)
	}
	return out
}

// ccoinText is data as text where it is text, padded with zeros or not, and else hex.
func ccoinText(b []byte) string {
	s := strings.TrimRight(string(b), "\x00")
	if utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0 {
		return s
	}
	return hex.EncodeToString(b)
}

// ccoinTransaction finds a transaction by its id; ccoin wants the number of its block beside it.
func (o *office) ccoinTransaction(w http.ResponseWriter, r *http.Request, _ types.AccountID) {
	id, err := types.ParseHash(r.PathValue("id"))
	if err != nil {
		bad(w, "transaction: %v", err)
		return
	}
	b, ok := body(w, r, maxSmallBody)
	if !ok {
		return
	}
	var req struct {
		BlockNumber *types.Height `json:"block_number"`
	}
	if err := strict(b, &req); err != nil || req.BlockNumber == nil {
		bad(w, `want {"block_number": N}`)
		return
	}
	tx, h, err := o.n.ccoinTx(id)
	if err == nil && h != *req.BlockNumber {
		err = fmt.Errorf("transaction %s is in block %d, not in %d: %w", id, h, *req.BlockNumber, ledger.ErrNotFound)
	}
	reply(w, tx, err)
}

func (n *Node) ccoinTx(id types.Hash) (tx ccoinTx, h types.Height, err error) {
	h, place, err := n.FindTx(id)
	if err != nil {
		return tx, h, err
	}
	v, err := n.escTransaction(place)
	if err != nil {
		return tx, h, err
	}
	decoded, err := ledger.DecodeTx(v.Raw)
	if err != nil {
		return tx, h, err
	}
	return ccoinOf(decoded), h, nil
}

// ErrNotSent is wrapped by errors of a Wallet that has sent nothing.
var ErrNotSent = errors.New("nothing was sent")

// Wallet pays from the daemon's account for whoever shows that he may.
type Wallet interface {
	// Allow refuses a caller without the right to send, by the request's header.
	Allow(h http.Header) error
	// Send pays and returns the transaction's id once it is in a block.
	Send(ctx context.Context, to types.AccountID, amount types.Amount, message types.Hash) (types.Hash, error)
}

// ccoinSend pays from the daemon's account. ccoin let everybody do that who reached the port; here the caller shows a macaroon.
func (o *office) ccoinSend(w http.ResponseWriter, r *http.Request, from types.AccountID) {
	wallet := o.n.cfg.Wallet
	if wallet == nil || from != o.n.OwnAccount() {
		fail(w, http.StatusForbidden, Problem{Code: "not_ours", Message: fmt.Sprintf("this daemon does not hold the key of %s", from), Next: "nothing was done; sign the transaction yourself and POST it to /v1/transactions"})
		return
	}
	if err := wallet.Allow(r.Header); err != nil {
		fail(w, http.StatusUnauthorized, Problem{Code: "unauthorized", Message: err.Error(), Next: "nothing was done; send a macaroon of this daemon that covers Account/Send as Authorization: Bearer HEX"})
		return
	}
	b, ok := body(w, r, maxSmallBody)
	if !ok {
		return
	}
	var req struct {
		To     *types.AccountID `json:"sendto_address"`
		Amount int64            `json:"amount"`
		Data   string           `json:"data"`
	}
	var message types.Hash
	if err := strict(b, &req); err != nil || req.To == nil || req.Amount <= 0 || len(req.Data) > len(message) {
		bad(w, "%v", errors.Join(errors.New(`want {"sendto_address": ACCOUNT, "amount": UNITS above 0, "data": at most 32 bytes of text}`), err))
		return
	}
	copy(message[:], req.Data)
	id, err := wallet.Send(r.Context(), *req.To, types.Amount(req.Amount), message)
	var refusal *ledger.Refusal
	switch {
	case errors.As(err, &refusal):
		failWith(w, err)
		return
	case errors.Is(err, ErrNotSent):
		fail(w, http.StatusServiceUnavailable, Problem{Code: "not_sent", Message: err.Error(), Next: "no money moved; try again later"})
		return
	case err != nil: // the same request again would pay again
		fail(w, http.StatusInternalServerError, Problem{Code: "unknown_outcome", Message: err.Error(), Next: "the payment may be made: look at the account's log (GET /v1/esc/log/ACCOUNT) before sending again"})
		return
	}
	tx, _, err := o.n.ccoinTx(id)
	reply(w, tx, err)
}
