package ledger

import (
	"github.com/eschaton-network/chand/merkle"
	"github.com/eschaton-network/chand/types"
)

// Workers calls do(0) up to do(n-1), at the same time where there are cores for it, and returns when all have returned. Rules
// start nothing themselves; whoever owns the state gives it workers. nil means one after the other. Results never depend on it.
type Workers = merkle.Run

// SetWorkers gives the state workers for what can be done at the same time: signatures and hashes.
func (s *State) SetWorkers(w Workers) { s.workers = w }

func each(w Workers, n int, do func(i int)) {
	if w != nil && n > 1 {
		w(n, do)
		return
	}
	for i := range n {
		do(i)
	}
}

// eachChunk calls do with pieces of 0..n.
func eachChunk(w Workers, n, size int, do func(from, to int)) {
	each(w, (n+size-1)/size, func(c int) { do(c*size, min((c+1)*size, n)) })
}

// workChunk is how many transactions a worker decodes or hashes at a time: some 5 us, or more when they are long.
const workChunk = 16

// head is where an account's chain stands: what the next transaction's number and signature are checked against.
type head struct {
	msid uint32
	hash types.Hash
	key  [32]byte
}

func (r *Record) head() head { return head{r.Msid, r.Hash, r.PublicKey} }

// expect notes that a transaction's turn comes at this head, and returns the head after it.
func (h head) expect(tx *Tx) head {
	v := &tx.verdict
	if v.prev != h.hash || v.key != h.key || v.next.IsZero() {
		*v = verdict{key: h.key, prev: h.hash, next: nextHash(h.hash, tx.sigHash)}
	}
	h.msid, h.hash = h.msid+1, v.next
	if c, ok := tx.Body.(ChangeAccountKey); ok {
		h.key = c.PublicKey
	}
	return h
}

// verdict is what is known about a transaction's signature: whether it holds under a key as the successor of prev, and what the
// account's hash is then.
type verdict struct {
	key        [32]byte
	prev, next types.Hash
	// point is the key's: before verification if it is known, after it if it had to be decoded (see pointTable).
	point *keyPoint
	known bool
	holds bool
}

// fits tells whether the signature of a transaction with this verdict was verified, and holds, at a head.
func (v *verdict) fits(h *head) bool {
	return v.known && v.holds && v.prev == h.hash && v.key == h.key
}

// verifyTxs finds the verdicts of transactions that were expected somewhere. Those of one account are put side by side, which lets
// their key be multiplied once.
func verifyTxs(txs []*Tx, w Workers) {
	order := bySender(txs)
	eachSet(w, len(order), func(from, to int) {
		items := make([]sigItem, to-from)
		for i, tx := range order[from:to] {
			v := &tx.verdict
			items[i] = sigItem{&v.key, v.point, v.prev[:], tx.signedBytes, &tx.Signature, &v.holds}
		}
		verifySet(items)
		for i, tx := range order[from:to] {
			v := &tx.verdict
			decoded := items[i].point
			if decoded == v.point {
				decoded = nil
			}
			v.point, v.known = decoded, true
		}
	})
}

// bySender returns the transactions whose verdict is not known grouped by sender.
func bySender(txs []*Tx) []*Tx {
	groups := make(map[types.AccountID]int)
	var sizes []int
	group := make([]int, len(txs))
	total := 0
	for i, tx := range txs {
		if tx.verdict.known {
			group[i] = -1
			continue
		}
		g, ok := groups[tx.From]
		if !ok {
			g = len(sizes)
			groups[tx.From], sizes = g, append(sizes, 0)
		}
		group[i] = g
		sizes[g]++
		total++
	}
	at := 0
	for g, n := range sizes {
		sizes[g], at = at, at+n
	}
	order := make([]*Tx, total)
	for i, tx := range txs {
		if g := group[i]; g >= 0 {
			order[sizes[g]] = tx
			sizes[g]++
		}
	}
	return order
}

// Batch is a list of user transactions on their way into a Pool.
type Batch struct {
	txs     []Tx
	refused []*Refusal
	places  []Place
	// senders are set by Pool.Prepare for those that it did not refuse, which are in checks.
	senders []*sender
	checks  []*Tx
}

// DecodeBatch reads transactions; one that can't be read is refused in its place. The batch shares the memory of raws, which must
// not change any more. It needs no lock.
func DecodeBatch(raws [][]byte, w Workers) *Batch {
	b := &Batch{txs: make([]Tx, len(raws)), refused: make([]*Refusal, len(raws)), places: make([]Place, len(raws)), senders: make([]*sender, len(raws))}
	eachChunk(w, len(raws), workChunk, func(from, to int) {
		d := newTxDecoder()
		for i := from; i < to; i++ {
			tx := &b.txs[i]
			rest, ok, r := d.next(tx, raws[i])
			if ok && r == nil && len(rest) > 0 {
				r = refuse(CodeLength, "transaction of type %d: %d bytes follow its end", raws[i][0], len(rest))
			}
			tx.raw, b.refused[i] = raws[i], r
			tx.hash()
		}
	})
	return b
}

// Len is the number of transactions.
func (b *Batch) Len() int { return len(b.txs) }

// ID is SHA-256 of transaction i's bytes.
func (b *Batch) ID(i int) types.Hash { return b.txs[i].ID }

// Raw is transaction i's bytes.
func (b *Batch) Raw(i int) []byte { return b.txs[i].raw }

// Head is transaction i's sender, number and time; zero when it could not be read.
func (b *Batch) Head(i int) Head { return b.txs[i].Head }

// Refused says why transaction i was refused, or nil. It is final after Pool.Admit.
func (b *Batch) Refused(i int) *Refusal { return b.refused[i] }

// Place is where transaction i will stand, once Pool.Admit has taken it.
func (b *Batch) Place(i int) Place { return b.places[i] }

// Verify verifies the signatures that Pool.Prepare found to be worth it. It is most of the work, needs no lock and uses all workers.
func (b *Batch) Verify(w Workers) { verifyTxs(b.checks, w) }
