package esc

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"strconv"
	"strings"

	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

// set makes a field's reader of a reader of texts and the place where the result goes.
func set[T any](read func(v value, text string) (T, *Error), to func(*Command) **T) func(*Command, value) *Error {
	return func(c *Command, v value) *Error {
		text, err := v.text()
		if err != nil {
			return err
		}
		got, err := read(v, text)
		if err == nil {
			*to(c) = &got
		}
		return err
	}
}

func account(v value, s string) (types.AccountID, *Error) {
	id, err := types.ParseAccountID(s)
	if err != nil {
		return id, parseError("the field %q: %v", v.name, err)
	}
	return id, nil
}

func number(v value, s string, base, bits int, form string) (uint64, *Error) {
	n, err := strconv.ParseUint(s, base, bits)
	if err != nil {
		return 0, parseError("the field %q is %.40q: want %s", v.name, s, form)
	}
	return n, nil
}

func u32(v value, s string) (uint32, *Error) {
	n, err := number(v, s, 10, 32, "a whole number below 2^32")
	return uint32(n), err
}

func seconds(v value, s string) (types.Time, *Error) {
	n, err := number(v, s, 10, 32, "seconds since 1970")
	return types.Time(n), err
}

// hex32 reads hex digits, or the decimal digits of a JSON number.
func hex32(v value, s string) (uint32, *Error) {
	if v.isNumber() {
		return u32(v, s)
	}
	n, err := number(v, s, 16, 32, "up to 8 hex digits")
	return uint32(n), err
}

func hex16(v value, s string) (uint16, *Error) {
	base := 16
	if v.isNumber() {
		base = 10
	}
	n, err := number(v, s, base, 16, "up to 4 hex digits")
	return uint16(n), err
}

func height(v value, s string) (types.Height, *Error) {
	n, err := hex32(v, s)
	return types.Height(n), err
}

// nodeNumber reads a node's number: four hex digits in quotes as E17, anything else decimal as A19.
func nodeNumber(v value, s string) (uint16, *Error) {
	base := 10
	if !v.isNumber() && len(s) == 4 {
		base = 16
	}
	n, err := number(v, s, base, 16, `a node's number, like "0001" (four hex digits) or 1 (decimal)`)
	return uint16(n), err
}

func hexBytes(v value, s string, size int) ([]byte, *Error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != size {
		return nil, parseError("the field %q is %.40q (%d characters): want %d hex digits", v.name, s, len(s), 2*size)
	}
	return b, nil
}

func hash(v value, s string) (h types.Hash, _ *Error) {
	b, err := hexBytes(v, s, 32)
	copy(h[:], b)
	return h, err
}

func bytes64(v value, s string) (out [64]byte, _ *Error) {
	b, err := hexBytes(v, s, 64)
	copy(out[:], b)
	return out, err
}

// message32 is the message of a send_one.
func message32(c *Command, v value) *Error {
	s, err := v.text()
	if err == nil {
		c.Message, err = hash(v, s)
	}
	return err
}

// data is hex of any length that a transaction may have.
func data(c *Command, v value) *Error {
	s, perr := v.text()
	if perr != nil {
		return perr
	}
	b, err := hex.DecodeString(s)
	if err != nil {
		return parseError("the field %q is %.40q: want hex digits: %v", v.name, s, err)
	}
	c.Data = b
	return nil
}

func ascii(c *Command, v value) *Error {
	s, err := v.text()
	if err != nil {
		return err
	}
	if c.Data != nil {
		return parseError("message and message_ascii are both there: give one of them")
	}
	c.Data = []byte(s)
	return nil
}

// coins takes an amount; a negative one is read, for the ledger's rules to judge.
func coins(c *Command, v value) (err *Error) {
	c.Amount, err = amount(v)
	return err
}

