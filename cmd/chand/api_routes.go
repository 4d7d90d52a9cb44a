package main

import (
	"context"

	"github.com/eschaton-network/chand/chand"
	"github.com/eschaton-network/chand/route"
	chandv1 "github.com/eschaton-network/chand/rpc/gen/chand/v1"
	"github.com/eschaton-network/chand/types"
)

type routesAPI struct{ d *chand.Daemon }

func (a routesAPI) Find(_ context.Context, q *chandv1.FindRoutesRequest) (*chandv1.FindRoutesResponse, error) {
	r := chand.RoutesRequest{MaxParts: int(q.MaxParts)}
	var err error
	if r.To, err = parseNode("payee", q.Payee); err != nil {
		return nil, err
	}
	if r.Amount, err = parseAmount("amount", q.Amount); err != nil {
		return nil, err
	}
	if r.MaxFee, err = parseMaxFee(q.MaxFee); err != nil {
		return nil, err
	}
	flow, list, err := a.d.FindRoutes(r)
	if err != nil {
		return nil, apiError(err)
	}
	out := &chandv1.FindRoutesResponse{Fee: flow.Fee.String(), Reserve: flow.Reserve.String(), Cost: costText(flow.Cost), SuccessMillionths: 1_000_000}
	for i := range list {
		out.Parts = append(out.Parts, pbRoute(&flow.Parts[i], &list[i]))
		out.SuccessMillionths = uint32(uint64(out.SuccessMillionths) * uint64(list[i].SuccessMillionths) / 1_000_000)
	}
	return out, nil
}

// costText shows a cost, which has no bound, as coins.
func costText(c uint64) string { return types.Amount(min(c, uint64(types.MaxAmount))).String() }

func pbRoute(r *route.Route, e *route.Explanation) *chandv1.PaymentRoute {
	out := &chandv1.PaymentRoute{Amount: r.Delivered().String(), Fee: r.Fee.String(), Reserve: r.Reserve.String(), Cost: costText(r.Cost),
		SuccessMillionths: e.SuccessMillionths}
	for _, h := range e.Hops {
		out.Hops = append(out.Hops, &chandv1.RouteHop{Node: h.Node.String(), Channel: h.Channel.String(), Amount: h.Amount.String(), Expiry: uint32(h.Expiry),
			FeeBase: h.Base.String(), FeeProportional: h.Proportional.String(), Reserve: h.Ask.String(), LockBlocks: h.LockBlocks, LockCost: h.LockCost.String(),
			Capacity: h.Capacity.String(), Low: h.Low.String(), High: h.High.String(), Used: h.Used.String(), ChannelMillionths: h.ChannelMillionths,
			NodeMillionths: h.NodeMillionths, RiskCost: h.RiskCost.String(), Total: costText(h.Total)})
	}
	return out
}

func (a routesAPI) Scores(context.Context, *chandv1.ScoresRequest) (*chandv1.ScoresResponse, error) {
	channels, nodes, encoded := a.d.Scores()
	out := &chandv1.ScoresResponse{Encoded: encoded}
	for _, c := range channels {
		out.Channels = append(out.Channels, &chandv1.ChannelScore{Channel: c.Channel.String(), Capacity: c.Capacity.String(), Low: c.Low.String(), High: c.High.String(),
			LowAt: pbTime(c.LowAt), HighAt: pbTime(c.HighAt)})
	}
	for _, n := range nodes {
		out.Nodes = append(out.Nodes, &chandv1.NodeScore{Node: n.Node.String(), Fails: n.Fails, Oks: n.OKs, At: pbTime(n.At)})
	}
	return out, nil
}

func (a routesAPI) ImportScores(_ context.Context, q *chandv1.ImportScoresRequest) (*chandv1.ImportScoresResponse, error) {
	n, err := a.d.ImportScores(q.Encoded)
	return &chandv1.ImportScoresResponse{Taken: uint32(n)}, apiError(err)
}

func (a routesAPI) GetPolicy(_ context.Context, q *chandv1.GetPolicyRequest) (*chandv1.ChannelPolicy, error) {
	id, err := parseHash("channel", q.Channel)
	if err != nil {
		return nil, err
	}
	return a.policy(id)
}

func (a routesAPI) policy(id types.ChannelID) (*chandv1.ChannelPolicy, error) {
	p, own, err := a.d.Terms(id)
	if err != nil {
		return nil, apiError(err)
	}
	out := &chandv1.ChannelPolicy{Channel: id.String(), FeeBase: p.Base.String(), FeeMillionths: p.Millionths, Reserve: p.Reserve, Delta: p.Delta,
		Min: p.Min.String(), Max: p.Max.String(), Disabled: p.Disabled}
	for _, f := range []struct {
		name string
		set  bool
	}{{"fee_base", own.Base != nil}, {"fee_millionths", own.Millionths != nil}, {"reserve", own.Reserve != nil}, {"delta", own.Delta != nil},
		{"min", own.Min != nil}, {"max", own.Max != nil}, {"disabled", own.Disabled != nil}} {
		if f.set {
			out.Own = append(out.Own, f.name)
		}
	}
	return out, nil
}

func (a routesAPI) SetPolicy(ctx context.Context, q *chandv1.SetPolicyRequest) (*chandv1.ChannelPolicy, error) {
	id, err := parseHash("channel", q.Channel)
	if err != nil {
		return nil, err
	}
	t := chand.ChannelTerms{Millionths: q.FeeMillionths, Reserve: q.Reserve, Delta: q.Delta, Disabled: q.Disabled}
	for _, f := range []struct {
		name string
		text *string
		to   **types.Amount
	}{{"fee_base", q.FeeBase, &t.Base}, {"min", q.Min, &t.Min}, {"max", q.Max, &t.Max}} {
		if f.text == nil {
			continue
		}
		v, err := parseAmount(f.name, *f.text)
		if err != nil {
			return nil, err
		}
		*f.to = &v
	}
	if _, err := a.d.SetTerms(ctx, id, t, q.Reset_); err != nil {
		return nil, apiError(err)
	}
	return a.policy(id)
}
