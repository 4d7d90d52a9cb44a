package escd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

// The desk's log holds what this node has promised: transactions with their places, and messages that were signed. Everything is
// durable here before anybody is told of it. It is a row of append-only files; one goes when the ledger has all its messages.
//
// A record is length(4) CRC-32C(4) kind(1) body; integers big-endian. The length counts kind and body.
const (
	deskDir = "office"
	// deskOpened starts each file: genesis hash(32), the node's key(32).
	deskOpened = 'o'
	// deskAdmitted: msid(4) first position(4) deadline(4), each transaction behind its length(4).
	deskAdmitted = 'a'
	// deskSigned: msid(4) time(4) number of transactions(4) signature(64). The message's transactions stand before it.
	deskSigned = 's'

	// deskFileBytes is when a new file is begun: some messages each, so that what is done with goes soon.
	deskFileBytes = 32 << 20
	// maxDeskRecord bounds a record: the transactions of one message, with a length each.
	maxDeskRecord = 2*ledger.MaxMessage + 64
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errDeskLog says that the log is not what this program wrote.
var errDeskLog = errors.New("the office's log is damaged")

// promised are transactions in a row in one message.
type promised struct {
	msid, first uint32
	deadline    types.Height
	txs         [][]byte
}

// signed is a signed message without its transactions.
type signed struct {
	msid, time, count uint32
	signature         [64]byte
}

// deskLog appends records and makes them durable, many with one flush.
type deskLog struct {
	dir    string
	header []byte

	mu      sync.Mutex
	buf     []byte
	top     uint32 // highest message number in buf
	then    []func(error)
	wake    chan struct{}
	failed  error
	stopped bool

	// files, the last one open; used by run, and by done under mu.
	files []deskFile
	file  *os.File
	over  chan struct{}
}

// deskFile is one file; top is the highest message number in it.
type deskFile struct {
	name string
	size int64
	top  uint32
}

// openDeskLog reads the log and starts to write a new file of it.
func openDeskLog(home string, genesis, key types.Hash) (*deskLog, []promised, []signed, error) {
	l := &deskLog{dir: filepath.Join(home, deskDir), wake: make(chan struct{}, 1), over: make(chan struct{})}
	l.header = append(append([]byte{deskOpened}, genesis[:]...), key[:]...)
	if err := os.MkdirAll(l.dir, 0o700); err != nil {
		return nil, nil, nil, err
	}
	names, err := filepath.Glob(filepath.Join(l.dir, "*.log"))
	if err != nil {
		return nil, nil, nil, err
	}
	slices.Sort(names)
	var p []promised
	var s []signed
	next := 1
	for i, name := range names {
		if _, err := fmt.Sscanf(strings.TrimSuffix(filepath.Base(name), ".log"), "%08d", &next); err != nil {
			return nil, nil, nil, fmt.Errorf("%w: %s is not one of its files", errDeskLog, name)
		}
		next++
		f, err := l.read(name, i == len(names)-1, &p, &s)
		if err != nil {
			return nil, nil, nil, err
		}
		l.files = append(l.files, f)
	}
	if err := l.begin(next); err != nil {
		return nil, nil, nil, err
	}
	go l.run()
	return l, p, s, nil
}

// read reads one file. What a crash has cut off at the end of the last one was promised to nobody and is removed.
func (l *deskLog) read(name string, last bool, p *[]promised, s *[]signed) (deskFile, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return deskFile{}, err
	}
	f := deskFile{name: name, size: int64(len(b))}
	rest := b
	for first := true; len(rest) > 0; first = false {
		body, after, ok := nextRecord(rest)
		if !ok {
			break
		}
		if first && string(body) != string(l.header) {
			return f, fmt.Errorf("%w: %s is of another ledger or another node key", errDeskLog, name)
		}
		top, err := readDeskRecord(body, p, s)
		if err != nil {
			return f, fmt.Errorf("%s: %w", name, err)
		}
		f.top = max(f.top, top)
		rest = after
	}
	if len(rest) > 0 {
		if !last {
			return f, fmt.Errorf("%w: %s ends in the middle of a record, and others follow", errDeskLog, name)
		}
		f.size -= int64(len(rest))
		return f, os.Truncate(name, f.size)
	}
	return f, nil
}

// nextRecord splits off a record's kind and body.
func nextRecord(b []byte) (body, rest []byte, ok bool) {
	if len(b) < 9 {
		return nil, nil, false
	}
	n := binary.BigEndian.Uint32(b)
	if n == 0 || n > maxDeskRecord || int(n) > len(b)-8 {
		return nil, nil, false
	}
	body, rest = b[8:8+n], b[8+n:]
	return body, rest, crc32.Checksum(body, castagnoli) == binary.BigEndian.Uint32(b[4:])
}

