package htlc

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/btcec/v2/ecdsa"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"github.com/eschaton-network/chand/types"
)

// ClaimWitness is the payee's witness: signature, preimage, branch 1, script.
func ClaimWitness(sig []byte, p types.Preimage, script []byte) [][]byte {
	return [][]byte{sig, p[:], {1}, script}
}

// ReclaimWitness is the payer's witness: signature, branch 0, script (BIP 141 minimal-if: an empty element).
func ReclaimWitness(sig []byte, script []byte) [][]byte { return [][]byte{sig, {}, script} }

// ContractWitness spends the 2-of-2 output. Signatures are DER with the sighash byte, given in the order of the sorted keys.
func ContractWitness(first, second, script []byte) [][]byte {
	return [][]byte{{}, first, second, script} // the empty element is CHECKMULTISIG's extra argument (BIP 147)
}

// Claim builds the transaction by which the payee takes a lock's output with the preimage and pays it to an account.
func Claim(out wire.OutPoint, amount types.Amount, l Lock, p types.Preimage, to types.AccountID, key *btcec.PrivateKey) (*wire.MsgTx, error) {
	if p.Hash() != l.Hash {
		return nil, errors.New("claim of a lock: the preimage does not open its hash")
	}
	tx := spendTo(out, amount, wire.MaxTxInSequenceNum, 0, to)
	script := l.Script()
	sig, err := signInput(tx, amount, script, key)
	if err != nil {
		return nil, err
	}
	tx.TxIn[0].Witness = ClaimWitness(sig, p, script)
	return tx, nil
}

// Reclaim builds the transaction by which the payer takes a lock's output back. It is final from the block after Expiry on.
func Reclaim(out wire.OutPoint, amount types.Amount, l Lock, to types.AccountID, key *btcec.PrivateKey) (*wire.MsgTx, error) {
	// BIP 65 wants a sequence below the maximum, else nLockTime would not bind.
	tx := spendTo(out, amount, wire.MaxTxInSequenceNum-1, uint32(l.Expiry), to)
	script := l.Script()
	sig, err := signInput(tx, amount, script, key)
	if err != nil {
		return nil, err
	}
	tx.TxIn[0].Witness = ReclaimWitness(sig, script)
	return tx, nil
}

func spendTo(out wire.OutPoint, amount types.Amount, sequence, lockTime uint32, to types.AccountID) *wire.MsgTx {
	tx := wire.NewMsgTx(2)
	tx.LockTime = lockTime
	in := wire.NewTxIn(&out, nil, nil)
	in.Sequence = sequence
	tx.AddTxIn(in)
	tx.AddTxOut(wire.NewTxOut(int64(amount), AccountScript(to)))
	return tx
}

func signInput(tx *wire.MsgTx, amount types.Amount, script []byte, key *btcec.PrivateKey) ([]byte, error) {
	prev := txscript.NewCannedPrevOutputFetcher(P2WSH(types.SHA256(script)), int64(amount))
	hash, err := txscript.CalcWitnessSigHash(script, txscript.NewTxSigHashes(tx, prev), txscript.SigHashAll, tx, 0, int64(amount))
	if err != nil {
		return nil, fmt.Errorf("signature hash: %w", err)
	}
	return append(ecdsa.Sign(key, hash).Serialize(), byte(txscript.SigHashAll)), nil
}

// Preimage finds in a witness the preimage that opens hash.
func Preimage(witness [][]byte, hash types.Hash) (types.Preimage, bool) {
	for _, w := range witness {
		if len(w) == PreimageSize {
			if p := types.Preimage(w); p.Hash() == hash {
				return p, true
			}
		}
	}
	return types.Preimage{}, false
}

// EncodeTx serializes a transaction with its witness.
func EncodeTx(tx *wire.MsgTx) []byte {
	var b bytes.Buffer
	b.Grow(tx.SerializeSize())
	_ = tx.Serialize(&b) // a bytes.Buffer does not fail
	return b.Bytes()
}

// OutPoint names output index of the transaction with this id (internal byte order).
func OutPoint(txid types.Hash, index uint32) wire.OutPoint {
	return wire.OutPoint{Hash: chainhash.Hash(txid), Index: index}
}
