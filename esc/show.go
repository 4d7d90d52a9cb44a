package esc

import (
	"fmt"

	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

// Date is a time as the original writes it, in UTC.
func Date(t types.Time) string { return t.Std().Format("2006-01-02 15:04:05") }

// ShowAccount is the member "account" or "network_account" (E17; hash and paired_address are A19's).
func ShowAccount(id types.AccountID, r *ledger.Record) Object {
	var o Object
	o.Add("address", id.String())
	o.Add("node", id.Node)
	o.Add("id", id.User)
	o.Add("msid", r.Msid)
	o.Add("time", r.Time)
	o.Add("date", Date(types.Time(r.Time)))
	o.Add("status", r.Status)
	o.Add("paired_node", r.PairedNode)
	o.Add("paired_id", r.PairedID)
	if p := (types.AccountID{Node: r.PairedNode, User: r.PairedID}); p.Node != 0 && p != id {
		o.Add("paired_address", p.String())
	}
	o.Add("local_change", r.LocalChange)
	o.Add("remote_change", r.RemoteChange)
	o.Add("balance", r.Balance)
	o.Add("public_key", types.Hash(r.PublicKey))
	o.Add("hash", r.Hash)
	return o
}

// ShowRequest is the member "tx" of a command that only asks: data is the signed request, empty when none is sent.
func ShowRequest(data []byte, s State) Object {
	var o Object
	if len(data) > 0 {
		o.Add("data", data)
	}
	o.Add("account_msid", s.Msid)
	return o
}

// ShowTx is the member "tx" of a transaction: the bytes that are sent and what they do.
func ShowTx(t *Transaction) Object {
	var o Object
	o.Add("data", t.Raw)
	o.Add("signature", t.Tx.Signature)
	o.Add("time", int64(t.Tx.Time))
	o.Add("account_msid", t.Tx.Msid)
	if t.Chained {
		o.Add("account_hashin", t.HashIn)
		o.Add("account_hashout", t.HashOut)
	}
	o.Add("deduct", t.Deduct)
	o.Add("fee", t.Fee)
	switch b := t.Tx.Body.(type) {
	case ledger.CreateAccount:
		if b.PublicKey != [32]byte{} { // else it gets the sender's
			o.Add("account_public_key", types.Hash(b.PublicKey))
		}
	case ledger.ChangeAccountKey:
		o.Add("account_public_key_new", types.Hash(b.PublicKey))
	}
	return o
}

// typeNames are the names of transaction types as the original's and this ledger's documents have them.
var typeNames = map[byte]string{
	0:                     "deposit",
	ledger.TypeConnection: "connection", ledger.TypeAcceptAccount: "account_created", ledger.TypeBroadcast: "broadcast",
	ledger.TypeSendOne: "send_one", ledger.TypeSendMany: "send_many", ledger.TypeCreateAccount: "create_account",
	ledger.TypeCreateNode: "create_node", ledger.TypeRetrieveFunds: "retrieve_funds", ledger.TypeChangeAccountKey: "change_account_key",
	ledger.TypeChangeNodeKey: "change_node_key", ledger.TypeSetAccountStatus: "set_account_status", ledger.TypeSetNodeStatus: "set_node_status",
	ledger.TypeUnsetAccountStatus: "unset_account_status", ledger.TypeUnsetNodeStatus: "unset_node_status", ledger.TypeLogAccount: "log_account",
	ledger.TypeOpenContract: "open_contract", ledger.TypeSpend: "spend", ledger.TypeAnchor: "anchor", ledger.TypeAnchorPairs: "anchor_pairs",
	ledger.TypeIssueCertificate: "issue_certificate", ledger.TypeUpdateCertificate: "update_certificate",
	ledger.TypeRevokeCertificate: "revoke_certificate", ledger.TypeEnrol: "enrol", ledger.TypeLease: "lease",
	ledger.TypeCancelLease: "cancel_lease", ledger.TypeSetPolicy: "set_policy",
}

// TypeName is the name of a transaction type's number.
func TypeName(kind byte) string {
	if n, ok := typeNames[kind]; ok {
		return n
	}
	return fmt.Sprintf("type_%d", kind)
}

// ShowTxn is the member "txn": a transaction's contents.
func ShowTxn(tx *ledger.Tx, kind byte) Object {
	var o Object
	o.Add("type", TypeName(kind))
	switch b := tx.Body.(type) { // the node's own records have no sender
	case ledger.Connection:
		o.Add("port", int(b.Port))
		o.Add("ip_address", fmt.Sprintf("%d.%d.%d.%d", byte(b.IPv4), byte(b.IPv4>>8), byte(b.IPv4>>16), byte(b.IPv4>>24)))
		return o
	case ledger.AcceptAccount:
		target(&o, b.Requester)
		o.Add("public_key", b.PublicKey)
		return o
	}
	o.Add("node", tx.From.Node)
	o.Add("user", tx.From.User)
	o.Add("sender_address", tx.From.String())
	o.Add("msg_id", tx.Msid)
	o.Add("time", int64(tx.Time))
	showBody(&o, tx.From, tx.Body)
	o.Add("sender_fee", ledger.Fee(tx.From, tx.Body))
	o.Add("signature", tx.Signature)
	return o
}

func showBody(o *Object, from types.AccountID, body ledger.Body) {
	switch b := body.(type) {
	case ledger.SendOne:
		target(o, b.To)
		o.Add("amount", b.Amount)
		o.Add("message", b.Message)
	case ledger.SendMany:
		o.Add("amount", ledger.Cost(from, b))
		o.Add("wire_count", len(b.Wires))
		var list List
		for _, w := range b.Wires {
			var one Object
			target(&one, w.To)
			one.Add("amount", w.Amount)
			list = append(list, one)
		}
		o.Add("wires", list)
	case ledger.Broadcast:
		o.Add("message_length", len(b.Data))
		o.Add("message", b.Data)
	case ledger.CreateAccount:
		o.Add("target_node", b.Node)
		o.Add("public_key", types.Hash(b.PublicKey))
		o.Add("confirm", b.Proof)
	case ledger.ChangeAccountKey:
		o.Add("public_key", types.Hash(b.PublicKey))
		o.Add("confirm", b.Proof)
	case ledger.ChangeNodeKey:
		o.Add("target_node", b.Node)
		o.Add("public_key", types.Hash(b.PublicKey))
		o.Add("confirm", b.Proof)
	case ledger.RetrieveFunds:
		target(o, b.Account)
	case ledger.SetAccountStatus:
		target(o, b.Account)
		o.Add("status", b.Bits)
	case ledger.UnsetAccountStatus:
		target(o, b.Account)
		o.Add("status", b.Bits)
	case ledger.SetNodeStatus:
		o.Add("target_node", b.Node)
		o.Add("status", b.Bits)
	case ledger.UnsetNodeStatus:
		o.Add("target_node", b.Node)
		o.Add("status", b.Bits)
	case ledger.Anchor:
		var list List
		for _, h := range b.Hashes {
			list = append(list, Hex(h[:]))
		}
		o.Add("hashes", list)
	}
}

func target(o *Object, id types.AccountID) {
	o.Add("target_node", id.Node)
	o.Add("target_user", id.User)
	o.Add("target_address", id.String())
}

// ShowFields is the answer to get_fields: the fields of one command, or the commands.
func ShowFields(run string) Object {
	var list List
	var o Object
	if run == "" {
		for _, n := range names() {
			list = append(list, n)
		}
		o.Add("types", list)
		return o
	}
	for _, n := range fieldNames(run) {
		list = append(list, n)
	}
	o.Add("type", run)
	o.Add("fields", list)
	return o
}

// AddError appends the members of a failed command.
func (o *Object) AddError(e *Error) {
	o.Add("error", Words(e.Code))
	o.Add("error_code", e.Code)
	o.Add("error_info", e.Info)
}

// ShowPlace appends where a transaction stands; nothing while that is not known.
func ShowPlace(o *Object, p *ledger.Place) {
	if p == nil {
		return
	}
	o.Add("node_msid", p.Msid)
	o.Add("node_mpos", p.Position)
	o.Add("id", p.String())
}
