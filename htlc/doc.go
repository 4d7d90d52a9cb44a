// Package htlc holds hash locks: the scripts of contract and lock outputs, the transactions that spend them, payment
// requests (invoices), escrow terms, and the onion packets of routed payments.
//
// Scripts are Bitcoin's, byte for byte: P2WSH (BIP 141), 2-of-2 with sorted keys (BIP 67), CHECKLOCKTIMEVERIFY
// (BIP 65). One output form is our own: pay-to-account, witness version 16 with a 6-byte program.
//
// It is ring 1: no I/O, no clock, no randomness of its own.
package htlc
