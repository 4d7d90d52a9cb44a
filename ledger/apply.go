package ledger

import (
	"fmt"

	"github.com/eschaton-network/chand/merkle"
	"github.com/eschaton-network/chand/types"
)

// MaxTimeAhead is how far a transaction's time may lie beyond the block's. A block carries the time at which the one before was
// agreed on, so it lags a little; a minute covers slow rounds and clocks.
const MaxTimeAhead types.Time = 60

// Outcome is what one block did.
type Outcome struct {
	// Block has one entry for each transaction of the block, in order: code and sentence of a message or evidence as a whole, or
	// of a direct transaction.
	Block []Refusal
	// Results has one entry for each user transaction, in the order of execution, with its place.
	Results []TxDone
	// Roots are the roots of the messages taken and the ids of the direct transactions, in the order of the block: the leaves of the
	// part "transactions" of the state root.
	Roots []types.Hash
	// Events is everything that happened, in order: each transaction's effects, then its TxDone, each message's MessageDone after
	// its transactions; then what was due.
	Events []Event
	// Validators are the changes of the validator set, for the block after next; power 0 removes a key.
	Validators []Validator
}

// eventLog collects the events of a block.
type eventLog struct{ events []Event }

func (l *eventLog) emit(e Event) { l.events = append(l.events, e) }

// exec is the execution of one transaction.
type exec struct {
	s      *State
	log    *eventLog
	from   types.AccountID
	txID   types.Hash
	place  Place
	height types.Height // of the block that it is in, or would be in
	time   types.Time
}

func (x *exec) emit(e Event) { x.log.emit(e) }

// Apply executes block number height, which must be Height()+1. What can't be executed is skipped with its code and sentence; the
// block always succeeds. A user transaction that is in its turn and well signed takes its number and pays its fee
// even when it is refused for another reason, so that those signed after it stay valid; when the account can't pay the
// fee, nothing changes. Messages go first, then the direct transactions whose delay is over.
func (s *State) Apply(height types.Height, time types.Time, txs [][]byte) Outcome {
	if height != s.height+1 {
		panic(fmt.Sprintf("ledger: block %d applied after block %d", height, s.height))
	}
	before := s.stamp()
	s.height, s.time = height, max(s.time, min(time, maxTime))
	s.waiting.reset()
	b := &block{s: s, out: Outcome{Block: make([]Refusal, len(txs))}}
	s.log = &b.log
	s.beginPeriod(before)
	s.punish(&b.log)
	b.read(txs)
	b.verifyMessages()
	for i, raw := range txs {
		if r := b.include(i, raw); r != nil {
			b.out.Block[i] = *r
		}
	}
	b.direct()
	s.blockTxs = merkle.RootOf(b.out.Roots)
	s.settleDue(&b.log)
	s.release(&b.log)
	s.endBlock(&b.log)
	b.out.Validators = s.elect()
	b.out.Events, s.log = b.log.events, nil
	s.inbox.settle(s)
	return b.out
}

// verifyAhead verifies transactions in batches, each against the key and hash that its sender will have when its turn comes, if
// all goes well. Where it does not, execute verifies that signature alone. remembered says that some may have been verified one by one
// before.
func (s *State) verifyAhead(txs []*Tx, remembered bool) {
	if len(txs) == 0 {
		return
	}
	heads := make(map[types.AccountID]*head)
	checks := make([]*Tx, 0, len(txs))
	for _, tx := range txs {
		h := heads[tx.From]
		if h == nil {
			rec := s.peek(tx.From)
			if rec == nil {
				continue
			}
			now := rec.head()
			h = &now
			heads[tx.From] = h
		}
		if tx.malformed == nil && tx.Msid == h.msid {
			v, key, prev := &tx.verdict, h.key, h.hash
			*h = h.expect(tx)
			if remembered && !v.known {
				c := tx.check(key, prev)
				v.known = s.verifier.known(c.id())
				v.holds = v.known
			}
			checks = append(checks, tx)
		}
	}
	s.points.lend(checks)
	verifyTxs(checks, s.workers)
	s.points.collect(checks)
}

// signed tells whether a transaction is signed as the next one of an account, from what is known or by verifying it.
func (s *State) signed(tx *Tx, rec *Record) bool {
	if v := &tx.verdict; v.known && v.prev == rec.Hash && v.key == rec.PublicKey {
		return v.holds
	}
	return s.verifier.verify(tx.check(rec.PublicKey, rec.Hash))
}

func (tx *Tx) check(key [32]byte, prev types.Hash) sigCheck {
	msg := make([]byte, 0, len(prev)+len(tx.signedBytes))
	return sigCheck{key: key, msg: append(append(msg, prev[:]...), tx.signedBytes...), sig: tx.Signature}
}

