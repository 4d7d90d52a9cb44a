package escd

import (
	"net/http"
	"slices"
	"strconv"

	"github.com/eschaton-network/chand/esc"
	"github.com/eschaton-network/chand/types"
)

// maxEscLog bounds the entries of one answer of the log: some 4 MB.
const maxEscLog = MaxLog

// escLog answers get_log: what concerned an account since a time, oldest first.
func (o *office) escLog(w http.ResponseWriter, r *http.Request) {
	id, err := types.ParseAccountID(r.PathValue("address"))
	if err != nil {
		bad(w, "%v", err)
		return
	}
	var since uint64
	if s := r.FormValue("from"); s != "" {
		if since, err = strconv.ParseUint(s, 10, 32); err != nil {
			bad(w, "from %.20q: want seconds since 1970", s)
			return
		}
	}
	v, err := o.n.escLog(id, types.Time(since))
	reply(w, v, err)
}

func (n *Node) escLog(id types.AccountID, since types.Time) (v esc.LogView, err error) {
	_, _, head, err := n.aheadOf(id)
	if err != nil {
		return v, err
	}
	entries, err := n.AccountLog(id, since, maxEscLog)
	if err != nil {
		return v, err
	}
	slices.Reverse(entries)
	v = esc.LogView{Clock: n.clock(head), Account: id, Entries: []esc.LogEntryView{}}
	for _, e := range entries {
		one := esc.LogEntryView{Height: e.Height, Time: e.Time, Type: e.Type, Incoming: e.Incoming, Other: e.Other, Amount: e.Amount,
			Message: e.Message, Msid: e.Msid, Code: e.Code, Text: e.Text}
		if e.Place.Position > 0 {
			one.Place = &e.Place
		}
		v.Entries = append(v.Entries, one)
	}
	return v, nil
}
