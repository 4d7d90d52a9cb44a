package channel

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/btcec/v2/ecdsa"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/eschaton-network/chand/htlc"
	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/types/keytable"
	"github.com/eschaton-network/chand/wire"
)

const (
	// versionFlag keeps BIP 68 out of a refund's nSequence.
	versionFlag = 1 << 31
	// finalSequence marks the agreed close.
	finalSequence = 0xffffffff
)

// derived holds what every signature needs again: computed once from the fixed part of a state.
type derived struct {
	contract []byte // witness script
	account  [2][]byte
	fund     [2]*btcec.PublicKey
	prefix   []byte // of the BIP 143 preimage, behind the version: hashPrevouts
	suffix   []byte // behind hashSequence: outpoint, script code, amount
}

func (s *State) derive() (*derived, error) {
	if s.cache != nil {
		return s.cache, nil
	}
	d := &derived{contract: htlc.ContractScript(s.Keys[0].Fund, s.Keys[1].Fund)}
	for side := range d.fund {
		pub, err := s.Keys[side].Fund.Parse()
		if err != nil {
			return nil, fmt.Errorf("funding key %s: %w", s.Keys[side].Fund, err)
		}
		d.fund[side] = pub
		d.account[side] = htlc.AccountScript(s.Keys[side].Account)
	}
	outpoint := append(append([]byte{}, s.ID[:]...), 0, 0, 0, 0)
	prevouts := doubleSHA(outpoint)
	d.prefix = prevouts[:]
	d.suffix = append(outpoint, byte(len(d.contract)))
	d.suffix = append(d.suffix, d.contract...)
	d.suffix = binary.LittleEndian.AppendUint64(d.suffix, uint64(s.Capacity()))
	s.cache = d
	return d, nil
}

func doubleSHA(b []byte) [32]byte {
	h := sha256.Sum256(b)
	return sha256.Sum256(h[:])
}

// newLock fills in the lock's output program, which every signature hash needs.
func (s *State) newLock(l Lock) Lock {
	l.program = s.script(&l).ScriptHash()
	return l
}

func sequence(v *Version, final bool) uint32 {
	if final {
		return finalSequence
	}
	return versionFlag | v.Number
}

// sigHash is the BIP 143 hash (SIGHASH_ALL) of the refund of v, or of the final refund that pays v's balances. It equals
// txscript.CalcWitnessSigHash over refundTx and is several times faster, because nothing is built.
func (s *State) sigHash(v *Version, final bool) ([32]byte, error) {
	d, err := s.derive()
	if err != nil {
		return [32]byte{}, err
	}
	outs := make([]byte, 0, 34+len(v.Locks)*(8+1+htlc.P2WSHSize))
	for side, a := range v.Balance {
		if a > 0 {
			outs = binary.LittleEndian.AppendUint64(outs, uint64(a))
			outs = append(append(outs, byte(len(d.account[side]))), d.account[side]...)
		}
	}
	for i := range v.Locks {
		l := &v.Locks[i]
		outs = binary.LittleEndian.AppendUint64(outs, uint64(l.Amount))
		outs = append(outs, htlc.P2WSHSize, txscript.OP_0, 32)
		outs = append(outs, l.program[:]...)
	}
	seq := binary.LittleEndian.AppendUint32(nil, sequence(v, final))
	hashSequence, hashOutputs := doubleSHA(seq), doubleSHA(outs)
	b := make([]byte, 0, 4+32+32+len(d.suffix)+4+32+8)
	b = binary.LittleEndian.AppendUint32(b, v.Epoch)
	b = append(b, d.prefix...)
	b = append(b, hashSequence[:]...)
	b = append(b, d.suffix...)
	b = append(b, seq...)
	b = append(b, hashOutputs[:]...)
	b = append(b, 0, 0, 0, 0) // nLockTime
	b = binary.LittleEndian.AppendUint32(b, uint32(txscript.SigHashAll))
	return doubleSHA(b), nil
}

// sign makes this side's signature on a version. RFC 6979: the same version always gives the same bytes.
func (s *State) sign(key *btcec.PrivateKey, v *Version, final bool) (wire.Sig, error) {
	h, err := s.sigHash(v, final)
	if err != nil {
		return wire.Sig{}, err
	}
	sig := ecdsa.Sign(key, h[:])
	var out wire.Sig
	r, ss := sig.R(), sig.S()
	r.PutBytesUnchecked(out[:32])
	ss.PutBytesUnchecked(out[32:])
	return out, nil
}

var errBadSig = errors.New("the signature does not fit the version")

