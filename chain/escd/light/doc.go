// Package light checks what a ledger node says, with nothing but the ledger's genesis document: no node, no network, no
// clock. A bundle (signed header, commit, validator set) proves a block's header; from the header's DataHash a
// path leads to a transaction (TxPath), from its AppHash to an account (package ledger).
//
// Validators are pinned: a bundle counts only when more than two thirds of the voting power named in the genesis
// document signed it. A ledger whose validator set has changed since needs a genesis document (or a pinned set)
// of the new one; accepting old validators for ever would let those who left rewrite history.
package light
