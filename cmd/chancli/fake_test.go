package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/rpc"
	chandv1 "github.com/eschaton-network/chand/rpc/gen/chand/v1"
	"github.com/eschaton-network/chand/rpc/gen/chand/v1/chandv1connect"
	"github.com/eschaton-network/chand/timestamp"
	"github.com/eschaton-network/chand/types"
)

// fake keeps the books of a daemon in memory: money that leaves is gone, ids are found again, keys count once.
type fake struct {
	mu         sync.Mutex
	balance    types.Amount
	done       map[string]proto.Message // by idempotency key
	channels   map[string]*chandv1.Channel
	payments   []*chandv1.Payment
	streams    []*chandv1.PaymentStream
	escrows    map[string]*chandv1.Escrow
	statements []*chandv1.Statement
	services   []*chandv1.Service
	peers      []*chandv1.Peer
	digests    map[string]bool // stamped; anchored at the first upgrade
	n          int
	stop       func()
}

var when = timestamppb.New(time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC))

func newFake(stop func()) *fake {
	return &fake{balance: 100 * types.Coin, done: map[string]proto.Message{}, channels: map[string]*chandv1.Channel{}, escrows: map[string]*chandv1.Escrow{},
		digests: map[string]bool{}, stop: stop}
}

func (f *fake) handlers() rpc.Handlers {
	return rpc.Handlers{Status: fakeStatus{f}, Account: fakeAccount{f}, Peers: fakePeers{f}, Channels: fakeChannels{f}, Payments: fakePayments{f}, Streams: fakeStreams{f},
		Escrows: fakeEscrows{f}, Operations: fakeOperations{fake: f}, Statements: fakeStatements{f}, Services: fakeServices{f}, Timestamps: fakeTimestamps{f}, Events: fakeEvents{f}, Admin: fakeAdmin{f}}
}

func (f *fake) id() string {
	f.n++
	return types.SHA256([]byte{byte(f.n)}).String()
}

// spend takes money out of the account.
func (f *fake) spend(text string) error {
	a, err := types.ParseAmount(text)
	if err != nil {
		return rpc.Error("bad_amount", connect.CodeInvalidArgument, err.Error(), "correct it", "")
	}
	left, err := f.balance.Sub(a)
	if err != nil {
		return rpc.Error("insufficient_funds", connect.CodeFailedPrecondition, fmt.Sprintf("%s coins are needed, %s are there", a, f.balance), "fund the account", "nothing was paid")
	}
	f.balance = left
	return nil
}

// once runs a call once for each key.
func once[T proto.Message](f *fake, key string, call func() (T, error)) (T, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if old, ok := f.done[key].(T); ok && key != "" {
		return old, nil
	}
	v, err := call()
	if err == nil {
		f.done[key] = v
	}
	return v, err
}

func notFound(what, id string) error {
	return rpc.Error("not_found", connect.CodeNotFound, "there is no "+what+" "+id, "list them", "")
}

type fakeStatus struct{ *fake }

func (f fakeStatus) Get(context.Context, *chandv1.GetStatusRequest) (*chandv1.GetStatusResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return &chandv1.GetStatusResponse{NodeId: "16Uiu2HAme", Account: "0001-00000000-9B6F", Balance: f.balance.String(), Listen: []string{"/ip4/127.0.0.1/tcp/1"},
		Ledger: &chandv1.LedgerStatus{ChainId: "esc-test", Height: 7, Mode: "validating", Synced: true, HeadTime: when, Join: "127.0.0.1:2"},
		Peers:  uint32(len(f.peers)), ChannelsOpen: uint32(len(f.channels)), Started: when, Warnings: []string{"a \x1b[31mred\x1b[0m warning"}}, nil
}

type fakeAccount struct{ *fake }

func (f fakeAccount) Get(_ context.Context, r *chandv1.GetAccountRequest) (*chandv1.GetAccountResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r.Address != "" && r.Address != "0001-00000000-9B6F" {
		return nil, notFound("account", r.Address)
	}
	return &chandv1.GetAccountResponse{Address: "0001-00000000-9B6F", Balance: f.balance.String(), Msid: 3, Height: 7}, nil
}

