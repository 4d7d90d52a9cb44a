package escd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

// journalModel says, slowly, what a journal must.
type journalModel struct {
	blocks []*blockRecord
}

func (m *journalModel) block(rnd *rand.Rand, txs int) *blockRecord {
	h := types.Height(len(m.blocks) + 1)
	r := &blockRecord{BlockInfo: ledger.BlockInfo{Height: h, Time: types.Time(1000 + h), Hash: types.SHA256([]byte{byte(h)})}, nanos: int64(1000+h) * 1e9,
		roots: []types.Hash{}, events: []ledger.Event{}}
	account := func() types.AccountID { return types.AccountID{Node: 1, User: uint32(rnd.IntN(6))} }
	for i := range txs {
		t := ledger.TxDone{Place: ledger.Place{Node: 1, Msid: uint32(h), Position: uint32(i + 1)}, Type: ledger.TypeSendOne, Sender: account(), Msid: rnd.Uint32()}
		binary.BigEndian.PutUint64(t.ID[:], uint64(rnd.IntN(50))<<56) // prefixes collide
		binary.BigEndian.PutUint64(t.ID[8:], rnd.Uint64())
		switch rnd.IntN(6) {
		case 0:
			t.Code, t.Text = ledger.CodeBalance, "no money"
		case 1:
			r.events = append(r.events, ledger.AccountCreated{ID: account()}, ledger.Deposited{To: account(), Amount: 8})
		case 2:
			for range 3 {
				r.events = append(r.events, ledger.Deposited{From: t.Sender, To: account(), Amount: types.Amount(rnd.IntN(100))})
			}
		default:
			r.events = append(r.events, ledger.Deposited{From: t.Sender, To: account(), Amount: 5, Message: types.Hash{byte(rnd.IntN(2))}})
		}
		r.events = append(r.events, t)
	}
	m.blocks = append(m.blocks, r)
	return r
}

// log is an account's log, newest first.
func (m *journalModel) log(id types.AccountID, first types.Height) []LogEntry {
	out := []LogEntry{}
	for _, b := range m.blocks {
		if b.Height < first {
			continue
		}
		var deposits []ledger.Deposited
		add := func(list []LogEntry, e LogEntry, t ledger.TxDone) []LogEntry {
			e.Height, e.Time, e.Type, e.ID, e.Place, e.Msid, e.Code, e.Text = b.Height, b.Time, t.Type, t.ID, t.Place, t.Msid, t.Code, t.Text
			return append(list, e)
		}
		for _, e := range b.events {
			switch e := e.(type) {
			case ledger.Deposited:
				if e.From.IsZero() {
					if e.To == id {
						out = slices.Insert(out, 0, LogEntry{Height: b.Height, Time: b.Time, Incoming: true, Amount: e.Amount})
					}
					continue
				}
				deposits = append(deposits, e)
			case ledger.TxDone:
				var sent []LogEntry
				for _, d := range deposits {
					sent = add(sent, LogEntry{Other: d.To, Amount: d.Amount, Message: d.Message}, e)
				}
				if len(sent) == 0 {
					sent = add(sent, LogEntry{}, e)
				}
				if e.Sender == id {
					out = slices.Insert(out, 0, sent...)
				}
				for _, d := range deposits {
					if d.To == id {
						out = slices.Insert(out, 0, add(nil, LogEntry{Incoming: true, Other: d.From, Amount: d.Amount, Message: d.Message}, e)...)
					}
				}
				deposits = nil
			}
		}
	}
	return out
}

func (m *journalModel) check(t *testing.T, j journal, first types.Height) {
	t.Helper()
	for _, b := range m.blocks {
		got, err := j.block(b.Height)
		if b.Height < first {
			if err == nil {
				t.Fatalf("block %d is still there", b.Height)
			}
			continue
		}
		if err != nil || !reflect.DeepEqual(got, b) {
			t.Fatalf("block %d: %+v, %v\nwant %+v", b.Height, got, err, b)
		}
		if head, err := j.head(b.Height); err != nil || head.BlockInfo != b.BlockInfo {
			t.Fatalf("head of block %d: %+v, %v", b.Height, head, err)
		}
		for _, e := range b.events {
			if done, ok := e.(ledger.TxDone); ok {
				if got, err := j.done(done.ID); err != nil || got.ID != done.ID || got.Code != done.Code {
					t.Fatalf("transaction %+v: %+v, %v", done, got, err)
				}
			}
		}
	}
	n := &Node{app: &app{journal: j}}
	for user := range uint32(7) {
		id := types.AccountID{Node: 1, User: user}
		got, err := n.AccountLog(id, 0, MaxLog)
		if want := m.log(id, first); err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("log of %s: %d entries, want %d, %v\n%+v\n%+v", id, len(got), len(want), err, got, want)
		}
	}
	if _, err := j.done(types.SHA256([]byte("nobody's"))); err == nil {
		t.Error("found a transaction that there never was")
	}
}

