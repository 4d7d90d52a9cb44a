package escd

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

// blockRecord is what is kept of each block besides CometBFT's own copy of it.
type blockRecord struct {
	ledger.BlockInfo
	// nanos is the block's time in full; BlockInfo.Time is its seconds.
	nanos int64
	// txs were executed, refused ones were not; bytes is the size of all of them.
	txs, refused uint32
	bytes        uint64
	events       []ledger.Event
	// roots and parts are what proofs of the block's transactions need (ledger.BlockTxs).
	roots []types.Hash
	parts ledger.Parts
}

// recordVersion is the first byte of every record.
const recordVersion = 4

// Kinds of events on disk; transactions and deposits are items of their own. Never renumber.
const (
	_ = iota + 1
	_
	kindAccountCreated
	kindContractOpened
	kindContractPosted
	kindContractSettled
	kindOutputSpent
	kindAnchored
	kindBroadcasted
	kindMessageDone
	kindLeased
	kindLeaseCancelled
	kindLeaseReleased
	kindNodeCut
	kindDividend
	kindNodeProfit
	kindAccountDeleted
	kindAccountRequested
	kindNodeConnected
	kindNodeCreated
	kindNodeKeyChanged
	kindNodeStatusChanged
	kindAccountStatusChanged
	kindRetrieval
	kindAccountLogged
	kindPairsAnchored
	kindCertificateChanged
	kindEnrolled
	kindPolicyChanged
)

var errRecord = errors.New("block events on disk are damaged")

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

type writer struct{ b []byte }

func (w *writer) u8(v uint8)   { w.b = append(w.b, v) }
func (w *writer) u16(v uint16) { w.b = binary.BigEndian.AppendUint16(w.b, v) }
func (w *writer) u32(v uint32) { w.b = binary.BigEndian.AppendUint32(w.b, v) }
func (w *writer) u64(v uint64) { w.b = binary.BigEndian.AppendUint64(w.b, v) }
func (w *writer) raw(v []byte) { w.b = append(w.b, v...) }
func (w *writer) blob(v []byte) {
	w.u32(uint32(len(v)))
	w.raw(v)
}
func (w *writer) account(a types.AccountID) {
	w.u16(a.Node)
	w.u32(a.User)
}
func (w *writer) place(p ledger.Place) {
	w.u16(p.Node)
	w.u32(p.Msid)
	w.u32(p.Position)
}
func (w *writer) lease(from types.AccountID, node uint16, a types.Amount) {
	w.account(from)
	w.u16(node)
	w.u64(uint64(a))
}
func (w *writer) bool(v bool) {
	if v {
		w.u8(1)
	} else {
		w.u8(0)
	}
}

func (w *writer) event(e ledger.Event) error {
	switch e := e.(type) {
	case ledger.MessageDone:
		w.u8(kindMessageDone)
		w.u16(e.Node)
		w.u32(e.Msid)
		w.u64(uint64(e.Time))
		w.raw(e.Root[:])
		w.u32(e.Txs)
		w.u32(e.Code)
		w.blob([]byte(e.Text))
	case ledger.AccountCreated:
		w.u8(kindAccountCreated)
		w.account(e.ID)
		w.raw(e.PublicKey[:])
	case ledger.ContractOpened:
		w.u8(kindContractOpened)
		w.raw(e.ID[:])
	case ledger.ContractPosted:
		w.u8(kindContractPosted)
		w.raw(e.ID[:])
		w.u32(e.Epoch)
		w.u32(e.Version)
		w.u32(uint32(e.Deadline))
		w.blob(e.Refund)
	case ledger.ContractSettled:
		w.u8(kindContractSettled)
		w.raw(e.ID[:])
		w.u32(e.Epoch)
		w.u32(e.Version)
		w.bool(e.Final)
		w.raw(e.TxID[:])
		w.blob(e.Refund)
	case ledger.OutputSpent:
		w.u8(kindOutputSpent)
		w.raw(e.TxID[:])
		w.u32(e.Index)
		w.u32(uint32(len(e.Witness)))
		for _, item := range e.Witness {
			w.blob(item)
		}
		w.blob(e.By)
	case ledger.Anchored:
		w.u8(kindAnchored)
		w.raw(e.TxID[:])
		w.u32(uint32(len(e.Hashes)))
		for _, h := range e.Hashes {
			w.raw(h[:])
		}
	case ledger.Leased:
		w.u8(kindLeased)
		w.lease(e.From, e.Node, e.Amount)
	case ledger.LeaseCancelled:
		w.u8(kindLeaseCancelled)
		w.lease(e.From, e.Node, e.Amount)
		w.u32(uint32(e.Due))
	case ledger.LeaseReleased:
		w.u8(kindLeaseReleased)
		w.lease(e.From, e.Node, e.Amount)
	case ledger.NodeCut:
		w.u8(kindNodeCut)
		w.u16(e.Node)
		w.u8(e.Offence)
		w.u64(uint64(e.Amount))
		w.u64(uint64(e.Reward))
		w.account(e.Reporter)
	case ledger.Broadcasted:
		w.u8(kindBroadcasted)
		w.raw(e.TxID[:])
		w.account(e.From)
		w.blob(e.Data)
	default:
		if w.ruleEvent(e) {
			return nil
		}
		return fmt.Errorf("event %T cannot be stored: package escd does not know it", e)
	}
	return nil
}

