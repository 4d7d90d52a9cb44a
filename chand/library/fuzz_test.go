package library

import (
	"bytes"
	"testing"

	"github.com/eschaton-network/chand/statement"
	"github.com/eschaton-network/chand/types"
)

// FuzzKeyRecord: whatever is read is written back as the same bytes.
func FuzzKeyRecord(f *testing.F) {
	raw, err := statement.EncodeCBOR(keyRecord{ID: types.Hash{1}, Draft: types.Hash{2}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add(raw[:40])
	f.Add(append(raw, 0))
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := decodeKey(raw)
		if err != nil {
			return
		}
		if again, err := statement.EncodeCBOR(r); err != nil || !bytes.Equal(again, raw) {
			t.Errorf("%x became %x, %v", raw, again, err)
		}
	})
}
