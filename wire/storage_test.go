package wire

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

func TestStorageCodec(t *testing.T) {
	for _, blob := range [][]byte{nil, {1}, bytes.Repeat([]byte{2}, MaxBlob)} {
		if q, err := DecodeStorageRequest(StorageRequest{blob}.Encode()); err != nil || !bytes.Equal(q.Blob, blob) {
			t.Errorf("request of %d bytes: %v", len(blob), err)
		}
		for _, no := range []string{"", strings.Repeat("n", MaxText)} {
			if a, err := DecodeStorageAnswer(StorageAnswer{blob, no}.Encode()); err != nil || !bytes.Equal(a.Blob, blob) || a.Refused != no {
				t.Errorf("answer of %d bytes: %v", len(blob), err)
			}
		}
	}
	if raw := (StorageRequest{make([]byte, MaxBlob+1)}).Encode(); len(raw) > MaxQuery {
		t.Errorf("a request may have %d bytes, the transport carries %d", len(raw), MaxQuery)
	} else if _, err := DecodeStorageRequest(raw); !errors.Is(err, ErrMalformed) {
		t.Errorf("too large: %v", err)
	}
}

func FuzzStorage(f *testing.F) {
	f.Add(StorageRequest{[]byte("blob")}.Encode())
	f.Add(StorageAnswer{[]byte("blob"), "no"}.Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if q, err := DecodeStorageRequest(b); err == nil && !bytes.Equal(q.Encode(), b) {
			t.Errorf("%x is encoded as %x", b, q.Encode())
		}
		if a, err := DecodeStorageAnswer(b); err == nil && !bytes.Equal(a.Encode(), b) {
			t.Errorf("%x is encoded as %x", b, a.Encode())
		}
	})
}
