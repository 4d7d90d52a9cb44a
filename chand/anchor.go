package chand

import (
	"context"
	"fmt"

	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

// Anchor puts 1 to ledger.MaxAnchors hashes into one ledger transaction of the daemon's account, and returns the transaction's
// bytes as they stand in a block. The same key with the same hashes never makes a second one. An error means that nothing
// will come of the key any more, unless ctx has ended: then the same key asks again.
func (d *Daemon) Anchor(ctx context.Context, key string, hashes []types.Hash) ([]byte, error) {
	if len(key) == 0 || len(key) > maxKey {
		return nil, refuse(CodeInvalid, "give a key of 1 to 128 bytes", "idempotency key of %d bytes", len(key))
	}
	if err := d.needAccount(); err != nil {
		return nil, err
	}
	tx, err := d.account.do(ctx, txRequest{key: "anchor/" + key, kind: "anchor", body: ledger.Anchor{Hashes: hashes}, keep: true})
	switch {
	case err != nil:
		return nil, err
	case tx.State != TxConfirmed:
		return nil, fmt.Errorf("anchor %s: %s: %w", key, tx.Text, context.Cause(ctx))
	}
	return tx.raw, nil
}