// reader reads until something is missing; then bad is set and everything reads as zero.
type reader struct {
	b   []byte
	bad bool
}

func (d *reader) take(n int) []byte {
	if d.bad || n < 0 || n > len(d.b) {
		d.bad, d.b = true, nil
		return make([]byte, min(max(n, 0), 64))
	}
	out := d.b[:n]
	d.b = d.b[n:]
	return out
}

func (d *reader) u8() uint8        { return d.take(1)[0] }
func (d *reader) u16() uint16      { return binary.BigEndian.Uint16(d.take(2)) }
func (d *reader) u32() uint32      { return binary.BigEndian.Uint32(d.take(4)) }
func (d *reader) u64() uint64      { return binary.BigEndian.Uint64(d.take(8)) }
func (d *reader) hash() types.Hash { return types.Hash(d.take(32)) }
func (d *reader) account() types.AccountID {
	return types.AccountID{Node: d.u16(), User: d.u32()}
}

func (d *reader) place() ledger.Place {
	return ledger.Place{Node: d.u16(), Msid: d.u32(), Position: d.u32()}
}

// count reads a number of items of at least size bytes each; more than can follow is damage.
func (d *reader) count(size int) int {
	n := int64(d.u32())
	if n*int64(size) > int64(len(d.b)) {
		d.bad, d.b = true, nil
		return 0
	}
	return int(n)
}

func (d *reader) blob() []byte { return append([]byte(nil), d.take(d.count(1))...) }

func (d *reader) bool() bool {
	v := d.u8()
	d.bad = d.bad || v > 1
	return v == 1
}

func (d *reader) event() ledger.Event {
	kind := d.u8()
	switch kind {
	case kindMessageDone:
		return ledger.MessageDone{Node: d.u16(), Msid: d.u32(), Time: types.Time(d.u64()), Root: d.hash(), Txs: d.u32(), Code: d.u32(), Text: string(d.blob())}
	case kindAccountCreated:
		return ledger.AccountCreated{ID: d.account(), PublicKey: d.hash()}
	case kindContractOpened:
		return ledger.ContractOpened{ID: d.hash()}
	case kindContractPosted:
		return ledger.ContractPosted{ID: d.hash(), Epoch: d.u32(), Version: d.u32(), Deadline: types.Height(d.u32()), Refund: d.blob()}
	case kindContractSettled:
		return ledger.ContractSettled{ID: d.hash(), Epoch: d.u32(), Version: d.u32(), Final: d.bool(), TxID: d.hash(), Refund: d.blob()}
	case kindOutputSpent:
		e := ledger.OutputSpent{TxID: d.hash(), Index: d.u32()}
		e.Witness = make([][]byte, d.count(4))
		for i := range e.Witness {
			e.Witness[i] = d.blob()
		}
		e.By = d.blob()
		return e
	case kindAnchored:
		e := ledger.Anchored{TxID: d.hash()}
		e.Hashes = make([]types.Hash, d.count(32))
		for i := range e.Hashes {
			e.Hashes[i] = d.hash()
		}
		return e
	case kindLeased:
		return ledger.Leased{From: d.account(), Node: d.u16(), Amount: types.Amount(d.u64())}
	case kindLeaseCancelled:
		return ledger.LeaseCancelled{From: d.account(), Node: d.u16(), Amount: types.Amount(d.u64()), Due: types.Height(d.u32())}
	case kindLeaseReleased:
		return ledger.LeaseReleased{From: d.account(), Node: d.u16(), Amount: types.Amount(d.u64())}
	case kindNodeCut:
		return ledger.NodeCut{Node: d.u16(), Offence: d.u8(), Amount: types.Amount(d.u64()), Reward: types.Amount(d.u64()), Reporter: d.account()}
	case kindBroadcasted:
		return ledger.Broadcasted{TxID: d.hash(), From: d.account(), Data: d.blob()}
	}
	return d.ruleEvent(kind)
}
