package main

import (
	"context"
	"encoding/hex"

	"github.com/eschaton-network/chand/chain/escd"
	"github.com/eschaton-network/chand/internal/offline"
	"github.com/eschaton-network/chand/ledger"
	chandv1 "github.com/eschaton-network/chand/rpc/gen/chand/v1"
	"github.com/eschaton-network/chand/timestamp"
	"github.com/eschaton-network/chand/types"
)

// proofs gives the daemon the ledger's evidence in the rules' words.
type proofs struct{ node *escd.Node }

func (p proofs) TxProof(ctx context.Context, id types.Hash) (types.Height, ledger.TxProof, []byte, error) {
	v, err := p.node.ProveTx(ctx, id)
	if err != nil {
		return 0, ledger.TxProof{}, nil, err
	}
	return v.Height, v.Transaction.Proof, v.Chain.Encode(), nil
}

type timestampsAPI struct{ s *server }

// uri is where the rest of a pending proof is asked for. Pending attestations may hold few characters; an address is enough,
// since the daemon that sealed a round recognises its own commitments whatever the name.
func (a timestampsAPI) uri() string { return "http://" + a.s.gatewayAddr }

func (a timestampsAPI) Stamp(ctx context.Context, q *chandv1.StampRequest) (*chandv1.StampResponse, error) {
	digest, err := parseHash("digest", q.Digest)
	if err != nil {
		return nil, err
	}
	ots, expected, err := a.s.daemon.Stamp(ctx, digest, a.uri())
	if err != nil {
		return nil, apiError(err)
	}
	return &chandv1.StampResponse{Ots: ots, Expected: pbTime(expected)}, nil
}

func (a timestampsAPI) Upgrade(_ context.Context, q *chandv1.UpgradeRequest) (*chandv1.UpgradeResponse, error) {
	u, err := a.s.daemon.Upgrade(q.Ots)
	if err != nil {
		return nil, apiError(err)
	}
	return &chandv1.UpgradeResponse{Ots: u.OTS, Changed: u.Changed, Complete: u.Complete, Text: u.Text, Bundle: u.Bundle, Expected: pbTime(u.Expected)}, nil
}

func (a timestampsAPI) Verify(_ context.Context, q *chandv1.VerifyRequest) (*chandv1.VerifyResponse, error) {
	digest, err := hex.DecodeString(q.Digest)
	if err != nil {
		return nil, badField("digest", err)
	}
	file, err := timestamp.DecodeDetached(q.Ots)
	if err != nil {
		return nil, badField("ots", err)
	}
	headers, err := offline.FromHome(a.s.cfg.Home)
	if err != nil {
		return nil, err
	}
	r, err := timestamp.Verify(file, digest, headers)
	if err != nil {
		return nil, badField("digest", err)
	}
	out := &chandv1.VerifyResponse{Valid: r.Proven, Text: r.Sentence}
	for _, f := range r.Findings {
		at := &chandv1.Attestation{Valid: f.Status == timestamp.Proven, Text: f.Text, Time: pbTime(f.Header.Time)}
		switch v := f.Attestation.(type) {
		case timestamp.Ledger:
			at.Kind, at.ChainId, at.Block = "chand-ledger", a.s.daemon.Status().Params.ChainID, uint32(v.Height)
		case timestamp.Bitcoin:
			at.Kind, at.Block = "bitcoin", v.Height
		case timestamp.Pending:
			at.Kind, at.Uri = "pending", v.URI
		default:
			at.Kind = "unknown"
		}
		out.Attestations = append(out.Attestations, at)
	}
	return out, nil
}
