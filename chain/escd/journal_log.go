package escd

import (
	"fmt"

	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

// LogEntry is one line of an account's log: an own transaction, one of its targets, or money that came in.
type LogEntry struct {
	Height types.Height
	// Time is the block's.
	Time types.Time
	// Type is the transaction's; 0 for money that came without one (a contract that paid out, a dividend).
	Type byte
	// Incoming says that Other paid; else the account itself did something, and Other is its target, or zero.
	Incoming bool
	Other    types.AccountID
	Amount   types.Amount
	Message  types.Hash
	// ID, Place and Msid name the transaction; Msid is its sender's number. Code is why it was refused, or 0.
	ID    types.Hash
	Place ledger.Place
	Msid  uint32
	Code  uint32
	Text  string
}

// MaxLog bounds one answer of AccountLog.
const MaxLog = 10_000

// AccountLog lists what concerned an account in the blocks that are kept, newest first, back to a time: at most limit entries, or
// more by the other targets of the last transaction. It costs time in proportion to what it lists.
func (n *Node) AccountLog(id types.AccountID, since types.Time, limit int) ([]LogEntry, error) {
	j := n.app.journal
	first, err := j.first()
	if err != nil {
		return nil, err
	}
	out := []LogEntry{}
	for link := j.files.newest(id); link != 0 && len(out) < min(limit, MaxLog); {
		item, err := j.files.linked(link)
		if err != nil && j.files.forgot(int64(link>>1)) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("log of account %s: %w", id, err)
		}
		if item.height < first || item.time < since {
			break
		}
		out = append(out, item.entries...)
		link = item.link
	}
	return out, nil
}

// forgot tells whether what was at a position has been removed with its file.
func (f *journalFiles) forgot(at int64) bool {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return at < f.starts[0]
}

// newest is the link of an account's newest entry, 0 when there is none.
func (f *journalFiles) newest(id types.AccountID) uint64 {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if int(id.Node) >= len(f.heads) || int(id.User) >= len(f.heads[id.Node]) {
		return 0
	}
	return f.heads[id.Node][id.User]
}

// logItem is an item, or one row of it, as an account's log sees it.
type logItem struct {
	height  types.Height
	time    types.Time
	link    uint64 // the account's entry before
	done    ledger.TxDone
	entries []LogEntry
}

// item reads the transaction at a position.
func (f *journalFiles) item(at int64) (*logItem, error) { return f.linked(uint64(at) << 1) }

// linked reads what a link is to. Everything is checked: a position may be of a file that is no longer there.
func (f *journalFiles) linked(link uint64) (*logItem, error) {
	at, isRow := int64(link>>1), link&1 == 1
	var buf [txItem]byte
	if !isRow {
		n, err := f.read(at, buf[:])
		if err != nil {
			return nil, err
		}
		return f.outgoing(at, buf[:n])
	}
	n, err := f.read(at, buf[:rowSize+messageSize])
	if err != nil {
		return nil, err
	}
	d := reader{b: buf[:n]}
	start := at - int64(d.u32())
	to, e, before := d.account(), LogEntry{Incoming: true, Amount: types.Amount(d.u64())}, d.u64()
	var head [txItem]byte
	if start < firstPosition || d.bad {
		return nil, errRecord
	}
	if n, err = f.read(start, head[:]); err != nil {
		return nil, err
	}
	item, flags, _, _, err := readTxHead(head[:n])
	if err != nil {
		return nil, err
	}
	if flags&flagMessages != 0 {
		e.Message = d.hash()
	}
	if d.bad || to.IsZero() {
		return nil, errRecord
	}
	e.Other = item.done.Sender
	item.describe(&e)
	item.link, item.entries = before, []LogEntry{e}
	return item, nil
}

func (i *logItem) describe(e *LogEntry) {
	e.Height, e.Time, e.Type = i.height, i.time, i.done.Type
	e.ID, e.Place, e.Msid, e.Code, e.Text = i.done.ID, i.done.Place, i.done.Msid, i.done.Code, i.done.Text
}

// readTxHead reads the fixed part of a transaction's item.
func readTxHead(b []byte) (item *logItem, flags uint8, text, rows int, err error) {
	d := reader{b: b}
	if d.u8() != itemTx {
		return nil, 0, 0, 0, errRecord
	}
	flags = d.u8()
	i := &logItem{done: ledger.TxDone{Type: d.u8(), ID: d.hash(), Place: d.place(), Sender: d.account(), Msid: d.u32(), Code: d.u32()}}
	i.height, i.time, i.link = types.Height(d.u32()), types.Time(d.u32()), d.u64()
	text, rows = int(d.u16()), int(d.u32())
	if d.bad || text > maxText || rows > ledger.MaxWires || flags > flagMessages {
		return nil, 0, 0, 0, errRecord
	}
	return i, flags, text, rows, nil
}

// outgoing reads a transaction for its sender, or a deposit for its target.
func (f *journalFiles) outgoing(at int64, b []byte) (*logItem, error) {
	if len(b) > 0 && b[0] == itemDeposit {
		d := reader{b: b[1:]}
		i := &logItem{height: types.Height(d.u32()), time: types.Time(d.u32())}
		e := LogEntry{Incoming: true, Other: d.account()}
		d.account()
		e.Amount, e.Message, i.link = types.Amount(d.u64()), d.hash(), d.u64()
		i.describe(&e)
		i.entries = []LogEntry{e}
		if d.bad {
			return nil, errRecord
		}
		return i, nil
	}
	i, flags, text, rows, err := readTxHead(b)
	if err != nil {
		return nil, err
	}
	size := rowSize
	if flags&flagMessages != 0 {
		size += messageSize
	}
	rest := make([]byte, text+rows*size)
	if len(rest) > 0 {
		if n, err := f.read(at+txItem, rest); err != nil || n < len(rest) {
			return nil, fmt.Errorf("%w: the item at %d is cut off: %w", errRecord, at, err)
		}
	}
	d := reader{b: rest}
	i.done.Text = string(d.take(text))
	for range rows {
		d.u32()
		e := LogEntry{Other: d.account(), Amount: types.Amount(d.u64())}
		d.u64()
		if flags&flagMessages != 0 {
			e.Message = d.hash()
		}
		i.describe(&e)
		i.entries = append(i.entries, e)
	}
	if rows == 0 {
		var e LogEntry
		i.describe(&e)
		i.entries = []LogEntry{e}
	}
	return i, nil
}
