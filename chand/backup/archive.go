package backup

import (
	"bufio"
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/eschaton-network/chand/types"
)

const (
	magic    = "chand backup 1\n"
	idSize   = 16
	headSize = len(magic) + idSize
	// maxRecord bounds a sealed record: the largest group of commits of a store fits.
	maxRecord = 64 << 20
	// chunk is about how many bytes of a snapshot go into one record.
	chunk = 1 << 20
)

// Kinds of records.
const (
	kindSnapshot = 1 // writes of the snapshot
	kindComplete = 2 // the snapshot is complete: time
	kindCommit   = 3 // time, and the writes of some commits, in order
)

var (
	// ErrFormat says that something is no archive.
	ErrFormat = errors.New("not a backup of chand")
	// ErrKey says that an archive is of another seed phrase, or damaged in its first record.
	ErrKey = errors.New("the backup can't be opened with this seed phrase")
	// ErrDamaged says that a record in the middle is not what was written.
	ErrDamaged = errors.New("the backup is damaged")
	// ErrIncomplete says that an archive ends before its snapshot does: it restores nothing.
	ErrIncomplete = errors.New("the backup ends before it is complete")
)

// Writer writes an archive. Not safe for concurrent use.
type Writer struct {
	w    io.Writer
	aead cipher.AEAD
	head []byte
	n    uint64 // number of the next record
	buf  []byte // of a snapshot
	// Bytes is what was written so far.
	Bytes int64
}

func seal(secret [32]byte, id []byte) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, secret[:], id, "chand backup", 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

func nonce(n uint64) []byte { return binary.BigEndian.AppendUint64(make([]byte, 4, 12), n) }

// NewWriter begins an archive. secret is the seed's; entropy gives the id, which must never come twice.
func NewWriter(w io.Writer, secret [32]byte, entropy io.Reader) (*Writer, error) {
	head := append([]byte(magic), make([]byte, idSize)...)
	if _, err := io.ReadFull(entropy, head[len(magic):]); err != nil {
		return nil, fmt.Errorf("no randomness for a backup: %w", err)
	}
	aead, err := seal(secret, head[len(magic):])
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(head); err != nil {
		return nil, err
	}
	return &Writer{w: w, aead: aead, head: head, Bytes: int64(headSize)}, nil
}

func (w *Writer) record(plain []byte) error {
	if len(plain)+w.aead.Overhead() > maxRecord {
		return fmt.Errorf("a record of %d bytes: at most %d", len(plain), maxRecord)
	}
	out := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(plain)+w.aead.Overhead()), uint32(len(plain)+w.aead.Overhead()))
	out = w.aead.Seal(out, nonce(w.n), plain, w.head)
	w.n++
	w.Bytes += int64(len(out))
	_, err := w.w.Write(out)
	return err
}

// Snapshot adds a value to the snapshot.
func (w *Writer) Snapshot(x types.Write) error {
	if len(w.buf) == 0 {
		w.buf = append(w.buf, kindSnapshot)
	}
	if w.buf = appendWrite(w.buf, x); len(w.buf) < chunk {
		return nil
	}
	return w.flush()
}

func (w *Writer) flush() error {
	if len(w.buf) == 0 {
		return nil
	}
	err := w.record(w.buf)
	w.buf = w.buf[:0]
	return err
}

// Complete ends the snapshot.
func (w *Writer) Complete(now types.Time) error {
	if err := w.flush(); err != nil {
		return err
	}
	return w.record(appendTime([]byte{kindComplete}, now))
}

// Commit adds what was committed after the snapshot began, in order.
func (w *Writer) Commit(now types.Time, writes []types.Write) error {
	b := appendTime([]byte{kindCommit}, now)
	for _, x := range writes {
		b = appendWrite(b, x)
	}
	return w.record(b)
}

func appendTime(b []byte, t types.Time) []byte { return binary.BigEndian.AppendUint64(b, uint64(t)) }

func appendWrite(b []byte, x types.Write) []byte {
	b = append(append(b, byte(len(x.Bucket))), x.Bucket...)
	b = append(binary.BigEndian.AppendUint16(b, uint16(len(x.Key))), x.Key...)
	if x.Value == nil {
		return append(b, 0)
	}
	return append(binary.BigEndian.AppendUint32(append(b, 1), uint32(len(x.Value))), x.Value...)
}

