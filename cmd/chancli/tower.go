package main

import (
	"fmt"

	"github.com/spf13/cobra"

	chandv1 "github.com/eschaton-network/chand/rpc/gen/chand/v1"
)

func (a *app) towerCommand() *cobra.Command {
	c := &cobra.Command{Use: "tower", Short: "watchtowers: daemons that answer cheaters while this one is off",
		Long: "A watchtower keeps the newest version of each channel, one transaction, and publishes it when an older one appears on the ledger. It can't close a\n" +
			"channel and holds no secret. It does not claim open locks. Any daemon with tower.serve = true is one."}
	c.AddCommand(a.towerAdd(), a.towerRemove(), a.towerList(), a.towerWatched())
	return c
}

func (a *app) towerAdd() *cobra.Command {
	var q chandv1.AddTowerRequest
	c := &cobra.Command{Use: "add MULTIADDR", Short: "use a watchtower from now on", Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		d, err := a.daemon()
		if err != nil {
			return err
		}
		q.Address = args[0]
		v, err := d.Towers.Add(cmd.Context(), &q)
		if err != nil {
			return err
		}
		return a.show(v, func() {
			fmt.Fprintf(a.out, "%s watches from now on, for %s a channel and a thousand blocks; see `chancli tower list`\n", v.Id, v.Price)
		})
	}}
	c.Flags().StringVar(&q.MaxPrice, "max-price", "0", "the most to pay for watching one channel for a thousand blocks, in `COINS`; payments are made as they fall due")
	return c
}

func (a *app) towerRemove() *cobra.Command {
	return &cobra.Command{Use: "remove ID", Short: "stop using a watchtower", Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		d, err := a.daemon()
		if err != nil {
			return err
		}
		v, err := d.Towers.Remove(cmd.Context(), &chandv1.RemoveTowerRequest{Id: args[0]})
		if err != nil {
			return err
		}
		return a.show(v, func() { fmt.Fprintln(a.out, "removed; what is paid for stays watched until its time is over") })
	}}
}

func (a *app) towerList() *cobra.Command {
	return &cobra.Command{Use: "list", Short: "the watchtowers in use and how well they cover the channels", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		d, err := a.daemon()
		if err != nil {
			return err
		}
		v, err := d.Towers.List(cmd.Context(), &chandv1.ListTowersRequest{})
		if err != nil {
			return err
		}
		return a.show(v, func() {
			var rows [][]string
			for _, t := range v.Towers {
				rows = append(rows, []string{t.Id, fmt.Sprintf("%d of %d", t.Covered, t.Channels), fmt.Sprint(t.Behind), t.Price, deadline(t.PaidUntil), t.Problem})
			}
			a.table("no watchtowers: use one with `chancli tower add MULTIADDR`", []string{"TOWER", "CHANNELS", "UPDATES BEHIND", "PRICE", "PAID UNTIL", "PROBLEM"}, rows)
		})
	}}
}

func (a *app) towerWatched() *cobra.Command {
	return &cobra.Command{Use: "watched", Short: "what this daemon watches for others", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		d, err := a.daemon()
		if err != nil {
			return err
		}
		v, err := d.Towers.Watched(cmd.Context(), &chandv1.WatchedRequest{})
		if err != nil {
			return err
		}
		return a.show(v, func() {
			var rows [][]string
			for _, w := range v.Contracts {
				rows = append(rows, []string{w.Contract, w.Client, fmt.Sprint(w.Version), deadline(w.PaidUntil), yes(w.Posted)})
			}
			empty := "nothing is watched yet"
			if !v.Serving {
				empty = "this daemon is no watchtower: start it with tower.serve = true"
			}
			a.table(empty, []string{"CONTRACT", "CLIENT", "VERSION", "PAID UNTIL", "ON CHAIN"}, rows)
		})
	}}
}
