package ledger

import (
	"bytes"
	"testing"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/eschaton-network/chand/htlc"
	"github.com/eschaton-network/chand/types"
)

// withLock settles a contract in agreement into one account output and one script output, and returns the latter.
func withLock(t tb, script func(w *world) []byte, value types.Amount) (*world, *pair, []byte, btcwire.OutPoint) {
	w, p := opened(t)
	s := script(w)
	close := p.spend(p.final(toAccount(p.a, 50*coin-value), toScript(s, value)), nil)
	w.do(p.a, close)
	at := btcwire.OutPoint{Hash: chainhash.Hash(txID(close.msg)), Index: 1}
	if o, err := w.s.Output(types.Hash(at.Hash), 1); err != nil || o.Value != value || !bytes.Equal(o.Script, htlc.P2WSH(types.SHA256(s))) {
		t.Fatal(o, err)
	}
	return w, p, s, at
}

// claim spends one output to an account.
func claim(t tb, at btcwire.OutPoint, script []byte, value types.Amount, to *btcwire.TxOut, sequence, lockTime uint32) *btcwire.MsgTx {
	tx := btcwire.NewMsgTx(2)
	tx.LockTime = lockTime
	in := btcwire.NewTxIn(&at, nil, nil)
	in.Sequence = sequence
	tx.AddTxIn(in)
	tx.AddTxOut(to)
	fetch := txscript.NewCannedPrevOutputFetcher(htlc.P2WSH(types.SHA256(script)), int64(value))
	signInput(t, tx, 0, script, value, fetch, secp("owner"))
	return tx
}

func TestSpendOutputAfterLockTime(t *testing.T) {
	var expiry uint32
	w, p, script, at := withLock(t, func(w *world) []byte {
		expiry = uint32(w.s.Height() + 4)
		return cltvScript(t, secp("owner"), int64(expiry))
	}, 5*coin)
	to := toAccount(p.b, 5*coin)
	early := rawSpend(t, claim(t, at, script, 5*coin, to, 0xfffffffe, expiry), p.id, nil)
	for w.s.Height() < types.Height(expiry) {
		w.refuse(CodeLockTime, p.b, early)
	}
	before := w.balance(p.b)
	w.refuse(CodeScript, p.b, rawSpend(t, claim(t, at, script, 5*coin, to, 0xffffffff, expiry), p.id, nil)) // final: CLTV refuses
	w.refuse(CodeScript, p.b, rawSpend(t, claim(t, at, script, 5*coin, to, 0xfffffffe, expiry-1), p.id, nil))
	w.do(p.b, early)
	if got := find[OutputSpent](w.events); len(got) != 1 || got[0].Index != 1 || got[0].TxID != types.Hash(at.Hash) || len(got[0].Witness) != 2 || !bytes.Equal(got[0].By, early.Tx) {
		t.Fatalf("%+v", w.events)
	}
	if w.balance(p.b) <= before {
		t.Fatal("not paid")
	}
	w.refuse(CodeUnknownInput, p.b, early)
	if _, err := w.s.Output(types.Hash(at.Hash), 1); err != ErrNotFound {
		t.Fatal("spent output is still there")
	}
}