func amount(v value) (types.Amount, *Error) {
	s, err := v.text()
	if err != nil {
		return 0, err
	}
	digits, negative := strings.CutPrefix(s, "-")
	a, perr := types.ParseAmount(digits)
	if perr != nil {
		return 0, parseError("the field %.40q: %v", v.name, perr)
	}
	if negative {
		a = -a
	}
	return a, nil
}

func wires(c *Command, v value) *Error {
	all, err := object(json.NewDecoder(bytes.NewReader(v.raw)))
	if err != nil {
		return parseError(`the field "wires": want an object of addresses and amounts: %v`, err)
	}
	for _, w := range all {
		to, err := account(w, w.name)
		if err != nil {
			return err
		}
		a, err := amount(w)
		if err != nil {
			return err
		}
		c.Wires = append(c.Wires, ledger.Wire{To: to, Amount: a})
	}
	return nil
}

func full(c *Command, v value) *Error {
	switch string(v.raw) {
	case "true", "1", `"1"`, `"true"`:
		c.Full = true
	case "false", "0", `"0"`, `"false"`:
	default:
		return parseError("the field %q is %.40s: want true or false", v.name, v.raw)
	}
	return nil
}

func extraData(_ *Command, v value) *Error {
	s, err := v.text()
	if err == nil && s != "" {
		err = fail(CodeExtraData, "the office takes no data beside a command: leave extra_data out")
	}
	return err
}

// txID reads a transaction's place in the forms of both eras.
func txID(v value, s string) (ledger.Place, *Error) {
	p, err := ledger.ParsePlace(s)
	if err != nil {
		return p, parseError("the field %q: %v", v.name, err)
	}
	return p, nil
}

// messageID reads NNNN:MMMMMMMM, with '-' or nothing between the two as well.
func messageID(v value, s string) (ledger.Place, *Error) {
	first := "0001"
	if len(s) > 4 && (s[4] == ':' || s[4] == '-') {
		first = s[4:5] + first
	}
	p, err := ledger.ParsePlace(s + first)
	if err != nil {
		return p, parseError("the field %q is %.40q: want NNNN:MMMMMMMM in hex", v.name, s)
	}
	p.Position = 0
	return p, nil
}

func oneAccount(c *Command) *Error {
	switch {
	case c.Address != nil && (c.Node != nil || c.User != nil):
		return parseError("get_account takes either an address or a node and an id, not both")
	case c.Address != nil:
		return nil
	case c.Node == nil || c.User == nil:
		return parseError(`get_account needs the field "address", or "node" and "id"`)
	}
	c.Address = &types.AccountID{Node: *c.Node, User: *c.User}
	return nil
}

func oneMessage(c *Command) *Error {
	switch {
	case c.MessageID != nil && (c.Node != nil || c.NodeMsid != nil):
		return parseError("get_message takes either a message_id or a node and a node_msid, not both")
	case c.MessageID != nil:
		return nil
	case c.Node == nil || c.NodeMsid == nil:
		return parseError(`get_message needs the field "message_id", or "node" and "node_msid"`)
	}
	c.MessageID = &ledger.Place{Node: *c.Node, Msid: *c.NodeMsid}
	return nil
}

func oneText(c *Command) *Error {
	if c.Data == nil {
		return parseError(`broadcast needs the field "message" (hex) or "message_ascii"`)
	}
	return nil
}

func keyWithProof(c *Command) *Error {
	if (c.Key == nil) != (c.Proof == nil) {
		return parseError(`create_account takes "public_key" and "confirm" (its signature of the empty message) together, or neither`)
	}
	return nil
}

func status16(c *Command) *Error {
	if *c.Status > 0xFFFF {
		return parseError("an account's status has 16 bits, not %d", *c.Status)
	}
	return nil
}

func knownType(c *Command) *Error {
	if _, ok := specs[c.Type]; c.Type != "" && !ok {
		return parseError("get_fields: the command %.40q is not known: there are %s", c.Type, strings.Join(names(), ", "))
	}
	return nil
}
