package store

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/eschaton-network/chand/store/internal/limit"
	"github.com/eschaton-network/chand/types"
)

// An archive is a header and frames. A frame is the length of its body and the body's CRC-32C, four bytes big endian each, and the
// body: kind, number of a transaction, writes. First come the parts of a snapshot and its end, all with the number of the last
// transaction in it; after them, if somebody followed the store, the transactions since, one a frame.
const (
	archiveMagic = "chand archive 1\n"
	framePart    = 1
	frameEnd     = 2 // of the snapshot: from here on the archive can be restored
	frameLog     = 3

	frameHead = 8
	// partBytes is when a part of a snapshot is full.
	partBytes = 256 << 10
	// maxFrame bounds a frame: the largest commit with the lengths of its keys and values.
	maxFrame = 2 * limit.MaxCommit
)

// ErrArchive is wrapped when an archive is damaged, cut or something else.
var ErrArchive = errors.New("not a whole archive of a store")

// Transaction is one group commit: all or nothing of it is on disk.
type Transaction struct {
	// Seq counts transactions without gaps, over restarts too.
	Seq uint64
	// Writes in order; a later write to a key wins. nil values delete.
	Writes []types.Write
}

// tail is one who follows.
type tail struct{ fn func(Transaction) }

// Tail calls fn for every transaction from now on, in order, when it is on disk and before its commits return. fn runs on the writer's
// goroutine, so what it does delays all commits; it must not call the Store, and must not keep or change the writes. stop ends
// it; a call may still be under way when stop returns.
//
// A copy that follows: Tail first, then Backup; AppendTransaction to the archive what has a larger number than Backup returned.
func (s *Store) Tail(fn func(Transaction)) (stop func()) {
	t := &tail{fn}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tails = append(s.tails[:len(s.tails):len(s.tails)], t)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		var rest []*tail
		for _, x := range s.tails {
			if x != t {
				rest = append(rest, x)
			}
		}
		s.tails = rest
	}
}

// tell calls those who follow.
func (s *Store) tell(seq uint64, batch []*request) {
	s.mu.Lock()
	tails := s.tails
	s.mu.Unlock()
	if len(tails) == 0 {
		return
	}
	t := Transaction{Seq: seq}
	for _, r := range batch {
		t.Writes = append(t.Writes, r.writes...)
	}
	for _, x := range tails {
		x.fn(t)
	}
}

// Backup writes an archive of the store as of now to w; commits go on meanwhile. It returns the number of the last transaction
// in it and the number of bytes.
//
// A copy of channel state is history, not a way back: a daemon that runs from an old copy may sign what it
// has signed otherwise before.
func (s *Store) Backup(w io.Writer) (seq uint64, n int64, err error) {
	out := &counter{w: w}
	err = s.view(func(db *pebble.DB) error {
		snap := db.NewSnapshot()
		defer snap.Close()
		if seq, err = readNumber(snap, seqKey); err != nil {
			return err
		}
		if _, err := out.Write([]byte(archiveMagic)); err != nil {
			return err
		}
		b := newFrame(nil, framePart, seq)
		err := iterate(snap, nil, nil, func(k, v []byte) error {
			bucket, key, ok := splitKey(k)
			if !ok {
				return fmt.Errorf("key %.40x belongs to no bucket", k)
			}
			if bucket[0] == limit.Reserved {
				return nil
			}
			if len(b) > frameHead && len(b)+len(v) > partBytes { // a large value has a part of its own, as it had a commit
				if _, err := out.Write(closeFrame(b, 0)); err != nil {
					return err
				}
				b = newFrame(b[:0], framePart, seq)
			}
			b = appendWrite(b, string(bucket), string(key), v)
			return nil
		})
		if err != nil {
			return err
		}
		at := len(closeFrame(b, 0))
		_, err = out.Write(closeFrame(newFrame(b, frameEnd, seq), at))
		return err
	})
	if err != nil && !errors.Is(err, ErrClosed) {
		err = fmt.Errorf("back up %s: %w", s.path, err)
	}
	return seq, out.n, err
}

// AppendTransaction appends the bytes that follow an archive, so that Restore goes on to this transaction.
func AppendTransaction(b []byte, t Transaction) []byte {
	at := len(b)
	b = newFrame(b, frameLog, t.Seq)
	for i := range t.Writes {
		b = appendWrite(b, t.Writes[i].Bucket, t.Writes[i].Key, t.Writes[i].Value)
	}
	return closeFrame(b, at)
}

func newFrame(b []byte, kind byte, seq uint64) []byte {
	b = append(b, make([]byte, frameHead)...)
	return binary.AppendUvarint(append(b, kind), seq)
}

// appendWrite puts lengths before their bytes; a value's length is one more, and 0 deletes.
func appendWrite(b []byte, bucket, key string, value []byte) []byte {
	b = append(binary.AppendUvarint(b, uint64(len(bucket))), bucket...)
	b = append(binary.AppendUvarint(b, uint64(len(key))), key...)
	if value == nil {
		return append(b, 0)
	}
	return append(binary.AppendUvarint(b, uint64(len(value))+1), value...)
}

