package main

import (
	"fmt"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	chandv1 "github.com/eschaton-network/chand/rpc/gen/chand/v1"
)

func (a *app) watchCommand() *cobra.Command {
	var r chandv1.SubscribeRequest
	c := &cobra.Command{Use: "watch", Short: "events as JSON lines, until interrupted", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		d, err := a.daemon()
		if err != nil {
			return err
		}
		stream, err := d.Events.Subscribe(cmd.Context(), &r)
		if err != nil {
			return err
		}
		a.json = true // by its name; there is no other form
		return follow(a, cmd, stream, func(*chandv1.Event) {})
	}}
	c.Flags().StringSliceVar(&r.Types, "type", nil, "only these, like payment or channel.open (may be repeated)")
	c.Long = fmt.Sprintf("%s. Types: block, account, channel.STATE, payment.STATE, escrow.STATE, peer.up, peer.down, statement, service, timestamp, warning.", c.Short)
	return c
}

// follow prints what a stream brings, one JSON object a line when not for people, until the user interrupts it.
func follow[T any, M interface {
	*T
	proto.Message
}](a *app, cmd *cobra.Command, stream *connect.ServerStreamForClient[T], people func(M)) error {
	defer stream.Close()
	for stream.Receive() {
		m := M(stream.Msg())
		if err := a.show(m, func() { people(m) }); err != nil {
			return err
		}
	}
	if cmd.Context().Err() != nil { // interrupted by the user
		return nil
	}
	if err := stream.Err(); err != nil {
		return err
	}
	return fail("stream_ended", "watch again", "the daemon ended the stream of events")
}
