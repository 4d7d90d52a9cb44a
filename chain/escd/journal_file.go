package escd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

// The journal's records stand one after the other in a row of files; a position counts bytes through all of them. Each record has
// length(4) and CRC-32C(4) before it. The newest entry of each account is kept in memory, and in a checkpoint that flush writes; what
// was put after it is read again at the start.
const (
	journalDir = "journal"
	// journalFileBytes is when a new file is begun: pruning removes whole files.
	journalFileBytes = 128 << 20
	// recordFrame is what stands before each record.
	recordFrame = 8
	// maxRecord bounds a record: a block of send_many, whose targets take 26 bytes here instead of 14 there, and some more.
	maxRecord = 1 << 30
	// firstPosition is that of the first record: positions are never zero, so that a link can be.
	firstPosition = 8
)

// journalFiles is the append-only part of the journal. Safe for concurrent use, one writer.
type journalFiles struct {
	dir string

	mu sync.RWMutex
	// starts are the positions at which the files begin; end is where the next record goes, last the height of the one before.
	starts []int64
	end    int64
	last   types.Height
	file   *os.File // the last one
	buf    []byte   // of put
	// heads[node-1][user] is the link of the account's newest entry.
	heads [][]uint64
	// fresh are the transactions of blocks that are in no run yet, in order.
	fresh []freshBlock
	runs  []*indexRun

	flushing sync.Mutex // one flush at a time
}

// noteRecord makes a record findable that was put at a position. Its transactions and deposits may not be in r.
type noteRecord func(r *blockRecord, at int64, size int) error

// freshBlock is the index of one block's transactions, sorted.
type freshBlock struct {
	height types.Height
	ids    []idAt
}

func (f *journalFiles) name(start int64) string {
	return filepath.Join(f.dir, fmt.Sprintf("%016x.log", start))
}

// openFiles reads the checkpoint and what follows it; seen is called with each record that was not in the checkpoint.
func openFiles(home string, seen noteRecord) (_ *journalFiles, err error) {
	f := &journalFiles{dir: filepath.Join(home, journalDir), end: firstPosition}
	if err := os.MkdirAll(f.dir, 0o700); err != nil {
		return nil, err
	}
	names, err := filepath.Glob(filepath.Join(f.dir, "*.log"))
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		var start int64
		if _, err := fmt.Sscanf(filepath.Base(name), "%016x.log", &start); err != nil {
			return nil, fmt.Errorf("%s is not one of the journal's files", name)
		}
		f.starts = append(f.starts, start)
	}
	slices.Sort(f.starts)
	if len(f.starts) > 0 {
		f.end = f.starts[0]
	}
	covered, err := f.readIndex()
	if err != nil {
		return nil, err
	}
	if c, err := readCheckpoint(f.dir); err == nil && (c.end == f.end || f.fileOf(c.end-1) >= 0) {
		f.end, f.last, f.heads = c.end, c.last, c.heads
	} else if err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, errRecord) {
		return nil, err
	}
	if covered < f.last { // the index is missing: all is read again
		f.dropRuns()
		covered = 0
		f.end, f.last, f.heads = firstPosition, 0, nil
		if len(f.starts) > 0 {
			f.end = f.starts[0]
		}
	}
	if err := f.replay(covered, seen); err != nil {
		return nil, err
	}
	return f, f.openLast()
}

// fileOf is the index of the file that holds a position, -1 when none does.
func (f *journalFiles) fileOf(at int64) int {
	i, exact := slices.BinarySearch(f.starts, at)
	if !exact {
		i--
	}
	return i
}

// replay goes through the records after the checkpoint, and cuts off what a crash has left of one.
func (f *journalFiles) replay(covered types.Height, seen noteRecord) error {
	for i := max(f.fileOf(f.end), 0); i < len(f.starts); i++ {
		whole, err := f.replayFile(i, covered, seen)
		if err != nil {
			return err
		}
		if whole && (i+1 == len(f.starts) || f.starts[i+1] == f.end) {
			continue
		}
		for _, start := range f.starts[i+1:] {
			if err := os.Remove(f.name(start)); err != nil {
				return err
			}
		}
		f.starts = f.starts[:i+1]
		return os.Truncate(f.name(f.starts[i]), f.end-f.starts[i])
	}
	return nil
}

