package ledger

import (
	"encoding/binary"

	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/eschaton-network/chand/htlc"
	"github.com/eschaton-network/chand/types"
)

const (
	// MaxEpochAhead is how far a refund's epoch may lie beyond the block's time: two hours, as for Bitcoin's block times.
	MaxEpochAhead types.Time = 2 * 3600
	// versionFlag is set in the nSequence of a refund that starts or replaces; it keeps BIP 68 out.
	versionFlag = 1 << 31
	// lockTimeThreshold divides nLockTime into heights and times (BIP 65).
	lockTimeThreshold = 500_000_000
	// MaxSigOps bounds the signature checks of a spend's witness scripts, at some 60 us each, so that a spend that is
	// refused in the end costs a node little: two for each of 64 inputs, twice. P2TR has a bound of its own (BIP 342).
	MaxSigOps = 256
	// feeOutput is what the ledger asks for keeping a script output.
	feeOutput types.Amount = 65536
)

// Spend is a Bitcoin transaction that spends one contract or 1..MaxSpendInputs script outputs. The sender's account pays the
// ledger's fee; the Bitcoin transaction pays none, its outputs equal its inputs. NewSpend makes one.
type Spend struct {
	// Tx is the serialized wire.MsgTx with witness.
	Tx []byte
	// CloseSig is SignClose's: needed to start a dispute window, allowed with every spend of a contract.
	CloseSig *[64]byte

	msg *btcwire.MsgTx // decoded by NewSpend and by the reader
}

// NewSpend checks the form of a Bitcoin transaction and wraps it. closeSig may be nil. The error is a *Refusal.
func NewSpend(tx []byte, closeSig *[64]byte) (*Spend, error) {
	s := &Spend{Tx: tx, CloseSig: closeSig}
	if r := s.decode(); r != nil {
		return nil, r
	}
	return s, nil
}

func (s *Spend) decode() *Refusal {
	msg, r := decodeMsgTx(s.Tx)
	if r == nil {
		s.msg, r = msg, checkForm(msg)
	}
	return r
}

func (*Spend) kind() byte                        { return TypeSpend }
func (*Spend) tail(b []byte) []byte              { return b }
func (*Spend) cost(types.AccountID) types.Amount { return 0 }

func (s *Spend) check() *Refusal { return s.decode() }

func (s *Spend) fee(types.AccountID) types.Amount {
	size := headSize + 5 + len(s.Tx) + sigSize
	if s.CloseSig != nil {
		size += len(s.CloseSig)
	}
	fee := feeBase + feeByte*types.Amount(size)
	for _, out := range s.outputs() {
		if scriptOutput(out.PkScript) {
			fee += feeOutput
		}
	}
	return fee
}

func (s *Spend) outputs() []*btcwire.TxOut {
	if s.msg == nil && s.decode() != nil {
		return nil
	}
	return s.msg.TxOut
}

func (s *Spend) signed(b []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(len(s.Tx)))
	b = append(b, s.Tx...)
	if s.CloseSig == nil {
		return append(b, 0)
	}
	return append(append(b, sigSize), s.CloseSig[:]...)
}

func readSpend(r *reader, sig func()) Body {
	s := &Spend{}
	if n := r.u32(); n <= MaxSpend && r.fits(int(n), 1) {
		s.Tx = append([]byte(nil), r.take(int(n))...)
	} else {
		r.short = true
	}
	switch r.u8() {
	case 0:
	case sigSize:
		c := r.signature()
		s.CloseSig = &c
	default:
		r.short = true
	}
	sig()
	return s
}

