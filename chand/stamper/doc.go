// Package stamper owns the daemon's timestamp rounds. Requests come in, are sealed and saved together (the commit point: one
// write to disk a round, however many ask), answered, and the round's value is anchored on the ledger. Once the anchor is in a block
// its path to the block's signed header is saved, so that the proofs of the round can be completed at any time later, by this
// daemon alone.
//
// One goroutine (Run) seals, saves and decides what is anchored; at most one anchor is under way, and rounds that wait for it
// share the next one. It imports the rules (package timestamp) and nothing of the daemon: what it needs of it stands in Config.
package stamper
