package esc

import "github.com/eschaton-network/chand/types"

// ShowLog appends the answer to get_log; typeName, where there is one, leaves out entries of other types.
func ShowLog(o *Object, v LogView, typeName string) {
	var list List
	for _, e := range v.Entries {
		name := TypeName(e.Type)
		if typeName != "" && name != typeName {
			continue
		}
		list = append(list, showEntry(e, name))
	}
	o.Add("address", v.Account.String())
	o.Add("log", list)
}

func showEntry(e LogEntryView, name string) Object {
	var one Object
	one.Add("time", int64(e.Time))
	one.Add("date", Date(e.Time))
	one.Add("type_no", e.Type)
	one.Add("type", name)
	one.Add("confirmed", "yes")
	one.Add("block_id", BlockID(e.Height))
	if e.Incoming {
		one.Add("inout", "in")
	} else {
		one.Add("inout", "out")
	}
	if !e.Other.IsZero() {
		one.Add("node", e.Other.Node)
		one.Add("account", e.Other.User)
		one.Add("address", e.Other.String())
	}
	ShowPlace(&one, e.Place)
	if e.Place != nil {
		one.Add("account_msid", e.Msid)
	}
	one.Add("amount", e.Amount)
	if e.Message != (types.Hash{}) {
		one.Add("message", e.Message)
	}
	if e.Code != 0 {
		one.AddError(&Error{Code: e.Code, Info: e.Text})
	}
	return one
}
