package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"

	"connectrpc.com/connect"

	"github.com/eschaton-network/chand/chain/escd"
	"github.com/eschaton-network/chand/chain/escd/light"
	"github.com/eschaton-network/chand/chand"
	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/rpc"
	chandv1 "github.com/eschaton-network/chand/rpc/gen/chand/v1"
	"github.com/eschaton-network/chand/types"
)

type ledgerAPI struct{ node *escd.Node }

// ledgerError gives an error of the ledger node its form in the schema.
func ledgerError(err error) error {
	var refusal *ledger.Refusal
	switch {
	case err == nil:
		return nil
	case errors.As(err, &refusal) && refusal.Code == ledger.CodeBusy:
		return rpc.Error(chand.CodeBusy, connect.CodeResourceExhausted, refusal.Text, "submit it again after the next block", "no money moved")
	case errors.As(err, &refusal):
		return rpc.Error(chand.CodeRefused, connect.CodeFailedPrecondition, fmt.Sprintf("%s (code %d)", refusal.Text, refusal.Code), "correct the transaction and sign it again", "no money moved")
	case errors.Is(err, ledger.ErrNotFound):
		return rpc.Error(chand.CodeNotFound, connect.CodeNotFound, err.Error(), "check the name; it may be in a later block, or too old for this node", "")
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return rpc.Error("no_block", connect.CodeUnavailable, err.Error(), "see `chancli status` whether the ledger runs, and ask again", "")
	}
	return err
}

func (a ledgerAPI) GetAccount(_ context.Context, q *chandv1.GetLedgerAccountRequest) (*chandv1.LedgerAccount, error) {
	id, err := types.ParseAccountID(q.Address)
	if err != nil {
		return nil, badField("address", err)
	}
	r, h, err := a.node.Record(id)
	if err != nil {
		return nil, ledgerError(fmt.Errorf("account %s: %w", id, err))
	}
	paired := types.AccountID{Node: r.PairedNode, User: r.PairedID}
	return &chandv1.LedgerAccount{Address: id.String(), Balance: r.Balance.String(), PublicKey: hex32(r.PublicKey), Msid: r.Msid, Hash: r.Hash.String(),
		Status: uint32(r.Status), Paired: accountText(paired), LocalChange: pbTime(types.Time(r.LocalChange)), RemoteChange: pbTime(types.Time(r.RemoteChange)),
		Height: uint32(h)}, nil
}

func (a ledgerAPI) Submit(ctx context.Context, q *chandv1.SubmitTransactionRequest) (*chandv1.SubmitTransactionResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, sendWait)
	defer cancel()
	if err := a.node.Submit(ctx, q.Raw); err != nil {
		return nil, ledgerError(err)
	}
	return &chandv1.SubmitTransactionResponse{Id: types.SHA256(q.Raw).String()}, nil
}

func (a ledgerAPI) GetBlock(_ context.Context, q *chandv1.GetLedgerBlockRequest) (*chandv1.LedgerBlock, error) {
	h := types.Height(q.Height)
	if h == 0 {
		head, _ := a.node.Head()
		h = head.Height
	}
	b, err := a.node.Block(h)
	if err != nil {
		return nil, ledgerError(err)
	}
	return pbLedgerBlock(b, true), nil
}

func (a ledgerAPI) GetProof(ctx context.Context, q *chandv1.GetProofRequest) (*chandv1.GetProofResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, sendWait)
	defer cancel()
	p, err := a.prove(ctx, q)
	if err != nil {
		return nil, ledgerError(err)
	}
	file, err := light.EncodeProof(p)
	return &chandv1.GetProofResponse{Proof: file}, err
}