// Summary is what Read has found.
type Summary struct {
	// Time of the newest complete record. Commits counts the records after the snapshot.
	Time    types.Time
	Commits int
	Writes  int
	// Torn: the archive ends in the middle of a record, as after a crash; what comes before is whole.
	Torn bool
}

// Read opens an archive and calls fn for its writes, in order. fn may keep them. Errors: ErrFormat, ErrKey, ErrDamaged, ErrIncomplete, or fn's.
func Read(r io.Reader, secret [32]byte, fn func([]types.Write) error) (s Summary, err error) {
	in := bufio.NewReaderSize(r, 1<<20)
	head := make([]byte, headSize)
	if _, err := io.ReadFull(in, head); err != nil || string(head[:len(magic)]) != magic {
		return s, ErrFormat
	}
	aead, err := seal(secret, head[len(magic):])
	if err != nil {
		return s, err
	}
	complete := false
	for n := uint64(0); ; n++ {
		plain, err := next(in, aead, head, n)
		switch {
		case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
			s.Torn = errors.Is(err, io.ErrUnexpectedEOF)
			if !complete {
				return s, fmt.Errorf("%w: after %d records", ErrIncomplete, n)
			}
			return s, nil
		case err != nil:
			return s, err
		}
		if err := s.take(plain, &complete, fn); err != nil {
			return s, fmt.Errorf("record %d: %w", n, err)
		}
	}
}

// next reads and opens one record. It allocates what is there, not what a length promises.
func next(in *bufio.Reader, aead cipher.AEAD, head []byte, n uint64) ([]byte, error) {
	var size [4]byte
	if _, err := io.ReadFull(in, size[:]); err != nil {
		return nil, err
	}
	length := binary.BigEndian.Uint32(size[:])
	if length > maxRecord {
		return nil, fmt.Errorf("%w: record %d says that it has %d bytes", ErrDamaged, n, length)
	}
	var sealed bytes.Buffer
	if got, err := io.CopyN(&sealed, in, int64(length)); err != nil {
		if errors.Is(err, io.EOF) && got < int64(length) {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	plain, err := aead.Open(nil, nonce(n), sealed.Bytes(), head)
	switch {
	case err != nil && n == 0:
		return nil, ErrKey
	case err != nil:
		return nil, fmt.Errorf("%w: record %d is not what was written; all before it is whole", ErrDamaged, n)
	}
	return plain, nil
}

func (s *Summary) take(b []byte, complete *bool, fn func([]types.Write) error) error {
	kind := byte(0)
	if len(b) > 0 {
		kind, b = b[0], b[1:]
	}
	switch {
	case kind == kindSnapshot && !*complete:
	case kind == kindComplete && !*complete && len(b) == 8, kind == kindCommit && *complete && len(b) >= 8:
		s.Time = types.Time(binary.BigEndian.Uint64(b))
		b = b[8:]
		if *complete {
			s.Commits++
		}
		*complete = true
	default:
		return fmt.Errorf("%w: a record of kind %d where none belongs", ErrDamaged, kind)
	}
	var writes []types.Write
	for len(b) > 0 {
		x, rest, ok := cutWrite(b)
		if !ok {
			return fmt.Errorf("%w: a write is cut off", ErrDamaged)
		}
		writes, b = append(writes, x), rest
	}
	s.Writes += len(writes)
	if len(writes) == 0 {
		return nil
	}
	return fn(writes)
}

func cutWrite(b []byte) (x types.Write, rest []byte, ok bool) {
	take := func(n int) (v []byte) {
		if n > len(b) || !ok {
			ok = false
			return nil
		}
		v, b = b[:n], b[n:]
		return v
	}
	number := func(n int) (v int) {
		for _, c := range take(n) {
			v = v<<8 | int(c)
		}
		return v
	}
	ok = true
	x.Bucket = string(take(number(1)))
	x.Key = string(take(number(2)))
	switch number(1) {
	case 0:
	case 1:
		x.Value = append([]byte{}, take(number(4))...)
	default:
		ok = false
	}
	return x, b, ok
}
