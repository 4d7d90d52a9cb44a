package ledger

import (
	"bytes"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/eschaton-network/chand/types"
)

// TestFreeze: a frozen view gives the bytes of the state as it was, whatever is done to the state meanwhile.
func TestFreeze(t *testing.T) {
	s := busy(t).s
	for i := range 3 * pageRecords { // some full pages and one begun
		s.addAccount(types.AccountID{Node: 1, User: uint32(s.Accounts(1))}, [32]byte{1, byte(i), byte(i >> 8)}, 0)
	}
	var want bytes.Buffer
	if err := s.EncodeTo(&want); err != nil {
		t.Fatal(err)
	}
	before := s.Root()
	f := s.Freeze()
	var work sync.WaitGroup
	var got bytes.Buffer
	work.Go(func() {
		if err := f.EncodeTo(&got); err != nil {
			t.Error(err)
		}
	})
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 2 * pageRecords {
		id := types.AccountID{Node: 1, User: uint32(rnd.IntN(s.Accounts(1)))}
		s.record(id).Msid++
		s.record(id).PublicKey[5]++
		s.indexKey(id)
		s.touch(id)
		s.addAccount(types.AccountID{Node: 1, User: uint32(s.Accounts(1))}, [32]byte{2}, 0)
	}
	clear(s.contracts)
	clear(s.outputs)
	clear(s.queue)
	s.touchNode(1).Msid++
	s.blockTxs[0]++
	s.pool++
	s.height++
	work.Wait()
	if s.Root() == before {
		t.Fatal("nothing was changed")
	}
	if !bytes.Equal(got.Bytes(), want.Bytes()) || f.Root() != before || f.Height() != s.Height()-1 {
		t.Error("the frozen view changed")
	}
	back, err := DecodeState(&got, DefaultLimits)
	if err != nil || back.Root() != before {
		t.Fatal(err)
	}
}

// TestRecords compares the pages with a plain list, frozen views included.
func TestRecords(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	var l records
	var plain []Record
	type view struct {
		frozen records
		was    []Record
	}
	var views []view
	same := func(l *records, want []Record) {
		t.Helper()
		if l.len() != len(want) || l.at(uint32(len(want))) != nil || l.change(uint32(len(want))) != nil {
			t.Fatalf("%d records, want %d", l.len(), len(want))
		}
		for i := range want {
			if *l.at(uint32(i)) != want[i] {
				t.Fatalf("record %d differs", i)
			}
		}
	}
	for step := range 6 * pageRecords {
		switch k := rnd.IntN(10); {
		case k < 6:
			r := Record{Msid: uint32(step)}
			l.append(r)
			plain = append(plain, r)
		case k < 9 && len(plain) > 0:
			i := rnd.IntN(len(plain))
			l.change(uint32(i)).Time = uint32(step)
			plain[i].Time = uint32(step)
		case step%200 == 0:
			views = append(views, view{l.freeze(), append([]Record(nil), plain...)})
		}
	}
	same(&l, plain)
	if len(views) == 0 {
		t.Fatal("no view was taken")
	}
	for _, v := range views {
		same(&v.frozen, v.was)
	}
	for p, page := range l.pages {
		if cap(page) > pageRecords || p < len(l.pages)-1 && len(page) != pageRecords {
			t.Errorf("page %d has %d records, room for %d", p, len(page), cap(page))
		}
	}
}

func TestAccountOf(t *testing.T) {
	s := busy(t).s
	key := func(i int) [32]byte { return [32]byte{3, byte(i), byte(i >> 8), 7: 1} }
	first := s.Accounts(1)
	for i := range 2000 {
		s.addAccount(types.AccountID{Node: 1, User: uint32(s.Accounts(1))}, key(i/2), 0) // each key twice
	}
	check := func(s *State) {
		t.Helper()
		for i := range 1000 {
			want := types.AccountID{Node: 1, User: uint32(first + 2*i)}
			if got, err := s.AccountOf(key(i)); err != nil || got != want {
				t.Fatalf("key %d: %s, %v, want %s", i, got, err, want)
			}
		}
		if id, err := s.AccountOf([32]byte{4}); err != ErrNotFound {
			t.Fatalf("account %s of a key that none has: %v", id, err)
		}
	}
	check(s)
	// A key that goes to and fro leaves entries, which are dropped in time.
	id := types.AccountID{Node: 1, User: uint32(first)}
	for i := range 100_000 {
		s.record(id).PublicKey = [32]byte{5, byte(i), byte(i >> 8), byte(i >> 16)}
		s.touch(id)
		s.indexKey(id)
	}
	if got, err := s.AccountOf([32]byte{5, byte(99_999 & 0xFF), byte(99_999 >> 8 & 0xFF), byte(99_999 >> 16)}); err != nil || got != id {
		t.Fatal(got, err)
	}
	if got, err := s.AccountOf([32]byte{5}); err != ErrNotFound {
		t.Fatal("a key that was given up finds", got)
	}
	if len(s.keys.slots) > 8192 {
		t.Errorf("%d slots for %d accounts", len(s.keys.slots), s.Accounts(1))
	}
	s.record(id).PublicKey = key(0)
	s.touch(id)
	s.indexKey(id)
	check(s)
	var b bytes.Buffer
	if err := s.EncodeTo(&b); err != nil {
		t.Fatal(err)
	}
	back, err := DecodeState(&b, DefaultLimits)
	if err != nil {
		t.Fatal(err)
	}
	check(back)
}

func TestPopulate(t *testing.T) {
	s := busy(t).s
	first, key := s.Accounts(1), func(i int) [32]byte { return [32]byte{6, byte(i), byte(i >> 8)} }
	if err := s.Populate(3000, 5, key, nil); err != nil {
		t.Fatal(err)
	}
	if err := s.Verify(); err != nil {
		t.Fatal(err)
	}
	id := types.AccountID{Node: 1, User: uint32(first + 2999)}
	if a, err := s.Account(id); err != nil || a.Balance != 5 || a.PublicKey != key(2999) {
		t.Fatal(a, err)
	}
	if got, err := s.AccountOf(key(7)); err != nil || got.User != uint32(first+7) {
		t.Fatal(got, err)
	}
	if s.Populate(1, Supply, key, nil) == nil || s.Populate(1, -1, key, nil) == nil || s.Populate(MaxAccounts, 0, key, nil) == nil {
		t.Fatal("money from nothing, or more accounts than fit")
	}
}
