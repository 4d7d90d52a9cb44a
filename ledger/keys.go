package ledger

import (
	"encoding/binary"
	"math/bits"

	"github.com/eschaton-network/chand/types"
)

// keyIndex finds accounts by public key: a table with open addressing of account numbers, 10 to 20 bytes an account. It only
// proposes; whether an account has the key is for its record to say, so entries of keys that were changed do no harm. They go
// when the table grows.
type keyIndex struct {
	// slots hold a tag of the key in the upper 16 bits and the account below; 0 is free. Their number is a power of two.
	slots []uint64
	used  int
}

const (
	tagMask     = uint64(0xFFFF) << 48
	minKeySlots = 16
	// maxSameKey bounds the accounts that are found by one key. Without it whoever makes a million accounts of one key would make each
	// further one cost a walk over all of them, and the table's growth the square of that.
	maxSameKey = 64
)

// place is where the search for a key starts, and its tag.
func (x *keyIndex) place(key *[32]byte) (slot int, tag uint64) {
	h := binary.LittleEndian.Uint64(key[:]) * 0x9E3779B97F4A7C15 // spreads what low bits keys may share
	return int(h >> (64 - bits.TrailingZeros(uint(len(x.slots))))), uint64(binary.LittleEndian.Uint16(key[8:])) << 48
}

func keyEntry(id types.AccountID) uint64 { return uint64(id.Node)<<32 | uint64(id.User) }

// full tells whether add needs a larger table first.
func (x *keyIndex) full() bool { return 4*(x.used+1) > 3*len(x.slots) }

func (x *keyIndex) add(key *[32]byte, id types.AccountID) {
	slot, tag := x.place(key)
	e, same := tag|keyEntry(id), 0
	for ; x.slots[slot] != 0; slot = (slot + 1) & (len(x.slots) - 1) {
		if x.slots[slot]&tagMask == tag {
			same++
		}
		if x.slots[slot] == e || same == maxSameKey {
			return
		}
	}
	x.slots[slot] = e
	x.used++
}

// find calls try for every account that may have the key.
func (x *keyIndex) find(key *[32]byte, try func(types.AccountID)) {
	if len(x.slots) == 0 {
		return
	}
	slot, tag := x.place(key)
	for ; x.slots[slot] != 0; slot = (slot + 1) & (len(x.slots) - 1) {
		if e := x.slots[slot]; e&tagMask == tag {
			try(types.AccountID{Node: uint16(e >> 32), User: uint32(e)})
		}
	}
}

// indexKey makes an account findable by the key that its record has.
func (s *State) indexKey(id types.AccountID) {
	if s.keys.full() {
		s.indexKeys()
		return
	}
	s.keys.add(&s.peek(id).PublicKey, id)
}

// indexKeys makes the index from the records, at most three fifths full.
func (s *State) indexKeys() {
	total := 0
	for _, n := range s.nodes {
		total += n.accounts.len()
	}
	size := minKeySlots
	for 3*size < 5*total {
		size *= 2
	}
	s.keys = keyIndex{slots: make([]uint64, size)}
	for i, n := range s.nodes {
		for p, page := range n.accounts.pages {
			for j := range page {
				s.keys.add(&page[j].PublicKey, types.AccountID{Node: uint16(i + 1), User: uint32(p<<pageBits + j)})
			}
		}
	}
}

// AccountOf returns the account with a public key, the one with the lowest number where several have it (of the maxSameKey that
// were indexed first); ErrNotFound when there is none.
func (s *State) AccountOf(key [32]byte) (types.AccountID, error) {
	var found types.AccountID
	s.keys.find(&key, func(id types.AccountID) {
		if (found.IsZero() || keyEntry(id) < keyEntry(found)) && s.peek(id).PublicKey == key {
			found = id
		}
	})
	if found.IsZero() {
		return found, ErrNotFound
	}
	return found, nil
}
