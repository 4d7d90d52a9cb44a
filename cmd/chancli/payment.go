package main

import (
	"cmp"
	"fmt"

	"github.com/spf13/cobra"

	chandv1 "github.com/eschaton-network/chand/rpc/gen/chand/v1"
)

func (a *app) invoiceCommand() *cobra.Command {
	c := &cobra.Command{Use: "invoice", Short: "ask for payments"}
	var r chandv1.CreateInvoiceRequest
	create := &cobra.Command{Use: "create AMOUNT", Short: "make an invoice", Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		if err := amounts(args[0]); err != nil {
			return err
		}
		d, err := a.daemon()
		if err != nil {
			return err
		}
		r.Amount = args[0]
		v, err := keyed(&r.IdempotencyKey, func(string) (*chandv1.Invoice, error) { return d.Payments.CreateInvoice(cmd.Context(), &r) })
		if err != nil {
			return err
		}
		return a.show(v, func() { fmt.Fprintln(a.out, v.Invoice) })
	}}
	create.Flags().StringVar(&r.Memo, "memo", "", "what it is for")
	create.Flags().Uint32Var(&r.ExpirySeconds, "expiry-seconds", 0, "how long it can be paid (0: the daemon's setting)")
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
		return a.show(v, func() {
			a.pairs("amount", v.Amount, "memo", v.Memo, "payee", v.Payee, "hash", v.Hash, "expires", clock(v.Expires), "state", v.State)
		})
	}}
	c.AddCommand(create, decode)
	return c
}

func (a *app) payCommand() *cobra.Command {
	var r chandv1.PayRequest
	var many bool
	wanted := func(cmd *cobra.Command, args []string) error {
		if many {
			return cobra.NoArgs(cmd, args)
		}
		return cobra.ExactArgs(1)(cmd, args)
	}
	c := &cobra.Command{
		Use: "pay INVOICE | pay --to PEER AMOUNT | pay --stdin", Short: "pay an invoice, a peer, or many invoices", Args: wanted, RunE: func(cmd *cobra.Command, args []string) error {
			if many {
				return a.payMany(cmd, &r)
			}
			if r.To == "" {
				r.Invoice = args[0]
			} else {
				r.Amount = args[0]
				if err := amounts(r.Amount); err != nil {
					return err
				}
			}
			if r.MaxFee != "" {
				if err := amounts(r.MaxFee); err != nil {
					return err
				}
			}
			d, err := a.daemon()
			if err != nil {
				return err
			}
			p, err := keyed(&r.IdempotencyKey, func(string) (*chandv1.Payment, error) { return d.Payments.Pay(cmd.Context(), &r) })
			if err != nil {
				return err
			}
			if err := a.showPayment(p); err != nil {
				return err
			}
			return paymentError(p)
		}}
	c.Flags().BoolVar(&many, "stdin", false, "pay an invoice of each line of standard input; outcomes come as payments end")
	c.Flags().StringVar(&r.To, "to", "", "peer to pay without an invoice")
	c.Flags().StringVar(&r.MaxFee, "max-fee", "", "most to pay for forwarding")
	c.Flags().Uint32Var(&r.TimeoutSeconds, "timeout-seconds", 0, "how long to wait for the outcome (0: the daemon's setting)")
	keyFlag(c, &r.IdempotencyKey)
	return c
}

// paymentError is what the exit code says of a payment that did not succeed (yet).
func paymentError(p *chandv1.Payment) error {
	switch p.State {
	case "succeeded":
		return nil
	case "failed":
		f := p.GetFailure()
		where := ""
		if f.GetHop() != "" {
			where = " at " + f.Hop
		}
		return fail(cmp.Or(f.GetRule(), "payment_failed"), cmp.Or(f.GetNext(), "the money is back: see the reason"), "the payment failed%s: %s", where, cmp.Or(f.GetText(), p.StateText))
	}
	return fail("payment_"+p.State, "ask with `chancli payment show "+p.Hash+"`; do not pay again", "the outcome is not known yet: %s", p.StateText)
}

func (a *app) showPayment(p *chandv1.Payment) error {
	return a.show(p, func() {
		receipt := p.Preimage
		if p.State == "failed" { // then it proves nothing
			receipt = ""
		}
		a.pairs("payment", p.Hash, "state", state(p.State, p.StateText), "direction", p.Direction, "amount", p.Amount, "fee", p.Fee, "peer", p.Peer, "memo", p.Memo,
			"preimage", receipt, "comes back by", deadline(p.Deadline), "created", clock(p.Created), "settled", clock(p.Settled))
	})
}

func (a *app) paymentCommand() *cobra.Command {
	c := &cobra.Command{Use: "payment", Short: "payments made, received and forwarded"}
	var r chandv1.ListPaymentsRequest
	list := &cobra.Command{Use: "list", Short: "payments, newest first", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		d, err := a.daemon()
		if err != nil {
			return err
		}
		v, err := d.Payments.List(cmd.Context(), &r)
		if err != nil {
			return err
		}
		return a.show(v, func() {
			var rows [][]string
			for _, p := range v.Payments {
				rows = append(rows, []string{clock(p.Created), p.Direction, p.State, p.Amount, p.Fee, short(p.Peer), short(p.Hash), p.Memo, p.GetFailure().GetText()})
			}
			a.table("no payments yet", []string{"TIME", "DIRECTION", "STATE", "AMOUNT", "FEE", "PEER", "HASH", "MEMO", "FAILURE"}, rows)
			a.more(v.NextPageToken)
		})
	}}
	pageFlags(list, &r.Limit, &r.PageToken)
	show := &cobra.Command{Use: "show HASH", Short: "one payment in full", Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		d, err := a.daemon()
		if err != nil {
			return err
		}
		hash, err := a.paymentHash(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		p, err := d.Payments.Get(cmd.Context(), &chandv1.GetPaymentRequest{Hash: hash})
		if err != nil {
			return err
		}
		return a.showPayment(p)
	}}
	c.AddCommand(list, show)
	return c
}

func pageFlags(c *cobra.Command, limit *uint32, token *string) {
	c.Flags().Uint32Var(limit, "limit", 0, "how many at most (0: 100)")
	c.Flags().StringVar(token, "page", "", "next_page_token of the answer before")
}

func (a *app) more(token string) {
	if token != "" {
		fmt.Fprintln(a.out, "more with --page", token)
	}
}