func (f fakeAccount) Send(_ context.Context, r *chandv1.SendRequest) (*chandv1.SendResponse, error) {
	return once(f.fake, r.IdempotencyKey, func() (*chandv1.SendResponse, error) {
		if r.To == "lost" { // answers as a broken connection does
			return nil, connect.NewError(connect.CodeUnavailable, errors.New("connection reset"))
		}
		if err := f.spend(r.Amount); err != nil {
			return nil, err
		}
		state := "confirmed"
		if r.To == "slow" {
			state = "unknown"
		}
		return &chandv1.SendResponse{Id: f.id(), To: r.To, Amount: r.Amount, Fee: "0.0001", State: state, Block: 8, Time: when}, nil
	})
}

type fakePeers struct{ *fake }

func (f fakePeers) Self(context.Context, *chandv1.SelfRequest) (*chandv1.SelfResponse, error) {
	return &chandv1.SelfResponse{Id: "16Uiu2HAme", Addresses: []string{"/ip4/127.0.0.1/tcp/1/p2p/16Uiu2HAme"}}, nil
}

func (f fakePeers) Connect(_ context.Context, r *chandv1.ConnectRequest) (*chandv1.Peer, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := strings.LastIndex(r.Address, "/p2p/")
	if i < 0 {
		return nil, rpc.Error("bad_address", connect.CodeInvalidArgument, "the address has no /p2p/ID", "take what `chancli peer id` prints", "")
	}
	p := &chandv1.Peer{Id: r.Address[i+5:], Address: r.Address, Connected: true, CanSend: "0", CanReceive: "0"}
	f.peers = append(f.peers, p)
	return p, nil
}

func (f fakePeers) List(context.Context, *chandv1.ListPeersRequest) (*chandv1.ListPeersResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return &chandv1.ListPeersResponse{Peers: f.peers}, nil
}

type fakeChannels struct{ *fake }

func (f fakeChannels) Open(_ context.Context, r *chandv1.OpenChannelRequest) (*chandv1.Channel, error) {
	return once(f.fake, r.IdempotencyKey, func() (*chandv1.Channel, error) {
		if err := f.spend(r.Mine); err != nil {
			return nil, err
		}
		c := &chandv1.Channel{Id: f.id(), Peer: r.Peer, State: "opening", StateText: "waits for a block", Mine: r.Mine, Theirs: r.Theirs, Capacity: r.Mine, WhoActs: "ledger",
			Deadline: &chandv1.Deadline{Block: 9, Time: when, BlocksLeft: 2}}
		f.channels[c.Id] = c
		return proto.Clone(c).(*chandv1.Channel), nil
	})
}

// Get moves a channel on by a step, as blocks would.
func (f fakeChannels) Get(_ context.Context, r *chandv1.GetChannelRequest) (*chandv1.Channel, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := f.channels[r.Id]
	if c == nil {
		return nil, notFound("channel", r.Id)
	}
	out := proto.Clone(c).(*chandv1.Channel)
	switch {
	case c.State == "opening" && c.Peer == "gone":
		c.State, c.StateText, c.Next = "abandoned", "the peer vanished", "your money is free again"
	case c.State == "opening":
		c.State, c.CanSend = "open", c.Mine
	case c.State == "closing" || c.State == "disputed":
		c.State = "closed"
	}
	return out, nil
}

func (f fakeChannels) List(_ context.Context, r *chandv1.ListChannelsRequest) (*chandv1.ListChannelsResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := &chandv1.ListChannelsResponse{}
	for _, c := range f.channels {
		if c.State != "closed" && c.State != "abandoned" || r.IncludeClosed {
			out.Channels = append(out.Channels, proto.Clone(c).(*chandv1.Channel))
		}
	}
	return out, nil
}

func (f fakeChannels) Close(_ context.Context, r *chandv1.CloseChannelRequest) (*chandv1.Channel, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := f.channels[r.Id]
	if c == nil {
		return nil, notFound("channel", r.Id)
	}
	if c.State = "closing"; r.Force {
		c.State = "disputed"
	}
	return proto.Clone(c).(*chandv1.Channel), nil
}

type fakePayments struct{ *fake }

