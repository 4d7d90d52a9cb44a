package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	chandv1 "github.com/eschaton-network/chand/rpc/gen/chand/v1"
)

func (a *app) routeCommand() *cobra.Command {
	c := &cobra.Command{Use: "route", Short: "how payments find their way, and what was learnt"}
	scores := a.routeScores()
	scores.AddCommand(a.routeImport())
	c.AddCommand(a.routeFind("find", "how a payment would go now; nothing is paid", false), a.routeFind("explain", "the same, with every term of the cost of each hop", true), scores)
	return c
}

func (a *app) routeFind(use, text string, explain bool) *cobra.Command {
	var q chandv1.FindRoutesRequest
	c := &cobra.Command{Use: use + " PAYEE AMOUNT", Short: text, Args: cobra.ExactArgs(2), RunE: func(cmd *cobra.Command, args []string) error {
		q.Payee, q.Amount = args[0], args[1]
		if err := amounts(q.Amount); err != nil {
			return err
		}
		d, err := a.daemon()
		if err != nil {
			return err
		}
		v, err := d.Routes.Find(cmd.Context(), &q)
		if err != nil {
			return err
		}
		return a.show(v, func() {
			a.pairs("parts", fmt.Sprint(len(v.Parts)), "fee", v.Fee, "reservation fee", v.Reserve, "cost with lock time and risk", v.Cost, "odds", odds(v.SuccessMillionths))
			for i, p := range v.Parts {
				fmt.Fprintf(a.out, "\npart %d: %s, fee %s, reservation fee %s, cost %s, odds %s\n", i+1, p.Amount, p.Fee, p.Reserve, p.Cost, odds(p.SuccessMillionths))
				a.hops(p.Hops, explain)
			}
		})
	}}
	c.Flags().StringVar(&q.MaxFee, "max-fee", "", "most to pay in fees and reservation fees, in `COINS` (empty: the daemon's default)")
	c.Flags().Uint32Var(&q.MaxParts, "max-parts", 0, "most parts (0: the daemon's default)")
	return c
}

func (a *app) hops(hops []*chandv1.RouteHop, explain bool) {
	var rows [][]string
	for _, h := range hops {
		row := []string{short(h.Channel), short(h.Node), h.Amount, fmt.Sprint(h.Expiry)}
		if explain {
			row = append(row, h.FeeBase, h.FeeProportional, h.Reserve, fmt.Sprintf("%d blocks: %s", h.LockBlocks, h.LockCost),
				h.Low+" to "+h.High, h.Used, odds(h.ChannelMillionths), odds(h.NodeMillionths), h.RiskCost, h.Total)
		}
		rows = append(rows, row)
	}
	heading := []string{"CHANNEL", "TO", "AMOUNT", "EXPIRY"}
	if explain {
		heading = append(heading, "BASE FEE", "FEE", "RESERVATION", "LOCK", "CARRIES", "IN USE", "CHANNEL ODDS", "NODE ODDS", "RISK", "SUM")
	}
	a.table("", heading, rows)
}

func odds(millionths uint32) string { return fmt.Sprintf("%.1f %%", float64(millionths)/10_000) }

func (a *app) routeScores() *cobra.Command {
	return &cobra.Command{Use: "scores", Short: "what payments have taught about channels and nodes; with --json a file for `route scores import`", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := a.daemon()
			if err != nil {
				return err
			}
			v, err := d.Routes.Scores(cmd.Context(), &chandv1.ScoresRequest{})
			if err != nil {
				return err
			}
			return a.show(v, func() {
				var rows [][]string
				for _, c := range v.Channels {
					rows = append(rows, []string{short(c.Channel), c.Capacity, c.Low, clock(c.LowAt), c.High, clock(c.HighAt)})
				}
				a.table("nothing learnt yet: only payments over other nodes teach", []string{"CHANNEL", "CAPACITY", "AT LEAST", "LEARNT", "AT MOST", "LEARNT"}, rows)
				rows = nil
				for _, n := range v.Nodes {
					rows = append(rows, []string{short(n.Node), fmt.Sprintf("%.1f", float64(n.Fails)/1024), fmt.Sprintf("%.1f", float64(n.Oks)/1024), clock(n.At)})
				}
				a.table("", []string{"NODE", "FAILURES", "SUCCESSES", "AT"}, rows)
			})
		}}
}

