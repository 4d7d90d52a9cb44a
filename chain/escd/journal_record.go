package escd

import (
	"encoding/binary"
	"fmt"

	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

// A block's record is a head, the parts of the state root, the leaves of the part "transactions", and items in the order of events.
// Items of transactions and deposits have a fixed layout and are linked: each names the one before it of the same account, so
// that an account's log costs its own entries only.
//
//	transaction  1 flags(1) type(1) id(32) node(2) msid(4) position(4) sender(6) number(4) code(4) height(4) time(4)
//	             link(8) text length(2) rows(4) text, then rows: back(4) to(6) amount(8) link(8), message(32) with flag 1
//	deposit      2 height(4) time(4) from(6) to(6) amount(8) message(32) link(8)
//	event        3 length(4) event
//
// A row's back is how far before it its item starts. A link is twice the position in the journal of an item or, plus one, of a row.
const (
	itemTx      = 1
	itemDeposit = 2
	itemEvent   = 3

	// flagMessages says that the rows have messages.
	flagMessages = 1

	txItem      = 81
	txItemLink  = 67
	rowSize     = 26
	rowLink     = 18
	messageSize = 32
	depositItem = 69
	depositLink = 61
)

// recordHead is the part of a record before its items that has a fixed size; see encodeRecord.
const recordHead = 1 + 4 + 8 + 32 + 32 + 4 + 4 + 8

// entry is one thing to be linked or found while a record is encoded or read again.
type entry struct {
	account types.AccountID // whose log the item or row at `at` is in
	at      int             // offset in the record
	link    int             // offset of its link
	row     bool
}

// recordLinks are the entries of a record in order, and its transactions by id.
type recordLinks struct {
	entries []entry
	ids     []idAt
}

// idAt is the first 8 bytes of a transaction's id, and the offset of its item.
type idAt struct {
	prefix uint64
	at     uint64
}

func idPrefix(id types.Hash) uint64 { return binary.BigEndian.Uint64(id[:]) }

// encodeRecord appends a record without its links, which are zero, and says where they are.
func encodeRecord(b []byte, r *blockRecord) ([]byte, *recordLinks, error) {
	start := len(b)
	w := writer{b}
	w.u8(recordVersion)
	w.u32(uint32(r.Height))
	w.u64(uint64(r.nanos))
	w.raw(r.Hash[:])
	w.raw(r.AppHash[:])
	w.u32(r.txs)
	w.u32(r.refused)
	w.u64(r.bytes)
	for _, p := range r.parts {
		w.raw(p[:])
	}
	w.u32(uint32(len(r.roots)))
	for _, root := range r.roots {
		w.raw(root[:])
	}
	l := &recordLinks{entries: make([]entry, 0, len(r.events)), ids: make([]idAt, 0, len(r.events)/2)}
	w.u32(uint32(len(r.events)))
	for i := 0; i < len(r.events); i++ {
		run := i
		for run < len(r.events) && isDeposit(r.events[run]) {
			run++
		}
		if run < len(r.events) {
			if done, ok := r.events[run].(ledger.TxDone); ok && allFrom(r.events[i:run], done.Sender) {
				w.txItem(r, done, r.events[i:run], l, start)
				i = run
				continue
			}
		}
		if d, ok := r.events[i].(ledger.Deposited); ok {
			w.depositItem(r, d, l, start)
			continue
		}
		w.u8(itemEvent)
		at := len(w.b)
		w.u32(0)
		if err := w.event(r.events[i]); err != nil {
			return nil, nil, err
		}
		binary.BigEndian.PutUint32(w.b[at:], uint32(len(w.b)-at-4))
	}
	return w.b, l, nil
}

// ofAccount tells whether a transaction is an account's, and not its node's own record.
func ofAccount(t *ledger.TxDone) bool {
	return !t.Sender.IsZero() && t.Type != ledger.TypeConnection && t.Type != ledger.TypeAcceptAccount
}

func isDeposit(e ledger.Event) bool { _, ok := e.(ledger.Deposited); return ok }

func allFrom(deposits []ledger.Event, sender types.AccountID) bool {
	for _, e := range deposits {
		if e.(ledger.Deposited).From != sender {
			return false
		}
	}
	return true
}

func (w *writer) txItem(r *blockRecord, t ledger.TxDone, deposits []ledger.Event, l *recordLinks, start int) {
	at := len(w.b)
	flags := uint8(0)
	for _, e := range deposits {
		if !e.(ledger.Deposited).Message.IsZero() {
			flags = flagMessages
		}
	}
	w.u8(itemTx)
	w.u8(flags)
	w.u8(t.Type)
	w.raw(t.ID[:])
	w.place(t.Place)
	w.account(t.Sender)
	w.u32(t.Msid)
	w.u32(t.Code)
	w.u32(uint32(r.Height))
	w.u32(uint32(r.Time))
	w.u64(0)
	text := t.Text[:min(len(t.Text), maxText)]
	w.u16(uint16(len(text)))
	w.u32(uint32(len(deposits)))
	w.raw([]byte(text))
	l.ids = append(l.ids, idAt{idPrefix(t.ID), uint64(at - start)})
	if ofAccount(&t) {
		l.entries = append(l.entries, entry{t.Sender, at - start, at - start + txItemLink, false})
	}
	size := rowSize
	if flags&flagMessages != 0 {
		size += messageSize
	}
	row := len(w.b)
	w.b = append(w.b, make([]byte, size*len(deposits))...)
	for _, e := range deposits {
		d := e.(ledger.Deposited)
		b := w.b[row : row+size]
		binary.BigEndian.PutUint32(b, uint32(row-at))
		binary.BigEndian.PutUint16(b[4:], d.To.Node)
		binary.BigEndian.PutUint32(b[6:], d.To.User)
		binary.BigEndian.PutUint64(b[10:], uint64(d.Amount))
		copy(b[rowSize:], d.Message[:]) // where there is room for messages
		l.entries = append(l.entries, entry{d.To, row - start, row - start + rowLink, true})
		row += size
	}
}

// maxText bounds the sentence of a refusal that is kept; the longest of the rules has some 200 bytes.
const maxText = 1 << 12

func (w *writer) depositItem(r *blockRecord, d ledger.Deposited, l *recordLinks, start int) {
	at := len(w.b)
	w.u8(itemDeposit)
	w.u32(uint32(r.Height))
	w.u32(uint32(r.Time))
	w.account(d.From)
	w.account(d.To)
	w.u64(uint64(d.Amount))
	w.raw(d.Message[:])
	w.u64(0)
	l.entries = append(l.entries, entry{d.To, at - start, at - start + depositLink, false})
}

// decodeHead reads a record's head; d is left at its parts.
func (d *reader) recordHead() (*blockRecord, error) {
	if v := d.u8(); v != recordVersion {
		return nil, fmt.Errorf("%w: version %d, want %d", errRecord, v, recordVersion)
	}
	r := &blockRecord{}
	r.Height = types.Height(d.u32())
	r.nanos = int64(d.u64())
	r.Time = types.Time(floorDiv(r.nanos, 1e9))
	r.Hash, r.AppHash = d.hash(), d.hash()
	r.txs, r.refused, r.bytes = d.u32(), d.u32(), d.u64()
	if d.bad {
		return nil, errRecord
	}
	return r, nil
}

// interest says whether an account's transactions and deposits are wanted; nil wants all.
type interest func(types.AccountID) bool

// decodeRecord reads a record that encodeRecord wrote, and nothing else. Transactions and deposits of accounts that are of no interest
// are passed over. links, when it is not nil, gets what the record's links are for.
func decodeRecord(b []byte, wanted interest, links *recordLinks) (*blockRecord, error) {
	d := &reader{b: b}
	r, err := d.recordHead()
	if err != nil {
		return nil, err
	}
	for i := range r.parts {
		r.parts[i] = d.hash()
	}
	r.roots = make([]types.Hash, d.count(32))
	for i := range r.roots {
		r.roots[i] = d.hash()
	}
	events := int(d.u32())
	if events > len(d.b) { // at least one byte each
		return nil, errRecord
	}
	if wanted == nil {
		r.events = make([]ledger.Event, 0, events)
	}
	read := 0
	for len(d.b) > 0 && !d.bad {
		read += d.item(r, wanted, links, len(b)-len(d.b))
	}
	if d.bad || read != events {
		return nil, errRecord
	}
	return r, nil
}

// item reads one item and returns how many events it is.
func (d *reader) item(r *blockRecord, wanted interest, links *recordLinks, at int) int {
	switch kind := d.u8(); kind {
	case itemTx:
		return d.txItem(r, wanted, links, at)
	case itemDeposit:
		if types.Height(d.u32()) != r.Height || d.u32() != uint32(r.Time) {
			d.bad = true
		}
		e := ledger.Deposited{From: d.account(), To: d.account(), Amount: types.Amount(d.u64()), Message: d.hash()}
		d.u64()
		if wanted == nil || wanted(e.To) || wanted(e.From) {
			r.events = append(r.events, e)
		}
		if links != nil {
			links.entries = append(links.entries, entry{e.To, at, at + depositLink, false})
		}
	case itemEvent:
		one := reader{b: d.take(d.count(1))}
		e := one.event()
		d.bad = d.bad || one.bad || len(one.b) > 0
		r.events = append(r.events, e)
	default:
		d.bad = true
	}
	return 1
}

func (d *reader) txItem(r *blockRecord, wanted interest, links *recordLinks, at int) int {
	flags := d.u8()
	t := ledger.TxDone{Type: d.u8(), ID: d.hash(), Place: d.place(), Sender: d.account(), Msid: d.u32(), Code: d.u32()}
	if types.Height(d.u32()) != r.Height || d.u32() != uint32(r.Time) || flags > flagMessages {
		d.bad = true
	}
	d.u64()
	textLen, rows := int(d.u16()), int64(d.u32())
	text := d.take(textLen)
	size := int64(rowSize)
	if flags&flagMessages != 0 {
		size += messageSize
	}
	if d.bad || textLen > maxText || rows*size > int64(len(d.b)) {
		d.bad = true
		return 0
	}
	if links != nil {
		links.ids = append(links.ids, idAt{idPrefix(t.ID), uint64(at)})
		if ofAccount(&t) {
			links.entries = append(links.entries, entry{t.Sender, at, at + txItemLink, false})
		}
	}
	mine := wanted == nil || wanted(t.Sender)
	offset := txItem + textLen
	messages := false
	for range rows {
		row := d.take(int(size))
		if int(binary.BigEndian.Uint32(row)) != offset {
			d.bad = true
			return 0
		}
		to := types.AccountID{Node: binary.BigEndian.Uint16(row[4:]), User: binary.BigEndian.Uint32(row[6:])}
		if links != nil {
			links.entries = append(links.entries, entry{to, at + offset, at + offset + rowLink, true})
		}
		offset += int(size)
		e := ledger.Deposited{From: t.Sender, To: to, Amount: types.Amount(binary.BigEndian.Uint64(row[10:]))}
		if flags&flagMessages != 0 {
			e.Message = types.Hash(row[rowSize:])
			messages = messages || !e.Message.IsZero()
		}
		if mine || wanted(to) {
			r.events = append(r.events, e)
		}
	}
	if flags&flagMessages != 0 && !messages {
		d.bad = true
	}
	if mine {
		t.Text = string(text)
		r.events = append(r.events, t)
	}
	return int(rows) + 1
}
