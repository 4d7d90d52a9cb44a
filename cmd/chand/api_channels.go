package main

import (
	"context"

	"github.com/eschaton-network/chand/chand"
	chandv1 "github.com/eschaton-network/chand/rpc/gen/chand/v1"
	"github.com/eschaton-network/chand/types"
)

type channelsAPI struct{ d *chand.Daemon }

func (a channelsAPI) Open(ctx context.Context, q *chandv1.OpenChannelRequest) (*chandv1.Channel, error) {
	r := chand.OpenRequest{Window: q.DisputeWindow, Private: q.Private, Key: q.IdempotencyKey}
	var err error
	if r.Peer, err = parseNode("peer", q.Peer); err != nil {
		return nil, err
	}
	if r.Mine, err = parseAmount("mine", q.Mine); err != nil {
		return nil, err
	}
	if r.Theirs, err = parseAmount("theirs", q.Theirs); err != nil {
		return nil, err
	}
	c, err := a.d.Open(ctx, r)
	if err != nil {
		return nil, apiError(err)
	}
	return a.pb(c), nil
}

func (a channelsAPI) List(_ context.Context, q *chandv1.ListChannelsRequest) (*chandv1.ListChannelsResponse, error) {
	list, err := a.d.Channels(q.IncludeClosed)
	if err != nil {
		return nil, apiError(err)
	}
	out := &chandv1.ListChannelsResponse{}
	for _, c := range list {
		out.Channels = append(out.Channels, a.pb(c))
	}
	return out, nil
}

func (a channelsAPI) Get(_ context.Context, q *chandv1.GetChannelRequest) (*chandv1.Channel, error) {
	id, err := parseHash("id", q.Id)
	if err != nil {
		return nil, err
	}
	c, err := a.d.Channel(id)
	if err != nil {
		return nil, apiError(err)
	}
	return a.pb(c), nil
}

func (a channelsAPI) Close(ctx context.Context, q *chandv1.CloseChannelRequest) (*chandv1.Channel, error) {
	id, err := parseHash("id", q.Id)
	if err != nil {
		return nil, err
	}
	c, err := a.d.Close(ctx, id, q.Force)
	if err != nil {
		return nil, apiError(err)
	}
	return a.pb(c), nil
}

func (a channelsAPI) pb(c chand.Channel) *chandv1.Channel { return pbChannel(a.d, c) }

func pbChannel(d *chand.Daemon, c chand.Channel) *chandv1.Channel {
	turn := "theirs"
	if c.MyTurn {
		turn = "mine"
	}
	return &chandv1.Channel{
		Id: c.ID.String(), Peer: c.Peer.String(), PeerConnected: c.Connected, State: c.State, StateText: c.Text, Mine: c.Mine.String(), Theirs: c.Theirs.String(),
		Locked: c.Locked.String(), Capacity: c.Capacity.String(), CanSend: c.CanSend.String(), CanReceive: c.CanReceive.String(), Version: c.Version,
		Epoch: c.Epoch, Locks: uint32(c.Locks), DisputeWindow: c.Window, DisputeWindowSeconds: uint32(uint64(c.Window) * uint64(d.Chain.Params().BlockMillis) / 1000),
		WhoActs: c.WhoActs, Deadline: pbDeadline(c.Deadline), Next: c.Next, PostedVersion: c.Posted, Opened: pbTime(c.Opened), Closed: pbTime(c.Closed), Turn: turn,
		FeeBase: c.FeeBase.String(), FeeMillionths: c.FeeMillionths, Private: c.Private, Bound: c.Bound.String(),
	}
}

type escrowsAPI struct{ d *chand.Daemon }

func (a escrowsAPI) Open(ctx context.Context, q *chandv1.OpenEscrowRequest) (*chandv1.Escrow, error) {
	r := chand.EscrowRequest{Memo: q.Memo, Lifetime: q.LifetimeBlocks, Key: q.IdempotencyKey}
	var err error
	if r.To, err = parseNode("peer", q.Peer); err != nil {
		return nil, err
	}
	if r.Amount, err = parseAmount("amount", q.Amount); err != nil {
		return nil, err
	}
	if r.MaxFee, err = parseMaxFee(q.MaxFee); err != nil {
		return nil, err
	}
	e, err := a.d.OpenEscrow(ctx, r)
	return a.answer(e, err)
}