func (a *app) routeImport() *cobra.Command {
	return &cobra.Command{Use: "import FILE", Short: "take in what `route scores --json` of another daemon wrote, where it is newer (- reads standard input)", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			raw, err := readScores(cmd, args[0])
			if err != nil {
				return fail("file_unreadable", "name a file that `chancli route scores --json` wrote", "%v", err)
			}
			var file struct {
				Encoded []byte `json:"encoded"`
			}
			if err := json.Unmarshal(raw, &file); err != nil {
				return fail("file_unreadable", "name a file that `chancli route scores --json` wrote", "%v", err)
			}
			d, err := a.daemon()
			if err != nil {
				return err
			}
			v, err := d.Routes.ImportScores(cmd.Context(), &chandv1.ImportScoresRequest{Encoded: file.Encoded})
			if err != nil {
				return err
			}
			return a.show(v, func() { fmt.Fprintf(a.out, "%d entries taken in\n", v.Taken) })
		}}
}

func readScores(cmd *cobra.Command, name string) ([]byte, error) {
	const most = 32 << 20 // JSON of the most that a daemon keeps is below 8 MiB
	if name == "-" {
		return io.ReadAll(io.LimitReader(cmd.InOrStdin(), most))
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, most))
}

// channelPolicy shows what the daemon asks for passing payments on over a channel, and changes what is given.
func (a *app) channelPolicy() *cobra.Command {
	var q chandv1.SetPolicyRequest
	var base, least, most string
	var millionths, reserve, delta uint32
	var disabled bool
	c := &cobra.Command{Use: "policy ID", Short: "what this daemon asks for passing payments on over a channel; flags change it", Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		d, err := a.daemon()
		if err != nil {
			return err
		}
		if q.Channel, err = a.channelID(cmd.Context(), args[0]); err != nil {
			return err
		}
		change := q.Reset_
		cmd.Flags().Visit(func(f *pflag.Flag) {
			to := map[string]func(){"base-fee": func() { q.FeeBase = &base }, "fee-millionths": func() { q.FeeMillionths = &millionths }, "reserve": func() { q.Reserve = &reserve },
				"delta": func() { q.Delta = &delta }, "min": func() { q.Min = &least }, "max": func() { q.Max = &most }, "disabled": func() { q.Disabled = &disabled }}[f.Name]
			if to != nil {
				to()
				change = true
			}
		})
		var v *chandv1.ChannelPolicy
		if change {
			v, err = d.Routes.SetPolicy(cmd.Context(), &q)
		} else {
			v, err = d.Routes.GetPolicy(cmd.Context(), &chandv1.GetPolicyRequest{Channel: q.Channel})
		}
		if err != nil {
			return err
		}
		return a.show(v, func() {
			a.pairs("channel", v.Channel, "base fee", v.FeeBase, "fee millionths", fmt.Sprint(v.FeeMillionths), "reserve", fmt.Sprintf("%d in 10^12 of the amount a block", v.Reserve),
				"expiry delta", fmt.Sprintf("%d blocks", v.Delta), "least amount", v.Min, "largest amount", v.Max, "disabled", yes(v.Disabled), "set for this channel", fmt.Sprint(v.Own))
		})
	}}
	c.Flags().BoolVar(&q.Reset_, "reset", false, "what is not given follows the settings again")
	c.Flags().StringVar(&base, "base-fee", "", "fee for any payment, in `COINS`")
	c.Flags().Uint32Var(&millionths, "fee-millionths", 0, "fee in millionths of the amount")
	c.Flags().Uint32Var(&reserve, "reserve", 0, "reservation fee in 10^-12 of the amount a block")
	c.Flags().Uint32Var(&delta, "delta", 0, "how many blocks the outgoing lock expires earlier than the incoming, at least")
	c.Flags().StringVar(&least, "min", "", "least amount to pass on, in `COINS`")
	c.Flags().StringVar(&most, "max", "", "largest amount to pass on, in `COINS`")
	c.Flags().BoolVar(&disabled, "disabled", false, "pass nothing on")
	return c
}
