package escd

import (
	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

// ruleEvent writes the events of dividends, nodes, status and registry; false for others.
func (w *writer) ruleEvent(e ledger.Event) bool {
	switch e := e.(type) {
	case ledger.Dividend:
		w.u8(kindDividend)
		w.account(e.To)
		w.u64(uint64(e.Amount))
	case ledger.NodeProfit:
		w.u8(kindNodeProfit)
		w.u16(e.Node)
		for _, a := range []types.Amount{e.Income, e.Shared, e.Charge, e.Booked} {
			w.u64(uint64(a))
		}
	case ledger.AccountDeleted:
		w.u8(kindAccountDeleted)
		w.account(e.ID)
		w.u64(uint64(e.Left))
	case ledger.AccountRequested:
		w.u8(kindAccountRequested)
		w.account(e.Requester)
		w.u16(e.Node)
		w.raw(e.PublicKey[:])
		w.u8(uint8(e.State))
		w.account(e.ID)
	case ledger.NodeConnected:
		w.u8(kindNodeConnected)
		w.u16(e.Node)
		w.u16(e.Port)
		w.u32(e.IPv4)
	case ledger.NodeCreated:
		w.u8(kindNodeCreated)
		w.u16(e.Node)
		w.account(e.By)
		w.raw(e.PublicKey[:])
	case ledger.NodeKeyChanged:
		w.u8(kindNodeKeyChanged)
		w.u16(e.Node)
		w.raw(e.PublicKey[:])
		w.bool(e.Opened)
	case ledger.NodeStatusChanged:
		w.u8(kindNodeStatusChanged)
		w.u16(e.Node)
		w.u32(e.Status)
	case ledger.AccountStatusChanged:
		w.u8(kindAccountStatusChanged)
		w.account(e.ID)
		w.u16(e.Status)
	case ledger.Retrieval:
		w.u8(kindRetrieval)
		w.account(e.By)
		w.account(e.Account)
		w.u8(uint8(e.Phase))
		w.u64(uint64(e.Amount))
		w.u64(uint64(e.Fee))
	case ledger.AccountLogged:
		w.u8(kindAccountLogged)
		w.raw(e.TxID[:])
		w.account(e.ID)
		w.raw(e.Record[:])
	case ledger.PairsAnchored:
		w.u8(kindPairsAnchored)
		w.raw(e.TxID[:])
		w.account(e.From)
		w.u32(uint32(len(e.Pairs)))
		for _, p := range e.Pairs {
			w.raw(p.Key[:])
			w.raw(p.Value[:])
		}
	default:
		return w.registryEvent(e)
	}
	return true
}

func (w *writer) registryEvent(e ledger.Event) bool {
	switch e := e.(type) {
	case ledger.CertificateChanged:
		w.u8(kindCertificateChanged)
		w.raw(e.TxID[:])
		w.account(e.Issuer)
		w.account(e.Subject)
		w.u16(e.Type)
		w.raw(e.Content[:])
		w.u32(uint32(e.Issued))
		w.u32(uint32(e.Changed))
		w.u64(uint64(e.Expires))
		w.bool(e.Revoked)
	case ledger.Enrolled:
		w.u8(kindEnrolled)
		w.account(e.By)
		w.raw(e.PublicKey[:])
		w.u8(e.Roles)
	case ledger.PolicyChanged:
		w.u8(kindPolicyChanged)
		w.raw(e.TxID[:])
		w.u32(e.Version)
		w.bool(e.Enrolled)
		w.u32(uint32(len(e.Admins)))
		for _, a := range e.Admins {
			w.account(a)
		}
	default:
		return false
	}
	return true
}

func (d *reader) amount() types.Amount { return types.Amount(d.u64()) }

// ruleEvent reads what ruleEvent of the writer wrote.
func (d *reader) ruleEvent(kind uint8) ledger.Event {
	switch kind {
	case kindDividend:
		return ledger.Dividend{To: d.account(), Amount: d.amount()}
	case kindNodeProfit:
		return ledger.NodeProfit{Node: d.u16(), Income: d.amount(), Shared: d.amount(), Charge: d.amount(), Booked: d.amount()}
	case kindAccountDeleted:
		return ledger.AccountDeleted{ID: d.account(), Left: d.amount()}
	case kindAccountRequested:
		return ledger.AccountRequested{Requester: d.account(), Node: d.u16(), PublicKey: d.hash(), State: ledger.RequestState(d.u8()), ID: d.account()}
	case kindNodeConnected:
		return ledger.NodeConnected{Node: d.u16(), Port: d.u16(), IPv4: d.u32()}
	case kindNodeCreated:
		return ledger.NodeCreated{Node: d.u16(), By: d.account(), PublicKey: d.hash()}
	case kindNodeKeyChanged:
		return ledger.NodeKeyChanged{Node: d.u16(), PublicKey: d.hash(), Opened: d.bool()}
	case kindNodeStatusChanged:
		return ledger.NodeStatusChanged{Node: d.u16(), Status: d.u32()}
	case kindAccountStatusChanged:
		return ledger.AccountStatusChanged{ID: d.account(), Status: d.u16()}
	case kindRetrieval:
		return ledger.Retrieval{By: d.account(), Account: d.account(), Phase: ledger.RetrievalPhase(d.u8()), Amount: d.amount(), Fee: d.amount()}
	case kindAccountLogged:
		e := ledger.AccountLogged{TxID: d.hash(), ID: d.account()}
		if b := d.take(ledger.RecordSize); !d.bad {
			e.Record = [ledger.RecordSize]byte(b)
		}
		return e
	case kindPairsAnchored:
		e := ledger.PairsAnchored{TxID: d.hash(), From: d.account()}
		e.Pairs = make([]ledger.Pair, d.count(64))
		for i := range e.Pairs {
			e.Pairs[i] = ledger.Pair{Key: d.hash(), Value: d.hash()}
		}
		return e
	case kindEnrolled:
		return ledger.Enrolled{By: d.account(), PublicKey: d.hash(), Roles: d.u8()}
	case kindCertificateChanged:
		e := ledger.CertificateChanged{TxID: d.hash()}
		e.Issuer, e.Subject, e.Type, e.Content = d.account(), d.account(), d.u16(), d.hash()
		e.Issued, e.Changed, e.Expires, e.Revoked = types.Height(d.u32()), types.Height(d.u32()), types.Time(d.u64()), d.bool()
		return e
	case kindPolicyChanged:
		e := ledger.PolicyChanged{TxID: d.hash()}
		e.Version, e.Enrolled = d.u32(), d.bool()
		e.Admins = make([]types.AccountID, d.count(6))
		for i := range e.Admins {
			e.Admins[i] = d.account()
		}
		return e
	}
	d.bad = true
	return nil
}