// verify checks signer's signature on a version: in range, low s (BIP 62), and valid.
func (s *State) verify(signer Side, v *Version, final bool, sig wire.Sig) error {
	return s.verifyWith(nil, signer, v, final, sig)
}

// verifyWith is verify with the table of the signer's key, if there is one.
func (s *State) verifyWith(tables func(types.PubKey) *keytable.Table, signer Side, v *Version, final bool, sig wire.Sig) error {
	r, ss, err := parseSig(sig)
	if err != nil {
		return err
	}
	h, err := s.sigHash(v, final)
	if err != nil {
		return err
	}
	var table *keytable.Table
	if tables != nil {
		table = tables(s.Keys[signer].Fund)
	}
	var ok bool
	if table != nil {
		_, ok = table.Verify(&h, &r, &ss)
	} else {
		ok = ecdsa.NewSignature(&r, &ss).Verify(h[:], s.cache.fund[signer])
	}
	if !ok {
		return errBadSig
	}
	return nil
}

func parseSig(sig wire.Sig) (r, s btcec.ModNScalar, err error) {
	if r.SetByteSlice(sig[:32]) || s.SetByteSlice(sig[32:]) || r.IsZero() || s.IsZero() || s.IsOverHalfOrder() {
		return r, s, errors.New("the signature is out of range or has a high s")
	}
	return r, s, nil
}

// refundTx builds the refund without its witness.
func (s *State) refundTx(v *Version, final bool) *btcwire.MsgTx {
	tx := btcwire.NewMsgTx(int32(v.Epoch))
	in := btcwire.NewTxIn(&btcwire.OutPoint{Hash: chainhash.Hash(s.ID)}, nil, nil)
	in.Sequence = sequence(v, final)
	tx.AddTxIn(in)
	for side, a := range v.Balance {
		if a > 0 {
			tx.AddTxOut(btcwire.NewTxOut(int64(a), htlc.AccountScript(s.Keys[side].Account)))
		}
	}
	for i := range v.Locks {
		tx.AddTxOut(btcwire.NewTxOut(int64(v.Locks[i].Amount), htlc.P2WSH(v.Locks[i].program)))
	}
	return tx
}

// publishable builds the complete refund from the peer's signature and this side's.
func (s *State) publishable(key *btcec.PrivateKey, v *Version, final bool, peerSig wire.Sig) ([]byte, error) {
	mine, err := s.sign(key, v, final)
	if err != nil {
		return nil, err
	}
	tx := s.refundTx(v, final)
	sigs := [2]wire.Sig{}
	sigs[s.Side], sigs[s.Side.Other()] = mine, peerSig
	var der [2][]byte
	for side, sig := range sigs {
		r, ss, err := parseSig(sig)
		if err != nil {
			return nil, err
		}
		der[side] = append(ecdsa.NewSignature(&r, &ss).Serialize(), byte(txscript.SigHashAll))
	}
	if first, _ := htlc.SortKeys(s.Keys[0].Fund, s.Keys[1].Fund); first != s.Keys[0].Fund {
		der[0], der[1] = der[1], der[0]
	}
	tx.TxIn[0].Witness = htlc.ContractWitness(der[0], der[1], s.cache.contract)
	return htlc.EncodeTx(tx), nil
}

// stateHash commits to a version's whole content, lock numbers included (the refund itself does not carry those).
func stateHash(id types.ChannelID, v *Version) types.Hash {
	m := wire.Resync{ID: id, State: wireVersion(v)}
	return types.TaggedHash("chand/channel/state", wire.Encode(&m))
}

func wireVersion(v *Version) wire.VersionState {
	w := wire.VersionState{Epoch: v.Epoch, Version: v.Number, Balance: v.Balance}
	if len(v.Locks) > 0 {
		w.Locks = make([]wire.LockState, len(v.Locks))
	}
	for i, l := range v.Locks {
		w.Locks[i] = wire.LockState{ID: l.ID, Funder: uint8(l.Funder), Amount: l.Amount, Hash: l.Hash, Expiry: l.Expiry}
	}
	return w
}

func (s *State) fromWire(w *wire.VersionState) Version {
	v := Version{Epoch: w.Epoch, Number: w.Version, Balance: w.Balance}
	if len(w.Locks) > 0 {
		v.Locks = make([]Lock, len(w.Locks))
	}
	for i, l := range w.Locks {
		v.Locks[i] = s.newLock(Lock{ID: l.ID, Funder: Side(l.Funder), Amount: l.Amount, Hash: l.Hash, Expiry: l.Expiry})
	}
	return v
}
