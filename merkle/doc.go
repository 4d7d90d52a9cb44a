// Package merkle holds authenticated data structures over SHA-256.
//
//   - Tree is an updatable list in the shape of RFC 6962: leaf i has a short inclusion proof, changing k leaves costs
//     O(k log n) hashes.
//   - Map is a compact sparse tree over 32-byte keys: short proofs that a key has a value, or that it has none.
//
// Leaves and inner nodes are hashed in different domains (RFC 6962 section 2.1), so that no leaf can pass for an
// inner node. It is ring 0: no I/O, no clock, no goroutine.
package merkle