func TestRelativeLock(t *testing.T) {
	csv := func(w *world) []byte {
		s, err := txscript.NewScriptBuilder().AddInt64(3).AddOp(txscript.OP_CHECKSEQUENCEVERIFY).AddOp(txscript.OP_DROP).
			AddData(secp("owner").PubKey().SerializeCompressed()).AddOp(txscript.OP_CHECKSIG).Script()
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	w, p, script, at := withLock(t, csv, coin)
	to := toAccount(p.a, coin)
	s := rawSpend(t, claim(t, at, script, coin, to, 3, 0), p.id, nil)
	w.refuse(CodeScript, p.a, rawSpend(t, claim(t, at, script, coin, to, 0, 0), p.id, nil))
	w.refuse(CodeLockTime, p.a, s)
	w.refuse(CodeMalformedSpend, p.a, rawSpend(t, claim(t, at, script, coin, to, btcwire.SequenceLockTimeIsSeconds|1, 0), p.id, nil))
	w.do(p.a, s)
}

func TestSpendSeveralOutputs(t *testing.T) {
	w, p := opened(t)
	script := cltvScript(t, secp("owner"), 1)
	close := p.spend(p.final(toScript(script, 20*coin), toScript(script, 30*coin)), nil)
	w.do(p.a, close)
	id := chainhash.Hash(txID(close.msg))
	outs := map[btcwire.OutPoint]*btcwire.TxOut{}
	tx := btcwire.NewMsgTx(2)
	tx.LockTime = 1
	for i, o := range close.msg.TxOut {
		at := btcwire.OutPoint{Hash: id, Index: uint32(i)}
		outs[at] = o
		in := btcwire.NewTxIn(&at, nil, nil)
		in.Sequence = 0xfffffffe
		tx.AddTxIn(in)
	}
	again := cltvScript(t, secp("owner"), 2)
	tx.AddTxOut(toScript(again, 50*coin))
	fetch := txscript.NewMultiPrevOutFetcher(outs)
	signInput(t, tx, 0, script, 20*coin, fetch, secp("owner"))
	signInput(t, tx, 1, script, 30*coin, fetch, secp("owner"))
	w.refuse(CodeMalformedSpend, p.a, rawSpend(t, tx, p.id, p.closer[0])) // a close signature has no business here
	w.do(p.a, rawSpend(t, tx, p.id, nil))
	if o, err := w.s.Output(txID(tx), 0); err != nil || o.Value != 50*coin {
		t.Fatal(o, err)
	}
	cheat := tx.Copy()
	cheat.TxOut[0].Value++
	if _, err := NewSpend(htlc.EncodeTx(cheat), nil); err != nil {
		t.Fatal(err)
	}
}

// TestContractAndOutputDoNotMix: a contract is spent alone, so the ledger knows which version it is.
func TestContractAndOutputDoNotMix(t *testing.T) {
	w, p, script, at := withLock(t, func(*world) []byte { return cltvScript(t, secp("owner"), 1) }, coin)
	q := newPair(w, "second", p.a, p.b, coin, coin, 5)
	w.do(p.a, q.open())
	tx := q.seal(q.final(toAccount(p.a, 3*coin)))
	in := btcwire.NewTxIn(&at, nil, [][]byte{{1}, script})
	tx.AddTxIn(in)
	w.refuse(CodeUnknownInput, p.a, rawSpend(t, tx, p.id, nil))
}

func TestAccountScript(t *testing.T) {
	id := types.AccountID{Node: 0x1234, User: 0xdeadbeef}
	s := htlc.AccountScript(id)
	if back, ok := htlc.ParseAccountScript(s); !ok || back != id || !bytes.Equal(s, []byte{0x60, 6, 0x34, 0x12, 0xef, 0xbe, 0xad, 0xde}) {
		t.Fatal(back, ok, s)
	}
	if v, prog, err := txscript.ExtractWitnessProgramInfo(s); err != nil || v != 16 || len(prog) != 6 {
		t.Fatal("not a witness program of version 16")
	}
}

// TestManySignatureChecks: a script that makes nodes work is refused before it runs.
func TestManySignatureChecks(t *testing.T) {
	w, p, script, at := withLock(t, func(*world) []byte {
		key := secp("owner").PubKey().SerializeCompressed()
		b := txscript.NewScriptBuilder().AddData(key)
		for range 90 {
			b.AddOp(txscript.OP_2DUP).AddOp(txscript.OP_CHECKSIGVERIFY)
		}
		s, err := b.AddOp(txscript.OP_CHECKSIG).Script()
		if err != nil {
			t.Fatal(err)
		}
		return s
	}, coin)
	w.do(p.a, rawSpend(t, claim(t, at, script, coin, toAccount(p.a, coin), 0xffffffff, 0), p.id, nil))

	q := newPair(w, "second", p.a, p.b, 10*coin, 10*coin, 5)
	w.do(p.a, q.open())
	close := q.spend(q.final(toScript(script, 5*coin), toScript(script, 5*coin), toScript(script, 10*coin)), nil)
	w.do(p.a, close)
	tx := btcwire.NewMsgTx(2)
	for i := range close.msg.TxOut {
		tx.AddTxIn(btcwire.NewTxIn(&btcwire.OutPoint{Hash: chainhash.Hash(txID(close.msg)), Index: uint32(i)}, nil, [][]byte{{1}, script}))
	}
	tx.AddTxOut(toAccount(p.a, 20*coin))
	w.refuse(CodeMalformedSpend, p.a, rawSpend(t, tx, p.id, nil))
}
