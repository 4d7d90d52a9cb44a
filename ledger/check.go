package ledger

import (
	"github.com/eschaton-network/chand/types"
)

const (
	// MaxPipeline bounds the transactions of one account that wait for a block.
	MaxPipeline = 1 << 16
	// MaxWaiting bounds those of all accounts: about 200 bytes each.
	MaxWaiting = 1 << 17
)

// waiting is what Check accepted since the last block: for each sender its chain as it will be.
type waiting struct {
	total   int
	senders map[types.AccountID]*directSender
}

// directSender is one account's chain, its waiting transactions taken as executed.
type directSender struct {
	// txs[i] is the id of the waiting transaction with number first+i.
	first uint32
	txs   []types.Hash
	hash  types.Hash
	key   [32]byte
	// spent is what the waiting transactions cost, fees included.
	spent types.Amount
}

func (w *waiting) reset() { *w = waiting{} }

// Check tells whether a transaction may wait for the next block: it decodes, its number is the account's next (those
// already waiting counted, so that a client can pipeline up to MaxPipeline), its signature fits, the account can pay for
// all that waits, and the state as of now would not refuse it. The same bytes again are accepted again. The error is
// a *Refusal.
//
// After each Apply nothing waits: what the pool still holds must be checked again, in order.
func (s *State) Check(raw []byte) error {
	if r := s.check(raw); r != nil {
		return r
	}
	return nil
}

func (s *State) check(raw []byte) *Refusal {
	tx, r := decodeTx(raw)
	if r != nil {
		return r
	}
	rec := s.peek(tx.From)
	if rec == nil {
		return refuse(CodeBadUser, "account %s does not exist", tx.From)
	}
	w := s.waiting.senders[tx.From]
	if w == nil {
		w = &directSender{first: rec.Msid, hash: rec.Hash, key: rec.PublicKey}
	}
	switch place := int64(tx.Msid) - int64(w.first); {
	case place >= 0 && place < int64(len(w.txs)) && w.txs[place] == tx.ID:
		return nil
	case place >= 0 && place < int64(len(w.txs)):
		return refuse(CodePending, "another transaction of %s with number %d waits for the next block; ask again after it", tx.From, tx.Msid)
	case place != int64(len(w.txs)):
		return refuse(CodeMsid, "the next transaction of %s must have number %d, this has %d", tx.From, w.first+uint32(len(w.txs)), tx.Msid)
	case len(w.txs) >= MaxPipeline || s.waiting.total >= MaxWaiting:
		return refuse(CodeBusy, "%d transactions of %s wait for a block, %d of all; submit it again after the next block", len(w.txs), tx.From, s.waiting.total)
	case tx.Time > s.time+MaxTimeAhead:
		return refuseFuture(tx.Time, s.time)
	case !s.verifier.verify(tx.check(w.key, w.hash)):
		return refuse(CodeSignature, "the signature does not fit account %s at number %d", tx.From, tx.Msid)
	}
	spent, r := s.mayWait(tx, rec, w.spent)
	if r != nil {
		return r
	}
	s.enqueue(w, tx, spent)
	return nil
}

// mayWait tells whether a transaction in its turn could be executed now, when what waits before it costs so much; it returns its cost, fee
// included.
func (s *State) mayWait(tx *Tx, rec *Record, waiting types.Amount) (spent types.Amount, _ *Refusal) {
	if r := s.mayAct(tx, rec); r != nil {
		return 0, r
	}
	fee, cost := tx.Body.fee(tx.From), tx.Body.cost(tx.From)
	have := max(s.available(tx.From, rec)-waiting, 0)
	if have < fee || have-fee < cost {
		return 0, refuse(CodeBalance, "account %s can spend %s coins besides what waits, wanted are %s and a fee of %s", tx.From, have, cost, fee)
	}
	x := &exec{s: s, from: tx.From, txID: tx.ID, height: s.height + 1, time: s.time}
	return fee + cost, tx.Body.verify(x)
}

func (s *State) enqueue(w *directSender, tx *Tx, spent types.Amount) {
	if s.waiting.senders == nil {
		s.waiting.senders = make(map[types.AccountID]*directSender)
	}
	s.waiting.senders[tx.From] = w
	s.waiting.total++
	w.txs = append(w.txs, tx.ID)
	w.hash = NextHash(w.hash, tx.Signature)
	w.spent += spent
	if c, ok := tx.Body.(ChangeAccountKey); ok {
		w.key = c.PublicKey
	}
}
