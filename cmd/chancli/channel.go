package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	chandv1 "github.com/eschaton-network/chand/rpc/gen/chand/v1"
)

func (a *app) channelCommand() *cobra.Command {
	c := &cobra.Command{Use: "channel", Short: "trade channels with peers"}
	c.AddCommand(a.channelOpen(), a.channelList(), a.channelShow(), a.channelClose(), a.channelPolicy())
	return c
}

func (a *app) channelOpen() *cobra.Command {
	var r chandv1.OpenChannelRequest
	var wait bool
	c := &cobra.Command{Use: "open PEER --mine A --theirs B", Short: "open a channel", Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		if err := amounts(r.Mine, r.Theirs); err != nil {
			return err
		}
		d, err := a.daemon()
		if err != nil {
			return err
		}
		r.Peer = args[0]
		v, err := keyed(&r.IdempotencyKey, func(string) (*chandv1.Channel, error) { return d.Channels.Open(cmd.Context(), &r) })
		if err != nil {
			return err
		}
		if wait {
			v, err = a.waitChannel(cmd, v, "open")
		}
		if e := a.showChannel(v); e != nil {
			return e
		}
		return err
	}}
	c.Flags().StringVar(&r.Mine, "mine", "0", "what this daemon puts in")
	c.Flags().StringVar(&r.Theirs, "theirs", "0", "what the peer puts in")
	c.Flags().Uint32Var(&r.DisputeWindow, "dispute-window", 0, "in blocks (0: the daemon's setting)")
	c.Flags().BoolVar(&r.Private, "private", false, "never announce it: it serves own payments, and invoices of either side name it")
	c.Flags().BoolVar(&wait, "wait", false, "until it can pay")
	c.MarkFlagsOneRequired("mine", "theirs")
	keyFlag(c, &r.IdempotencyKey)
	return c
}

// waitChannel asks until the channel is in the state wanted, or can't come there any more.
func (a *app) waitChannel(cmd *cobra.Command, v *chandv1.Channel, want string) (*chandv1.Channel, error) {
	return until(cmd.Context(), v, func() (*chandv1.Channel, error) {
		return a.client.Channels.Get(cmd.Context(), &chandv1.GetChannelRequest{Id: v.Id})
	}, func(v *chandv1.Channel) (bool, error) {
		switch {
		case v.State == want, want == "closed" && v.State == "abandoned":
			return true, nil
		case v.State == "abandoned", v.State == "stopped" && want == "open", v.State == "closed":
			return false, fail("channel_"+v.State, v.Next, "the channel is %s: %s", v.State, v.StateText)
		}
		return false, nil
	})
}

func (a *app) channelList() *cobra.Command {
	var r chandv1.ListChannelsRequest
	c := &cobra.Command{Use: "list", Short: "channels", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		d, err := a.daemon()
		if err != nil {
			return err
		}
		v, err := d.Channels.List(cmd.Context(), &r)
		if err != nil {
			return err
		}
		return a.show(v, func() {
			var rows [][]string
			for _, c := range v.Channels {
				rows = append(rows, []string{short(c.Id), short(c.Peer), c.State, c.Mine, c.Theirs, c.Locked, c.CanSend, c.CanReceive, fmt.Sprint(c.Version), c.WhoActs, deadline(c.Deadline)})
			}
			a.table("no channels: open one with `chancli channel open PEER --mine A --theirs B`",
				[]string{"CHANNEL", "PEER", "STATE", "MINE", "THEIRS", "LOCKED", "CAN SEND", "CAN RECEIVE", "VERSION", "WHO ACTS", "DEADLINE"}, rows)
		})
	}}
	c.Flags().BoolVar(&r.IncludeClosed, "all", false, "closed ones too")
	return c
}

func (a *app) channelShow() *cobra.Command {
	return &cobra.Command{Use: "show ID", Short: "one channel in full", Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		d, err := a.daemon()
		if err != nil {
			return err
		}
		id, err := a.channelID(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		v, err := d.Channels.Get(cmd.Context(), &chandv1.GetChannelRequest{Id: id})
		if err != nil {
			return err
		}
		return a.showChannel(v)
	}}
}

func (a *app) channelClose() *cobra.Command {
	var r chandv1.CloseChannelRequest
	var wait bool
	c := &cobra.Command{Use: "close ID", Short: "close a channel in agreement, or with --force alone", Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		d, err := a.daemon()
		if err != nil {
			return err
		}
		if r.Id, err = a.channelID(cmd.Context(), args[0]); err != nil {
			return err
		}
		v, err := d.Channels.Close(cmd.Context(), &r)
		if err != nil {
			return err
		}
		if wait {
			v, err = a.waitChannel(cmd, v, "closed")
		}
		if e := a.showChannel(v); e != nil {
			return e
		}
		return err
	}}
	c.Flags().BoolVar(&r.Force, "force", false, "publish the newest version without asking the peer; takes the dispute window")
	c.Flags().BoolVar(&wait, "wait", false, "until it is closed")
	return c
}

func (a *app) showChannel(c *chandv1.Channel) error {
	return a.show(c, func() {
		posted := ""
		if c.PostedVersion > 0 {
			posted = fmt.Sprint(c.PostedVersion)
		}
		a.pairs("channel", c.Id, "peer", c.Peer, "connected", yes(c.PeerConnected), "state", state(c.State, c.StateText), "mine", c.Mine, "theirs", c.Theirs,
			"locked", c.Locked, "capacity", c.Capacity, "private", yes(c.Private), "can send", c.CanSend, "can receive", c.CanReceive, "version", fmt.Sprint(c.Version), "posted version", posted,
			"dispute window", fmt.Sprintf("%d blocks, %s", c.DisputeWindow, time.Duration(c.DisputeWindowSeconds)*time.Second),
			"who acts", c.WhoActs, "deadline", deadline(c.Deadline), "next", c.Next)
	})
}
