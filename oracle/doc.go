// Package oracle holds what an oracle of bets says: an announcement (an event, its outcomes with a SHA-256 hash each,
// the block by which it will answer, and what holds by default), an attestation (the preimage of one outcome's hash),
// and the proof of fraud that two preimages of one announcement make. Announcements and attestations are statements, so
// that they are stored, spread, found and superseded like all others; a fraud proof stands by itself.
//
// It is ring 1: no I/O, no clock, no goroutine.
package oracle
