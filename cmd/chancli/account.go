package main

import (
	"fmt"
	"strings"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"github.com/eschaton-network/chand/rpc"
	chandv1 "github.com/eschaton-network/chand/rpc/gen/chand/v1"
)

func (a *app) accountCommand() *cobra.Command {
	c := &cobra.Command{Use: "account [ADDRESS]", Short: "the account on the ledger, or another one", Args: cobra.MaximumNArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		d, err := a.daemon()
		if err != nil {
			return err
		}
		r := &chandv1.GetAccountRequest{}
		if len(args) > 0 {
			r.Address = args[0]
		}
		v, err := d.Account.Get(cmd.Context(), r)
		if err != nil {
			return err
		}
		return a.show(v, func() {
			a.pairs("account", v.Address, "balance", v.Balance, "under way", v.Pending, "public key", v.PublicKey, "next message", fmt.Sprint(v.Msid),
				"hash", v.Hash, "as of block", fmt.Sprint(v.Height))
		})
	}}
	c.AddCommand(a.accountSend())
	return c
}

func (a *app) accountSend() *cobra.Command {
	var r chandv1.SendRequest
	c := &cobra.Command{Use: "send ADDRESS AMOUNT", Short: "pay on the ledger", Args: cobra.ExactArgs(2), RunE: func(cmd *cobra.Command, args []string) error {
		if err := amounts(args[1]); err != nil {
			return err
		}
		d, err := a.daemon()
		if err != nil {
			return err
		}
		r.To, r.Amount = args[0], args[1]
		v, err := keyed(&r.IdempotencyKey, func(string) (*chandv1.SendResponse, error) { return d.Account.Send(cmd.Context(), &r) })
		if err != nil {
			return err
		}
		err = a.show(v, func() {
			if v.State != "confirmed" {
				return // the error says it
			}
			fmt.Fprintf(a.out, "%s: %s coins to %s, fee %s, transaction %s, block %d\n", v.State, v.Amount, v.To, v.Fee, v.Id, v.Block)
		})
		if err == nil && v.State != "confirmed" {
			err = rpc.Error("send_unknown", connect.CodeUnknown, strings.TrimSpace("no block has the payment yet "+v.Id)+": the ledger is slow, or not reached from here",
				"see `chancli status`; repeat with --idempotency-key "+r.IdempotencyKey+": it does not pay twice", "not known: the payment may still get into a block")
		}
		return err
	}}
	c.Flags().StringVar(&r.Message, "message", "", "32 bytes in hex for the receiver")
	keyFlag(c, &r.IdempotencyKey)
	return c
}
