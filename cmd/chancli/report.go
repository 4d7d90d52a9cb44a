package main

import (
	"encoding/csv"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	chandv1 "github.com/eschaton-network/chand/rpc/gen/chand/v1"
)

func (a *app) liquidityCommand() *cobra.Command {
	var q chandv1.LiquidityRequest
	c := &cobra.Command{Use: "liquidity", Short: "how much can be paid and received, over which channels", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		d, err := a.daemon()
		if err != nil {
			return err
		}
		v, err := d.Operations.Liquidity(cmd.Context(), &q)
		if err != nil {
			return err
		}
		return a.show(v, func() { a.showLiquidity(v) })
	}}
	c.Flags().StringVar(&q.To, "to", "", "also how much can go to this `NODE` and come from it over the network")
	return c
}

func (a *app) showLiquidity(v *chandv1.LiquidityResponse) {
	var rows [][]string
	for _, c := range v.Channels {
		rows = append(rows, []string{short(c.Id), short(c.Peer), yes(c.PeerConnected), c.Mine, c.Theirs, c.Locked, c.Deposit, c.SendOnce, c.SendTotal, c.ReceiveOnce, c.ReceiveTotal})
	}
	a.table("no open channels", []string{"CHANNEL", "PEER", "CONNECTED", "MINE", "THEIRS", "LOCKED", "DEPOSIT", "SEND ONCE", "SEND IN ALL", "RECEIVE ONCE", "RECEIVE IN ALL"}, rows)
	fmt.Fprintln(a.out)
	a.pairs("can send", v.SendTotal+", at most "+v.SendOnce+" in one part", "can receive", v.ReceiveTotal+", at most "+v.ReceiveOnce+" in one part")
	if v.ToMost != "" {
		a.pairs("to the node", v.ToLikely+" likely, at most "+v.ToMost, "from the node", v.FromLikely+" likely, at most "+v.FromMost)
	}
	a.pairs("uneven", v.Why, "next", v.Hint)
}

func (a *app) reportCommand() *cobra.Command {
	c := &cobra.Command{Use: "report", Short: "what forwarding earned and paying cost"}
	c.AddCommand(a.reportFees(), a.reportForwards())
	return c
}

// moment reads a time of day, a day, or how long ago.
func moment(text string) (*timestamppb.Timestamp, error) {
	if text == "" {
		return nil, nil
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return timestamppb.New(time.Now().Add(-d)), nil
	}
	for _, form := range []string{time.RFC3339, time.DateTime, time.DateOnly} {
		if t, err := time.ParseInLocation(form, text, time.Local); err == nil {
			return timestamppb.New(t), nil
		}
	}
	return nil, usage("time %.40q: want 2006-01-02, 2006-01-02T15:04:05Z, or how long ago like 24h", text)
}

func (a *app) reportFees() *cobra.Command {
	var from, until string
	c := &cobra.Command{Use: "fees", Short: "fees by channel and by peer", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		var q chandv1.FeesRequest
		var err error
		if q.Since, err = moment(from); err != nil {
			return err
		}
		if q.Until, err = moment(until); err != nil {
			return err
		}
		d, err := a.daemon()
		if err != nil {
			return err
		}
		v, err := d.Operations.Fees(cmd.Context(), &q)
		if err != nil {
			return err
		}
		return a.show(v, func() { a.showFees(v) })
	}}
	c.Flags().StringVar(&from, "since", "", "payments that began from this `TIME` on, or so long ago at most")
	c.Flags().StringVar(&until, "until", "", "payments that began before this `TIME`")
	return c
}

func (a *app) showFees(v *chandv1.FeesResponse) {
	var rows [][]string
	for _, g := range []struct {
		what string
		list []*chandv1.FeeSum
	}{{"earned", []*chandv1.FeeSum{v.Earned}}, {"earned, came over", v.EarnedIn}, {"earned, went over", v.EarnedOut}, {"earned, from peer", v.EarnedByPeer},
		{"paid", []*chandv1.FeeSum{v.Paid}}, {"paid, to", v.PaidByPeer}} {
		for _, s := range g.list {
			rows = append(rows, []string{g.what, short(s.Of), fmt.Sprint(s.Count), s.Volume, s.Fees, s.Reserve})
		}
	}
	a.table("", []string{"WHAT", "OF", "PAYMENTS", "VOLUME", "FEES", "RESERVATION FEES"}, rows)
	if v.From != nil {
		fmt.Fprintln(a.out, "payments are remembered since", clock(v.From))
	}
}

func (a *app) reportForwards() *cobra.Command {
	var q chandv1.ForwardsRequest
	c := &cobra.Command{Use: "forwards", Short: "payments passed on, newest first", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		d, err := a.daemon()
		if err != nil {
			return err
		}
		v, err := d.Operations.Forwards(cmd.Context(), &q)
		if err != nil {
			return err
		}
		return a.show(v, func() {
			var rows [][]string
			for _, f := range v.Forwards {
				rows = append(rows, []string{clock(f.Time), f.State, f.Amount, f.Fee, f.Reserve, short(f.ChannelIn), short(f.ChannelOut), short(f.Hash)})
			}
			a.table("nothing was passed on", []string{"TIME", "STATE", "AMOUNT", "FEE", "RESERVATION FEE", "CAME OVER", "WENT OVER", "HASH"}, rows)
			a.more(v.NextPageToken)
		})
	}}
	pageFlags(c, &q.Limit, &q.PageToken)
	return c
}

func (a *app) exportCommand() *cobra.Command {
	var format, from string
	c := &cobra.Command{Use: "export", Short: "the books in double entry", Args: cobra.NoArgs,
		Long: "Prints everything that moved money, as postings: what each account gets, or (negative) gives. The postings of one entry add up to zero.\n" +
			"CSV has a line for each posting, JSON a line for each entry. What is still under way is not in the books yet.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if format != "csv" && format != "json" {
				return usage("format %.20q: want csv or json", format)
			}
			at, err := moment(from)
			if err != nil {
				return err
			}
			d, err := a.daemon()
			if err != nil {
				return err
			}
			s, err := d.Operations.Export(cmd.Context(), &chandv1.ExportRequest{Since: at})
			if err != nil {
				return err
			}
			defer s.Close()
			return a.writeBooks(format, s.Receive, s.Msg, s.Err)
		}}
	c.Flags().StringVar(&format, "format", "csv", "csv or json")
	c.Flags().StringVar(&from, "since", "", "entries from this `TIME` on, or so long ago at most")
	return c
}

func (a *app) writeBooks(format string, next func() bool, msg func() *chandv1.ExportResponse, done func() error) error {
	w := csv.NewWriter(a.out)
	if format == "csv" {
		_ = w.Write([]string{"time", "kind", "reference", "memo", "account", "amount"}) // Flush tells
	}
	a.json = true
	for next() {
		for _, e := range msg().Entries {
			if format == "json" {
				if err := a.show(e, nil); err != nil {
					return err
				}
				continue
			}
			for _, p := range e.Postings {
				_ = w.Write([]string{e.Time.AsTime().Format(time.RFC3339), e.Kind, e.Reference, cell(e.Memo), p.Account, p.Amount})
			}
		}
	}
	w.Flush()
	if err := w.Error(); err != nil {
		return err
	}
	return done()
}

// cell keeps what others wrote from being a formula where the file is opened.
func cell(text string) string {
	if text != "" && (text[0] == '=' || text[0] == '+' || text[0] == '-' || text[0] == '@') {
		return "'" + clean(text)
	}
	return clean(text)
}
