package chand

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

const (
	// maxTxQueue bounds commands that wait for the accountant: more are answered "busy".
	maxTxQueue = 4096
	// maxTxBatch is how many transactions share one commit.
	maxTxBatch = 256
	// maxTxPending bounds transactions that are signed ahead of the chain; the ledger's mempool holds more than that of one sender.
	maxTxPending = 1024
	// resubmitAfter is how many blocks an unseen transaction waits before it is submitted again.
	resubmitAfter = 2
	// submitTimeout bounds one hand-over to the ledger node.
	submitTimeout = 10 * time.Second
	// maxKey bounds an idempotency key.
	maxKey = 128
	// closeReserve stays in the account for each contract that is not over: without a fee no cheater is answered. It pays for a
	// refund with a hundred locks.
	closeReserve = types.Coin / 100
)

// accountant is the one goroutine that uses the ledger account: it knows the number and the hash of the next transaction,
// signs ahead of the chain without waiting, and saves every transaction before it is submitted.
//
// Never twice: a transaction is signed again only when the chain, read at exactly the height up to which every block was
// processed here, shows that its place in the account's hash chain was taken by something else. Its old bytes can then never
// be executed, as their signature covers the hash before.
type accountant struct {
	store  Store
	chain  Chain
	log    *slog.Logger
	now    func() types.Time
	emit   func(kind, text string, item any)
	secret [32]byte
	public [32]byte
	live   func() int // contracts that are not over

	box    *mailbox[txRequest]
	over   chan struct{} // closed when run has ended
	blocks chan ledger.BlockEvents
	seen   atomic.Uint32 // height up to which blocks are processed; written by run
	gap    atomic.Uint32 // the block with this height stands for some that were missed
	known  chan struct{} // closed by run once the account exists
	id     atomic.Pointer[types.AccountID]
	// outgoing is what pending transactions move, without fees; written by run.
	outgoing atomic.Int64

	pending []*pendingTx          // owned by run; in the order of msid
	byKey   map[string]*pendingTx // owned by run
	waiting []txRequest           // owned by run; until there is an account, or room
	nextSeq uint64                // owned by run
	resumed bool                  // the store held pending transactions: blocks that this daemon has not seen may hold them
	done    []*pendingTx          // owned by run; finished, to be answered after the commit
}

// txRequest asks for one transaction. done gets exactly one result and must have room for it; nil when nobody waits.
type txRequest struct {
	key  string // "" : none
	kind string
	body ledger.Body
	// keep keeps the record under the key when it is done, so that the key never acts twice. Chain actions do without: they
	// are repeated as long as the chain shows that they are needed.
	keep bool
	done chan<- txResult
}

type txResult struct {
	tx  LedgerTx
	err error
}

type pendingTx struct {
	txRecord
	seq       uint64
	body      ledger.Body
	cost      types.Amount
	submitted types.Height // height at which it was last submitted
	waiters   []chan<- txResult
}

func newAccountant(d *Daemon) (*accountant, error) {
	a := &accountant{
		store: d.Store, chain: d.Chain, log: d.Log.With("owner", "account"), now: d.now, emit: d.emit,
		secret: d.cfg.AccountSecret, box: newMailbox[txRequest](maxTxQueue), over: make(chan struct{}), blocks: make(chan ledger.BlockEvents, blockQueue),
		byKey: make(map[string]*pendingTx), known: make(chan struct{}), nextSeq: 1,
	}
	a.public = ledger.PublicKey(a.secret)
	a.live = d.liveContracts
	id := d.cfg.Account
	if saved, ok, err := load[types.AccountID](a.store, bucketMeta, metaAccount); err != nil {
		return nil, err
	} else if ok && id.IsZero() {
		id = saved
	}
	if !id.IsZero() {
		a.id.Store(&id)
		close(a.known)
	}
	err := loadAll(a.store, bucketTx, "", func(key string, r txRecord) error {
		var seq uint64
		if _, err := fmt.Sscanf(key, "%016x", &seq); err != nil || len(r.IDs) == 0 {
			return fmt.Errorf("tx/%s: not a transaction record", key)
		}
		a.nextSeq = max(a.nextSeq, seq+1)
		if r.State != TxPending {
			return nil
		}
		tx, err := ledger.DecodeTx(r.Raw)
		if err != nil {
			return fmt.Errorf("tx/%s: %w", key, err)
		}
		p := &pendingTx{txRecord: r, seq: seq, body: tx.Body, cost: a.costOf(tx.Body)}
		a.pending = append(a.pending, p)
		if r.Key != "" {
			a.byKey[r.Key] = p
		}
		return nil
	})
	sortPending(a.pending)
	a.resumed = len(a.pending) > 0
	return a, err
}

