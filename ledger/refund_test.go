package ledger

import (
	"errors"
	"testing"

	btcwire "github.com/btcsuite/btcd/wire/v2"
)

func TestCheckRefund(t *testing.T) {
	w, p := opened(t)
	c, err := w.s.Contract(p.id)
	if err != nil {
		t.Fatal(err)
	}
	r, err := CheckRefund(p.spend(p.refund(100, 7, p.split(coin)...), nil).Tx, &c)
	if err != nil || r.Contract != p.id || r.Epoch != 100 || r.Version != 7 || len(r.Accounts) != 2 {
		t.Fatalf("%+v, %v", r, err)
	}
	for _, v := range []struct {
		epoch, version uint32
		after          bool
	}{{100, 6, true}, {100, 7, false}, {100, 8, false}, {99, 9, true}, {101, 1, false}} {
		if r.After(v.epoch, v.version) != v.after {
			t.Errorf("version 7 of epoch 100 after %d of %d: %v", v.version, v.epoch, !v.after)
		}
	}
	change := func(f func(tx *btcwire.MsgTx)) []byte {
		tx := p.refund(100, 7, p.split(coin)...)
		f(tx)
		return p.spend(tx, nil).Tx
	}
	for name, bad := range map[string]struct {
		code uint32
		tx   []byte
	}{
		"final":            {CodeMalformedSpend, p.spend(p.final(p.split(coin)...), nil).Tx},
		"bit 31 clear":     {CodeMalformedSpend, change(func(tx *btcwire.MsgTx) { tx.TxIn[0].Sequence = 7 })},
		"lock time":        {CodeLockTime, change(func(tx *btcwire.MsgTx) { tx.LockTime = 1 })},
		"too little":       {CodeConservation, change(func(tx *btcwire.MsgTx) { tx.TxOut[0].Value-- })},
		"another contract": {CodeUnknownInput, change(func(tx *btcwire.MsgTx) { tx.TxIn[0].PreviousOutPoint.Hash = [32]byte{1} })},
		"another output":   {CodeUnknownInput, change(func(tx *btcwire.MsgTx) { tx.TxIn[0].PreviousOutPoint.Index = 1 })},
		"one signature": {CodeScript, func() []byte {
			q := *p
			q.fund[1] = q.fund[0]
			return q.spend(q.refund(100, 7, q.split(coin)...), nil).Tx
		}()},
		"no transaction": {CodeMalformedSpend, []byte("refund")},
	} {
		_, err := CheckRefund(bad.tx, &c)
		var no *Refusal
		if !errors.As(err, &no) || no.Code != bad.code {
			t.Errorf("%s: %v, want code %d", name, err, bad.code)
		}
	}
}
