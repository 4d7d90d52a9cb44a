package main

import (
	"cmp"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	chandv1 "github.com/eschaton-network/chand/rpc/gen/chand/v1"
)

func (a *app) payCommand() *cobra.Command {
	var r chandv1.PayRequest
	var many, dry bool
	var timeout time.Duration
	var amount string
	wanted := func(cmd *cobra.Command, args []string) error {
		if many {
			return cobra.NoArgs(cmd, args)
		}
		return cobra.ExactArgs(1)(cmd, args)
	}
	c := &cobra.Command{
		Use: "pay INVOICE | pay --to PEER AMOUNT | pay --stdin", Short: "pay an invoice, a peer, or many invoices", Args: wanted, RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if r.TimeoutSeconds, err = wholeSeconds("--timeout", timeout); err != nil {
				return err
			}
			if many {
				return a.payMany(cmd, &r)
			}
			if r.To == "" {
				r.Invoice, r.Amount = args[0], amount
			} else {
				r.Amount = args[0]
			}
			for _, text := range []string{r.Amount, r.MaxFee} {
				if text == "" {
					continue
				}
				if err := amounts(text); err != nil {
					return err
				}
			}
			d, err := a.daemon()
			if err != nil {
				return err
			}
			if dry {
				p, err := d.Payments.Plan(cmd.Context(), &r)
				if err != nil {
					return err
				}
				return a.showPlan(p)
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
	c.Flags().StringVar(&amount, "amount", "", "what to pay for an invoice that names no amount")
	c.Flags().StringVar(&r.Memo, "memo", "", "what it is for, told to the payee of --to")
	c.Flags().Uint32Var(&r.MaxParts, "max-parts", 0, "most parts at once (0: the daemon's setting; 1: never split)")
	payFlags(c, &r.MaxFee, &timeout, &dry)
	keyFlag(c, &r.IdempotencyKey)
	return c
}

func payFlags(c *cobra.Command, maxFee *string, timeout *time.Duration, dry *bool) {
	c.Flags().StringVar(maxFee, "max-fee", "", "most to pay to others, for forwarding and for keeping locks open (default: the daemon's setting; --dry-run shows it)")
	c.Flags().DurationVar(timeout, "timeout", 0, "how long new ways are tried and the outcome is waited for, like 30s (0: the daemon's setting)")
	c.Flags().BoolVar(dry, "dry-run", false, "show ways, amounts, fees, time locks and odds, and pay nothing")
}

func (a *app) rebalanceCommand() *cobra.Command {
	var r chandv1.RebalanceRequest
	var timeout time.Duration
	var dry bool
	c := &cobra.Command{Use: "rebalance --out CHANNEL --in CHANNEL --amount AMOUNT", Short: "move money between two own channels", Args: cobra.NoArgs,
		Long: "Pays this daemon itself: the amount leaves over one channel and comes home over the other, less what the nodes between ask.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, text := range []string{r.Amount, r.MaxFee} {
				if text != "" || r.Amount == "" {
					if err := amounts(text); err != nil {
						return err
					}
				}
			}
			var err error
			if r.TimeoutSeconds, err = wholeSeconds("--timeout", timeout); err != nil {
				return err
			}
			d, err := a.daemon()
			if err != nil {
				return err
			}
			for _, id := range []*string{&r.Out, &r.In} {
				if *id, err = a.channelID(cmd.Context(), *id); err != nil {
					return err
				}
			}
			if dry {
				p, err := d.Payments.PlanRebalance(cmd.Context(), &r)
				if err != nil {
					return err
				}
				return a.showPlan(p)
			}
			p, err := keyed(&r.IdempotencyKey, func(string) (*chandv1.Payment, error) { return d.Payments.Rebalance(cmd.Context(), &r) })
			if err != nil {
				return err
			}
			if err := a.showPayment(p); err != nil {
				return err
			}
			return paymentError(p)
		}}
	c.Flags().StringVar(&r.Out, "out", "", "own channel that the money leaves over")
	c.Flags().StringVar(&r.In, "in", "", "own channel that it comes home over")
	c.Flags().StringVar(&r.Amount, "amount", "", "what comes home")
	payFlags(c, &r.MaxFee, &timeout, &dry)
	keyFlag(c, &r.IdempotencyKey)
	return c
}

// showPlan shows how a payment would be made.
func (a *app) showPlan(p *chandv1.PaymentPlan) error {
	return a.show(p, func() {
		a.pairs("to", p.To, "amount", p.Amount, "fee", p.Fee+" if it succeeds", "reservation fee", p.Reserve+" in any case", "limit for both", p.MaxFee,
			"odds", percent(p.Odds), "parts", fmt.Sprint(len(p.Parts)))
		var rows [][]string
		for i, part := range p.Parts {
			locked := "nothing is locked"
			if part.Deadline != nil {
				locked = fmt.Sprintf("%d blocks, %s", part.Deadline.BlocksLeft, deadline(part.Deadline))
			}
			for j, h := range part.Hops {
				if j > 0 {
					locked = deadline(h.Deadline)
				}
				rows = append(rows, []string{fmt.Sprint(i + 1), short(h.Node), short(h.Channel), h.Amount, h.Fee, h.Reserve, locked, percent(h.Odds)})
			}
		}
		a.table("no way", []string{"PART", "TO", "OVER CHANNEL", "CARRIES", "ITS FEE", "RESERVATION", "LOCKED FOR", "ODDS"}, rows)
	})
}

func percent(p float64) string { return fmt.Sprintf("%.1f %%", 100*p) }

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
		a.pairs("payment", p.Hash, "state", state(p.State, p.StateText), "direction", p.Direction, "amount", p.Amount, "fee", p.Fee, "reservation fee", some(p.Reserve),
			"peer", p.Peer, "memo", p.Memo, "preimage", receipt, "last refusal", refusal(p), "comes back by", deadline(p.Deadline), "created", clock(p.Created), "settled", clock(p.Settled))
		if len(p.Parts) > 1 || len(p.Parts) == 1 && p.Deadline != nil {
			var rows [][]string
			for _, x := range p.Parts {
				last := ""
				if n := len(x.Route); n > 0 {
					last = short(x.Route[0])
				}
				rows = append(rows, []string{x.Amount, x.Fee, short(x.Channel), last, fmt.Sprint(len(x.Route)), deadline(x.Deadline)})
			}
			a.table("", []string{"PART", "FEE", "CHANNEL", "FIRST HOP", "HOPS", "COMES BACK BY"}, rows)
		}
	})
}

// some leaves out an amount of nothing.
func some(amount string) string {
	if amount == "0" {
		return ""
	}
	return amount
}

// refusal is why a part of a payment under way came back.
func refusal(p *chandv1.Payment) string {
	if p.Failure == nil || p.State == "failed" {
		return ""
	}
	return p.Failure.Text
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
	cancel := &cobra.Command{Use: "cancel HASH", Short: "try a payment no more; what is locked is paid or comes back by its deadline", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			d, err := a.daemon()
			if err != nil {
				return err
			}
			hash, err := a.paymentHash(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			p, err := d.Payments.Cancel(cmd.Context(), &chandv1.GetPaymentRequest{Hash: hash})
			if err != nil {
				return err
			}
			return a.showPayment(p)
		}}
	c.AddCommand(list, show, cancel)
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
