package esc

import (
	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

// State is what the client knows of the account that it signs for. It goes from one command to the next.
type State struct {
	Account types.AccountID
	// Msid and Hash are the number and hash of the next transaction; Known tells whether they are.
	Msid  uint32
	Hash  types.Hash
	Known bool
	// Secret is nil when there is none.
	Secret *[32]byte
}

// For is the state under which a command is signed: what it says of itself stands in for what the client knows.
func (s State) For(c *Command) State {
	if c.Sender != nil && *c.Sender != s.Account {
		s.Account, s.Known = *c.Sender, false
	}
	if c.Msid != nil {
		s.Msid = *c.Msid
	}
	if c.Hash != nil {
		s.Hash = *c.Hash
	}
	s.Known = s.Known || c.Msid != nil && c.Hash != nil
	return s
}

// Transaction is a signed transaction with what the client shows of it.
type Transaction struct {
	Tx  *ledger.Tx
	Raw []byte
	// Chained tells whether HashIn and HashOut, the account's hash before and after, are known.
	Chained         bool
	HashIn, HashOut types.Hash
	Fee, Deduct     types.Amount
}

// Next is the state after the transaction.
func (s State) Next(t *Transaction) State {
	if t.Chained && t.Tx.From == s.Account {
		s.Msid, s.Hash, s.Known = t.Tx.Msid+1, t.HashOut, true
	}
	return s
}

// Build makes the transaction of a command, signed with the state's secret or with the command's own signature. now is the client's
// clock, taken when the command has no time. The state's Msid and Hash must be known.
func Build(c *Command, s State, now types.Time) (*Transaction, *Error) {
	if c.Time != nil {
		now = *c.Time
	}
	if s.Secret == nil && c.Signature == nil {
		return nil, fail(CodeNoKey, "%s is signed: set secret= in %s, give --secret, or a signature with the command", c.Run, SettingsName)
	}
	body, err := c.body(s)
	if err != nil {
		return nil, err
	}
	head := ledger.Head{From: s.Account, Msid: s.Msid, Time: now}
	var raw []byte
	var rerr error
	if c.Signature != nil {
		raw, rerr = ledger.Assemble(head, body, *c.Signature)
	} else {
		raw, _, rerr = ledger.Sign(*s.Secret, s.Hash, head, body)
	}
	if rerr != nil {
		return nil, Wrap(rerr)
	}
	t, err := decode(raw)
	if err == nil {
		t.chain(s.Hash)
	}
	return t, err
}

func (t *Transaction) chain(in types.Hash) {
	t.Chained, t.HashIn, t.HashOut = true, in, ledger.NextHash(in, t.Tx.Signature)
}

// decode reads a transaction's bytes.
func decode(raw []byte) (*Transaction, *Error) {
	tx, err := ledger.DecodeTx(raw)
	if err != nil {
		return nil, Wrap(err)
	}
	return &Transaction{Tx: tx, Raw: raw, Fee: ledger.Fee(tx.From, tx.Body), Deduct: ledger.Cost(tx.From, tx.Body)}, nil
}

// Raw makes the transaction of a send_again or decode_raw: data are its bytes, with the signature where E17 has it, or without
// it when the command has it beside them (A19).
func (c *Command) Raw(s State) (*Transaction, *Error) {
	raw := c.Data
	if c.Signature != nil {
		var err *Error
		if raw, err = insert(raw, *c.Signature); err != nil {
			return nil, err
		}
	}
	t, err := decode(raw)
	if err == nil && (c.Hash != nil || s.Known && s.Account == t.Tx.From && s.Msid == t.Tx.Msid) {
		t.chain(s.For(c).Hash)
	}
	return t, err
}

// insert puts a signature after the bytes that it covers: at the end, or before the 64 bytes of a proof.
func insert(signed []byte, sig [64]byte) ([]byte, *Error) {
	var first *Error
	for _, tail := range []int{0, 64} {
		if len(signed) < tail {
			break
		}
		at := len(signed) - tail
		raw := append(append(append([]byte(nil), signed[:at]...), sig[:]...), signed[at:]...)
		_, err := ledger.DecodeTx(raw)
		if err == nil {
			return raw, nil
		}
		if first == nil {
			first = Wrap(err)
		}
	}
	return nil, first
}
