package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	chandv1 "github.com/eschaton-network/chand/rpc/gen/chand/v1"
	"github.com/eschaton-network/chand/rpc/gen/chand/v1/chandv1connect"
)

func (a *app) escrowCommand() *cobra.Command {
	c := &cobra.Command{Use: "escrow", Short: "payments that wait for the goods"}
	var r chandv1.OpenEscrowRequest
	open := &cobra.Command{Use: "open PEER AMOUNT", Short: "lock an amount for a peer", Args: cobra.ExactArgs(2), RunE: func(cmd *cobra.Command, args []string) error {
		if err := amounts(args[1]); err != nil {
			return err
		}
		d, err := a.daemon()
		if err != nil {
			return err
		}
		r.Peer, r.Amount = args[0], args[1]
		v, err := keyed(&r.IdempotencyKey, func(string) (*chandv1.Escrow, error) { return d.Escrows.Open(cmd.Context(), &r) })
		if err != nil {
			return err
		}
		return a.showEscrow(v)
	}}
	open.Flags().StringVar(&r.Memo, "memo", "", "what it is for")
	open.Flags().Uint32Var(&r.LifetimeBlocks, "lifetime-blocks", 0, "until it is given back by itself (0: the daemon's setting)")
	open.Flags().StringVar(&r.MaxFee, "max-fee", "", "most to pay for forwarding")
	keyFlag(open, &r.IdempotencyKey)

	var l chandv1.ListEscrowsRequest
	list := &cobra.Command{Use: "list", Short: "escrows", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		d, err := a.daemon()
		if err != nil {
			return err
		}
		v, err := d.Escrows.List(cmd.Context(), &l)
		if err != nil {
			return err
		}
		return a.show(v, func() {
			var rows [][]string
			for _, e := range v.Escrows {
				rows = append(rows, []string{short(e.Id), e.Role, short(e.Peer), e.State, e.Amount, e.WhoActs, deadline(e.Deadline), e.Memo})
			}
			a.table("no escrows yet", []string{"ESCROW", "ROLE", "PEER", "STATE", "AMOUNT", "WHO ACTS", "GIVEN BACK AT", "MEMO"}, rows)
			a.more(v.NextPageToken)
		})
	}}
	pageFlags(list, &l.Limit, &l.PageToken)
	c.AddCommand(open, list,
		a.escrowAct("release ID", "give the money to the payee", chandv1connect.EscrowsClient.Release),
		a.escrowAct("refund ID", "give the money back to the payer", chandv1connect.EscrowsClient.Refund),
		a.escrowAct("show ID", "one escrow in full", chandv1connect.EscrowsClient.Get))
	return c
}

func (a *app) escrowAct(use, text string, act func(chandv1connect.EscrowsClient, context.Context, *chandv1.EscrowRequest) (*chandv1.Escrow, error)) *cobra.Command {
	return &cobra.Command{Use: use, Short: text, Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		d, err := a.daemon()
		if err != nil {
			return err
		}
		id, err := a.escrowID(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		v, err := act(d.Escrows, cmd.Context(), &chandv1.EscrowRequest{Id: id})
		if err != nil {
			return err
		}
		return a.showEscrow(v)
	}}
}

func (a *app) showEscrow(e *chandv1.Escrow) error {
	err := a.show(e, func() {
		a.pairs("escrow", e.Id, "role", e.Role, "peer", e.Peer, "state", state(e.State, e.StateText), "amount", e.Amount, "fee", e.Fee, "memo", e.Memo,
			"who acts", e.WhoActs, "given back at", deadline(e.Deadline), "preimage", e.Preimage, "opened", clock(e.Opened), "closed", clock(e.Closed), "next", strings.ReplaceAll(e.Next, " ID", " "+e.Id))
	})
	if err == nil && e.State == "failed" {
		f := e.GetFailure()
		return fail("escrow_failed", f.GetNext(), "the escrow failed: %s", f.GetText())
	}
	return err
}