func (f fakePayments) CreateInvoice(_ context.Context, r *chandv1.CreateInvoiceRequest) (*chandv1.Invoice, error) {
	return once(f.fake, r.IdempotencyKey, func() (*chandv1.Invoice, error) {
		return &chandv1.Invoice{Invoice: "lnfake" + r.Amount, Hash: f.id(), Amount: r.Amount, Memo: r.Memo, State: "open", Expires: when}, nil
	})
}

func (f fakePayments) DecodeInvoice(_ context.Context, r *chandv1.DecodeInvoiceRequest) (*chandv1.Invoice, error) {
	return &chandv1.Invoice{Invoice: r.Invoice, Amount: strings.TrimPrefix(r.Invoice, "lnfake")}, nil
}

func (f fakePayments) Pay(_ context.Context, r *chandv1.PayRequest) (*chandv1.Payment, error) {
	return once(f.fake, r.IdempotencyKey, func() (*chandv1.Payment, error) {
		p := &chandv1.Payment{Hash: f.id(), Direction: "sent", Amount: r.Amount, Peer: r.To, Fee: "0", Created: when, IdempotencyKey: r.IdempotencyKey}
		if r.Invoice != "" {
			p.Amount = strings.TrimPrefix(r.Invoice, "lnfake")
		}
		switch r.To {
		case "unreachable":
			p.State, p.Failure = "failed", &chandv1.PaymentFailure{Hop: "carol", Rule: "no_route", Text: "carol has no channel to it", Next: "open a channel"}
		case "sleeping":
			p.State, p.StateText = "pending", "carol has not answered"
		default:
			if err := f.spend(p.Amount); err != nil {
				return nil, err
			}
			p.State, p.StateText = "succeeded", "the payee has it"
		}
		f.payments = append([]*chandv1.Payment{p}, f.payments...)
		return p, nil
	})
}

func (f fakePayments) GetInvoice(_ context.Context, r *chandv1.InvoiceRequest) (*chandv1.Invoice, error) {
	return &chandv1.Invoice{Hash: r.Hash, Amount: "2", State: "open", Held: "1.5"}, nil
}

func (f fakePayments) CancelInvoice(_ context.Context, r *chandv1.InvoiceRequest) (*chandv1.Invoice, error) {
	return &chandv1.Invoice{Hash: r.Hash, Amount: "2", State: "cancelled", Settled: when}, nil
}

func (f fakePayments) Plan(_ context.Context, r *chandv1.PayRequest) (*chandv1.PaymentPlan, error) {
	if r.To == "unreachable" {
		return nil, rpc.Error("no_route", connect.CodeFailedPrecondition, "carol has no channel to it", "open a channel", "no money moved")
	}
	hops := []*chandv1.PlanHop{{Node: "carol", Channel: "c1", Amount: "1.01", Fee: "0.01", Reserve: "0.001", Deadline: &chandv1.Deadline{Block: 90, Time: when, BlocksLeft: 83}, Odds: 1},
		{Node: r.To, Channel: "c2", Amount: r.Amount, Fee: "0", Reserve: "0", Deadline: &chandv1.Deadline{Block: 50, Time: when}, Odds: 0.5}}
	return &chandv1.PaymentPlan{To: r.To, Amount: r.Amount, Fee: "0.01", Reserve: "0.001", MaxFee: "0.1", Odds: 0.5,
		Parts: []*chandv1.PlanPart{{Amount: r.Amount, Fee: "0.01", Reserve: "0.001", Odds: 0.5, Deadline: hops[0].Deadline, Hops: hops}}}, nil
}

// Cancel answers that a part is still locked.
func (f fakePayments) Cancel(_ context.Context, r *chandv1.GetPaymentRequest) (*chandv1.Payment, error) {
	return &chandv1.Payment{Hash: r.Hash, State: "pending", StateText: "cancelled: nothing more is tried", Amount: "3", Fee: "0", Cancelled: when,
		Deadline: &chandv1.Deadline{Block: 90, Time: when}, Parts: []*chandv1.PaymentPart{{Amount: "2", Fee: "0", Channel: "c1", Route: []string{"carol"},
			Deadline: &chandv1.Deadline{Block: 90, Time: when}}}}, nil
}

