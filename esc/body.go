package esc

import (
	"github.com/eschaton-network/chand/ledger"
)

// body makes the part of a transaction that the command says.
func (c *Command) body(s State) (ledger.Body, *Error) {
	switch c.Run {
	case "send_one":
		if c.Amount < 0 {
			return nil, fail(17, "%s coins to %s: an amount is 0 or more", Coins(c.Amount), c.Address)
		}
		return ledger.SendOne{To: *c.Address, Amount: c.Amount, Message: c.Message}, nil
	case "send_many":
		return ledger.SendMany{Wires: c.Wires}, nil
	case "broadcast":
		return ledger.Broadcast{Data: c.Data}, nil
	case "create_account":
		return c.createAccount(s)
	case "change_account_key":
		return ledger.ChangeAccountKey{PublicKey: *c.Key, Proof: *c.Proof}, nil
	}
	return nil, parseError("%s is no transaction", c.Run)
}

// createAccount gives the new account the key of the command, or the sender's own (E17).
func (c *Command) createAccount(s State) (ledger.Body, *Error) {
	b := ledger.CreateAccount{Node: s.Account.Node}
	if c.Node != nil {
		b.Node = *c.Node
	}
	switch {
	case c.Key != nil:
		b.PublicKey, b.Proof = *c.Key, *c.Proof
	case s.Secret != nil:
		b.PublicKey, b.Proof = ledger.PublicKey(*s.Secret), ledger.KeyProof(*s.Secret)
	default:
		return nil, fail(CodeNoKey, "without public_key and confirm the new account gets the sender's key, whose secret is not here")
	}
	return b, nil
}