func (a escrowsAPI) Release(ctx context.Context, q *chandv1.EscrowRequest) (*chandv1.Escrow, error) {
	return a.on(q, func(id types.Hash) (chand.Escrow, error) { return a.d.ReleaseEscrow(ctx, id) })
}

func (a escrowsAPI) Refund(ctx context.Context, q *chandv1.EscrowRequest) (*chandv1.Escrow, error) {
	return a.on(q, func(id types.Hash) (chand.Escrow, error) { return a.d.RefundEscrow(ctx, id) })
}

func (a escrowsAPI) Get(_ context.Context, q *chandv1.EscrowRequest) (*chandv1.Escrow, error) {
	return a.on(q, func(id types.Hash) (chand.Escrow, error) { return a.d.Escrow(id, "") })
}

func (a escrowsAPI) on(q *chandv1.EscrowRequest, do func(types.Hash) (chand.Escrow, error)) (*chandv1.Escrow, error) {
	id, err := parseHash("id", q.Id)
	if err != nil {
		return nil, err
	}
	e, err := do(id)
	return a.answer(e, err)
}

func (a escrowsAPI) answer(e chand.Escrow, err error) (*chandv1.Escrow, error) {
	if err != nil {
		return nil, apiError(err)
	}
	return pbEscrow(a.d, e), nil
}

func (a escrowsAPI) List(_ context.Context, q *chandv1.ListEscrowsRequest) (*chandv1.ListEscrowsResponse, error) {
	list, next, err := a.d.Escrows(q.PageToken, page(q.Limit))
	if err != nil {
		return nil, apiError(err)
	}
	out := &chandv1.ListEscrowsResponse{NextPageToken: next}
	for _, e := range list {
		out.Escrows = append(out.Escrows, pbEscrow(a.d, e))
	}
	return out, nil
}

// escrowWords say for each state what it means, who acts, and what can be done.
var escrowWords = map[string]struct{ text, who, next string }{
	chand.EscrowOpening:   {"on its way to the payee", "nobody", ""},
	chand.EscrowHeld:      {"held: the payer releases it, or the payee gives it back", "payer", "payer: chancli escrow release ID; payee: chancli escrow refund ID"},
	chand.EscrowReleasing: {"released by the payer, not yet settled", "nobody", ""},
	chand.EscrowReleased:  {"released: the money is the payee's", "nobody", ""},
	chand.EscrowRefunding: {"being given back", "nobody", ""},
	chand.EscrowRefunded:  {"given back: the money is the payer's", "nobody", ""},
	chand.EscrowFailed:    {"did not reach the payee: the money is the payer's", "nobody", "open another, see the failure"},
}

func pbEscrow(d *chand.Daemon, e chand.Escrow) *chandv1.Escrow {
	w := escrowWords[e.State]
	out := &chandv1.Escrow{Id: e.ID.String(), Role: e.Role, Peer: e.Peer.String(), State: e.State, StateText: w.text, Amount: e.Amount.String(), Fee: e.Fee.String(),
		Memo: e.Memo, WhoActs: w.who, Next: w.next, Opened: pbTime(e.Opened), Closed: pbTime(e.Closed), Failure: pbFailure(e.Failure)}
	if e.Closed == 0 {
		out.Deadline = pbDeadline(d.Deadline(e.Deadline))
	}
	if !e.Preimage.IsZero() {
		out.Preimage = e.Preimage.String()
	}
	return out
}

func pbFailure(f *chand.PaymentFailure) *chandv1.PaymentFailure {
	if f == nil {
		return nil
	}
	return &chandv1.PaymentFailure{Hop: f.Hop.String(), Rule: f.Rule, Text: f.Text, Next: f.Next}
}
