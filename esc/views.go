package esc

import (
	"encoding/hex"
	"fmt"

	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

// The answers of an office (docs/esc.md), as they stand on the wire. What the client prints is made of them by the Show functions.

// Bytes are hex in JSON.
type Bytes []byte

// MarshalText writes hex.
func (b Bytes) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(b)), nil }

// UnmarshalText reads hex.
func (b *Bytes) UnmarshalText(text []byte) (err error) {
	*b, err = hex.AppendDecode(nil, text)
	return err
}

// Clock is the newest block of an office.
type Clock struct {
	Height      types.Height `json:"height"`
	Time        types.Time   `json:"time"`
	BlockMillis uint32       `json:"block_millis"`
}

// Show appends the times of the block that is being made and of the last one.
func (c Clock) Show(o *Object) {
	o.Add("current_block_time", int64(c.Time)+max(int64(c.BlockMillis)/1000, 1))
	o.Add("previous_block_time", int64(c.Time))
}

// AccountView is an account in the original's 128 bytes.
type AccountView struct {
	Clock Clock `json:"clock"`
	// Account is the office's view: transactions of the account that wait for a block are executed in it.
	Account Bytes `json:"account"`
	// Network is the account as of the newest block.
	Network Bytes `json:"network"`
}

// SubmitView says that a transaction was taken.
type SubmitView struct {
	AccountView
	// Place is where the node has promised to put it; nil while none is known (a direct transaction).
	Place *ledger.Place `json:"place,omitempty"`
}

// OutcomeView is what became of a transaction.
type OutcomeView struct {
	// Height is that of its block, 0 while it is in none; Place is then not known.
	Height types.Height  `json:"height"`
	Place  *ledger.Place `json:"place,omitempty"`
	// Code is 0 when it was executed; Text says why not.
	Code uint32 `json:"code"`
	Text string `json:"text,omitempty"`
	// Created is the account that it made.
	Created *types.AccountID `json:"created,omitempty"`
}

// NodeView is a row of the table of nodes.
type NodeView struct {
	ID          uint16       `json:"id"`
	PublicKey   types.Hash   `json:"public_key"`
	Hash        types.Hash   `json:"hash"`
	MessageHash types.Hash   `json:"message_hash"`
	Msid        uint32       `json:"msid"`
	Mtim        uint32       `json:"mtim"`
	Weight      types.Amount `json:"weight"`
	Status      uint32       `json:"status"`
	Accounts    uint32       `json:"accounts"`
	Port        uint16       `json:"port"`
	IPv4        uint32       `json:"ipv4"`
}

// BlockView is a block. Nodes are as of the newest block and only there.
type BlockView struct {
	Clock        Clock        `json:"clock"`
	Height       types.Height `json:"height"`
	Time         types.Time   `json:"time"`
	MessageCount int          `json:"message_count"`
	OldHash      types.Hash   `json:"oldhash"`
	StateRoot    types.Hash   `json:"state_root"`
	Transactions types.Hash   `json:"transactions"`
	NodesRoot    types.Hash   `json:"nodes_root"`
	VIPHash      types.Hash   `json:"viphash"`
	NowHash      types.Hash   `json:"nowhash"`
	VoteYes      int64        `json:"vote_yes"`
	VoteTotal    int64        `json:"vote_total"`
	Dividend     bool         `json:"dividend"`
	Pool         types.Amount `json:"pool"`
	Nodes        []NodeView   `json:"nodes,omitempty"`
}

// SignatureView is one validator's signature of a block. Node is 0 for a validator that is no node of the ledger any more.
type SignatureView struct {
	Node      uint16     `json:"node"`
	PublicKey types.Hash `json:"public_key"`
	Signature Bytes      `json:"signature"`
}

// SignaturesView are the validators that signed a block, and those that signed that there was none.
type SignaturesView struct {
	Clock      Clock           `json:"clock"`
	Height     types.Height    `json:"height"`
	Signatures []SignatureView `json:"signatures"`
	Nil        []SignatureView `json:"nil"`
}

// ValidatorsView is the set of validators with a hash.
type ValidatorsView struct {
	Clock Clock        `json:"clock"`
	Hash  types.Hash   `json:"hash"`
	Keys  []types.Hash `json:"keys"`
}

// MessageView is a message of a block.
type MessageView struct {
	Node uint16 `json:"node"`
	// Msid is the block's height for node 0, which stands for the direct transactions of a block.
	Msid uint32     `json:"msid"`
	Time types.Time `json:"time"`
	Root types.Hash `json:"root"`
	Txs  uint32     `json:"txs"`
}

// ID is the message's NNNN:MMMMMMMM.
func (m MessageView) ID() string { return fmt.Sprintf("%04X:%08X", m.Node, m.Msid) }

// MessagesView are the messages of a block in their order.
type MessagesView struct {
	Clock    Clock         `json:"clock"`
	Height   types.Height  `json:"height"`
	Time     types.Time    `json:"time"`
	Root     types.Hash    `json:"root"`
	Messages []MessageView `json:"messages"`
}

// OneMessageView is a message with its transactions. Raw is empty for node 0.
type OneMessageView struct {
	Clock   Clock        `json:"clock"`
	Height  types.Height `json:"height"`
	Message MessageView  `json:"message"`
	Raw     Bytes        `json:"raw,omitempty"`
	Txs     []Bytes      `json:"txs"`
}

// TransactionView is a transaction and its way to the state root after its block.
type TransactionView struct {
	Clock     Clock          `json:"clock"`
	Height    types.Height   `json:"height"`
	Time      types.Time     `json:"time"`
	Place     ledger.Place   `json:"place"`
	Raw       Bytes          `json:"raw"`
	Proof     ledger.TxProof `json:"proof"`
	StateRoot types.Hash     `json:"state_root"`
}

// BroadcastsView are the broadcasts of a block.
type BroadcastsView struct {
	Clock      Clock           `json:"clock"`
	Height     types.Height    `json:"height"`
	Time       types.Time      `json:"time"`
	Broadcasts []BroadcastView `json:"broadcasts"`
}

// BroadcastView is a transaction that broadcasts.
type BroadcastView struct {
	Place ledger.Place `json:"place"`
	Raw   Bytes        `json:"raw"`
}

// AccountsView are accounts of a node as of the newest block, by number from First on; More tells whether others follow.
type AccountsView struct {
	Clock   Clock   `json:"clock"`
	Node    uint16  `json:"node"`
	First   uint32  `json:"first"`
	Records []Bytes `json:"records"`
	More    bool    `json:"more"`
}

// LogView is what concerned an account, oldest first.
type LogView struct {
	Clock   Clock           `json:"clock"`
	Account types.AccountID `json:"account"`
	Entries []LogEntryView  `json:"entries"`
}

// LogEntryView is an own transaction, one of its targets, or money that came in. Type is 0 for money that came without a transaction
// (a dividend, a contract that paid out); Place is nil then.
type LogEntryView struct {
	Height   types.Height    `json:"height"`
	Time     types.Time      `json:"time"`
	Type     byte            `json:"type"`
	Incoming bool            `json:"incoming"`
	Other    types.AccountID `json:"other"`
	Amount   types.Amount    `json:"amount"`
	Message  types.Hash      `json:"message"`
	Place    *ledger.Place   `json:"place,omitempty"`
	Msid     uint32          `json:"msid"`
	Code     uint32          `json:"code,omitempty"`
	Text     string          `json:"text,omitempty"`
}
