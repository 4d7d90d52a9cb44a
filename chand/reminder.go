package chand

import (
	"fmt"

	"github.com/eschaton-network/chand/types"
)

// lastBlocks is how close to its deadline an escrow is when the last reminder comes.
const lastBlocks = 10

// dueReminder is how many reminders are due at a height: one when half of the escrow's life is over, one when a tenth is left, and one for
// its last blocks.
func (e *Escrow) dueReminder(at types.Height) (n int) {
	if e.Since == 0 || at >= e.Deadline || e.Deadline <= e.Since {
		return 0
	}
	life, left := uint64(e.Deadline-e.Since), uint64(e.Deadline-at)
	for _, due := range []bool{left <= life/2, left <= life/10, left <= lastBlocks && life > lastBlocks} {
		if due {
			n++
		}
	}
	return n
}

// remind tells both sides of a held escrow that its deadline comes nearer, each time once: what was said is saved before. Who was down
// hears the newest only.
func (r *runner) remind(b *batch) {
	for _, out := range r.outgoing {
		if out.escrow != nil && !out.Gone {
			r.remindOf(b, out.escrow)
		}
	}
	for _, in := range r.incoming {
		if in.Kind == kindEscrow && !in.GiveBack {
			if e := r.d.escrows.get(in.Hash, rolePayee); e != nil {
				r.remindOf(b, e)
			}
		}
	}
}

func (r *runner) remindOf(b *batch, e *escrow) {
	due := e.rec.dueReminder(r.height)
	if e.rec.State != EscrowHeld || due <= e.rec.Reminded {
		return
	}
	e.rec.Reminded = due
	b.write(e.write())
	rec := e.rec
	b.then(func() {
		e.show()
		r.d.emit("escrow.reminder", fmt.Sprintf("the escrow of %s, with us as %s, is given back at block %d, in %d blocks", rec.Amount, rec.Role, rec.Deadline,
			rec.Deadline-r.height), r.d.shownEscrow(rec))
	})
}
