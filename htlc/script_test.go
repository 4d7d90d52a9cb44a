package htlc

import (
	"bytes"
	"testing"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"
	"pgregory.net/rapid"

	"github.com/eschaton-network/chand/types"
)

func pub(k *btcec.PrivateKey) types.PubKey { return types.PubKey(k.PubKey().SerializeCompressed()) }

func run(tx *wire.MsgTx, script []byte, amount types.Amount) error {
	prev := txscript.NewCannedPrevOutputFetcher(P2WSH(types.SHA256(script)), int64(amount))
	vm, err := txscript.NewEngine(P2WSH(types.SHA256(script)), tx, 0, txscript.StandardVerifyFlags, nil, txscript.NewTxSigHashes(tx, prev), int64(amount), prev)
	if err != nil {
		return err
	}
	return vm.Execute()
}

func TestLockSpends(t *testing.T) {
	payee, payer := testKey(1), testKey(2)
	p := types.Preimage(types.SHA256([]byte("secret")))
	to := types.AccountID{Node: 3, User: 7}
	out := OutPoint(types.SHA256([]byte("tx")), 2)
	for _, expiry := range []types.Height{1, 16, 17, 127, 128, 255, 256, 70_000, 1 << 24, MaxExpiry} {
		l := Lock{Payee: pub(payee), Payer: pub(payer), Hash: p.Hash(), Expiry: expiry}
		if err := l.Check(); err != nil {
			t.Fatal(err)
		}
		want, err := txscript.NewScriptBuilder().AddOp(txscript.OP_IF).AddOp(txscript.OP_SIZE).AddInt64(32).AddOp(txscript.OP_EQUALVERIFY).
			AddOp(txscript.OP_SHA256).AddData(l.Hash[:]).AddOp(txscript.OP_EQUALVERIFY).AddData(l.Payee[:]).AddOp(txscript.OP_ELSE).
			AddInt64(int64(expiry)).AddOp(txscript.OP_CHECKLOCKTIMEVERIFY).AddOp(txscript.OP_DROP).AddData(l.Payer[:]).
			AddOp(txscript.OP_ENDIF).AddOp(txscript.OP_CHECKSIG).Script()
		if err != nil || !bytes.Equal(want, l.Script()) {
			t.Fatalf("expiry %d: script %x, the library builds %x (%v)", expiry, l.Script(), want, err)
		}
		claim, err := Claim(out, 50, l, p, to, payee)
		if err != nil {
			t.Fatal(err)
		}
		if err := run(claim, l.Script(), 50); err != nil {
			t.Errorf("claim: %v", err)
		}
		if got, ok := Preimage(claim.TxIn[0].Witness, l.Hash); !ok || got != p {
			t.Errorf("preimage %s %v", got, ok)
		}
		reclaim, err := Reclaim(out, 50, l, to, payer)
		if err != nil {
			t.Fatal(err)
		}
		if err := run(reclaim, l.Script(), 50); err != nil {
			t.Errorf("reclaim: %v", err)
		}
		if reclaim.LockTime != uint32(expiry) {
			t.Errorf("lock time %d", reclaim.LockTime)
		}
		reclaim.LockTime-- // too early: CHECKLOCKTIMEVERIFY refuses, whatever is signed
		if err := run(reclaim, l.Script(), 50); err == nil {
			t.Error("reclaimed before the expiry")
		}
		if id, ok := ParseAccountScript(claim.TxOut[0].PkScript); !ok || id != to {
			t.Errorf("pays %v", id)
		}
		var again wire.MsgTx
		if err := again.Deserialize(bytes.NewReader(EncodeTx(claim))); err != nil || again.TxHash() != claim.TxHash() {
			t.Errorf("decoded: %v", err)
		}
	}
}

func TestLockRefusals(t *testing.T) {
	payee, payer := testKey(1), testKey(2)
	p := types.Preimage(types.SHA256([]byte("secret")))
	l := Lock{Payee: pub(payee), Payer: pub(payer), Hash: p.Hash(), Expiry: 100}
	out, to := OutPoint(types.Hash{}, 0), types.AccountID{Node: 1}
	if _, err := Claim(out, 50, l, types.Preimage{1}, to, payee); err == nil {
		t.Error("claimed with a wrong preimage")
	}
	byPayer, _ := Claim(out, 50, l, p, to, payer)
	if err := run(byPayer, l.Script(), 50); err == nil {
		t.Error("the payer claimed as the payee")
	}
	byPayee, _ := Reclaim(out, 50, l, to, payee)
	if err := run(byPayee, l.Script(), 50); err == nil {
		t.Error("the payee reclaimed as the payer")
	}
	long, _ := Claim(out, 50, l, p, to, payee) // a preimage of another size would fit here and nowhere else
	long.TxIn[0].Witness[1] = append(long.TxIn[0].Witness[1], 0)
	if err := run(long, l.Script(), 50); err == nil {
		t.Error("a preimage of 33 bytes was accepted")
	}
	for _, e := range []types.Height{0, MaxExpiry + 1} {
		if (Lock{Expiry: e}).Check() == nil {
			t.Errorf("expiry %d accepted", e)
		}
	}
}

func TestContractScript(t *testing.T) {
	a, b := testKey(1), testKey(2)
	if ContractScriptHash(pub(a), pub(b)) != ContractScriptHash(pub(b), pub(a)) {
		t.Error("the order of the keys matters")
	}
	script := ContractScript(pub(a), pub(b))
	if len(script) != ContractScriptSize {
		t.Errorf("%d bytes", len(script))
	}
	tx := spendTo(OutPoint(types.Hash{1}, 0), 10, 0x80000005, 0, types.AccountID{Node: 1})
	first, second := a, b
	if f, _ := SortKeys(pub(a), pub(b)); f != pub(a) {
		first, second = b, a
	}
	s1, err1 := signInput(tx, 10, script, first)
	s2, err2 := signInput(tx, 10, script, second)
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	tx.TxIn[0].Witness = ContractWitness(s1, s2, script)
	if err := run(tx, script, 10); err != nil {
		t.Error(err)
	}
}

func TestAccountScript(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := types.AccountID{Node: rapid.Uint16().Draw(t, "node"), User: rapid.Uint32().Draw(t, "user")}
		if b, ok := ParseAccountScript(AccountScript(a)); !ok || a != b {
			t.Fatalf("%v %v", a, b)
		}
	})
	for _, s := range [][]byte{nil, make([]byte, 8), P2WSH(types.Hash{}), append(AccountScript(types.AccountID{}), 0)} {
		if _, ok := ParseAccountScript(s); ok {
			t.Errorf("%x was read as an account", s)
		}
	}
}
