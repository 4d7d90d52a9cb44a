package timestamp

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"slices"

	//lint:ignore SA1019 an operation of the format; collisions do not harm a timestamp
	"golang.org/x/crypto/ripemd160"
	"golang.org/x/crypto/sha3"
)

// The operations of OpenTimestamps, by their tag byte (python-opentimestamps, core/op.py).
const (
	OpSHA1      byte = 0x02
	OpRIPEMD160 byte = 0x03
	OpSHA256    byte = 0x08
	OpKeccak256 byte = 0x67
	OpAppend    byte = 0xf0
	OpPrepend   byte = 0xf1
	OpReverse   byte = 0xf2
	OpHexlify   byte = 0xf3
)

// MaxMessage bounds the argument and the result of an operation, as every implementation of the format does. It is also
// why an anchor transaction must not be longer: the whole of it is the message of one step.
const MaxMessage = 4096

// Op is one operation: it turns a message into another. Arg is empty for all but append and prepend.
type Op struct {
	Tag byte
	Arg []byte
}

func (o Op) binary() bool { return o.Tag == OpAppend || o.Tag == OpPrepend }

// String shows the operation as the reference client prints it: "append 00ff", "sha256".
func (o Op) String() string {
	name := map[byte]string{OpSHA1: "sha1", OpRIPEMD160: "ripemd160", OpSHA256: "sha256", OpKeccak256: "keccak256",
		OpAppend: "append", OpPrepend: "prepend", OpReverse: "reverse", OpHexlify: "hexlify"}[o.Tag]
	if name == "" {
		name = fmt.Sprintf("op 0x%02x", o.Tag)
	}
	if o.binary() {
		name += " " + hex.EncodeToString(o.Arg)
	}
	return name
}

// check refuses unknown tags and arguments out of bounds.
func (o Op) check() error {
	switch o.Tag {
	case OpAppend, OpPrepend:
		if len(o.Arg) == 0 || len(o.Arg) > MaxMessage {
			return fmt.Errorf("%w: argument of %d bytes, want 1..%d", ErrFormat, len(o.Arg), MaxMessage)
		}
	case OpSHA1, OpRIPEMD160, OpSHA256, OpKeccak256, OpReverse, OpHexlify:
		if len(o.Arg) != 0 {
			return fmt.Errorf("%w: operation %s takes no argument", ErrFormat, o)
		}
	default:
		return fmt.Errorf("%w: unknown operation 0x%02x", ErrFormat, o.Tag)
	}
	return nil
}

// apply returns the operation's result, always fresh memory.
func (o Op) apply(msg []byte) ([]byte, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	n := len(msg) + len(o.Arg)
	if o.Tag == OpHexlify {
		n = 2 * len(msg)
	}
	if len(msg) == 0 || n > MaxMessage {
		return nil, fmt.Errorf("%w: operation 0x%02x on a message of %d bytes: result must be 1..%d bytes", ErrFormat, o.Tag, len(msg), MaxMessage)
	}
	switch o.Tag {
	case OpAppend:
		return slices.Concat(msg, o.Arg), nil
	case OpPrepend:
		return slices.Concat(o.Arg, msg), nil
	case OpReverse:
		r := bytes.Clone(msg)
		slices.Reverse(r)
		return r, nil
	case OpHexlify:
		return []byte(hex.EncodeToString(msg)), nil
	case OpSHA256:
		h := sha256.Sum256(msg)
		return h[:], nil
	}
	h := newHash(o.Tag)
	h.Write(msg)
	return h.Sum(nil), nil
}

func newHash(tag byte) hash.Hash {
	switch tag {
	case OpSHA1:
		return sha1.New()
	case OpRIPEMD160:
		return ripemd160.New()
	case OpSHA256:
		return sha256.New()
	default:
		return sha3.NewLegacyKeccak256()
	}
}

// compareOps orders operations as the reference writer does: by tag, then by argument.
func compareOps(a, b Op) int {
	if a.Tag != b.Tag {
		return int(a.Tag) - int(b.Tag)
	}
	return bytes.Compare(a.Arg, b.Arg)
}

// digestLen is the length of a file digest made by the operation, or 0 when it can't hash files.
func digestLen(tag byte) int {
	switch tag {
	case OpSHA1, OpRIPEMD160:
		return 20
	case OpSHA256:
		return 32
	}
	return 0
}
