package main

import (
	"context"

	chandv1 "github.com/eschaton-network/chand/rpc/gen/chand/v1"
	"github.com/eschaton-network/chand/rpc/gen/chand/v1/chandv1connect"
)

type fakeOperations struct {
	chandv1connect.UnimplementedOperationsHandler
	*fake
}

func (f fakeOperations) Deadlines(context.Context, *chandv1.DeadlinesRequest) (*chandv1.DeadlinesResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := &chandv1.DeadlinesResponse{}
	for id, e := range f.escrows {
		if e.State == "held" {
			out.Locked = append(out.Locked, &chandv1.LockedCoins{Channel: "c1", Peer: e.Peer, Kind: "escrow", Ours: true, Amount: e.Amount, Reference: id,
				StateText: "held for the payee", WhoActs: "payer", ActsAt: &chandv1.Deadline{Block: 60, Time: when}, Act: "publishes the channel",
				FreeAt: &chandv1.Deadline{Block: 80, Time: when}, Next: "chancli escrow release " + id})
		}
	}
	return out, nil
}
