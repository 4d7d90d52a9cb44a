package main

import (
	"github.com/spf13/cobra"

	chandv1 "github.com/eschaton-network/chand/rpc/gen/chand/v1"
)

func (a *app) deadlinesCommand() *cobra.Command {
	return &cobra.Command{Use: "deadlines", Short: "every coin that can't be used now: why, until when, and what to do", Args: cobra.NoArgs,
		Long: "Lists every coin that is locked, the nearest deadline first: how it stands, who acts next, what this daemon does by itself and when,\n" +
			"when the money is free at the latest, and a command that ends it sooner.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := a.daemon()
			if err != nil {
				return err
			}
			v, err := d.Operations.Deadlines(cmd.Context(), &chandv1.DeadlinesRequest{})
			if err != nil {
				return err
			}
			return a.show(v, func() { a.showLocked(v.Locked) })
		}}
}

func (a *app) showLocked(list []*chandv1.LockedCoins) {
	var rows [][]string
	for _, c := range list {
		whose := "to come"
		if c.Ours {
			whose = "ours"
		}
		does := ""
		if c.ActsAt != nil {
			does = deadline(c.ActsAt) + ": " + c.Act
		}
		rows = append(rows, []string{c.Amount, whose, c.Kind, short(c.Channel), c.StateText, c.WhoActs, deadline(c.FreeAt), does, c.Next})
	}
	a.table("nothing is locked", []string{"AMOUNT", "WHOSE", "WHAT", "CHANNEL", "STATE", "WHO ACTS", "FREE AT THE LATEST", "THIS DAEMON, AT", "COMMAND"}, rows)
}
