package ledger

import (
	"math/bits"
	"slices"
)

// dirtySet is a set of account numbers: those changed since the last Root. It takes a bit an account.
type dirtySet struct {
	bits []uint64
	list []uint32
}

func (d *dirtySet) add(i uint32) {
	w, bit := int(i>>6), uint64(1)<<(i&63)
	if w >= len(d.bits) {
		d.bits = append(d.bits, make([]uint64, w+1-len(d.bits))...)
	}
	if d.bits[w]&bit == 0 {
		d.bits[w] |= bit
		d.list = append(d.list, i)
	}
}

// take empties the set and returns what was in it in ascending order, until the next add.
func (d *dirtySet) take() []uint32 {
	list := d.list
	if len(list) < len(d.bits) {
		slices.Sort(list)
		for _, i := range list {
			d.bits[i>>6] = 0
		}
	} else { // dense: the bits are in order already
		list = list[:0]
		for w, b := range d.bits {
			for ; b != 0; b &= b - 1 {
				list = append(list, uint32(w<<6+bits.TrailingZeros64(b)))
			}
		}
		clear(d.bits)
	}
	d.list = list[:0]
	return list
}
