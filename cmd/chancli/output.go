package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/eschaton-network/chand/rpc"
	chandv1 "github.com/eschaton-network/chand/rpc/gen/chand/v1"
)

// errorObject is the JSON form of an error.
type errorObject struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Next    string `json:"next"`
	Money   string `json:"money,omitempty"`
}

func (a *app) printError(e *errorObject) {
	if a.json {
		_ = json.NewEncoder(a.errs).Encode(e) // there is nobody left to tell
		return
	}
	fmt.Fprintln(a.errs, "chancli:", lines(e.Message))
	if e.Money != "" {
		fmt.Fprintln(a.errs, "  money:", clean(e.Money))
	}
	if e.Next != "" {
		fmt.Fprintln(a.errs, "  next: ", clean(e.Next))
	}
}

// show prints a message as one line of JSON, or by the function for people.
func (a *app) show(m proto.Message, people func()) error {
	if !a.json && a.field == "" {
		people()
		return nil
	}
	b, err := rpc.MarshalJSON(m)
	if err != nil {
		return err
	}
	if a.field != "" {
		return a.showField(b)
	}
	var line bytes.Buffer // protojson varies its spaces on purpose
	if err := json.Compact(&line, b); err != nil {
		return err
	}
	line.WriteByte('\n')
	_, err = a.out.Write(line.Bytes())
	return err
}

// showValue is show for what is no message of the schema.
func (a *app) showValue(v any, people func()) error {
	switch {
	case a.field != "":
		b, err := json.Marshal(v)
		if err != nil {
			return err
		}
		return a.showField(b)
	case !a.json:
		people()
		return nil
	}
	return json.NewEncoder(a.out).Encode(v)
}

// showField prints what --field names: text as it is, anything else as JSON.
func (a *app) showField(answer []byte) error {
	d := json.NewDecoder(bytes.NewReader(answer))
	d.UseNumber() // a number is printed as it came
	var v any
	if err := d.Decode(&v); err != nil {
		return err
	}
	for part := range strings.SplitSeq(a.field, ".") {
		next, ok := any(nil), false
		switch at := v.(type) {
		case map[string]any:
			next, ok = at[part]
		case []any:
			if i, err := strconv.Atoi(part); err == nil && i >= 0 && i < len(at) {
				next, ok = at[i], true
			}
		}
		if !ok {
			return fail("no_field", "see the whole answer with --json", "the answer has no field %q (there is no %q in it)", a.field, part)
		}
		v = next
	}
	if text, ok := v.(string); ok {
		_, err := fmt.Fprintln(a.out, text)
		return err
	}
	return json.NewEncoder(a.out).Encode(v)
}

// pairs prints names and values in two columns; empty values are left out.
func (a *app) pairs(kv ...string) {
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	for i := 0; i+1 < len(kv); i += 2 {
		if kv[i+1] != "" {
			fmt.Fprintf(w, "%s\t%s\n", kv[i], clean(kv[i+1]))
		}
	}
	w.Flush()
}

// table prints rows under a heading, or a sentence when there are none.
func (a *app) table(empty string, heading []string, rows [][]string) {
	if len(rows) == 0 {
		fmt.Fprintln(a.out, empty)
		return
	}
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	for _, r := range append([][]string{heading}, rows...) {
		cells := make([]string, len(r))
		for i, c := range r {
			cells[i] = clean(c)
		}
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	w.Flush()
	for line := range strings.Lines(text.String()) {
		fmt.Fprintln(a.out, strings.TrimRight(line, " \n"))
	}
}

// clean keeps what others wrote (memos, names) from steering the terminal.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return '?'
		}
		return r
	}, s)
}

// lines is clean for text of several lines, as of a syntax error; the further ones are set in.
func lines(s string) string {
	all := strings.Split(strings.TrimSpace(s), "\n")
	for i := range all {
		all[i] = clean(all[i])
	}
	return strings.Join(all, "\n    ")
}

// state is a state's word with its text, without saying the word twice.
func state(word, text string) string {
	if rest, same := strings.CutPrefix(text, word); text == "" || same && !strings.HasPrefix(rest, " ") {
		return word + rest
	}
	return word + ": " + text
}

// short cuts ids for tables; commands take them so too (whole), --json shows them whole.
func short(id string) string {
	if len(id) > 20 {
		return id[:10] + "…" + id[len(id)-6:]
	}
	return id
}

func clock(t *timestamppb.Timestamp) string {
	if t == nil {
		return ""
	}
	return t.AsTime().Local().Format(time.DateTime)
}

func deadline(d *chandv1.Deadline) string {
	if d == nil {
		return ""
	}
	return fmt.Sprintf("block %d, about %s", d.Block, clock(d.Time))
}

// nonzero leaves an amount out that is nothing.
func nonzero(amount string) string {
	if amount == "0" {
		return ""
	}
	return amount
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
