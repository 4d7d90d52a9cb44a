package timestamp_test

import (
	"encoding/hex"
	"testing"

	"github.com/eschaton-network/chand/timestamp"
)

// Published results for "abc" (FIPS 180-4, the RIPEMD-160 and Keccak papers), and the plain operations.
func TestOperations(t *testing.T) {
	for _, c := range []struct {
		op         timestamp.Op
		want, text string
	}{
		{timestamp.Op{Tag: timestamp.OpSHA1}, "a9993e364706816aba3e25717850c26c9cd0d89d", "sha1"},
		{timestamp.Op{Tag: timestamp.OpRIPEMD160}, "8eb208f7e05d987a9b044a8e98c6b087f15a0bfc", "ripemd160"},
		{timestamp.Op{Tag: timestamp.OpSHA256}, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", "sha256"},
		{timestamp.Op{Tag: timestamp.OpKeccak256}, "4e03657aea45a94fc7d47ba826c8d667c0d1e6e33a64a036ec44f58fa12d6c45", "keccak256"},
		{timestamp.Op{Tag: timestamp.OpReverse}, "636261", "reverse"},
		{timestamp.Op{Tag: timestamp.OpHexlify}, "363136323633", "hexlify"},
		{timestamp.Op{Tag: timestamp.OpAppend, Arg: []byte{1}}, "61626301", "append 01"},
		{timestamp.Op{Tag: timestamp.OpPrepend, Arg: []byte{1}}, "01616263", "prepend 01"},
	} {
		end, err := timestamp.New([]byte("abc")).Then(c.op)
		if err != nil || hex.EncodeToString(end.Msg) != c.want || c.op.String() != c.text {
			t.Errorf("%s: %x, %v; want %s", c.op, end.Msg, err, c.want)
		}
	}
	for _, op := range []timestamp.Op{{Tag: 0x77}, {Tag: timestamp.OpSHA256, Arg: []byte{1}}, {Tag: timestamp.OpAppend}} {
		if _, err := timestamp.New([]byte("abc")).Then(op); err == nil {
			t.Errorf("%s accepted", op)
		}
	}
	if _, err := timestamp.New(make([]byte, 2049)).Then(timestamp.Op{Tag: timestamp.OpHexlify}); err == nil {
		t.Error("hexlify beyond the limit accepted")
	}
}
