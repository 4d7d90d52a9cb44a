package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	chandv1 "github.com/eschaton-network/chand/rpc/gen/chand/v1"
)

func (a *app) invoiceCommand() *cobra.Command {
	c := &cobra.Command{Use: "invoice", Short: "ask for payments"}
	var r chandv1.CreateInvoiceRequest
	var expiry time.Duration
	create := &cobra.Command{Use: "create [AMOUNT]", Short: "make an invoice; without an amount the payer chooses", Args: cobra.MaximumNArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		if len(args) == 1 {
			r.Amount = args[0]
			if err := amounts(r.Amount); err != nil {
				return err
			}
		}
		var err error
		if r.ExpirySeconds, err = wholeSeconds("--expiry", expiry); err != nil {
			return err
		}
		d, err := a.daemon()
		if err != nil {
			return err
		}
		v, err := keyed(&r.IdempotencyKey, func(string) (*chandv1.Invoice, error) { return d.Payments.CreateInvoice(cmd.Context(), &r) })
		if err != nil {
			return err
		}
		return a.show(v, func() { fmt.Fprintln(a.out, v.Invoice) })
	}}
	create.Flags().StringVar(&r.Memo, "memo", "", "what it is for")
	create.Flags().StringVar(&r.DescriptionHash, "description-hash", "", "SHA-256 in hex of a description that the payer gets by another way, instead of --memo")
	create.Flags().DurationVar(&expiry, "expiry", 0, "how long it can be paid, like 10m or 24h (0: the daemon's setting)")
	create.Flags().BoolVar(&r.Private, "private", false, "tell the payer of channels that are not public")
	create.Flags().BoolVar(&r.Blinded, "blinded", false, "hide who asks: the invoice leads over blinded paths that begin at peers")
	keyFlag(create, &r.IdempotencyKey)
	decode := &cobra.Command{Use: "decode INVOICE", Short: "what an invoice says", Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		d, err := a.daemon()
		if err != nil {
			return err
		}
		v, err := d.Payments.DecodeInvoice(cmd.Context(), &chandv1.DecodeInvoiceRequest{Invoice: args[0]})
		if err != nil {
			return err
		}
		return a.showInvoice(v)
	}}
	one := func(use, short string, call func(*cobra.Command, *chandv1.InvoiceRequest) (*chandv1.Invoice, error)) *cobra.Command {
		return &cobra.Command{Use: use, Short: short, Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := a.daemon(); err != nil {
				return err
			}
			v, err := call(cmd, &chandv1.InvoiceRequest{Hash: args[0]})
			if err != nil {
				return err
			}
			return a.showInvoice(v)
		}}
	}
	c.AddCommand(create, decode,
		one("show HASH", "an invoice of this daemon", func(cmd *cobra.Command, q *chandv1.InvoiceRequest) (*chandv1.Invoice, error) {
			return a.client.Payments.GetInvoice(cmd.Context(), q)
		}),
		one("cancel HASH", "take an unpaid invoice back; parts that are held go back to the payer", func(cmd *cobra.Command, q *chandv1.InvoiceRequest) (*chandv1.Invoice, error) {
			return a.client.Payments.CancelInvoice(cmd.Context(), q)
		}))
	return c
}

// wholeSeconds is a time span in seconds, at least one unless it is not given.
func wholeSeconds(flag string, d time.Duration) (uint32, error) {
	n := d / time.Second
	if d < 0 || d%time.Second != 0 || n > 1<<31 {
		return 0, usage("%s %s: want whole seconds, like 30s or 10m", flag, d)
	}
	return uint32(n), nil
}

func (a *app) showInvoice(v *chandv1.Invoice) error {
	return a.show(v, func() {
		amount := v.Amount
		if amount == "" {
			amount = "what the payer chooses"
		}
		a.pairs("amount", amount, "memo", v.Memo, "description hash", v.DescriptionHash, "payee", v.Payee, "hash", v.Hash, "expires", clock(v.Expires), "state", v.State,
			"paid", v.Paid, "held of parts", v.Held, "settled", clock(v.Settled))
	})
}
