package esc

import (
	"errors"
	"fmt"

	"github.com/eschaton-network/chand/ledger"
)

// Error is what a command answers instead of its result: the original's number and words, and a sentence on the case at hand.
type Error struct {
	// Code is A19's (255 and below) or one of package ledger's.
	Code uint32
	// Info says what was seen, what was wanted and what to do.
	Info string
}

func (e *Error) Error() string { return fmt.Sprintf("%s (%d): %s", Words(e.Code), e.Code, e.Info) }

// Codes of A19 that the client itself gives; the ledger's are in package ledger.
const (
	CodeNoKey     uint32 = 26 // a secret is needed and none was given
	CodeConnect   uint32 = 28 // the office does not answer
	CodeNoBlock   uint32 = 29 // the block is not known
	CodeHash      uint32 = 37 // the office has another hash chain than the one that was signed
	CodeNoTx      uint32 = 42 // the transaction is not known
	CodeParse     uint32 = 50 // the command can't be read
	CodeVIP       uint32 = 56 // the keys of validators are not known
	CodeExtraData uint32 = 62 // data beside the command, which this office has no use for
	CodeUnknown   uint32 = 255
)

// words are the short texts of the member "error".
var words = map[uint32]string{
	ledger.CodeBadUser: "Bad user", 5: "Bad node", 7: "Account not available", ledger.CodeBalance: "Too low balance", ledger.CodeMsid: "Bad message id",
	12: "Remote account request in the second half of the block", ledger.CodeCreateAccount: "Failed to create the account",
	14: "Failed to submit the transaction", ledger.CodeSignature: "Wrong signature", ledger.CodeDuplicate: "Duplicated target",
	17: "Negative amount", ledger.CodeNotPositive: "Amount must be positive", ledger.CodeTargetAccount: "Bad target account",
	ledger.CodeTargetNode: "Bad target node", ledger.CodeFuture: "Time in the future", CodeNoKey: "Secret not found",
	27: "Changing the key of this node is not permitted", CodeConnect: "Can't connect to the office", CodeNoBlock: "Block not available",
	ledger.CodeType: "Wrong transaction type", ledger.CodeLength: "Wrong length", 35: "Key does not match", CodeHash: "Hash mismatch",
	23: "No broadcasts", 24: "Message list not available", 30: "Signatures not available", 33: "Log not available", CodeNoTx: "Transaction not available", 45: "Bits not permitted", 47: "Account is locked", 48: "Node status not permitted",
	49: "Status of an account of another node", CodeParse: "Parse error", 51: "Broadcast too long", CodeVIP: "VIP keys not available",
	CodeExtraData: "Extra data not accepted", ledger.CodeKeyProof: "Wrong proof of the new key", ledger.CodePending: "Another transaction has this number",
	ledger.CodeBusy: "The office is busy",
}

// Words is the short text for a code.
func Words(code uint32) string {
	if w := words[code]; w != "" {
		return w
	}
	return "Refused"
}

func fail(code uint32, format string, args ...any) *Error {
	return &Error{code, fmt.Sprintf(format, args...)}
}

func parseError(format string, args ...any) *Error { return fail(CodeParse, format, args...) }

// Wrap makes an Error of any: a ledger's refusal keeps its code.
func Wrap(err error) *Error {
	var own *Error
	var refusal *ledger.Refusal
	switch {
	case err == nil:
		return nil
	case errors.As(err, &own):
		return own
	case errors.As(err, &refusal):
		return &Error{refusal.Code, refusal.Text}
	}
	return &Error{CodeUnknown, err.Error()}
}
