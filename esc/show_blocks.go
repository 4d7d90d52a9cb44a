package esc

import (
	"fmt"

	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

// BlockID is a block's id: its height where the original has the time of its start.
func BlockID(h types.Height) string { return fmt.Sprintf("%08X", uint32(h)) }

// ShowBlock appends the answer to get_block.
func ShowBlock(o *Object, v BlockView) {
	var b Object
	b.Add("id", BlockID(v.Height))
	b.Add("time", int64(v.Time))
	b.Add("message_count", v.MessageCount)
	b.Add("oldhash", v.OldHash)
	b.Add("minhash", v.StateRoot)
	b.Add("msghash", v.Transactions)
	b.Add("nodhash", v.NodesRoot)
	b.Add("viphash", v.VIPHash)
	b.Add("nowhash", v.NowHash)
	b.Add("vote_yes", v.VoteYes)
	b.Add("vote_no", v.VoteTotal-v.VoteYes)
	b.Add("vote_total", v.VoteTotal)
	if len(v.Nodes) > 0 {
		b.Add("node_count", len(v.Nodes))
		b.Add("dividend_balance", v.Pool)
	}
	b.Add("dividend_pay", v.Dividend)
	if len(v.Nodes) > 0 {
		var nodes List
		for _, n := range v.Nodes {
			nodes = append(nodes, showNode(n))
		}
		b.Add("nodes", nodes)
	}
	if v.Height > 1 {
		o.Add("block_prev", BlockID(v.Height-1))
	}
	if v.Height < v.Clock.Height {
		o.Add("block_next", BlockID(v.Height+1))
	}
	o.Add("block", b)
}

func showNode(n NodeView) Object {
	var o Object
	o.Add("id", fmt.Sprintf("%04X", n.ID))
	o.Add("public_key", n.PublicKey)
	o.Add("hash", n.Hash)
	o.Add("message_hash", n.MessageHash)
	o.Add("msid", n.Msid)
	o.Add("mtim", n.Mtim)
	o.Add("balance", n.Weight)
	o.Add("status", n.Status)
	o.Add("account_count", n.Accounts)
	o.Add("port", n.Port)
	o.Add("ipv4", fmt.Sprintf("%d.%d.%d.%d", byte(n.IPv4), byte(n.IPv4>>8), byte(n.IPv4>>16), byte(n.IPv4>>24)))
	return o
}

// ShowSignatures appends the answer to get_signatures.
func ShowSignatures(o *Object, v SignaturesView) {
	list := func(all []SignatureView) List {
		var l List
		for _, s := range all {
			var one Object
			one.Add("node", s.Node)
			one.Add("public_key", s.PublicKey)
			one.Add("signature", []byte(s.Signature))
			l = append(l, one)
		}
		return l
	}
	o.Add("block_id", BlockID(v.Height))
	o.Add("signatures", list(v.Signatures))
	if len(v.Nil) > 0 {
		o.Add("fork_signatures", list(v.Nil))
	}
}

// ShowValidators appends the answer to get_vipkeys: the one with the most votes first.
func ShowValidators(o *Object, v ValidatorsView) {
	var keys List
	for _, k := range v.Keys {
		keys = append(keys, Hex(k[:]))
	}
	o.Add("viphash", v.Hash)
	o.Add("vipkeys", keys)
}

// ShowMessages appends the answer to get_message_list.
func ShowMessages(o *Object, v MessagesView) {
	var ids List
	for _, m := range v.Messages {
		ids = append(ids, m.ID())
	}
	o.Add("block_id", BlockID(v.Height))
	o.Add("block_time", int64(v.Time))
	o.Add("block_time_hex", fmt.Sprintf("%08X", uint32(v.Time)))
	o.Add("msghash", v.Root)
	o.Add("message_count", len(v.Messages))
	o.Add("confirmed", "yes")
	o.Add("messages", ids)
}

// ShowMessage appends the answer to get_message.
func ShowMessage(o *Object, v OneMessageView) {
	m := v.Message
	o.Add("block_id", BlockID(v.Height))
	o.Add("message_id", m.ID())
	o.Add("node", m.Node)
	o.Add("node_msid", m.Msid)
	o.Add("time", int64(m.Time))
	o.Add("length", len(v.Raw))
	o.Add("hash", m.Root)
	var txs List
	for i, raw := range v.Txs {
		var one Object
		one.Add("id", ledger.Place{Node: m.Node, Msid: m.Msid, Position: uint32(i + 1)}.String())
		one.Add("size", len(raw))
		if tx, err := ledger.DecodeMessageTx(raw); err == nil {
			for _, member := range ShowTxn(tx, raw[0]) {
				one.Add(member.Name, member.Value)
			}
		}
		txs = append(txs, one)
	}
	o.Add("transactions", txs)
}

// ShowTransaction appends the answer to get_transaction, with the members of both eras. The error says that the proof does not lead
// to the state root that came with it.
func ShowTransaction(o *Object, v TransactionView) *Error {
	tx, err := ledger.VerifyTxProof(v.StateRoot, v.Height, v.Raw, v.Proof)
	if err != nil {
		return fail(44, "the office's answer does not hold: %v", err)
	}
	p := v.Place
	if at := v.Proof.Place; at.Node != p.Node || at.Msid != p.Msid || at.Node != 0 && at != p {
		return fail(44, "the office's answer proves transaction %s, not %s", at, p)
	}
	var path List
	for _, hashes := range [][]types.Hash{v.Proof.Path, v.Proof.RootPath, v.Proof.Parts[:]} {
		for _, h := range hashes {
			path = append(path, Hex(h[:]))
		}
	}
	var n Object
	n.Add("id", p.String())
	n.Add("block_time", int64(v.Time))
	n.Add("block_id", BlockID(v.Height))
	n.Add("node", p.Node)
	n.Add("node_id", fmt.Sprintf("%04X", p.Node))
	n.Add("node_msid", p.Msid)
	n.Add("node_mpos", p.Position)
	n.Add("position", p.Position)
	n.Add("size", len(v.Raw))
	n.Add("len", len(v.Raw))
	n.Add("hashpath_size", len(path))
	n.Add("hash_path_len", len(path))
	n.Add("data", []byte(v.Raw))
	n.Add("hexstring", []byte(v.Raw))
	n.Add("hashpath", path)
	n.Add("state_root", v.StateRoot)
	old17(&n, tx, v.Raw[0])
	o.Add("network_tx", n)
	o.Add("txn", ShowTxn(tx, v.Raw[0]))
	return nil
}

// old17 appends a transaction's contents under E17's names.
func old17(o *Object, tx *ledger.Tx, kind byte) {
	o.Add("ttype", kind)
	o.Add("abank", tx.From.Node)
	o.Add("auser", tx.From.User)
	o.Add("amsid", tx.Msid)
	o.Add("ttime", int64(tx.Time))
	if b, ok := tx.Body.(ledger.SendOne); ok {
		o.Add("bbank", b.To.Node)
		o.Add("buser", b.To.User)
		o.Add("amount", b.Amount)
		o.Add("message", b.Message)
	}
	o.Add("signature", tx.Signature)
}

// ShowBroadcasts appends the answer to get_broadcast.
func ShowBroadcasts(o *Object, v BroadcastsView) *Error {
	var list List
	for _, b := range v.Broadcasts {
		t, err := decode(b.Raw)
		if err != nil {
			return err
		}
		body, ok := t.Tx.Body.(ledger.Broadcast)
		if !ok {
			return fail(25, "the office gave transaction %s as a broadcast", b.Place)
		}
		var one Object
		one.Add("block_time", int64(v.Time))
		one.Add("block_date", Date(v.Time))
		one.Add("node", t.Tx.From.Node)
		one.Add("account", t.Tx.From.User)
		one.Add("address", t.Tx.From.String())
		one.Add("account_msid", t.Tx.Msid)
		one.Add("time", int64(t.Tx.Time))
		one.Add("date", Date(t.Tx.Time))
		one.Add("data", []byte(b.Raw))
		one.Add("message", body.Data)
		one.Add("signature", t.Tx.Signature)
		one.Add("node_msid", b.Place.Msid)
		one.Add("node_mpos", b.Place.Position)
		one.Add("id", b.Place.String())
		one.Add("fee", t.Fee)
		list = append(list, one)
	}
	o.Add("block_id", BlockID(v.Height))
	o.Add("block_time", int64(v.Time))
	o.Add("broadcast_count", len(list))
	o.Add("log_file", "archive")
	o.Add("broadcast", list)
	return nil
}
