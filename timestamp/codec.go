package timestamp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrFormat is wrapped by every error about bytes that are no valid timestamp.
var ErrFormat = errors.New("not a valid OpenTimestamps proof")

const (
	// Magic starts every detached timestamp file.
	Magic = "\x00OpenTimestamps\x00\x00Proof\x00\xbf\x89\xe2\xe8\x84\xe8\x92\x94"
	// Version is the only version of the format.
	Version = 1
	// MaxFile bounds a proof file: room for a score of attestations with full bundles.
	MaxFile = 256 << 10
	// MaxDepth bounds the nodes on a path, the limit of the reference reader.
	MaxDepth = 256
	// maxWork bounds the bytes that the operations of one proof may produce. A usual path makes some 10 kB; without the
	// bound, a file of MaxFile one-byte operations on long messages would cost a gigabyte.
	maxWork = 4 << 20
)

// reader takes bytes from the front of a buffer. Every method fails on truncation.
type reader struct {
	buf  []byte
	pos  int
	work int // bytes that operations may still produce
}

func (r *reader) take(n int) ([]byte, error) {
	if n < 0 || len(r.buf)-r.pos < n {
		return nil, fmt.Errorf("%w: ends after %d bytes, %d more wanted", ErrFormat, len(r.buf), n-(len(r.buf)-r.pos))
	}
	r.pos += n
	return r.buf[r.pos-n : r.pos], nil
}

func (r *reader) byte() (byte, error) {
	b, err := r.take(1)
	if err != nil {
		return 0, err
	}
	return b[0], nil
}

// uvarint reads unsigned LEB128 in its shortest form, the only one that writers make.
func (r *reader) uvarint() (uint64, error) {
	v, n := binary.Uvarint(r.buf[r.pos:])
	if n <= 0 {
		return 0, fmt.Errorf("%w: bad integer at byte %d", ErrFormat, r.pos)
	}
	if n > 1 && r.buf[r.pos+n-1] == 0 {
		return 0, fmt.Errorf("%w: integer at byte %d is not in its shortest form", ErrFormat, r.pos)
	}
	r.pos += n
	return v, nil
}

func (r *reader) bytes(least, most int) ([]byte, error) {
	n, err := r.uvarint()
	if err != nil {
		return nil, err
	}
	if n < uint64(least) || n > uint64(most) {
		return nil, fmt.Errorf("%w: %d bytes where %d..%d are allowed", ErrFormat, n, least, most)
	}
	return r.take(int(n))
}

func (r *reader) end() error {
	if r.pos != len(r.buf) {
		return fmt.Errorf("%w: %d bytes after the end", ErrFormat, len(r.buf)-r.pos)
	}
	return nil
}

func putUvarint(dst []byte, v uint64) []byte { return binary.AppendUvarint(dst, v) }

func putString(dst []byte, s string) []byte { return append(putUvarint(dst, uint64(len(s))), s...) }

// Detached is a proof file: which hash made the file's digest, and the tree that starts at this digest.
type Detached struct {
	// HashOp is OpSHA256 in every file made here; OpSHA1 and OpRIPEMD160 are read as well.
	HashOp byte
	// Stamp starts at the file's digest: Stamp.Msg.
	Stamp *Timestamp
}

// NewDetached makes a proof file for a SHA-256 file digest.
func NewDetached(stamp *Timestamp) Detached { return Detached{HashOp: OpSHA256, Stamp: stamp} }

// Digest is the digest of the file that the proof is about.
func (d Detached) Digest() []byte { return d.Stamp.Msg }

// Encode writes the file, attestations and branches in the order of the reference writer.
func (d Detached) Encode() ([]byte, error) {
	if n := digestLen(d.HashOp); n == 0 || d.Stamp == nil || len(d.Stamp.Msg) != n {
		return nil, fmt.Errorf("%w: digest does not belong to hash operation 0x%02x", ErrFormat, d.HashOp)
	}
	b := append([]byte(Magic), Version, d.HashOp)
	b = append(b, d.Stamp.Msg...)
	b, err := d.Stamp.append(b, MaxDepth)
	if err == nil && len(b) > MaxFile {
		err = fmt.Errorf("%w: file of %d bytes, want at most %d", ErrFormat, len(b), MaxFile)
	}
	return b, err
}

// DecodeDetached reads a proof file of any writer. Refused: truncation, trailing bytes, unknown operations, limits
// exceeded, integers not in their shortest form, malformed attestations of known kinds.
func DecodeDetached(b []byte) (Detached, error) {
	var d Detached
	if len(b) > MaxFile {
		return d, fmt.Errorf("%w: file of %d bytes, want at most %d", ErrFormat, len(b), MaxFile)
	}
	if !bytes.HasPrefix(b, []byte(Magic)) {
		return d, fmt.Errorf("%w: it does not start as an .ots file does", ErrFormat)
	}
	r := &reader{buf: b, pos: len(Magic), work: maxWork}
	v, err := r.uvarint()
	if err != nil {
		return d, err
	}
	if v != Version {
		return d, fmt.Errorf("%w: version %d, only %d is known", ErrFormat, v, Version)
	}
	if d.HashOp, err = r.byte(); err != nil {
		return d, err
	}
	n := digestLen(d.HashOp)
	if n == 0 {
		return d, fmt.Errorf("%w: 0x%02x is no hash for files", ErrFormat, d.HashOp)
	}
	digest, err := r.take(n)
	if err != nil {
		return d, err
	}
	if d.Stamp, err = r.timestamp(bytes.Clone(digest), MaxDepth); err != nil {
		return Detached{}, err
	}
	return d, r.end()
}
