package main

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/eschaton-network/chand/internal/homelock"
	"github.com/eschaton-network/chand/rpc"
	chandv1 "github.com/eschaton-network/chand/rpc/gen/chand/v1"
)

func (a *app) statusCommand() *cobra.Command {
	var wait bool
	c := &cobra.Command{Use: "status", Short: "how the daemon is", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		s, err := a.getStatus(cmd.Context(), wait)
		if err != nil {
			return err
		}
		return a.show(s, func() {
			l := s.GetLedger()
			synced := ""
			if !l.GetSynced() {
				synced = ", NOT SYNCED"
			}
			a.pairs("node", s.NodeId, "listening on", strings.Join(s.Listen, " "), "account", s.Account, "balance", s.Balance,
				"ledger", fmt.Sprintf("%s, %s, block %d of %s%s", l.GetChainId(), l.GetMode(), l.GetHeight(), clock(l.GetHeadTime()), synced),
				"to join it", l.GetJoin(), "peers", fmt.Sprint(s.Peers), "channels", fmt.Sprintf("%d open, %d opening or closing", s.ChannelsOpen, s.ChannelsPending),
				"can send", s.CanSend, "can receive", s.CanReceive, "in open locks", nonzero(s.Locked), "in channels that open or close", nonzero(s.Bound), "rpc", s.RpcAddress, "gateway", s.GatewayAddress, "calendar", s.CalendarAddress,
				"home", s.Home, "version", s.Version, "since", clock(s.Started))
			for _, w := range s.Warnings {
				fmt.Fprintln(a.out, "!", clean(w))
			}
		})
	}}
	c.Flags().BoolVar(&wait, "wait", false, fmt.Sprintf("until a daemon that is starting answers, %s at most", readyWait))
	return c
}

// readyWait is how long status --wait gives a daemon to start: longer than a daemon waits for the ledger that it follows.
const readyWait = 60 * time.Second

// getStatus asks the daemon, again and again while there is none if wait is set.
func (a *app) getStatus(ctx context.Context, wait bool) (*chandv1.GetStatusResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, readyWait)
	defer cancel()
	for {
		d, err := a.daemon()
		if err == nil {
			var s *chandv1.GetStatusResponse
			if s, err = d.Status.Get(ctx, &chandv1.GetStatusRequest{}); err == nil {
				return s, nil
			}
		}
		if !wait || rpc.Detail(err).Code != "no_daemon" {
			return nil, err
		}
		a.client = nil // a daemon that starts anew may answer elsewhere
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(pollEvery):
		}
	}
}

func (a *app) stopCommand() *cobra.Command {
	return &cobra.Command{Use: "stop", Short: "stop the daemon cleanly, and wait until it has", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		d, err := a.daemon()
		if err != nil {
			return err
		}
		r, err := d.Admin.Stop(cmd.Context(), &chandv1.StopRequest{})
		if err != nil {
			return err
		}
		if err := a.waitStopped(cmd.Context()); err != nil {
			return err
		}
		return a.show(r, func() { fmt.Fprintf(a.out, "process %d has stopped\n", r.Pid) })
	}}
}

// waitStopped returns when no process has the home: then the store can be checked, copied or used by the next daemon.
func (a *app) waitStopped(ctx context.Context) error {
	_, err := until(ctx, struct{}{}, func() (struct{}, error) { return struct{}{}, nil }, func(struct{}) (bool, error) {
		pid, err := homelock.Holder(a.home)
		if err != nil {
			return false, fail("home_unreadable", "run as the user that runs the daemon", "%v", err)
		}
		return pid == 0, nil
	})
	return err
}

func (a *app) macaroonCommand() *cobra.Command {
	c := &cobra.Command{Use: "macaroon", Short: "credentials of the programming interface"}
	var r chandv1.BakeMacaroonRequest
	bake := &cobra.Command{Use: "bake", Short: "make a credential that can do at most what is listed", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		d, err := a.daemon()
		if err != nil {
			return err
		}
		m, err := d.Admin.BakeMacaroon(cmd.Context(), &r)
		if err != nil {
			return err
		}
		return a.show(m, func() { fmt.Fprintln(a.out, m.Macaroon) })
	}}
	bake.Flags().StringSliceVar(&r.Methods, "method", nil, "chand.v1.Payments/Pay, chand.v1.Payments/*, or @read, @invoice, @spend, @operate, @admin")
	bake.Flags().Uint32Var(&r.ValidSeconds, "valid-seconds", 0, "end of its life (0: none)")
	_ = bake.MarkFlagRequired("method") // fails for an unknown flag only
	c.AddCommand(bake)
	return c
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{Use: "version", Short: "version of chancli", Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error {
		return a.showValue(map[string]string{"version": version, "go": runtime.Version()}, func() { fmt.Fprintln(a.out, "chancli", version, runtime.Version()) })
	}}
}
