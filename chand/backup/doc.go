// Package backup makes and reads encrypted copies of a daemon's store, as a stream that follows every commit (to a file) and as a small
// blob of what can't be had otherwise (kept by the peers of its channels), and keeps such blobs for others.
//
// An archive is a header and sealed records, one after the other (Writer, Read):
//
//	"chand backup 1\n" | id (16 bytes) | { length (4 bytes) | AES-256-GCM of a record }
//
// Its key is HKDF-SHA256 of the seed's backup secret with the id as salt; a record's nonce is its number, and the header is authenticated with each, so
// that records can't be changed, dropped, doubled or moved between archives; only the end can be cut off. A record is a kind and writes:
// first those of a snapshot, which a record with the time completes, then, in a stream, those of each group of commits. Writes set
// values, so that a commit which is in the snapshot as well does no harm.
//
// No copy is ever dangerous: an old version of a channel costs its publisher nothing but a fee, and a daemon that starts from a copy signs nothing
// before it has agreed with each peer where they are, in a new epoch (docs/channels.md, "Reconnection and loss of data").
package backup