// checkForm refuses what can be told from the transaction alone.
func checkForm(tx *btcwire.MsgTx) *Refusal {
	if tx.Version < minSpendVersion {
		return refuse(CodeMalformedSpend, "version %d: want at least %d", tx.Version, minSpendVersion)
	}
	if len(tx.TxOut) == 0 {
		return refuse(CodeMalformedSpend, "no outputs")
	}
	seen := make(map[btcwire.OutPoint]bool, len(tx.TxIn))
	for i, in := range tx.TxIn {
		if len(in.SignatureScript) != 0 || len(in.Witness) == 0 {
			return refuse(CodeMalformedSpend, "input %d: want an empty signature script and a witness", i)
		}
		if seen[in.PreviousOutPoint] {
			return refuse(CodeDuplicate, "input %d spends what another input spends", i)
		}
		seen[in.PreviousOutPoint] = true
	}
	var sum types.Amount
	for i, out := range tx.TxOut {
		if _, toAccount := htlc.ParseAccountScript(out.PkScript); !toAccount && !scriptOutput(out.PkScript) {
			return refuse(CodeMalformedSpend, "output %d: want pay-to-account, P2WSH, P2WPKH or P2TR", i)
		}
		if out.Value <= 0 {
			return refuse(CodeNotPositive, "output %d: value of %d must be positive", i, out.Value)
		}
		var ok bool
		if sum, ok = addUp(sum, types.Amount(out.Value)); !ok {
			return refuse(CodeConservation, "the outputs exceed the supply of %s coins", Supply)
		}
	}
	return nil
}

func txID(tx *btcwire.MsgTx) types.Hash { return types.Hash(tx.TxHash()) }

func outPoint(p btcwire.OutPoint) OutPoint { return OutPoint{TxID: types.Hash(p.Hash), Index: p.Index} }

// contract returns the contract that the transaction spends, or nil.
func (s *Spend) contract(x *exec) *Contract {
	p := s.msg.TxIn[0].PreviousOutPoint
	if len(s.msg.TxIn) != 1 || p.Index != 0 {
		return nil
	}
	return x.s.contracts[types.Hash(p.Hash)]
}

func (s *Spend) verify(x *exec) *Refusal {
	if r := s.verifyTargets(x); r != nil {
		return r
	}
	if r := s.verifyLockTime(x); r != nil {
		return r
	}
	if c := s.contract(x); c != nil {
		return s.verifyContract(x, c)
	}
	return s.verifyOutputs(x)
}

// verifyTargets wants every account that is paid to exist now, so that paying out later can't fail.
func (s *Spend) verifyTargets(x *exec) *Refusal {
	for i, out := range s.msg.TxOut {
		if id, ok := htlc.ParseAccountScript(out.PkScript); ok && x.s.peek(id) == nil {
			return refuse(CodeTargetAccount, "output %d pays account %s, which does not exist", i, id)
		}
	}
	return nil
}

// verifyLockTime applies nLockTime as Bitcoin does: the transaction may be in blocks above it, unless every input is final.
func (s *Spend) verifyLockTime(x *exec) *Refusal {
	lock := int64(s.msg.LockTime)
	now := int64(x.height)
	if lock >= lockTimeThreshold {
		now = int64(x.time)
	}
	if lock == 0 || lock < now {
		return nil
	}
	for _, in := range s.msg.TxIn {
		if in.Sequence != btcwire.MaxTxInSequenceNum {
			return refuse(CodeLockTime, "nLockTime %d has not passed at height %d, time %d; submit it again later", lock, x.height, x.time)
		}
	}
	return nil
}

// versionOf is the place of a refund in the order of replacement.
func versionOf(tx *btcwire.MsgTx) (epoch, version uint32, final bool) {
	seq := tx.TxIn[0].Sequence
	return uint32(tx.Version), seq &^ versionFlag, seq == btcwire.MaxTxInSequenceNum
}

func (s *Spend) verifyContract(x *exec, c *Contract) *Refusal {
	if c.Settled != nil {
		return refuse(CodeSettled, "contract %s has paid out by %s", c.ID, c.Settled.TxID)
	}
	if total := outputSum(s.msg); total != c.Capacity {
		return refuse(CodeConservation, "the outputs are %s coins, the contract holds %s", total, c.Capacity)
	}
	if s.CloseSig != nil && !verifyClose(c.CloseKeys, c.ID, *s.CloseSig) {
		return refuse(CodeCloseSignature, "the close signature is not by a close key of contract %s", c.ID)
	}
	epoch, version, final := versionOf(s.msg)
	if !final {
		if r := s.verifyVersion(x, c, epoch, version); r != nil {
			return r
		}
	}
	return s.verifyScripts(x, []prevOut{{s.msg.TxIn[0].PreviousOutPoint, htlc.P2WSH(c.ScriptHash), c.Capacity}})
}