func (s *State) execute(log *eventLog, tx *Tx, place Place) *Refusal {
	if tx.malformed != nil {
		return tx.malformed
	}
	rec := s.record(tx.From)
	if rec == nil {
		return refuse(CodeBadUser, "account %s does not exist", tx.From)
	}
	if tx.Msid != rec.Msid {
		return refuse(CodeMsid, "account %s is at number %d, the transaction has %d; nothing was charged", tx.From, rec.Msid, tx.Msid)
	}
	if tx.Time > s.time+MaxTimeAhead {
		return refuseFuture(tx.Time, s.time)
	}
	if !s.signed(tx, rec) {
		return refuse(CodeSignature, "the signature does not fit account %s at number %d; nothing was charged", tx.From, tx.Msid)
	}
	if r := s.mayAct(tx, rec); r != nil {
		return r
	}
	fee, cost := tx.Body.fee(tx.From), tx.Body.cost(tx.From)
	have := s.available(tx.From, rec)
	if have < fee {
		return refuse(CodeBalance, "account %s can spend %s coins, the fee is %s; nothing was charged", tx.From, have, fee)
	}
	s.take(rec, tx, fee)
	s.shareFee(tx, place, fee)
	if have-fee < cost {
		return refuse(CodeBalance, "account %s can spend %s coins, wanted are %s and a fee of %s; only the fee was charged", tx.From, have, cost, fee)
	}
	x := &exec{s: s, log: log, from: tx.From, txID: tx.ID, place: place, height: s.height, time: s.time}
	if r := tx.Body.verify(x); r != nil {
		return r
	}
	s.debit(tx.From, cost)
	tx.Body.apply(x)
	s.shareRemoteFee(tx)
	return nil
}

// take charges the fee and moves the account's chain on.
func (s *State) take(rec *Record, tx *Tx, fee types.Amount) {
	s.addBalance(tx.From, -fee)
	s.pool += fee
	rec.Msid++
	rec.Time = uint32(tx.Time)
	if v := &tx.verdict; v.prev == rec.Hash && !v.next.IsZero() {
		rec.Hash = v.next
	} else {
		rec.Hash = nextHash(rec.Hash, tx.sigHash)
	}
	rec.LocalChange = uint32(s.time)
	rec.PairedNode, rec.PairedID = 0, 0 // and ends a retrieval that another account began
}

func refuseFuture(tx, block types.Time) *Refusal {
	return refuse(CodeFuture, "the transaction's time %d lies more than %d s beyond the block's time %d; set the clock or submit it later", tx, MaxTimeAhead, block)
}

func (s SendOne) verify(x *exec) *Refusal { return verifyTarget(x, s.To) }

func (s SendOne) apply(x *exec) {
	x.s.credit(s.To, s.value(), s.To.Node != x.from.Node)
	x.emit(Deposited{From: x.from, To: s.To, Amount: s.value(), Message: s.Message})
}

func verifyTarget(x *exec, to types.AccountID) *Refusal {
	switch {
	case x.s.node(to.Node) == nil:
		return refuse(CodeTargetNode, "node %d of target %s does not exist", to.Node, to)
	case x.s.peek(to) == nil:
		return refuse(CodeTargetAccount, "target account %s does not exist", to)
	}
	return nil
}

func (s SendMany) verify(x *exec) *Refusal {
	for _, w := range s.Wires {
		if r := verifyTarget(x, w.To); r != nil {
			return r
		}
	}
	return nil
}

func (s SendMany) apply(x *exec) {
	for _, w := range s.Wires {
		x.s.credit(w.To, w.Amount, w.To.Node != x.from.Node)
		x.emit(Deposited{From: x.from, To: w.To, Amount: w.Amount})
	}
}

func (Broadcast) verify(*exec) *Refusal { return nil }

func (c Broadcast) apply(x *exec) { x.emit(Broadcasted{TxID: x.txID, From: x.from, Data: c.Data}) }

func verifyKeyProof(x *exec, key [32]byte, proof [64]byte) *Refusal {
	if !x.s.verifier.verify(sigCheck{key: key, sig: proof}) {
		return refuse(CodeKeyProof, "the proof is not the new key's signature of the empty message; the key was not used")
	}
	return nil
}

func (c ChangeAccountKey) verify(x *exec) *Refusal {
	if r := verifyKeyProof(x, c.PublicKey, c.Proof); r != nil {
		return r
	}
	return x.s.admits(c.PublicKey, RoleAccount)
}

func (c ChangeAccountKey) apply(x *exec) {
	x.s.record(x.from).PublicKey = c.PublicKey // touched by take
	x.s.indexKey(x.from)
}

func (Anchor) verify(*exec) *Refusal { return nil }

func (a Anchor) apply(x *exec) { x.emit(Anchored{TxID: x.txID, Hashes: a.Hashes}) }
