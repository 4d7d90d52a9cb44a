package ledger

import "fmt"

// Codes of refused transactions. Up to 255 they are those of the original's later state (A19), used where the meaning is
// the same; from 256 on they are ours.
const (
	CodeOK            uint32 = 0
	CodeBadUser       uint32 = 2  // the sender's account does not exist
	CodeBadNode       uint32 = 5  // the transaction or message is not of the node that it must be of
	CodeBalance       uint32 = 9  // the balance does not cover amount and fee
	CodeMsid          uint32 = 11 // the number is not the account's next one
	CodeCreateAccount uint32 = 13 // the account cannot be created
	CodeSignature     uint32 = 15 // the signature does not fit key, hash chain and bytes
	CodeDuplicate     uint32 = 16 // the same target twice
	CodeNotPositive   uint32 = 18 // an amount that must be positive is not
	CodeTargetAccount uint32 = 19 // the target account does not exist
	CodeTargetNode    uint32 = 20 // the target node does not exist, or is not the one that it must be
	CodeFuture        uint32 = 21 // the transaction's time lies in the future
	CodeNodeKey       uint32 = 27 // the node's key may not be changed so
	CodeType          uint32 = 31 // unknown transaction type
	CodeLength        uint32 = 32 // too few bytes, too many, or a count out of its limits
	CodeKeyDiffers    uint32 = 35 // the accounts must have the same key
	CodeAccountStatus uint32 = 45 // status bits that the sender may not change
	CodeLocked        uint32 = 47 // an account is, or can't be, locked for retrieval
	CodeNodeStatus    uint32 = 48 // status bits of a node that the sender may not change
	CodeRemoteStatus  uint32 = 49 // the status of an account on another node

	CodeKeyProof        uint32 = 256 // the proof does not show that the new key's secret is known
	CodeContractExists  uint32 = 257 // a contract with this id exists, or existed
	CodeContractTerms   uint32 = 258 // terms that no contract may have
	CodeExpired         uint32 = 259 // the height up to which the offer was valid has passed
	CodeFunderSignature uint32 = 260 // another funder's signature does not fit
	CodeUnknownInput    uint32 = 261 // the contract or output to be spent does not exist
	CodeSettled         uint32 = 262 // the contract has paid out already
	CodeMalformedSpend  uint32 = 263 // the Bitcoin transaction breaks a rule of form
	CodeScript          uint32 = 264 // the script engine does not accept an input
	CodeConservation    uint32 = 265 // outputs do not equal inputs
	CodeVersion         uint32 = 266 // not a higher version than the one posted
	CodeEpoch           uint32 = 267 // the epoch lies in the future
	CodeCloseSignature  uint32 = 268 // no valid close signature
	CodeLockTime        uint32 = 269 // a lock time or relative lock has not passed
	CodePending         uint32 = 270 // the sender has another transaction with this number waiting
	CodeBusy            uint32 = 271 // too much is waiting; try again after the next block
	CodeNoLease         uint32 = 272 // the account has not leased that much to the node
	CodeEvidence        uint32 = 273 // the evidence does not prove what it says, or is of no use any more
	CodeCertificate     uint32 = 274 // there is no such certificate, or there is one already
	CodeNotEnrolled     uint32 = 275 // the key must be enrolled first
	CodePolicy          uint32 = 276 // the policy does not allow this, or may not be changed so
	CodeSmallLease      uint32 = 277 // less stake than a lease has at least
)

// Refusal says why a transaction is refused: a code for programs and a sentence for people.
type Refusal struct {
	Code uint32
	Text string
}

func (r *Refusal) Error() string { return fmt.Sprintf("%s (code %d)", r.Text, r.Code) }

func refuse(code uint32, format string, args ...any) *Refusal {
	return &Refusal{Code: code, Text: fmt.Sprintf(format, args...)}
}
