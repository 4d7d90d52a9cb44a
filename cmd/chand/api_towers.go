package main

import (
	"context"
	"math"

	"github.com/eschaton-network/chand/chand"
	"github.com/eschaton-network/chand/chand/tower"
	chandv1 "github.com/eschaton-network/chand/rpc/gen/chand/v1"
	"github.com/eschaton-network/chand/types"
)

type towersAPI struct{ d *chand.Daemon }

func (a towersAPI) Add(ctx context.Context, q *chandv1.AddTowerRequest) (*chandv1.Tower, error) {
	id, err := parsePeerAddress("address", q.Address)
	if err != nil {
		return nil, err
	}
	var most types.Amount
	if q.MaxPrice != "" {
		if most, err = parseAmount("max_price", q.MaxPrice); err != nil {
			return nil, err
		}
	}
	if _, err := a.d.UseTower(ctx, id, q.Address, most); err != nil {
		return nil, apiError(err)
	}
	for _, t := range a.d.Towers() {
		if t.Node == id {
			return a.pb(t), nil
		}
	}
	return &chandv1.Tower{Id: id.String(), Address: q.Address}, nil // removed meanwhile
}

func (a towersAPI) Remove(ctx context.Context, q *chandv1.RemoveTowerRequest) (*chandv1.RemoveTowerResponse, error) {
	id, err := parseNode("id", q.Id)
	if err != nil {
		return nil, err
	}
	return &chandv1.RemoveTowerResponse{}, apiError(a.d.LeaveTower(ctx, id))
}

func (a towersAPI) List(context.Context, *chandv1.ListTowersRequest) (*chandv1.ListTowersResponse, error) {
	out := &chandv1.ListTowersResponse{}
	for _, t := range a.d.Towers() {
		out.Towers = append(out.Towers, a.pb(t))
	}
	return out, nil
}

func (a towersAPI) Watched(context.Context, *chandv1.WatchedRequest) (*chandv1.WatchedResponse, error) {
	list, serving := a.d.Watched()
	out := &chandv1.WatchedResponse{Serving: serving}
	for _, w := range list {
		out.Contracts = append(out.Contracts, &chandv1.WatchedContract{Contract: w.Contract.String(), Client: w.Client.String(), PaidUntil: a.until(w.Until),
			Epoch: w.Epoch, Version: w.Version, Posted: w.Posted})
	}
	return out, nil
}

func (a towersAPI) pb(t tower.Cover) *chandv1.Tower {
	return &chandv1.Tower{Id: t.Node.String(), Address: t.Addr, Price: t.Price.String(), MaxPrice: t.MaxPrice.String(), Channels: uint32(t.Channels),
		Covered: uint32(t.Covered), Behind: t.Behind, PaidUntil: a.until(t.Until), Seen: pbTime(t.Seen), Problem: t.Problem}
}

// until shows the end of what is paid; what never ends has none.
func (a towersAPI) until(h types.Height) *chandv1.Deadline {
	if h == math.MaxUint32 {
		return nil
	}
	return pbDeadline(a.d.Deadline(h))
}
