package ledger

import (
	"github.com/btcsuite/btcd/txscript/v2"
	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/eschaton-network/chand/htlc"
	"github.com/eschaton-network/chand/types"
)

// Refund is what the rules of replacement see of a transaction that spends a contract.
type Refund struct {
	Contract       types.ChannelID
	Epoch, Version uint32
	// Accounts are those that it pays. A spend is refused while one of them does not exist.
	Accounts []types.AccountID
}

// After tells whether r replaces version (epoch, version).
func (r Refund) After(epoch, version uint32) bool {
	return r.Epoch > epoch || r.Epoch == epoch && r.Version > version
}

// CheckRefund checks that tx is a refund of contract c, of a version and not final, with the signatures of both parties: what a spend
// in c's dispute window is checked for, but the order of versions and the height. It needs no state, so that somebody who keeps refunds for others can tell
// which are worth keeping. The error is a *Refusal.
func CheckRefund(tx []byte, c *Contract) (Refund, error) {
	s, err := NewSpend(tx, nil)
	if err != nil {
		return Refund{}, err
	}
	in := s.msg.TxIn[0]
	if at := in.PreviousOutPoint; len(s.msg.TxIn) != 1 || at.Index != 0 || types.Hash(at.Hash) != c.ID {
		return Refund{}, refuse(CodeUnknownInput, "the transaction does not spend contract %s alone", c.ID)
	}
	epoch, version, final := versionOf(s.msg)
	switch {
	case final || in.Sequence&versionFlag == 0:
		return Refund{}, refuse(CodeMalformedSpend, "nSequence %#x: want a version of a refund", in.Sequence)
	case s.msg.LockTime != 0:
		return Refund{}, refuse(CodeLockTime, "nLockTime %d: want a refund that can be published at any time", s.msg.LockTime)
	}
	if total := outputSum(s.msg); total != c.Capacity {
		return Refund{}, refuse(CodeConservation, "the outputs are %s coins, the contract holds %s", total, c.Capacity)
	}
	if r := runScripts(s.msg, []prevOut{{in.PreviousOutPoint, htlc.P2WSH(c.ScriptHash), c.Capacity}}); r != nil {
		return Refund{}, r
	}
	out := Refund{Contract: c.ID, Epoch: epoch, Version: version}
	for _, o := range s.msg.TxOut {
		if id, ok := htlc.ParseAccountScript(o.PkScript); ok {
			out.Accounts = append(out.Accounts, id)
		}
	}
	return out, nil
}

// runScripts runs the script engine for every input, under the rules that Bitcoin nodes relay by.
func runScripts(msg *btcwire.MsgTx, prev []prevOut) *Refusal {
	outs := make(map[btcwire.OutPoint]*btcwire.TxOut, len(prev))
	sigOps := 0
	for i, p := range prev {
		sigOps += txscript.GetWitnessSigOpCount(nil, p.script, msg.TxIn[i].Witness)
		outs[p.at] = btcwire.NewTxOut(int64(p.value), p.script)
	}
	if sigOps > MaxSigOps {
		return refuse(CodeMalformedSpend, "the scripts check %d signatures: at most %d", sigOps, MaxSigOps)
	}
	fetcher := txscript.NewMultiPrevOutFetcher(outs)
	hashes := txscript.NewTxSigHashes(msg, fetcher)
	for i, p := range prev {
		vm, err := txscript.NewEngine(p.script, msg, i, txscript.StandardVerifyFlags, nil, hashes, int64(p.value), fetcher)
		if err == nil {
			err = vm.Execute()
		}
		if err != nil {
			return refuse(CodeScript, "input %d: the script refuses: %v", i, err)
		}
	}
	return nil
}
