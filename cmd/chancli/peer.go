package main

import (
	"fmt"

	"github.com/spf13/cobra"

	chandv1 "github.com/eschaton-network/chand/rpc/gen/chand/v1"
)

func (a *app) peerCommand() *cobra.Command {
	c := &cobra.Command{Use: "peer", Short: "other daemons"}
	id := &cobra.Command{Use: "id", Short: "this daemon's peer id and addresses", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		d, err := a.daemon()
		if err != nil {
			return err
		}
		v, err := d.Peers.Self(cmd.Context(), &chandv1.SelfRequest{})
		if err != nil {
			return err
		}
		return a.show(v, func() {
			fmt.Fprintln(a.out, v.Id)
			for _, addr := range v.Addresses {
				fmt.Fprintln(a.out, addr)
			}
		})
	}}
	connect := &cobra.Command{Use: "connect MULTIADDR", Short: "connect to a daemon", Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		d, err := a.daemon()
		if err != nil {
			return err
		}
		v, err := d.Peers.Connect(cmd.Context(), &chandv1.ConnectRequest{Address: args[0]})
		if err != nil {
			return err
		}
		return a.show(v, func() { fmt.Fprintf(a.out, "connected to %s\n", v.Id) })
	}}
	list := &cobra.Command{Use: "list", Short: "peers, connected or with channels", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		d, err := a.daemon()
		if err != nil {
			return err
		}
		v, err := d.Peers.List(cmd.Context(), &chandv1.ListPeersRequest{})
		if err != nil {
			return err
		}
		return a.show(v, func() {
			var rows [][]string
			for _, p := range v.Peers {
				rows = append(rows, []string{p.Id, yes(p.Connected), fmt.Sprint(p.Channels), p.CanSend, p.CanReceive, p.Address})
			}
			a.table("no peers: connect to one with `chancli peer connect MULTIADDR`", []string{"PEER", "CONNECTED", "CHANNELS", "CAN SEND", "CAN RECEIVE", "ADDRESS"}, rows)
		})
	}}
	c.AddCommand(id, connect, list)
	return c
}
