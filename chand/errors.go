package chand

import (
	"errors"
	"fmt"
)

// Error is what every refused or failed command returns: a stable word for programs, and for people what was seen and wanted,
// what to do next, and what state the money is in.
type Error struct {
	Code  string // "insufficient_funds", "no_route", "unknown_peer", …: the codes below
	Text  string
	Next  string
	Money string // empty when no money was concerned
	Err   error  // what caused it, for errors.Is; may be nil
}

func (e *Error) Error() string { return e.Text }

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// Codes of Error. The rpc schema shows them; they never change their meaning.
const (
	CodeInvalid       = "invalid_argument"
	CodeBusy          = "busy"
	CodeNotFound      = "not_found"
	CodeUnknownPeer   = "unknown_peer"
	CodePeerOffline   = "peer_offline"
	CodeFunds         = "insufficient_funds"
	CodeNoRoute       = "no_route"
	CodeNoAccount     = "no_account"
	CodeExpired       = "expired"
	CodeRefused       = "refused"
	CodePhase         = "wrong_state"
	CodeConflict      = "idempotency_conflict"
	CodeLedger        = "ledger_refused"
	CodeStale         = "ledger_stale"
	CodeStopping      = "stopping"
	CodeInternal      = "internal"
	CodeAlreadyPaid   = "already_paid"
	CodeFeeTooHigh    = "fee_too_high"
	CodePending       = "pending"
	CodePaymentFailed = "payment_failed"
)

// NotFresh is what a daemon tells a peer whose channel it refuses because it has seen no block for some seconds (CodeStale is for its own user).
const NotFresh = "this daemon's view of the ledger is not fresh"

// noMoneyMoved is the usual last word of a refusal.
const noMoneyMoved = "no money moved"

func refuse(code, next, format string, args ...any) *Error {
	e := fmt.Errorf(format, args...)
	return &Error{Code: code, Text: e.Error(), Next: next, Money: noMoneyMoved, Err: errors.Unwrap(e)}
}

// ErrCheck is wrapped by what Check found.
var ErrCheck = errors.New("the store breaks an invariant")
