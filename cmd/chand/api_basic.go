package main

import (
	"context"
	"os"
	"time"

	"connectrpc.com/connect"
	"github.com/multiformats/go-multiaddr"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/eschaton-network/chand/chand"
	"github.com/eschaton-network/chand/rpc"
	chandv1 "github.com/eschaton-network/chand/rpc/gen/chand/v1"
	"github.com/eschaton-network/chand/types"
)

type statusAPI struct{ s *server }

func (a statusAPI) Get(context.Context, *chandv1.GetStatusRequest) (*chandv1.GetStatusResponse, error) {
	v := a.s.daemon.Status()
	mode := "validating"
	if a.s.ledger.Following() {
		mode = "following"
	}
	return &chandv1.GetStatusResponse{
		NodeId: v.Node.String(), Listen: a.s.peers.Addrs(), Account: accountText(v.Account), Balance: v.Balance.String(),
		Ledger: &chandv1.LedgerStatus{ChainId: v.Params.ChainID, Height: uint32(v.Head.Height), HeadTime: pbTime(v.Head.Time), Mode: mode, Synced: v.Synced,
			Join: a.s.ledger.JoinAddr(), BlockMillis: v.Params.BlockMillis, FeePool: a.s.ledger.Pool().String()},
		Version: versionText(), Home: a.s.cfg.Home, RpcAddress: a.s.rpcAddr, GatewayAddress: a.s.gatewayAddr, Started: timestamppb.New(a.s.started),
		Peers: uint32(v.Peers), ChannelsOpen: uint32(v.Open), ChannelsPending: uint32(v.Pending),
		CanSend: v.CanSend.String(), CanReceive: v.Receive.String(), Locked: v.Locked.String(), Bound: v.Bound.String(), Warnings: v.Warnings,
	}, nil
}

type accountAPI struct{ d *chand.Daemon }

func (a accountAPI) Get(_ context.Context, q *chandv1.GetAccountRequest) (*chandv1.GetAccountResponse, error) {
	var id types.AccountID
	if q.Address != "" {
		var err error
		if id, err = types.ParseAccountID(q.Address); err != nil {
			return nil, badField("address", err)
		}
	}
	v, err := a.d.LedgerAccount(id)
	if err != nil {
		return nil, apiError(err)
	}
	return &chandv1.GetAccountResponse{Address: v.ID.String(), Balance: v.Balance.String(), PublicKey: hex32(v.PublicKey), Msid: v.Msid,
		Hash: v.Hash.String(), Pending: v.Pending.String(), Height: uint32(v.Height)}, nil
}

// sendWait is how long a payment on the ledger is waited for: many blocks. Afterwards the answer is that its outcome is not known yet.
const sendWait = 30 * time.Second

func (a accountAPI) Send(ctx context.Context, q *chandv1.SendRequest) (*chandv1.SendResponse, error) {
	to, err := types.ParseAccountID(q.To)
	if err != nil {
		return nil, badField("to", err)
	}
	amount, err := parseAmount("amount", q.Amount)
	if err != nil {
		return nil, err
	}
	var message types.Hash
	if q.Message != "" {
		if message, err = parseHash("message", q.Message); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, sendWait)
	defer cancel()
	tx, err := a.d.Send(ctx, to, amount, message, q.IdempotencyKey)
	if err != nil {
		return nil, apiError(err)
	}
	return &chandv1.SendResponse{Id: hashText(tx.ID), To: to.String(), Amount: amount.String(), Fee: tx.Fee.String(), State: tx.State,
		Block: uint32(tx.Height), Time: pbTime(tx.Time)}, nil
}

type peersAPI struct{ s *server }

func (a peersAPI) Self(context.Context, *chandv1.SelfRequest) (*chandv1.SelfResponse, error) {
	return &chandv1.SelfResponse{Id: a.s.daemon.ID().String(), Addresses: a.s.peers.Addrs()}, nil
}

// parsePeerAddress finds the node id at the end of a multiaddr.
func parsePeerAddress(name, address string) (types.NodeID, error) {
	m, err := multiaddr.NewMultiaddr(address)
	if err != nil {
		return types.NodeID{}, badField(name, err)
	}
	text, err := m.ValueForProtocol(multiaddr.P_P2P)
	if err != nil {
		return types.NodeID{}, rpc.Error(chand.CodeInvalid, connect.CodeInvalidArgument, name+": "+address+" does not end in /p2p/ID",
			"give an address as the peer's `chancli peer id` prints it", "")
	}
	return parseNode(name, text)
}

func (a peersAPI) Connect(ctx context.Context, q *chandv1.ConnectRequest) (*chandv1.Peer, error) {
	id, err := parsePeerAddress("address", q.Address)
	if err != nil {
		return nil, err
	}
	if err := a.s.daemon.Connect(ctx, id, q.Address); err != nil {
		return nil, apiError(err)
	}
	for _, p := range a.s.daemon.Peers() {
		if p.ID == id {
			return pbPeer(p), nil
		}
	}
	return &chandv1.Peer{Id: id.String(), Address: q.Address, CanSend: "0", CanReceive: "0"}, nil
}

func (a peersAPI) List(context.Context, *chandv1.ListPeersRequest) (*chandv1.ListPeersResponse, error) {
	out := &chandv1.ListPeersResponse{}
	for _, p := range a.s.daemon.Peers() {
		out.Peers = append(out.Peers, pbPeer(p))
	}
	return out, nil
}

func pbPeer(p chand.Peer) *chandv1.Peer {
	return &chandv1.Peer{Id: p.ID.String(), Address: p.Addr, Connected: p.Connected, Inbound: p.Inbound, Channels: uint32(p.Channels),
		CanSend: p.CanSend.String(), CanReceive: p.CanReceive.String()}
}

type adminAPI struct{ s *server }

func (a adminAPI) Stop(context.Context, *chandv1.StopRequest) (*chandv1.StopResponse, error) {
	// The answer must get out first; the server's shutdown waits for calls under way.
	time.AfterFunc(10*time.Millisecond, func() { a.s.stop(errAsked) })
	return &chandv1.StopResponse{Pid: uint32(os.Getpid())}, nil
}

func (a adminAPI) BakeMacaroon(_ context.Context, q *chandv1.BakeMacaroonRequest) (*chandv1.BakeMacaroonResponse, error) {
	var expires time.Time
	out := &chandv1.BakeMacaroonResponse{}
	if q.ValidSeconds != 0 {
		expires = time.Now().Add(seconds(q.ValidSeconds))
		out.Expires = timestamppb.New(expires)
	}
	var err error
	if out.Macaroon, out.Caveats, err = rpc.Bake(a.s.macaroonKey, q.Methods, expires); err != nil {
		return nil, badField("methods", err)
	}
	return out, nil
}
