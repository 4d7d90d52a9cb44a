package channel

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/fxamacker/cbor/v2"

	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/wire"
)

const (
	// stateVersion is the first byte of an encoded state.
	stateVersion = 1
	// MaxStateSize bounds an encoded state: 3*MaxLocks locks of about 110 bytes, MaxLocks outputs, and the fixed part.
	MaxStateSize = 512 << 10
)

// ErrState is wrapped by every error of Decode and Check.
var ErrState = errors.New("channel state is damaged")

// The state on disk: deterministic CBOR (RFC 8949 section 4.2.1) of arrays. A lock that is in several versions is
// written once, with flags.
type (
	diskState struct {
		_          struct{} `cbor:",toarray"`
		ID, Temp   types.Hash
		Peer       types.NodeID
		Side       Side
		KeyIndex   uint64
		Genesis    types.Hash
		Timing     [3]uint32
		Funding    [2]types.Amount
		Rules      [2]diskRules
		Keys       [2]diskKeys
		ValidUntil types.Height
		Salt       types.Hash
		FundSigs   [2][64]byte
		HasFund    [2]bool
		Phase      Phase
		Since      types.Height
		Why        string
		Current    diskVersion
		Held       diskVersion
		HeldSig    wire.Sig
		Locks      []diskLock
		Acked      uint32
		Turn       uint64
		NextLock   [2]uint64
		CloseAsked [2]bool
		FinalSig   wire.Sig
		HasFinal   bool
		Restored   bool
		Offered    uint32
		OnChain    diskPosting
		Outputs    []diskOutput
	}
	diskRules struct {
		_                                               struct{} `cbor:",toarray"`
		Dust, MaxPayment, MaxInFlight, Deposit, MinLock types.Amount
		MaxLocks, MaxOps                                uint16
	}
	diskKeys struct {
		_                 struct{} `cbor:",toarray"`
		Fund, Close, Lock types.PubKey
		Node              uint16
		User              uint32
	}
	diskVersion struct {
		_             struct{} `cbor:",toarray"`
		Epoch, Number uint32
		Balance       [2]types.Amount
	}
	diskLock struct {
		_        struct{} `cbor:",toarray"`
		ID       uint64
		Funder   Side
		Amount   types.Amount
		Hash     types.Hash
		Expiry   types.Height
		Preimage []byte
		Flags    uint8
		Gone     uint32 // the version that settled it, inGiven
	}
	diskPosting struct {
		_              struct{} `cbor:",toarray"`
		Epoch, Version uint32
		Deadline       types.Height
		Final          bool
		TxID           types.Hash
	}
	diskOutput struct {
		_     struct{} `cbor:",toarray"`
		Index uint32
		Lock  uint32 // in Locks
		Live  bool
		Done  bool
	}
)

// Flags of a diskLock: the versions that have it.
const (
	inCurrent = 1 << iota
	inHeld
	inGiven
)

var (
	encMode = must(cbor.EncOptions{Sort: cbor.SortCoreDeterministic, TextMarshaler: cbor.TextMarshalerNone, ByteArray: cbor.ByteArrayToByteSlice}.EncMode())
	decMode = must(cbor.DecOptions{DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField, MaxArrayElements: 4 * wire.MaxLocks, MaxNestedLevels: 8,
		UTF8: cbor.UTF8DecodeInvalid}.DecMode())
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err) // constant options
	}
	return v
}

