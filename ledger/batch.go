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

// head is where an account's chain stands: what the next transaction's number and signature are checked against.
type head struct {
	msid uint32
	hash types.Hash
	key  [32]byte
}

func (r *Record) head() head { return head{r.Msid, r.Hash, r.PublicKey} }

// after is the head after a transaction that takes its number.
func (h head) after(tx *Tx) head {
	h.msid, h.hash = h.msid+1, NextHash(h.hash, tx.Signature)
	if c, ok := tx.Body.(ChangeAccountKey); ok {
		h.key = c.PublicKey
	}
	return h
}

// verdict is what is known about a transaction's signature: whether it holds under a key as the successor of a hash.
type verdict struct {
	key   [32]byte
	prev  types.Hash
	known bool
	holds bool
}

// Batch is a list of user transactions on their way into a Pool.
type Batch struct {
	txs     []Tx
	refused []*Refusal
	places  []Place
	// senders are set by Prepare for those that it did not refuse; checks are their indexes.
	senders []*sender
	checks  []int
}

// decodeChunk is how many transactions one worker decodes at a time.
const decodeChunk = 256

// DecodeBatch reads transactions; one that can't be read is refused in its place. The batch shares the memory of raws, which must
// not change any more. It needs no lock.
func DecodeBatch(raws [][]byte, w Workers) *Batch {
	b := &Batch{txs: make([]Tx, len(raws)), refused: make([]*Refusal, len(raws)), places: make([]Place, len(raws)), senders: make([]*sender, len(raws))}
	each(w, (len(raws)+decodeChunk-1)/decodeChunk, func(c int) {
		for i := c * decodeChunk; i < min((c+1)*decodeChunk, len(raws)); i++ {
			tx, r := decodeTx(raws[i])
			if tx != nil {
				b.txs[i] = *tx
			} else {
				b.txs[i] = Tx{ID: types.SHA256(raws[i]), raw: raws[i]}
			}
			b.refused[i] = r
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
func (b *Batch) Verify(w Workers) {
	each(w, len(b.checks), func(k int) {
		tx := &b.txs[b.checks[k]]
		c := tx.check(tx.verdict.key, tx.verdict.prev)
		tx.verdict.known, tx.verdict.holds = true, c.verify()
	})
}