// Account is the daemon's ledger account, zero while it has none.
func (a *accountant) account() types.AccountID {
	if id := a.id.Load(); id != nil {
		return *id
	}
	return types.AccountID{}
}

// submit queues a request. It never waits.
func (a *accountant) submit(r txRequest) error {
	if !a.box.put(r) {
		return refuse(CodeBusy, "try again in a moment", "%d ledger transactions wait already", maxTxQueue)
	}
	return nil
}

// do submits and waits for a block, a refusal, or the end of ctx (then the state is TxUnknown).
func (a *accountant) do(ctx context.Context, r txRequest) (LedgerTx, error) {
	done := make(chan txResult, 1)
	r.done = done
	if err := a.submit(r); err != nil {
		return LedgerTx{}, err
	}
	select {
	case res := <-done:
		return res.tx, res.err
	case <-ctx.Done():
	case <-a.over:
	}
	return LedgerTx{Key: r.key, Kind: r.kind, State: TxUnknown, Text: "not seen in a block yet: ask again with the same idempotency key"}, nil
}

func (a *accountant) run(ctx context.Context) error {
	defer close(a.over)
	for {
		var sum types.Amount
		for _, p := range a.pending {
			sum += p.cost
		}
		a.outgoing.Store(int64(sum))
		select {
		case <-ctx.Done():
			return nil
		case b := <-a.blocks:
			if err := a.block(ctx, b); err != nil {
				return err
			}
		case <-a.box.wake:
			if err := a.take(ctx, a.box.take(maxTxBatch)); err != nil {
				return err
			}
		}
	}
}

// take signs what can be signed, saves all of it in one commit, then submits.
func (a *accountant) take(ctx context.Context, requests []txRequest) error {
	var fresh []*pendingTx
	var writes []types.Write
	for _, r := range requests {
		if a.exists() && len(a.pending) < maxTxPending {
			p, answered := a.sign(r)
			if !answered {
				fresh = append(fresh, p)
				writes = append(writes, a.save(p)...)
			}
			continue
		}
		if len(a.waiting) >= maxTxQueue {
			answer(r.done, txResult{err: refuse(CodeBusy, "try again in a moment", "%d ledger transactions wait already", maxTxQueue)})
			continue
		}
		a.waiting = append(a.waiting, r)
	}
	if len(writes) == 0 {
		return nil
	}
	if err := a.store.Commit(ctx, writes...); err != nil { // the commit point of every ledger transaction
		return fmt.Errorf("saving ledger transactions before they are sent: %w", err)
	}
	return a.submitAll(ctx, fresh)
}

func (a *accountant) exists() bool { return a.id.Load() != nil }

