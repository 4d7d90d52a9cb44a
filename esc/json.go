package esc

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

// Object is a JSON object whose members keep their order. A value is a string, an Object or a List.
type Object []Member

// Member is one name and value.
type Member struct {
	Name  string
	Value any
}

// List is a JSON array of strings, Objects and Lists.
type List []any

// Add appends a member; numbers become strings, as every value in the original's answers is one.
func (o *Object) Add(name string, value any) {
	switch v := value.(type) {
	case string, Object, List:
	case bool:
		value = strconv.FormatBool(v)
	case types.Amount:
		value = Coins(v)
	case types.Hash:
		value = Hex(v[:])
	case [64]byte:
		value = Hex(v[:])
	case []byte:
		value = Hex(v)
	default:
		value = fmt.Sprint(v)
	}
	*o = append(*o, Member{name, value})
}

// Get returns a member's value, nil when there is none.
func (o Object) Get(name string) any {
	for _, m := range o {
		if m.Name == name {
			return m.Value
		}
	}
	return nil
}

// Text writes the object and a newline: indented by four spaces a level when nice, else in one line.
func (o Object) Text(nice bool) []byte {
	var b bytes.Buffer
	write(&b, o, nice, "\n")
	b.WriteByte('\n')
	return b.Bytes()
}

func write(b *bytes.Buffer, v any, nice bool, line string) {
	switch v := v.(type) {
	case Object:
		group(b, '{', '}', len(v), nice, line, func(i int, inner string) {
			quote(b, v[i].Name)
			b.WriteByte(':')
			if nice {
				b.WriteByte(' ')
			}
			write(b, v[i].Value, nice, inner)
		})
	case List:
		group(b, '[', ']', len(v), nice, line, func(i int, inner string) { write(b, v[i], nice, inner) })
	case string:
		quote(b, v)
	}
}

func group(b *bytes.Buffer, open, end byte, n int, nice bool, line string, item func(i int, inner string)) {
	inner := line + "    "
	b.WriteByte(open)
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		if nice {
			b.WriteString(inner)
		}
		item(i, inner)
	}
	if nice && n > 0 {
		b.WriteString(line)
	}
	b.WriteByte(end)
}

func quote(b *bytes.Buffer, s string) {
	e := json.NewEncoder(b)
	e.SetEscapeHTML(false)
	_ = e.Encode(s) // a string into memory can't fail
	b.Truncate(b.Len() - 1)
}

// Hex is upper-case hex, as the original writes it.
func Hex(b []byte) string { return strings.ToUpper(hex.EncodeToString(b)) }

// Coins writes an amount with all nine decimals: "0.100000000".
func Coins(a types.Amount) string {
	sign, u := "", uint64(a)
	if a < 0 {
		sign, u = "-", -uint64(a)
	}
	return fmt.Sprintf("%s%d.%09d", sign, u/uint64(types.Coin), u%uint64(types.Coin))
}

// value is one member of a command as it stands in the input.
type value struct {
	name string
	raw  json.RawMessage
}

// members reads one JSON object and nothing else: no member twice, and no value deeper than it may be is left unread.
func members(text []byte) ([]value, *Error) {
	d := json.NewDecoder(bytes.NewReader(text))
	all, err := object(d)
	if err != nil {
		return nil, parseError("the command is not a JSON object: %v", err)
	}
	if rest := bytes.TrimSpace(text[d.InputOffset():]); len(rest) > 0 {
		return nil, parseError("%.40q follows the command: one command a line", rest)
	}
	if len(all) > maxFields {
		return nil, parseError("%d fields: no command has more than %d", len(all), maxFields)
	}
	for i, v := range all {
		if slices.ContainsFunc(all[:i], func(before value) bool { return before.name == v.name }) {
			return nil, parseError("the field %.40q is there twice", v.name)
		}
	}
	return all, nil
}

const (
	// maxFields bounds the fields of a command; none has half as many.
	maxFields = 32
	// maxMembers bounds the members of any object: the targets of a send_many.
	maxMembers = ledger.MaxWires
)

// object reads an object's members in order; the same name may come again.
func object(d *json.Decoder) ([]value, error) {
	t, err := d.Token()
	if err != nil {
		return nil, err
	}
	if t != json.Delim('{') {
		return nil, fmt.Errorf("it starts with %v", t)
	}
	var all []value
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, err
		}
		v := value{name: name.(string)} // between members the decoder gives nothing else
		if err := d.Decode(&v.raw); err != nil {
			return nil, err
		}
		if all = append(all, v); len(all) > maxMembers {
			return nil, fmt.Errorf("more than %d members", maxMembers)
		}
	}
	_, err = d.Token()
	return all, err
}

// text takes a value that is a string or a number, as the original does: both are the same to it.
func (v value) text() (string, *Error) {
	raw := bytes.TrimSpace(v.raw)
	switch {
	case len(raw) > 0 && raw[0] == '"':
		var s string
		if err := json.Unmarshal(raw, &s); err != nil {
			return "", parseError("the field %.40q: %v", v.name, err)
		}
		return s, nil
	case len(raw) > 0 && (raw[0] == '-' || raw[0] >= '0' && raw[0] <= '9'):
		return string(raw), nil
	}
	return "", parseError("the field %.40q is %.40s: want a string or a number", v.name, raw)
}

// isNumber tells a JSON number from a string.
func (v value) isNumber() bool { return len(v.raw) > 0 && v.raw[0] != '"' }