func (s *Spend) verifyVersion(x *exec, c *Contract, epoch, version uint32) *Refusal {
	if s.msg.TxIn[0].Sequence&versionFlag == 0 {
		return refuse(CodeMalformedSpend, "nSequence %#x of a refund: want bit 31 set", s.msg.TxIn[0].Sequence)
	}
	if types.Time(epoch)*60 > x.time+MaxEpochAhead {
		return refuse(CodeEpoch, "epoch %d (minutes since 1970) lies more than %d s beyond the block's time %d", epoch, MaxEpochAhead, x.time)
	}
	p := c.Posted
	switch {
	case p == nil && s.CloseSig == nil:
		return refuse(CodeCloseSignature, "starting the dispute window of contract %s needs a close signature", c.ID)
	case p != nil && (epoch < p.Epoch || epoch == p.Epoch && version <= p.Version):
		return refuse(CodeVersion, "version (%d, %d) does not replace the posted (%d, %d)", epoch, version, p.Epoch, p.Version)
	}
	return nil
}

func (s *Spend) verifyOutputs(x *exec) *Refusal {
	if s.CloseSig != nil {
		return refuse(CodeMalformedSpend, "a close signature goes with a contract only")
	}
	prev := make([]prevOut, len(s.msg.TxIn))
	var in types.Amount
	for i, txin := range s.msg.TxIn {
		p := outPoint(txin.PreviousOutPoint)
		out, ok := x.s.outputs[p]
		if !ok {
			return refuse(CodeUnknownInput, "input %d: there is no contract or unspent output %s:%d, or it can't be spent together with others", i, p.TxID, p.Index)
		}
		if r := verifyRelativeLock(x, i, txin.Sequence, out); r != nil {
			return r
		}
		prev[i] = prevOut{txin.PreviousOutPoint, out.Script, out.Value}
		in += out.Value // all outputs together are below the supply
	}
	if total := outputSum(s.msg); total != in {
		return refuse(CodeConservation, "the outputs are %s coins, the inputs %s", total, in)
	}
	return s.verifyScripts(x, prev)
}

// verifyRelativeLock applies BIP 68 in blocks; its unit of 512 seconds is refused.
func verifyRelativeLock(x *exec, i int, seq uint32, out *Output) *Refusal {
	switch {
	case seq&btcwire.SequenceLockTimeDisabled != 0:
		return nil
	case seq&btcwire.SequenceLockTimeIsSeconds != 0:
		return refuse(CodeMalformedSpend, "input %d: relative locks count blocks here, not seconds", i)
	}
	if from := int64(out.Height) + int64(seq&btcwire.SequenceLockTimeMask); int64(x.height) < from {
		return refuse(CodeLockTime, "input %d may be spent from height %d on, this is %d", i, from, x.height)
	}
	return nil
}

func outputSum(tx *btcwire.MsgTx) (sum types.Amount) {
	for _, out := range tx.TxOut {
		sum += types.Amount(out.Value) // checkForm bounds the sum
	}
	return sum
}

// prevOut is an output that is being spent.
type prevOut struct {
	at     btcwire.OutPoint
	script []byte
	value  types.Amount
}

// verifyScripts runs the scripts of every input. A transaction that passed is remembered: its outpoints fix what it spends, so the
// answer can't change.
func (s *Spend) verifyScripts(x *exec, prev []prevOut) *Refusal {
	key := types.TaggedHash("chand/scripts", s.Tx)
	if x.s.verifier.known(key) {
		return nil
	}
	if r := runScripts(s.msg, prev); r != nil {
		return r
	}
	x.s.verifier.remember(key)
	return nil
}

func (s *Spend) apply(x *exec) {
	if c := s.contract(x); c != nil {
		epoch, version, final := versionOf(s.msg)
		if final {
			x.s.settle(x.log, c, s.msg, s.Tx)
			return
		}
		x.s.post(x.log, c, ContractPosted{ID: c.ID, Epoch: epoch, Version: version, Refund: s.Tx})
		return
	}
	origin := x.height
	for _, in := range s.msg.TxIn {
		p := outPoint(in.PreviousOutPoint)
		origin = min(origin, x.s.outputs[p].Origin)
		x.s.removeOutput(p)
		x.emit(OutputSpent{TxID: p.TxID, Index: p.Index, Witness: in.Witness, By: s.Tx})
	}
	x.s.payOut(x.log, s.msg, origin)
}
