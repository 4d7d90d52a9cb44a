package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"

	"github.com/eschaton-network/chand/chain/escd"
	"github.com/eschaton-network/chand/chand"
	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/rpc"
	"github.com/eschaton-network/chand/types"
)

// wallet lets callers of the ledger's office with a macaroon pay from the daemon's account.
type wallet struct {
	daemon  *atomic.Pointer[chand.Daemon]
	rootKey [32]byte
}

func (w wallet) Allow(h http.Header) error { return rpc.Allow(w.rootKey, "chand.v1.Account/Send", h) }

func (w wallet) Send(ctx context.Context, to types.AccountID, amount types.Amount, message types.Hash) (types.Hash, error) {
	d := w.daemon.Load()
	if d == nil {
		return types.Hash{}, fmt.Errorf("%w: the daemon is still starting", escd.ErrNotSent)
	}
	tx, err := d.Send(ctx, to, amount, message, "")
	switch {
	case err != nil:
		var refused *chand.Error
		if errors.As(err, &refused) {
			return tx.ID, fmt.Errorf("%w: %w; %s", escd.ErrNotSent, err, refused.Next)
		}
		return tx.ID, err
	case tx.State == chand.TxRefused:
		return tx.ID, &ledger.Refusal{Code: tx.Code, Text: tx.Text}
	case tx.State != chand.TxConfirmed:
		return tx.ID, fmt.Errorf("transaction %s is in no block yet; ask for it later, and do not send again before: %w", tx.ID, context.DeadlineExceeded)
	}
	return tx.ID, nil
}