// readDeskRecord adds what a record says; top is the number of the message that it is about. The transactions share b.
func readDeskRecord(b []byte, p *[]promised, s *[]signed) (top uint32, err error) {
	d := reader{b: b}
	switch kind := d.u8(); kind {
	case deskOpened:
		d.take(64)
	case deskAdmitted:
		r := promised{msid: d.u32(), first: d.u32(), deadline: types.Height(d.u32())}
		for len(d.b) > 0 {
			r.txs = append(r.txs, d.take(d.count(1)))
		}
		if d.bad || len(r.txs) == 0 || r.msid == 0 || r.first == 0 || len(r.txs) > ledger.MaxMessageTxs {
			return 0, fmt.Errorf("%w: transactions for message %d from position %d", errDeskLog, r.msid, r.first)
		}
		*p, top = append(*p, r), r.msid
	case deskSigned:
		r := signed{msid: d.u32(), time: d.u32(), count: d.u32(), signature: [64]byte(d.take(64))}
		*s, top = append(*s, r), r.msid
	default:
		d.bad = true
	}
	if d.bad || len(d.b) > 0 {
		return 0, fmt.Errorf("%w: a record of kind %d", errDeskLog, b[0])
	}
	return top, nil
}

// begin opens a new file.
func (l *deskLog) begin(number int) error {
	name := filepath.Join(l.dir, fmt.Sprintf("%08d.log", number))
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	head := frame(nil, func(b []byte) []byte { return append(b, l.header...) })
	if _, err = f.Write(head); err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = syncDir(l.dir)
	}
	if err != nil {
		f.Close()
		return err
	}
	if l.file != nil {
		l.file.Close() // everything in it is durable
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.file, l.files = f, append(l.files, deskFile{name: name, size: int64(len(head))})
	return nil
}

// frame appends a record.
func frame(b []byte, body func([]byte) []byte) []byte {
	at := len(b)
	b = body(append(b, make([]byte, 8)...))
	binary.BigEndian.PutUint32(b[at:], uint32(len(b)-at-8))
	binary.BigEndian.PutUint32(b[at+4:], crc32.Checksum(b[at+8:], castagnoli))
	return b
}

// add queues a record; then is called when it and all before it are durable, in order, on the log's goroutine.
func (l *deskLog) add(msid uint32, body func([]byte) []byte, then func(error)) {
	l.mu.Lock()
	if l.failed == nil && l.stopped {
		l.failed = errStopped
	}
	if err := l.failed; err != nil {
		l.mu.Unlock()
		then(err)
		return
	}
	l.buf = frame(l.buf, body)
	l.top = max(l.top, msid)
	l.then = append(l.then, then)
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

func (l *deskLog) admitted(r promised, then func(error)) {
	l.add(r.msid, func(b []byte) []byte {
		w := writer{b}
		w.u8(deskAdmitted)
		w.u32(r.msid)
		w.u32(r.first)
		w.u32(uint32(r.deadline))
		for _, tx := range r.txs {
			w.blob(tx)
		}
		return w.b
	}, then)
}

func (l *deskLog) signed(r signed, then func(error)) {
	l.add(r.msid, func(b []byte) []byte {
		w := writer{b}
		w.u8(deskSigned)
		w.u32(r.msid)
		w.u32(r.time)
		w.u32(r.count)
		w.raw(r.signature[:])
		return w.b
	}, then)
}

// run writes what has gathered, flushes once, and tells.
func (l *deskLog) run() {
	defer close(l.over)
	var spare []byte
	for {
		l.mu.Lock()
		buf, then, top, stopped := l.buf, l.then, l.top, l.stopped // top may be of a file before: it only keeps a file longer
		l.buf, l.then = spare[:0], nil
		l.mu.Unlock()
		if len(buf) == 0 {
			if stopped {
				l.file.Close()
				return
			}
			<-l.wake
			continue
		}
		err := l.write(buf, top)
		if err != nil {
			err = fmt.Errorf("the office's log cannot be written: %w", err)
			l.mu.Lock()
			l.failed = err
			then = append(then, l.then...)
			l.buf, l.then = nil, nil
			l.mu.Unlock()
		}
		for _, f := range then {
			f(err)
		}
		spare = nil
		if cap(buf) <= maxSpare {
			spare = buf
		}
		if err != nil {
			l.file.Close()
			return
		}
	}
}

// maxSpare is the largest buffer that is kept for the next round.
const maxSpare = 8 << 20

func (l *deskLog) write(buf []byte, top uint32) error {
	l.mu.Lock()
	last := l.files[len(l.files)-1]
	l.mu.Unlock()
	if last.size > deskFileBytes {
		var number int
		if _, err := fmt.Sscanf(filepath.Base(last.name), "%08d", &number); err != nil {
			return err
		}
		if err := l.begin(number + 1); err != nil {
			return err
		}
	}
	if _, err := l.file.Write(buf); err != nil {
		return err
	}
	l.mu.Lock()
	f := &l.files[len(l.files)-1]
	f.size += int64(len(buf))
	f.top = max(f.top, top)
	l.mu.Unlock()
	return syncData(l.file)
}

// done removes the files with nothing beyond a message that the ledger has.
func (l *deskLog) done(msid uint32) error {
	l.mu.Lock()
	var names []string
	for len(l.files) > 1 && l.files[0].top <= msid {
		names = append(names, l.files[0].name)
		l.files = slices.Delete(l.files, 0, 1)
	}
	l.mu.Unlock()
	var errs []error
	for _, name := range names {
		errs = append(errs, os.Remove(name))
	}
	return errors.Join(errs...)
}

// stop makes durable what was added, and ends.
func (l *deskLog) stop() {
	l.mu.Lock()
	l.stopped = true
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
	<-l.over
}
