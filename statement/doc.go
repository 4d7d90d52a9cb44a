// Package statement holds signed statements: anybody says something about subjects (nodes, accounts, keys, content,
// services), in a nested map of attributes, for a range of blocks, and may later replace or revoke it.
//
// A statement is one deterministic CBOR block (RFC 8949 section 4.2.1, which for text keys is dag-cbor's order), at most
// MaxSize bytes, and its id is the block's CID (version 1, dag-cbor, SHA-256). Open is the only way in for foreign
// bytes: it decodes strictly and verifies every signature inside. Set keeps accepted statements and applies the rules of
// validity, supersession and revocation; package statement/query asks them. The format stands in docs/statements.md.
//
// It is ring 1: no I/O, no clock, no goroutine. Keys, heights and times come in as arguments.
package statement