func reopen(t *testing.T, j journal, dir string) journal {
	t.Helper()
	if j.files != nil {
		if err := j.close(); err != nil {
			t.Fatal(err)
		}
	}
	j, err := openJournal(dir)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func TestJournal(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	rnd := rand.New(rand.NewPCG(1, 2))
	var m journalModel
	j := reopen(t, journal{}, dir)
	put := func(n int) {
		for range n {
			if err := j.put(m.block(rnd, rnd.IntN(20))); err != nil {
				t.Fatal(err)
			}
		}
	}
	for round := range 20 {
		put(3)
		if err := j.flush(); err != nil {
			t.Fatal(err)
		}
		put(round % 3)
		if round%4 == 0 {
			j = reopen(t, j, dir)
		}
		j.files.mu.RLock()
		runs := len(j.files.runs)
		j.files.mu.RUnlock()
		if runs > mergeRuns {
			t.Fatalf("round %d: %d runs", round, runs)
		}
	}
	m.check(t, j, 1)
	if err := j.put(m.blocks[4]); err != nil { // a replay
		t.Fatal(err)
	}
	j = reopen(t, j, dir)
	m.check(t, j, 1)
	for _, loss := range []string{checkpointFile, "*.idx"} { // what is derived is made again
		names, err := filepath.Glob(filepath.Join(dir, journalDir, loss))
		if err != nil || len(names) == 0 {
			t.Fatal(names, err)
		}
		if err := j.close(); err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if err := os.Truncate(name, 10); err != nil {
				t.Fatal(err)
			}
		}
		j = reopen(t, journal{}, dir)
		m.check(t, j, 1)
		if err := j.flush(); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.prune(30); err != nil {
		t.Fatal(err)
	}
	m.check(t, j, 30)
	j = reopen(t, j, dir)
	m.check(t, j, 30)
	j.close()
}

// TestPruneToSnapshot: the record of the block before the first that is kept can be read for a snapshot of that block, and for
// nothing else.
func TestPruneToSnapshot(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	rnd := rand.New(rand.NewPCG(5, 6))
	var m journalModel
	j := reopen(t, journal{}, dir)
	for range 40 {
		if err := j.put(m.block(rnd, 3)); err != nil {
			t.Fatal(err)
		}
		j.files.mu.Lock()
		err := j.files.begin() // a file for each block: those before go with them
		j.files.mu.Unlock()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, first := range []types.Height{2, 3, 17, 17, 16, 40} {
		if err := j.prune(first); err != nil {
			t.Fatal(err)
		}
		first, err := j.first()
		if err != nil {
			t.Fatal(err)
		}
		if err := j.covers(first - 1); err != nil {
			t.Errorf("a snapshot of block %d: %v", first-1, err)
		}
		var pruned *ledger.Pruned
		if _, err := j.block(first - 1); !errors.As(err, &pruned) || pruned.First != first {
			t.Errorf("block %d: %v, want that the first is %d", first-1, err, first)
		}
		if _, err := j.stored(first - 2); first > 2 && !errors.Is(err, ledger.ErrNotFound) {
			t.Errorf("block %d is still there: %v", first-2, err)
		}
		m.check(t, j, first)
	}
	j.close()
}

// TestJournalTorn: whatever a crash leaves of the records after the last flush, those before are whole, and the rest is written again.
func TestJournalTorn(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	rnd := rand.New(rand.NewPCG(3, 4))
	var m journalModel
	j := reopen(t, journal{}, dir)
	var durable int64
	for i := range 6 {
		if err := j.put(m.block(rnd, 4)); err != nil {
			t.Fatal(err)
		}
		if i == 2 {
			if err := j.flush(); err != nil {
				t.Fatal(err)
			}
			durable = j.files.end
		}
	}
	name, end := j.files.file.Name(), j.files.end
	for cut := end - 1; cut >= durable; cut -= 1 + int64(rnd.IntN(40)) {
		if err := j.close(); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(name, cut-firstPosition); err != nil {
			t.Fatal(err)
		}
		j = reopen(t, journal{}, dir)
		if j.files.last < 3 || j.files.last > 5 {
			t.Fatalf("cut at %d of %d: %d blocks are left", cut, end, j.files.last)
		}
		for _, b := range m.blocks {
			if err := j.put(b); err != nil {
				t.Fatal(err)
			}
		}
		m.check(t, j, 1)
	}
	j.close()
}

// BenchmarkJournal puts blocks of 50,000 transfers.
func BenchmarkJournal(b *testing.B) {
	j, err := openJournal(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	defer j.close()
	const txs = 50_000
	var events []ledger.Event
	for i := range txs {
		from, to := types.AccountID{Node: 1, User: uint32(i)}, types.AccountID{Node: 1, User: uint32(i * 7919 % txs)}
		events = append(events, ledger.Deposited{From: from, To: to, Amount: 1},
			ledger.TxDone{ID: types.SHA256([]byte(fmt.Sprint(i))), Place: ledger.Place{Node: 1, Msid: 1, Position: uint32(i + 1)}, Type: ledger.TypeSendOne, Sender: from, Msid: 1})
	}
	b.ResetTimer()
	for h := range b.N {
		if err := j.put(&blockRecord{BlockInfo: ledger.BlockInfo{Height: types.Height(h + 1)}, events: events}); err != nil {
			b.Fatal(err)
		}
		if h%20 == 19 {
			if err := j.flush(); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*txs), "ns/tx")
}
