package main

import (
	"context"

	"github.com/eschaton-network/chand/chand"
	chandv1 "github.com/eschaton-network/chand/rpc/gen/chand/v1"
)

type operationsAPI struct{ d *chand.Daemon }

func (a operationsAPI) Deadlines(context.Context, *chandv1.DeadlinesRequest) (*chandv1.DeadlinesResponse, error) {
	list, err := a.d.Deadlines()
	if err != nil {
		return nil, apiError(err)
	}
	out := &chandv1.DeadlinesResponse{}
	for _, c := range list {
		out.Locked = append(out.Locked, pbLocked(c))
	}
	return out, nil
}

func pbLocked(c chand.LockedCoins) *chandv1.LockedCoins {
	return &chandv1.LockedCoins{Channel: c.Channel.String(), Peer: c.Peer.String(), Kind: c.Kind, Ours: c.Out, Amount: c.Amount.String(),
		Reference: hashText(c.Ref), StateText: c.Text, WhoActs: c.Who, ActsAt: pbDeadline(c.ActBy), Act: c.Act, FreeAt: pbDeadline(c.Free), Next: c.Next}
}
