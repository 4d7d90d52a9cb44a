package main

import (
	"context"
	"errors"
	"io"

	"connectrpc.com/connect"

	"github.com/eschaton-network/chand/rpc"
	chandv1 "github.com/eschaton-network/chand/rpc/gen/chand/v1"
	"github.com/eschaton-network/chand/types"
)

type fakeStreams struct{ *fake }

func (f fakeStreams) PayMany(ctx context.Context, s *connect.BidiStream[chandv1.PayManyRequest, chandv1.PayManyResponse]) error {
	for {
		m, err := s.Receive()
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		var answer chandv1.PayManyResponse
		for _, p := range m.Payments {
			o := &chandv1.PaymentOutcome{Tag: p.Tag}
			if o.Payment, err = fakePayments(f).Pay(ctx, p.Pay); err != nil {
				o.Error = rpc.Detail(err)
			}
			answer.Outcomes = append(answer.Outcomes, o)
		}
		if err := s.Send(&answer); err != nil {
			return err
		}
	}
}

func (f fakeStreams) Stream(_ context.Context, s *connect.BidiStream[chandv1.StreamRequest, chandv1.StreamResponse]) error {
	m, err := s.Receive()
	if err != nil {
		return err
	}
	if m.To != "bob" {
		return notFound("peer", m.To)
	}
	st := &chandv1.PaymentStream{Id: f.id(), Direction: "sent", State: "open", Peer: m.To, Memo: m.Memo, IdempotencyKey: m.IdempotencyKey, Total: "0", Changed: when}
	f.mu.Lock()
	f.streams = append(f.streams, st)
	f.mu.Unlock()
	if err := s.Send(&chandv1.StreamResponse{Id: st.Id, Next: 1, Total: "0"}); err != nil {
		return err
	}
	var total types.Amount
	for {
		m, err := s.Receive()
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		for _, text := range m.Amounts {
			if err := f.spend(text); err != nil {
				return err
			}
			a, _ := types.ParseAmount(text)
			total += a
		}
		st.Payments += uint64(len(m.Amounts))
		st.Total = total.String()
		if err := s.Send(&chandv1.StreamResponse{Paid: st.Payments, Next: st.Payments + 1, Total: st.Total}); err != nil {
			return err
		}
	}
}

func (f fakeStreams) Watch(_ context.Context, q *chandv1.WatchStreamsRequest, s *connect.ServerStream[chandv1.PaymentStream]) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range f.streams {
		if q.Id == "" || q.Id == p.Id {
			if err := s.Send(p); err != nil {
				return err
			}
		}
	}
	return nil
}

func (f fakeStreams) List(_ context.Context, q *chandv1.ListStreamsRequest) (*chandv1.ListStreamsResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := &chandv1.ListStreamsResponse{}
	for _, p := range f.streams {
		if q.Direction == "" || q.Direction == p.Direction {
			out.Streams = append(out.Streams, p)
		}
	}
	return out, nil
}
