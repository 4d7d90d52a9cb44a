package main

import (
	"context"
	"strings"

	"connectrpc.com/connect"

	"github.com/eschaton-network/chand/chand"
	"github.com/eschaton-network/chand/ledger"
	chandv1 "github.com/eschaton-network/chand/rpc/gen/chand/v1"
)

type eventsAPI struct{ d *chand.Daemon }

func (a eventsAPI) Subscribe(ctx context.Context, q *chandv1.SubscribeRequest, out *connect.ServerStream[chandv1.Event]) error {
	events, cancel, err := a.d.Subscribe()
	if err != nil {
		return apiError(err)
	}
	defer cancel()
	for {
		select {
		case <-ctx.Done():
			return nil
		case e := <-events:
			if e.Type != "subscribed" && !wanted(q.Types, e.Type) {
				continue
			}
			if err := out.Send(a.pb(e)); err != nil {
				return err
			}
		}
	}
}

// wanted takes everything for no filter, else the named types and what lies under them ("payment" takes "payment.failed").
func wanted(filter []string, kind string) bool {
	for _, f := range filter {
		if kind == f || strings.HasPrefix(kind, f+".") {
			return true
		}
	}
	return len(filter) == 0
}

func (a eventsAPI) pb(e chand.Event) *chandv1.Event {
	out := &chandv1.Event{Seq: uint32(e.Seq), Type: e.Type, Time: pbTime(e.Time), Text: e.Text}
	switch v := e.Item.(type) {
	case chand.Channel:
		out.Item = &chandv1.Event_Channel{Channel: pbChannel(a.d, v)}
	case chand.Payment:
		out.Item = &chandv1.Event_Payment{Payment: pbPayment(a.d, v)}
	case chand.Escrow:
		out.Item = &chandv1.Event_Escrow{Escrow: pbEscrow(a.d, v)}
	case chand.LockedCoins:
		out.Item = &chandv1.Event_Locked{Locked: pbLocked(v)}
	case ledger.BlockInfo:
		out.Item = &chandv1.Event_Block{Block: &chandv1.Block{Height: uint32(v.Height), Hash: v.Hash.String(), Time: pbTime(v.Time)}}
	}
	return out
}
