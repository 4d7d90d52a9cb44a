package escd

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"sort"

	"github.com/eschaton-network/chand/types"
)

// Transactions are found by the first eight bytes of their ids. A run is a file of such prefixes, sorted, with the positions of the
// items; flush makes one of the blocks since the last, and merges runs of like size, so that there are few: a transaction is
// written some times in all, in long stretches.
//
// A run is entries (prefix(8) position(8)), then every fenceStep-th prefix(8), then the heights from(4) to(4), the number of
// entries(8) and CRC-32C(4) of fence and these.
const (
	indexEntry = 16
	// fenceStep entries are what a search reads: 4 KiB.
	fenceStep = 256
	indexTail = 4 + 4 + 8 + 4
	// mergeRuns runs of like size become one.
	mergeRuns = 8
	// mergeBuffer is what is read of each run at a time while merging.
	mergeBuffer = 1 << 18
)

type indexRun struct {
	file     *os.File
	from, to types.Height // the blocks covered, both included
	n        int64
	fence    []uint64
}

// sortIDs sorts by prefix, equal ones by position. Prefixes are of hashes, so a first pass over the upper bits leaves little to do.
func sortIDs(ids []idAt) {
	const bits = 14
	if len(ids) >= 1<<(bits-3) {
		var at [1<<bits + 1]int32
		for _, e := range ids {
			at[e.prefix>>(64-bits)+1]++
		}
		for i := 1; i < len(at); i++ {
			at[i] += at[i-1]
		}
		out := make([]idAt, len(ids))
		ends := at
		for _, e := range ids {
			b := e.prefix >> (64 - bits)
			out[ends[b]] = e
			ends[b]++
		}
		copy(ids, out)
		for b := range 1 << bits {
			if at[b+1]-at[b] > 1 {
				slices.SortFunc(ids[at[b]:at[b+1]], compareIDs)
			}
		}
		return
	}
	slices.SortFunc(ids, compareIDs)
}

func compareIDs(a, b idAt) int {
	return cmp.Or(cmp.Compare(a.prefix, b.prefix), cmp.Compare(a.at, b.at))
}

func runName(dir string, from, to types.Height) string {
	return filepath.Join(dir, fmt.Sprintf("%08x-%08x.idx", from, to))
}

// readIndex opens the runs and returns the height up to which they are without a gap.
func (f *journalFiles) readIndex() (types.Height, error) {
	names, err := filepath.Glob(filepath.Join(f.dir, "*.idx"))
	if err != nil {
		return 0, err
	}
	for _, name := range names {
		r, err := openRun(name)
		if err != nil { // it is made again
			if err := os.Remove(name); err != nil {
				return 0, err
			}
			continue
		}
		f.runs = append(f.runs, r)
	}
	slices.SortFunc(f.runs, func(a, b *indexRun) int { // the longer one first: it was merged of the others
		if a.from != b.from {
			return int(int64(a.from) - int64(b.from))
		}
		return int(int64(b.to) - int64(a.to))
	})
	covered := types.Height(0)
	kept := f.runs[:0]
	for i, r := range f.runs {
		if i > 0 && r.from != covered+1 { // within another one, or after a gap
			if err := r.remove(); err != nil {
				return 0, err
			}
			continue
		}
		kept, covered = append(kept, r), r.to
	}
	f.runs = kept
	return covered, nil
}

// dropRuns removes all runs.
func (f *journalFiles) dropRuns() {
	for _, r := range f.runs {
		r.remove() // what stays of one is in the way of nothing: the new ones have the same names
	}
	f.runs = nil
}

func (r *indexRun) remove() error { return errors.Join(r.file.Close(), os.Remove(r.file.Name())) }

func openRun(name string) (_ *indexRun, err error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			file.Close()
		}
	}()
	st, err := file.Stat()
	if err != nil {
		return nil, err
	}
	var tail [indexTail]byte
	if _, err := file.ReadAt(tail[:], st.Size()-indexTail); err != nil {
		return nil, fmt.Errorf("%w: %w", errRecord, err)
	}
	d := reader{b: tail[:]}
	r := &indexRun{file: file, from: types.Height(d.u32()), to: types.Height(d.u32()), n: int64(d.u64())}
	fences := (r.n + fenceStep - 1) / fenceStep
	if r.n < 0 || r.n > st.Size()/indexEntry || r.n*indexEntry+fences*8+indexTail != st.Size() || r.from > r.to {
		return nil, fmt.Errorf("%w: %s", errRecord, name)
	}
	b := make([]byte, fences*8+indexTail)
	if _, err := file.ReadAt(b, r.n*indexEntry); err != nil {
		return nil, err
	}
	if crc32.Checksum(b[:len(b)-4], castagnoli) != d.u32() {
		return nil, fmt.Errorf("%w: %s", errRecord, name)
	}
	r.fence = make([]uint64, fences)
	for i := range r.fence {
		r.fence[i] = binary.BigEndian.Uint64(b[8*i:])
	}
	return r, nil
}