// Encode writes the durable part of the state: a version byte and deterministic CBOR.
func (s State) Encode() []byte {
	locks := s.lockTable()
	d := diskState{
		ID: s.ID, Temp: s.Temp, Peer: s.Peer, Side: s.Side, KeyIndex: s.KeyIndex, Genesis: s.Genesis,
		Timing:  [3]uint32{s.Timing.Inclusion, s.Timing.Downtime, s.Timing.Window},
		Funding: s.Funding, ValidUntil: s.ValidUntil, Salt: s.Salt, FundSigs: s.FundSigs, HasFund: s.HasFund,
		Phase: s.Phase, Since: s.Since, Why: s.Why,
		Current: diskVersion{Epoch: s.Current.Epoch, Number: s.Current.Number, Balance: s.Current.Balance},
		Held:    diskVersion{Epoch: s.Held.Epoch, Number: s.Held.Number, Balance: s.Held.Balance},
		HeldSig: s.Held.Sig, Locks: locks, Acked: s.Acked, Turn: s.Turn, NextLock: s.NextLock, CloseAsked: s.CloseAsked,
		FinalSig: s.FinalSig, HasFinal: s.HasFinal, Restored: s.Restored, Offered: s.Offered,
		OnChain: diskPosting{Epoch: s.OnChain.Epoch, Version: s.OnChain.Version, Deadline: s.OnChain.Deadline, Final: s.OnChain.Final, TxID: s.OnChain.TxID},
	}
	for i, r := range s.Rules {
		d.Rules[i] = diskRules{Dust: r.Dust, MaxPayment: r.MaxPayment, MaxInFlight: r.MaxInFlight, Deposit: r.Deposit, MinLock: r.MinLock,
			MaxLocks: r.MaxLocks, MaxOps: r.MaxOps}
	}
	for i, k := range s.Keys {
		d.Keys[i] = diskKeys{Fund: k.Fund, Close: k.Close, Lock: k.Lock, Node: k.Account.Node, User: k.Account.User}
	}
	for _, o := range s.Outputs {
		i, _ := slices.BinarySearchFunc(locks, o.Lock.Key(), diskLock.compare)
		d.Outputs = append(d.Outputs, diskOutput{Index: o.Index, Lock: uint32(i), Live: o.Live, Done: o.Done})
	}
	b, err := encMode.Marshal(&d)
	if err != nil {
		panic(err) // plain values always encode
	}
	return append([]byte{stateVersion}, b...)
}

func (l diskLock) compare(k LockKey) int {
	if c := cmp.Compare(l.Funder, k.Funder); c != 0 {
		return c
	}
	return cmp.Compare(l.ID, k.ID)
}

// lockTable merges the locks of all versions, in order, flagged.
func (s *State) lockTable() []diskLock {
	var all []diskLock
	add := func(l *Lock, flag uint8, gone uint32) {
		d := diskLock{ID: l.ID, Funder: l.Funder, Amount: l.Amount, Hash: l.Hash, Expiry: l.Expiry, Flags: flag, Gone: gone}
		if !l.Preimage.IsZero() {
			d.Preimage = l.Preimage[:]
		}
		all = append(all, d)
	}
	for i := range s.Current.Locks {
		add(&s.Current.Locks[i], inCurrent, 0)
	}
	for i := range s.Held.Locks {
		add(&s.Held.Locks[i], inHeld, 0)
	}
	for i := range s.Given {
		add(&s.Given[i].Lock, inGiven, s.Given[i].Version)
	}
	slices.SortStableFunc(all, func(a, b diskLock) int { return a.compare(LockKey{b.Funder, b.ID}) })
	out := all[:0]
	for _, d := range all {
		if n := len(out); n > 0 && out[n-1].compare(LockKey{d.Funder, d.ID}) == 0 {
			out[n-1].Flags |= d.Flags
			continue
		}
		out = append(out, d)
	}
	return out
}

// Decode reads what Encode wrote, strictly, and checks every invariant. Errors wrap ErrState.
func Decode(b []byte) (State, error) {
	s, err := Load(b)
	if err == nil {
		err = s.Check()
	}
	if err != nil {
		return State{}, err
	}
	return s, nil
}

