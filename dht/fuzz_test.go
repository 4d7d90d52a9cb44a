package dht

import (
	"bytes"
	"testing"
)

// FuzzBlock reads a block from any bytes; one that was read, written again, is the bytes it came from.
func FuzzBlock(f *testing.F) {
	const limit = 1 << 10
	f.Fuzz(func(t *testing.T, data []byte) {
		block, err := readBlock(bytes.NewReader(data), limit)
		if err != nil {
			return
		}
		if len(block) > limit || !bytes.HasPrefix(data, appendBlock(nil, block)) {
			t.Fatalf("%x was read from %x", block, data)
		}
	})
}
