package main

import (
	"context"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/eschaton-network/chand/chand"
	chandv1 "github.com/eschaton-network/chand/rpc/gen/chand/v1"
	"github.com/eschaton-network/chand/types"
)

func (a operationsAPI) Liquidity(_ context.Context, q *chandv1.LiquidityRequest) (*chandv1.LiquidityResponse, error) {
	var to types.NodeID
	var err error
	if q.To != "" {
		if to, err = parseNode("to", q.To); err != nil {
			return nil, err
		}
	}
	l, err := a.d.Liquidity(to)
	if err != nil {
		return nil, apiError(err)
	}
	out := &chandv1.LiquidityResponse{SendOnce: l.Send.Once.String(), SendTotal: l.Send.Total.String(), ReceiveOnce: l.Receive.Once.String(),
		ReceiveTotal: l.Receive.Total.String(), Hint: l.Hint, Why: l.Why}
	for _, c := range l.Channels {
		out.Channels = append(out.Channels, &chandv1.ChannelRoom{Id: c.ID.String(), Peer: c.Peer.String(), PeerConnected: c.Connected, Mine: c.Mine.String(),
			Theirs: c.Theirs.String(), Locked: c.Locked.String(), Deposit: c.Deposit.String(), SendOnce: c.Send.Once.String(), SendTotal: c.Send.Total.String(),
			ReceiveOnce: c.Receive.Once.String(), ReceiveTotal: c.Receive.Total.String()})
	}
	if r := l.Reach; r != nil {
		out.ToMost, out.ToLikely, out.FromMost, out.FromLikely = r.To.Most.String(), r.To.Likely.String(), r.From.Most.String(), r.From.Likely.String()
	}
	return out, nil
}

func since(t *timestamppb.Timestamp) types.Time {
	if t == nil {
		return 0
	}
	return types.Time(t.Seconds)
}

func (a operationsAPI) Fees(_ context.Context, q *chandv1.FeesRequest) (*chandv1.FeesResponse, error) {
	r, err := a.d.Fees(since(q.Since), since(q.Until))
	if err != nil {
		return nil, apiError(err)
	}
	out := &chandv1.FeesResponse{From: pbTime(r.From), Earned: pbFees("", r.Earned), Paid: pbFees("", r.Paid)}
	for _, c := range r.EarnedIn {
		out.EarnedIn = append(out.EarnedIn, pbFees(c.Channel.String(), c.FeeSum))
	}
	for _, c := range r.EarnedOut {
		out.EarnedOut = append(out.EarnedOut, pbFees(c.Channel.String(), c.FeeSum))
	}
	for _, p := range r.EarnedByPeer {
		out.EarnedByPeer = append(out.EarnedByPeer, pbFees(p.Peer.String(), p.FeeSum))
	}
	for _, p := range r.PaidBy {
		out.PaidByPeer = append(out.PaidByPeer, pbFees(p.Peer.String(), p.FeeSum))
	}
	return out, nil
}

func pbFees(of string, s chand.FeeSum) *chandv1.FeeSum {
	return &chandv1.FeeSum{Of: of, Count: s.Count, Volume: s.Volume.String(), Fees: s.Fees.String(), Reserve: s.Reserve.String()}
}

func (a operationsAPI) Forwards(_ context.Context, q *chandv1.ForwardsRequest) (*chandv1.ForwardsResponse, error) {
	list, next, from, err := a.d.Forwards(q.PageToken, page(q.Limit))
	if err != nil {
		return nil, apiError(err)
	}
	out := &chandv1.ForwardsResponse{NextPageToken: next, From: pbTime(from)}
	for _, p := range list {
		f := &chandv1.Forward{Time: pbTime(p.Settled), Hash: p.Hash.String(), PeerIn: p.Peer.String(), Amount: p.Amount.String(), Fee: p.Fee.String(),
			Reserve: p.Reserve.String(), State: p.State}
		if len(p.Route) > 0 {
			f.PeerOut = p.Route[0].String()
		}
		if len(p.Over) == 2 {
			f.ChannelIn, f.ChannelOut = p.Over[0].Channel.String(), p.Over[1].Channel.String()
		}
		out.Forwards = append(out.Forwards, f)
	}
	return out, nil
}

// exportBatch is how many entries go into one message.
const exportBatch = 256

func (a operationsAPI) Export(ctx context.Context, q *chandv1.ExportRequest, out *connect.ServerStream[chandv1.ExportResponse]) error {
	var batch chandv1.ExportResponse
	err := a.d.Export(since(q.Since), func(e chand.Entry) error {
		v := &chandv1.BookEntry{Time: pbTime(e.Time), Kind: e.Kind, Reference: e.Ref, Memo: e.Memo}
		for _, p := range e.Postings {
			v.Postings = append(v.Postings, &chandv1.Posting{Account: p.Account, Amount: p.Amount.String()})
		}
		if batch.Entries = append(batch.Entries, v); len(batch.Entries) < exportBatch {
			return ctx.Err()
		}
		err := out.Send(&batch)
		batch.Entries = nil
		return err
	})
	if err != nil {
		return apiError(err)
	}
	return out.Send(&batch)
}