func (f fakePayments) Rebalance(_ context.Context, r *chandv1.RebalanceRequest) (*chandv1.Payment, error) {
	return once(f.fake, r.IdempotencyKey, func() (*chandv1.Payment, error) {
		return &chandv1.Payment{Hash: f.id(), State: "succeeded", Amount: r.Amount, Fee: "0.02", Memo: r.Out + " to " + r.In}, nil
	})
}

func (f fakePayments) PlanRebalance(_ context.Context, r *chandv1.RebalanceRequest) (*chandv1.PaymentPlan, error) {
	return &chandv1.PaymentPlan{To: "me", Amount: r.Amount, Fee: "0.02", Odds: 1}, nil
}

func (f fakePayments) Get(_ context.Context, r *chandv1.GetPaymentRequest) (*chandv1.Payment, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range f.payments {
		if p.Hash == r.Hash {
			return p, nil
		}
	}
	return nil, notFound("payment", r.Hash)
}

func (f fakePayments) List(_ context.Context, r *chandv1.ListPaymentsRequest) (*chandv1.ListPaymentsResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := &chandv1.ListPaymentsResponse{Payments: f.payments}
	if r.Limit > 0 && int(r.Limit) < len(f.payments) {
		out.Payments, out.NextPageToken = f.payments[:r.Limit], "more"
	}
	return out, nil
}

type fakeEscrows struct{ *fake }

func (f fakeEscrows) Open(_ context.Context, r *chandv1.OpenEscrowRequest) (*chandv1.Escrow, error) {
	return once(f.fake, r.IdempotencyKey, func() (*chandv1.Escrow, error) {
		if err := f.spend(r.Amount); err != nil {
			return nil, err
		}
		e := &chandv1.Escrow{Id: f.id(), Role: "payer", Peer: r.Peer, State: "held", Amount: r.Amount, Memo: r.Memo, WhoActs: "payer", Deadline: &chandv1.Deadline{Block: 50, Time: when}}
		f.escrows[e.Id] = e
		return proto.Clone(e).(*chandv1.Escrow), nil
	})
}

func (f fakeEscrows) end(id, state string) (*chandv1.Escrow, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	e := f.escrows[id]
	if e == nil {
		return nil, notFound("escrow", id)
	}
	if state != "" {
		if e.State != "held" && e.State != state {
			return nil, rpc.Error("escrow_over", connect.CodeFailedPrecondition, "the escrow was "+e.State, "nothing is left to do", "with whom the state says")
		}
		e.State, e.WhoActs = state, "nobody"
	}
	return proto.Clone(e).(*chandv1.Escrow), nil
}

func (f fakeEscrows) Release(_ context.Context, r *chandv1.EscrowRequest) (*chandv1.Escrow, error) {
	return f.end(r.Id, "released")
}

func (f fakeEscrows) Refund(_ context.Context, r *chandv1.EscrowRequest) (*chandv1.Escrow, error) {
	return f.end(r.Id, "refunded")
}

func (f fakeEscrows) Get(_ context.Context, r *chandv1.EscrowRequest) (*chandv1.Escrow, error) {
	return f.end(r.Id, "")
}

func (f fakeEscrows) List(context.Context, *chandv1.ListEscrowsRequest) (*chandv1.ListEscrowsResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := &chandv1.ListEscrowsResponse{}
	for _, e := range f.escrows {
		out.Escrows = append(out.Escrows, proto.Clone(e).(*chandv1.Escrow))
	}
	return out, nil
}

type fakeStatements struct{ *fake }

func (f fakeStatements) Publish(_ context.Context, r *chandv1.PublishStatementRequest) (*chandv1.Statement, error) {
	return once(f.fake, r.IdempotencyKey, func() (*chandv1.Statement, error) {
		s := &chandv1.Statement{Id: "cid" + f.id()[:8], Issuer: "me", Subjects: r.Subjects, Attributes: r.Attributes, NotBefore: when, ValidUntilBlock: 99, ValidUntil: when}
		f.statements = append(f.statements, s)
		return s, nil
	})
}