// sign makes a pending transaction of a request, or answers it at once.
func (a *accountant) sign(r txRequest) (p *pendingTx, answered bool) {
	if r.key != "" {
		if p := a.byKey[r.key]; p != nil {
			if !sameBody(p.Raw, r.body) {
				answer(r.done, txResult{err: conflict(r.key)})
			} else if r.done != nil {
				p.waiters = append(p.waiters, r.done)
			}
			return nil, true
		}
		if r.keep {
			if old, ok, err := a.finished(r.key); err != nil || ok {
				if err == nil && !sameBody(old.Raw, r.body) {
					err = conflict(r.key)
				}
				res := txResult{err: err}
				if err == nil {
					res = outcome(&old)
				}
				answer(r.done, res)
				return nil, true
			}
		}
	}
	msid, prev, free, err := a.tail()
	if err != nil {
		answer(r.done, txResult{err: &Error{Code: CodeStale, Text: err.Error(), Next: "wait until the ledger is in sync", Money: noMoneyMoved, Err: err}})
		return nil, true
	}
	cost := a.costOf(r.body)
	if err := a.keepsReserve(r, cost, free); err != nil {
		answer(r.done, txResult{err: err})
		return nil, true
	}
	if need, err := cost.Add(ledger.Fee(a.account(), r.body)); err != nil || need > free {
		answer(r.done, txResult{err: refuse(CodeFunds, "fund the account, or send less",
			"account %s has %s free and needs %s (fee %s included) to %s", a.account(), free, need, ledger.Fee(a.account(), r.body), r.kind)})
		return nil, true
	}
	raw, next, err := ledger.Sign(a.secret, prev, ledger.Head{From: a.account(), Msid: msid, Time: a.now()}, r.body)
	if err != nil {
		answer(r.done, txResult{err: &Error{Code: CodeLedger, Text: err.Error(), Next: "correct the command", Money: noMoneyMoved, Err: err}})
		return nil, true
	}
	p = &pendingTx{seq: a.nextSeq, body: r.body, cost: cost, txRecord: txRecord{Kind: r.kind, Raw: raw,
		IDs: []types.Hash{types.SHA256(raw)}, Prev: prev, Next: next, Msid: msid, State: TxPending, Key: r.key}}
	if r.done != nil {
		p.waiters = append(p.waiters, r.done)
	}
	a.nextSeq++
	a.pending = append(a.pending, p)
	if r.key != "" {
		a.byKey[r.key] = p
	}
	p.Keep = r.keep
	return p, false
}

// keepsReserve refuses what its owner asks for (keyed or not) when too little would be left to close the channels. What a
// channel itself needs is never refused.
func (a *accountant) keepsReserve(r txRequest, cost, free types.Amount) error {
	switch r.body.(type) {
	case *ledger.Spend, ledger.OpenContract:
		return nil
	}
	need := cost + ledger.Fee(a.account(), r.body) // both are below the supply
	if need > free || free-need >= closeReserve*maxRunners {
		return nil
	}
	if n := a.live(); free-need < closeReserve*types.Amount(n) {
		return refuse(CodeFunds, "fund the account, send less, or close a channel", "account %s has %s free; after %s to %s less than %s would be left, the fees to close %d channels",
			a.account(), free, need, r.kind, closeReserve*types.Amount(n), n)
	}
	return nil
}

// tail is where the next transaction goes, and what the account can still spend after the pending ones.
func (a *accountant) tail() (msid uint32, prev types.Hash, free types.Amount, err error) {
	acct, err := a.chain.Account(a.account())
	if err != nil {
		return 0, prev, 0, fmt.Errorf("account %s: %w", a.account(), err)
	}
	free = acct.Balance
	for _, p := range a.pending {
		if p.Msid >= acct.Msid {
			free -= p.cost + ledger.Fee(a.account(), p.body)
		}
	}
	if n := len(a.pending); n > 0 {
		return a.pending[n-1].Msid + 1, a.pending[n-1].Next, max(free, 0), nil
	}
	return acct.Msid, acct.Hash, free, nil
}

func (a *accountant) finished(key string) (txRecord, bool, error) {
	seq, ok, err := load[string](a.store, bucketTxIndex, key)
	if err != nil || !ok {
		return txRecord{}, false, err
	}
	return load[txRecord](a.store, bucketTx, seq)
}

func (a *accountant) save(p *pendingTx) []types.Write {
	w := []types.Write{put(bucketTx, seqKey(p.seq), p.txRecord)}
	if p.Keep && len(p.IDs) == 1 && p.State == TxPending {
		w = append(w, put(bucketTxIndex, p.Key, seqKey(p.seq)))
	}
	return w
}