// Load is Decode without State.Check, for bytes that this program has saved itself on a disk that keeps what it is given: whoever could
// change them could as well make states that pass. With the check a start verifies a signature for every channel.
func Load(b []byte) (State, error) {
	if len(b) == 0 || len(b) > MaxStateSize || b[0] != stateVersion {
		return State{}, fmt.Errorf("%w: %d bytes that do not begin with format %d", ErrState, len(b), stateVersion)
	}
	var d diskState
	if err := decMode.Unmarshal(b[1:], &d); err != nil {
		return State{}, fmt.Errorf("%w: %w", ErrState, err)
	}
	s := State{
		ID: d.ID, Temp: d.Temp, Peer: d.Peer, Side: d.Side, KeyIndex: d.KeyIndex, Genesis: d.Genesis,
		Timing:  types.Timing{Inclusion: d.Timing[0], Downtime: d.Timing[1], Window: d.Timing[2]},
		Funding: d.Funding, ValidUntil: d.ValidUntil, Salt: d.Salt, FundSigs: d.FundSigs, HasFund: d.HasFund,
		Phase: d.Phase, Since: d.Since, Why: d.Why,
		Current: Version{Epoch: d.Current.Epoch, Number: d.Current.Number, Balance: d.Current.Balance},
		Held:    Signed{Version{Epoch: d.Held.Epoch, Number: d.Held.Number, Balance: d.Held.Balance}, d.HeldSig},
		Acked:   d.Acked, Turn: d.Turn, NextLock: d.NextLock, CloseAsked: d.CloseAsked,
		FinalSig: d.FinalSig, HasFinal: d.HasFinal, Restored: d.Restored, Offered: d.Offered,
		OnChain: Posting{Epoch: d.OnChain.Epoch, Version: d.OnChain.Version, Deadline: d.OnChain.Deadline, Final: d.OnChain.Final, TxID: d.OnChain.TxID},
	}
	for i, r := range d.Rules {
		s.Rules[i] = wire.Rules{Dust: r.Dust, MaxPayment: r.MaxPayment, MaxInFlight: r.MaxInFlight, Deposit: r.Deposit, MinLock: r.MinLock,
			MaxLocks: r.MaxLocks, MaxOps: r.MaxOps}
	}
	for i, k := range d.Keys {
		s.Keys[i] = wire.PartyKeys{Fund: k.Fund, Close: k.Close, Lock: k.Lock, Account: types.AccountID{Node: k.Node, User: k.User}}
	}
	if s.Side > Acceptor {
		return State{}, fmt.Errorf("%w: side %d", ErrState, s.Side)
	}
	if err := s.readLocks(&d); err != nil {
		return State{}, fmt.Errorf("%w: %w", ErrState, err)
	}
	if !bytes.Equal(s.Encode(), b) {
		return State{}, fmt.Errorf("%w: not in canonical form", ErrState)
	}
	return s, nil
}

func (s *State) readLocks(d *diskState) error {
	locks := make([]Lock, len(d.Locks))
	for i, l := range d.Locks {
		if l.Funder > Acceptor || len(l.Preimage) != 0 && len(l.Preimage) != len(types.Preimage{}) {
			return fmt.Errorf("lock %d: funder %d, preimage of %d bytes", l.ID, l.Funder, len(l.Preimage))
		}
		k := Lock{ID: l.ID, Funder: l.Funder, Amount: l.Amount, Hash: l.Hash, Expiry: l.Expiry}
		copy(k.Preimage[:], l.Preimage)
		locks[i] = s.newLock(k)
		if l.Flags&inCurrent != 0 {
			s.Current.Locks = append(s.Current.Locks, locks[i])
		}
		if l.Flags&inHeld != 0 {
			s.Held.Locks = append(s.Held.Locks, locks[i])
		}
		if l.Flags&inGiven != 0 {
			s.Given = append(s.Given, Given{locks[i], l.Gone})
		}
	}
	for _, o := range d.Outputs {
		if int(o.Lock) >= len(locks) {
			return fmt.Errorf("output %d is of a lock that is not there", o.Index)
		}
		s.Outputs = append(s.Outputs, Output{Index: o.Index, Lock: locks[o.Lock], Live: o.Live, Done: o.Done})
	}
	return nil
}