// closeFrame fills in the head of the frame that begins at b[at].
func closeFrame(b []byte, at int) []byte {
	body := b[at+frameHead:]
	binary.BigEndian.PutUint32(b[at:], uint32(len(body)))
	binary.BigEndian.PutUint32(b[at+4:], crc32.Checksum(body, castagnoli))
	return b
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	return n, err
}

// Restore makes a new store at path, where nothing may be, from an archive, and returns the number of the last transaction in it.
// The path appears when the store is whole. ErrArchive: the archive's snapshot is not whole, a frame is damaged, or transactions
// are missing between others. A last transaction that is cut off is left out: who wrote it was interrupted.
func Restore(path string, r io.Reader) (seq uint64, err error) {
	if _, err := os.Lstat(path); err == nil {
		return 0, fmt.Errorf("restore to %s: there is something already: move it away", path)
	}
	temp := path + newSuffix
	if err := os.RemoveAll(temp); err != nil {
		return 0, err
	}
	s, err := Open(temp, Options{})
	if err != nil {
		return 0, err
	}
	seq, err = readArchive(bufio.NewReader(r), func(t Transaction) error { return s.Commit(context.Background(), t.Writes...) })
	if err = errors.Join(err, s.Close()); err != nil {
		return 0, errors.Join(fmt.Errorf("restore to %s: %w", path, err), os.RemoveAll(temp))
	}
	return seq, errors.Join(os.Rename(temp, path), syncDir(vfs.Default, filepath.Dir(path)))
}

// readArchive calls fn for the parts of the snapshot and the transactions after it.
func readArchive(r io.Reader, fn func(Transaction) error) (seq uint64, err error) {
	magic := make([]byte, len(archiveMagic))
	if _, err := io.ReadFull(r, magic); err != nil || string(magic) != archiveMagic {
		return 0, fmt.Errorf("%w: it begins with %.20q", ErrArchive, magic)
	}
	first, whole := true, false
	for {
		kind, t, err := readFrame(r)
		switch {
		case err == io.EOF && whole, errors.Is(err, io.ErrUnexpectedEOF) && whole:
			return seq, nil
		case err == io.EOF, errors.Is(err, io.ErrUnexpectedEOF):
			return 0, fmt.Errorf("%w: it ends within its snapshot", ErrArchive)
		case err != nil:
			return 0, err
		case !whole && kind != framePart && kind != frameEnd, whole && kind != frameLog:
			return 0, fmt.Errorf("%w: a frame of kind %d, snapshot ended: %v", ErrArchive, kind, whole)
		case !whole && !first && t.Seq != seq, whole && t.Seq > seq+1:
			return 0, fmt.Errorf("%w: transaction %d after %d", ErrArchive, t.Seq, seq)
		case whole && t.Seq <= seq: // in the snapshot already
			continue
		}
		if err := fn(t); err != nil {
			return 0, err
		}
		seq, first, whole = t.Seq, false, kind != framePart
	}
}

// readFrame reads one frame. io.EOF: there is none; io.ErrUnexpectedEOF: it is cut off.
func readFrame(r io.Reader) (kind byte, t Transaction, err error) {
	var head [frameHead]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, t, err
	}
	n, sum := binary.BigEndian.Uint32(head[:]), binary.BigEndian.Uint32(head[4:])
	if n > maxFrame {
		return 0, t, fmt.Errorf("%w: a frame of %d bytes", ErrArchive, n)
	}
	var body bytes.Buffer // grows with what comes, not with what the length says
	if m, err := io.CopyN(&body, r, int64(n)); err != nil {
		if m < int64(n) && err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return 0, t, err
	}
	if crc32.Checksum(body.Bytes(), castagnoli) != sum {
		return 0, t, fmt.Errorf("%w: a frame's checksum is wrong", ErrArchive)
	}
	return decodeFrame(body.Bytes())
}

func decodeFrame(b []byte) (kind byte, t Transaction, err error) {
	bad := func() (byte, Transaction, error) {
		return 0, Transaction{}, fmt.Errorf("%w: a frame that makes no sense", ErrArchive)
	}
	if len(b) == 0 {
		return bad()
	}
	kind, b = b[0], b[1:]
	seq, n := binary.Uvarint(b)
	if n <= 0 {
		return bad()
	}
	t.Seq, b = seq, b[n:]
	take := func(less uint64) (v []byte, zero, ok bool) {
		size, n := binary.Uvarint(b)
		if n <= 0 {
			return nil, false, false
		}
		if b = b[n:]; size < less {
			return nil, true, true
		}
		if size -= less; size > uint64(len(b)) {
			return nil, false, false
		}
		v, b = b[:size:size], b[size:]
		return v, false, true
	}
	for len(b) > 0 {
		bucket, _, ok1 := take(0)
		key, _, ok2 := take(0)
		value, deleted, ok3 := take(1)
		if !ok1 || !ok2 || !ok3 {
			return bad()
		}
		if deleted {
			value = nil
		}
		t.Writes = append(t.Writes, types.Write{Bucket: string(bucket), Key: string(key), Value: value})
	}
	return kind, t, nil
}
