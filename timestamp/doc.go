// Package timestamp proves that a digest existed before a block of a ledger, and bounds when a document was made.
//
// Requests are pooled by the caller and sealed once a round (Seal) into a Merkle tree; the round's commitment goes out
// in an anchor transaction; once that is in a block, the path through the transaction and the ledger's state root
// (AnchorPath) completes every proof of the round. Proofs are OpenTimestamps files: DecodeDetached reads any such file,
// Verify judges it, in one pure function that needs no daemon and no network. The formats stand in docs/timestamps.md.
//
// It is ring 1: no I/O, no clock, no goroutine. Time and entropy come in as arguments; a caller that has several cores
// seals several rounds at once.
package timestamp