func (a ledgerAPI) prove(ctx context.Context, q *chandv1.GetProofRequest) (light.Proof, error) {
	switch of := q.Of.(type) {
	case *chandv1.GetProofRequest_Account:
		id, err := types.ParseAccountID(of.Account)
		if err != nil {
			return light.Proof{}, badField("account", err)
		}
		return a.node.ProveAccount(ctx, id)
	case *chandv1.GetProofRequest_Transaction:
		if id, err := types.ParseHash(of.Transaction); err == nil {
			return a.node.ProveTx(ctx, id)
		}
		place, err := ledger.ParsePlace(of.Transaction)
		if err != nil {
			return light.Proof{}, badField("transaction", fmt.Errorf("want an id of 64 hex digits, or a place: %w", err))
		}
		return a.node.ProvePlace(ctx, place)
	case *chandv1.GetProofRequest_Anchor:
		h, err := parseHash("anchor", of.Anchor)
		if err != nil {
			return light.Proof{}, err
		}
		return a.node.ProveAnchor(ctx, h)
	case *chandv1.GetProofRequest_Contract:
		h, err := parseHash("contract", of.Contract)
		if err != nil {
			return light.Proof{}, err
		}
		return a.node.ProveContract(ctx, h)
	}
	return light.Proof{}, badField("of", errors.New("want an account, a transaction, an anchor or a contract"))
}

func (a ledgerAPI) ListNodes(context.Context, *chandv1.ListLedgerNodesRequest) (*chandv1.ListLedgerNodesResponse, error) {
	nodes, validators, h := a.node.Nodes()
	out := &chandv1.ListLedgerNodesResponse{Height: uint32(h)}
	power := make(map[uint16]int64, len(validators))
	for _, v := range validators {
		power[v.Node] = v.Power
	}
	for i, n := range nodes {
		id := uint16(i + 1)
		out.Nodes = append(out.Nodes, &chandv1.LedgerNode{Number: uint32(id), PublicKey: n.PublicKey.String(), Accounts: n.Accounts, Weight: n.Weight.String(),
			Leased: n.Leased.String(), Power: power[id], State: nodeWord(n, power[id]), Msid: n.Msid, MessageTime: pbTime(types.Time(n.Mtim)),
			Active: uint32(n.Active), Office: officeText(n)})
	}
	return out, nil
}

func nodeWord(n ledger.Node, power int64) string {
	switch {
	case n.Status&ledger.NodeDoubleSpend != 0:
		return "closed"
	case power > 0:
		return "validator"
	}
	return "open"
}

func officeText(n ledger.Node) string {
	if n.Port == 0 {
		return ""
	}
	ip := netip.AddrFrom4([4]byte{byte(n.IPv4), byte(n.IPv4 >> 8), byte(n.IPv4 >> 16), byte(n.IPv4 >> 24)}) // in the order of the wire
	return ip.String() + ":" + strconv.Itoa(int(n.Port))
}

func (a ledgerAPI) StreamBlocks(ctx context.Context, q *chandv1.StreamBlocksRequest, out *connect.ServerStream[chandv1.LedgerBlock]) error {
	return a.stream(ctx, q.From, func(b ledger.BlockEvents) error { return out.Send(pbLedgerBlock(b, q.Events)) })
}

func (a ledgerAPI) WatchAccount(ctx context.Context, q *chandv1.WatchAccountRequest, out *connect.ServerStream[chandv1.LedgerEvent]) error {
	id, err := types.ParseAccountID(q.Account)
	if err != nil {
		return badField("account", err)
	}
	who := id.String()
	return a.stream(ctx, q.From, func(b ledger.BlockEvents) error {
		for _, e := range b.Events {
			if v := pbLedgerEvent(b.BlockInfo, e); v.Account == who || v.To == who {
				if err := out.Send(v); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// stream tells of blocks until the client leaves. Each stream reads blocks at its client's pace.
func (a ledgerAPI) stream(ctx context.Context, from uint32, tell func(ledger.BlockEvents) error) error {
	err := a.node.Blocks(ctx, types.Height(from), tell)
	if ctx.Err() != nil {
		return nil
	}
	return ledgerError(err)
}
