package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"connectrpc.com/connect"

	"github.com/eschaton-network/chand/chand"
	"github.com/eschaton-network/chand/rpc"
	chandv1 "github.com/eschaton-network/chand/rpc/gen/chand/v1"
	"github.com/eschaton-network/chand/types"
)

const (
	// maxOpenPayments is how many payments of one PayMany are under way before no more is read. The daemon bounds those of all calls.
	maxOpenPayments = 1000
	// maxOutcomes is how many answers go into one message: no client waits for more than it can use.
	maxOutcomes = 256
)

type streamsAPI struct{ d *chand.Daemon }

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
	// Each payment has a goroutine until it ends, which then takes another one: new ones would first have to grow their stacks.
	var open sync.WaitGroup
	work := make(chan *chandv1.TaggedPayment)
	workers := 0
	defer open.Wait()
	defer close(work)
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
			case work <- p:
				continue
			default:
			}
			if workers < maxOpenPayments {
				workers++
				open.Go(func() { a.payEach(ctx, p, work, outcomes) })
				continue
			}
			select {
			case work <- p:
			case <-ctx.Done():
				return nil
			}
		}
	}
}

// payEach makes one payment after the other.
func (a streamsAPI) payEach(ctx context.Context, p *chandv1.TaggedPayment, work <-chan *chandv1.TaggedPayment, outcomes chan<- *chandv1.PaymentOutcome) {
	for more := true; more; p, more = <-work {
		select {
		case outcomes <- a.payOne(ctx, p):
		case <-ctx.Done(): // nobody reads any more; the payment goes on
		}
	}
}

func (a streamsAPI) payOne(ctx context.Context, p *chandv1.TaggedPayment) *chandv1.PaymentOutcome {
	q := p.GetPay()
	if q == nil {
		q = new(chandv1.PayRequest) // refused for what it lacks
	}
	done, err := paymentsAPI(a).Pay(ctx, q)
	if err != nil {
		return &chandv1.PaymentOutcome{Tag: p.GetTag(), Error: rpc.Detail(err)}
	}
	return &chandv1.PaymentOutcome{Tag: p.GetTag(), Payment: done}
}

func (a streamsAPI) Stream(ctx context.Context, s *connect.BidiStream[chandv1.StreamRequest, chandv1.StreamResponse]) error {
	first, err := s.Receive()
	if errors.Is(err, io.EOF) {
		return badField("to", errors.New("the call ended before its first message"))
	} else if err != nil {
		return err
	}
	to, err := parseNode("to", first.To)
	if err != nil {
		return err
	}
	stream, err := a.d.OpenStream(ctx, chand.StreamRequest{To: to, Key: first.IdempotencyKey, Memo: first.Memo})
	if err != nil {
		return apiError(err)
	}
	defer stream.Close()
	st, changed := stream.Standing()
	answer := pbStanding(st)
	answer.Id = stream.ID().String()
	if err := s.Send(answer); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- takeStream(ctx, stream, first, s.Receive) }() // ends with the call
	over := false
	for told := st.Paid; !over || st.Paid+1 < st.Next; {
		select {
		case <-ctx.Done():
			return nil // the client left, or the daemon stops
		case err := <-ended:
			if err != nil {
				st, _ = stream.Standing()
				return streamError(err, st)
			}
			over = true
		case <-changed:
		}
		if st, changed = stream.Standing(); st.Paid > told {
			told = st.Paid
			if err := s.Send(pbStanding(st)); err != nil {
				return err
			}
		}
		if st.Err != nil {
			return streamError(st.Err, st)
		}
	}
	return nil
}

// streamError says of an error that ends a call how far the stream is.
func streamError(err error, st chand.StreamStanding) error {
	d := rpc.Detail(apiError(err))
	return rpc.Error(d.Code, connect.CodeOf(apiError(err)), d.Message, d.Next,
		fmt.Sprintf("payments up to number %d are paid, %s in all; the next one to send is %d", st.Paid, st.Total, st.Next))
}

// takeStream hands on what comes until the client has sent everything.
func takeStream(ctx context.Context, stream *chand.Stream, m *chandv1.StreamRequest, receive func() (*chandv1.StreamRequest, error)) error {
	for begun := false; ; begun = true {
		if begun && (m.To != "" || m.IdempotencyKey != "" || m.Memo != "") {
			return badField("to", errors.New("only the first message names the stream"))
		}
		amounts := make([]types.Amount, len(m.Amounts))
		for i, text := range m.Amounts {
			var err error
			if amounts[i], err = parseAmount("amounts", text); err != nil {
				return err
			}
		}
		if err := stream.Send(ctx, m.First, amounts); err != nil {
			return err
		}
		var err error
		if m, err = receive(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

func pbStanding(st chand.StreamStanding) *chandv1.StreamResponse {
	return &chandv1.StreamResponse{Paid: st.Paid, Next: st.Next, Total: st.Total.String()}
}

func (a streamsAPI) Watch(ctx context.Context, q *chandv1.WatchStreamsRequest, out *connect.ServerStream[chandv1.PaymentStream]) error {
	var only types.Hash
	if q.Id != "" {
		var err error
		if only, err = parseHash("id", q.Id); err != nil {
			return err
		}
	}
	events, cancel, err := a.d.Subscribe()
	if err != nil {
		return apiError(err)
	}
	defer cancel()
	for {
		select {
		case <-ctx.Done():
			return nil
		case e := <-events:
			p, ok := e.Item.(chand.PaymentStream)
			if !ok || q.Id != "" && p.ID != only {
				continue
			}
			if err := out.Send(pbStream(p)); err != nil {
				return err
			}
		}
	}
}

func (a streamsAPI) List(_ context.Context, q *chandv1.ListStreamsRequest) (*chandv1.ListStreamsResponse, error) {
	if q.Direction != "" && q.Direction != chand.PaymentSent && q.Direction != chand.PaymentReceived {
		return nil, badField("direction", fmt.Errorf("%.20q: want sent, received or nothing", q.Direction))
	}
	list, next, err := a.d.Streams(q.Direction, q.PageToken, page(q.Limit))
	if err != nil {
		return nil, apiError(err)
	}
	out := &chandv1.ListStreamsResponse{NextPageToken: next}
	for _, p := range list {
		out.Streams = append(out.Streams, pbStream(p))
	}
	return out, nil
}

func pbStream(p chand.PaymentStream) *chandv1.PaymentStream {
	return &chandv1.PaymentStream{Id: p.ID.String(), Direction: p.Direction, State: p.State, StateText: p.Text, Peer: p.Peer.String(), Channel: p.Channel.String(),
		Memo: p.Memo, IdempotencyKey: p.Key, Payments: p.Payments, Total: p.Total.String(), Last: p.Last, Created: pbTime(p.Created), Changed: pbTime(p.Changed)}
}
