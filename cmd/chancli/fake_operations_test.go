package main

import (
	"context"

	"connectrpc.com/connect"

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

func (f fakeOperations) Liquidity(_ context.Context, q *chandv1.LiquidityRequest) (*chandv1.LiquidityResponse, error) {
	out := &chandv1.LiquidityResponse{SendOnce: "9", SendTotal: "12", ReceiveOnce: "3", ReceiveTotal: "4", Hint: "chancli rebalance --out c1 --in c2 --amount 4",
		Channels: []*chandv1.ChannelRoom{{Id: "c1", Peer: "bob", PeerConnected: true, Mine: "9", Theirs: "1", Locked: "0", Deposit: "0", SendOnce: "9", SendTotal: "9"}}}
	if q.To != "" {
		out.ToMost, out.ToLikely, out.FromMost, out.FromLikely = "8", "5", "4", "2"
	}
	return out, nil
}

func (f fakeOperations) Fees(context.Context, *chandv1.FeesRequest) (*chandv1.FeesResponse, error) {
	s := &chandv1.FeeSum{Count: 2, Volume: "10", Fees: "0.1", Reserve: "0.01"}
	in := &chandv1.FeeSum{Of: "c1", Count: 2, Volume: "10", Fees: "0.1", Reserve: "0.01"}
	return &chandv1.FeesResponse{From: when, Earned: s, Paid: &chandv1.FeeSum{Volume: "0"}, EarnedIn: []*chandv1.FeeSum{in}}, nil
}

func (f fakeOperations) Forwards(_ context.Context, q *chandv1.ForwardsRequest) (*chandv1.ForwardsResponse, error) {
	if q.PageToken != "" {
		return &chandv1.ForwardsResponse{From: when}, nil
	}
	return &chandv1.ForwardsResponse{From: when, NextPageToken: "05", Forwards: []*chandv1.Forward{{Time: when, State: "succeeded", Amount: "5", Fee: "0.05", ChannelIn: "c1", ChannelOut: "c2"}}}, nil
}

func (f fakeOperations) Export(_ context.Context, _ *chandv1.ExportRequest, s *connect.ServerStream[chandv1.ExportResponse]) error {
	for _, memo := range []string{"=1+1", "tea"} {
		e := &chandv1.BookEntry{Time: when, Kind: "sent", Reference: "h", Memo: memo, Postings: []*chandv1.Posting{{Account: "assets:ledger", Amount: "-5"}, {Account: "counterparty:bob", Amount: "5"}}}
		if err := s.Send(&chandv1.ExportResponse{Entries: []*chandv1.BookEntry{e}}); err != nil {
			return err
		}
	}
	return nil
}