// Query knows the expressions true and false, and has each peer's store empty.
func (f fakeStatements) Query(_ context.Context, r *chandv1.QueryStatementsRequest) (*chandv1.QueryStatementsResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := &chandv1.QueryStatementsResponse{AnsweredBy: "me"}
	switch {
	case r.From != "":
		out.AnsweredBy = r.From
	case r.Expression == "true":
		out.Statements = f.statements
	case r.Expression != "false":
		return nil, rpc.Error("bad_expression", connect.CodeInvalidArgument, "the expression does not compile", "see the words of the query language", "")
	}
	return out, nil
}

func (f fakeStatements) Get(context.Context, *chandv1.GetStatementRequest) (*chandv1.Statement, error) {
	return nil, notFound("statement", "")
}

type fakeServices struct{ *fake }

func (f fakeServices) Sell(_ context.Context, r *chandv1.SellRequest) (*chandv1.Service, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	amount, unit, _ := strings.Cut(r.Price, "/")
	s := &chandv1.Service{Name: r.Name, Mine: true, Url: "http://gateway/" + r.Name + "/", Http: r.Http, Price: amount, Unit: unit, Earned: "0"}
	f.services = append(f.services, s)
	return s, nil
}

func (f fakeServices) Remove(_ context.Context, r *chandv1.RemoveServiceRequest) (*chandv1.RemoveServiceResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, s := range f.services {
		if s.Name == r.Name {
			f.services = append(f.services[:i], f.services[i+1:]...)
			return &chandv1.RemoveServiceResponse{}, nil
		}
	}
	return nil, notFound("service", r.Name)
}

func (f fakeServices) List(context.Context, *chandv1.ListServicesRequest) (*chandv1.ListServicesResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return &chandv1.ListServicesResponse{Services: f.services}, nil
}

