package wire

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/eschaton-network/chand/types"
)

func towerSamples() (requests []TowerRequest, answers []TowerAnswer) {
	id := types.SHA256([]byte("contract"))
	return []TowerRequest{{Kind: TowerTerms, Contract: id}, {Kind: TowerBuy, Contract: id, Blocks: 1000}, {Kind: TowerPut, Contract: id, Refund: bytes.Repeat([]byte{7}, MaxRefund)}},
		[]TowerAnswer{{}, {Price: 5, Until: 9, Epoch: 3, Version: 1 << 30, Invoice: strings.Repeat("i", MaxInvoiceText), Refused: strings.Repeat("r", MaxText)}}
}

func TestTowerCodec(t *testing.T) {
	requests, answers := towerSamples()
	for _, want := range requests {
		if got, err := DecodeTowerRequest(want.Encode()); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("request %d: %+v, %v", want.Kind, got, err)
		}
	}
	for _, want := range answers {
		if got, err := DecodeTowerAnswer(want.Encode()); err != nil || got != want {
			t.Errorf("answer %+v, %v, want %+v", got, err, want)
		}
	}
	for name, q := range map[string]TowerRequest{
		"no kind": {}, "unknown kind": {Kind: 4}, "terms with a refund": {Kind: TowerTerms, Refund: []byte{1}}, "terms with blocks": {Kind: TowerTerms, Blocks: 1},
		"buy nothing": {Kind: TowerBuy}, "put nothing": {Kind: TowerPut}, "too large": {Kind: TowerPut, Refund: make([]byte, MaxRefund+1)},
	} {
		if _, err := DecodeTowerRequest(q.Encode()); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v, want ErrMalformed", name, err)
		}
	}
}

func FuzzTower(f *testing.F) {
	requests, answers := towerSamples()
	for _, q := range requests {
		f.Add(q.Encode())
	}
	for _, a := range answers {
		f.Add(a.Encode())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if q, err := DecodeTowerRequest(b); err == nil && !bytes.Equal(q.Encode(), b) {
			t.Errorf("request %x is encoded as %x", b, q.Encode())
		}
		if a, err := DecodeTowerAnswer(b); err == nil && !bytes.Equal(a.Encode(), b) {
			t.Errorf("answer %x is encoded as %x", b, a.Encode())
		}
	})
}
