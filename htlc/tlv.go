package htlc

import (
	"encoding/binary"
	"fmt"
	"math/bits"
)

// appendBigSize writes a number as BOLT 1's BigSize: 1, 3, 5 or 9 bytes, big-endian.
func appendBigSize(b []byte, n uint64) []byte {
	switch {
	case n < 0xfd:
		return append(b, byte(n))
	case n <= 0xffff:
		return binary.BigEndian.AppendUint16(append(b, 0xfd), uint16(n))
	case n <= 0xffff_ffff:
		return binary.BigEndian.AppendUint32(append(b, 0xfe), uint32(n))
	}
	return binary.BigEndian.AppendUint64(append(b, 0xff), n)
}

// readBigSize wants the shortest form.
func readBigSize(b []byte) (n uint64, rest []byte, err error) {
	size := 1
	if len(b) > 0 && b[0] >= 0xfd {
		size += 2 << (b[0] - 0xfd)
	}
	if len(b) < size {
		return 0, nil, fmt.Errorf("%w: a number is cut off", ErrPayload)
	}
	if n = uint64(b[0]); size > 1 {
		n = bigEndian(b[1:size])
	}
	if len(appendBigSize(nil, n)) != size {
		return 0, nil, fmt.Errorf("%w: a number is not in its shortest form", ErrPayload)
	}
	return n, b[size:], nil
}

// bigEndian reads up to 8 bytes.
func bigEndian(b []byte) (n uint64) {
	for _, c := range b {
		n = n<<8 | uint64(c)
	}
	return n
}

// truncated is a number in as few bytes as it needs, none for zero (BOLT 1, "tu64").
func truncated(n uint64) []byte {
	return binary.BigEndian.AppendUint64(nil, n)[bits.LeadingZeros64(n)/8:]
}

// readTruncated wants at most size bytes, without leading zeros.
func readTruncated(b []byte, size int) (uint64, error) {
	if len(b) > size || len(b) > 0 && b[0] == 0 {
		return 0, fmt.Errorf("%w: %x is not a number of at most %d bytes in its shortest form", ErrPayload, b, size)
	}
	return bigEndian(b), nil
}

// record is one field of a payload: type, length, value (BOLT 1, "Type-Length-Value Format").
type record struct {
	kind  uint64
	value []byte
}

func appendRecord(b []byte, kind uint64, value []byte) []byte {
	b = appendBigSize(appendBigSize(b, kind), uint64(len(value)))
	return append(b, value...)
}

// readRecords wants types in strictly ascending order. Values are parts of b.
func readRecords(b []byte) (list []record, err error) {
	for len(b) > 0 {
		var r record
		var n uint64
		if r.kind, b, err = readBigSize(b); err != nil {
			return nil, err
		}
		if n, b, err = readBigSize(b); err != nil {
			return nil, err
		}
		if n > uint64(len(b)) {
			return nil, fmt.Errorf("%w: record %d of %d bytes is cut off", ErrPayload, r.kind, n)
		}
		if len(list) > 0 && r.kind <= list[len(list)-1].kind {
			return nil, fmt.Errorf("%w: record %d comes after %d", ErrPayload, r.kind, list[len(list)-1].kind)
		}
		r.value, b = b[:n], b[n:]
		list = append(list, r)
	}
	return list, nil
}