// find appends the positions of the transactions whose ids may start with prefix.
func (r *indexRun) find(prefix uint64, out []int64) ([]int64, error) {
	block := max(sort.Search(len(r.fence), func(i int) bool { return r.fence[i] >= prefix })-1, 0)
	buf := make([]byte, fenceStep*indexEntry)
	for ; block < len(r.fence) && r.fence[block] <= prefix; block++ {
		n := min(fenceStep, r.n-int64(block)*fenceStep)
		b := buf[:n*indexEntry]
		if _, err := r.file.ReadAt(b, int64(block)*fenceStep*indexEntry); err != nil {
			return nil, err
		}
		i := sort.Search(int(n), func(i int) bool { return binary.BigEndian.Uint64(b[i*indexEntry:]) >= prefix })
		for ; i < int(n) && binary.BigEndian.Uint64(b[i*indexEntry:]) == prefix; i++ {
			out = append(out, int64(binary.BigEndian.Uint64(b[i*indexEntry+8:])))
		}
	}
	return out, nil
}

// candidates are the positions of transactions whose ids start like this one, oldest first.
func (f *journalFiles) candidates(id types.Hash) (out []int64, err error) {
	prefix := idPrefix(id)
	f.mu.RLock()
	defer f.mu.RUnlock()
	for _, r := range f.runs {
		if out, err = r.find(prefix, out); err != nil {
			return nil, err
		}
	}
	for _, b := range f.fresh {
		i := sort.Search(len(b.ids), func(i int) bool { return b.ids[i].prefix >= prefix })
		for ; i < len(b.ids) && b.ids[i].prefix == prefix; i++ {
			out = append(out, int64(b.ids[i].at))
		}
	}
	return out, nil
}

// runWriter writes a run.
type runWriter struct {
	name  string
	file  *os.File
	buf   []byte
	fence []byte
	n     int64
}

func newRun(dir string, from, to types.Height) (*runWriter, error) {
	name := runName(dir, from, to)
	file, err := os.CreateTemp(dir, filepath.Base(name)+".*.tmp")
	return &runWriter{name: name, file: file}, err
}

func (w *runWriter) add(e idAt) error {
	if w.n%fenceStep == 0 {
		w.fence = binary.BigEndian.AppendUint64(w.fence, e.prefix)
	}
	w.n++
	w.buf = binary.BigEndian.AppendUint64(w.buf, e.prefix)
	w.buf = binary.BigEndian.AppendUint64(w.buf, e.at)
	if len(w.buf) < mergeBuffer {
		return nil
	}
	_, err := w.file.Write(w.buf)
	w.buf = w.buf[:0]
	return err
}

// finish makes the run durable and puts it in its place.
func (w *runWriter) finish(from, to types.Height) (r *indexRun, err error) {
	tail := binary.BigEndian.AppendUint32(w.fence, uint32(from))
	tail = binary.BigEndian.AppendUint32(tail, uint32(to))
	tail = binary.BigEndian.AppendUint64(tail, uint64(w.n))
	tail = binary.BigEndian.AppendUint32(tail, crc32.Checksum(tail, castagnoli))
	if _, err = w.file.Write(append(w.buf, tail...)); err == nil {
		err = w.file.Sync()
	}
	err = errors.Join(err, w.file.Close())
	if err == nil {
		err = os.Rename(w.file.Name(), w.name)
	}
	if err != nil {
		os.Remove(w.file.Name())
		return nil, err
	}
	if err := syncDir(filepath.Dir(w.name)); err != nil {
		return nil, err
	}
	return openRun(w.name)
}

func (w *runWriter) giveUp() {
	w.file.Close()
	os.Remove(w.file.Name())
}

// addRun writes the run of the blocks that have none, up to a height, and merges.
func (f *journalFiles) addRun(fresh []freshBlock, to types.Height) error {
	f.mu.RLock()
	from := types.Height(1)
	if len(f.runs) > 0 {
		from = f.runs[len(f.runs)-1].to + 1
	}
	f.mu.RUnlock()
	if to < from {
		return nil
	}
	var all []idAt
	for _, b := range fresh {
		all = append(all, b.ids...)
	}
	sortIDs(all)
	w, err := newRun(f.dir, from, to)
	if err != nil {
		return err
	}
	for _, e := range all {
		if err := w.add(e); err != nil {
			w.giveUp()
			return err
		}
	}
	r, err := w.finish(from, to)
	if err != nil {
		return err
	}
	f.mu.Lock()
	f.runs = append(f.runs, r)
	f.fresh = slices.DeleteFunc(f.fresh, func(b freshBlock) bool { return b.height <= to })
	f.mu.Unlock()
	for {
		again, err := f.merge()
		if err != nil || !again {
			return err
		}
	}
}

