package gateway

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"

	"connectrpc.com/connect"

	"github.com/eschaton-network/chand/market"
	chandv1 "github.com/eschaton-network/chand/rpc/gen/chand/v1"
	"github.com/eschaton-network/chand/rpc/gen/chand/v1/chandv1connect"
	"github.com/eschaton-network/chand/store/memstore"
	"github.com/eschaton-network/chand/types"
)

// ticks is a gRPC service to sell: a stream that ends with a status.
type ticks struct{}

func (ticks) Subscribe(_ context.Context, _ *chandv1.SubscribeRequest, s *connect.ServerStream[chandv1.Event]) error {
	for i := range uint32(3) {
		if err := s.Send(&chandv1.Event{Seq: i}); err != nil {
			return err
		}
	}
	return connect.NewError(connect.CodeOutOfRange, context.Canceled) // a status in the trailers
}

// A gRPC service is sold like any other: HTTP/2 without TLS from end to end, streams and trailers included.
func TestSellGRPC(t *testing.T) {
	s := openShop(t, memstore.New(), nil)
	_, handler := chandv1connect.NewEventsHandler(ticks{})
	back := httptest.NewUnstartedServer(handler)
	back.Config.Protocols = new(http.Protocols)
	back.Config.Protocols.SetUnencryptedHTTP2(true)
	back.Start()
	defer back.Close()
	if err := s.seller.Set(Service{Name: "ticks", Target: back.URL, Price: market.Price{Amount: types.Coin, Unit: market.Request}}); err != nil {
		t.Fatal(err)
	}
	h2 := &http.Transport{Protocols: new(http.Protocols)}
	h2.Protocols.SetUnencryptedHTTP2(true)
	defer h2.CloseIdleConnections()
	// A client that pays by hand.
	var header http.Header
	client := chandv1connect.NewEventsClient(roundTrip(func(r *http.Request) (*http.Response, error) {
		if header != nil {
			r.Header.Set("Authorization", header.Get("Authorization"))
		}
		res, err := h2.RoundTrip(r)
		if err == nil && res.Header.Get("WWW-Authenticate") != "" {
			c, err := ParseChallenge(res.Header)
			if err != nil {
				t.Error(err)
			}
			p, _, err := s.bank.Pay(r.Context(), c.Invoice, types.MaxAmount, "")
			if err != nil {
				t.Error(err)
			}
			header = http.Header{"Authorization": {"L402 " + c.Token + ":" + p.String()}}
		}
		return res, err
	}), s.url+"/ticks", connect.WithGRPC())
	for _, paid := range []bool{false, true} {
		stream, err := client.Subscribe(t.Context(), &chandv1.SubscribeRequest{})
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for stream.Receive() {
			n++
		}
		want, code := 0, connect.CodeInternal
		if paid {
			want, code = 3, connect.CodeOutOfRange
		}
		if n != want || connect.CodeOf(stream.Err()) != code {
			t.Errorf("paid %t: %d messages, %v", paid, n, stream.Err())
		}
		stream.Close()
	}
	if total := s.seller.cfg.Credits.Total("ticks"); total != (Total{1, types.Coin}) {
		t.Errorf("%+v", total)
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) Do(r *http.Request) (*http.Response, error) { return f(r) }
