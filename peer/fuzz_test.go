package peer

import (
	"bytes"
	"testing"

	"github.com/eschaton-network/chand/wire"
)

// FuzzFrames reads frames from any bytes; those that were read, written again, are the bytes they came from.
func FuzzFrames(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte) {
		r := bytes.NewReader(data)
		var again []byte
		for {
			frame, err := readFrame(r)
			if err != nil {
				break
			}
			if len(frame) == 0 || len(frame) > wire.MaxFrame {
				t.Fatalf("frame of %d bytes", len(frame))
			}
			again = appendFrame(again, frame)
		}
		if !bytes.HasPrefix(data, again) {
			t.Fatalf("%x is not the beginning of %x", again, data)
		}
	})
}
