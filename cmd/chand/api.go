package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/eschaton-network/chand/chand"
	"github.com/eschaton-network/chand/rpc"
	chandv1 "github.com/eschaton-network/chand/rpc/gen/chand/v1"
	"github.com/eschaton-network/chand/types"
)

// The handlers in api_*.go turn requests of the rpc schema into calls of the daemon and its views into answers. They decide nothing.

func (s *server) handlers() rpc.Handlers {
	return rpc.Handlers{
		Status: statusAPI{s}, Account: accountAPI{s.daemon}, Ledger: ledgerAPI{s.ledger}, Peers: peersAPI{s}, Towers: towersAPI{s.daemon}, Backups: backupsAPI{s}, Channels: channelsAPI{s.daemon}, Routes: routesAPI{s.daemon},
		Payments: paymentsAPI{s.daemon}, Streams: streamsAPI{s.daemon},
		Escrows: escrowsAPI{s.daemon}, Operations: operationsAPI{s.daemon}, Statements: statementsAPI{s.daemon}, Services: servicesAPI{s}, Timestamps: timestampsAPI{s},
		Events: eventsAPI{s.daemon}, Admin: adminAPI{s},
	}
}

// classes are the protocol's classes of the daemon's codes; a code that is missing is FailedPrecondition.
var classes = map[string]connect.Code{
	chand.CodeInvalid:  connect.CodeInvalidArgument,
	chand.CodeBusy:     connect.CodeResourceExhausted,
	chand.CodeNotFound: connect.CodeNotFound,
	chand.CodeConflict: connect.CodeAlreadyExists,
	chand.CodeStopping: connect.CodeUnavailable,
	chand.CodeInternal: connect.CodeInternal,
}

// apiError gives an error of the daemon its form in the schema.
func apiError(err error) error {
	if err == nil {
		return nil
	}
	var e *chand.Error
	if errors.As(err, &e) {
		class, ok := classes[e.Code]
		if !ok {
			class = connect.CodeFailedPrecondition
		}
		return rpc.Error(e.Code, class, e.Text, e.Next, e.Money)
	}
	return err
}

// badField refuses a field that can't be read.
func badField(name string, err error) error {
	return rpc.Error(chand.CodeInvalid, connect.CodeInvalidArgument, fmt.Sprintf("%s: %v", name, err), "correct "+name+" and try again", "no money moved")
}

func parseAmount(name, s string) (types.Amount, error) {
	a, err := types.ParseAmount(s)
	if err != nil {
		return 0, badField(name, err)
	}
	return a, nil
}

// parseMaxFee reads an optional limit.
func parseMaxFee(s string) (*types.Amount, error) {
	if s == "" {
		return nil, nil
	}
	a, err := parseAmount("max_fee", s)
	return &a, err
}

func parseHash(name, s string) (types.Hash, error) {
	h, err := types.ParseHash(s)
	if err != nil {
		return h, badField(name, err)
	}
	return h, nil
}

func parseNode(name, s string) (types.NodeID, error) {
	n, err := types.ParseNodeID(s)
	if err != nil {
		return n, badField(name, err)
	}
	return n, nil
}

// page bounds a list's limit: 0 means the default.
func page(limit uint32) int {
	const standard, most = 100, 1000
	switch {
	case limit == 0:
		return standard
	case limit > most:
		return most
	}
	return int(limit)
}

func pbTime(t types.Time) *timestamppb.Timestamp {
	if t == 0 {
		return nil
	}
	return timestamppb.New(t.Std())
}

func pbDeadline(d *chand.Deadline) *chandv1.Deadline {
	if d == nil {
		return nil
	}
	return &chandv1.Deadline{Block: uint32(d.Block), Time: pbTime(d.Time), BlocksLeft: d.Left}
}

// hashText shows a hash, or nothing for none.
func hashText(h types.Hash) string {
	if h.IsZero() {
		return ""
	}
	return h.String()
}

func accountText(a types.AccountID) string {
	if a.IsZero() {
		return ""
	}
	return a.String()
}

func seconds(n uint32) time.Duration { return time.Duration(n) * time.Second }

func hex32(b [32]byte) string { return hex.EncodeToString(b[:]) }