// class is the size of a run on a scale on which mergeRuns of one class make one of the next.
func (r *indexRun) class() (c int) {
	for n := r.n / (16 * fenceStep); n > 0; n /= mergeRuns {
		c++
	}
	return c
}

// merge makes one run of the newest ones when enough of them are no larger than the last ones.
func (f *journalFiles) merge() (merged bool, err error) {
	f.mu.RLock()
	runs := slices.Clone(f.runs)
	oldest := f.starts[0]
	f.mu.RUnlock()
	first := len(runs)
	for class := 0; first > 0 && (runs[first-1].class() <= class || first == len(runs)); first-- {
		class = max(class, runs[first-1].class())
	}
	if len(runs)-first < mergeRuns {
		return false, nil
	}
	group := runs[first:]
	r, err := mergeOf(f.dir, group, oldest)
	if err != nil {
		return false, err
	}
	f.mu.Lock()
	f.runs = append(f.runs[:first:first], r) // only flush changes runs
	f.mu.Unlock()
	var errs []error
	for _, old := range group {
		errs = append(errs, old.remove())
	}
	return true, errors.Join(errs...)
}

// cursor reads a run from its start.
type cursor struct {
	r    *indexRun
	next int64
	buf  []byte
}

func (c *cursor) peek() (e idAt, ok bool, err error) {
	if len(c.buf) == 0 {
		n := min(mergeBuffer/indexEntry, c.r.n-c.next)
		if n == 0 {
			return e, false, nil
		}
		c.buf = make([]byte, n*indexEntry)
		if _, err := c.r.file.ReadAt(c.buf, c.next*indexEntry); err != nil {
			return e, false, err
		}
		c.next += n
	}
	return idAt{binary.BigEndian.Uint64(c.buf), binary.BigEndian.Uint64(c.buf[8:])}, true, nil
}

// mergeOf makes one run of several; what is before the oldest position is no longer kept.
func mergeOf(dir string, runs []*indexRun, oldest int64) (*indexRun, error) {
	from, to := runs[0].from, runs[len(runs)-1].to
	w, err := newRun(dir, from, to)
	if err != nil {
		return nil, err
	}
	cursors := make([]cursor, len(runs))
	for i, r := range runs {
		cursors[i].r = r
	}
	for {
		best := -1
		var least idAt
		for i := range cursors {
			e, ok, err := cursors[i].peek()
			if err != nil {
				w.giveUp()
				return nil, err
			}
			if ok && (best < 0 || e.prefix < least.prefix) { // of equal ones the older comes first
				best, least = i, e
			}
		}
		if best < 0 {
			return w.finish(from, to)
		}
		cursors[best].buf = cursors[best].buf[indexEntry:]
		if int64(least.at) < oldest {
			continue
		}
		if err := w.add(least); err != nil {
			w.giveUp()
			return nil, err
		}
	}
}

// checkpoint is the accounts' newest entries as of a record.
type checkpoint struct {
	end   int64
	last  types.Height
	heads [][]uint64
}

const (
	checkpointFile = "heads"
	// maxCheckpointNodes bounds the nodes in one: their numbers have 16 bits.
	maxCheckpointNodes = 1 << 16
)

// write replaces the checkpoint: end(8) last(4) nodes(4), for each users(4) and their links(8 each), CRC-32C(4).
func (c *checkpoint) write(dir string) error {
	w := writer{}
	w.u64(uint64(c.end))
	w.u32(uint32(c.last))
	w.u32(uint32(len(c.heads)))
	for _, users := range c.heads {
		w.u32(uint32(len(users)))
		w.b = slices.Grow(w.b, 8*len(users))
		for _, link := range users {
			w.u64(link)
		}
	}
	w.u32(crc32.Checksum(w.b, castagnoli))
	return writeBytes(filepath.Join(dir, checkpointFile), w.b)
}

// readCheckpoint returns fs.ErrNotExist when there is none, errRecord when it is damaged.
func readCheckpoint(dir string) (*checkpoint, error) {
	b, err := os.ReadFile(filepath.Join(dir, checkpointFile))
	if err != nil {
		return nil, err
	}
	return decodeCheckpoint(b)
}

func decodeCheckpoint(b []byte) (*checkpoint, error) {
	if len(b) < 4 || crc32.Checksum(b[:len(b)-4], castagnoli) != binary.BigEndian.Uint32(b[len(b)-4:]) {
		return nil, errRecord
	}
	d := reader{b: bytes.TrimSuffix(b, b[len(b)-4:])}
	c := &checkpoint{end: int64(d.u64()), last: types.Height(d.u32())}
	nodes := d.count(4)
	if nodes > maxCheckpointNodes || c.end < 0 {
		return nil, errRecord
	}
	c.heads = make([][]uint64, nodes)
	for i := range c.heads {
		users := make([]uint64, d.count(8))
		for k := range users {
			users[k] = d.u64()
		}
		c.heads[i] = users
	}
	if d.bad || len(d.b) > 0 {
		return nil, errRecord
	}
	return c, nil
}