func (f *journalFiles) replayFile(i int, covered types.Height, seen noteRecord) (whole bool, err error) {
	file, err := os.Open(f.name(f.starts[i]))
	if err != nil {
		return false, err
	}
	defer file.Close()
	st, err := file.Stat()
	if err != nil {
		return false, err
	}
	size := f.starts[i] + st.Size()
	if size < f.end {
		return false, fmt.Errorf("%w: %s is shorter than it was; stop the daemon and remove %s to have it written again", errRecord, file.Name(), f.dir)
	}
	for f.end < size {
		raw, err := readFramed(file, f.end-f.starts[i], st.Size())
		if err != nil {
			return false, nil // cut off here
		}
		var l recordLinks
		r, err := decodeRecord(raw, func(types.AccountID) bool { return false }, &l)
		if err != nil || r.Height <= f.last {
			return false, nil
		}
		if err := seen(r, f.end, len(raw)); err != nil {
			return false, err
		}
		f.follow(raw, &l, f.end+recordFrame, false)
		if r.Height > covered {
			f.index(r.Height, f.end+recordFrame, l.ids)
		}
		f.end += recordFrame + int64(len(raw))
		f.last = r.Height
	}
	return true, nil
}

// readFramed reads the record whose frame is at an offset of a file; errRecord when it is damaged or cut off.
func readFramed(file io.ReaderAt, at, size int64) ([]byte, error) {
	var head [recordFrame]byte
	if _, err := file.ReadAt(head[:], at); err != nil {
		return nil, fmt.Errorf("%w: %w", errRecord, err)
	}
	n := int64(binary.BigEndian.Uint32(head[:]))
	if n > maxRecord || at+recordFrame+n > size {
		return nil, fmt.Errorf("%w: a record of %d bytes", errRecord, n)
	}
	raw := make([]byte, n)
	if _, err := file.ReadAt(raw, at+recordFrame); err != nil {
		return nil, fmt.Errorf("%w: %w", errRecord, err)
	}
	if crc32.Checksum(raw, castagnoli) != binary.BigEndian.Uint32(head[4:]) {
		return nil, fmt.Errorf("%w: checksum", errRecord)
	}
	return raw, nil
}

func (f *journalFiles) openLast() error {
	if len(f.starts) == 0 {
		return f.begin()
	}
	var err error
	f.file, err = os.OpenFile(f.name(f.starts[len(f.starts)-1]), os.O_RDWR, 0o600)
	return err
}

// begin starts a new file at the end.
func (f *journalFiles) begin() error {
	file, err := os.OpenFile(f.name(f.end), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if f.file != nil { // flush looks at the last file only
		if err := errors.Join(syncData(f.file), f.file.Close()); err != nil {
			file.Close()
			return err
		}
	}
	f.file, f.starts = file, append(f.starts, f.end)
	return syncDir(f.dir)
}

// head is where an account's newest link is kept.
func (f *journalFiles) head(id types.AccountID) *uint64 {
	if int(id.Node) >= len(f.heads) {
		f.heads = append(f.heads, make([][]uint64, int(id.Node)+1-len(f.heads))...)
	}
	users := f.heads[id.Node]
	if int(id.User) >= len(users) {
		users = append(users, make([]uint64, int(id.User)+1-len(users))...)
		f.heads[id.Node] = users
	}
	return &users[id.User]
}

// follow moves the accounts' newest entries on; write puts the ones before into the record's links.
func (f *journalFiles) follow(raw []byte, l *recordLinks, at int64, write bool) {
	for i := range l.entries {
		e := &l.entries[i]
		if int(e.account.User) >= ledger.MaxAccounts {
			continue // of a refused transaction: there is no such account
		}
		head := f.head(e.account)
		if write {
			binary.BigEndian.PutUint64(raw[e.link:], *head)
		}
		*head = uint64(at+int64(e.at)) << 1
		if e.row {
			*head |= 1
		}
	}
}

// index adds a block's transactions to those that can be found.
func (f *journalFiles) index(h types.Height, at int64, ids []idAt) {
	if len(ids) == 0 {
		return
	}
	for i := range ids {
		ids[i].at += uint64(at)
	}
	sortIDs(ids)
	f.fresh = append(f.fresh, freshBlock{h, ids})
}

// put appends a block's record; one that is there already stays as it is, because blocks that are replayed do the same again.
// note is called with its position and size before anything else happens.
func (f *journalFiles) put(r *blockRecord, note noteRecord) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r.Height <= f.last {
		return nil
	}
	if f.end-f.starts[len(f.starts)-1] > journalFileBytes {
		if err := f.begin(); err != nil {
			return err
		}
	}
	buf, l, err := encodeRecord(append(f.buf[:0], make([]byte, recordFrame)...), r)
	if err != nil {
		return err
	}
	return f.append(buf, buf[recordFrame:], l, r, note)
}

