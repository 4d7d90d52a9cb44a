package esc

import (
	"github.com/eschaton-network/chand/ledger"
)

// bodies make the part of a transaction that its command says. What the state is for: the sender's node, and its secret.
var bodies = map[string]func(*Command, State) (ledger.Body, *Error){
	"send_one": func(c *Command, _ State) (ledger.Body, *Error) {
		if c.Amount < 0 {
			return nil, fail(17, "%s coins to %s: an amount is 0 or more", Coins(c.Amount), c.Address)
		}
		return ledger.SendOne{To: *c.Address, Amount: c.Amount, Message: c.Message}, nil
	},
	"send_many":   func(c *Command, _ State) (ledger.Body, *Error) { return ledger.SendMany{Wires: c.Wires}, nil },
	"broadcast":   func(c *Command, _ State) (ledger.Body, *Error) { return ledger.Broadcast{Data: c.Data}, nil },
	"create_node": func(*Command, State) (ledger.Body, *Error) { return ledger.CreateNode{}, nil },
	"log_account": func(*Command, State) (ledger.Body, *Error) { return ledger.LogAccount{}, nil },
	"retrieve_funds": func(c *Command, _ State) (ledger.Body, *Error) {
		return ledger.RetrieveFunds{Account: *c.Address}, nil
	},
	"create_account": createAccount,
	"change_account_key": func(c *Command, _ State) (ledger.Body, *Error) {
		return ledger.ChangeAccountKey{PublicKey: *c.Key, Proof: *c.Proof}, nil
	},
	"change_node_key": changeNodeKey,
	"set_account_status": func(c *Command, _ State) (ledger.Body, *Error) {
		return ledger.SetAccountStatus{Account: *c.Address, Bits: uint16(*c.Status)}, nil
	},
	"unset_account_status": func(c *Command, _ State) (ledger.Body, *Error) {
		return ledger.UnsetAccountStatus{Account: *c.Address, Bits: uint16(*c.Status)}, nil
	},
	"set_node_status": func(c *Command, _ State) (ledger.Body, *Error) {
		return ledger.SetNodeStatus{Node: *c.Node, Bits: *c.Status}, nil
	},
	"unset_node_status": func(c *Command, _ State) (ledger.Body, *Error) {
		return ledger.UnsetNodeStatus{Node: *c.Node, Bits: *c.Status}, nil
	},
}

func (c *Command) body(s State) (ledger.Body, *Error) {
	body, ok := bodies[c.Run]
	if !ok {
		return nil, parseError("%s is no transaction", c.Run)
	}
	return body(c, s)
}

// createAccount gives the new account the key of the command, or the sender's own (E17).
func createAccount(c *Command, s State) (ledger.Body, *Error) {
	b := ledger.CreateAccount{Node: s.Account.Node}
	if c.Node != nil {
		b.Node = *c.Node
	}
	if c.Key != nil {
		b.PublicKey, b.Proof = *c.Key, *c.Proof
	}
	return b, nil
}

// changeNodeKey needs the new key's proof (the original's node looked for its secret in key/key.txt instead); for the sender's own
// key it is made here.
func changeNodeKey(c *Command, s State) (ledger.Body, *Error) {
	b := ledger.ChangeNodeKey{PublicKey: *c.Key}
	if c.Node != nil {
		b.Node = *c.Node
	}
	switch {
	case c.Proof != nil:
		b.Proof = *c.Proof
	case s.Secret != nil && ledger.PublicKey(*s.Secret) == *c.Key:
		b.Proof = ledger.KeyProof(*s.Secret)
	default:
		return nil, parseError(`change_node_key needs the field "confirm": the new key's signature of the empty message, the line SG of the key tool`)
	}
	return b, nil
}
