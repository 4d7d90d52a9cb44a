package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sort"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/eschaton-network/chand/chand"
	"github.com/eschaton-network/chand/gateway"
	"github.com/eschaton-network/chand/market"
	"github.com/eschaton-network/chand/rpc"
	chandv1 "github.com/eschaton-network/chand/rpc/gen/chand/v1"
	"github.com/eschaton-network/chand/statement"
)

type servicesAPI struct{ s *server }

// loadServices puts the saved services behind the paywall again.
func (s *server) loadServices() error {
	for _, v := range s.daemon.Services() {
		if err := s.seller.Set(behind(v)); err != nil {
			return fmt.Errorf("service %s: %w", v.Name, err)
		}
	}
	return nil
}

func behind(v chand.Service) gateway.Service {
	return gateway.Service{Name: v.Name, Target: v.Target, Price: v.Price(), Description: v.Description}
}

func (a servicesAPI) Sell(ctx context.Context, q *chandv1.SellRequest) (*chandv1.Service, error) {
	price, err := market.ParsePrice(q.Price)
	if err != nil {
		return nil, badField("price", err)
	}
	if err := (gateway.Service{Name: q.Name, Target: q.Http, Price: price, Description: q.Description}).Check(); err != nil {
		return nil, badField("service", err)
	}
	v, err := a.s.daemon.Sell(ctx, q.Name, q.Http, price, q.Description, "http://"+a.s.gatewayAddr+"/"+q.Name+"/")
	if err != nil {
		return nil, apiError(err)
	}
	if err := a.s.seller.Set(behind(v)); err != nil {
		return nil, badField("service", err)
	}
	return a.own(v), nil
}

func (a servicesAPI) Remove(ctx context.Context, q *chandv1.RemoveServiceRequest) (*chandv1.RemoveServiceResponse, error) {
	if err := a.s.daemon.RemoveService(ctx, q.Name); err != nil {
		return nil, apiError(err)
	}
	a.s.seller.Remove(q.Name)
	return &chandv1.RemoveServiceResponse{}, nil
}

func (a servicesAPI) List(ctx context.Context, q *chandv1.ListServicesRequest) (*chandv1.ListServicesResponse, error) {
	out := &chandv1.ListServicesResponse{}
	for _, v := range a.s.daemon.Services() {
		out.Services = append(out.Services, a.own(v))
	}
	if !q.IncludeNetwork {
		return out, nil
	}
	offers, err := a.s.daemon.Offers(ctx)
	if err != nil {
		return nil, apiError(err)
	}
	for _, o := range offers {
		if o.Provider == a.s.daemon.ID() {
			continue
		}
		out.Services = append(out.Services, &chandv1.Service{Name: o.Name, Provider: o.Provider.String(), Url: o.URL, Price: o.Price.Amount.String(),
			Unit: string(o.Price.Unit), Description: o.Description, Offer: o.Statement.ID.String(), Since: pbTime(o.Statement.Issued)})
	}
	return out, nil
}

func (a servicesAPI) own(v chand.Service) *chandv1.Service {
	total := a.s.credit.Total(v.Name)
	return &chandv1.Service{Name: v.Name, Provider: a.s.daemon.ID().String(), Mine: true, Url: v.URL, Http: v.Target, Price: v.Amount.String(), Unit: v.Unit,
		Description: v.Description, Offer: statement.ID(v.Offer).String(), RequestsServed: uint32(total.Served), Earned: total.Earned.String(), Since: pbTime(v.Since)}
}

// fetchChunk is how much of a body goes into one message of the stream.
const fetchChunk = 64 << 10

func (a servicesAPI) Fetch(ctx context.Context, q *chandv1.FetchRequest, out *connect.ServerStream[chandv1.FetchResponse]) error {
	r := gateway.FetchRequest{Method: q.Method, URL: q.Url, Header: http.Header{}, Body: q.Body, Key: q.IdempotencyKey, DryRun: q.DryRun}
	for _, h := range q.Headers {
		r.Header.Add(h.Name, h.Value)
	}
	if r.Method == "" {
		r.Method = http.MethodGet
		if len(q.Body) > 0 {
			r.Method = http.MethodPost
		}
	}
	if q.MaxPrice != "" {
		var err error
		if r.MaxPrice, err = parseAmount("max_price", q.MaxPrice); err != nil {
			return err
		}
	}
	f, err := a.s.buyer.Fetch(ctx, r)
	if err != nil {
		return fetchError(err)
	}
	defer f.Response.Body.Close()
	if err := out.Send(&chandv1.FetchResponse{Part: &chandv1.FetchResponse_Head{Head: pbHead(f, q.DryRun)}}); err != nil {
		return err
	}
	size, err := copyChunks(out, f.Response.Body)
	if err != nil {
		return err
	}
	return out.Send(&chandv1.FetchResponse{Part: &chandv1.FetchResponse_Tail{Tail: &chandv1.FetchTail{Size: size}}})
}

// fetchError gives the buyer's errors their form in the schema.
func fetchError(err error) error {
	var own *chand.Error
	var e *gateway.FetchError
	switch {
	case errors.As(err, &e):
		return rpc.Error(e.Code, connect.CodeFailedPrecondition, e.Message, e.Next, e.Money)
	case errors.As(err, &own):
		return apiError(err)
	}
	return err
}

func pbHead(f *gateway.Fetched, dryRun bool) *chandv1.FetchHead {
	head := &chandv1.FetchHead{Status: uint32(f.Response.StatusCode)}
	if dryRun && f.Price != 0 {
		head.Price = f.Price.String()
	}
	names := make([]string, 0, len(f.Response.Header))
	for name := range f.Response.Header {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		for _, v := range f.Response.Header[name] {
			head.Headers = append(head.Headers, &chandv1.Header{Name: name, Value: v})
		}
	}
	if r := f.Receipt; r != nil {
		head.Receipt = &chandv1.FetchReceipt{Paid: r.Paid.String(), Fee: (r.Paid - r.Asked).String(), PaymentHash: r.Hash.String(), Preimage: r.Preimage.String(),
			Invoice: r.Invoice, Time: timestamppb.New(r.Time), RequestsLeft: f.Left}
	}
	return head
}

func copyChunks(out *connect.ServerStream[chandv1.FetchResponse], body io.Reader) (size uint64, err error) {
	buf := make([]byte, fetchChunk)
	for {
		n, err := body.Read(buf)
		if n > 0 {
			size += uint64(n)
			if err := out.Send(&chandv1.FetchResponse{Part: &chandv1.FetchResponse_Data{Data: bytes.Clone(buf[:n])}}); err != nil {
				return size, err
			}
		}
		if errors.Is(err, io.EOF) {
			return size, nil
		} else if err != nil {
			return size, err
		}
	}
}
