package light

import (
	"errors"
	"testing"
)

func FuzzBundle(f *testing.F) {
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := (Trust{ChainID: "x"}).Verify(Chain{b}); !errors.Is(err, ErrBundle) {
			t.Errorf("without trusted validators: %v", err)
		}
		if lb, err := decode(b); err == nil {
			if again, err := Encode(lb.SignedHeader, lb.ValidatorSet); err == nil && len(again) > MaxBundle+1024 {
				t.Errorf("%d bytes of %d", len(again), len(b))
			}
		}
	})
}
