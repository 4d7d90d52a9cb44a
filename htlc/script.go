package htlc

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/btcsuite/btcd/txscript/v2"

	"github.com/eschaton-network/chand/types"
)

const (
	// AccountScriptSize is the length of a pay-to-account output script: OP_16, push of 6 bytes.
	AccountScriptSize = 8
	// P2WSHSize is the length of a P2WSH output script: OP_0, push of 32 bytes.
	P2WSHSize = 34
	// ContractScriptSize is the length of the 2-of-2 witness script: OP_2, two keys, OP_2, OP_CHECKMULTISIG.
	ContractScriptSize = 71
	// MaxExpiry bounds a lock's expiry: from 500,000,000 on BIP 65 reads the number as a time, not a height.
	MaxExpiry types.Height = 499_999_999
	// PreimageSize is enforced by the lock script, so that a preimage revealed on one chain or hop fits on every other.
	PreimageSize = 32
)

// AccountScript pays to a ledger account: witness version 16, program node (2 bytes LE) || user (4 bytes LE).
func AccountScript(a types.AccountID) []byte {
	s := make([]byte, 0, AccountScriptSize)
	s = append(s, txscript.OP_16, 6)
	s = binary.LittleEndian.AppendUint16(s, a.Node)
	return binary.LittleEndian.AppendUint32(s, a.User)
}

// ParseAccountScript is the inverse of AccountScript; ok is false for any other script.
func ParseAccountScript(script []byte) (a types.AccountID, ok bool) {
	if len(script) != AccountScriptSize || script[0] != txscript.OP_16 || script[1] != 6 {
		return types.AccountID{}, false
	}
	return types.AccountID{Node: binary.LittleEndian.Uint16(script[2:]), User: binary.LittleEndian.Uint32(script[4:])}, true
}

// P2WSH is the output script for a witness script's SHA-256.
func P2WSH(scriptHash types.Hash) []byte {
	s := make([]byte, 0, P2WSHSize)
	s = append(s, txscript.OP_0, 32)
	return append(s, scriptHash[:]...)
}

// SortKeys puts two compressed keys in BIP 67 order (lexicographic).
func SortKeys(a, b types.PubKey) (types.PubKey, types.PubKey) {
	if bytes.Compare(a[:], b[:]) > 0 {
		return b, a
	}
	return a, b
}

// ContractScript is the witness script of a contract output: 2-of-2 of the funding keys in BIP 67 order. Which key is
// given first does not matter. The keys are not parsed here.
func ContractScript(a, b types.PubKey) []byte {
	a, b = SortKeys(a, b)
	s := make([]byte, 0, ContractScriptSize)
	s = append(s, txscript.OP_2, 33)
	s = append(s, a[:]...)
	s = append(s, 33)
	s = append(s, b[:]...)
	return append(s, txscript.OP_2, txscript.OP_CHECKMULTISIG)
}

// ContractScriptHash is the P2WSH program of ContractScript.
func ContractScriptHash(a, b types.PubKey) types.Hash { return types.SHA256(ContractScript(a, b)) }

// Lock is the witness script of a hash lock: Payee with the preimage of Hash at any time, or Payer from height Expiry on.
type Lock struct {
	Payee, Payer types.PubKey
	Hash         types.Hash
	Expiry       types.Height
}

// Check wants an expiry that BIP 65 reads as a height.
func (l Lock) Check() error {
	if l.Expiry == 0 || l.Expiry > MaxExpiry {
		return fmt.Errorf("lock expiry %d: want a block height 1..%d", l.Expiry, MaxExpiry)
	}
	return nil
}

// Script is the witness script:
//
//	OP_IF
//	    OP_SIZE 32 OP_EQUALVERIFY OP_SHA256 <hash> OP_EQUALVERIFY <payee>
//	OP_ELSE
//	    <expiry> OP_CHECKLOCKTIMEVERIFY OP_DROP <payer>
//	OP_ENDIF
//	OP_CHECKSIG
func (l Lock) Script() []byte {
	s := make([]byte, 0, 128)
	s = append(s, txscript.OP_IF, txscript.OP_SIZE, 1, PreimageSize, txscript.OP_EQUALVERIFY, txscript.OP_SHA256, 32)
	s = append(s, l.Hash[:]...)
	s = append(s, txscript.OP_EQUALVERIFY, 33)
	s = append(s, l.Payee[:]...)
	s = append(s, txscript.OP_ELSE)
	s = appendScriptNum(s, uint32(l.Expiry))
	s = append(s, txscript.OP_CHECKLOCKTIMEVERIFY, txscript.OP_DROP, 33)
	s = append(s, l.Payer[:]...)
	return append(s, txscript.OP_ENDIF, txscript.OP_CHECKSIG)
}

// ScriptHash is the P2WSH program of Script.
func (l Lock) ScriptHash() types.Hash { return types.SHA256(l.Script()) }

// appendScriptNum pushes a non-negative number minimally (BIP 62 rule 3 and 4).
func appendScriptNum(s []byte, n uint32) []byte {
	switch {
	case n == 0:
		return append(s, txscript.OP_0)
	case n <= 16:
		return append(s, txscript.OP_1-1+byte(n))
	}
	var num []byte
	for ; n > 0; n >>= 8 {
		num = append(num, byte(n))
	}
	if num[len(num)-1]&0x80 != 0 { // the top bit is the sign
		num = append(num, 0)
	}
	return append(append(s, byte(len(num))), num...)
}
