// Package ledger is the account ledger's state transition: pure values in, values out. Accounts, their hash chains and
// the bytes of their transactions are those of the original Enterprise Service Chain (docs/ledger.md says which
// era each point follows); contracts, spends and anchors carry the trade channels and time stamps.
//
// Client side: Head, a Body and Sign make a transaction; ContractBody names a contract before anybody signs.
// Node side: NewState, State.Check for what arrives, State.Apply for each block, State.Root as the block's state root.
//
// It is ring 1: no I/O, no clock, no goroutine. Signatures follow one rule everywhere, ZIP-215 (see sig.go).
package ledger
