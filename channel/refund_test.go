package channel

import (
	"bytes"
	"testing"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"pgregory.net/rapid"

	"github.com/eschaton-network/chand/htlc"
	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/types/keytable"
	"github.com/eschaton-network/chand/wire"
)

func key(name string) *btcec.PrivateKey {
	h := types.SHA256([]byte(name))
	k, _ := btcec.PrivKeyFromBytes(h[:])
	return k
}

func pub(k *btcec.PrivateKey) types.PubKey { return types.PubKey(k.PubKey().SerializeCompressed()) }

// pair is a bare state of each side, for tests of transactions.
func pair(total types.Amount) (a, b State, ka, kb Keys) {
	ka = Keys{key("af"), key("ac"), key("al")}
	kb = Keys{key("bf"), key("bc"), key("bl")}
	s := State{Funding: [2]types.Amount{total, 0}, Timing: types.Timing{Inclusion: 1, Downtime: 1, Window: 10}, NextLock: [2]uint64{1, 1},
		Current: Version{Epoch: 30_000_000, Number: 1, Balance: [2]types.Amount{total, 0}}}
	s.Keys[0] = wire.PartyKeys{Fund: pub(ka.Fund), Close: pub(ka.Close), Lock: pub(ka.Lock), Account: types.AccountID{Node: 1, User: 1}}
	s.Keys[1] = wire.PartyKeys{Fund: pub(kb.Fund), Close: pub(kb.Close), Lock: pub(kb.Lock), Account: types.AccountID{Node: 2, User: 2}}
	s.ID = s.Body().ID(types.Hash{})
	a, b = s, s
	b.Side = Acceptor
	return a, b, ka, kb
}

// TestSigHash compares our signature hash with the library's, and runs complete refunds through the script engine.
func TestSigHash(t *testing.T) {
	known := map[types.PubKey]*keytable.Table{pub(key("af")): keytable.New(key("af").PubKey()), pub(key("bf")): keytable.New(key("bf").PubKey())}
	tables := func(k types.PubKey) *keytable.Table { return known[k] }
	rapid.Check(t, func(t *rapid.T) {
		total := types.Amount(rapid.Int64Range(1, int64(types.MaxAmount)).Draw(t, "total"))
		a, b, ka, kb := pair(total)
		v := Version{Epoch: rapid.Uint32Range(2, 1<<31-1).Draw(t, "epoch"), Number: rapid.Uint32Range(1, MaxNumber).Draw(t, "number")}
		left := total
		for i := range rapid.IntRange(0, 40).Draw(t, "locks") {
			if left < 2 {
				break
			}
			amount := types.Amount(rapid.Int64Range(1, int64(left)-1).Draw(t, "amount"))
			left -= amount
			v.Locks = append(v.Locks, a.newLock(Lock{ID: uint64(i + 1), Funder: Side(rapid.IntRange(0, 1).Draw(t, "funder")), Amount: amount,
				Hash: types.SHA256([]byte{byte(i)}), Expiry: types.Height(rapid.Uint32Range(1, uint32(htlc.MaxExpiry)).Draw(t, "expiry"))}))
		}
		v.Balance[0] = types.Amount(rapid.Int64Range(0, int64(left)).Draw(t, "balance"))
		v.Balance[1] = left - v.Balance[0]
		final := rapid.Bool().Draw(t, "final")

		tx := a.refundTx(&v, final)
		script := htlc.ContractScript(a.Keys[0].Fund, a.Keys[1].Fund)
		prev := txscript.NewCannedPrevOutputFetcher(htlc.P2WSH(types.SHA256(script)), int64(total))
		hashes := txscript.NewTxSigHashes(tx, prev)
		want, err := txscript.CalcWitnessSigHash(script, hashes, txscript.SigHashAll, tx, 0, int64(total))
		if err != nil {
			t.Fatal(err)
		}
		got, err := a.sigHash(&v, final)
		if err != nil || string(got[:]) != string(want) {
			t.Fatalf("our hash %x, the library's %x (%v)", got, want, err)
		}
		sum := int64(0) // conservation (channels.md 2.4)
		for _, out := range tx.TxOut {
			sum += out.Value
		}
		if sum != int64(total) {
			t.Fatalf("outputs sum up to %d of %d", sum, total)
		}
		fromB, err := b.sign(kb.Fund, &v, final)
		if err != nil {
			t.Fatal(err)
		}
		if err := a.verify(Acceptor, &v, final, fromB); err != nil {
			t.Fatal(err)
		}
		if a.verify(Opener, &v, final, fromB) == nil || a.verify(Acceptor, &v, !final, fromB) == nil {
			t.Fatal("a signature fits another key or another version")
		}
		if err := a.verifyWith(tables, Acceptor, &v, final, fromB); err != nil {
			t.Fatal(err)
		}
		if a.verifyWith(tables, Opener, &v, final, fromB) == nil || a.verifyWith(tables, Acceptor, &v, !final, fromB) == nil {
			t.Fatal("with tables a signature fits another key or another version")
		}
		raw, err := a.publishable(ka.Fund, &v, final, fromB)
		if err != nil {
			t.Fatal(err)
		}
		if err := tx.Deserialize(bytes.NewReader(raw)); err != nil {
			t.Fatal(err)
		}
		vm, err := txscript.NewEngine(htlc.P2WSH(types.SHA256(script)), tx, 0, txscript.StandardVerifyFlags, nil, txscript.NewTxSigHashes(tx, prev), int64(total), prev)
		if err != nil {
			t.Fatal(err)
		}
		if err := vm.Execute(); err != nil {
			t.Fatal(err)
		}
	})
}

// malleated signatures (high s) are refused, as the ledger's script rules would.
func TestHighS(t *testing.T) {
	a, b, _, kb := pair(100)
	sig, err := b.sign(kb.Fund, &b.Current, false)
	if err != nil {
		t.Fatal(err)
	}
	var s btcec.ModNScalar
	s.SetByteSlice(sig[32:])
	s.Negate()
	s.PutBytesUnchecked(sig[32:])
	if a.verify(Acceptor, &a.Current, false, sig) == nil || a.verify(Acceptor, &a.Current, false, wire.Sig{}) == nil {
		t.Error("a signature with a high s, or of zeros, was accepted")
	}
}
