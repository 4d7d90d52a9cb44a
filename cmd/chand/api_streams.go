package main

import (
	"context"
	"errors"
	"io"
	"sync"

	"connectrpc.com/connect"

	"github.com/eschaton-network/chand/chand"
	"github.com/eschaton-network/chand/rpc"
	chandv1 "github.com/eschaton-network/chand/rpc/gen/chand/v1"
	"github.com/eschaton-network/chand/rpc/gen/chand/v1/chandv1connect"
)

const (
	// maxOpenPayments is how many payments of one PayMany are under way before no more is read. The daemon bounds those of all calls.
	maxOpenPayments = 1000
	// maxOutcomes is how many answers go into one message: no client waits for more than it can use.
	maxOutcomes = 256
)

type streamsAPI struct {
	d *chand.Daemon
	chandv1connect.UnimplementedPaymentStreamsHandler
}

func (a streamsAPI) PayMany(ctx context.Context, s *connect.BidiStream[chandv1.PayManyRequest, chandv1.PayManyResponse]) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	outcomes := make(chan *chandv1.PaymentOutcome, maxOpenPayments)
	ended := make(chan error, 1)
	go func() { // ends with the stream, at the latest when this call has returned
		ended <- a.payAll(ctx, s.Receive, outcomes)
		close(outcomes)
	}()
	for {
		var first *chandv1.PaymentOutcome
		var more bool
		select {
		case <-ctx.Done():
			return nil // the client left, or the daemon stops
		case first, more = <-outcomes:
		}
		if !more {
			return <-ended
		}
		if err := s.Send(&chandv1.PayManyResponse{Outcomes: gather(first, outcomes)}); err != nil {
			return err
		}
	}
}

// gather takes what has come meanwhile into the same message.
func gather(first *chandv1.PaymentOutcome, from <-chan *chandv1.PaymentOutcome) []*chandv1.PaymentOutcome {
	list := []*chandv1.PaymentOutcome{first}
	for len(list) < maxOutcomes {
		select {
		case o, ok := <-from:
			if !ok {
				return list // the next receive sees it too
			}
			list = append(list, o)
		default:
			return list
		}
	}
	return list
}

// payAll pays what receive gives until that ends, and returns when every payment has its outcome.
func (a streamsAPI) payAll(ctx context.Context, receive func() (*chandv1.PayManyRequest, error), outcomes chan<- *chandv1.PaymentOutcome) error {
	var open sync.WaitGroup
	defer open.Wait()
	slots := make(chan struct{}, maxOpenPayments)
	for {
		m, err := receive()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		for _, p := range m.Payments {
			select {
			case slots <- struct{}{}:
			case <-ctx.Done():
				return nil
			}
			open.Go(func() {
				o := a.payOne(ctx, p)
				<-slots
				select {
				case outcomes <- o:
				case <-ctx.Done(): // nobody reads any more; the payment goes on
				}
			})
		}
	}
}

func (a streamsAPI) payOne(ctx context.Context, p *chandv1.TaggedPayment) *chandv1.PaymentOutcome {
	q := p.GetPay()
	if q == nil {
		q = new(chandv1.PayRequest) // refused for what it lacks
	}
	done, err := paymentsAPI{a.d}.Pay(ctx, q)
	if err != nil {
		return &chandv1.PaymentOutcome{Tag: p.GetTag(), Error: rpc.Detail(err)}
	}
	return &chandv1.PaymentOutcome{Tag: p.GetTag(), Payment: done}
}
