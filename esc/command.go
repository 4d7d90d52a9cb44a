package esc

import (
	"slices"
	"strings"

	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

// Command is one decoded command. Fields that were not given are nil or empty.
type Command struct {
	// Run is the command's name, send_raw as send_again.
	Run string

	Address   *types.AccountID
	Node      *uint16
	User      *uint32
	NodeMsid  *uint32
	Block     *types.Height
	From, To  *uint32
	Amount    types.Amount
	Message   types.Hash
	Wires     []ledger.Wire
	Data      []byte
	Key       *types.Hash
	Proof     *[64]byte
	Status    *uint32
	Tx        *ledger.Place
	MessageID *ledger.Place // its Position is 0
	VIPHash   *types.Hash
	Type      string
	Full      bool

	// What stands in for the client's own state (A19): who sends, the number and hash that are signed, the time, and a signature
	// that was made elsewhere.
	Sender    *types.AccountID
	Msid      *uint32
	Hash      *types.Hash
	Time      *types.Time
	Signature *[64]byte
}

// MaxCommand bounds the text of a command: a send_many of ledger.MaxWires targets with room to spare.
const MaxCommand = 1 << 20

// field is one field of a command: its names (A19 first, then E17), whether it must be there, and how it is read.
type field struct {
	names []string
	need  bool
	set   func(*Command, value) *Error
}

func need(set func(*Command, value) *Error, names ...string) field {
	return field{names, true, set}
}
func may(set func(*Command, value) *Error, names ...string) field {
	return field{names, false, set}
}

// spec is what one command takes.
type spec struct {
	fields []field
	// check looks at all fields together.
	check func(*Command) *Error
}

// common may stand in every command.
var common = []field{
	may(set(account, func(c *Command) **types.AccountID { return &c.Sender }), "sender"),
	may(set(u32, func(c *Command) **uint32 { return &c.Msid }), "msid"),
	may(set(hash, func(c *Command) **types.Hash { return &c.Hash }), "hash"),
	may(set(seconds, func(c *Command) **types.Time { return &c.Time }), "time"),
	may(set(bytes64, func(c *Command) **[64]byte { return &c.Signature }), "signature"),
	may(extraData, "extra_data"),
}

var (
	address  = set(account, func(c *Command) **types.AccountID { return &c.Address })
	node     = set(nodeNumber, func(c *Command) **uint16 { return &c.Node })
	block    = set(height, func(c *Command) **types.Height { return &c.Block })
	from     = set(hex32, func(c *Command) **uint32 { return &c.From })
	status   = set(u32, func(c *Command) **uint32 { return &c.Status })
	key      = set(hash, func(c *Command) **types.Hash { return &c.Key })
	proof    = set(bytes64, func(c *Command) **[64]byte { return &c.Proof })
	typeName = func(c *Command, v value) (err *Error) { c.Type, err = v.text(); return err }
)

// Commands that read.
const (
	GetMe          = "get_me"
	GetAccount     = "get_account"
	GetAccounts    = "get_accounts"
	GetBlock       = "get_block"
	GetBlocks      = "get_blocks"
	GetSignatures  = "get_signatures"
	GetVIPKeys     = "get_vipkeys"
	GetMessageList = "get_message_list"
	GetMessage     = "get_message"
	GetTransaction = "get_transaction"
	GetBroadcast   = "get_broadcast"
	GetLog         = "get_log"
	GetFields      = "get_fields"
	DecodeRaw      = "decode_raw"
	SendAgain      = "send_again"
)

var specs = map[string]spec{
	GetMe: {},
	GetAccount: {fields: []field{may(address, "address"), may(set(hex16, func(c *Command) **uint16 { return &c.Node }), "node"),
		may(set(hex32, func(c *Command) **uint32 { return &c.User }), "id")}, check: oneAccount},
	GetAccounts:    {fields: []field{need(node, "node"), may(block, "block")}},
	GetBlock:       {fields: []field{may(block, "block")}},
	GetSignatures:  {fields: []field{may(block, "block")}},
	GetMessageList: {fields: []field{may(block, "block")}},
	GetBlocks:      {fields: []field{may(from, "from"), may(set(hex32, func(c *Command) **uint32 { return &c.To }), "to")}},
	GetBroadcast:   {fields: []field{may(from, "from")}},
	GetMessage: {fields: []field{may(set(messageID, func(c *Command) **ledger.Place { return &c.MessageID }), "message_id"), may(block, "block"),
		may(node, "node"), may(set(u32, func(c *Command) **uint32 { return &c.NodeMsid }), "node_msid")}, check: oneMessage},
	GetLog: {fields: []field{may(set(u32, func(c *Command) **uint32 { return &c.From }), "from"), may(typeName, "type"),
		may(address, "address"), may(full, "full")}},
	GetTransaction: {fields: []field{need(set(txID, func(c *Command) **ledger.Place { return &c.Tx }), "txid")}},
	GetVIPKeys:     {fields: []field{need(set(hash, func(c *Command) **types.Hash { return &c.VIPHash }), "viphash")}},
	GetFields:      {fields: []field{may(typeName, "type")}},
	DecodeRaw:      {fields: []field{need(data, "data")}},
	SendAgain:      {fields: []field{need(data, "data")}},

	"send_one":  {fields: []field{need(address, "address"), need(coins, "amount"), may(message32, "message")}},
	"send_many": {fields: []field{need(wires, "wires")}},
	"broadcast": {fields: []field{may(data, "message"), may(ascii, "message_ascii")}, check: oneText},
	"create_account": {fields: []field{may(node, "node"), may(key, "public_key", "pkey"), may(proof, "confirm")},
		check: keyWithProof},
	"create_node":          {},
	"log_account":          {},
	"retrieve_funds":       {fields: []field{need(address, "address")}},
	"change_account_key":   {fields: []field{need(key, "public_key", "pkey"), need(proof, "confirm", "signature")}},
	"change_node_key":      {fields: []field{need(key, "public_key", "pkey"), may(proof, "confirm"), may(node, "node")}},
	"set_account_status":   {fields: []field{need(address, "address"), need(status, "status")}, check: status16},
	"unset_account_status": {fields: []field{need(address, "address"), need(status, "status")}, check: status16},
	"set_node_status":      {fields: []field{need(node, "node"), need(status, "status")}},
	"unset_node_status":    {fields: []field{need(node, "node"), need(status, "status")}},
}

func init() { // breaks the initialisation cycle with knownType
	s := specs[GetFields]
	s.check = knownType
	specs[GetFields] = s
}

// names lists the commands, for errors and get_fields.
func names() []string {
	var all []string
	for name := range specs {
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}

// Decode reads a command strictly: unknown commands and fields, fields that miss or come twice, and values of the wrong form are
// CodeParse.
func Decode(text []byte) (*Command, *Error) {
	if len(text) > MaxCommand {
		return nil, parseError("a command of %d bytes: at most %d", len(text), MaxCommand)
	}
	all, err := members(text)
	if err != nil {
		return nil, err
	}
	at := slices.IndexFunc(all, func(v value) bool { return v.name == "run" })
	if at < 0 {
		return nil, parseError(`there is no field "run", which names the command`)
	}
	c := &Command{}
	if c.Run, err = all[at].text(); err != nil {
		return nil, err
	}
	if c.Run == "send_raw" {
		c.Run = SendAgain
	}
	s, ok := specs[c.Run]
	if !ok {
		return nil, parseError("the command %.40q is not known: there are %s", c.Run, strings.Join(names(), ", "))
	}
	if err := c.read(s, slices.Delete(all, at, at+1)); err != nil {
		return nil, err
	}
	if s.check != nil {
		if err := s.check(c); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// read has each field of the command take what was given under the first of its names; what then is left is nobody's. So "signature"
// of change_account_key is the new key's proof, unless "confirm" is there too.
func (c *Command) read(s spec, given []value) *Error {
	for _, f := range slices.Concat(s.fields, common) {
		at := -1
		for _, name := range f.names {
			if at < 0 {
				at = slices.IndexFunc(given, func(v value) bool { return v.name == name })
			}
		}
		switch {
		case at >= 0:
			if err := f.set(c, given[at]); err != nil {
				return err
			}
			given = slices.Delete(given, at, at+1)
		case f.need:
			return parseError(`%s needs the field "%s"`, c.Run, strings.Join(f.names, `" or "`))
		}
	}
	if len(given) > 0 {
		return parseError("the field %.40q is none of %s, which takes %s", given[0].name, c.Run, strings.Join(fieldNames(c.Run), ", "))
	}
	return nil
}

// fieldNames lists what a command takes, in the order of the table.
func fieldNames(run string) []string {
	var all []string
	for _, f := range slices.Concat(specs[run].fields, common) {
		all = append(all, f.names[0])
	}
	return all
}