// submitAll hands transactions to the ledger node. What the node refuses for good is finished as refused.
func (a *accountant) submitAll(ctx context.Context, list []*pendingTx) error {
	var refused []types.Write
	for _, p := range list {
		p.submitted = types.Height(a.seen.Load())
		c, cancel := context.WithTimeout(ctx, submitTimeout)
		err := a.chain.Submit(c, p.Raw)
		cancel()
		var r *ledger.Refusal
		switch {
		case err == nil:
		case errors.As(err, &r) && final(r.Code):
			a.log.Warn("the ledger refuses a transaction", "kind", p.Kind, "code", r.Code, "why", r.Text)
			p.State, p.Code, p.Text = TxRefused, r.Code, r.Text
			refused = append(refused, a.finish(p)...)
		default:
			a.log.Info("a ledger transaction is not accepted yet; it is submitted again", "kind", p.Kind, "msid", p.Msid, "err", err)
		}
	}
	if len(refused) == 0 {
		return nil
	}
	return a.commitFinished(ctx, refused)
}

// final tells whether a refusal at submission can't go away by waiting: everything but questions of order and load.
func final(code uint32) bool {
	switch code {
	case ledger.CodeMsid, ledger.CodeSignature, ledger.CodePending, ledger.CodeBusy, ledger.CodeBadUser, ledger.CodeFuture:
		return false
	}
	return true
}

// finish takes a transaction off the list; its waiters are answered by commitFinished once that is saved.
func (a *accountant) finish(p *pendingTx) []types.Write {
	for i, q := range a.pending {
		if q == p {
			a.pending = append(a.pending[:i:i], a.pending[i+1:]...)
			break
		}
	}
	delete(a.byKey, p.Key)
	a.done = append(a.done, p)
	if p.Keep || p.State == TxConfirmed { // the books want to know what it cost
		return a.save(p)
	}
	return []types.Write{del(bucketTx, seqKey(p.seq))}
}

func (a *accountant) commitFinished(ctx context.Context, writes []types.Write) error {
	if err := a.store.Commit(ctx, writes...); err != nil {
		return fmt.Errorf("saving what became of ledger transactions: %w", err)
	}
	for _, p := range a.done {
		res := outcome(&p.txRecord)
		for _, w := range p.waiters {
			answer(w, res)
		}
		a.emit("account", fmt.Sprintf("%s: %s", p.Kind, p.State), res.tx)
	}
	a.done = nil
	if a.exists() && len(a.waiting) > 0 && len(a.pending) < maxTxPending {
		again := a.waiting
		a.waiting = nil
		return a.take(ctx, again)
	}
	return nil
}

// costOf is the money that leaves our account besides the fee.
func (a *accountant) costOf(body ledger.Body) types.Amount {
	switch b := body.(type) {
	case ledger.SendOne:
		return max(b.Amount, 0)
	case ledger.CreateAccount:
		return ledger.NewAccountDeposit
	case ledger.OpenContract:
		for _, f := range b.Funders {
			if f.Account == a.account() {
				return f.Amount
			}
		}
	}
	return 0
}

func answer(c chan<- txResult, r txResult) {
	if c != nil {
		c <- r
	}
}

func conflict(key string) error {
	return refuse(CodeConflict, "use a key of its own for every command", "idempotency key %.40q was used for another command", key)
}

// sameBody compares what two transactions do: their bytes when signed with the same key for the same place.
func sameBody(raw []byte, body ledger.Body) bool {
	tx, err := ledger.DecodeTx(raw)
	if err != nil {
		return false
	}
	was, _, err1 := ledger.Sign([32]byte{}, types.Hash{}, ledger.Head{}, tx.Body)
	is, _, err2 := ledger.Sign([32]byte{}, types.Hash{}, ledger.Head{}, body)
	return err1 == nil && err2 == nil && bytes.Equal(was, is)
}

// outcome turns a finished or pending record into what callers get: a refusal is an error.
func outcome(r *txRecord) txResult {
	v := r.view()
	if r.State == TxRefused {
		return txResult{tx: v, err: &Error{Code: CodeLedger, Text: fmt.Sprintf("the ledger refuses to %s: %s (code %d)", r.Kind, r.Text, r.Code),
			Next: "correct the command; use a new idempotency key", Money: "the amount did not move; the ledger may have charged a fee"}}
	}
	return txResult{tx: v}
}
