package chand

import (
	"context"
	"encoding/hex"
	"errors"

	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

// Send pays amount from the daemon's account to another on the ledger, and returns when that is in a block or refused. When
// ctx ends first the state is TxUnknown; the same key asks again and never pays twice.
func (d *Daemon) Send(ctx context.Context, to types.AccountID, amount types.Amount, message types.Hash, key string) (LedgerTx, error) {
	if amount <= 0 || amount > types.MaxAmount {
		return LedgerTx{}, refuse(CodeInvalid, "give a positive amount", "amount %s", amount)
	}
	if len(key) > maxKey {
		return LedgerTx{}, refuse(CodeInvalid, "use a shorter key", "idempotency key of %d bytes: at most %d", len(key), maxKey)
	}
	if err := d.needAccount(); err != nil {
		return LedgerTx{}, err
	}
	r := txRequest{kind: "send", body: ledger.SendOne{To: to, Amount: amount, Message: message}}
	if key != "" {
		r.key, r.keep = "send/"+key, true
	}
	if _, fresh := d.Chain.Head(); !fresh { // an earlier send of this key may still be asked for
		if known, err := d.account.saved(r.key); err != nil || !known {
			return LedgerTx{}, errors.Join(err, refuse(CodeStale, "try again when `status` says that the ledger is synced",
				"no new block was seen for a while, or this daemon is still catching up"))
		}
	}
	return d.account.do(ctx, r)
}

// saved tells whether a transaction was saved under a key.
func (a *accountant) saved(key string) (bool, error) {
	if key == "" {
		return false, nil
	}
	b, err := a.store.Get(bucketTxIndex, key)
	return b != nil, err
}

// CreateAccount makes an account with another's key, paid by ours (the ledger office does it for daemons that join). proof
// is the signature of the empty message by the key. The same key gives the same account.
func (d *Daemon) CreateAccount(ctx context.Context, public [32]byte, proof [64]byte) (types.AccountID, error) {
	if err := d.needAccount(); err != nil {
		return types.AccountID{}, err
	}
	body := ledger.CreateAccount{Node: d.Account().Node, PublicKey: public, Proof: proof}
	tx, err := d.account.do(ctx, txRequest{key: "create/" + hex.EncodeToString(public[:]), kind: "create account", body: body, keep: true})
	if err == nil && tx.State != TxConfirmed {
		err = refuse(CodeBusy, "ask again in a moment", "the account is not in a block yet")
	}
	return tx.Created, err
}

// Account is the daemon's own ledger account, zero while it has none.
func (d *Daemon) Account() types.AccountID { return d.account.account() }

// AccountKey is the ed25519 key of the daemon's account.
func (d *Daemon) AccountKey() [32]byte { return d.account.public }

func (d *Daemon) needAccount() error {
	if !d.account.exists() {
		return refuse(CodeNoAccount, "wait until the ledger's office has opened it, or ask for one", "this daemon has no ledger account yet")
	}
	return nil
}
