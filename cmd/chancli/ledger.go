package main

import (
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	chandv1 "github.com/eschaton-network/chand/rpc/gen/chand/v1"
)

func (a *app) ledgerCommand() *cobra.Command {
	c := &cobra.Command{Use: "ledger", Short: "blocks, accounts and nodes of the ledger"}
	node := &cobra.Command{Use: "node", Short: "nodes of the ledger"}
	node.AddCommand(a.ledgerNodes())
	c.AddCommand(a.ledgerBlock(), a.ledgerWatch(), a.ledgerSubmit(), node)
	return c
}

func (a *app) ledgerBlock() *cobra.Command {
	return &cobra.Command{Use: "block [HEIGHT]", Short: "what a block did: the newest, or the one of this height", Args: cobra.MaximumNArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		r := &chandv1.GetLedgerBlockRequest{}
		if len(args) > 0 {
			h, err := strconv.ParseUint(args[0], 10, 32)
			if err != nil {
				return usage("block %.40q: want a height like 42", args[0])
			}
			r.Height = uint32(h)
		}
		d, err := a.daemon()
		if err != nil {
			return err
		}
		v, err := d.Ledger.GetBlock(cmd.Context(), r)
		if err != nil {
			return err
		}
		return a.show(v, func() {
			a.pairs("block", fmt.Sprint(v.Height), "hash", v.Hash, "time", clock(v.Time), "state root before", v.AppHash, "messages", fmt.Sprint(v.Messages),
				"executed", fmt.Sprint(v.Executed), "refused", fmt.Sprint(v.Refused))
			for _, e := range v.Events {
				a.event(e)
			}
			if v.EventsLeft > 0 {
				fmt.Fprintf(a.out, "and %d events more\n", v.EventsLeft)
			}
		})
	}}
}

// event prints an event for people, in one line.
func (a *app) event(e *chandv1.LedgerEvent) {
	line := fmt.Sprintf("  %s", e.Type)
	for _, f := range []struct{ name, value string }{{"", e.Place}, {"", e.Account}, {"to ", e.To}, {"", e.Amount}, {"contract ", short(e.Contract)}, {"id ", short(e.Id)}, {"", e.Text}} {
		if f.value != "" {
			line += "  " + f.name + clean(f.value)
		}
	}
	if e.Code != 0 {
		line += fmt.Sprintf("  (refused, code %d)", e.Code)
	}
	fmt.Fprintln(a.out, line)
}

func (a *app) ledgerWatch() *cobra.Command {
	var account string
	var from uint32
	c := &cobra.Command{Use: "watch", Short: "blocks, or what concerns an account, as they come, until interrupted", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		d, err := a.daemon()
		if err != nil {
			return err
		}
		if account == "" {
			s, err := d.Ledger.StreamBlocks(cmd.Context(), &chandv1.StreamBlocksRequest{From: from})
			if err != nil {
				return err
			}
			return follow(a, cmd, s, func(b *chandv1.LedgerBlock) {
				fmt.Fprintf(a.out, "block %d  %s  %d messages, %d executed, %d refused\n", b.Height, clock(b.Time), b.Messages, b.Executed, b.Refused)
			})
		}
		s, err := d.Ledger.WatchAccount(cmd.Context(), &chandv1.WatchAccountRequest{Account: account, From: from})
		if err != nil {
			return err
		}
		return follow(a, cmd, s, func(e *chandv1.LedgerEvent) { fmt.Fprintf(a.out, "block %d", e.Height); a.event(e) })
	}}
	c.Flags().StringVar(&account, "account", "", "only what concerns this `ADDRESS`")
	c.Flags().Uint32Var(&from, "from", 0, "first block, also one of the past (default: the next one)")
	return c
}

func (a *app) ledgerSubmit() *cobra.Command {
	return &cobra.Command{Use: "submit FILE", Short: "hand a signed transaction (raw bytes) to the ledger", Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		raw, err := readLimited(args[0], maxRawTx)
		if err != nil {
			return err
		}
		d, err := a.daemon()
		if err != nil {
			return err
		}
		v, err := d.Ledger.Submit(cmd.Context(), &chandv1.SubmitTransactionRequest{Raw: raw})
		if err != nil {
			return err
		}
		return a.show(v, func() { fmt.Fprintf(a.out, "taken: transaction %s\n", v.Id) })
	}}
}

func (a *app) ledgerNodes() *cobra.Command {
	return &cobra.Command{Use: "list", Short: "the ledger's nodes with stake, state and office", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		d, err := a.daemon()
		if err != nil {
			return err
		}
		v, err := d.Ledger.ListNodes(cmd.Context(), &chandv1.ListLedgerNodesRequest{})
		if err != nil {
			return err
		}
		return a.show(v, func() {
			var rows [][]string
			for _, n := range v.Nodes {
				rows = append(rows, []string{fmt.Sprintf("%04X", n.Number), n.State, n.Weight, n.Leased, fmt.Sprint(n.Power), fmt.Sprint(n.Accounts), fmt.Sprint(n.Msid), n.Office})
			}
			a.table("the ledger has no nodes", []string{"node", "state", "own stake", "leased", "power", "accounts", "messages", "office"}, rows)
		})
	}}
}