// Fetch gets the real URL and asks one coin for it, but for addresses with the query "free".
func (f fakeServices) Fetch(ctx context.Context, r *chandv1.FetchRequest, s *connect.ServerStream[chandv1.FetchResponse]) error {
	head := &chandv1.FetchHead{}
	if !strings.HasSuffix(r.Url, "?free") {
		limit, err := types.ParseAmount(r.MaxPrice)
		if r.DryRun {
			head.Status, head.Price = 402, "1"
			_ = s.Send(&chandv1.FetchResponse{Part: &chandv1.FetchResponse_Head{Head: head}})
			return s.Send(&chandv1.FetchResponse{Part: &chandv1.FetchResponse_Tail{Tail: &chandv1.FetchTail{}}})
		}
		if err != nil || limit < types.Coin {
			return rpc.Error("price_too_high", connect.CodeFailedPrecondition, "it asks 1 coins, and the limit is "+r.MaxPrice, "allow it with --max-price 1", "nothing was paid")
		}
		f.mu.Lock()
		err = f.spend("1")
		f.mu.Unlock()
		if err != nil {
			return err
		}
		head.Receipt = &chandv1.FetchReceipt{Paid: "1", Fee: "0", PaymentHash: "aa", RequestsLeft: 2}
	}
	method := r.Method
	if method == "" {
		method = "GET"
	}
	req, err := http.NewRequestWithContext(ctx, method, r.Url, bytes.NewReader(r.Body))
	if err != nil {
		return err
	}
	for _, h := range r.Headers {
		req.Header.Add(h.Name, h.Value)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	head.Status = uint32(res.StatusCode)
	if err := s.Send(&chandv1.FetchResponse{Part: &chandv1.FetchResponse_Head{Head: head}}); err != nil {
		return err
	}
	var size uint64
	for buf := make([]byte, 1000); ; {
		n, err := res.Body.Read(buf)
		size += uint64(n)
		if e := s.Send(&chandv1.FetchResponse{Part: &chandv1.FetchResponse_Data{Data: buf[:n]}}); e != nil {
			return e
		}
		if err == io.EOF {
			return s.Send(&chandv1.FetchResponse{Part: &chandv1.FetchResponse_Tail{Tail: &chandv1.FetchTail{Size: size}}})
		} else if err != nil {
			return connect.NewError(connect.CodeUnavailable, err)
		}
	}
}

type fakeTimestamps struct{ *fake }

func (f fakeTimestamps) Stamp(_ context.Context, r *chandv1.StampRequest) (*chandv1.StampResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	digest, err := hex.DecodeString(r.Digest)
	if err != nil || len(digest) != 32 {
		return nil, rpc.Error("bad_digest", connect.CodeInvalidArgument, "not a digest", "send SHA-256", "")
	}
	f.digests[r.Digest] = false
	ots, err := pendingProof(digest)
	return &chandv1.StampResponse{Ots: ots, Expected: when}, err
}

func pendingProof(digest []byte) ([]byte, error) {
	t := timestamp.New(digest)
	if err := t.Attest(timestamp.Pending{URI: "http://127.0.0.1:1/"}); err != nil {
		return nil, err
	}
	return timestamp.NewDetached(t).Encode()
}

// Upgrade is not ready the first time.
func (f fakeTimestamps) Upgrade(_ context.Context, r *chandv1.UpgradeRequest) (*chandv1.UpgradeResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	d, err := timestamp.DecodeDetached(r.Ots)
	if err != nil {
		return nil, rpc.Error("bad_proof", connect.CodeInvalidArgument, err.Error(), "send the proof", "")
	}
	key := hex.EncodeToString(d.Digest())
	if ready, known := f.digests[key]; !known || !ready {
		f.digests[key] = true
		return &chandv1.UpgradeResponse{Ots: r.Ots, Text: "the batch waits for a block"}, nil
	}
	proof, err := (&ledger.TxProof{}).AppendBinary(nil)
	if err != nil {
		return nil, err
	}
	if err := d.Stamp.Attest(timestamp.Ledger{Height: 12, Proof: string(proof)}); err != nil {
		return nil, err
	}
	ots, err := d.Encode()
	return &chandv1.UpgradeResponse{Ots: ots, Changed: true, Complete: true, Text: "block 12 attests it"}, err
}

func (f fakeTimestamps) Verify(_ context.Context, r *chandv1.VerifyRequest) (*chandv1.VerifyResponse, error) {
	d, err := timestamp.DecodeDetached(r.Ots)
	if err != nil || hex.EncodeToString(d.Digest()) != r.Digest {
		return nil, rpc.Error("other_file", connect.CodeInvalidArgument, "the proof belongs to another file", "take the right one", "")
	}
	v := &chandv1.VerifyResponse{Text: "pending only"}
	d.Stamp.Walk(func(_ []byte, a timestamp.Attestation) {
		if l, ok := a.(timestamp.Ledger); ok {
			v.Valid, v.Text = true, "it existed by block 12"
			v.Attestations = append(v.Attestations, &chandv1.Attestation{Kind: "chand-ledger", Block: uint32(l.Height), Valid: true, Text: "block 12"})
		}
	})
	return v, nil
}

type fakeEvents struct{ *fake }

// Subscribe tells of two events, then fails as a daemon that stops does.
func (f fakeEvents) Subscribe(_ context.Context, _ *chandv1.SubscribeRequest, s *connect.ServerStream[chandv1.Event]) error {
	for i, e := range []*chandv1.Event{{Type: "subscribed"}, {Type: "block", Item: &chandv1.Event_Block{Block: &chandv1.Block{Height: 8}}}} {
		e.Seq = uint32(i)
		if err := s.Send(e); err != nil {
			return err
		}
	}
	return rpc.Error("stopping", connect.CodeUnavailable, "the daemon is stopping", "start it again", "")
}

type fakeAdmin struct{ *fake }

func (f fakeAdmin) Stop(context.Context, *chandv1.StopRequest) (*chandv1.StopResponse, error) {
	f.stop()
	return &chandv1.StopResponse{Pid: 42}, nil
}

func (f fakeAdmin) BakeMacaroon(_ context.Context, r *chandv1.BakeMacaroonRequest) (*chandv1.BakeMacaroonResponse, error) {
	m, caveats, err := rpc.Bake([32]byte{1}, r.Methods, time.Time{})
	if err != nil {
		return nil, rpc.Error("bad_method", connect.CodeInvalidArgument, err.Error(), "name methods of the schema", "")
	}
	return &chandv1.BakeMacaroonResponse{Macaroon: m, Caveats: caveats}, nil
}

var _ chandv1connect.ServicesHandler = fakeServices{}