func (f *journalFiles) append(buf, raw []byte, l *recordLinks, r *blockRecord, note noteRecord) error {
	if len(raw) > maxRecord {
		return fmt.Errorf("the record of block %d has %d bytes: at most %d", r.Height, len(raw), maxRecord)
	}
	at := f.end
	f.follow(raw, l, at+recordFrame, true)
	binary.BigEndian.PutUint32(buf, uint32(len(raw)))
	binary.BigEndian.PutUint32(buf[4:], crc32.Checksum(raw, castagnoli))
	if _, err := f.file.WriteAt(buf, at-f.starts[len(f.starts)-1]); err != nil {
		return err // the node halts: what is in memory goes with it
	}
	f.index(r.Height, at+recordFrame, l.ids)
	f.end, f.last = at+int64(len(buf)), r.Height
	f.buf = nil
	if cap(buf) <= 2*maxBlockBytes {
		f.buf = buf
	}
	return note(r, at, len(raw))
}

// read reads bytes at a position, fewer at the end of a file.
func (f *journalFiles) read(at int64, b []byte) (int, error) {
	f.mu.RLock()
	i := f.fileOf(at)
	if i < 0 || at >= f.end {
		f.mu.RUnlock()
		return 0, fmt.Errorf("%w: nothing at position %d", errRecord, at)
	}
	start, last, file := f.starts[i], i == len(f.starts)-1, f.file
	if last {
		defer f.mu.RUnlock() // put may close it for the next one
		n, err := file.ReadAt(b, at-start)
		return n, eofIsFine(n, err)
	}
	f.mu.RUnlock()
	old, err := os.Open(f.name(start))
	if err != nil {
		return 0, err
	}
	defer old.Close()
	n, err := old.ReadAt(b, at-start)
	return n, eofIsFine(n, err)
}

func eofIsFine(n int, err error) error {
	if n > 0 && errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// record reads and checks a whole record.
func (f *journalFiles) record(at int64, size int) ([]byte, error) {
	b := make([]byte, recordFrame+size)
	n, err := f.read(at, b)
	if err != nil {
		return nil, err
	}
	raw := b[recordFrame:]
	if n < len(b) || int(binary.BigEndian.Uint32(b)) != size || binary.BigEndian.Uint32(b[4:]) != crc32.Checksum(raw, castagnoli) {
		return nil, fmt.Errorf("%w: at position %d", errRecord, at)
	}
	return raw, nil
}

// flush makes everything put so far durable; before is called before the next start relies on it.
func (f *journalFiles) flush(before func() error) error {
	f.flushing.Lock()
	defer f.flushing.Unlock()
	f.mu.Lock()
	c := checkpoint{end: f.end, last: f.last, heads: make([][]uint64, len(f.heads))}
	for i, users := range f.heads {
		c.heads[i] = slices.Clone(users)
	}
	fresh, file := slices.Clone(f.fresh), f.file
	f.mu.Unlock()
	if err := syncData(file); err != nil && !errors.Is(err, os.ErrClosed) { // closed: synced by begin
		return err
	}
	if err := f.addRun(fresh, c.last); err != nil {
		return err
	}
	if err := before(); err != nil {
		return err
	}
	return c.write(f.dir)
}

// forget removes the files whose records are all before a position, and the runs of blocks before the first that is kept.
func (f *journalFiles) forget(before int64, first types.Height) error {
	f.flushing.Lock()
	defer f.flushing.Unlock()
	f.mu.Lock()
	var gone []string
	for len(f.starts) > 1 && f.starts[1] <= before {
		gone = append(gone, f.name(f.starts[0]))
		f.starts = f.starts[1:]
	}
	var runs []*indexRun
	for len(f.runs) > 1 && f.runs[0].to < first {
		runs = append(runs, f.runs[0])
		f.runs = f.runs[1:]
	}
	f.mu.Unlock()
	var errs []error
	for _, r := range runs {
		errs = append(errs, r.remove())
	}
	for _, name := range gone {
		errs = append(errs, os.Remove(name))
	}
	return errors.Join(errs...)
}

func (f *journalFiles) close() error {
	f.flushing.Lock()
	defer f.flushing.Unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	errs := []error{f.file.Close()}
	for _, r := range f.runs {
		errs = append(errs, r.file.Close())
	}
	return errors.Join(errs...)
}
