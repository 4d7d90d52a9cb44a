package main

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/eschaton-network/chand/esc"
	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

// escRead is a command that only asks; it appends the answer to o.
type escRead func(c *escSession, ctx context.Context, cmd *esc.Command, o *esc.Object) *esc.Error

var escReads = map[string]escRead{
	esc.GetMe: func(c *escSession, ctx context.Context, cmd *esc.Command, o *esc.Object) *esc.Error {
		me := c.state.For(cmd).Account
		if me.IsZero() {
			return &esc.Error{Code: ledger.CodeBadUser, Info: "no account: set address= in " + esc.SettingsName + " or give --address"}
		}
		return c.getAccount(ctx, cmd, me, o)
	},
	esc.GetAccount: func(c *escSession, ctx context.Context, cmd *esc.Command, o *esc.Object) *esc.Error {
		return c.getAccount(ctx, cmd, *cmd.Address, o)
	},
	esc.GetAccounts: (*escSession).getAccounts,
	esc.GetLog:      (*escSession).getLog,
	esc.GetFields: func(_ *escSession, _ context.Context, cmd *esc.Command, o *esc.Object) *esc.Error {
		*o = append(*o, esc.ShowFields(cmd.Type)...)
		return nil
	},
	esc.GetBlocks: (*escSession).getBlocks,
	esc.GetBlock: simple(func(cmd *esc.Command) string { return "block" + at(cmd.Block) }, func(o *esc.Object, v esc.BlockView) *esc.Error {
		v.Clock.Show(o)
		esc.ShowBlock(o, v)
		return nil
	}),
	esc.GetSignatures: simple(func(cmd *esc.Command) string { return "signatures" + at(cmd.Block) }, func(o *esc.Object, v esc.SignaturesView) *esc.Error {
		v.Clock.Show(o)
		esc.ShowSignatures(o, v)
		return nil
	}),
	esc.GetVIPKeys: simple(func(cmd *esc.Command) string { return "validators/" + cmd.VIPHash.String() }, func(o *esc.Object, v esc.ValidatorsView) *esc.Error {
		v.Clock.Show(o)
		esc.ShowValidators(o, v)
		return nil
	}),
	esc.GetMessageList: simple(func(cmd *esc.Command) string { return "messages" + at(cmd.Block) }, func(o *esc.Object, v esc.MessagesView) *esc.Error {
		v.Clock.Show(o)
		esc.ShowMessages(o, v)
		return nil
	}),
	esc.GetMessage: simple(func(cmd *esc.Command) string {
		return fmt.Sprintf("messages/%d/%d", cmd.MessageID.Node, cmd.MessageID.Msid) + at(cmd.Block)
	}, func(o *esc.Object, v esc.OneMessageView) *esc.Error {
		v.Clock.Show(o)
		esc.ShowMessage(o, v)
		return nil
	}),
	esc.GetTransaction: simple(func(cmd *esc.Command) string { return "transactions/" + cmd.Tx.String() }, func(o *esc.Object, v esc.TransactionView) *esc.Error {
		v.Clock.Show(o)
		return esc.ShowTransaction(o, v)
	}),
	esc.GetBroadcast: simple(func(cmd *esc.Command) string {
		if cmd.From == nil || *cmd.From == 0 {
			return "broadcasts"
		}
		return "broadcasts?height=" + strconv.FormatUint(uint64(*cmd.From), 10)
	}, func(o *esc.Object, v esc.BroadcastsView) *esc.Error {
		v.Clock.Show(o)
		return esc.ShowBroadcasts(o, v)
	}),
}

// simple is a command that is one question and one answer.
func simple[V any](path func(*esc.Command) string, show func(*esc.Object, V) *esc.Error) escRead {
	return func(c *escSession, ctx context.Context, cmd *esc.Command, o *esc.Object) *esc.Error {
		var v V
		if err := c.office.get(ctx, path(cmd), &v); err != nil {
			return err
		}
		return show(o, v)
	}
}

// at is the query for a block; none: the newest one.
func at(h *types.Height) string {
	if h == nil || *h == 0 {
		return ""
	}
	return "?height=" + strconv.FormatUint(uint64(*h), 10)
}

// getAccount answers get_me and get_account. What it learns of the client's own account is signed with from then on.
func (c *escSession) getAccount(ctx context.Context, cmd *esc.Command, id types.AccountID, o *esc.Object) *esc.Error {
	before := c.state.For(cmd)
	var request []byte
	if before.Secret != nil && !before.Account.IsZero() {
		now := types.Time(time.Now().Unix())
		if cmd.Time != nil {
			now = *cmd.Time
		}
		request = ledger.GetMe{From: before.Account, Target: id, Time: now}.Sign(*before.Secret)
	}
	if c.set.DryRun {
		o.Add("tx", esc.ShowRequest(request, before))
		return nil
	}
	a, err := c.account(ctx, id, request)
	if err != nil {
		o.Add("tx", esc.ShowRequest(request, before))
		return err
	}
	a.clock.Show(o)
	o.Add("tx", esc.ShowRequest(request, before))
	o.Add("account", esc.ShowAccount(id, &a.office))
	network := esc.ShowAccount(id, &a.network)
	network.Add("checksum", a.checked)
	o.Add("network_account", network)
	if id == c.state.Account {
		c.state.Msid, c.state.Hash, c.state.Known = a.office.Msid, a.office.Hash, true
	}
	return nil
}

// getLog answers get_log, for the client's own account when the command names none.
func (c *escSession) getLog(ctx context.Context, cmd *esc.Command, o *esc.Object) *esc.Error {
	id := c.state.For(cmd).Account
	if cmd.Address != nil {
		id = *cmd.Address
	}
	path := "log/" + id.String()
	if cmd.From != nil {
		path += "?from=" + strconv.FormatUint(uint64(*cmd.From), 10)
	}
	var v esc.LogView
	if err := c.office.get(ctx, path, &v); err != nil {
		return err
	}
	v.Clock.Show(o)
	esc.ShowLog(o, v, cmd.Type)
	return nil
}

// maxEscAccounts bounds what get_accounts prints: some 30 MB.
const maxEscAccounts = 1 << 16

func (c *escSession) getAccounts(ctx context.Context, cmd *esc.Command, o *esc.Object) *esc.Error {
	var list esc.List
	for more := true; more; {
		var v esc.AccountsView
		if err := c.office.get(ctx, fmt.Sprintf("accounts?node=%d&from=%d", *cmd.Node, len(list)), &v); err != nil {
			return err
		}
		if cmd.Block != nil && *cmd.Block != v.Clock.Height {
			return &esc.Error{Code: esc.CodeNoBlock, Info: fmt.Sprintf("accounts are known as of the newest block alone, which is %s; leave block out", esc.BlockID(v.Clock.Height))}
		}
		if len(list) == 0 {
			v.Clock.Show(o)
		}
		for i, raw := range v.Records {
			id := types.AccountID{Node: v.Node, User: v.First + uint32(i)}
			r, ok, err := ledger.ParseRecord(raw, id)
			if err != nil || !ok || v.First != uint32(len(list)-i) {
				return &esc.Error{Code: esc.CodeConnect, Info: fmt.Sprintf("the office's record of account %s is damaged", id)}
			}
			list = append(list, esc.ShowAccount(id, &r))
		}
		if more = v.More && len(v.Records) > 0; more && len(list) >= maxEscAccounts {
			return &esc.Error{Code: ledger.CodeLength, Info: fmt.Sprintf("node %d has more than %d accounts: ask for single ones with get_account", v.Node, maxEscAccounts)}
		}
	}
	o.Add("accounts", list)
	return nil
}

// maxEscBlocks bounds what get_blocks asks for at a time.
const maxEscBlocks = 1000

// getBlocks lists the blocks of a range.
func (c *escSession) getBlocks(ctx context.Context, cmd *esc.Command, o *esc.Object) *esc.Error {
	var newest esc.BlockView
	if err := c.office.get(ctx, "block", &newest); err != nil {
		return err
	}
	from, to := types.Height(1), newest.Height
	if cmd.To != nil && *cmd.To != 0 {
		to = min(to, types.Height(*cmd.To))
	}
	if to >= maxEscBlocks {
		from = to - maxEscBlocks + 1
	}
	if cmd.From != nil && *cmd.From != 0 {
		from = types.Height(*cmd.From)
	}
	if from > to || to-from >= maxEscBlocks {
		return &esc.Error{Code: 53, Info: fmt.Sprintf("blocks %s to %s: want 1 to %d blocks that exist, the newest is %s", esc.BlockID(from), esc.BlockID(to), maxEscBlocks, esc.BlockID(newest.Height))}
	}
	newest.Clock.Show(o)
	var list esc.List
	for h := from; h <= to; h++ {
		var v esc.BlockView
		if err := c.office.get(ctx, "block"+at(&h), &v); err != nil {
			return err
		}
		var one esc.Object
		one.Add("id", esc.BlockID(v.Height))
		one.Add("nowhash", v.NowHash)
		list = append(list, one)
	}
	o.Add("updated_blocks", len(list))
	o.Add("blocks", list)
	return nil
}
